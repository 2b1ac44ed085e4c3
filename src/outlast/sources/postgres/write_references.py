"""Rows that point at what a plan deletes, or at a value that it changes, from outside the plan."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from psycopg import sql

from outlast.core.conflict import Conflict, ConflictKind
from outlast.core.table import OwnershipKind, Table
from outlast.core.tenant import ORPHAN, TenantKey
from outlast.sources.postgres.query import identifier, tenant_expression
from outlast.sources.postgres.schema import Catalog, ForeignKey
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_facts import WriteFacts
from outlast.sources.postgres.write_proof import WRITTEN, live_name, same_row, shown_key, staged_as_live
from outlast.sources.postgres.write_stage import DELETE, PARKED, REPLACE, UPDATE, Stage, staged

_SAMPLES_MAX = 5
_CHANGING = (UPDATE, REPLACE, PARKED)
_FATE = {"c": "would be deleted along", "n": "would lose their reference", "d": "would lose their reference"}


def pointing_rows(
    connection: Session, catalog: Catalog, key: ForeignKey, stage: Stage, facts: WriteFacts, tenant: TenantKey
) -> Iterator[Conflict]:
    """Live rows, of whomever, that point by one foreign key at rows which the plan deletes, or at values which it takes
    from them, and are not in the plan."""
    tables = {table.name: table for table in catalog.tables}
    parent, child = tables[key.references], tables[key.table]
    if stage.has(key.references, DELETE):
        found = connection.execute(_query(parent, child, key, stage, facts)).fetchone()
        yield from _told(found, parent, child, key, tenant, "that would be deleted", _FATE.get(key.on_delete))
    if stage.has(key.references, *_CHANGING) and facts.touched(parent.name, stage) & set(key.referenced_columns):
        found = connection.execute(_query(parent, child, key, stage, facts, changed=True)).fetchone()
        yield from _told(found, parent, child, key, tenant, "of which that would be changed", None)


def _told(
    row: tuple[Any, ...] | None,
    parent: Table,
    child: Table,
    key: ForeignKey,
    tenant: TenantKey,
    what: str,
    fate: str | None,
) -> Iterator[Conflict]:
    assert row is not None
    rows, keys, owners = row
    if not rows:
        return
    holders = tuple(sorted({ORPHAN if owner is None else str(owner) for owner in owners}))
    of = "" if child.ownership.kind is not OwnershipKind.OWNED else f" of {_named(holders, tenant)}"
    number = "1 row" if rows == 1 else f"{rows:,} rows"
    yield Conflict(
        tenant,
        str(parent.name),
        ConflictKind.REFERENCED,
        f"{number} of {child.name}{of} point at rows of {parent.name} {what}, and"
        f" {fate or 'stand in the way'} ({key.name})",
        key.name,
        rows,
        tuple(one for one in keys or () if one is not None),
        holders if child.ownership.kind is OwnershipKind.OWNED else (),
        "They are not part of this plan: move or remove them first, or leave that table out by --table.",
    )


def _named(owners: tuple[str, ...], tenant: TenantKey) -> str:
    named = ["this tenant" if owner == tenant else f"tenant {owner}" for owner in owners[:20]]
    return ", ".join(named) + (f" and {len(owners) - 20} more" if len(owners) > 20 else "")


def _query(
    parent: Table, child: Table, key: ForeignKey, stage: Stage, facts: WriteFacts, *, changed: bool = False
) -> sql.Composed:
    """How many point at rows that go, or with `changed` at values that go, by whom; d: the rows pointed at."""
    operators = facts.foreign_key_operators[key.table, key.name]
    same = sql.SQL(" AND ").join(
        [
            sql.SQL("d.{} {} c.{}").format(sql.Identifier(theirs), operator, sql.Identifier(ours))
            for theirs, operator, ours in zip(key.referenced_columns, operators, key.columns, strict=True)
        ]
    )
    unplanned = (
        sql.SQL("true")
        if child.name not in stage.counts
        else sql.SQL("NOT EXISTS (SELECT FROM {} AS s WHERE {})").format(
            stage.name(child.name), same_row(child, facts, "c", "s")
        )
    )
    return sql.SQL(
        "WITH pointing AS MATERIALIZED (SELECT {shown} AS shown, {owner} AS tenant FROM ("
        "SELECT c.*, {deleted_key} AS outlast_pointed FROM {leaving} AS d JOIN {child} AS c ON {same}"
        " WHERE {unplanned}) AS t {path})"
        " SELECT count(*), (pg_catalog.array_agg(DISTINCT shown))[1:{most}], pg_catalog.array_agg(DISTINCT tenant)"
        " FROM pointing"
    ).format(
        shown=sql.SQL("t.outlast_pointed"),
        owner=owner_of(child),
        deleted_key=shown_key(parent, "d"),
        leaving=_changed(parent, key, stage, facts) if changed else _deleted(parent, stage, facts),
        child=live_name(child),
        same=same,
        unplanned=unplanned,
        path=path_of(child),
        most=sql.Literal(_SAMPLES_MAX),
    )


def _deleted(parent: Table, stage: Stage, facts: WriteFacts) -> sql.Composed:
    return sql.SQL("(SELECT * FROM {} AS s WHERE {})").format(
        staged_as_live(parent, stage, facts), staged(parent, DELETE)
    )


def _changed(parent: Table, key: ForeignKey, stage: Stage, facts: WriteFacts) -> sql.Composed:
    """The live rows whose values that are pointed at change, and that no row of the plan has afterwards."""
    columns = key.referenced_columns
    return sql.SQL(
        "(SELECT t.* FROM {stage} AS s JOIN {live} AS t ON {same} WHERE {updated} AND ({differ})"
        " AND NOT EXISTS (SELECT FROM {stage} AS n WHERE {written} AND {again}))"
    ).format(
        stage=staged_as_live(parent, stage, facts),
        live=live_name(parent),
        same=same_row(parent, facts),
        updated=staged(parent, *_CHANGING),
        differ=sql.SQL(" OR ").join(
            [sql.SQL("t.{0} IS DISTINCT FROM s.{0}").format(sql.Identifier(column)) for column in columns]
        ),
        written=staged(parent, *WRITTEN, alias="n"),
        again=sql.SQL(" AND ").join(
            [
                sql.SQL("{} OPERATOR(pg_catalog.=) {}").format(_text("n", column), _text("t", column))
                for column in columns
            ]
        ),
    )


def _text(alias: str, column: str) -> sql.Composed:
    return sql.SQL("pg_catalog.format('%s', {})").format(sql.Identifier(alias, column))


def owner_of(table: Table) -> sql.Composed:
    tenant = tenant_expression(table)
    return sql.SQL("NULL::text").format() if tenant is None else sql.SQL("{}::text").format(tenant)


def path_of(table: Table) -> sql.Composed:
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
