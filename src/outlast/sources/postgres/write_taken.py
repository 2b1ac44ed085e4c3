"""Which staged rows need a unique value that a live row outside the plan holds: row by row, for policies to settle."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from outlast.core.table import Table
from outlast.sources.postgres.query import identifier
from outlast.sources.postgres.schema import SequenceUse, UniqueIndex
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_facts import WriteFacts
from outlast.sources.postgres.write_proof import WRITTEN, same_row, staged_as_live
from outlast.sources.postgres.write_stage import DELETE, PARKED, REPLACE, UPDATE, Stage, explained, staged


@dataclass(frozen=True, slots=True)
class TakenRow:
    """A staged row, by the text of its key's columns and of the table's columns that were asked for."""

    key: tuple[str, ...]
    values: tuple[str | None, ...]


def held(table: Table, index: UniqueIndex, stage: Stage, facts: WriteFacts) -> sql.Composed:
    """SELECT of a live row that holds what row `wanted` (v1, v2 …) needs to be the only one to have."""
    same = []
    operators = facts.index_operators[table.name, index.name]
    for number, (expression, operator) in enumerate(zip(expressions(index), operators, strict=True), start=1):
        value = sql.Identifier("wanted", f"v{number}")
        equal = sql.SQL("{} {} {}").format(expression, operator, value)
        if index.nulls_not_distinct:
            equal = sql.SQL("({} OR ({} IS NULL AND {} IS NULL))").format(equal, expression, value)
        same.append(equal)
    # A holder that is itself deleted or changed by the plan is none: what it changes to is staged, and told apart there
    leaving = (
        sql.SQL("true")
        if not stage.has(table.name, DELETE, UPDATE, REPLACE, PARKED)
        else sql.SQL("NOT EXISTS (SELECT FROM {} AS l WHERE {} AND {})").format(
            stage.name(table.name),
            staged(table, DELETE, UPDATE, REPLACE, PARKED, alias="l"),
            same_row(table, facts, "h", "l"),
        )
    )
    # LIMIT keeps the planner from turning one look-up a row into a join over everybody's rows
    return sql.SQL("SELECT * FROM (SELECT * FROM {}{} WHERE {} AND {}) AS h WHERE {} LIMIT 1").format(
        sql.SQL("ONLY ") if table.only else sql.SQL(""),
        identifier(table.name),
        sql.SQL(" AND ").join(same),
        predicate(index),
        leaving,
    )


def expressions(index: UniqueIndex) -> list[sql.SQL]:
    # Text of the catalog's own, over unqualified columns: it is evaluated where only one table is in sight.
    return [sql.SQL(f"({expression})") for expression in index.expressions]


def predicate(index: UniqueIndex) -> sql.SQL:
    return sql.SQL(f"({index.predicate})" if index.predicate else "true")


def taken_rows(
    connection: Session, table: Table, index: UniqueIndex, stage: Stage, facts: WriteFacts, columns: tuple[str, ...]
) -> list[TakenRow]:
    """Every staged row whose value is held, with the text of some of its columns. The table has a key."""
    named = [
        sql.SQL("{} AS {}").format(expression, sql.Identifier(f"v{number}"))
        for number, expression in enumerate(expressions(index), start=1)
    ]
    asked = (*table.key, *columns)
    texts = [
        sql.SQL("CASE WHEN {0} IS NOT NULL THEN pg_catalog.format('%s', {0}) END AS {1}").format(
            sql.Identifier("s", column), sql.Identifier(f"t{number}")
        )
        for number, column in enumerate(asked)
    ]
    query = sql.SQL(
        "WITH wanted AS MATERIALIZED (SELECT {}, {} FROM {} AS s WHERE {} AND {})"
        " SELECT {} FROM wanted CROSS JOIN LATERAL ({}) AS held ORDER BY {}"
    ).format(
        sql.SQL(", ").join(named),
        sql.SQL(", ").join(texts),
        staged_as_live(table, stage, facts),
        staged(table, *WRITTEN),
        predicate(index),
        sql.SQL(", ").join([sql.Identifier("wanted", f"t{number}") for number in range(len(asked))]),
        held(table, index, stage, facts),
        sql.SQL(", ").join([sql.Identifier("wanted", f"t{number}") for number in range(len(table.key))]),
    )
    with explained(f"look for taken values of {index.name}"):
        found = connection.execute(query).fetchall()
    size = len(table.key)
    return [TakenRow(tuple(str(one) for one in row[:size]), tuple(row[size:])) for row in found]


def next_values(connection: Session, use: SequenceUse, count: int, skipped: int) -> list[int]:
    """What the sequence would give next, without drawing it: `count` values after the next `skipped`."""
    with explained(f"look at sequence {use.sequence}"):
        row = connection.execute(
            sql.SQL("SELECT last_value, is_called FROM {}").format(identifier(use.sequence))
        ).fetchone()
    assert row is not None
    first = row[0] + (use.increment if row[1] else 0)
    return [first + use.increment * (skipped + number) for number in range(count)]
