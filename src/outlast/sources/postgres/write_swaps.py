"""Unique values that the tenant's own rows pass on among each other: what a single UPDATE would stumble over.

An immediate unique index is checked row by row, so an update fails that takes a value which another updated row still
has. Such rows are deleted and inserted anew within one statement; where something would be deleted along with them,
the value is emptied first instead.
"""

from __future__ import annotations

from psycopg import sql

from outlast.core.table import Table
from outlast.sources.postgres.schema import Catalog, UniqueIndex
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_facts import WriteFacts
from outlast.sources.postgres.write_proof import live_name, staged_as_live
from outlast.sources.postgres.write_stage import PARKED, REPLACE, UPDATE, Stage, operation, staged

_HOLDERS_MAX = 100  # LIMIT keeps the planner from turning one look-up a row into a join over everybody's rows


class SwapRefusedError(Exception):
    """Rows exchange values of an index that can neither be emptied nor freed in time."""

    def __init__(self, index: UniqueIndex, rows: int) -> None:
        super().__init__(f"{rows} rows of {index.table} exchange values of {index.name}")
        self.index = index
        self.rows = rows


def settle_swaps(connection: Session, catalog: Catalog, stage: Stage, facts: WriteFacts) -> None:
    """Mark the staged updates that have to be made in another way. Raises SwapRefusedError."""
    tables = {table.name: table for table in catalog.tables}
    for index in catalog.unique_indexes:
        table = tables[index.table]
        if index.deferrable or not stage.has(table.name, UPDATE) or not _concerns(index, table, stage):
            continue
        emptied = None if _replaceable(catalog, table, facts) else _nullable(table, index)
        rows = connection.execute(_mark(table, index, stage, facts, REPLACE if emptied is None else PARKED)).rowcount
        if not rows:
            continue
        if emptied is None and not _replaceable(catalog, table, facts):
            raise SwapRefusedError(index, rows)
        stage.recount(table.name, rows, UPDATE, REPLACE if emptied is None else PARKED)
        if emptied is not None:
            stage.parked[table.name] = emptied


def _concerns(index: UniqueIndex, table: Table, stage: Stage) -> bool:
    touched = stage.touched(index.table)
    if not touched:
        return False
    if index.columns is None or index.predicate is not None or not set(index.columns) <= set(table.column_names):
        return True  # an expression or a generated column may have changed with any other
    return bool(touched & set(index.columns))


def _replaceable(catalog: Catalog, table: Table, facts: WriteFacts) -> bool:
    """Whether nothing happens to the rows that point at one which is deleted and inserted again in one statement."""
    if table.name not in facts.loud:
        return True
    pointing = [key for key in catalog.foreign_keys if key.references == table.name and key.enforced]
    return all(key.on_delete == "a" for key in pointing)


def _nullable(table: Table, index: UniqueIndex) -> str | None:
    if index.nulls_not_distinct:
        return None
    free = {one.name for one in table.columns if not one.not_null}  # a generated column is none of these
    return next((column for column in index.columns or () if column in free), None)


def _mark(table: Table, index: UniqueIndex, stage: Stage, facts: WriteFacts, to: str) -> sql.Composed:
    expressions = [sql.SQL(f"({expression})") for expression in index.expressions]
    predicate = sql.SQL(f"({index.predicate})" if index.predicate else "true")
    keys = [sql.Identifier(column) for column in table.key]
    held = sql.SQL("SELECT {} FROM {} WHERE {} AND {} LIMIT {}").format(
        sql.SQL(", ").join(
            [sql.SQL("{} AS {}").format(key, sql.Identifier(f"k{number}")) for number, key in enumerate(keys)]
        ),
        live_name(table),
        sql.SQL(" AND ").join(
            [
                sql.SQL("{} {} {}").format(expression, operator, sql.Identifier("wanted", f"v{number}"))
                for number, (expression, operator) in enumerate(
                    zip(expressions, facts.index_operators[table.name, index.name], strict=True)
                )
            ]
        ),
        predicate,
        sql.Literal(_HOLDERS_MAX),
    )
    wanted = sql.SQL("SELECT s.ctid AS place, {}, {} FROM {} AS s WHERE {} AND {}").format(
        sql.SQL(", ").join(
            [
                sql.SQL("{} AS {}").format(value, sql.Identifier(f"v{number}"))
                for number, value in enumerate(expressions)
            ]
        ),
        sql.SQL(", ").join(
            [sql.SQL("{} AS {}").format(key, sql.Identifier(f"k{number}")) for number, key in enumerate(keys)]
        ),
        staged_as_live(table, stage, facts),
        staged(table, UPDATE),
        predicate,
    )
    operators = facts.key_operators_of(table)
    other = sql.SQL(" AND ").join(
        [
            sql.SQL("o.{} {} {}").format(key, operator, sql.Identifier("h", f"k{number}"))
            for number, (key, operator) in enumerate(zip(keys, operators, strict=True))
        ]
    )
    itself = sql.SQL(" AND ").join(
        [
            sql.SQL("{} {} {}").format(
                sql.Identifier("h", f"k{number}"), operator, sql.Identifier("wanted", f"k{number}")
            )
            for number, operator in enumerate(operators)
        ]
    )
    return sql.SQL(
        "WITH wanted AS MATERIALIZED ({wanted}) UPDATE {stage} AS u SET {column} = {to} WHERE u.ctid IN ("
        "SELECT wanted.place FROM wanted CROSS JOIN LATERAL ({held}) AS h"
        " JOIN {stage} AS o ON {other} AND {updated} WHERE NOT ({itself}))"
    ).format(
        wanted=wanted,
        stage=stage.name(table.name),
        column=operation(table),
        to=sql.Literal(to),
        held=held,
        other=other,
        updated=staged(table, UPDATE, REPLACE, PARKED, alias="o"),
        itself=itself,
    )
