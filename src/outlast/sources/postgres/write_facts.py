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
from outlast.sources.postgres.schema import ForeignKey
from outlast.sources.postgres.session import Session, explain
from outlast.sources.postgres.statements import statement
from outlast.sources.postgres.write_order import write_order


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
class WriteFacts:
    """`loud` names the tables whose triggers have to fire, each with the reason; all others are written quietly."""

    loud: Mapping[TableName, str]
    triggers: Mapping[TableName, tuple[str, ...]]  # those that fire on INSERT as the table will be written
    foreign_key_operators: Mapping[tuple[TableName, str], tuple[sql.Composable, ...]] = field(default_factory=dict)
    index_operators: Mapping[tuple[TableName, str], tuple[sql.Composable, ...]] = field(default_factory=dict)
    checks: Mapping[TableName, tuple[Check, ...]] = field(default_factory=dict)
    added: Mapping[tuple[TableName, str], AddedValue] = field(default_factory=dict)


def read_facts(connection: Session, tables: Sequence[Table], foreign_keys: Sequence[ForeignKey]) -> WriteFacts:
    """Read the facts of these tables. Raises an OutlastError where the server does not answer."""
    names = {table.oid: table.name for table in tables}
    try:
        return _facts(connection, names, foreign_keys)
    except psycopg.Error as error:
        raise explain(error, "read how the tables are to be written") from error


def _facts(connection: Session, names: Mapping[int, TableName], foreign_keys: Sequence[ForeignKey]) -> WriteFacts:
    def rows(file: str) -> list[tuple[Any, ...]]:
        return connection.execute(statement(file), {"tables": list(names)}).fetchall()

    keys = rows("write_foreign_keys")
    hazards = rows("write_hazards")
    loud = _loud(_may_be_quiet(connection), names, keys, hazards)
    _spread(loud, names.values(), foreign_keys)
    triggers = {
        names[oid]: tuple(ordinary if names[oid] in loud else always) for oid, _, _, always, ordinary in hazards
    }
    checks: dict[TableName, tuple[Check, ...]] = {}
    for oid, name, expression in rows("write_checks"):
        checks[names[oid]] = (*checks.get(names[oid], ()), Check(name, expression))
    return WriteFacts(
        loud,
        {table: firing for table, firing in triggers.items() if firing},
        {(names[oid], name): _operators(schemas, operators) for oid, name, schemas, operators, _, _ in keys},
        {(names[oid], name): _operators(schemas, ops) for oid, name, schemas, ops in rows("write_indexes")},
        checks,
        {(names[oid], name): AddedValue(missing, default) for oid, name, missing, default in rows("write_defaults")},
    )


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
    for oid, deferrable, partition_keys, _, _ in hazards:
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
