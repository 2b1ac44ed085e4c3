"""Rows by their keys, and rows that this very transaction wrote: how a guarded run looks at what it touches.

Everything runs in the caller's REPEATABLE READ transaction, whose number was assigned by the statement that took its
snapshot (`number`): so of the rows that it sees, its own have that number or a later one, and nobody else's have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from outlast.core.row import NULL, unescape
from outlast.core.table import OwnershipKind, Table, TableName
from outlast.core.tenant import ORPHAN, SHARED, TenantKey
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.query import array, column, identifier, source, tenant_expression
from outlast.sources.postgres.session import Session

_KEYS_AT_ONCE = 10_000
_OWN_SUBTRANSACTIONS_MAX = 1_000_000
"""A row version frozen long ago may have a number that has come round; one within so many after ours is taken for our
own. That is a mistake on the safe side: what is too much rolls back."""


@dataclass(frozen=True, slots=True)
class KeyedRow:
    """A row with its key as COPY fields joined by tabs, both without a newline."""

    key: bytes
    row: bytes


def number(connection: Session) -> str:
    """The 64-bit number of the caller's transaction; assigned now if it had none."""
    row = connection.execute(b"SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text").fetchone()
    assert row is not None
    return str(row[0])


def rows_by_key(
    connection: Session, table: Table, columns: Sequence[str], keys: Sequence[bytes], *, lock: bool
) -> Iterator[KeyedRow]:
    """The rows of a table that have one of these keys, in no order; with `lock` they are taken FOR UPDATE.

    The table has a key. Raises TransientError where a row was changed since the snapshot, or is locked for too long.
    """
    places = [tuple(columns).index(name) for name in table.key]
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        query = _keyed(table, columns, keys[start : start + _KEYS_AT_ONCE], lock=lock)
        for line in _copied(connection, query, f"{'lock' if lock else 'read'} rows of table {table.name}"):
            fields = line.split(b"\t")
            yield KeyedRow(b"\t".join([fields[place] for place in places]), line)


def own_rows(connection: Session, table: Table, columns: Sequence[str]) -> Iterator[tuple[TenantKey, bytes, bytes]]:
    """(tenant, key, row) of the rows that this transaction wrote and that are still there. Reads the whole table."""
    tenant = tenant_expression(table)
    owner = sql.SQL("NULL") if tenant is None else sql.SQL("{}::text").format(tenant)
    age = sql.SQL("pg_catalog.age({}.xmin)").format(sql.Identifier("t"))
    query = (
        sql.SQL("SELECT {}, {} ").format(owner, sql.SQL(", ").join([column(name) for name in columns]))
        + source(table.name, {"p": table.ownership.path}, only=table.only)
        + sql.SQL(" WHERE {} BETWEEN {} AND 0").format(age, sql.Literal(-_OWN_SUBTRANSACTIONS_MAX))
    )
    places = [tuple(columns).index(name) for name in table.key]
    owned = table.ownership.kind is OwnershipKind.OWNED
    for line in _copied(connection, query, f"read what was written to table {table.name}"):
        first, _, row = line.partition(b"\t")
        fields = row.split(b"\t")
        orphan = TenantKey(ORPHAN) if owned else TenantKey(SHARED)
        whose = orphan if first == NULL else TenantKey(unescape(first).decode("utf-8", "surrogateescape"))
        yield whose, b"\t".join([fields[place] for place in places]), row


def count_rows(connection: Session, name: TableName, *, only: bool = False) -> int:
    """How many rows a table has, on the transaction's snapshot and with its own changes."""
    query = sql.SQL("SELECT pg_catalog.count(*) FROM {}{}").format(
        sql.SQL("ONLY ") if only else sql.SQL(""), identifier(name)
    )
    try:
        row = connection.execute(query).fetchone()
    except psycopg.Error as error:
        raise explain(error, f"count the rows of table {name}") from error
    assert row is not None
    return int(row[0])


def lock_tables(connection: Session, names: Sequence[TableName]) -> None:
    """Take tables that will be emptied or dropped for ourselves. Before there is a snapshot nothing is lost:
    called first in the transaction, it lets the snapshot see all that was committed before."""
    if names:
        listed = sql.SQL(", ").join([identifier(name) for name in names])
        try:
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(listed))
        except psycopg.Error as error:
            raise explain(error, "lock the tables that the script empties") from error


def _keyed(table: Table, columns: Sequence[str], keys: Sequence[bytes], *, lock: bool) -> sql.Composed:
    types = {one.name: one.type for one in table.columns}
    parts = [key.split(b"\t") for key in keys]
    arrays = [array([_text(fields[number]) for fields in parts], types[name]) for number, name in enumerate(table.key)]
    names = [sql.Identifier(f"k{number}") for number in range(len(table.key))]
    same = sql.SQL(" AND ").join(
        [
            sql.SQL("{} = {}").format(column(name), sql.SQL("w.{}").format(key))
            for name, key in zip(table.key, names, strict=True)
        ]
    )
    return sql.SQL("SELECT {} FROM {}{} AS t JOIN ROWS FROM ({}) AS w({}) ON {}{}").format(
        sql.SQL(", ").join([column(name) for name in columns]),
        sql.SQL("ONLY ") if table.only else sql.SQL(""),
        identifier(table.name),
        sql.SQL(", ").join([sql.SQL("pg_catalog.unnest({})").format(one) for one in arrays]),
        sql.SQL(", ").join(names),
        same,
        sql.SQL(" FOR UPDATE OF t") if lock else sql.SQL(""),
    )


def _text(field: bytes) -> str:
    return unescape(field).decode("utf-8", "surrogateescape")


def _copied(connection: Session, query: sql.Composed, doing: str) -> Iterator[bytes]:
    """The rows of a query as COPY's lines, cut anew: what the server sends in one message is one line."""
    statement = sql.SQL("COPY ({}) TO STDOUT").format(query)
    try:
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for block in copy:
                yield bytes(block).rstrip(b"\n")
    except psycopg.Error as error:
        raise explain(error, doing) from error
