"""What stands in the way of staged rows: the queries that find it, on the staged rows, before anything is written.

Each looks up one live row a staged row, through the index that the constraint has: what other tenants weigh does not
matter. A finding names keys and tenants, never a value of a tenant that is not being restored.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import psycopg
from psycopg import sql

from outlast.core.plan import Conflict, ConflictKind
from outlast.core.table import OwnershipKind, Table, TableName
from outlast.core.tenant import ORPHAN, TenantKey
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.schema import Catalog, ForeignKey, UniqueIndex
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_facts import WriteFacts
from outlast.sources.postgres.write_proof import (
    WRITTEN,
    matches_reference,
    referenced,
    same_row,
    shown_key,
    staged_as_live,
    wanted_references,
)
from outlast.sources.postgres.write_references import owner_of, path_of, pointing_rows
from outlast.sources.postgres.write_stage import DELETE, Stage, staged
from outlast.sources.postgres.write_taken import expressions, held, predicate

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
                    yield from _gone(connection, tables, key, stage, facts, tenant)
                if key.references == name and key.enforced:
                    yield from pointing_rows(connection, catalog, key, stage, facts, tenant)
        except psycopg.Error as error:
            raise explain(error, f"look for conflicts in table {name}") from error


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
    leaves = facts.partitions.get(table.name)
    if leaves:
        fitting = sql.SQL(" OR ").join([sql.SQL(f"({leaf})") for leaf in leaves])
        conditions.append((_NO_PARTITION, "", sql.SQL("NOT COALESCE(({}), true)").format(fitting)))
    if not conditions:
        return
    source = staged_as_live(table, stage, facts)
    written = staged(table, *WRITTEN)
    counts = sql.SQL(", ").join(
        [sql.SQL("count(*) FILTER (WHERE {})").format(condition) for _, _, condition in conditions]
    )
    found = _one(connection, sql.SQL("SELECT {} FROM {} AS s WHERE {}").format(counts, source, written))
    for rows, (what, constraint, condition) in zip(found, conditions, strict=True):
        if rows:
            shown = _samples(shown_key(table, "s"))
            query = sql.SQL("SELECT {} FROM {} AS s WHERE {} AND {}").format(shown, source, written, condition)
            gone = what == _NO_PARTITION
            yield Conflict(
                tenant,
                str(table.name),
                ConflictKind.PARTITION_GONE if gone else ConflictKind.VALUE_REFUSED,
                f"{_rows(rows)} of {table.name} cannot be put back: {what}",
                constraint or None,
                rows,
                _keys(_one(connection, query)[0]),
                hint="Create the partition that takes them again, and plan again."
                if gone
                else "Relax the constraint for the time of the restore, or restore --into another database.",
            )


_NO_PARTITION = "the partition that they belong in does not exist any more"


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
    rows, keys, values, holders = _one(connection, _holders_query(table, index, stage, facts))
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
            f"Settle it with {_policies(index)}; or change the rows that hold it, or restore --into another database.",
            _keys(values),
        )
    if not index.exclusion:
        groups = _one(connection, _duplicates_query(table, index, stage, facts))[0]
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


def _policies(index: UniqueIndex) -> str:
    choices = "remap or skip" if index.primary else "suffix, null or skip"
    return f"--on-conflict {index.constraint or index.name}=POLICY ({choices})"


def _owners(owners: Sequence[str], tenant: TenantKey) -> str:
    named = ["other rows of this tenant" if owner == tenant else f"tenant {owner}" for owner in owners[:_HOLDERS_MAX]]
    return ", ".join(named) + (f" and {len(owners) - _HOLDERS_MAX} more" if len(owners) > _HOLDERS_MAX else "")


def _values(table: Table, index: UniqueIndex, stage: Stage, facts: WriteFacts) -> sql.Composed:
    """SELECT of the staged rows' indexed values as v1, v2 …, and their key as `shown`."""
    named = [
        sql.SQL("{} AS {}").format(expression, sql.Identifier(f"v{number}"))
        for number, expression in enumerate(expressions(index), start=1)
    ]
    texts = sql.SQL(", ").join([sql.SQL("pg_catalog.format('%s', {})").format(one) for one in expressions(index)])
    return sql.SQL(
        "SELECT {}, {} AS shown, pg_catalog.concat_ws(', ', {}) AS texts FROM {} AS s WHERE {} AND {}"
    ).format(
        sql.SQL(", ").join(named),
        shown_key(table, "s"),
        texts,
        staged_as_live(table, stage, facts),
        staged(table, *WRITTEN),
        predicate(index),
    )


