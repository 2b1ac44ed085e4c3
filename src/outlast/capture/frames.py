"""Frames in the making: what the next segment will hold, tenant by tenant, while transactions are routed into it.

Knows how much it holds, so that whoever feeds it can write a segment in time, also in the middle of a transaction. When
a segment is written, and what counts after a crash, is flushing.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from outlast.capture.numbering import Numbering
from outlast.core.change import OP_DELETE, OP_INSERT, OP_TRUNCATE, OP_UPDATE
from outlast.core.effect import Operation
from outlast.core.entries import Edges, EntryWriter, LoggedTable
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.sources.postgres.transactions import Transaction, time_of
from outlast.vault.segment import Effects, Gap, SchemaChange, TransactionSummary

_SOFT, _MOVED = -1, -2
_ENTRY_BYTES = 13
_SUMMARY_BYTES = 160

_WORDS = {
    OP_INSERT: Operation.INSERT,
    OP_UPDATE: Operation.UPDATE,
    OP_DELETE: Operation.HARD_DELETE,
    OP_TRUNCATE: Operation.TRUNCATE,
    _SOFT: Operation.SOFT_DELETE,
    _MOVED: Operation.MOVE,
}


class Did(NamedTuple):
    """Rows of one tenant and table under one operation, in one transaction."""

    tenant: int
    table: str
    operation: Operation
    rows: int


@dataclass(slots=True)
class Contents:
    """What one segment will say."""

    writers: dict[int, EntryWriter] = field(default_factory=dict)
    transactions: list[TransactionSummary] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    schema: list[SchemaChange] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    partial: list[TableName] = field(default_factory=list)
    changes: int = 0

    @property
    def empty(self) -> bool:
        return not (self.writers or self.transactions or self.gaps or self.schema or self.alarms)


class Frames:
    """A routing.Sink. Between `begin` and `end` it takes the changes of one transaction; a silent one leaves no trace:
    the vault has it already, and only the route map has to learn it again."""

    def __init__(self, numbers: Numbering, edges: Edges) -> None:
        self.edges = edges
        self.contents = Contents()
        self.size_bytes = 0
        self.doubtful: dict[TableName | None, Lsn] = {}
        """Tables of which something is not known, each from when on; whoever reads them again takes them out."""
        self.interrupted: frozenset[int] = frozenset()
        """Commits of transactions that a part of is in the vault already, from before a crash."""
        self._numbers = numbers
        self._transaction: Transaction | None = None
        self._silent = False
        self._part = self._moves = 0
        self._commit = self._end = self._xid = self._time_us = 0
        self._counts: dict[tuple[int, int, int], int] = {}
        self._tables: dict[int, tuple[LoggedTable, str]] = {}  # kept, so that an id stays its table's

    def begin(self, transaction: Transaction, *, silent: bool = False) -> None:
        self._transaction, self._silent = transaction, silent
        self._commit, self._end = transaction.commit_lsn, transaction.end_lsn
        self._xid, self._time_us = transaction.xid, transaction.time_us
        self._part = self._moves = 0

    def alter(self, change: SchemaChange) -> None:
        """A table's columns are others from this transaction on."""
        if not self._silent:
            self.contents.schema.append(change)

    def end(self, *, last: bool = True) -> list[Did]:
        """The transaction, or (not `last`) what of it goes into this segment, is complete. Says what it did."""
        if self._silent:
            return []
        did: list[Did] = []
        effect: dict[str, dict[str, dict[str, int]]] = {}
        of, tables = self._numbers.of, self._tables
        for (tenant, operation, table), rows in self._counts.items():
            if not rows:
                continue
            name, word = tables[table][1], _WORDS[operation]
            did.append(Did(tenant, name, word, rows))
            counts = effect.setdefault(of(tenant).prefix, {}).setdefault(name, {})
            counts[word] = counts.get(word, 0) + rows
            self.contents.changes += rows
        again = last and not self._part and self._commit in self.interrupted
        if did or self._part or not last:
            self._summarize(effect, last=last and not again)
        if again:
            # In parts, though it is whole: that tells a reader that the parts from before the crash are void.
            self._part += 1
            self._summarize({}, last=True)
        self._counts.clear()
        if not last:
            self._part += 1
        return did

    def _summarize(self, effect: Effects, *, last: bool) -> None:
        summary = TransactionSummary(
            self._xid, Lsn(self._commit), Lsn(self._end), time_of(self._time_us), self._part, last, effect
        )
        self.contents.transactions.append(summary)
        self.size_bytes += _SUMMARY_BYTES

    def take(self) -> Contents:
        """What the segment holds; the next one begins empty."""
        taken, self.contents = self.contents, Contents()
        self.size_bytes = 0
        return taken

    # routing.Sink ------------------------------------------------------------------------------------------------

    def change(self, tenant: int, operation: int, table: LoggedTable, old: bytes | None, new: bytes | None) -> None:
        if self._silent:
            return
        writer = self.contents.writers.get(tenant)
        if writer is None or writer.commit != self._commit:
            writer = self._begun(tenant)
        writer.change(operation, table, old, new)
        self.size_bytes += _ENTRY_BYTES + (len(old) if old else 0) + (len(new) if new else 0)
        counted = (tenant, operation, id(table))
        counts = self._counts
        if counted in counts:
            counts[counted] += 1
        else:
            counts[counted] = 1
            if counted[2] not in self._tables:
                self._tables[id(table)] = (table, str(table.name))

    def move(self, origin: int, to: int, table: LoggedTable, key: bytes, new: bytes) -> None:
        self._moves += 1
        if self._silent:
            return
        giver, receiver = self._numbers.of(origin).prefix, self._numbers.of(to).prefix
        number = self._moves - 1
        self._begun(origin).move_out(table, number, key, receiver, self.edges)
        self._begun(to).move_in(table, number, key, new, giver, self.edges)
        self.size_bytes += 2 * (_ENTRY_BYTES + 24 + len(key)) + len(new)
        self._tables.setdefault(id(table), (table, str(table.name)))
        for tenant in (origin, to):
            counted = (tenant, _MOVED, id(table))
            self._counts[counted] = self._counts.get(counted, 0) + 1

    def soft_deleted(self, tenant: int, table: LoggedTable) -> None:
        if self._silent:
            return
        self._counts[tenant, OP_UPDATE, id(table)] -= 1
        counted = (tenant, _SOFT, id(table))
        self._counts[counted] = self._counts.get(counted, 0) + 1

    def doubt(self, table: TableName | None, reason: str, *, lasting: bool = False) -> None:
        since, before = Lsn(self._end), self.doubtful.get(table)
        if before is not None and (lasting or before >= since):
            return
        # Also where it is in doubt already: a backup may have begun in between, and what came after is not in that.
        self.doubtful[table] = since
        if not self._silent:
            self._tell(table, reason, since)

    def _tell(self, table: TableName | None, reason: str, since: Lsn) -> None:
        """One gap a table and segment, from the first to the last of what makes it doubtful."""
        gaps = self.contents.gaps
        for place, gap in enumerate(gaps):
            if gap.table == table:
                gaps[place] = replace(gap, xid=None, noticed=since)
                return
        gaps.append(Gap(since, reason, table, None, self._xid or None))

    def read_anew(self, doubts: Mapping[TableName | None, Lsn], until: Lsn) -> None:
        """Whose the rows of these tables are was read at a later place of the log: up to there it may be told wrongly,
        also on a backup of somebody else's that began after the doubt did."""
        for table, since in doubts.items():
            reason = "whose its rows are was read anew"
            self.contents.gaps.append(Gap(since, reason, table, None, None, max(since, until)))

    @property
    def position(self) -> Lsn:
        """The end of the transaction that was begun last."""
        return Lsn(self._end)

    def doubt_between(self, table: TableName | None, reason: str, since: Lsn, noticed: Lsn) -> None:
        """Something happened between two looks at the catalog, at these positions: nobody knows when."""
        self.doubtful[table] = noticed
        self.contents.gaps.append(Gap(since, reason, table, None, None, noticed))

    def _begun(self, tenant: int) -> EntryWriter:
        writers = self.contents.writers
        writer = writers.get(tenant)
        if writer is None:
            writer = writers[tenant] = EntryWriter()
        if writer.commit != self._commit:
            writer.begin(self._commit, self._end, self._xid, self._time_us, self._part)
        return writer
