"""Changes of tables' definitions, as `follow` and the tripwire see them: what a message of the event triggers says, and
what came of a table between two looks at it.

Owns the shape of a table (its columns by number, so that a renamed column is told from a dropped and an added one) and
the JSON of the messages, whose other half is sql/schema_*.sql. Where there are no event triggers, `catalog_changes`
finds the same events by comparing catalogs: their place among the changes is then not known (`exact` is False).

A message can be written by anybody who may connect, so one is never believed to be well formed (what a well-formed
forgery could do is in docs/THREATS.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import psycopg

from outlast.core.table import TableName
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.schema_trigger import shape_query
from outlast.sources.postgres.session import Session

PREFIX = "outlast.schema"
"""The prefix of our logical messages."""


class EventKind(StrEnum):
    TABLE = "table"  # made or altered; `shape` is how it looks now
    REWRITE = "rewrite"  # about to be rewritten: what its rows say may change, and the log does not show how
    DROP = "drop"
    PUBLICATION = "publication"  # a publication, or a table's place in one; `because` says which, `name` the table
    MISSED = "missed"  # a change of which nothing is known: everything may be different


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """A column. `name` is None where it was dropped. `missing` is what rows older than the column read as."""

    number: int
    name: str | None
    type: str = ""
    not_null: bool = False
    default: bool = False  # it has a default, an identity or a domain's type: an added one may not be NULL everywhere
    generated: str = ""  # "" | "s" stored | "v" virtual
    missing: str | None = None


@dataclass(frozen=True, slots=True)
class TableShape:
    """How a table or leaf looked. `leaves` are the numbers of a partitioned table's leaves."""

    oid: int
    name: TableName
    kind: str  # r table or leaf, p partitioned, f foreign
    persistence: str
    identity: str
    root_oid: int | None
    root: TableName | None
    leaves: tuple[int, ...]
    columns: tuple[ColumnShape, ...]
    key: tuple[int, ...] = ()  # the numbers of the columns of Outlast's key

    @property
    def live(self) -> tuple[ColumnShape, ...]:
        return tuple(column for column in self.columns if column.name is not None)


@dataclass(frozen=True, slots=True)
class SchemaEvent:
    """One table that one command touched. `exact`: it came in the log, in its place among the changes."""

    kind: EventKind
    command: str  # the command's tag: ALTER TABLE, DROP SCHEMA …
    oid: int = 0
    name: TableName | None = None
    shape: TableShape | None = None
    because: str | None = None  # the type that was altered, "cascade", a publication's name, an error's SQLSTATE
    exact: bool = True


