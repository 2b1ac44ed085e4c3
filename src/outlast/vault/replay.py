"""One tenant's state carried forward through its log: changes, schema changes, rows that come and go.

Owns the order in which things happen and the bound on memory: changes are collected for each table until they are
many, then laid over its rows (`overlay.py`), and what is new waits in a spool. Which entries there are, from where and
up to which moment, is the timeline's to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import zstandard

from outlast.core.change import OP_INSERT, OP_MOVE_OUT, fields_of
from outlast.core.entries import Begin, Entry, LoggedChange, LoggedTable, Move
from outlast.core.errors import Refused
from outlast.core.moment import Lsn
from outlast.core.row import NULL, unescape
from outlast.core.table import TableName
from outlast.vault.chunk import Chunk, table_root, tenant_root
from outlast.vault.descent import Descent, Found
from outlast.vault.manifest import ChunkRef, TableManifest
from outlast.vault.net import MISMATCH_HINT, MismatchError, Net, Shape
from outlast.vault.overlay import Piece, Recut, overlay, rows_of
from outlast.vault.segment import SchemaChange

BATCH_BYTES_MAX = 32 * 1024 * 1024
"""Changes held in memory before they are laid over the rows."""


class Spooling(Protocol):
    """Where new chunks wait: see capture/spool.py."""

    def append(self, sealed: bytes) -> int: ...
    def read(self, offset: int, length: int) -> bytes: ...
    def encrypt(self, plaintext: bytes) -> bytes: ...
    def decrypt(self, sealed: bytes) -> bytes: ...


@dataclass(slots=True)
class TableState:
    """A table of the tenant as it stands."""

    shape: Shape
    pieces: list[Piece]

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)

    @property
    def root(self) -> str:
        """In hexadecimal, as manifests have it."""
        return table_root((piece.digest, piece.rows) for piece in self.pieces).hex()

    @classmethod
    def stored(cls, table: TableManifest) -> TableState:
        return cls(Shape(table.columns, table.key, table.key_kinds), [Piece.stored(ref) for ref in table.chunks])


Tables = Mapping[TableName, TableState]
ReadStored = Callable[[TableName, Sequence[ChunkRef]], Iterator[bytes]]
"""Gives the rows of chunks that lie in the vault, one block each, in order; each proven by its hash."""


class Shelf:
    """Reads pieces from wherever they lie, and keeps new ones in a spool."""

    def __init__(self, read_stored: ReadStored, spool: Spooling) -> None:
        self._read_stored = read_stored
        self._spool = spool
        self._compressor = zstandard.ZstdCompressor(level=1)
        self._decompressor = zstandard.ZstdDecompressor()

    def read(self, table: TableName, pieces: Sequence[Piece]) -> Iterator[bytes]:
        """The rows of pieces, one block each; runs of stored ones are fetched together."""
        place = 0
        while place < len(pieces):
            refs: list[ChunkRef] = []
            while place + len(refs) < len(pieces) and (ref := pieces[place + len(refs)].ref) is not None:
                refs.append(ref)
            if refs:
                yield from self._read_stored(table, refs)
                place += len(refs)
            else:
                yield self._spooled(pieces[place])
                place += 1

    def keep(self, chunk: Chunk) -> Piece:
        return Piece(chunk.first_key, chunk.rows, chunk.digest, len(chunk.data), None, self.put(chunk.data))

    def put(self, data: bytes) -> tuple[int, int]:
        sealed = self._spool.encrypt(self._compressor.compress(data))
        return self._spool.append(sealed), len(sealed)

    def get(self, place: tuple[int, int]) -> bytes:
        return self._decompressor.decompress(self._spool.decrypt(self._spool.read(*place)))

    def _spooled(self, piece: Piece) -> bytes:
        assert piece.spooled is not None
        return self.get(piece.spooled)


@dataclass(frozen=True, slots=True)
class CarriedRows:
    """Rows of one table that went with a move, in a spool. Those of the row that moved itself come first."""

    table: TableName
    shape: Shape
    place: tuple[int, int]


Carried = Mapping[tuple[Lsn, int], Sequence[CarriedRows]]
"""By the move: its transaction's commit, and its number in it."""

Fetch = Callable[[str, Begin, int], tuple[Carried, Shelf]]
"""What left the tenant of a folder, at least up to the move of that number in that transaction, and where it is."""


