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
from outlast.core.entries import Edges, EntryWriter, LoggedTable, begin_entry
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.sources.postgres.transactions import Transaction, time_of
from outlast.vault.segment import Effects, Gap, SchemaChange, TransactionSummary

_SOFT, _MOVED = -1, -2
_ENTRY_BYTES = 13
_SUMMARY_BYTES = 160
_SHARED_MAX = 1_000

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


class _Tally:
    """Rows of one table under one operation in the current transaction, by tenant."""

    __slots__ = ("_parts", "name", "operation", "rows", "table", "word")

    def __init__(self, operation: int, table: LoggedTable) -> None:
        self.operation = operation
        self.table = table  # kept, so that an id stays its table's
        self.name = str(table.name)
        self.word = _WORDS[operation]
        self.rows: dict[int, int] = {}
        self._parts: dict[int, Mapping[str, Mapping[str, int]]] = {}

    def part(self, rows: int) -> Mapping[str, Mapping[str, int]]:
        """What so many rows are in an effect. Most tenants of most transactions share a few of them."""
        found = self._parts.get(rows)
        if found is None:
            found = {self.name: {self.word: rows}}
            if rows <= _SHARED_MAX:
                self._parts[rows] = found
        return found


def _with(
    before: Mapping[str, Mapping[str, int]], part: Mapping[str, Mapping[str, int]]
) -> Mapping[str, Mapping[str, int]]:
    """Both parts of one tenant's effect, in a new one: a part is shared."""
    both = {name: dict(counts) for name, counts in before.items()}
    for name, counts in part.items():
        mine = both.setdefault(name, {})
        for word, rows in counts.items():
            mine[word] = mine.get(word, 0) + rows
    return both


@dataclass(slots=True)
class Contents:
    """What one segment will say."""

    writers: dict[int, EntryWriter] = field(default_factory=dict)
    transactions: list[TransactionSummary] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    schema: list[SchemaChange] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    partial: list[TableName] = field(default_factory=list)
    whole: list[tuple[TableName, Lsn]] = field(default_factory=list)
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
        self.anew: dict[TableName | None, Lsn] = {}
        """Up to where those are told wrongly: no backup that began before ends the doubt."""
        self.interrupted: frozenset[int] = frozenset()
        """Commits of transactions that a part of is in the vault already, from before a crash."""
        self._numbers = numbers
        self._transaction: Transaction | None = None
        self._silent = False
        self._noted = False  # it changed a table's definition, or something that the stream does not carry
        self._part = self._moves = 0
        self._opening: bytes | None = None  # what this part of the transaction begins with in every frame
        self._commit = self._end = self._xid = self._time_us = 0
        self._tallies: dict[tuple[int, int], _Tally] = {}  # by operation and table
        self._tally: _Tally | None = None  # the one that was used last
        self._used: list[_Tally] = []  # in this transaction

    def begin(self, transaction: Transaction, *, silent: bool = False) -> None:
        self._transaction, self._silent, self._noted = transaction, silent, False
        self._commit, self._end = transaction.commit_lsn, transaction.end_lsn
        self._xid, self._time_us = transaction.xid, transaction.time_us
        self._part = self._moves = 0
        self._opening = None

    def alter(self, change: SchemaChange) -> None:
        """A table's columns are others from this transaction on."""
        if not self._silent:
            self._noted = True
            self.contents.schema.append(change)

    def end(self, *, last: bool = True) -> list[Did]:
        """The transaction, or (not `last`) what of it goes into this segment, is complete.

        Says what it did, without updates.
        """
        if self._silent:
            return []
        did: list[Did] = []
        effect: dict[str, Mapping[str, Mapping[str, int]]] = {}
        of = self._numbers.of
        for tally in self._used:
            for tenant, rows in tally.rows.items():
                if not rows:
                    continue
                prefix, part = of(tenant).prefix, tally.part(rows)
                effect[prefix] = _with(effect[prefix], part) if prefix in effect else part
                self.contents.changes += rows
                if tally.operation != OP_UPDATE:
                    did.append(Did(tenant, tally.name, tally.word, rows))
            tally.rows.clear()
        self._used.clear()
        self._tally = None
        again = last and not self._part and self._commit in self.interrupted
        # One of which nothing else is known is a moment all the same: before:XID is where everything was still there.
        if effect or self._part or not last or self._noted:
            self._summarize(effect, last=last and not again)
        if again:
            # In parts, though it is whole: that tells a reader that the parts from before the crash are void.
            self._part += 1
            self._summarize({}, last=True)
        if not last:
            self._part += 1
            self._opening = None
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
        tally = self._tally
        if tally is None or tally.table is not table or tally.operation != operation:
            tally = self._tally_of(operation, table)
        rows = tally.rows
        rows[tenant] = rows.get(tenant, 0) + 1

    def move(self, origin: int, to: int, table: LoggedTable, key: bytes, new: bytes) -> None:
        self._moves += 1
        if self._silent:
            return
        giver, receiver = self._numbers.of(origin).prefix, self._numbers.of(to).prefix
        number = self._moves - 1
        self._begun(origin).move_out(table, number, key, receiver, self.edges)
        self._begun(to).move_in(table, number, key, new, giver, self.edges)
        self.size_bytes += 2 * (_ENTRY_BYTES + 24 + len(key)) + len(new)
        rows = self._tally_of(_MOVED, table).rows
        for tenant in (origin, to):
            rows[tenant] = rows.get(tenant, 0) + 1

    def _tally_of(self, operation: int, table: LoggedTable) -> _Tally:
        counted = (operation, id(table))
        found = self._tallies.get(counted)
        if found is None:
            found = self._tallies[counted] = _Tally(operation, table)
        if not found.rows:
            self._used.append(found)
        self._tally = found
        return found

    def soft_deleted(self, tenant: int, table: LoggedTable) -> None:
        if self._silent:
            return
        self._tally_of(OP_UPDATE, table).rows[tenant] -= 1
        rows = self._tally_of(_SOFT, table).rows
        rows[tenant] = rows.get(tenant, 0) + 1

    def doubt(self, table: TableName | None, reason: str, *, lasting: bool = False) -> None:
        since, before = Lsn(self._end), self.doubtful.get(table)
        if before is not None and (lasting or before >= since):
            return
        # Also where it is in doubt already: a backup may have begun in between, and what came after is not in that.
        self.doubtful[table] = since
        if not self._silent:
            self._noted = True
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
            self.anew[table] = max(since, until)
            self.contents.gaps.append(Gap(since, reason, table, None, None, max(since, until)))

    def mended(self, table: TableName | None) -> None:
        del self.doubtful[table]
        self.anew.pop(table, None)

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
            if self._opening is None:
                self._opening = begin_entry(self._commit, self._end, self._xid, self._time_us, self._part)
            writer.go_on(self._commit, self._opening)
        return writer
