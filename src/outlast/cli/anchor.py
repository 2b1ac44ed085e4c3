"""The newest run that this host has seen, kept outside the vault: what a rollback of the whole store is told by."""

from __future__ import annotations

import json
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
    """Remember a run that was seen. An older one never takes the place of a newer one."""
    before = seen(invocation, source)
    if before is None or anchor.run >= before.run:
        value = {"run": anchor.run, "digest": anchor.digest}
        invocation.state.put(_SPACE, source, json.dumps(value).encode())


def newer(given: Anchor | None, seen_here: Anchor | None) -> Anchor | None:
    """The one that says more: of two, the later run, and of the same run the one that was given."""
    if given is None or seen_here is None:
        return given or seen_here
    return seen_here if seen_here.run > given.run else given


def parse(text: str) -> Anchor:
    """`--expect`: a run's number, and the SHA-256 of its record after a colon where it is known."""
    from outlast.vault.scrub import Anchor

    number, colon, digest = text.removeprefix("run:").partition(":")
    if not number.isdigit() or (colon and len(digest) != 64):
        raise UsageError(
            f"--expect {text!r} is no run",
            hint="Write the number of a run, or NUMBER:SHA256 as `outlast verify` prints.",
        )
    return Anchor(int(number), digest or None)
