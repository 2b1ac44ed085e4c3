"""What stands in the way of staged rows: the queries that find it, on the staged rows, before anything is written.

Each looks up one live row a staged row, through the index that the constraint has: what other tenants weigh does not
matter. A finding names keys and tenants, never a value of a tenant that is not being restored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from outlast.core.plan import Conflict, ConflictKind
from outlast.core.table import Table
from outlast.core.tenant import ORPHAN, TenantKey
from outlast.sources.postgres.query import identifier, tenant_expression
from outlast.sources.postgres.schema import Catalog, ForeignKey, UniqueIndex
from outlast.sources.postgres.session import Session, explain
from outlast.sources.postgres.write import Stage, matches_reference, wanted_references
from outlast.sources.postgres.write_facts import WriteFacts

_SAMPLES_MAX = 5
_HOLDERS_MAX = 20
_PARENTS_MAX = 20


def find_conflicts(
    connection: Session, catalog: Catalog, stage: Stage, facts: WriteFacts, tenant: TenantKey
) -> Iterator[Conflict]:
    """Everything that would keep the staged rows of a tenant from being written, table by table."""
    tables = {table.name: table for table in catalog.tables}
    for name in sorted(stage.rows):
        table = tables[name]
        try:
            yield from _refused_values(connection, table, stage, facts, tenant)
            for index in catalog.unique_indexes:
                if index.table == name:
                    yield from _taken(connection, table, index, stage, facts, tenant, catalog)
            for key in catalog.foreign_keys:
                if key.table == name and key.enforced:
                    yield from _gone(connection, table, key, tables[key.references], stage, facts, tenant)
        except psycopg.Error as error:
            raise explain(error, f"look for conflicts in table {name}") from error


def _shown_key(table: Table, alias: str) -> sql.Composed:
    """SQL: the row's key as people read it, or NULL for a table without one."""
    if not table.key:
        return sql.SQL("{}").format(sql.Literal(None))
    parts = [sql.SQL("{}.{}").format(sql.Identifier(alias), sql.Identifier(column)) for column in table.key]
    return sql.SQL("pg_catalog.concat_ws(', ', {})").format(sql.SQL(", ").join(parts))


def _samples(shown: sql.Composable, limit: int = _SAMPLES_MAX) -> sql.Composed:
    return sql.SQL("(pg_catalog.array_agg({}))[1:{}]").format(shown, sql.Literal(limit))


def _one(connection: Session, query: sql.Composed) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


def _keys(found: Sequence[str | None] | None) -> tuple[str, ...]:
    return tuple(key for key in found or () if key is not None)


def _refused_values(
    connection: Session, table: Table, stage: Stage, facts: WriteFacts, tenant: TenantKey
) -> Iterator[Conflict]:
    """NOT NULL and CHECK constraints that staged rows break: they came, or changed, after the backup."""
    conditions: list[tuple[str, str, sql.Composable]] = [
        (f"column {one.name} is NOT NULL now", one.name, sql.SQL("{} IS NULL").format(sql.Identifier("s", one.name)))
        for one in table.columns
        if one.not_null
    ]
    conditions += [
        (f"constraint {check.name} does not hold for them", check.name, sql.SQL(f"NOT ({check.expression})"))
        for check in facts.checks.get(table.name, ())
    ]
    if not conditions:
        return
    source = stage.name(table.name)
    counts = sql.SQL(", ").join(
        [sql.SQL("count(*) FILTER (WHERE {})").format(condition) for _, _, condition in conditions]
    )
    found = _one(connection, sql.SQL("SELECT {} FROM {} AS s").format(counts, source))
    for rows, (what, constraint, condition) in zip(found, conditions, strict=True):
        if rows:
            shown = _samples(_shown_key(table, "s"))
            query = sql.SQL("SELECT {} FROM {} AS s WHERE {}").format(shown, source, condition)
            yield Conflict(
                tenant,
                str(table.name),
                ConflictKind.VALUE_REFUSED,
                f"{_rows(rows)} of {table.name} cannot be put back: {what}",
                constraint,
                rows,
                _keys(_one(connection, query)[0]),
                hint="Relax the constraint for the time of the restore, or restore --into another database.",
            )


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number:,} rows"


