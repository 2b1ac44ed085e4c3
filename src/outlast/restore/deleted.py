"""The rows that a damage took from a tenant, each as it was just before it was deleted: a stored state of them alone.

A restore in mode `missing` with this state puts back exactly those rows, since what is not in it is left as it is.
Rows that were deleted and came again within the time are not in it, and neither are rows that were inserted and deleted
by the same transaction.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import groupby, islice
from pathlib import Path

from outlast.capture.spool import Spool
from outlast.core.effect import Operation
from outlast.core.errors import Refused
from outlast.core.moment import Lsn
from outlast.core.row import OrderKey
from outlast.core.table import TableName
from outlast.core.tenant import ALL, TenantKey
from outlast.restore.damage import DamageReport, DamagingTransaction
from outlast.restore.difference import Layout, Piece, pairs, regions, rows_of
from outlast.restore.history import Past, PastTable
from outlast.vault.chunk import Chunker, table_root, tenant_root
from outlast.vault.overlay import Piece as StoredPiece
from outlast.vault.reader import TenantEntry
from outlast.vault.replay import Shelf, TableState
from outlast.vault.timeline import State

CUTS_MAX = 16
"""So many deletions of one tenant are looked at one by one; of more, neighbours are taken together."""
_LOSSES = frozenset({Operation.HARD_DELETE, Operation.TRUNCATE})
_BLOCK_ROWS = 2000
_PRESENT = -1


@dataclass(frozen=True, slots=True)
class Cut:
    """Just before a transaction that deleted, and just after it (or after the last of several)."""

    before: Lsn
    after: Lsn
    several: tuple[DamagingTransaction, ...]

    def emptied(self, tenant: TenantKey) -> frozenset[TableName] | None:
        """The tables that it truncated, if it deleted nothing of the tenant's elsewhere."""
        kinds = [(key, table, operation) for one in self.several for key, table, operation in one.hard.counts]
        if any(operation is Operation.HARD_DELETE and key == tenant for key, _, operation in kinds):
            return None
        return frozenset(TableName.parse(table) for _, table, operation in kinds if operation is Operation.TRUNCATE)


def deletions(found: DamageReport, prefix: str) -> tuple[DamagingTransaction, ...]:
    """The transactions that deleted rows of a tenant, in order; those that emptied a table for everybody as well."""
    everybody = next((one.prefix for one in found.tenants if one.tenant.key == ALL), "")
    known = {one.end: one for folder in (prefix, everybody) for one in found.by_tenant.get(folder, ())}
    return tuple(
        one for _, one in sorted(known.items()) if any(operation in _LOSSES for _, _, operation in one.hard.counts)
    )


