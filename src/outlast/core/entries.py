"""Entries: the binary form in which one tenant's changes lie in the log, and how they are read back.

An entry is what happened to this tenant, in the order in which it happened. A change is written into the log of the
tenant that owns the row *at that point of its transaction*. docs/FORMAT.md has the bytes. Writing is on the hot path
(one call a change, tuples as they came); reading checks every length, since these bytes come out of a store.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from struct import Struct
from typing import Any, Self

from outlast.core.change import OP_DELETE, OP_INSERT, OP_MOVE_IN, OP_MOVE_OUT, OP_TRUNCATE, OP_UPDATE, Relation
from outlast.core.errors import CorruptionError
from outlast.core.moment import Lsn
from outlast.core.row import KeyKind
from outlast.core.table import Table, TableName

_BEGIN, _TABLE, _EDGES = b"BRS"

_BEGIN_ENTRY = Struct(">BQQQqI")  # kind, commit, end, xid, µs since 2000, part
_TEXT_ENTRY = Struct(">BI")  # kind, length of the JSON after it
_CHANGE_ENTRY = Struct(">BIII")  # operation, table's number in this frame, length of the old tuple, of the new one
_MOVE_ENTRY = Struct(">BII16sII")  # operation, table's number, move's number, peer, length of the key, of the new tuple


@dataclass(frozen=True)
class LoggedTable:
    """What the tuples of a table mean in the log. `name` is the root's, `leaf` the partition's that was changed.

    `columns` are (name, type) in the tuples' order; in a partition that can be another than the root's, which is then
    `stored`. `key` and `key_kinds` are the root's, as Table has them.
    """

    name: TableName
    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    key_kinds: tuple[KeyKind, ...]
    identity: str  # pg_class.relreplident: d f i n
    identity_columns: tuple[int, ...]
    leaf: TableName | None = None
    stored: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, relation: Relation, table: Table) -> Self:
        """From what the stream says of the leaf and the catalog of its root."""
        leaf = None if relation.name == table.name else relation.name
        places = {name: number for number, name in enumerate(table.column_names)}
        stored = tuple(sorted(relation.columns, key=lambda column: places.get(column[0], len(places))))
        return cls(
            table.name,
            relation.columns,
            table.key,
            table.key_kinds,
            relation.identity,
            relation.identity_columns,
            leaf,
            () if stored == relation.columns else stored,
        )

    @property
    def row_columns(self) -> tuple[tuple[str, str], ...]:
        """(name, type) in the order of a stored row."""
        return self.stored or self.columns

    @cached_property
    def encoded(self) -> bytes:
        """The JSON of its entry: made once, written into many frames."""
        return json.dumps(self.to_json(), separators=(",", ":"), ensure_ascii=True).encode("ascii")

    @cached_property
    def key_positions(self) -> tuple[int, ...]:
        """Where the key's columns stand in a tuple."""
        names = [name for name, _ in self.columns]
        return tuple(names.index(column) for column in self.key)

    def to_json(self) -> dict[str, Any]:
        return {
            "table": str(self.name),
            "leaf": None if self.leaf is None else str(self.leaf),
            "columns": [list(column) for column in self.columns],
            "key": list(self.key),
            "key_kinds": [kind.value for kind in self.key_kinds],
            "identity": self.identity,
            "identity_columns": list(self.identity_columns),
            "stored": [list(column) for column in self.stored],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        return cls(
            TableName.parse(data["table"]),
            tuple((name, kind) for name, kind in data["columns"]),
            tuple(data["key"]),
            tuple(KeyKind(kind) for kind in data["key_kinds"]),
            data["identity"],
            tuple(data["identity_columns"]),
            None if data["leaf"] is None else TableName.parse(data["leaf"]),
            tuple((name, kind) for name, kind in data["stored"]),
        )


@dataclass(frozen=True)
class Edges:
    """How rows find their tenant through other rows: (child, its columns, parent, the parent's columns), all of them.

    Written before the first move of a frame: the rows below the one that moved go with it, and emit nothing.
    """

    edges: tuple[tuple[TableName, tuple[str, ...], TableName, tuple[str, ...]], ...]

    @cached_property
    def encoded(self) -> bytes:
        data = [[str(child), list(ours), str(parent), list(theirs)] for child, ours, parent, theirs in self.edges]
        return json.dumps(data, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    @classmethod
    def from_json(cls, data: Any) -> Self:
        return cls(
            tuple(
                (TableName.parse(child), tuple(ours), TableName.parse(parent), tuple(theirs))
                for child, ours, parent, theirs in data
            )
        )


@dataclass(frozen=True, slots=True)
class Begin:
    """The transaction, or the part of one, that the entries after it are of. `time_us` counts from 2000-01-01 UTC."""

    commit: Lsn
    end: Lsn
    xid: int
    time_us: int
    part: int = 0


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """One change of one row; for TRUNCATE, of all the tenant's rows in the table. Tuples as core/change has them."""

    operation: int
    table: LoggedTable
    old: bytes | None
    new: bytes | None


@dataclass(frozen=True, slots=True)
class Move:
    """A row left for another tenant (OUT), or came from one (IN). The peer's log has the other half.

    `number` counts the moves of the transaction and is the same in both halves. `key` is the row's key before the move
    as COPY fields joined by tabs (the whole row where the table has no key); `new` is given for IN.
    """

    operation: int
    table: LoggedTable
    number: int
    peer: str  # the other tenant's folder
    key: bytes
    new: bytes | None
    edges: Edges


Entry = Begin | LoggedChange | Move


def begin_entry(commit: int, end: int, xid: int, time_us: int, part: int = 0) -> bytes:
    """What stands before a transaction's entries, the same in every tenant's."""
    return _BEGIN_ENTRY.pack(_BEGIN, commit, end, xid, time_us, part)


class EntryWriter:
    """Collects one tenant's entries of one segment, in `data`."""

    __slots__ = ("_edges", "_numbers", "commit", "data")

    def __init__(self) -> None:
        self.data = bytearray()
        self.commit = -1  # of the transaction that entries go to now: whether `begin` is due is one comparison
        self._numbers: dict[int, tuple[int, LoggedTable]] = {}
        self._edges: Edges | None = None

    def begin(self, commit: int, end: int, xid: int, time_us: int, part: int = 0) -> None:
        """Entries from here on are of this transaction."""
        self.go_on(commit, begin_entry(commit, end, xid, time_us, part))

    def go_on(self, commit: int, begun: bytes) -> None:
        """As `begin`, with what `begin_entry` made for all tenants of the transaction."""
        self.commit = commit
        self.data += begun

    def change(self, operation: int, table: LoggedTable, old: bytes | None, new: bytes | None) -> None:
        """One change. Hand in the very same LoggedTable for as long as it holds: it is written once."""
        known = self._numbers.get(id(table))
        number = self._table(table) if known is None else known[0]
        new = new or b""
        if old is None:
            self.data += _CHANGE_ENTRY.pack(operation, number, 0, len(new)) + new
        else:
            self.data += _CHANGE_ENTRY.pack(operation, number, len(old), len(new)) + old + new

    def move_out(self, table: LoggedTable, number: int, key: bytes, to: str, edges: Edges) -> None:
        """A row, and what hangs on it, leaves for the tenant in folder `to`."""
        self._move(OP_MOVE_OUT, table, number, key, b"", to, edges)

    def move_in(self, table: LoggedTable, number: int, key: bytes, new: bytes, origin: str, edges: Edges) -> None:
        """The other half, in the receiver's entries: the row as it is after the move."""
        self._move(OP_MOVE_IN, table, number, key, new, origin, edges)

    def _move(
        self, operation: int, table: LoggedTable, number: int, key: bytes, new: bytes, peer: str, edges: Edges
    ) -> None:
        if self._edges is None or (self._edges is not edges and self._edges != edges):
            self.data += _TEXT_ENTRY.pack(_EDGES, len(edges.encoded)) + edges.encoded
            self._edges = edges
        known = self._numbers.get(id(table))
        place = self._table(table) if known is None else known[0]
        self.data += _MOVE_ENTRY.pack(operation, place, number, bytes.fromhex(peer), len(key), len(new)) + key + new

    def _table(self, table: LoggedTable) -> int:
        number = len(self._numbers)
        self._numbers[id(table)] = (number, table)  # the table is kept, so that its id stays its own
        self.data += _TEXT_ENTRY.pack(_TABLE, len(table.encoded)) + table.encoded
        return number

    def __len__(self) -> int:
        return len(self.data)


_CHANGES = frozenset((OP_INSERT, OP_UPDATE, OP_DELETE, OP_TRUNCATE))
_MOVES = frozenset((OP_MOVE_OUT, OP_MOVE_IN))


def read_entries(data: bytes, what: str = "a frame of the log") -> Iterator[Entry]:
    """The entries in order. Raises CorruptionError naming `what` where the bytes are not entries."""
    return _Reader(data, what).entries()


class _Reader:
    def __init__(self, data: bytes, what: str) -> None:
        self._data = data
        self._what = what
        self._at = 0
        self._tables: list[LoggedTable] = []
        self._edges = Edges(())

    def entries(self) -> Iterator[Entry]:
        begun = False
        while self._at < len(self._data):
            kind = self._data[self._at]
            if kind in _CHANGES and begun:
                yield self._change()
            elif kind == _BEGIN:
                begun = True
                _, commit, end, xid, time_us, part = self._unpack(_BEGIN_ENTRY)
                yield Begin(Lsn(commit), Lsn(end), xid, time_us, part)
            elif kind in (_TABLE, _EDGES):
                self._text(kind)
            elif kind in _MOVES and begun:
                yield self._move()
            else:
                raise self._wrong("an entry of an unknown kind")

    def _change(self) -> LoggedChange:
        operation, number, old_length, new_length = self._unpack(_CHANGE_ENTRY)
        return LoggedChange(
            operation, self._table(number), self._take(old_length) or None, self._take(new_length) or None
        )

    def _move(self) -> Move:
        operation, place, number, peer, key_length, new_length = self._unpack(_MOVE_ENTRY)
        key, new = self._take(key_length), self._take(new_length) or None
        return Move(operation, self._table(place), number, peer.hex(), key, new, self._edges)

    def _text(self, kind: int) -> None:
        _, length = self._unpack(_TEXT_ENTRY)
        try:
            described = json.loads(self._take(length))
            if kind == _TABLE:
                self._tables.append(LoggedTable.from_json(described))
            else:
                self._edges = Edges.from_json(described)
        except (ValueError, KeyError, TypeError) as error:
            raise self._wrong("the description of a table") from error

    def _table(self, number: int) -> LoggedTable:
        if number >= len(self._tables):
            raise self._wrong("a change of a table that it does not describe")
        return self._tables[number]

    def _unpack(self, struct: Struct) -> tuple[Any, ...]:
        if self._at + struct.size > len(self._data):
            raise self._wrong("an entry that is cut")
        found = struct.unpack_from(self._data, self._at)
        self._at += struct.size
        return found

    def _take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._data):
            raise self._wrong("an entry that is cut")
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def _wrong(self, why: str) -> CorruptionError:
        return CorruptionError(f"{self._what} cannot be read: it has {why}", code="entries")
