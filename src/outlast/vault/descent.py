"""What hangs on a row: the rows whose ownership path leads to it, which leave with it when it goes to another tenant.

Pure but for the reader it is given. Each level of tables is read once, for however many rows that move together.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from outlast.core.entries import Edges, Move
from outlast.core.row import NULL
from outlast.core.table import TableName
from outlast.vault.net import MISMATCH_HINT, MismatchError, Shape
from outlast.vault.overlay import Piece, rows_of


class HasRows(Protocol):
    shape: Shape
    pieces: list[Piece]


Read = Callable[[TableName, Sequence[Piece]], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Found:
    """Rows of one table that go with the move of that number."""

    number: int
    table: TableName
    rows: tuple[bytes, ...]


class Descent:
    """Finds what leaves with moves, in the tables as they stand just before them."""

    def __init__(self, tables: Mapping[TableName, HasRows], read: Read) -> None:
        self._tables = tables
        self._read = read

    def leaving(self, moves: Sequence[Move]) -> Iterator[Found]:
        """The rows that move, then what hangs on them, level by level. The moves have the same edges."""
        level: dict[TableName, list[tuple[int, bytes]]] = {}
        for name in dict.fromkeys(move.table.name for move in moves):
            mine = [move for move in moves if move.table.name == name]
            state = self._tables.get(name)
            found = {} if state is None else find_rows(state, {move.key for move in mine}, name, self._read)
            for move in mine:
                if move.key not in found:
                    raise MismatchError(f"the log of table {name} moves a row that is not there", hint=MISMATCH_HINT)
                level.setdefault(name, []).append((move.number, found[move.key]))
        moved = {name: {row for _, row in rows} for name, rows in level.items()}
        while level:
            for name, rows in level.items():
                by_move: dict[int, list[bytes]] = {}
                for number, row in rows:
                    by_move.setdefault(number, []).append(row)
                for number, together in by_move.items():
                    yield Found(number, name, tuple(together))
            level = self._below(level, moves[0].edges, moved)

    def _below(
        self,
        level: Mapping[TableName, Sequence[tuple[int, bytes]]],
        edges: Edges,
        moved: Mapping[TableName, set[bytes]],
    ) -> dict[TableName, list[tuple[int, bytes]]]:
        found: dict[TableName, list[tuple[int, bytes]]] = {}
        for child, columns, parent, parent_columns in edges.edges:
            state = self._tables.get(child)
            if parent not in level or state is None or not set(columns) <= set(state.shape.names):
                continue
            wanted = {
                values: number
                for number, row in level[parent]
                if NULL not in (values := _values(row, self._tables[parent].shape, parent_columns))
            }
            own = moved.get(child, set())  # rows that move by themselves
            for block in self._read(child, state.pieces):
                for row in rows_of(block):
                    number = wanted.get(_values(row, state.shape, columns))
                    if number is not None and row not in own:
                        found.setdefault(child, []).append((number, row))
        return found


def _values(row: bytes, shape: Shape, columns: Sequence[str]) -> tuple[bytes, ...]:
    fields = row.split(b"\t")
    names = shape.names
    return tuple(fields[names.index(column)] for column in columns)


def find_rows(state: HasRows, keys: set[bytes], name: TableName, read: Read) -> dict[bytes, bytes]:
    """The rows with these keys; of the run, only the chunks that can hold them are read."""
    order, cut = state.shape.order_of, state.shape.key_of
    firsts = [order(piece.first_key) for piece in state.pieces]
    places = sorted({max(0, bisect_right(firsts, order(key)) - 1) for key in keys}) if firsts else []
    found: dict[bytes, bytes] = {}
    for block in read(name, [state.pieces[place] for place in places]):
        for row in rows_of(block):
            key = cut(row)
            if key in keys:
                found[key] = row
    return found