def _taken(
    connection: Session,
    table: Table,
    index: UniqueIndex,
    stage: Stage,
    facts: WriteFacts,
    tenant: TenantKey,
    catalog: Catalog,
) -> Iterator[Conflict]:
    """Live rows that hold what the staged rows need to be the only ones to have."""
    rows, keys, holders = _one(connection, _holders_query(table, index, stage, facts))
    what = "their key" if index.primary else f"what {index.name} lets only one row have"
    kind = ConflictKind.KEY_TAKEN if index.primary else ConflictKind.VALUE_TAKEN
    if rows:
        owners = tuple(sorted({ORPHAN if one is None else str(one) for one in holders}))
        yield Conflict(
            tenant,
            str(table.name),
            kind,
            f"{_rows(rows)} of {table.name} cannot be put back: {what} belongs now to {_owners(owners, tenant)}",
            index.constraint or index.name,
            rows,
            _keys(keys),
            owners,
            "Change or move the rows that hold it, or restore --into another database.",
        )
    if not index.exclusion:
        groups = _one(connection, _duplicates_query(index, stage))[0]
        if groups:
            yield Conflict(
                tenant,
                str(table.name),
                kind,
                f"rows of {table.name} cannot be put back: {groups:,} values of {index.name} are shared by several of"
                f" the tenant's own stored rows, and the index came later",
                index.constraint or index.name,
                groups,
                holders=(tenant,),
                hint="Drop the index for the time of the restore, or restore --into another database.",
            )


def _owners(owners: Sequence[str], tenant: TenantKey) -> str:
    named = ["other rows of this tenant" if owner == tenant else f"tenant {owner}" for owner in owners[:_HOLDERS_MAX]]
    return ", ".join(named) + (f" and {len(owners) - _HOLDERS_MAX} more" if len(owners) > _HOLDERS_MAX else "")


def _expressions(index: UniqueIndex) -> list[sql.SQL]:
    # Text of the catalog's own, over unqualified columns: it is evaluated where only one table is in sight.
    return [sql.SQL(f"({expression})") for expression in index.expressions]


def _where(index: UniqueIndex) -> sql.SQL:
    return sql.SQL(f"({index.predicate})" if index.predicate else "true")


def _values(table: Table, index: UniqueIndex, stage: Stage) -> sql.Composed:
    """SELECT of the staged rows' indexed values as v1, v2 …, and their key as `shown`."""
    named = [
        sql.SQL("{} AS {}").format(expression, sql.Identifier(f"v{number}"))
        for number, expression in enumerate(_expressions(index), start=1)
    ]
    return sql.SQL("SELECT {}, {} AS shown FROM {} AS s WHERE {}").format(
        sql.SQL(", ").join(named), _shown_key(table, "s"), stage.name(table.name), _where(index)
    )


def _holders_query(table: Table, index: UniqueIndex, stage: Stage, facts: WriteFacts) -> sql.Composed:
    same = []
    operators = facts.index_operators[table.name, index.name]
    for number, (expression, operator) in enumerate(zip(_expressions(index), operators, strict=True), start=1):
        value = sql.Identifier("wanted", f"v{number}")
        equal = sql.SQL("{} {} {}").format(expression, operator, value)
        if index.nulls_not_distinct:
            equal = sql.SQL("({} OR ({} IS NULL AND {} IS NULL))").format(equal, expression, value)
        same.append(equal)
    # LIMIT keeps the planner from turning one look-up a row into a join over everybody's rows
    held = sql.SQL("SELECT * FROM {}{} WHERE {} AND {} LIMIT 1").format(
        sql.SQL("ONLY ") if table.only else sql.SQL(""),
        identifier(table.name),
        sql.SQL(" AND ").join(same),
        _where(index),
    )
    return sql.SQL(
        "WITH wanted AS MATERIALIZED ({}), held AS MATERIALIZED ("
        "SELECT wanted.shown, {} AS tenant FROM wanted CROSS JOIN LATERAL ({}) AS t {}"
        ") SELECT count(*), {}, pg_catalog.array_agg(DISTINCT held.tenant) FROM held"
    ).format(_values(table, index, stage), _owner(table), held, _path(table), _samples(sql.SQL("held.shown")))


