"""`outlast backup`: a sweep of the source into the vault."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import anchor, tooling
from outlast.cli.check import notice_fields, notice_text
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, size
from outlast.core.errors import ExitCode

if TYPE_CHECKING:
    from outlast.capture.backup import BackupResult
    from outlast.cli.output import Output, Progress


def backup(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
    tenant: Annotated[
        list[str] | None,
        typer.Option("--tenant", metavar="T", help="Only this tenant, by key or label. May be repeated."),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Read every row again, whatever seems unchanged.")] = False,
    jobs: Annotated[int | None, typer.Option(min=1, max=64, metavar="N", help="Connections to read over.")] = None,
) -> ExitCode:
    """Take every tenant's rows into the vault.

    One consistent snapshot of the whole source, read-only, with no lock that stops a writer. What did not change since
    the last backup is neither read nor stored again. A tool is asked for its changes, within its rate limits, and its
    documents go into the local copy that `outlast search` reads. Interrupted at any point it leaves the vault as it
    was, and the next run finishes the work.

    Exit codes: 0 the run stands in the vault; 1 it failed, earlier runs are whole; 3 refused: a table is not
    classified, or another backup is running.
    """
    from outlast.capture.backup import BackupOptions, Place
    from outlast.capture.backup import backup as run_backup
    from outlast.vault.scrub import Anchor

    invocation = Invocation.of(context)
    # Opened first, though a backup reads nothing of it: another vault at that place, or one of a newer format, is told
    # before anything is written into it.
    store = invocation.sealed_vault.store
    tool = invocation.config.tool(source)
    place = Place(
        source,
        tooling.tool_source(invocation, source, full=full) if tool else invocation.origin(source),
        store,
        invocation.writer_keys,
        invocation.state,
        invocation.pin.signers,
    )
    options = BackupOptions(
        jobs=jobs or (1 if tool else invocation.config.source(source).jobs),
        full=full,
        tenants=tuple(tenant) if tenant else None,
    )
    with Watching(invocation.output) as watcher:
        result = run_backup(place, options, watcher)
        if tool:
            tooling.refresh_after(invocation, source, watcher)
    anchor.keep(invocation, source, Anchor(result.run))
    for notice in result.notices:
        if notice.level == "warning":
            invocation.output.note(notice_text(notice, invocation.output.note_width))
    return invocation.output.finish(_fields(source, result), _text(result))


class Watching:
    """Shows each stage of a backup as a bar."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._stack = ExitStack()
        self._bar: Progress | None = None

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def stage(self, name: str, total: int | None) -> None:
        self._stack.close()
        self._bar = self._stack.enter_context(self._output.progress(name, total))

    def advance(self, amount: int) -> None:
        if self._bar is not None:
            self._bar.advance(amount)


def _fields(source: str, result: BackupResult) -> dict[str, object]:
    return {
        "source": source,
        "run": result.run,
        "moment": result.moment.to_json(),
        "tenants": result.tenants,
        "tenants_written": result.written,
        "rows": result.rows,
        "rows_read": result.rows_read,
        "orphan_rows": result.orphan_rows,
        "objects": result.objects,
        "bytes": result.size_bytes,
        "seconds": round(result.seconds, 3),
        "notices": [notice_fields(notice) for notice in result.notices],
    }


def _text(result: BackupResult) -> str:
    holds = f"{count(result.tenants, 'tenant')}, {count(result.rows, 'row')}"
    written = f"{count(result.objects, 'object')}, {size(result.size_bytes)} written in {result.seconds:.1f} s"
    lines = [
        f"Run {result.run} stands: {holds}, at {result.moment}",
        written,
    ]
    if result.orphan_rows:
        lines.append(
            f"{count(result.orphan_rows, 'row')} without a tenant (their path is broken) are kept under @orphan"
        )
    return "\n".join(lines)