def cuts(transactions: Sequence[DamagingTransaction], most: int = CUTS_MAX) -> tuple[Cut, ...]:
    """The largest ones by themselves, and the others between them together."""
    alone = {one.end for one in sorted(transactions, key=lambda one: -one.hard.rows)[: max(1, most // 2)]}
    if len(transactions) <= most:
        alone = {one.end for one in transactions}
    made: list[Cut] = []
    for single, group in groupby(transactions, key=lambda one: one.end if one.end in alone else None):
        several = list(group)
        assert single is None or len(several) == 1
        made.append(Cut(several[0].lsn, several[-1].end, tuple(several)))
    return tuple(made)


def deleted_past(found: DamageReport, entry: TenantEntry, spool_directory: Path | None = None) -> Past:
    """A tenant's state of the deleted rows and nothing else. Raises Refused where the log does not know them.

    They are spooled under `spool_directory`, encrypted and without a name.
    """
    timeline, epoch = found.since.timeline, found.epoch
    places = cuts(deletions(found, entry.prefix))
    between = [_around(found, entry, place) for place in places]
    try:
        last = timeline.state(entry, epoch, found.end)
    except Refused:
        last = None  # what is there again by then is live, too, and the restore leaves it as it is
    spool = Spool(spool_directory or Path(tempfile.gettempdir()))
    shelf = Shelf(lambda _name, _refs: iter(()), spool)
    states: dict[TableName, TableState] = {}
    for name in sorted({name for one in between for name in one.before.tables}):
        table = _Table(name, between, last)
        state = table.kept(shelf) if table.differs else None
        if state is not None and state.pieces:
            states[name] = state

    def read(table: PastTable, numbers: Sequence[int]) -> Iterator[bytes]:
        pieces = states[table.name].pieces
        return shelf.read(table.name, [pieces[number] for number in numbers])

    tables = {name: _past_table(name, state) for name, state in states.items()}
    root = tenant_root((str(name), bytes.fromhex(table.root)) for name, table in tables.items()).hex()
    notes = tuple(
        f"{len(place.several)} transactions that deleted between {place.before} and {place.after} are taken together: "
        "rows that changed in between come back as they were before"
        for place in places
        if len(place.several) > 1
    )
    run = between[-1].before.base.record.run if between else found.since.run.run
    return Past(entry.tenant, run, str(found.since), root, tables, read, notes)


@dataclass(frozen=True, slots=True)
class _Between:
    """The states around a deletion. `after` is None where the log cannot give it, since `emptied` were truncated."""

    before: State
    after: State | None
    emptied: frozenset[TableName] = frozenset()

    def pieces(self, name: TableName) -> tuple[list[StoredPiece], list[StoredPiece]]:
        before = self.before.tables.get(name)
        ours = [] if before is None else before.pieces
        if self.after is None:
            return ours, [] if name in self.emptied else ours
        after = self.after.tables.get(name)
        return ours, [] if after is None else after.pieces


def _around(found: DamageReport, entry: TenantEntry, place: Cut) -> _Between:
    timeline, epoch = found.since.timeline, found.epoch
    before = timeline.state(entry, epoch, place.before)
    try:
        return _Between(before, timeline.state(entry, epoch, place.after))
    except Refused:
        emptied = place.emptied(entry.tenant.key)
        if not emptied:
            raise
        return _Between(before, None, emptied)


@dataclass(frozen=True, slots=True)
class _Table:
    name: TableName
    between: Sequence[_Between]
    last: State | None

    @property
    def differs(self) -> bool:
        return any(
            _digests(ours) != _digests(theirs) for ours, theirs in (one.pieces(self.name) for one in self.between)
        )

    def kept(self, shelf: Shelf) -> TableState:
        """The deleted rows, in chunks on the shelf."""
        states = [state for one in self.between for state in (one.before, one.after) if state is not None]
        shapes = {state.tables[self.name].shape for state in states if self.name in state.tables}
        if len(shapes) > 1:
            raise Refused(
                f"cannot say which rows of {self.name} were deleted: its columns changed in that time",
                hint="Take the time before and after that apart (--until), or one transaction by itself.",
                code="columns-changed",
            )
        (shape,) = shapes
        layout = Layout(shape.names, shape.key, shape.key_kinds)
        chunker = Chunker(layout.key_of)
        kept = []
        rows = self._rows(layout)
        while block := list(islice(rows, _BLOCK_ROWS)):
            kept += [shelf.keep(chunk) for chunk in chunker.add(b"".join([row + b"\n" for row in block]), len(block))]
        kept += [shelf.keep(chunk) for chunk in chunker.finish()]
        return TableState(shape, kept)

    def _rows(self, layout: Layout) -> Iterator[bytes]:
        """In key order, each key once: as the latest deletion found it, and not if it is there at the end."""
        # Ranks ascend from what is there at the end over the latest deletion to the first
        streams = [_ranked(self._deleted(one, layout), rank, layout) for rank, one in enumerate(reversed(self.between))]
        if not layout.key:
            yield from (row for _, _, row in merge(*streams, key=lambda one: one[0]))
            return
        present = _ranked(_read(self.last, self.name) if self.last else (), _PRESENT, layout)
        for _, several in groupby(merge(present, *streams, key=lambda one: one[:2]), key=lambda one: one[0]):
            _, rank, row = next(several)
            if rank != _PRESENT:
                yield row

    def _deleted(self, one: _Between, layout: Layout) -> Iterator[bytes]:
        ours, theirs = one.pieces(self.name)
        for region in regions(_digests(ours), _digests(theirs), keyed=bool(layout.key)):
            if region.equal:
                continue
            mine = one.before.shelf.read(self.name, [ours[number] for number in region.before])
            left = [theirs[number] for number in region.after]
            its = one.after.shelf.read(self.name, left) if one.after is not None and left else ()
            for before, after in pairs(rows_of(mine), rows_of(its), layout):
                if before is not None and after is None:
                    yield before


def _digests(pieces: Sequence[StoredPiece]) -> list[Piece]:
    return [Piece(piece.digest, piece.rows) for piece in pieces]


def _ranked(rows: Iterable[bytes], rank: int, layout: Layout) -> Iterator[tuple[OrderKey, int, bytes]]:
    key, order = layout.key_of, layout.order_of
    return ((order(key(row)), rank, row) for row in rows)


def _read(state: State, name: TableName) -> Iterator[bytes]:
    table = state.tables.get(name)
    return iter(()) if table is None else rows_of(state.shelf.read(name, table.pieces))


def _past_table(name: TableName, table: TableState) -> PastTable:
    return PastTable(
        name,
        Layout(table.shape.names, table.shape.key, table.shape.key_kinds),
        tuple(kind for _, kind in table.shape.columns),
        tuple(_digests(table.pieces)),
        table.pieces[0].first_key if table.pieces else b"",
        table_root((piece.digest, piece.rows) for piece in table.pieces).hex(),
    )
