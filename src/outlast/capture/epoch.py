"""An epoch: one unbroken log of one slot, and how it begins or is taken up again.

It begins with a new slot, a sweep at the very snapshot that the slot exported, a route map filled from that snapshot,
and an empty segment that says so. From there on nothing is missing and nothing is double. It is taken up where the
route map stands, if the vault, the slot and the map are still of one history; where they are not, another begins.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from outlast.capture.backup import BackupOptions, Place, Watcher, backup, refuse_errors
from outlast.capture.checkpoint import NOTE, Checkpoint
from outlast.capture.flushing import Standing
from outlast.capture.numbering import Numbering
from outlast.capture.route_map import RouteMap
from outlast.capture.routes import Tables, look, seed
from outlast.core.errors import Refused, SourceError
from outlast.core.moment import Lsn
from outlast.sources.postgres.following_facts import Names
from outlast.sources.postgres.session import Target
from outlast.sources.postgres.slot import drop_slot
from outlast.sources.postgres.slot_making import ExportedSlot, create_slot
from outlast.sources.postgres.snapshot import join_snapshot
from outlast.vault.log import LogEnd, LogReader, SegmentDraft, SegmentWriter
from outlast.vault.marks import load_ledger
from outlast.vault.run import load_index
from outlast.vault.segment import SegmentDetails, SegmentHeader

SHAPES, WAYS = "shapes", "ways"
RELEASE_S = 10.0  # the session that read the old slot may just be ending


@dataclass(frozen=True, slots=True)
class Begun:
    """Where following goes on. `in_vault`: the vault's log goes that far, and what is before is not written again.

    `tables` are those of the epoch's first look; None where the epoch was taken up and the caller looks for itself.
    """

    checkpoint: Checkpoint
    end: LogEnd
    in_vault: Lsn
    tables: Tables | None
    run: int | None = None
    interrupted: frozenset[int] = frozenset()  # commits of transactions of which the vault has a part only


def standing(place: Place) -> Standing:
    """What the vault says of keys and marks now."""
    signers = place.signers or place.keys.signers
    ledger = load_ledger(place.store, place.source, signers)
    index = load_index(place.store, place.source, signers, ledger=ledger)
    newest = ledger.marks[-1].number if ledger.marks else None
    return Standing(index.recipients.get, index.erased, None if newest is None else (newest, ledger.head))


def reader_of(place: Place) -> LogReader:
    return LogReader(place.store, place.signers or place.keys.signers)


def why_not(place: Place, names: Names, map_: RouteMap, newest: SegmentHeader | None) -> str | None:
    """Why the log that the vault has cannot be taken up on this host; None where it can."""
    found = Checkpoint.from_json(map_.note(NOTE))
    if newest is None:
        return "there is no log yet" if found is None else "the vault's log is gone"
    if found is None:
        return "this host does not know whose each row is (its route map is new)"
    if found.slot != names.slot or newest.slot != names.slot:
        return f"the log was read from the slot {newest.slot}, and now it is {names.slot}"
    if found.epoch != newest.epoch:
        return f"this host stands in epoch {found.epoch} of the log, and the vault in {newest.epoch}"
    behind = newest.segment < found.segment
    if behind or (newest.segment == found.segment and newest.chained != found.digest):
        return "the vault's log is not the one that this host wrote: it was put back to an earlier state"
    return None


def take_up(place: Place, map_: RouteMap, numbers: Numbering, newest: SegmentHeader) -> Begun:
    """Go on with the newest epoch. Keys that were made for tenants and not noted here are read off the segments."""
    found = Checkpoint.from_json(map_.note(NOTE))
    assert found is not None
    parts: dict[int, bool] = {}
    if newest.segment > found.segment:
        later = reader_of(place).headers(place.source, first=found.segment + 1)
        made = {prefix: frame.recipient for header in later for prefix, frame in header.frames.items()}
        numbers.made_before(made)
        parts = {commit: last for header in later for commit, _, last in header.parts}
    interrupted = frozenset(commit for commit, last in parts.items() if not last)
    return Begun(found, LogEnd(newest.segment, newest.chained), newest.position, None, None, interrupted)


def begin(
    place: Place,
    stream: Target,
    names: Names,
    map_: RouteMap,
    numbers: Numbering,
    newest: SegmentHeader | None,
    reason: str,
    *,
    jobs: int,
    watcher: Watcher,
    check: Callable[[Tables], None],
    told: Callable[[str], None],
    stopped: Callable[[], bool],
) -> Begun:
    """Make a slot, sweep at its snapshot, fill the map, and open the log of the next epoch. The old slot is dropped.

    `told` hears whom the slot has to wait for, `stopped` ends that wait; `check` is called once it is there.
    """
    drop_slot(stream, names.slot, wait_s=RELEASE_S)
    with create_slot(stream, names.slot, told=told, stopped=stopped) as slot:
        try:
            return _base(place, slot, names, map_, numbers, newest, reason, jobs, watcher, check)
        except BaseException:
            # A slot that nobody will read keeps the server's log until its disk is full.
            with suppress(SourceError, Refused):
                drop_slot(stream, names.slot)
            raise


def _base(
    place: Place,
    slot: ExportedSlot,
    names: Names,
    map_: RouteMap,
    numbers: Numbering,
    newest: SegmentHeader | None,
    reason: str,
    jobs: int,
    watcher: Watcher,
    check: Callable[[Tables], None],
) -> Begun:
    with join_snapshot(place.database.target, "follow", slot.snapshot) as session:
        tables = look(session, place.database.settings, names)
        refuse_errors(tables.catalog.notices)
        check(tables)
        at_slot = replace(place, origin=replace(place.database, slot=slot))
        result = backup(at_slot, BackupOptions(jobs=jobs), watcher)
        watcher.stage("whose rows are", None)
        map_.clear()
        numbers.forget()
        seed(session, tables, map_, numbers, place.state.directory)
    checkpoint = Checkpoint(
        1 if newest is None else newest.epoch + 1,
        slot.name,
        slot.identity.system,
        slot.identity.timeline,
        result.run,
        slot.consistent,
        0,
        "",
    )
    end = LogEnd() if newest is None else LogEnd(newest.segment, newest.chained)
    draft = SegmentDraft(
        epoch=checkpoint.epoch,
        slot=slot.name,
        system=slot.identity.system,
        timeline=slot.identity.timeline,
        base_run=result.run,
        start=slot.consistent,
        position=slot.consistent,
        as_of=min(result.moment.time, datetime.now(UTC)),
        frames={},
        details=SegmentDetails(partial=tables.partial, alarms=(f"a new log begins: {reason}",)),
    )
    end = SegmentWriter(place.store, place.keys, place.source).write(draft, end).end
    checkpoint = replace(checkpoint, segment=end.segment, digest=end.digest or "")
    map_.commit(
        {NOTE: checkpoint.to_json(), SHAPES: {"tables": tables.shapes.to_bytes().decode()}, WAYS: tables.ways()}
    )
    return Begun(checkpoint, end, slot.consistent, tables, result.run)
