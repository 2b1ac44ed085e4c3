"""The newest run and segment that this host has seen, kept outside the vault: a rollback of the store shows by them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from outlast.core.errors import UsageError

if TYPE_CHECKING:
    from outlast.cli.opening import Invocation
    from outlast.vault.scrub import Anchor

_SPACE = "anchor"


def seen(invocation: Invocation, source: str) -> Anchor | None:
    """The newest run of the source that this host has seen."""
    from outlast.vault.scrub import Anchor

    value = invocation.state.get(_SPACE, source)
    return None if value is None else Anchor(**json.loads(value))


def keep(invocation: Invocation, source: str, anchor: Anchor) -> None:
    """Remember a run, and a segment of the log, that were seen. Older ones never take the place of newer ones."""
    known = newer(anchor, seen(invocation, source))
    assert known is not None
    invocation.state.put(_SPACE, source, json.dumps(asdict(known)).encode())


def newer(given: Anchor | None, seen_here: Anchor | None) -> Anchor | None:
    """The one that says more: of two, the later run and the later segment, and of the same the one that was given."""
    if given is None or seen_here is None:
        return given or seen_here
    run = seen_here if seen_here.run > given.run else given
    log = seen_here if seen_here.segment > given.segment else given
    return replace(run, segment=log.segment, segment_digest=log.segment_digest)


def text(anchor: Anchor | None) -> str | None:
    """As `--expect` takes it."""
    if anchor is None:
        return None
    run = str(anchor.run) + (f":{anchor.digest}" if anchor.digest else "")
    log = f",log:{anchor.segment}" + (f":{anchor.segment_digest}" if anchor.segment_digest else "")
    return run + (log if anchor.segment else "")


def parse(text: str) -> Anchor:
    """`--expect`: a run's number, and the SHA-256 of its record after a colon where it is known.

    After a comma the same of the log's newest segment: `12:SHA256,log:345:SHA256`.
    """
    from outlast.vault.scrub import Anchor

    run, _, log = text.removeprefix("run:").partition(",")
    number, digest = _numbered(text, run)
    segment, segment_digest = _numbered(text, log.removeprefix("log:")) if log else (0, None)
    return Anchor(number, digest, segment, segment_digest)


def _numbered(whole: str, part: str) -> tuple[int, str | None]:
    number, colon, digest = part.partition(":")
    if not number.isdigit() or (colon and len(digest) != 64):
        raise UsageError(
            f"--expect {whole!r} is no run",
            hint="Write the number of a run, or NUMBER:SHA256 as `outlast verify` prints.",
        )
    return int(number), digest or None
