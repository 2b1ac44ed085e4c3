"""Rows that point at what a plan deletes, or at a value that it changes, from outside the plan."""

from __future__ import annotations

from collections.abc import Iterator

from psycopg import sql

from outlast.core.conflict import Conflict, ConflictKind
from outlast.core.table import OwnershipKind, Table
from outlast.core.tenant import ORPHAN, TenantKey
from outlast.sources.postgres.query import identifier, tenant_expression
from outlast.sources.postgres.schema import Catalog, ForeignKey
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_facts import WriteFacts
from outlast.sources.postgres.write_proof import live_name, same_row, shown_key
from outlast.sources.postgres.write_stage import DELETE, Stage, staged

_SAMPLES_MAX = 5
_FATE = {"c": "would be deleted along", "n": "would lose their reference", "d": "would lose their reference"}


def pointing_rows(
    connection: Session, catalog: Catalog, key: ForeignKey, stage: Stage, facts: WriteFacts, tenant: TenantKey
) -> Iterator[Conflict]:
    """Live rows, of whomever, that point by one foreign key at rows which the plan deletes, and are not in the plan."""
    if not stage.has(key.references, DELETE):
        return
    tables = {table.name: table for table in catalog.tables}
    parent, child = tables[key.references], tables[key.table]
    row = connection.execute(_query(parent, child, key, stage, facts)).fetchone()
    assert row is not None
    rows, keys, owners = row
    if not rows:
        return
    holders = tuple(sorted({ORPHAN if owner is None else str(owner) for owner in owners}))
    of = "" if child.ownership.kind is not OwnershipKind.OWNED else f" of {_named(holders, tenant)}"
    fate = _FATE.get(key.on_delete, "stand in the way")
    number = "1 row" if rows == 1 else f"{rows:,} rows"
    yield Conflict(
        tenant,
        str(parent.name),
        ConflictKind.REFERENCED,
        f"{number} of {child.name}{of} point at rows of {parent.name} that would be deleted, and {fate} ({key.name})",
        key.name,
        rows,
        tuple(one for one in keys or () if one is not None),
        holders if child.ownership.kind is OwnershipKind.OWNED else (),
        "They are not part of this plan: move or remove them first, or leave that table out by --table.",
    )


def _named(owners: tuple[str, ...], tenant: TenantKey) -> str:
    named = ["this tenant" if owner == tenant else f"tenant {owner}" for owner in owners[:20]]
    return ", ".join(named) + (f" and {len(owners) - 20} more" if len(owners) > 20 else "")


def _query(parent: Table, child: Table, key: ForeignKey, stage: Stage, facts: WriteFacts) -> sql.Composed:
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
        "SELECT c.*, {deleted_key} AS outlast_pointed FROM {stage} AS d JOIN {child} AS c ON {same}"
        " WHERE {deleted} AND {unplanned}) AS t {path})"
        " SELECT count(*), (pg_catalog.array_agg(DISTINCT shown))[1:{most}], pg_catalog.array_agg(DISTINCT tenant)"
        " FROM pointing"
    ).format(
        shown=sql.SQL("t.outlast_pointed"),
        owner=owner_of(child),
        deleted_key=shown_key(parent, "d"),
        stage=stage.name(parent.name),
        child=live_name(child),
        same=same,
        deleted=staged(parent, DELETE, alias="d"),
        unplanned=unplanned,
        path=path_of(child),
        most=sql.Literal(_SAMPLES_MAX),
    )


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
