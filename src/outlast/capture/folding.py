"""The parts of a fold that know nothing of runs: segments at hand, boxes of entries, details merged."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from outlast.capture.spool import Spool
from outlast.core.change import OP_MOVE_OUT
from outlast.core.entries import Begin, Entry, EntryWriter, LoggedChange, LoggedTable
from outlast.core.errors import BugError
from outlast.core.moment import Lsn
from outlast.core.table import Column, Ownership, OwnershipKind, Table, TableName
from outlast.vault.net import Shape
from outlast.vault.segment import SegmentDetails, SegmentHeader, TransactionSummary
from outlast.vault.store import Store

BOX_BYTES_MAX = 4 * 1024 * 1024
"""Entries in one box of the log: what must be opened at once to read a moment."""


class LocalSegments:
    """Segments fetched whole, one request each, and kept as ciphertext: a fold reads every frame of them."""

    def __init__(self, store: Store, spool: Spool) -> None:
        self._store = store
        self._spool = spool
        self._places: dict[str, int] = {}

    def fetch(self, headers: Iterable[SegmentHeader]) -> None:
        for header in headers:
            path = header.path
            self._places[path] = self._spool.append(self._store.get(path))

    def part(self, path: str, offset: int, length: int) -> bytes | None:
        place = self._places.get(path)
        return None if place is None else self._spool.read(place + offset, length)


class BoxWriter:
    """Writes entries anew, in boxes of a bounded size that each can be read by itself."""

    def __init__(self, keep: Callable[[bytes], None]) -> None:
        self._keep = keep
        self._writer = EntryWriter()
        self._begin: Begin | None = None
        self._tables: dict[LoggedTable, LoggedTable] = {}

    def add(self, entry: Entry) -> None:
        if isinstance(entry, Begin):
            self._begin = entry
            return
        if len(self._writer) > BOX_BYTES_MAX:
            self._cut()
        begin = self._begin
        if begin is None:
            raise BugError("an entry of the log came before its transaction")
        if self._writer.commit != begin.commit.value:
            # Always as a whole: which of several tries counted was settled when it was read.
            self._writer.begin(begin.commit.value, begin.end.value, begin.xid, begin.time_us)
        table = self._tables.setdefault(entry.table, entry.table)
        if isinstance(entry, LoggedChange):
            self._writer.change(entry.operation, table, entry.old, entry.new)
        elif entry.operation == OP_MOVE_OUT:
            self._writer.move_out(table, entry.number, entry.key, entry.peer, entry.edges)
        else:
            raise BugError("a row that came from another tenant was not resolved")

    def close(self) -> None:
        if len(self._writer):
            self._cut()

    def _cut(self) -> None:
        self._keep(bytes(self._writer.data))
        self._writer = EntryWriter()


def merged_details(parts: Sequence[SegmentDetails]) -> SegmentDetails:
    """What several segments said, in one; a transaction that was written in parts is one again."""
    transactions: list[TransactionSummary] = []
    held: list[TransactionSummary] = []
    for one in (one for part in parts for one in part.transactions):
        if one.part == 0:
            held = []
        held.append(one)
        if one.last:
            transactions.append(_joined(held))
            held = []
    sequences: dict[str, int] = {}
    for part in parts:
        sequences |= part.sequences
    return SegmentDetails(
        tuple(transactions),
        tuple(dict.fromkeys(tenant for part in parts for tenant in part.tenants)),
        tuple(change for part in parts for change in part.schema),
        tuple(gap for part in parts for gap in part.gaps),
        tuple(dict.fromkeys(table for part in parts for table in part.partial)),
        sequences,
        tuple(alarm for part in parts for alarm in part.alarms),
        tuple(_whole(parts)),
    )


def _whole(parts: Sequence[SegmentDetails]) -> Iterable[tuple[TableName, Lsn]]:
    """The tables that are published in full again at the end."""
    found: dict[TableName, Lsn] = {}
    for part in parts:
        for table in part.partial:
            found.pop(table, None)
        found |= dict(part.whole)
    return found.items()


def _joined(parts: Sequence[TransactionSummary]) -> TransactionSummary:
    last = parts[-1]
    if len(parts) == 1 and last.part == 0:
        return last
    effect: dict[str, dict[str, dict[str, int]]] = {}
    for part in parts:
        for prefix, tables in part.effect.items():
            for table, operations in tables.items():
                counts = effect.setdefault(prefix, {}).setdefault(table, {})
                for operation, rows in operations.items():
                    counts[operation] = counts.get(operation, 0) + rows
    return TransactionSummary(last.xid, last.commit, last.end, last.time, 0, True, effect)


def table_of(name: TableName, shape: Shape) -> Table:
    """A table as manifests describe it."""
    columns = tuple(Column(column, kind) for column, kind in shape.columns)
    return Table(name, columns, shape.key, shape.key_kinds, Ownership(OwnershipKind.OWNED))