@dataclass
class Replay:
    """Carries `tables` forward. Use it once: `run`, then `finish`.

    `schema` are the changes of columns in the order in which they were made, from the base on. `fetch` is asked for
    what other tenants gave. `record` hears every entry, a row that came with all that came with it as plain inserts:
    what a log of this tenant alone needs.
    """

    tables: dict[TableName, TableState]
    shelf: Shelf
    schema: Sequence[SchemaChange]
    fetch: Fetch
    record: Callable[[Entry], None] = lambda _: None
    has: Callable[[Begin], bool] = lambda _: False  # whether the base has a transaction: it is then recorded only
    carried: dict[tuple[Lsn, int], list[CarriedRows]] = field(default_factory=dict)
    _nets: dict[TableName, Net] = field(default_factory=dict)
    _begin: Begin | None = None
    _moves: list[Move] = field(default_factory=list)
    _schema_done: int = 0
    _applying: bool = True

    def run(self, entries: Iterable[Entry]) -> None:
        """Apply entries of whole transactions, in order. Raises MismatchError, Refused where columns do not fit."""
        for entry in entries:
            if self._moves and not _continues(self._moves, entry):
                self._apply_moves()
            if isinstance(entry, LoggedChange):
                self._change(entry)
                if self._size() > BATCH_BYTES_MAX:
                    self._settle_all()
            elif isinstance(entry, Begin):
                self._enter(entry)
            else:
                self._moves.append(entry)

    def _enter(self, begin: Begin) -> None:
        self._applying = not self.has(begin)
        if self._applying and (self._begin is None or begin.end != self._begin.end):
            self._change_schema(lambda change: change.end < begin.end)
        self._begin = begin
        self.record(begin)

    def _change(self, change: LoggedChange) -> None:
        self.record(change)
        if self._applying:
            self._net(change.table).apply(change)

    def flush(self) -> None:
        """Nothing is held back any more: rows that move together may have been waited for."""
        if self._moves:
            self._apply_moves()

    def finish(self, until: Lsn) -> dict[TableName, TableState]:
        """The state, with every schema change up to `until` made. Tables without rows are left out."""
        self.flush()
        self._change_schema(lambda change: change.end <= until)
        self._settle_all()
        return {name: state for name, state in self.tables.items() if state.pieces}

    # Tables and their columns

    def _net(self, table: LoggedTable) -> Net:
        net = self._nets.get(table.name)
        if net is None:
            if table.name not in self.tables:
                self.tables[table.name] = TableState(Shape(table.row_columns, table.key, table.key_kinds), [])
            state = self.tables[table.name]
            net = self._nets[table.name] = Net(table.name, state.shape)
        if not net.fits(table):
            return self._altered(table, net)
        return net

    def _altered(self, table: LoggedTable, net: Net) -> Net:
        """The columns are others than those of the rows: a schema change of this very transaction, or unknown."""
        if not self.tables[table.name].pieces and not net:
            del self.tables[table.name], self._nets[table.name]  # nothing is stored in the old shape
            return self._net(table)
        assert self._begin is not None
        end = self._begin.end
        while self._schema_done < len(self.schema) and self.schema[self._schema_done].end <= end:
            self._alter(self.schema[self._schema_done])
            self._schema_done += 1
            found = self.tables.get(table.name)
            if found is None or Net(table.name, found.shape).fits(table):
                return self._net(table)
        raise Refused(
            f"the log of table {table.name} has other columns from {end} on than the rows before it",
            hint="What changed its schema was not recorded. Make a backup; moments from then on are exact.",
            code="inexact",
        )

    def _change_schema(self, due: Callable[[SchemaChange], bool]) -> None:
        while self._schema_done < len(self.schema) and due(self.schema[self._schema_done]):
            self._alter(self.schema[self._schema_done])
            self._schema_done += 1

    def _alter(self, change: SchemaChange) -> None:
        """Give the rows of a table the columns that they have from now on."""
        self._settle(change.table)
        state = self.tables.pop(change.table, None)
        if state is None:
            return
        name = change.renamed or change.table
        if not change.columns or state.shape.columns == tuple((column, kind) for column, kind, _, _ in change.columns):
            if change.columns:
                self.tables[name] = state  # made in this transaction, with the columns of after it
            return  # without columns: the table was dropped
        kinds = dict(zip(state.shape.key, state.shape.key_kinds, strict=True))
        before = state.shape.names
        origins = {new: before[number] for new, _, number, _ in change.columns if number is not None}
        key_kinds = tuple(kinds[origins[column]] for column in change.key)
        shape = Shape(tuple((column, kind) for column, kind, _, _ in change.columns), change.key, key_kinds)
        if [number for _, _, number, _ in change.columns] == list(range(len(before))):
            self.tables[name] = TableState(shape, state.pieces)  # renamed alone: the rows are the same bytes
            return
        fills = [(number, fill.encode()) for _, _, number, fill in change.columns]
        recut = Recut(shape, self.shelf.keep)
        for block in self.shelf.read(change.table, state.pieces):
            rows = [row.split(b"\t") for row in rows_of(block)]
            recut.add([b"\t".join([fill if at is None else row[at] for at, fill in fills]) for row in rows])
        self.tables[name] = TableState(shape, recut.finish())

    def _size(self) -> int:
        return sum(net.size_bytes for net in self._nets.values())

    def _settle_all(self) -> None:
        for name in list(self._nets):
            self._settle(name)

    def _settle(self, name: TableName) -> None:
        net = self._nets.pop(name, None)
        if net:
            state = self.tables[name]
            state.pieces = overlay(state.pieces, net, lambda pieces: self.shelf.read(name, pieces), self.shelf.keep)

    # Rows that come and go

    def _apply_moves(self) -> None:
        moves, self._moves = self._moves, []
        if moves[0].operation == OP_MOVE_OUT:
            self._give(moves)
        else:
            self._receive(moves)

    def _give(self, moves: Sequence[Move]) -> None:
        """Rows leave, and what hangs on them with them. What that is, is kept for whoever receives it."""
        for move in moves:
            self.record(move)
        if not self._applying:
            return
        self._settle_all()
        descent = Descent(self.tables, lambda name, pieces: self.shelf.read(name, pieces))
        for found in descent.leaving(moves):
            self._keep_carried(found)
            net = self._nets.setdefault(found.table, Net(found.table, self.tables[found.table].shape))
            cut = net.shape.key_of
            for row in found.rows:
                net.remove(cut(row))
        self._settle_all()

    def _keep_carried(self, found: Found) -> None:
        assert self._begin is not None
        place = self.shelf.put(b"".join([row + b"\n" for row in found.rows]))
        rows = CarriedRows(found.table, self.tables[found.table].shape, place)
        self.carried.setdefault((self._begin.commit, found.number), []).append(rows)

    def _receive(self, moves: Sequence[Move]) -> None:
        begin = self._begin
        assert begin is not None
        for move in moves:
            carried, shelf = self.fetch(move.peer, begin, moves[-1].number)
            parts = carried.get((begin.commit, move.number))
            if not parts:
                raise MismatchError(
                    f"the log of table {move.table.name} brings a row from a tenant that has no such row",
                    hint=MISMATCH_HINT,
                )
            first, *below = parts
            (row,) = rows_of(shelf.get(first.place))
            assert move.new is not None
            whole = completed(move.new, move.table, row, first.shape)
            self._change(LoggedChange(OP_INSERT, move.table, None, whole))
            for part in below:
                table = logged_table(part.table, part.shape)
                for row in rows_of(shelf.get(part.place)):
                    self._change(LoggedChange(OP_INSERT, table, None, tuple_of_row(row)))