def _holders_query(table: Table, index: UniqueIndex, stage: Stage, facts: WriteFacts) -> sql.Composed:
    return sql.SQL(
        "WITH wanted AS MATERIALIZED ({}), held AS MATERIALIZED ("
        "SELECT wanted.shown, wanted.texts, {} AS tenant FROM wanted CROSS JOIN LATERAL ({}) AS t {}"
        ") SELECT count(*), {}, {}, pg_catalog.array_agg(DISTINCT held.tenant) FROM held"
    ).format(
        _values(table, index, stage, facts),
        owner_of(table),
        held(table, index, stage, facts),
        path_of(table),
        _samples(sql.SQL("held.shown")),
        _samples(sql.SQL("held.texts")),
    )


def _duplicates_query(table: Table, index: UniqueIndex, stage: Stage, facts: WriteFacts) -> sql.Composed:
    values = sql.SQL(", ").join(expressions(index))
    present = sql.SQL("true" if index.nulls_not_distinct else "pg_catalog.num_nulls({}) = 0").format(values)
    return sql.SQL(
        "SELECT count(*) FROM (SELECT FROM {} AS s WHERE {} AND {} AND {} GROUP BY {} HAVING count(*) > 1) AS d"
    ).format(staged_as_live(table, stage, facts), staged(table, *WRITTEN), predicate(index), present, values)


def _gone(
    connection: Session,
    tables: Mapping[TableName, Table],
    key: ForeignKey,
    stage: Stage,
    facts: WriteFacts,
    tenant: TenantKey,
) -> Iterator[Conflict]:
    """Rows that staged rows point at and that are not there."""
    parent = tables[key.references]
    found = missing_parents(connection, tables, key, stage, facts)
    if not found:
        return
    shown = [", ".join(part or "NULL" for part in one) for one in found]
    parents = ", ".join(f"({one})" for one in shown[:_PARENTS_MAX])
    more = f" and {len(found) - _PARENTS_MAX:,} more" if len(found) > _PARENTS_MAX else ""
    rows = "row" if len(found) == 1 else "rows"
    shared = " with --with-shared," if parent.ownership.kind is OwnershipKind.SHARED else ""
    yield Conflict(
        tenant,
        str(key.table),
        ConflictKind.PARENT_GONE,
        f"rows of {key.table} point at rows of {parent.name} that are gone:"
        f" {', '.join(key.referenced_columns)} = {parents}{more}, by {key.name}",
        key.name,
        len(found),
        tuple(shown[:_SAMPLES_MAX]),
        hint=f"Put the {parent.name} {rows} back first,{shared or ' and plan again;'}"
        " if a --table option leaves that table out, plan without it.",
    )


def missing_parents(
    connection: Session, tables: Mapping[TableName, Table], key: ForeignKey, stage: Stage, facts: WriteFacts
) -> list[tuple[str | None, ...]]:
    """The referenced values, as text, that staged rows point at and that no live or staged row has."""
    parent = tables[key.references]
    values = [sql.Identifier("wanted", f"v{number}") for number in range(1, len(key.columns) + 1)]
    texts = sql.SQL(", ").join(
        [
            sql.SQL("CASE WHEN {} IS NOT NULL THEN pg_catalog.format('%s', {}) END").format(value, value)
            for value in values
        ]
    )
    staying = (
        sql.SQL("true")
        if not stage.has(parent.name, DELETE)
        else sql.SQL("NOT EXISTS (SELECT FROM {} AS l WHERE {} AND {})").format(
            stage.name(parent.name), staged(parent, DELETE, alias="l"), same_row(parent, facts, "r", "l")
        )
    )
    missing = sql.SQL(
        "WITH wanted AS MATERIALIZED ({}) SELECT {} FROM wanted"
        " LEFT JOIN LATERAL (SELECT true AS there FROM {} AS r WHERE {} AND {} LIMIT 1) AS found ON true"
        " WHERE found.there IS NULL"
    ).format(
        wanted_references(key, tables, stage, facts),
        texts,
        referenced(parent),
        matches_reference(key, facts),
        staying,
    )
    return sorted(connection.execute(missing).fetchall(), key=str)
