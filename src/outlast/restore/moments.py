"""Moments as people name them, and what each comes to: a run, or a position of the log on a run that it stands on.

`latest`, `run:7`, a timestamp, an LSN, `before:4711`. Commit times are not in the order of commits, so a timestamp
means the position just before the first transaction, in log order, that was committed after it; where that leaves
something out because a clock went back, it is said.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from outlast.capture.spool import Spool
from outlast.core.errors import NotFoundError, UsageError
from outlast.core.moment import Lsn, Moment, parse_moment
from outlast.core.table import TableName
from outlast.vault.epochs import Base, Epoch
from outlast.vault.reader import Vault
from outlast.vault.run import RunRecord
from outlast.vault.segment import SegmentHeader, TransactionSummary
from outlast.vault.timeline import Timeline

_XID_BITS = 32


@dataclass(frozen=True, slots=True)
class At:
    """A moment, resolved. `position` is None where it is that of the run itself; `told` says how it came about."""

    run: RunRecord
    position: Lsn | None
    moment: Moment
    told: str
    timeline: Timeline = field(repr=False, compare=False)
    epoch: Epoch | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return str(self.moment)

    @property
    def text(self) -> str:
        """How to name the very same moment again."""
        return f"run:{self.run.run}" if self.position is None else str(self.position)

    def to_json(self) -> dict[str, object]:
        """The members that commands give beside `run` and `moment`."""
        return {"at": self.text, "resolved": self.told}


def resolve(
    vault: Vault,
    source: str,
    text: str = "latest",
    spool_directory: Path | None = None,
    *,
    excluded: frozenset[TableName] = frozenset(),
) -> At:
    """What a moment comes to. Raises NotFoundError before the first backup, UsageError where the text is no moment.

    What must be spooled while states are read goes under `spool_directory`, encrypted and without a name. `excluded`
    are tables that no state is to have.
    """
    directory = spool_directory or Path(tempfile.gettempdir())
    timeline = Timeline(vault, source, lambda: Spool(directory).closing_itself(), excluded)
    return _Resolver(vault, source, timeline).resolve(text.strip())


class _Resolver:
    def __init__(self, vault: Vault, source: str, timeline: Timeline) -> None:
        self._vault = vault
        self._source = source
        self._timeline = timeline
        self._epochs = timeline.epochs

    def resolve(self, text: str) -> At:
        if text.startswith("before:"):
            return self._before(text)
        if text.removeprefix("run:").isdigit() or not self._epochs.all:
            return self._run(self._vault.resolve(self._source, text))
        if text == "latest":
            return self._latest()
        wanted = parse_moment(text)
        return self._at_lsn(wanted) if isinstance(wanted, Lsn) else self._at_time(wanted)

    def _run(self, record: RunRecord, why: str = "") -> At:
        told = f"run {record.run} of {record.moment}" + (f": {why}" if why else "")
        return At(record, None, record.moment, told, self._timeline)

    def _position(self, epoch: Epoch, position: Lsn, time: datetime, told: str) -> At | None:
        """None where no base reaches the position."""
        base = next(self._epochs.bases(epoch, position), None)
        if base is None:
            return None
        moment = Moment(time, position, position, "")
        after = f"{told}; from run {base.record.run} and the log after it"
        return At(base.record, position, moment, after, self._timeline, epoch)

    # latest

    def _latest(self, why: str = "") -> At:
        newest = self._vault.resolve(self._source)
        epoch = self._epochs.newest
        assert epoch is not None
        base = next(self._epochs.bases(epoch, epoch.position), None)
        if base is None:
            return self._run(newest, why)
        ahead = newest.run != base.record.run or base.position >= epoch.position
        if ahead and newest.moment.time > epoch.as_of:
            return self._run(newest, why or f"later than the end of the log, {epoch.position}")
        gap = self._epochs.gap(epoch, base, epoch.position)
        if gap is None:
            told = f"{why + ': ' if why else ''}the end of the log, {epoch.position}"
            found = self._position(epoch, epoch.position, epoch.as_of, told)
            assert found is not None
            return found
        exact = self._newest_exact(epoch, base, gap.since, gap.reason)
        if ahead and newest.scope is None and newest.moment.time > exact.moment.time:
            # A backup has what the log missed, and the log has not come to where that was made.
            return self._run(newest, f"later than {exact.told}")
        return exact

    def _newest_exact(self, epoch: Epoch, base: Base, since: Lsn, reason: str) -> At:
        before = self._timeline.before(epoch, since)
        why = f"the log does not have all changes since {since} ({reason})"
        if before is None or before <= base.position:
            return self._run(base.record, f"the newest exact moment, since {why}")
        found = self._position(epoch, before, self._time_at(epoch, before), f"the newest exact moment, since {why}")
        return found or self._run(base.record, f"the newest exact moment, since {why}")

    # an LSN

    def _at_lsn(self, wanted: Lsn) -> At:
        newest = self._epochs.newest
        assert newest is not None
        epoch = self._epochs.holding(wanted)
        if epoch is None and wanted > newest.position:
            return self._latest(f"nothing is known of {wanted} yet")
        if epoch is not None:
            found = self._position(epoch, wanted, self._time_at(epoch, wanted), f"LSN {wanted}")
            if found is not None:
                return found
        run = self._vault.resolve(self._source, str(wanted))
        return self._run(run, f"the newest that is known at or before LSN {wanted}")

    def _time_at(self, epoch: Epoch, position: Lsn) -> datetime:
        """The commit time of the last transaction up to a position."""
        header = next((header for header in epoch.headers if header.position >= position), epoch.headers[-1])
        if header.position == position and not self._vault.has_identity:
            return header.as_of
        times = [one.time for one in self._epochs.details(header).transactions if one.end <= position]
        before = [one.last_time for one in epoch.headers if one.position <= position and one.last_time is not None]
        found = times[-1:] or before[-1:]
        return found[0] if found else header.as_of

    # a timestamp

    def _at_time(self, wanted: datetime) -> At:
        for epoch in reversed(self._epochs.all):
            found = self._in_epoch(epoch, wanted)
            if found is not None:
                return self._newer_of(found, wanted)
        return self._run(self._vault.resolve(self._source, wanted.isoformat()))

    def _newer_of(self, found: At, wanted: datetime) -> At:
        """A run that is later than the end of its epoch's log, and not after what is wanted."""
        assert found.epoch is not None
        run = self._vault.resolve(self._source, wanted.isoformat())
        ended = found.position == found.epoch.position and run.moment.time > found.epoch.as_of
        if ended and run.run > found.run.run:
            return self._run(run, f"the newest that is known at or before {_shown(wanted)}")
        return found

    def _in_epoch(self, epoch: Epoch, wanted: datetime) -> At | None:
        later = next((one for one in epoch.headers if one.last_time is not None and one.last_time > wanted), None)
        if later is None:
            if epoch.as_of < wanted:
                why = f"the end of the log: nothing is known of {_shown(wanted)} yet"
                return self._position(epoch, epoch.position, epoch.as_of, why)
            found = self._position(epoch, epoch.position, wanted, _shown(wanted))
            if found is not None and found.run.moment.time > wanted:
                # It stands on a run of after that time; what was committed last does not.
                found = self._position(epoch, self._last_commit(epoch), wanted, _shown(wanted))
            # A log in which nothing happened says nothing of the time before the run that it stands on.
            return None if found is None or found.run.moment.time > wanted else found
        transactions = self._epochs.details(later).transactions
        first = next(one for one in transactions if one.time > wanted)
        base = next(self._epochs.bases(epoch, first.commit), None)
        if base is None or base.record.moment.time > wanted:
            return None
        told = f"{_shown(wanted)}, just before transaction {first.xid} of {_shown(first.time)}"
        return self._position(epoch, first.commit, wanted, told + self._jumped(epoch, later, first, wanted))

    def _last_commit(self, epoch: Epoch) -> Lsn:
        """The end of the newest transaction of a log; its beginning where there is none."""
        header = next((one for one in reversed(epoch.headers) if one.last_time is not None), None)
        if header is None:
            return epoch.start
        return self._epochs.details(header).transactions[-1].end

    def _jumped(self, epoch: Epoch, header: SegmentHeader, first: TransactionSummary, wanted: datetime) -> str:
        """What to say where later transactions carry times of before: a clock went back."""
        after = [one for one in self._epochs.details(header).transactions if one.commit > first.commit]
        for one in epoch.headers:
            if one.segment > header.segment and one.first_time is not None and one.first_time <= wanted:
                after += self._epochs.details(one).transactions
        early = [one for one in after if one.time <= wanted and one.last]
        if not early:
            return ""
        return (
            f" (the clock went back: {len(early)} later transactions carry times up to then as well; with the last of "
            f"them: --at {early[-1].end})"
        )

    # before a transaction

    def _before(self, text: str) -> At:
        number = text.removeprefix("before:").strip()
        if not number.isdigit():
            raise UsageError(f"{text!r} is not a moment", hint="Write before: and a transaction's number.")
        found = list(self._transactions(int(number)))
        exact = [(epoch, one) for epoch, one in found if one.xid == int(number)]
        found = exact or found
        if not found:
            raise NotFoundError(
                f"the log has no transaction {number}",
                hint="It may not be committed yet, be older than the log, or be a subtransaction's number. To find one "
                "by what it did: outlast damage --since TIME",
                code="unknown-transaction",
            )
        if len(found) > 1:
            numbers = ", ".join(f"before:{one.xid} ({_shown(one.time)})" for _, one in found)
            raise UsageError(
                f"transaction {number} is ambiguous: numbers of 32 bits come round",
                hint=f"Write the whole number: {numbers}.",
                code="ambiguous-transaction",
            )
        epoch, one = found[0]
        told = f"just before transaction {one.xid} of {_shown(one.time)}"
        at = self._position(epoch, one.commit, one.time, told)
        if at is None:
            raise NotFoundError(
                f"the log before transaction {one.xid} stands on no backup that is left", hint="outlast history TENANT"
            )
        return at

    def _transactions(self, xid: int) -> Iterator[tuple[Epoch, TransactionSummary]]:
        """Transactions of that number, or, for a number of 32 bits, of those bits."""
        mask = (1 << _XID_BITS) - 1
        for epoch in self._epochs.all:
            for header in epoch.headers:
                if not header.xid_max or not _may_have(header, xid):
                    continue
                for one in self._epochs.details(header).transactions:
                    if one.last and (one.xid == xid or (xid <= mask and one.xid & mask == xid)):
                        yield epoch, one


def _may_have(header: SegmentHeader, xid: int) -> bool:
    if header.xid_min <= xid <= header.xid_max:
        return True
    if xid >> _XID_BITS:
        return False
    first, last = header.xid_min >> _XID_BITS, header.xid_max >> _XID_BITS
    return any(header.xid_min <= (epoch << _XID_BITS) + xid <= header.xid_max for epoch in range(first, last + 1))


def _shown(time: datetime) -> str:
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
