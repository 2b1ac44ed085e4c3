"""`outlast fold`: the log becomes a run, so that its segments can go, without a look at the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import anchor
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, size
from outlast.core.errors import ExitCode

if TYPE_CHECKING:
    from outlast.capture.fold import FoldResult


def fold(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="[SOURCE]", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Make a run out of the log that `follow` wrote, without a look at the database.

    Reads and writes the vault only, and of that only the tenants that changed. Any moment stays restorable; what was
    folded lies in each tenant's own packs, and `outlast prune` takes the segments away later. Needs the operator's key.

    Exit codes: 0 folded, or nothing to fold; 1 it failed, earlier runs are whole; 3 another writer is at work.
    """
    from outlast.capture.fold import fold as run_fold
    from outlast.vault.scrub import Anchor

    invocation = Invocation.of(context)
    result = run_fold(invocation.vault, source, invocation.writer_keys, invocation.state)
    if result.run is None or result.moment is None:
        fields: dict[str, object] = {
            "source": source, "run": None, "waiting": result.waiting, "earlier_segments": result.earlier,
        }  # fmt: skip
        return invocation.output.finish(fields, "\n".join([f"Nothing to fold: {result.waiting}.", *_earlier(result)]))
    anchor.keep(invocation, source, Anchor(result.run))
    fields = {
        "source": source,
        "run": result.run,
        "moment": result.moment.to_json(),
        "segments": result.segments,
        "tenants": result.tenants,
        "objects": result.objects,
        "bytes": result.size_bytes,
        "seconds": round(result.seconds, 3),
        "earlier_segments": result.earlier,
    }
    written = f"{count(result.objects, 'object')}, {size(result.size_bytes)} written in {result.seconds:.1f} s"
    lines = [
        f"Run {result.run} stands, folded from {count(result.segments, 'segment')} of the log, at {result.moment}",
        f"{count(result.tenants, 'tenant')}, {written}",
        *_earlier(result),
    ]
    return invocation.output.finish(fields, "\n".join(lines))


def _earlier(result: FoldResult) -> list[str]:
    if not result.earlier:
        return []
    segments = count(result.earlier, "segment")
    told = f"{segments} of earlier logs (before a gap or a failover) are not folded: their moments can be restored"
    return [f"{told} until `outlast prune` gives up the runs before them."]
