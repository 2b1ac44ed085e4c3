"""core/row.py against the real server: what a field's bytes mean, and in what order rows arrive."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from outlast.core.row import NULL, KeyKind, escape, fields, key_of, order_of, unescape, value
from outlast.core.table import Column, Ownership, OwnershipKind, Table, TableName
from outlast.sources.postgres.query import rows_query
from outlast.sources.postgres.session import Session, Target, connect
from tests.servers import Server

AGAINST_A_SERVER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# What a database encoded in UTF8 can hold: no NUL, no surrogates.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        "",
        "\\N",
        "\\.",
        "\\",
        "\t",
        "\n",
        "\r\n",
        "\\t",
        "a",
        "A",
        "b",
        "a b",
        "a-b",
        "é",
        "z",
        "Ä",
        "\x01",
        "\x7f",
        "{}",
    ]
)


def _integer(bits: int) -> st.SearchStrategy[int]:
    limit = 2 ** (bits - 1)
    return st.integers(-limit, limit - 1) | st.integers(-11, 11)


KEY_TYPES: dict[str, st.SearchStrategy[Any]] = {
    "smallint": _integer(16),
    "integer": _integer(32),
    "bigint": _integer(64),
    "text": TEXT,
    "character varying": TEXT,
    "character(5)": TEXT.map(lambda text: text[:5]),
    "name": TEXT.filter(lambda text: len(text.encode()) < 64),
    "uuid": st.uuids(),
    "boolean": st.booleans(),
    "numeric": st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-9999, max_value=9999)
    | st.just(Decimal("NaN")),
    # A NaN has a sign and a payload that no SQL can see and that text does not carry (pg_dump's neither).
    "double precision": st.floats(allow_nan=False) | st.just(math.nan),
    "date": st.dates(),
    "timestamp with time zone": st.datetimes(timezones=st.timezones()).filter(lambda when: when.year not in (1, 9999)),
    "interval": st.timedeltas(),
    "bytea": st.binary(max_size=6),
    "inet": st.ip_addresses(),
    '"char"': st.characters(max_codepoint=126, exclude_characters="\0"),
    "text[]": st.lists(TEXT | st.none(), max_size=3),
    "odd_label": st.sampled_from(["z", "a", "B", "a b", "\\", "é", "10", "9"]),
}

INTEGERS = ("smallint", "integer", "bigint")


@contextmanager
def ordering_session(server: Server) -> Iterator[Session]:
    """A pinned session in a database of its own, with a schema to make tables in."""
    with server.new_database() as url, connect(Target(url), role="test", autocommit=True, read_only=False) as session:
        session.execute("CREATE SCHEMA work")
        session.execute("SET search_path = work, pg_catalog")
        session.execute(r"CREATE TYPE odd_label AS ENUM ('z', 'a', 'B', 'a b', '\', 'é', '10', '9')")
        yield session


@pytest.fixture(scope="module")
def session(server: Server) -> Iterator[Session]:
    with ordering_session(server) as session:
        yield session


@given(st.binary(max_size=30).filter(lambda data: b"\0" not in data))
def test_escape_and_unescape_are_inverse(text: bytes) -> None:
    """Any text gives a field of one line and one column, never NULL's, and comes back from it."""
    field = escape(text)
    assert unescape(field) == text
    assert b"\n" not in field
    assert b"\t" not in field
    assert field != NULL


@AGAINST_A_SERVER
@given(st.lists(TEXT | st.none(), min_size=1, max_size=8))
def test_a_field_is_what_the_server_sends(session: Session, texts: list[str | None]) -> None:
    """COPY's bytes are those that escape makes, and value reads them."""
    row = _copied(session, sql.SQL("SELECT {}").format(sql.SQL(", ").join([sql.Literal(text) for text in texts])))[0]
    assert fields(row) == [NULL if text is None else escape(text.encode()) for text in texts]
    assert [value(field) for field in fields(row)] == texts


@AGAINST_A_SERVER
@given(st.data())
def test_keys_sort_here_as_they_do_there(session: Session, data: st.DataObject) -> None:
    """A table with any key comes in the order that order_of computes, whatever the types and NULLs in the key."""
    check_order(session, data, keyed=True)


@AGAINST_A_SERVER
@given(st.data())
def test_whole_rows_sort_here_as_they_do_there(session: Session, data: st.DataObject) -> None:
    """A table without a key comes in the order of its whole rows, duplicates together."""
    check_order(session, data, keyed=False)


def check_order(session: Session, data: st.DataObject, *, keyed: bool) -> None:
    types = data.draw(st.lists(st.sampled_from(sorted(KEY_TYPES)), min_size=1, max_size=3), "types")
    nullable = data.draw(st.lists(st.booleans(), min_size=len(types), max_size=len(types)), "nullable")
    of_columns = [
        KEY_TYPES[one] | st.none() if null else KEY_TYPES[one] for one, null in zip(types, nullable, strict=True)
    ]
    rows = data.draw(st.lists(st.tuples(*of_columns), max_size=12), "rows")
    table = _table(types, nullable, keyed=keyed)
    _create(session, table, rows)
    sent = _copied(session, rows_query(table, "bigint"))
    assert len(sent) == len(rows)
    cut, order = key_of(table.key_positions), order_of(table.key_kinds)
    assert [order(cut(row)) for row in sent] == sorted(order(cut(row)) for row in sent)
    if not keyed:
        assert sent == sorted(sent, key=lambda row: order(cut(row)))


def _table(types: list[str], nullable: list[bool], *, keyed: bool) -> Table:
    columns = [
        Column(f"k{n}", one, not_null=not null) for n, (one, null) in enumerate(zip(types, nullable, strict=True))
    ]
    # A column that is no part of the key stands first, so that key_of has something to cut.
    stored = (Column("before", "text"), *columns) if keyed else tuple(columns)
    return Table(
        name=TableName("work", "ordered"),
        columns=stored,
        key=tuple(column.name for column in columns) if keyed else (),
        key_kinds=tuple(KeyKind.INTEGER if one in INTEGERS else KeyKind.TEXT for one in types) if keyed else (),
        ownership=Ownership(OwnershipKind.SHARED),
    )


def _create(session: Session, table: Table, rows: list[tuple[Any, ...]]) -> None:
    defined = [sql.SQL("{} {}").format(sql.Identifier(column.name), sql.SQL(column.type)) for column in table.columns]
    session.execute("DROP TABLE IF EXISTS work.ordered")
    session.execute(sql.SQL("CREATE TABLE work.ordered ({})").format(sql.SQL(", ").join(defined)))
    first = ("\\N\t",) if table.key else ()
    placeholders = [sql.SQL("{}::{}").format(sql.Placeholder(), sql.SQL(column.type)) for column in table.columns]
    insert = sql.SQL("INSERT INTO work.ordered VALUES ({})").format(sql.SQL(", ").join(placeholders))
    with session.cursor() as cursor:
        cursor.executemany(insert, [(*first, *row) for row in rows])


def _copied(session: psycopg.Connection, query: sql.Composed) -> list[bytes]:
    with session.cursor() as cursor, cursor.copy(sql.SQL("COPY ({}) TO STDOUT").format(query)) as copy:
        return [bytes(row) for row in copy]
