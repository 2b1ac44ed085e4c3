"""What a stretch of the log amounts to for one table of one tenant: for each key, the row that stands at its end.

Pure. Within a stretch the last word on a key counts, but order matters on the way: a key can change, its place be taken
again, and a value that the server did not send is the one of the row as it was. What a base must have held for the
changes to make sense is kept too: laid over a base in which a deleted row is not there, they are an error, never a
guess. A table without a key is a multiset of rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from outlast.core.change import (
    OP_DELETE,
    OP_INSERT,
    OP_TRUNCATE,
    OP_UPDATE,
    Field,
    Unchanged,
    copy_field,
    fields_of,
)
from outlast.core.entries import LoggedChange, LoggedTable
from outlast.core.errors import CorruptionError
from outlast.core.row import KeyKind, OrderKey, key_of, order_of
from outlast.core.table import TableName

_CELL_BYTES = 400
"""What a changed key costs in memory beside its bytes, about."""


@dataclass(frozen=True)
class Shape:
    """What a stored row's fields are: (name, type) of the columns in order, and the key."""

    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    key_kinds: tuple[KeyKind, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name, _ in self.columns)

    @property
    def key_positions(self) -> tuple[int, ...]:
        names = self.names
        return tuple(names.index(column) for column in self.key)

    @property
    def key_of(self) -> Callable[[bytes], bytes]:
        """Cuts the key out of a row; the whole row where there is none."""
        return key_of(self.key_positions)

    @property
    def order_of(self) -> Callable[[bytes], OrderKey]:
        """Gives a key's place in the sweep's order."""
        return order_of(self.key_kinds if self.key else ())

    @property
    def digest(self) -> str:
        """As core's Table has it."""
        described = [[list(column) for column in self.columns], list(self.key)]
        return hashlib.sha256(json.dumps(described, ensure_ascii=True).encode()).hexdigest()[:16]


@dataclass(slots=True)
class Patch:
    """A row of which some values are those of the base's row with key `origin`."""

    origin: bytes
    fields: list[bytes | None]  # COPY fields; None: as the base has it

    def over(self, base: bytes) -> bytes:
        before = base.split(b"\t")
        return b"\t".join([old if new is None else new for new, old in zip(self.fields, before, strict=True)])


Cell = bytes | Patch | None
"""A row (without newline), a row that needs the base, or None: there is none."""


class MismatchError(CorruptionError):
    """The log does not fit the state that it is laid over."""

    default_code = "log-mismatch"


