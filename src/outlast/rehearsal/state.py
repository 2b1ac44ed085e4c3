"""The state of a copy beside its rows: schema, roles, grants, sequences, where tables are stored, large objects.

Read before a script and after it; the difference is what the script did there (pure).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from outlast.core.tenant import TenantKey
from outlast.rehearsal.observed import Alteration, SchemaChange, SequenceMove
from outlast.sources.postgres.statements import statement

Object = tuple[str, str]
"""(kind, name)."""

_BEARING = frozenset({"table", "column", "sequence", "foreign table"})
"""Kinds with which data goes, or a position that nothing brings back."""


@dataclass(frozen=True, slots=True)
class State:
    """One reading. `files` gives each table's storage by oid, `objects` of the catalog their definitions."""

    objects: Mapping[Object, str]
    files: Mapping[int, tuple[str, int | None]]
    sequences: Mapping[str, int | None]
    large_objects: Mapping[int, str]


def read_state(connection: psycopg.Connection[Any], *, large_objects: bool = True) -> State:
    """Of a session whose search_path is pg_catalog alone, so that definitions are spelt in full.

    Without `large_objects` any role may read it, and it costs nothing where there are many.
    """
    with connection.transaction():
        # A script's temporary table named pg_class would come first, were pg_temp not named last
        connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
        found = connection.execute(statement("rehearsal_state")).fetchall()
        objects = {(kind, name): definition or "" for kind, name, definition in found}
        for name, digest in _passwords(connection):
            objects["role", name] = f"{objects.get(('role', name), '')} password {digest}"
        return State(
            objects,
            {oid: (name, file) for oid, name, file in connection.execute(statement("rehearsal_files"))},
            dict(connection.execute(statement("rehearsal_sequences")).fetchall()),
            dict(connection.execute(statement("rehearsal_objects")).fetchall()) if large_objects else {},
        )


def object_writes(connection: psycopg.Connection[Any]) -> int:
    """What the open transaction wrote to large objects, and maybe the one before it: only differences count."""
    row = connection.execute(statement("run_objects")).fetchone()
    assert row is not None
    return int(row[0])


def _passwords(connection: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    row = connection.execute("SELECT has_table_privilege('pg_catalog.pg_authid', 'SELECT')").fetchone()
    return connection.execute(statement("rehearsal_passwords")).fetchall() if row is not None and row[0] else []


def schema_changes(
    before: State, after: State, dropped: Iterable[SchemaChange], rows: Mapping[tuple[TenantKey, str], int]
) -> tuple[SchemaChange, ...]:
    """What is not as it was. `dropped` are objects that went, as an event trigger says, be they back or not."""
    found = {(change.kind, change.name, change.alteration): change for change in _differences(before, after)}
    for change in dropped:
        found.setdefault((change.kind, change.name, change.alteration), change)
    told = [_with_rows(change, rows) for change in found.values()]
    gone = {change.name for change in told if change.kind == "table" and change.alteration is Alteration.DROPPED}
    kept = [change for change in told if not _goes_with(change, gone)]
    return tuple(sorted(kept, key=lambda change: (not change.irreversible, change.kind, change.name)))


def _differences(before: State, after: State) -> Iterator[SchemaChange]:
    for place in before.objects.keys() | after.objects.keys():
        was, now = before.objects.get(place), after.objects.get(place)
        kind, name = place
        if was is None:
            yield SchemaChange(Alteration.ADDED, kind, name, after=_shown(now or ""))
        elif now is None:
            yield SchemaChange(Alteration.DROPPED, kind, name, _shown(was), irreversible=kind in _BEARING)
        elif was != now:
            lossy = kind == "column" and _loses(_type(was), _type(now))
            lossy = lossy or (kind == "type" and not now.startswith(was) and was.startswith("e"))
            yield SchemaChange(Alteration.CHANGED, kind, name, _shown(was), _shown(now), irreversible=lossy)


_HASH = re.compile(r"\b[0-9a-f]{32}\b")
_TYPE_END = re.compile(r" (?:not null|default .*|identity.*|stored|virtual)$")
_SIZE = re.compile(r"^(character varying|character|numeric|bit varying|timestamp|time)(?:\((\d+)(?:,(\d+))?\))?(.*)$")
_WIDER = {
    "smallint": {"integer", "bigint", "numeric"},
    "integer": {"bigint", "numeric"},
    "bigint": {"numeric"},
    "real": {"double precision"},
    "character varying": {"text"},
    "date": {"timestamp without time zone", "timestamp with time zone"},
}


def _shown(definition: str) -> str:
    """A definition for people: what only a hash stands for is not shown."""
    return _HASH.sub("…", definition).strip()


def _type(definition: str) -> str:
    text = definition
    while (cut := _TYPE_END.sub("", text)) != text:
        text = cut
    return text


def _loses(was: str, now: str) -> bool:
    """Whether a column of the second type may hold less than one of the first: unless it is known not to."""
    if was == now:
        return False
    old, new = _SIZE.match(was), _SIZE.match(now)
    if old and new and old[1] == new[1] and old[4] == new[4]:
        if old[2] is None or new[2] is None:
            return new[2] is not None
        places = int(new[3] or 0) - int(old[3] or 0)
        return places < 0 or int(new[2]) - int(new[3] or 0) < int(old[2]) - int(old[3] or 0)
    base = old[1] if old else was
    return now not in _WIDER.get(base, set())


def _with_rows(change: SchemaChange, rows: Mapping[tuple[TenantKey, str], int]) -> SchemaChange:
    if change.alteration is not Alteration.DROPPED or change.kind not in ("table", "column"):
        return change
    table = change.name if change.kind == "table" else change.name.rpartition(".")[0]
    lost = {tenant: number for (tenant, name), number in rows.items() if name == table and number}
    return SchemaChange(change.alteration, change.kind, change.name, change.before, change.after, True, lost)


def _goes_with(change: SchemaChange, gone: set[str]) -> bool:
    """Whether this went because its table did: one line says it."""
    if change.alteration is not Alteration.DROPPED or change.kind == "table":
        return False
    if change.kind in ("column", "constraint", "trigger", "policy", "rule"):
        return change.name.rpartition(".")[0] in gone
    if change.kind == "index":
        return any(f" ON {table} " in change.before or f" ON ONLY {table} " in change.before for table in gone)
    if change.kind == "grant":
        return change.name.partition(" on ")[2] in gone
    return False


def rewritten(before: State, after: State) -> tuple[str, ...]:
    """Tables that were there and are, and store their rows elsewhere."""
    return tuple(
        sorted(name for oid, (name, file) in before.files.items() if oid in after.files and after.files[oid][1] != file)
    )


def sequence_moves(before: State, after: State) -> tuple[SequenceMove, ...]:
    """Sequences that stand elsewhere; those that came or went are schema changes."""
    return tuple(
        SequenceMove(name, was, after.sequences[name])
        for name, was in sorted(before.sequences.items())
        if name in after.sequences and after.sequences[name] != was
    )


def large_objects_changed(before: State, after: State) -> int:
    names = before.large_objects.keys() | after.large_objects.keys()
    return sum(1 for name in names if before.large_objects.get(name) != after.large_objects.get(name))
