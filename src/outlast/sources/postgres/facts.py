"""What the catalog queries return, as typed values with names: the last place that knows the order of their columns."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg

from outlast.core.row import KeyKind
from outlast.core.table import Column, TableName
from outlast.sources.postgres.schema import ForeignKey, SequenceUse, Trigger
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.signature import TypeFacts
from outlast.sources.postgres.statements import statement


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation that is no partition: r table, p partitioned table, f foreign table, m materialized view."""

    oid: int
    name: TableName
    kind: str
    file_number: int
    only: bool
    other_storage: bool
    unlogged: bool
    has_foreign: bool
    partitions: str
    size_bytes: int
    extension: str | None
    extension_config: bool
    has_rule: bool

    @property
    def partitioned(self) -> bool:
        return self.kind == "p"


@dataclass(frozen=True, slots=True)
class ColumnFacts:
    """A column as stored, dropped ones too. `missing` is what rows older than the column read as."""

    table_oid: int
    number: int
    name: str
    type_oid: int
    modifier: int
    type: str
    not_null: bool
    identity: str
    generated: str  # "" | "s" stored | "v" virtual
    dropped: bool
    missing: str | None
    version: str
    expression: str | None
    loose_collation: bool

    @property
    def public(self) -> Column:
        return Column(self.name, self.type, self.not_null, self.identity)

    @property
    def described(self) -> tuple[object, ...]:
        """All that can decide how a stored row reads."""
        return (
            self.number,
            self.name,
            self.type_oid,
            self.modifier,
            self.type,
            self.generated,
            self.dropped,
            self.missing,
            self.version,
            self.expression,
        )


@dataclass(frozen=True, slots=True)
class IndexFacts:
    """An index. `column_names` is empty where one of its terms is an expression."""

    name: str
    table_oid: int
    unique: bool
    primary: bool
    exclusion: bool
    immediate: bool
    nulls_not_distinct: bool
    column_names: tuple[str, ...]
    expressions: tuple[str, ...]
    predicate: str | None
    constraint: str | None
    btree: bool