def parse(content: bytes) -> SchemaEvent:
    """The event of a message with our PREFIX. One that cannot be read is an event of kind MISSED."""
    try:
        return _event(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return SchemaEvent(EventKind.MISSED, "", because="unreadable")


def _event(said: dict[str, Any]) -> SchemaEvent:
    kind, command = EventKind(said["event"]), str(said["command"])
    because = None if said.get("because") is None else str(said["because"])
    if kind is EventKind.MISSED:
        return SchemaEvent(kind, command, because=because)
    if kind is EventKind.PUBLICATION:
        table, publication = _place(because or "")
        return SchemaEvent(kind, command, name=table, because=publication)
    table = said["table"]
    name = TableName(str(table["schema"]), str(table["name"]))
    shape = None if kind is EventKind.DROP else _shape(table)
    return SchemaEvent(kind, command, int(table["oid"]), name, shape, because)


_NAME = r'"(?:[^"]|"")+"|[^".]+'
_PLACE = re.compile(rf"(?P<schema>{_NAME})\.(?P<table>{_NAME}) in publication (?P<publication>.+)")


def _place(identity: str) -> tuple[TableName | None, str]:
    """The table and the publication of an object's identity, as the server writes it, both without quotes."""
    match = _PLACE.fullmatch(identity)
    if match is None:
        return None, _bare(identity)
    return TableName(_bare(match["schema"]), _bare(match["table"])), _bare(match["publication"])


def _bare(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') and name.endswith('"') else name


def _shape(table: dict[str, Any]) -> TableShape:
    root = table.get("root")
    return TableShape(
        int(table["oid"]),
        TableName(str(table["schema"]), str(table["name"])),
        str(table["kind"]),
        str(table["persistence"]),
        str(table["identity"]),
        None if root is None else int(root["oid"]),
        None if root is None else TableName(str(root["schema"]), str(root["name"])),
        tuple(int(oid) for oid in table.get("leaves") or ()),
        tuple(_column(column) for column in table.get("columns") or ()),
        tuple(int(number) for number in table.get("key") or ()),
    )


def _to_json(shape: TableShape) -> dict[str, object]:
    root = shape.root
    return {
        "oid": shape.oid,
        "schema": shape.name.schema,
        "name": shape.name.name,
        "kind": shape.kind,
        "persistence": shape.persistence,
        "identity": shape.identity,
        "root": None if root is None else {"oid": shape.root_oid, "schema": root.schema, "name": root.name},
        "leaves": list(shape.leaves),
        "key": list(shape.key),
        "columns": [
            {
                "number": column.number,
                "name": column.name,
                "type": column.type,
                "not_null": column.not_null,
                "default": column.default,
                "generated": column.generated,
                "missing": None if column.missing is None else literal(column.missing),
            }
            for column in shape.columns
        ],
    }


def literal(text: str) -> str:
    """The array literal of which `element` gives the text back."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{{"{escaped}"}}'


def _column(column: dict[str, Any]) -> ColumnShape:
    name, missing = column.get("name"), column.get("missing")
    return ColumnShape(
        int(column["number"]),
        None if name is None else str(name),
        str(column.get("type", "")),
        bool(column.get("not_null")),
        bool(column.get("default")),
        str(column.get("generated", "")),
        None if missing is None else element(str(missing)),
    )


_ELEMENT = re.compile(r'\{(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^"{}]*))\}', re.DOTALL)


def element(literal: str) -> str | None:
    """The text of the one element of an array literal, which pg_attribute keeps a missing value in."""
    match = _ELEMENT.fullmatch(literal)
    if match is None:
        raise ValueError("not an array of one element")
    if match["quoted"] is not None:
        return re.sub(r"\\(.)", r"\1", match["quoted"], flags=re.DOTALL)
    return None if match["plain"] == "NULL" else match["plain"]


# What came of a table ----------------------------------------------------------------------------------------------


class ChangeKind(StrEnum):
    CREATED = "created"
    DROPPED = "dropped"
    RENAMED = "renamed"  # or moved to another schema
    COLUMN_ADDED = "column-added"
    COLUMN_DROPPED = "column-dropped"
    COLUMN_RENAMED = "column-renamed"
    COLUMN_RETYPED = "column-retyped"
    REINTERPRETED = "reinterpreted"  # a type it holds was altered: the same bytes may read differently
    REWRITTEN = "rewritten"
    ATTACHED = "attached"  # a leaf came to it, with rows perhaps that were never sent
    DETACHED = "detached"  # a leaf left it, its rows with it
    IDENTITY = "identity"
    KEY = "key"  # other columns are Outlast's key: rows are ordered and named otherwise
    PERSISTENCE = "persistence"  # logged or unlogged since
    PUBLICATION = "publication"  # `now` names it: what of `table` (None: of any) was published until then is not sure
    MISSED = "missed"


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """`former` and `now` are names or types; `column` the number of the column; `leaf` that of a partition.

    `root` is set where `table` is a leaf. `known`: what older rows say now follows from what they said before, and from
    `missing` for a column that was added. Where it does not, the table has to be read again, and moments until then are
    inexact.
    """

    kind: ChangeKind
    table: TableName | None
    former: str | None = None
    now: str | None = None
    column: int = 0
    leaf: int = 0
    missing: str | None = None
    known: bool = True
    oid: int = 0
    root: TableName | None = None


def changes_of(before: TableShape | None, event: SchemaEvent) -> tuple[SchemaChange, ...]:
    """What an event changed in a table that looked like `before` (None: it was not known)."""
    if event.kind is EventKind.PUBLICATION:
        return (SchemaChange(ChangeKind.PUBLICATION, event.name, now=event.because, known=False),)
    if event.kind is EventKind.MISSED:
        return (SchemaChange(ChangeKind.MISSED, None, known=False),)
    if event.kind is EventKind.DROP:
        found = [SchemaChange(ChangeKind.DROPPED, event.name, former=str(event.name), known=False)]
    elif event.kind is EventKind.REWRITE:
        found = [SchemaChange(ChangeKind.REWRITTEN, event.name, known=False)]
    elif before is None:
        found = [SchemaChange(ChangeKind.CREATED, event.name, now=str(event.name), known=_is_new(event))]
    else:
        assert event.shape is not None
        found = list(_between(before, event.shape))
    if event.kind is EventKind.TABLE and event.because is not None and event.command in ("ALTER TYPE", "ALTER DOMAIN"):
        found.append(SchemaChange(ChangeKind.REINTERPRETED, event.name, now=event.because, known=False))
    shape = event.shape or before
    return tuple(replace(one, oid=event.oid, root=shape.root if shape else None) for one in found)


class Shapes:
    """How every table looks at a position of the log, brought forward by its events, in their order."""

    def __init__(self, known: Mapping[int, TableShape]) -> None:
        self._known = dict(known)

    @property
    def known(self) -> Mapping[int, TableShape]:
        return self._known

    def apply(self, event: SchemaEvent) -> tuple[SchemaChange, ...]:
        """What the event changed. A leaf that was made as one is attached, empty; a dropped one leaves its root."""
        before = self._known.get(event.oid)
        changes = changes_of(before, event)
        if event.kind is EventKind.DROP:
            self._known.pop(event.oid, None)
            holder = next((one for one in self._known.values() if event.oid in one.leaves), None)
            if holder is not None:
                left = tuple(leaf for leaf in holder.leaves if leaf != event.oid)
                self._known[holder.oid] = replace(holder, leaves=left)
                changes = tuple(replace(one, root=holder.name) for one in changes)
        elif event.kind is EventKind.TABLE and event.shape is not None:
            changes = self._looked(before, event.shape, changes)
        return changes

    def _looked(
        self, before: TableShape | None, shape: TableShape, changes: tuple[SchemaChange, ...]
    ) -> tuple[SchemaChange, ...]:
        if shape.root_oid is None:
            self._known[shape.oid] = shape
            for leaf in shape.leaves:
                self._known.pop(leaf, None)  # leaves are told of by their root
            return changes
        root = self._known.get(shape.root_oid)
        if shape.kind == "p" or root is None:  # its root's event comes in the same transaction, or is nobody's
            return ()
        if shape.oid in root.leaves:
            return tuple(one for one in changes if one.kind is not ChangeKind.CREATED)
        self._known.pop(shape.oid, None)
        self._known[root.oid] = replace(root, leaves=tuple(sorted((*root.leaves, shape.oid))))
        empty = before is None and all(one.known for one in changes)
        return (SchemaChange(ChangeKind.ATTACHED, root.name, leaf=shape.oid, known=empty, oid=root.oid),)

    def to_bytes(self) -> bytes:
        return json.dumps([_to_json(shape) for shape in self._known.values()]).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Shapes:
        return cls({shape.oid: shape for shape in map(_shape, json.loads(data))})


def _is_new(event: SchemaEvent) -> bool:
    """Whether an unknown table is empty of what was not sent: CREATE TABLE AS sends its rows as inserts."""
    return event.exact and event.command in ("CREATE TABLE", "CREATE TABLE AS", "SELECT INTO", "CREATE SCHEMA")


def _between(before: TableShape, now: TableShape) -> Iterator[SchemaChange]:
    name = now.name
    if before.name != now.name:
        yield SchemaChange(ChangeKind.RENAMED, name, str(before.name), str(now.name))
    if before.identity != now.identity:
        yield SchemaChange(ChangeKind.IDENTITY, name, before.identity, now.identity)
    if before.key != now.key:
        yield SchemaChange(ChangeKind.KEY, name, _numbers(before.key), _numbers(now.key), known=False)
    if before.persistence != now.persistence:
        yield SchemaChange(ChangeKind.PERSISTENCE, name, before.persistence, now.persistence, known=False)
    if (before.root_oid is None) != (now.root_oid is None):
        kind = ChangeKind.ATTACHED if now.root_oid is not None else ChangeKind.DETACHED
        yield SchemaChange(kind, now.root or before.root, leaf=now.oid, known=False)
    for leaf in sorted(set(now.leaves) - set(before.leaves)):
        yield SchemaChange(ChangeKind.ATTACHED, name, leaf=leaf, known=False)
    for leaf in sorted(set(before.leaves) - set(now.leaves)):
        yield SchemaChange(ChangeKind.DETACHED, name, leaf=leaf, known=False)
    yield from _columns(before, now)


def _numbers(key: tuple[int, ...]) -> str:
    return ", ".join(map(str, key))


def _columns(before: TableShape, now: TableShape) -> Iterator[SchemaChange]:
    known = {column.number: column for column in before.live}
    for column in now.columns:
        old, number = known.pop(column.number, None), column.number
        if column.name is None:
            if old is not None:
                yield SchemaChange(ChangeKind.COLUMN_DROPPED, now.name, old.name, column=number)
        elif old is None:
            certain = column.missing is not None or not column.default or bool(column.generated)
            yield SchemaChange(
                ChangeKind.COLUMN_ADDED, now.name, None, column.name, number, missing=column.missing, known=certain
            )
        else:
            if old.name != column.name:
                yield SchemaChange(ChangeKind.COLUMN_RENAMED, now.name, old.name, column.name, number)
            if old.type != column.type or old.generated != column.generated:
                yield SchemaChange(ChangeKind.COLUMN_RETYPED, now.name, old.type, column.type, number, known=False)
    for old in known.values():  # only where the columns of another table were compared
        yield SchemaChange(ChangeKind.COLUMN_DROPPED, now.name, old.name, column=old.number)


# By looking --------------------------------------------------------------------------------------------------------

_EVERY = "SELECT k.oid FROM pg_catalog.pg_class AS k WHERE k.relkind IN ('r', 'p') AND NOT k.relispartition"


def read_shapes(session: Session) -> dict[int, TableShape]:
    """Every table but the partitions, by its number: what `changes_of` and `catalog_changes` compare with."""
    try:
        rows = session.execute(shape_query(_EVERY).encode()).fetchall()
    except psycopg.Error as error:
        raise explain(error, "look for schema changes in the catalog") from error
    return {oid: _shape(shape) for oid, shape in rows}


def catalog_changes(
    session: Session, known: Mapping[int, TableShape]
) -> tuple[tuple[SchemaEvent, ...], dict[int, TableShape]]:
    """What happened since `known` was read, and what is known now. For servers without event triggers.

    What it cannot see: a table that was rewritten to the same shape, a type that was altered, and everything that was
    undone between two looks.
    """
    now = read_shapes(session)
    events = [
        SchemaEvent(EventKind.TABLE, "", oid, shape.name, shape, exact=False)
        for oid, shape in now.items()
        if known.get(oid) != shape
    ]
    events += [
        SchemaEvent(EventKind.DROP, "", oid, shape.name, exact=False) for oid, shape in known.items() if oid not in now
    ]
    return tuple(events), now
