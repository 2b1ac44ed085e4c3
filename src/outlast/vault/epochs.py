"""Which moments the log covers, and from which runs they can be reached.

An *epoch* is one unbroken log of one slot. A run is a *base* for it if it was swept from the slot's own snapshot, swept
later from the same server and timeline, or folded from the epoch. What a base has of the log differs: a fold has
exactly what ends at or before its position; a sweep has what its pg_snapshot saw, which is not the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from outlast.core.errors import CorruptionError, NotFoundError
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.vault.log import LogReader
from outlast.vault.reader import Vault
from outlast.vault.run import RunRecord
from outlast.vault.segment import Gap, SegmentDetails, SegmentHeader


class Seen:
    """What a pg_snapshot saw: `xmin:xmax:in-progress`."""

    def __init__(self, snapshot: str) -> None:
        xmin, xmax, running = snapshot.split(":")
        self.xmin, self._xmax = int(xmin), int(xmax)
        self.running = frozenset(map(int, running.split(","))) if running else frozenset[int]()

    def __contains__(self, xid: int) -> bool:
        return xid < self.xmin or (xid < self._xmax and xid not in self.running)


@dataclass(frozen=True)
class Base:
    """A run as a base of an epoch."""

    record: RunRecord
    start: Lsn  # of the epoch
    reach: Lsn  # the log must be there from here on

    @cached_property
    def _seen(self) -> Seen | None:
        return Seen(self.record.moment.snapshot) if self.record.moment.snapshot else None

    @property
    def position(self) -> Lsn:
        """From here on it can be carried forward."""
        return self.record.moment.high

    def has(self, xid: int, end: Lsn) -> bool:
        """Whether a transaction is in the base already."""
        if self._seen is None:
            return end <= self.record.moment.high
        return end <= self.start or xid in self._seen

    def has_gap(self, gap: Gap) -> bool:
        """Whether what the log missed there is in the base."""
        if self._seen is None or gap.xid is None:
            return (gap.noticed or gap.since) <= self.record.moment.low
        return gap.xid in self._seen

    def may_lack(self, header: SegmentHeader) -> bool:
        """Whether a segment may hold something that the base does not."""
        if header.position > self.reach or header.parts:
            return True
        return self._seen is not None and header.xid_max >= self._seen.xmin

    def covers(self, prefix: str) -> bool:
        """Whether the run looked at this tenant."""
        return self.record.scope is None or prefix in self.record.scope


@dataclass(frozen=True)
class Epoch:
    """An unbroken stretch of segments."""

    headers: tuple[SegmentHeader, ...]

    @property
    def number(self) -> int:
        return self.headers[0].epoch

    @property
    def base_run(self) -> int | None:
        return next((header.base_run for header in self.headers if header.base_run is not None), None)

    @property
    def start(self) -> Lsn:
        """Where what is left of its log begins."""
        return self.headers[0].start

    @property
    def position(self) -> Lsn:
        return self.headers[-1].position

    @property
    def as_of(self) -> datetime:
        """The source's clock when the log had reached its position."""
        return max(header.as_of for header in self.headers)

    def holds(self, position: Lsn) -> bool:
        return self.start <= position <= self.position

    @cached_property
    def valid_from(self) -> dict[int, int]:
        """By the commit of a transaction that spans segments: the segment from which on its parts count.

        A follower that was killed between two parts sends all of them again, cut in other places perhaps.
        """
        found: dict[int, int] = {}
        for header in self.headers:
            for commit, part, _ in header.parts:
                if part == 0:
                    found[commit] = header.segment
        return found

    def has_beginning(self, first: bool) -> bool:
        """Whether its first segment is there; `first`: it is the oldest epoch of what is left of the log."""
        return not first or self.headers[0].first == 1


