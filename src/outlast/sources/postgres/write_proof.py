"""Proofs by SQL on staged rows: that what they point at is there, and that they are what the live rows have become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from outlast.core.table import Table, TableName
from outlast.sources.postgres.query import identifier
from outlast.sources.postgres.schema import ForeignKey
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_facts import WriteFacts
from outlast.sources.postgres.write_stage import DELETE, INSERT, PARKED, REPLACE, UPDATE, Stage, staged

WRITTEN = (INSERT, UPDATE, REPLACE, PARKED)
"""Operations that leave the staged row behind."""

_SAMPLES_MAX = 5


class ReferenceGoneError(Exception):
    """A staged row points at a row that is not there; write_conflicts.py says which."""

    def __init__(self, key: ForeignKey) -> None:
        super().__init__(key.name)
        self.key = key


def same_row(table: Table, facts: WriteFacts, live: str = "t", other: str = "s") -> sql.Composed:
    """SQL: the live row is the staged one, by the key's own operators; by content in a table without a key."""
    if not table.key:
        return sql.SQL("{} OPERATOR(pg_catalog.=) {}").format(content(table, live), content(table, other))
    return sql.SQL(" AND ").join(
        [
            sql.SQL("{} {} {}").format(sql.Identifier(live, column), operator, sql.Identifier(other, column))
            for column, operator in zip(table.key, facts.key_operators_of(table), strict=True)
        ]
    )


def content(table: Table, alias: str) -> sql.Composed:
    """SQL: all of a row as text, NULLs told apart from what is empty."""
    fields = sql.SQL(", ").join([sql.Identifier(alias, one.name) for one in table.columns])
    return sql.SQL("ROW({})::pg_catalog.text").format(fields)


def staged_as_live(table: Table, stage: Stage, facts: WriteFacts) -> sql.Composed:
    """SQL: the staging table as the live one would have its rows, with the generated columns, and their ctid."""
    generated = facts.generated.get(table.name)
    if not generated:
        return sql.SQL("{}").format(stage.name(table.name))
    columns = [sql.SQL("({}) AS {}").format(sql.SQL(made), sql.Identifier(name)) for name, made in generated]
    return sql.SQL("(SELECT g.ctid, g.*, {} FROM {} AS g)").format(sql.SQL(", ").join(columns), stage.name(table.name))


def shown_key(table: Table, alias: str) -> sql.Composed:
    """SQL: the row's key as people read it, or NULL for a table without one."""
    if not table.key:
        return sql.SQL("NULL::pg_catalog.text").format()
    parts = [sql.SQL("{}.{}").format(sql.Identifier(alias), sql.Identifier(column)) for column in table.key]
    return sql.SQL("pg_catalog.concat_ws(', ', {})").format(sql.SQL(", ").join(parts))


def live_name(table: Table) -> sql.Composed:
    """SQL: the table as its own rows are read and written."""
    return sql.SQL("{}{}").format(sql.SQL("ONLY ") if table.only else sql.SQL(""), identifier(table.name))


def prove_references(
    connection: Session, key: ForeignKey, tables: Mapping[TableName, Table], stage: Stage, facts: WriteFacts
) -> None:
    """Every row that the staged rows point at is there, and stays until we commit; those staged too need no look."""
    wanted = wanted_references(key, tables, stage, facts)
    query = sql.SQL(
        "WITH wanted AS MATERIALIZED ({}) SELECT count(*), count(found.there) FROM wanted"
        " LEFT JOIN LATERAL (SELECT true AS there FROM {} AS r WHERE {} FOR KEY SHARE) AS found ON true"
    ).format(wanted, referenced(tables[key.references]), matches_reference(key, facts))
    row = connection.execute(query).fetchone()
    assert row is not None
    if row[0] != row[1]:
        raise ReferenceGoneError(key)


def referenced(parent: Table) -> sql.Composed:
    """What a foreign key sees of the table it points at: never the rows of inheritance children."""
    only = sql.SQL("") if parent.partitioned else sql.SQL("ONLY ")
    return sql.SQL("{}{}").format(only, identifier(parent.name))