def _owner(table: Table) -> sql.Composed:
    tenant = tenant_expression(table)
    return sql.SQL("NULL::text").format() if tenant is None else sql.SQL("{}::text").format(tenant)


def _path(table: Table) -> sql.Composed:
    """LEFT JOINs from `t` along the ownership path, named as tenant_expression expects them."""
    joins: list[sql.Composable] = []
    here = "t"
    for number, step in enumerate(table.ownership.path, start=1):
        there = f"p{number}"
        same = sql.SQL(" AND ").join(
            [
                sql.SQL("{} OPERATOR(pg_catalog.=) {}").format(
                    sql.Identifier(here, ours), sql.Identifier(there, theirs)
                )
                for ours, theirs in zip(step.columns, step.to_columns, strict=True)
            ]
        )
        only = sql.SQL("ONLY ") if step.only else sql.SQL("")
        joins.append(
            sql.SQL("LEFT JOIN {}{} AS {} ON {}").format(only, identifier(step.to), sql.Identifier(there), same)
        )
        here = there
    return sql.SQL(" ").join(joins)


def _duplicates_query(index: UniqueIndex, stage: Stage) -> sql.Composed:
    expressions = sql.SQL(", ").join(_expressions(index))
    present = sql.SQL("true" if index.nulls_not_distinct else "pg_catalog.num_nulls({}) = 0").format(expressions)
    return sql.SQL(
        "SELECT count(*) FROM (SELECT FROM {} AS s WHERE {} AND {} GROUP BY {} HAVING count(*) > 1) AS d"
    ).format(stage.name(index.table), _where(index), present, expressions)


def _gone(
    connection: Session,
    table: Table,
    key: ForeignKey,
    parent: Table,
    stage: Stage,
    facts: WriteFacts,
    tenant: TenantKey,
) -> Iterator[Conflict]:
    """Rows that staged rows point at and that are not there."""
    only = sql.SQL("") if parent.partitioned else sql.SQL("ONLY ")
    values = [sql.Identifier("wanted", f"v{number}") for number in range(1, len(key.columns) + 1)]
    shown = sql.SQL("pg_catalog.concat_ws(', ', {})").format(sql.SQL(", ").join(values))
    missing = sql.SQL(
        "WITH wanted AS MATERIALIZED ({}) SELECT {} FROM wanted"
        " LEFT JOIN LATERAL (SELECT true AS there FROM {}{} AS r WHERE {} LIMIT 1) AS found ON true"
        " WHERE found.there IS NULL"
    ).format(wanted_references(key, stage, facts), shown, only, identifier(parent.name), matches_reference(key, facts))
    found = [str(row[0]) for row in connection.execute(missing)]
    if not found:
        return
    parents = ", ".join(f"({one})" for one in found[:_PARENTS_MAX])
    more = f" and {len(found) - _PARENTS_MAX:,} more" if len(found) > _PARENTS_MAX else ""
    are = "is" if len(found) == 1 else "are"
    yield Conflict(
        tenant,
        str(table.name),
        ConflictKind.PARENT_GONE,
        f"rows of {table.name} point at rows of {parent.name} that are gone:"
        f" {', '.join(key.referenced_columns)} = {parents}{more}, by {key.name}",
        key.name,
        len(found),
        tuple(found[:_SAMPLES_MAX]),
        hint=f"Put the {parent.name} {'row' if are == 'is' else 'rows'} back first;"
        " if a --table option leaves that table out, plan without it.",
    )