class Epochs:
    """All epochs of a source's log, oldest first, and the runs that are their bases.

    `excluded` are tables that nobody asks for: what the log missed of them alone is no gap.
    """

    def __init__(self, vault: Vault, source: str, excluded: frozenset[TableName] = frozenset()) -> None:
        self.vault = vault
        self.source = source
        self.excluded = excluded
        self.reader = LogReader(vault.store, vault.pin.signers)
        self._details: dict[int, SegmentDetails] = {}
        self._bases: dict[tuple[int, int], Base | None] = {}

    @cached_property
    def all(self) -> tuple[Epoch, ...]:
        """Raises CorruptionError where a segment is missing or does not follow the one before it."""
        found: list[list[SegmentHeader]] = []
        for header in self.reader.headers(self.source, self.vault.ledger(self.source)):
            if found and found[-1][-1].epoch == header.epoch:
                if header.start != found[-1][-1].position:
                    raise CorruptionError(
                        f"log segment {header.path} does not begin where the one before it ends", code="chain"
                    )
                found[-1].append(header)
            else:
                found.append([header])
        return tuple(Epoch(tuple(headers)) for headers in found)

    @property
    def newest(self) -> Epoch | None:
        return self.all[-1] if self.all else None

    def holding(self, position: Lsn) -> Epoch | None:
        """The newest epoch whose log reaches a position."""
        return next((epoch for epoch in reversed(self.all) if epoch.holds(position)), None)

    def details(self, header: SegmentHeader) -> SegmentDetails:
        if header.segment not in self._details:
            self._details[header.segment] = self.reader.details(header, self.vault.identity)
        return self._details[header.segment]

    def notable(self, epoch: Epoch, until: Lsn | None = None) -> Iterator[SegmentDetails]:
        """The details that say more than which transactions there were, of segments that begin before a position."""
        for header in epoch.headers:
            if header.notable and (until is None or header.start <= until):
                yield self.details(header)

    def partial(self, epoch: Epoch, until: Lsn) -> frozenset[TableName]:
        """The tables whose updates and deletes the log lacks at a position."""
        found = set[TableName]()
        for details in self.notable(epoch, until):
            found.update(details.partial)
            found.difference_update(table for table, since in details.whole if since <= until)
        return frozenset(found)

    # Bases

    @cached_property
    def _runs(self) -> Sequence[int]:
        return self.vault.numbers(self.source)

    def base(self, epoch: Epoch, run: int) -> Base | None:
        """The run as a base of the epoch, or None where it is none."""
        place = (epoch.number, run)
        if place not in self._bases:
            record = self.vault.run(self.source, run)
            reach = self._reach(epoch, record) if self._is_base(epoch, record) else Lsn(0)
            self._bases[place] = Base(record, epoch.start, reach) if reach >= epoch.start else None
        return self._bases[place]

    def _reach(self, epoch: Epoch, record: RunRecord) -> Lsn:
        if record.folded is not None:
            return record.moment.high
        if record.run == epoch.base_run:  # swept from the slot's own snapshot: all of the epoch's log is needed
            return epoch.start if epoch.has_beginning(epoch is self.all[0]) else Lsn(0)
        return record.moment.low

    def _is_base(self, epoch: Epoch, record: RunRecord) -> bool:
        if record.folded is not None:
            return record.folded.epoch == epoch.number
        if record.run == epoch.base_run:
            return True
        if record.moment.low < epoch.start or not record.moment.snapshot:
            return False
        known = self.vault.details(self.source, record.run).database
        header = epoch.headers[0]
        return (str(known.get("system_identifier")), known.get("timeline")) == (header.system, header.timeline)

    def bases(self, epoch: Epoch, until: Lsn) -> Iterator[Base]:
        """The runs from which a position of the epoch can be reached, the newest first."""
        for run in reversed(self._runs):
            if self.vault.run(self.source, run).moment.high <= until:
                found = self.base(epoch, run)
                if found is not None:
                    yield found

    def base_of(self, epoch: Epoch, prefix: str, until: Lsn) -> Base:
        """The newest base that looked at a tenant. Raises NotFoundError where there is none."""
        for found in self.bases(epoch, until):
            if found.covers(prefix):
                return found
        raise NotFoundError(
            f"the log at {until} stands on no backup that is left: the run that it began with is gone",
            hint="Name the moment of a run: outlast history TENANT",
            code="no-base",
        )

    def gap(self, epoch: Epoch, base: Base, until: Lsn, prefix: str | None = None) -> Gap | None:
        """The first thing between a base and a position that the log missed: for one tenant, or for any."""
        found = [
            gap
            for header in epoch.headers
            if header.notable and min(header.start, header.recalls or header.start) <= until
            for gap in self.details(header).gaps
            if gap.since <= until
            and not base.has_gap(gap)
            and gap.table not in self.excluded
            and (prefix is None or gap.prefixes is None or prefix in gap.prefixes)
        ]
        return min(found, key=lambda gap: gap.since, default=None)
