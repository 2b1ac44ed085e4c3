"""What the catalog says about writing some tables: operators, checks, defaults, and where triggers may be switched off.

Read in one go before rows are written, for the tables of the plan only. The catalog proper (catalog.py) has what all
commands need; this is what a writer alone asks for.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import sql

from outlast.core.table import Table, TableName
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.schema import Catalog, ForeignKey
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement
from outlast.sources.postgres.write_order import write_order
from outlast.sources.postgres.write_stage import Stage


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    expression: str


@dataclass(frozen=True, slots=True)
class AddedValue:
    """What a column gives a row that was stored before the column was: `missing`, else what its default computes."""

    missing: str | None
    default: str | None


@dataclass(frozen=True, slots=True)
class TriggerFact:
    """A user trigger that is not disabled. `operations` are i, u, d; `enabled` is O origin, A always or R replica."""

    name: str
    operations: frozenset[str]
    enabled: str

    def fires(self, operations: Collection[str], *, quiet: bool) -> bool:
        return bool(self.operations & set(operations)) and self.enabled in ("AR" if quiet else "AO")


@dataclass(frozen=True, slots=True)
class TriggerRules:
    """What outlast.toml says of triggers, named `schema.table.trigger`.

    Those in `fire` fire although the rows could be written without. What those in `accept` write to other tables is
    shown, and no reason to refuse.
    """

    fire: frozenset[str] = frozenset()
    accept: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class WriteFacts:
    """`loud` names the tables whose triggers have to fire, each with the reason; all others are written quietly."""

    loud: Mapping[TableName, str]
    triggers: Mapping[TableName, tuple[TriggerFact, ...]]
    foreign_key_operators: Mapping[tuple[TableName, str], tuple[sql.Composable, ...]] = field(default_factory=dict)
    index_operators: Mapping[tuple[TableName, str], tuple[sql.Composable, ...]] = field(default_factory=dict)
    checks: Mapping[TableName, tuple[Check, ...]] = field(default_factory=dict)
    added: Mapping[tuple[TableName, str], AddedValue] = field(default_factory=dict)
    key_operators: Mapping[TableName, tuple[sql.Composable, ...]] = field(default_factory=dict)
    partitions: Mapping[TableName, tuple[str, ...]] = field(default_factory=dict)  # what each leaf takes, as SQL
    generated: Mapping[TableName, tuple[tuple[str, str], ...]] = field(default_factory=dict)  # column, expression
    rules: TriggerRules = TriggerRules()

    def firing(self, table: TableName, operations: Collection[str], *, quiet: bool) -> tuple[str, ...]:
        """The triggers of a table that fire when such rows (i, u, d) are written."""
        found = self.triggers.get(table, ())
        return tuple(trigger.name for trigger in found if trigger.fires(operations, quiet=quiet))

    def touched(self, table: TableName, stage: Stage) -> frozenset[str]:
        """The columns that staged updates change, with the generated ones: each may follow from one of them."""
        touched = frozenset(stage.touched(table))
        return touched.union(name for name, _ in self.generated.get(table, ())) if touched else touched

    def key_operators_of(self, table: Table) -> tuple[sql.Composable, ...]:
        return self.key_operators.get(table.name, (_EQUAL,) * len(table.key))


_EQUAL = sql.SQL("OPERATOR(pg_catalog.=)")


def read_facts(
    connection: Session, catalog: Catalog, tables: Sequence[Table], rules: TriggerRules = TriggerRules()
) -> WriteFacts:
    """Read the facts of these tables, and of the foreign keys of all. Raises an OutlastError if it is not answered."""
    try:
        return _facts(connection, catalog, tables, rules)
    except psycopg.Error as error:
        raise explain(error, "read how the tables are to be written") from error


def _facts(connection: Session, catalog: Catalog, tables: Sequence[Table], rules: TriggerRules) -> WriteFacts:
    names = {table.oid: table.name for table in tables}
    everything = {table.oid: table.name for table in catalog.tables}

    def rows(file: str, oids: Collection[int] = names) -> list[tuple[Any, ...]]:
        return connection.execute(statement(file), {"tables": list(oids)}).fetchall()

    keys = rows("write_foreign_keys", everything)
    triggers: dict[TableName, tuple[TriggerFact, ...]] = {}
    for oid, name, kind, enabled in rows("write_triggers"):
        fact = TriggerFact(name, frozenset(one for bit, one in _TRIGGER_BITS if kind & bit), enabled)
        triggers[names[oid]] = (*triggers.get(names[oid], ()), fact)
    ours = [row for row in keys if row[0] in names]
    loud = _loud(_may_be_quiet(connection), names, ours, rows("write_hazards"))
    for table, facts in triggers.items():
        wanted = [fact.name for fact in facts if f"{table}.{fact.name}" in rules.fire]
        if wanted:
            loud.setdefault(table, f"outlast.toml has {', '.join(wanted)} fire")
    _spread(loud, names.values(), catalog.foreign_keys)
    checks: dict[TableName, tuple[Check, ...]] = {}
    for oid, name, expression in rows("write_checks"):
        checks[names[oid]] = (*checks.get(names[oid], ()), Check(name, expression))
    partitions: dict[TableName, tuple[str, ...]] = {}
    for oid, expression in rows("write_partitions"):
        partitions[names[oid]] = (*partitions.get(names[oid], ()), expression)
    generated: dict[TableName, tuple[tuple[str, str], ...]] = {}
    for oid, name, expression in rows("write_generated"):
        generated[names[oid]] = (*generated.get(names[oid], ()), (name, expression))
    index_operators = {
        (names[oid], name): _operators(schemas, ops) for oid, name, schemas, ops in rows("write_indexes")
    }
    return WriteFacts(
        loud,
        triggers,
        {(everything[oid], name): _operators(schemas, operators) for oid, name, schemas, operators, _, _ in keys},
        index_operators,
        checks,
        {(names[oid], name): AddedValue(missing, default) for oid, name, missing, default in rows("write_defaults")},
        _key_operators(catalog, tables, index_operators),
        partitions,
        generated,
        rules,
    )


_TRIGGER_BITS = ((4, "i"), (8, "d"), (16, "u"))  # pg_trigger.tgtype


def _key_operators(
    catalog: Catalog, tables: Sequence[Table], operators: Mapping[tuple[TableName, str], tuple[sql.Composable, ...]]
) -> dict[TableName, tuple[sql.Composable, ...]]:
    """By which operators the key's columns are equal: those of the index that makes them a key (citext has its own)."""
    found = {}
    for table in tables:
        for index in catalog.unique_indexes:
            if index.table == table.name and index.columns and set(index.columns) == set(table.key):
                by_column = dict(zip(index.columns, operators[table.name, index.name], strict=True))
                found[table.name] = tuple(by_column[column] for column in table.key)
                break
    return found