@dataclass(frozen=True)
class Facts:
    """Everything that was read. `relations` holds foreign tables and materialized views too; `tables` does not."""

    database: str
    database_oid: int
    encoding: str
    server_version: int
    in_recovery: bool
    has_large_objects: bool
    system_identifier: str
    timeline: int  # 0: could not be read
    relations: tuple[Relation, ...]
    columns: tuple[ColumnFacts, ...]
    types: dict[int, TypeFacts]
    foreign_keys: tuple[ForeignKey, ...]
    indexes: tuple[IndexFacts, ...]
    sequences: tuple[SequenceUse, ...]
    triggers: tuple[Trigger, ...]
    tables: tuple[Relation, ...] = field(init=False)
    by_oid: dict[int, Relation] = field(init=False)
    by_name: dict[TableName, Relation] = field(init=False)
    _columns: dict[int, list[ColumnFacts]] = field(init=False, repr=False)
    _indexes: dict[int, list[IndexFacts]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        columns: dict[int, list[ColumnFacts]] = defaultdict(list)
        for column in self.columns:
            columns[column.table_oid].append(column)
        indexes: dict[int, list[IndexFacts]] = defaultdict(list)
        for index in self.indexes:
            indexes[index.table_oid].append(index)
        tables = tuple(relation for relation in self.relations if relation.kind in ("r", "p"))
        for name, value in (
            ("tables", tables),
            ("by_oid", {relation.oid: relation for relation in tables}),
            ("by_name", {relation.name: relation for relation in tables}),
            ("_columns", dict(columns)),
            ("_indexes", dict(indexes)),
        ):
            object.__setattr__(self, name, value)

    def columns_of(self, table_oid: int) -> Sequence[ColumnFacts]:
        """Every column, dropped and generated ones too."""
        return self._columns.get(table_oid, ())

    def live_columns(self, table_oid: int) -> list[ColumnFacts]:
        return [column for column in self.columns_of(table_oid) if not column.dropped]

    def column(self, table_oid: int, name: str) -> ColumnFacts:
        return next(column for column in self.live_columns(table_oid) if column.name == name)

    def indexes_of(self, table_oid: int) -> Sequence[IndexFacts]:
        return self._indexes.get(table_oid, ())

    def keys(self, relation: Relation) -> list[IndexFacts]:
        """The indexes that can identify a row, best first: the primary key, then the narrowest.

        Only stored NOT NULL columns count, and an index that is unique at every moment and over every row. A primary
        key may be deferrable: what a snapshot sees has been checked.
        """
        columns = {column.name: column for column in self.live_columns(relation.oid)}
        fit = [
            index
            for index in self.indexes_of(relation.oid)
            if (index.primary or (index.unique and index.immediate and not index.exclusion))
            and index.predicate is None
            and index.column_names
            and all(columns[name].not_null and not columns[name].generated for name in index.column_names)
        ]
        return sorted(fit, key=lambda index: (not index.primary, len(index.column_names), index.name))

    def base_type(self, type_oid: int) -> str:
        """The type's name, of a domain its base's: `integer`, `character varying`, `citext`."""
        facts = self.types[type_oid]
        while facts.kind == "d":
            facts = self.types[facts.base]
        return _SQL_NAMES.get(facts.name, facts.name)

    def key_kind(self, column: ColumnFacts) -> KeyKind:
        base = self.base_type(column.type_oid)
        return KeyKind.INTEGER if base in ("smallint", "integer", "bigint") else KeyKind.TEXT


_SQL_NAMES = {
    "int2": "smallint",
    "int4": "integer",
    "int8": "bigint",
    "varchar": "character varying",
    "bpchar": "character",
}


def read_facts(connection: Session) -> Facts:
    """Run the catalog queries. Raises psycopg's errors."""
    server = _rows(connection, "catalog_server")[0]
    database, database_oid, encoding, version, in_recovery, may_read_control, has_large_objects = server
    relations = tuple(
        Relation(row[0], TableName(row[1], row[2]), *row[3:]) for row in _rows(connection, "catalog_tables")
    )
    names = {relation.oid: relation.name for relation in relations if relation.kind in ("r", "p")}
    columns = tuple(ColumnFacts(*row) for row in _rows(connection, "catalog_columns"))
    indexes = _read_indexes(connection, columns)
    return Facts(
        database=database,
        database_oid=database_oid,
        encoding=encoding,
        server_version=version,
        in_recovery=in_recovery,
        has_large_objects=has_large_objects,
        system_identifier=_rows(connection, "catalog_identifier")[0][0] if may_read_control else "",
        timeline=_read_timeline(connection, in_recovery=in_recovery),
        relations=relations,
        columns=columns,
        types=_read_types(connection),
        foreign_keys=_read_foreign_keys(connection, names, columns, indexes),
        indexes=indexes,
        sequences=tuple(
            SequenceUse(TableName(row[0], row[1]), names[row[2]], row[3], row[4])
            for row in _rows(connection, "catalog_sequences")
            if row[2] in names
        ),
        triggers=tuple(
            Trigger(row[0], names[row[1]], row[2], _event(row[3]))
            for row in _rows(connection, "catalog_triggers")
            if row[1] in names
        ),
    )


def _rows(connection: Session, name: str) -> list[tuple[Any, ...]]:
    return connection.execute(statement(name)).fetchall()


def _read_timeline(connection: Session, *, in_recovery: bool) -> int:
    """The timeline, or 0 where the server will not tell (some managed ones do not have these functions)."""
    name = "catalog_timeline_standby" if in_recovery else "catalog_timeline_primary"
    try:
        with connection.transaction():  # a savepoint: the caller's transaction must outlive a refusal
            rows = _rows(connection, name)
    except (
        psycopg.errors.InsufficientPrivilege,
        psycopg.errors.FeatureNotSupported,
        psycopg.errors.ObjectNotInPrerequisiteState,
    ):
        # Not silent: timeline 0 makes every signature new, and notices.py says that all is read again each time.
        return 0
    return int(rows[0][0]) if rows and rows[0][0] is not None else 0


def _read_types(connection: Session) -> dict[int, TypeFacts]:
    rows = ([*row[:8], tuple(sorted(set(row[8]))), row[9]] for row in _rows(connection, "catalog_types"))
    types = (TypeFacts(*row) for row in rows)
    return {facts.oid: facts for facts in types}


def _read_indexes(connection: Session, columns: tuple[ColumnFacts, ...]) -> tuple[IndexFacts, ...]:
    names = {(column.table_oid, column.number): column.name for column in columns}
    indexes = []
    for name, table, unique, primary, exclusion, immediate, distinct, numbers, *rest in _rows(
        connection, "catalog_indexes"
    ):
        expressions, predicate, constraint, btree = rest
        plain = tuple(names[table, number] for number in numbers if number) if all(numbers) else ()
        indexes.append(
            IndexFacts(
                name,
                table,
                unique,
                primary,
                exclusion,
                immediate,
                distinct,
                plain,
                tuple(expressions),
                predicate,
                constraint,
                btree,
            )
        )
    return tuple(indexes)


def _read_foreign_keys(
    connection: Session,
    names: dict[int, TableName],
    columns: tuple[ColumnFacts, ...],
    indexes: tuple[IndexFacts, ...],
) -> tuple[ForeignKey, ...]:
    not_null = {(column.table_oid, column.name) for column in columns if column.not_null and not column.dropped}
    leading: dict[int, list[tuple[str, ...]]] = defaultdict(list)
    for index in indexes:
        if index.btree and index.predicate is None and index.column_names:
            leading[index.table_oid].append(index.column_names)
    keys = []
    for row in _rows(connection, "catalog_foreign_keys"):
        name, table, own, parent, theirs, deferrable, deferred, validated, enforced, full, on_delete, period, equal = (
            row
        )
        if table not in names or parent not in names:
            continue
        keys.append(
            ForeignKey(
                name=name,
                table=names[table],
                columns=tuple(own),
                references=names[parent],
                referenced_columns=tuple(theirs),
                deferrable=deferrable,
                initially_deferred=deferred,
                validated=validated,
                enforced=enforced,
                match_full=full,
                on_delete=on_delete,
                nullable=any((table, column) not in not_null for column in own),
                indexed=any(set(index[: len(own)]) == set(own) for index in leading[table]),
                period=period,
                operators=tuple(equal),
            )
        )
    return tuple(keys)


_EVENTS = ((4, "INSERT"), (8, "DELETE"), (16, "UPDATE"), (32, "TRUNCATE"))


def _event(bits: int) -> str:
    """pg_trigger.tgtype in words."""
    when = "INSTEAD OF" if bits & 64 else "BEFORE" if bits & 2 else "AFTER"
    events = " OR ".join(word for bit, word in _EVENTS if bits & bit)
    return f"{when} {events} FOR EACH {'ROW' if bits & 1 else 'STATEMENT'}"
