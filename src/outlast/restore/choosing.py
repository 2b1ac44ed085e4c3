"""Which rows `--where` means: those with the keys named, and what hung on them at that moment.

A row hangs on another where its foreign key says that it is deleted with it (ON DELETE CASCADE), and so on downwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from outlast.core.row import NULL, escape, key_of
from outlast.core.table import Table, TableName
from outlast.sources.postgres.schema import ForeignKey

Values = tuple[bytes, ...]
Rows = Callable[[Table], Iterator[bytes]]


@dataclass(slots=True)
class Chosen:
    """The rows that a restore is about, by table. A table that is absent is left alone."""

    keys: dict[TableName, set[bytes]] = field(default_factory=dict)

    def of(self, table: Table) -> Callable[[bytes], bool] | None:
        keys = self.keys.get(table.name)
        if not keys:
            return None
        key = key_of(table.key_positions)
        return lambda row: key(row) in keys


def keys_of(texts: Iterable[str]) -> set[bytes]:
    """Keys as people type them, values joined by commas, as they stand in rows."""
    return {
        b"\t".join([escape(part.strip().encode("utf-8", "surrogateescape")) for part in text.split(",")])
        for text in texts
    }


def choose(
    start: Mapping[TableName, Collection[bytes]],
    tables: Iterable[Table],
    foreign_keys: Iterable[ForeignKey],
    rows: Rows,
) -> Chosen:
    """Follow cascading foreign keys from the rows of `start`. `rows` gives a table's rows, live and stored ones."""
    by_name = {table.name: table for table in tables}
    cascades = [key for key in foreign_keys if key.on_delete == "c" and key.enforced and key.table in by_name]
    chosen = Chosen({name: set(keys) for name, keys in start.items()})
    fresh: dict[TableName, set[bytes]] = {name: set(keys) for name, keys in start.items()}
    while fresh:
        name, keys = fresh.popitem()
        for key in cascades:
            if key.references != name:
                continue
            pointed = _values(rows(by_name[name]), by_name[name], key.referenced_columns, keys)
            hanging = _pointing(rows(by_name[key.table]), by_name[key.table], key.columns, pointed)
            new = hanging - chosen.keys.get(key.table, set())
            if new:
                chosen.keys.setdefault(key.table, set()).update(new)
                fresh.setdefault(key.table, set()).update(new)
    return chosen


def _values(rows: Iterable[bytes], table: Table, columns: tuple[str, ...], keys: set[bytes]) -> set[Values]:
    key = key_of(table.key_positions)
    value = _picking(table, columns)
    return {value(row) for row in rows if key(row) in keys}


def _pointing(rows: Iterable[bytes], table: Table, columns: tuple[str, ...], pointed: set[Values]) -> set[bytes]:
    if not table.key:
        return set()  # its rows cannot be told apart by name
    key = key_of(table.key_positions)
    value = _picking(table, columns)
    return {key(row) for row in rows if NULL not in value(row) and value(row) in pointed}


def _picking(table: Table, columns: tuple[str, ...]) -> Callable[[bytes], Values]:
    positions = [table.column_names.index(column) for column in columns]

    def pick(row: bytes) -> Values:
        values = row.split(b"\t")
        return tuple([values[position] for position in positions])

    return pick