def _loud(
    may_be_quiet: bool,
    names: Mapping[int, TableName],
    keys: Sequence[tuple[Any, ...]],
    hazards: Sequence[tuple[Any, ...]],
) -> dict[TableName, str]:
    """The tables whose triggers cannot be switched off, or not soundly, each with the first reason found."""
    if not may_be_quiet:
        return dict.fromkeys(names.values(), "this role may not set session_replication_role")
    loud: dict[TableName, str] = {}
    for oid, name, _, _, lockable, period in keys:
        if not lockable:
            loud.setdefault(names[oid], f"this role may not lock the rows that {name} points at")
        if period:
            loud.setdefault(names[oid], f"{name} compares periods")
    for oid, deferrable, partition_keys in hazards:
        if deferrable:
            loud.setdefault(names[oid], "it has a deferrable unique or an exclusion constraint")
        if partition_keys:
            loud.setdefault(names[oid], "a partition has foreign keys of its own")
    return loud


def _spread(loud: dict[TableName, str], tables: Collection[TableName], foreign_keys: Sequence[ForeignKey]) -> None:
    """A cycle of tables is written by one statement, so all of it is loud where one table is."""
    for group in write_order(tables, foreign_keys):
        first = next((table for table in group if table in loud), None)
        if first is not None:
            for table in group:
                loud.setdefault(table, f"it is written together with {first}")


_LITERAL = re.compile(r"""\(*(?:'(?:[^']|'')*'|-?[0-9.]+(?:e[+-]?[0-9]+)?|true|false)\)*(?:::[\w\s."\[\](),]+)?""")


def evaluate_default(connection: Session, expression: str) -> str | None:
    """The text of a column default that is a constant, or None for one that has to be computed for each row."""
    if not _LITERAL.fullmatch(expression):
        return None
    query = sql.SQL("SELECT pg_catalog.format('%s', {})").format(sql.SQL(expression))
    try:
        row = connection.execute(query).fetchone()
    except psycopg.Error as error:
        raise explain(error, "evaluate a column's default") from error
    assert row is not None
    return str(row[0])


def _may_be_quiet(connection: Session) -> bool:
    row = connection.execute(b"SELECT pg_catalog.has_parameter_privilege('session_replication_role', 'SET')").fetchone()
    return row is not None and bool(row[0])


def _operators(schemas: Sequence[str], operators: Sequence[str]) -> tuple[sql.Composable, ...]:
    # An operator's name is made of symbols only, and comes from the catalog: it is no identifier to be quoted.
    return tuple(
        sql.SQL("OPERATOR({}.{})").format(sql.Identifier(schema), sql.SQL(operator))
        for schema, operator in zip(schemas, operators, strict=True)
    )