def matches_reference(key: ForeignKey, facts: WriteFacts, parent: str = "r", child: str = "wanted") -> sql.Composed:
    """SQL: row `r` of the referenced table is the one that row `wanted` (v1, v2 …) points at."""
    operators = facts.foreign_key_operators[key.table, key.name]
    return sql.SQL(" AND ").join(
        [
            sql.SQL("{} {} {}").format(sql.Identifier(parent, column), operator, sql.Identifier(child, f"v{number}"))
            for number, (column, operator) in enumerate(zip(key.referenced_columns, operators, strict=True), start=1)
        ]
    )


def wanted_references(
    key: ForeignKey, tables: Mapping[TableName, Table], stage: Stage, facts: WriteFacts
) -> sql.Composed:
    """SELECT DISTINCT of what staged rows point at by one foreign key, as v1, v2 …, but for what is staged itself."""
    values = [sql.SQL("s.{}").format(sql.Identifier(column)) for column in key.columns]
    named = [
        sql.SQL("{} AS {}").format(value, sql.Identifier(f"v{number}")) for number, value in enumerate(values, start=1)
    ]
    present = sql.SQL("num_nonnulls({}) > 0" if key.match_full else "num_nulls({}) = 0").format(
        sql.SQL(", ").join(values)
    )
    query = sql.SQL("SELECT DISTINCT {} FROM {} AS s WHERE {} AND pg_catalog.{}").format(
        sql.SQL(", ").join(named),
        staged_as_live(tables[key.table], stage, facts),
        staged(tables[key.table], *WRITTEN),
        present,
    )
    if not stage.has(key.references, *WRITTEN):
        return query
    return query + sql.SQL(" AND ") + _not_staged(key, values, tables[key.references], stage, facts)


def _not_staged(
    key: ForeignKey, values: Sequence[sql.Composable], parent: Table, stage: Stage, facts: WriteFacts
) -> sql.Composed:
    """SQL: no staged row is the one that `values` point at."""
    operators = facts.foreign_key_operators[key.table, key.name]
    columns = [sql.Identifier("p", column) for column in key.referenced_columns]
    rows = sql.SQL("FROM {} AS p WHERE {}").format(
        staged_as_live(parent, stage, facts), staged(parent, *WRITTEN, alias="p")
    )
    if len({operator.as_string(None) for operator in operators}) == 1:
        # Not NOT EXISTS: of a temporary table the planner knows nothing, and would look through all of it for each row.
        # This it can only do by hashing.
        return sql.SQL("(({}) {} ANY (SELECT {} {} AND pg_catalog.num_nulls({}) = 0)) IS NOT TRUE").format(
            sql.SQL(", ").join(values),
            operators[0],
            sql.SQL(", ").join(columns),
            rows,
            sql.SQL(", ").join(columns),
        )
    same = sql.SQL(" AND ").join(
        [
            sql.SQL("{} {} {}").format(column, operator, value)
            for column, operator, value in zip(columns, operators, values, strict=True)
        ]
    )
    return sql.SQL("NOT EXISTS (SELECT {} AND {})").format(rows, same)


def differing_rows(connection: Session, table: Table, stage: Stage, facts: WriteFacts) -> tuple[str, ...]:
    """Keys of some staged rows that the live table does not have as they were staged, or still has."""
    if table.name not in stage.counts or not table.key:
        return ()
    query = sql.SQL(
        "SELECT {shown} FROM {stage} AS s LEFT JOIN {live} AS t ON {same} WHERE CASE WHEN {deleted}"
        " THEN {there} ELSE {not_there} OR {ours} OPERATOR(pg_catalog.<>) {theirs} END ORDER BY 1 LIMIT {most}"
    ).format(
        shown=shown_key(table, "s"),
        stage=stage.name(table.name),
        live=live_name(table),
        same=same_row(table, facts),
        deleted=staged(table, DELETE),
        there=sql.SQL("t.{} IS NOT NULL").format(sql.Identifier(table.key[0])),
        not_there=sql.SQL("t.{} IS NULL").format(sql.Identifier(table.key[0])),
        ours=content(table, "s"),
        theirs=content(table, "t"),
        most=sql.Literal(_SAMPLES_MAX),
    )
    return tuple(str(row[0]) for row in connection.execute(query))
