"""Which segments of the log may be deleted. Pure but for reads.

Segments that were folded may go when the merged one stands in for them: their entries lie in the tenants' own packs. A
merged one, and a segment that nobody folded, may go when no run is kept that its entries could carry forward. The
newest segment always stays: the next one names it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from outlast.core.moment import Moment
from outlast.vault.epochs import Seen
from outlast.vault.keys import key_path
from outlast.vault.log import LogReader, SegmentObject
from outlast.vault.reader import Vault
from outlast.vault.segment import SegmentHeader, segment_path
from outlast.vault.store import StoredObject


@dataclass(frozen=True, slots=True)
class KeptRun:
    """A run that is kept, and the moment from which the log carries it forward."""

    number: int
    moment: Moment


@dataclass(frozen=True, slots=True)
class LogSweep:
    """Paths to delete, the oldest first, with their sizes in bytes.

    `followed`: there is a log. `told`: paths that the mark names besides, so that what is missing afterwards is known
    to have been swept. `keys`: the tenants' keys that frames are sealed to; a tenant that came after the newest run has
    its key in no run.
    """

    paths: dict[str, int]
    told: tuple[str, ...] = ()
    keys: frozenset[str] = frozenset()
    followed: bool = False


def find_log_sweep(
    vault: Vault, source: str, kept: Collection[KeptRun], *, now: datetime, grace: timedelta
) -> LogSweep:
    """What of a source's log is due at `now`."""
    listed = {item.path: item for item in vault.store.list(f"{source}/log/")}
    reader = LogReader(vault.store, vault.pin.signers)
    found: dict[str, int] = {}
    told: list[str] = []
    standing = reader.objects(source)
    for item in _unneeded(reader, source, standing, kept):
        path = segment_path(source, item.segment, item.first)
        found[path] = item.size_bytes
        if item.first is None:
            told.append(segment_path(source, item.segment, item.segment))
    replaced = {segment_path(source, item.segment, item.first): item.size_bytes for item in reader.every_object(source)}
    for item in standing:
        replaced.pop(segment_path(source, item.segment, item.first))
    merged = [item for item in standing if item.first is not None]
    settled = {path for path in replaced if _is_settled(path, merged, source, listed, now - grace)}
    found |= {path: replaced[path] for path in settled}
    keys = {
        key_path(source, frame.prefix, frame.recipient)
        for item in standing
        if segment_path(source, item.segment, item.first) not in found
        for frame in reader.header(source, item).frames.values()
    }
    return LogSweep(dict(sorted(found.items())), tuple(told), frozenset(keys), followed=bool(standing))


def _unneeded(
    reader: LogReader, source: str, standing: list[SegmentObject], kept: Collection[KeptRun]
) -> list[SegmentObject]:
    """From the oldest up, those that no kept run is before. The newest is not among them."""
    found = []
    for item in standing[:-1]:
        header = reader.header(source, item)
        if any(_may_need(run, header) for run in kept):
            break
        found.append(item)
    return found


def _may_need(run: KeptRun, header: SegmentHeader) -> bool:
    """Whether a run may stand on what a segment holds, or be carried forward by it.

    By position and by time, since positions of another server or timeline cannot be compared: both must be past. And
    what ran at the run's snapshot is not in the run, wherever it lies: a commit that waits for a standby.
    """
    running = Seen(run.moment.snapshot).running if run.moment.snapshot else ()
    if any(header.xid_min <= xid <= header.xid_max for xid in running):
        return True
    return run.moment.low < header.position or run.moment.time <= header.as_of or run.number == header.folded


def _is_settled(
    path: str, merged: list[SegmentObject], source: str, listed: dict[str, StoredObject], settled: datetime
) -> bool:
    """Whether the merged segment that stands in for one is old enough: who began to read before it is done."""
    number = int(path.rpartition("/")[2].rpartition("-")[2])
    for item in merged:
        if item.begin <= number <= item.segment:
            return listed[segment_path(source, item.segment, item.first)].modified < settled
    return False