@dataclass
class Net:
    """Changes of one table, in order, by key. `size_bytes` is about what it holds."""

    name: TableName
    shape: Shape
    emptied: bool = False  # by TRUNCATE: nothing of the base is left
    size_bytes: int = 0
    cells: dict[bytes, Cell] = field(default_factory=dict)
    counts: dict[bytes, int] = field(default_factory=dict)  # of rows of a table without key: more or fewer than before
    held: dict[bytes, bool] = field(default_factory=dict)  # whether the base must hold the key
    waiting: list[LoggedChange] = field(default_factory=list)  # of a table whose identity is not its key
    _readers: dict[int, tuple[LoggedTable, tuple[int, ...]]] = field(default_factory=dict, repr=False)

    def __bool__(self) -> bool:
        return bool(self.emptied or self.cells or self.counts or self.waiting)

    def fits(self, table: LoggedTable) -> bool:
        """Whether its tuples have the columns that the stored rows have."""
        return set(table.columns) == set(self.shape.columns) and table.key == self.shape.key

    def apply(self, change: LoggedChange) -> None:
        """One more change. Raises MismatchError where it contradicts those before it."""
        if change.operation == OP_TRUNCATE:
            self.empty()
        elif not self.shape.key:
            self._count(change)
        elif self.waiting or not _identity_is_key(change):
            self.waiting.append(change)
            self.size_bytes += _CELL_BYTES + len(change.old or b"") + len(change.new or b"")
        else:
            self._keyed(change)

    def empty(self) -> None:
        """Every row is gone."""
        self.emptied = True
        self.size_bytes = 0
        for part in (self.cells, self.counts, self.held):
            part.clear()
        self.waiting.clear()

    def put(self, row: bytes) -> None:
        """A row that was not there is there."""
        if self.shape.key:
            self._appear(self.shape.key_of(row), row)
        else:
            self._add(row, 1)

    def remove(self, key: bytes) -> None:
        """The row with that key (or that row, without one) is gone."""
        if self.shape.key:
            self._vanish(key)
        else:
            self._add(key, -1)

    # Keyed tables

    def _keyed(self, change: LoggedChange) -> None:
        new = None if change.new is None else self._row_fields(change.table, change.new)
        old = None if change.old is None else self._row_fields(change.table, change.old[1:])
        if change.operation == OP_INSERT:
            assert new is not None
            self._appear(self._key(new, None), self._whole(new))
        elif change.operation == OP_DELETE:
            assert old is not None
            self._vanish(self._key(old, None))
        else:
            assert new is not None
            self.update(self._key(old or new, None), new, old)

    def update(self, before: bytes, new: list[bytes | None], old: list[bytes | None] | None) -> None:
        """The row with key `before` becomes `new`, whose unknown values are those of the row as it was."""
        after = self._key(new, before)
        cell = self._cell(before)
        if isinstance(cell, bytes):
            row: Cell = Patch(before, new).over(cell)
        elif isinstance(cell, Patch):
            merged = [ours if ours is not None else theirs for ours, theirs in zip(new, cell.fields, strict=True)]
            row = _settled(Patch(cell.origin, merged))
        else:
            row = _settled(Patch(before, new))
        if before != after:
            self._vanish(before)
            self._appear(after, row)
        else:
            self._expect(before, there=True)
            self._set(before, row)

    def _cell(self, key: bytes) -> Cell:
        """The row as it stands; None where only the base knows it."""
        cell = self.cells.get(key)
        if cell is None and (key in self.cells or self.emptied):
            raise self._mismatch("changes a row that is not there")
        return cell

    def _appear(self, key: bytes, row: Cell) -> None:
        if self.cells.get(key) is not None:
            raise self._mismatch("adds a row that is there already")
        self._expect(key, there=False)
        self._set(key, row)

    def _vanish(self, key: bytes) -> None:
        if self.cells.get(key) is None and (key in self.cells or self.emptied):
            raise self._mismatch("takes away a row that is not there")
        self._expect(key, there=True)
        self._set(key, None)

    def _expect(self, key: bytes, *, there: bool) -> None:
        if key not in self.cells and not self.emptied:
            self.held.setdefault(key, there)

    def _set(self, key: bytes, cell: Cell) -> None:
        if key not in self.cells:
            self.size_bytes += _CELL_BYTES + len(key)
        self.size_bytes += _size(cell) - _size(self.cells.get(key))
        self.cells[key] = cell

    def _key(self, fields: list[bytes | None], before: bytes | None) -> bytes:
        """The key of a row. A part of it that was not sent (a key so long that it is kept apart) is as before."""
        parts = [fields[position] for position in self.shape.key_positions]
        if None in parts:
            if before is None:
                raise self._mismatch("does not say which row it means")
            known = before.split(b"\t")
            parts = [old if part is None else part for part, old in zip(parts, known, strict=True)]
        return b"\t".join([part for part in parts if part is not None])

    # Tables without a key

    def _count(self, change: LoggedChange) -> None:
        old = None
        if change.old is not None:
            fields = self._row_fields(change.table, change.old[1:])
            if change.old[:1] != b"O":
                raise self._mismatch("does not say which row it means")
            old = self._whole(fields)
        if change.operation in (OP_UPDATE, OP_DELETE):
            if old is None:
                raise self._mismatch("does not say which row it means")
            self._add(old, -1)
        if change.operation in (OP_UPDATE, OP_INSERT):
            assert change.new is not None
            fields = self._row_fields(change.table, change.new)
            self._add(self._whole(fields) if old is None else Patch(b"", fields).over(old), 1)

    def _add(self, row: bytes, count: int) -> None:
        total = self.counts.get(row, 0) + count
        if self.emptied and total < 0:
            raise self._mismatch("takes away a row that is not there")
        if row not in self.counts:
            self.size_bytes += _CELL_BYTES + len(row)
        self.counts[row] = total

    # Tuples

    def _row_fields(self, table: LoggedTable, data: bytes) -> list[bytes | None]:
        """A tuple's values as COPY fields in the order of stored rows; None for what was not sent."""
        known = self._readers.get(id(table))
        if known is None:
            names = [name for name, _ in table.columns]
            known = (table, tuple(names.index(name) for name in self.shape.names))
            self._readers[id(table)] = known
        fields = list(fields_of(data))
        return [_copied(fields[position]) for position in known[1]]

    def _whole(self, fields: list[bytes | None]) -> bytes:
        if None in fields:
            raise self._mismatch("leaves out a value of a row that is new")
        return b"\t".join([part for part in fields if part is not None])

    def _mismatch(self, why: str) -> MismatchError:
        return MismatchError(f"the log of table {self.name} {why}", hint=MISMATCH_HINT)

    # Tables whose replica identity is another index than their key

    def identities(self) -> Iterator[bytes]:
        """The identities of the rows that waiting changes are about, as the base may hold them."""
        for change in self.waiting:
            fields = self._identity_fields(change)
            if fields is not None:
                yield fields

    def identity_of(self) -> Callable[[bytes], bytes] | None:
        """Cuts the identity that waiting changes go by out of a stored row."""
        table = next((change.table for change in self.waiting if change.table.identity_columns), None)
        return None if table is None else key_of(self._identity_positions(table))

    def resolve_waiting(self, keys: Mapping[bytes, bytes]) -> None:
        """Apply what waits. `keys` gives the key of each base row whose identity was asked for."""
        known = {} if self.emptied else dict(keys)
        waiting, self.waiting = self.waiting, []
        for change in waiting:
            new = None if change.new is None else self._row_fields(change.table, change.new)
            identity = self._identity_fields(change)
            if change.operation != OP_INSERT:
                before = known.pop(identity or b"", None)
                if before is None:
                    raise self._mismatch("changes a row that is not there")
                if new is None:
                    self._vanish(before)
                    continue
                self.update(before, new, None)
            assert new is not None
            parts = [new[position] for position in self._identity_positions(change.table)]
            after = identity if None in parts else b"\t".join([part for part in parts if part is not None])
            if change.operation == OP_INSERT:
                self._appear(self._key(new, None), self._whole(new))
                known[after or b""] = self._key(new, None)
            else:
                known[after or b""] = self._key(new, before)

    def _identity_positions(self, table: LoggedTable) -> tuple[int, ...]:
        names = self.shape.names
        return tuple(names.index(table.columns[position][0]) for position in table.identity_columns)

    def _identity_fields(self, change: LoggedChange) -> bytes | None:
        """The identity of the row that an update or delete is about."""
        if change.operation == OP_INSERT:
            return None
        data = change.new if change.old is None else change.old[1:]
        assert data is not None
        fields = self._row_fields(change.table, data)
        parts = [fields[position] for position in self._identity_positions(change.table)]
        return b"\t".join([part for part in parts if part is not None])


MISMATCH_HINT = (
    "Take a fresh base with `outlast backup`, and name the moment of a run meanwhile. Please report this: the log and "
    "the backups contradict each other."
)


def _identity_is_key(change: LoggedChange) -> bool:
    """Whether an old tuple of this table tells the row's key."""
    table = change.table
    return table.identity != "i" or set(table.key_positions) == set(table.identity_columns)


def _copied(value: Field) -> bytes | None:
    return None if isinstance(value, Unchanged) else copy_field(value)


def _settled(patch: Patch) -> Cell:
    if None in patch.fields:
        return patch
    return b"\t".join([part for part in patch.fields if part is not None])


def _size(cell: Cell) -> int:
    if cell is None:
        return 0
    return len(cell) if isinstance(cell, bytes) else sum(len(part) for part in cell.fields if part is not None)