def _continues(moves: Sequence[Move], entry: Entry) -> bool:
    return isinstance(entry, Move) and entry.operation == moves[0].operation and entry.edges == moves[0].edges


def root_of(tables: Tables) -> str:
    """The tenant's root, in hexadecimal."""
    return tenant_root((str(name), bytes.fromhex(state.root)) for name, state in tables.items() if state.pieces).hex()


def completed(new: bytes, table: LoggedTable, row: bytes, shape: Shape) -> bytes:
    """A new tuple of which no value is left out: those are the row's."""
    places = {name: number for number, name in enumerate(shape.names)}
    before = row.split(b"\t")
    fields = []
    for (name, _), value in zip(table.columns, fields_of(new), strict=True):
        if value is None or isinstance(value, bytes):
            fields.append(value)
        else:
            copied = before[places[name]]
            fields.append(None if copied == NULL else unescape(copied))
    return encode_tuple(fields)


def tuple_of_row(row: bytes) -> bytes:
    return encode_tuple([None if part == NULL else unescape(part) for part in row.split(b"\t")])


def encode_tuple(fields: Sequence[bytes | None]) -> bytes:
    """A tuple as pgoutput writes it."""
    parts = [len(fields).to_bytes(2, "big")]
    parts += [b"n" if value is None else b"t" + len(value).to_bytes(4, "big") + value for value in fields]
    return b"".join(parts)


def logged_table(name: TableName, shape: Shape) -> LoggedTable:
    """How a log describes a table of which only stored rows are known."""
    return LoggedTable(name, shape.columns, shape.key, shape.key_kinds, "d", shape.key_positions)
