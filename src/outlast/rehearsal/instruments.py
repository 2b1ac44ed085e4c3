"""What a copy is given before a script runs on it, so that all of the script's effect can be seen.

Every table is published with its whole old rows, and triggers say in the log what decoding alone does not show
(sql/rehearsal_instruments.sql). What reaches out of the copy is disarmed in disarming.py.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from outlast.core.table import OwnershipKind, Table, TableName
from outlast.core.tenant import ORPHAN, SHARED
from outlast.sources.postgres.query import identifier, owner, source
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.statements import statement

PUBLICATION = "outlast_rehearsal"
SLOT = "outlast_rehearsal"
SCHEMA = "outlast_rehearsal"

EMPTIED, INSIDE, DOING = "outlast.emptied", "outlast.inside", "outlast.doing"
DROPPED, NOTIFIED, END = "outlast.dropped", "outlast.notified", "outlast.end"
"""The messages that stand in the copy's log, by prefix."""


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A table or a partition. `generated`: "s" and "v" for stored and virtual columns."""

    oid: int
    name: TableName
    kind: str  # r stores rows, p is partitioned
    persistence: str
    generated: str
    has_primary_key: bool


def read_tables(connection: psycopg.Connection[Any]) -> list[StoredTable]:
    return [
        StoredTable(oid, TableName(schema, name), *rest)
        for oid, schema, name, *rest in connection.execute(statement("rehearsal_tables"))
    ]


def computed_columns(connection: psycopg.Connection[Any]) -> dict[TableName, frozenset[str]]:
    """The columns that the server generates, by table."""
    rows = connection.execute(
        "SELECT n.nspname, c.relname, pg_catalog.array_agg(a.attname::text) FROM pg_catalog.pg_attribute AS a"
        " JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE a.attgenerated <> '' AND NOT a.attisdropped GROUP BY n.nspname, c.relname"
    )
    return {TableName(schema, name): frozenset(columns) for schema, name, columns in rows}


Watch = Mapping[tuple[int, str], str]
"""What watches a script: (table's oid or 0, name) and the transaction that wrote it last."""


def read_watch(connection: psycopg.Connection[Any]) -> Watch:
    return {(oid, name): written for oid, name, written in connection.execute(statement("rehearsal_watch"))}


def tampered(before: Watch, after: Watch, there: Container[int]) -> tuple[str, ...]:
    """The instruments that a script laid hands on, though their table (`there`: by oid) is still there."""
    return tuple(
        sorted(
            {name for (oid, name), was in before.items() if after.get((oid, name)) != was and (not oid or oid in there)}
        )
    )


def log_tables(connection: psycopg.Connection[Any], tables: Iterable[StoredTable]) -> list[TableName]:
    """Have unlogged tables logged: their changes would stand in no log. Returns which they are."""
    found = [table.name for table in tables if table.persistence == "u" and table.kind == "r"]
    for name in found:
        connection.execute(sql.SQL("ALTER TABLE {} SET LOGGED").format(identifier(name)))
    return found


def install(connection: psycopg.Connection[Any], catalog: Catalog, roots: Mapping[int, TableName]) -> list[str]:
    """Instrument the database. `roots` gives each partition's root by oid. Returns what cannot be seen, in words.

    The connection is a superuser's, in autocommit mode, with session_replication_role = replica, so that no event
    trigger of the application hears of it.
    """
    tables = read_tables(connection)
    by_name = {table.name: table for table in catalog.tables}
    blind: list[str] = []
    with connection.transaction():
        connection.execute(statement("rehearsal_instruments"))
        if connection.info.server_version >= 180000:
            connection.execute("ALTER PUBLICATION outlast_rehearsal SET (publish_generated_columns = stored)")
        for table in tables:
            _bracket(connection, table)
            if table.kind == "r":
                _count_when_emptied(connection, table, by_name.get(roots.get(table.oid, table.name)))
                blind += _publish(connection, table)
    return blind


def _bracket(connection: psycopg.Connection[Any], table: StoredTable) -> None:
    connection.execute(
        sql.SQL(
            "CREATE TRIGGER aa_outlast_rehearsal_began BEFORE INSERT OR UPDATE OR DELETE ON {} FOR EACH STATEMENT"
            " EXECUTE FUNCTION outlast_rehearsal.began({}); "
            "ALTER TABLE ONLY {} ENABLE ALWAYS TRIGGER aa_outlast_rehearsal_began"
        ).format(
            identifier(table.name),
            sql.Literal("partitioned") if table.kind == "p" else sql.SQL(""),
            identifier(table.name),
        )
    )


def _count_when_emptied(connection: psycopg.Connection[Any], table: StoredTable, root: Table | None) -> None:
    connection.execute(
        sql.SQL(
            "CREATE TRIGGER aa_outlast_rehearsal_emptied BEFORE TRUNCATE ON {} FOR EACH STATEMENT"
            " EXECUTE FUNCTION outlast_rehearsal.emptied({}); "
            "ALTER TABLE ONLY {} ENABLE ALWAYS TRIGGER aa_outlast_rehearsal_emptied"
        ).format(
            identifier(table.name),
            sql.Literal(rows_by_tenant(table.name, root).as_string(connection)),
            identifier(table.name),
        )
    )


def rows_by_tenant(name: TableName, root: Table | None) -> sql.Composed:
    """One JSON object: rows by tenant of a table or partition, whose owner is told as its root's. Shared and unknown
    tables' rows count as `@shared`."""
    if root is None or root.ownership.kind is not OwnershipKind.OWNED:
        counted = sql.SQL("SELECT {} AS tenant, pg_catalog.count(*) AS rows FROM ONLY {}").format(
            sql.Literal(SHARED), identifier(name)
        )
    else:
        assert root.ownership.tenant_column is not None
        tenant = owner("p", root.ownership.path, root.ownership.tenant_column)
        counted = (
            sql.SQL("SELECT coalesce({}::text, {}) AS tenant, pg_catalog.count(*) AS rows ").format(
                tenant, sql.Literal(ORPHAN)
            )
            + source(name, {"p": root.ownership.path}, only=True)
            + sql.SQL(" GROUP BY 1")
        )
    return sql.SQL("SELECT pg_catalog.json_object_agg(c.tenant, c.rows) FROM ({}) AS c WHERE c.rows > 0").format(
        counted
    )


def _publish(connection: psycopg.Connection[Any], table: StoredTable) -> list[str]:
    """Have a table's changes decoded with whole old rows; what the server cannot do so is said."""
    name = identifier(table.name)
    if "v" in table.generated:  # with such a column FULL would make the application's own UPDATE fail
        if not table.has_primary_key:
            return [f"updates and deletes of {table.name}, which has virtual columns and no primary key"]
        connection.execute(sql.SQL("ALTER TABLE ONLY {} REPLICA IDENTITY DEFAULT").format(name))
    else:
        connection.execute(sql.SQL("ALTER TABLE ONLY {} REPLICA IDENTITY FULL").format(name))
    connection.execute(sql.SQL("ALTER PUBLICATION outlast_rehearsal ADD TABLE ONLY {}").format(name))
    return []
