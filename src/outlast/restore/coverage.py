"""From when to when any moment can be had: stretches of the log that nothing is missing from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from outlast.core.moment import Lsn
from outlast.restore.moments import resolve
from outlast.vault.epochs import Epoch
from outlast.vault.reader import Vault
from outlast.vault.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Stretch:
    """`first` and `last` say when in words; `since` and `until` are positions. `ended` says why it goes no further."""

    first: str
    last: str
    since: Lsn
    until: Lsn
    ended: str = ""

    def to_json(self) -> dict[str, str]:
        return {"from": str(self.since), "to": str(self.until), "ended": self.ended.strip(" ()")}


def followed(vault: Vault, source: str) -> list[Stretch]:
    """All stretches, oldest first. Needs the vault's identity where the log has gaps."""
    timeline = resolve(vault, source).timeline
    return [stretch for epoch in timeline.epochs.all for stretch in _of(timeline, epoch)]


def _of(timeline: Timeline, epoch: Epoch) -> Iterator[Stretch]:
    bases = sorted(timeline.epochs.bases(epoch, epoch.position), key=lambda base: base.position)
    reached = Lsn(0)
    for base in bases:
        if base.position < reached:
            continue
        gap = timeline.epochs.gap(epoch, base, epoch.position)
        if gap is None:
            yield Stretch(
                str(base.record.moment),
                f"{epoch.as_of:%Y-%m-%d %H:%M:%S} UTC (LSN {epoch.position})",
                base.position,
                epoch.position,
            )
            return
        before = timeline.before(epoch, gap.since)
        reached = gap.since
        if before is not None and before > base.position:
            ended = f" (the log does not have what came then: {gap.reason})"
            yield Stretch(str(base.record.moment), f"LSN {before}", base.position, before, ended)
