"""Shared rows that changed since the moment: told where restored rows point at them, and never changed.

All tenants share them, so that no one tenant's restore may take them back; whether `gold` still means what it meant is
for a person to say. Those that are gone are another matter: resolving.with_shared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock

import psycopg
from psycopg import sql

from outlast.core.errors import OutlastError, TransientError
from outlast.core.row import escape
from outlast.core.table import OwnershipKind, Table, TableName
from outlast.core.tenant import SHARED
from outlast.restore.difference import rows_of, shown_key
from outlast.restore.history import Past, PastTable
from outlast.restore.live import layout_of, read_chunks, read_run
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.schema import Catalog, ForeignKey
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_facts import WriteFacts
from outlast.sources.postgres.write_proof import matches_reference, referenced, wanted_references
from outlast.sources.postgres.write_stage import Stage

_ROWS_MAX = 200_000
_BYTES_MAX = 64 * 1024 * 1024
_SAMPLES_MAX = 5

Values = tuple[bytes, ...]
"""What foreign keys point at, as COPY fields."""


@dataclass(frozen=True, slots=True)
class _Drift:
    """What is different in one shared table: by the values pointed at, the columns. `reason`: why it is not known."""

    rows: dict[Values, tuple[str, ...]] = field(default_factory=dict)
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class SharedRows:
    """The shared tables held against the moment: each once a restore, and only those pointed at. Safe for lanes.

    `past` gives their stored state; None where that is not to be looked at.
    """

    past: Callable[[], Past] | None
    catalog: Catalog
    _known: dict[tuple[TableName, tuple[str, ...]], _Drift] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def look(self, reader: Session, tables: Iterable[TableName]) -> None:
        """Compare what these tables point at, in the reader's transaction, of which nothing is needed afterwards."""
        if self.past is None:
            return
        with self._lock:
            for key in self._keys(frozenset(tables)):
                place = key.references, key.referenced_columns
                if place not in self._known:
                    self._known[place] = self._compared(self.past, reader, *place)

    def notes(self, connection: Session, stage: Stage, facts: WriteFacts) -> tuple[str, ...]:
        """What to tell of the rows that staged rows point at."""
        tables = {table.name: table for table in self.catalog.tables}
        reasons: dict[str, None] = {}
        found: dict[tuple[TableName, tuple[str, ...]], set[Values]] = {}
        for key in self._keys(frozenset(stage.counts)):
            place = key.references, key.referenced_columns
            drift = self._known.get(place, _Drift())
            if drift.reason is not None:
                reasons[f"shared rows of {key.references} were not held against the moment: {drift.reason}"] = None
            if drift.rows:
                pointed = _pointed(connection, tables, key, stage, facts)
                found.setdefault(place, set()).update(drift.rows.keys() & pointed)
        changed = [_told(*place, rows, self._known[place]) for place, rows in sorted(found.items()) if rows]
        return (*changed, *reasons)

    def _keys(self, tables: frozenset[TableName]) -> Iterator[ForeignKey]:
        """Foreign keys from these tables to shared ones."""
        shared = {one.name for one in self.catalog.tables if one.ownership.kind is OwnershipKind.SHARED}
        yield from (
            key
            for key in self.catalog.foreign_keys
            if key.table in tables and key.table not in shared and key.references in shared and key.enforced
        )

    def _compared(self, past: Callable[[], Past], reader: Session, name: TableName, columns: tuple[str, ...]) -> _Drift:
        table = next(one for one in self.catalog.tables if one.name == name)
        try:
            then = past()
            stored = then.tables.get(name)
            if stored is None or not set(columns) <= set(stored.layout.columns):
                return _Drift(reason="the vault does not have them as of then")
            if stored.rows > _ROWS_MAX:
                return _Drift(reason=f"they are more than {_ROWS_MAX:,}; see outlast diff")
            return self._different(reader, then, stored, table, columns)
        except psycopg.Error as error:
            told = explain(error, f"read table {name}")
        except OutlastError as error:
            told = error
        if isinstance(told, TransientError):
            raise told
        return _Drift(reason=told.message)

    def _different(
        self, reader: Session, past: Past, stored: PastTable, table: Table, columns: tuple[str, ...]
    ) -> _Drift:
        live_types = {one.name: one.type for one in table.columns}
        then_types = dict(zip(stored.layout.columns, stored.types, strict=True))
        common = [name for name, kind in live_types.items() if then_types.get(name) == kind]
        run = read_run(reader, self.catalog, table, SHARED)
        if stored.layout == layout_of(table) and run.root == stored.root:
            return _Drift()
        then = dict(_picked(rows_of(past.read(stored)), stored.layout.columns, columns, common))
        blocks: Iterable[bytes] = run.kept or ()
        if run.kept is None:
            blocks = (chunk.data for chunk in read_chunks(reader, self.catalog, table, SHARED))
        different: dict[Values, tuple[str, ...]] = {}
        for values, now in _picked(rows_of(blocks), table.column_names, columns, common):
            was = then.get(values)
            if was is not None and was != now:
                different[values] = tuple(name for name, old, new in zip(common, was, now, strict=True) if old != new)
        return _Drift(different)


def _picked(
    rows: Iterable[bytes], columns: Sequence[str], pointed: Sequence[str], wanted: Sequence[str]
) -> Iterator[tuple[Values, Values]]:
    """Of each row what is pointed at, and the wanted columns. Raises OutlastError where they are too large to hold."""
    key = [columns.index(name) for name in pointed]
    rest = [columns.index(name) for name in wanted]
    size = 0
    for row in rows:
        size += len(row)
        if size > _BYTES_MAX:
            raise OutlastError("they are too large; see outlast diff")
        fields = row.split(b"\t")
        yield tuple(fields[one] for one in key), tuple(fields[one] for one in rest)


def _pointed(
    connection: Session, tables: dict[TableName, Table], key: ForeignKey, stage: Stage, facts: WriteFacts
) -> set[Values]:
    """The live rows that staged rows point at by a foreign key, by their own values: equal ones may look different."""
    texts = [
        sql.SQL("pg_catalog.format('%s', {})").format(sql.Identifier("r", name)) for name in key.referenced_columns
    ]
    query = sql.SQL("WITH wanted AS MATERIALIZED ({}) SELECT DISTINCT {} FROM wanted JOIN {} AS r ON {}").format(
        wanted_references(key, tables, stage, facts),
        sql.SQL(", ").join(texts),
        referenced(tables[key.references]),
        matches_reference(key, facts),
    )
    try:
        rows = connection.execute(query).fetchall()
    except psycopg.Error as error:
        raise explain(error, f"look at what rows of {key.table} point at") from error
    return {tuple(escape(text.encode("utf-8", "surrogateescape")) for text in row) for row in rows}


def _told(name: TableName, columns: tuple[str, ...], rows: set[Values], drift: _Drift) -> str:
    samples = [shown_key(b"\t".join(values)) for values in sorted(rows)[:_SAMPLES_MAX]]
    more = ", …" if len(rows) > _SAMPLES_MAX else ""
    keys = ", ".join(f"({one})" for one in samples)
    differing = sorted({column for values in rows for column in drift.rows[values]})
    number = "1 shared row" if len(rows) == 1 else f"{len(rows):,} shared rows"
    return (
        f"warning: restored rows point at {number} of {name} that changed since the moment, and stay as they are now:"
        f" {', '.join(columns)} = {keys}{more}; columns that differ: {', '.join(differing)}"
    )
