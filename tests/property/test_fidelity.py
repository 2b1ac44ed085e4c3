"""Fidelity as a property: whatever values rows hold, a backup, a loss and a restore give them back bit by bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tests.commands import Outlast
from tests.projects import Project
from tests.property.test_rows import KEY_TYPES
from tests.servers import Server

TYPES = sorted(KEY_TYPES)

ROW = st.tuples(*[KEY_TYPES[one] | st.none() for one in TYPES])


@pytest.fixture(scope="module")
def project(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    with server.new_database() as url:
        columns = ", ".join(f"c{number} {one}" for number, one in enumerate(TYPES))
        with psycopg.connect(url) as connection:
            connection.execute(r"CREATE TYPE odd_label AS ENUM ('z', 'a', 'B', 'a b', '\', 'é', '10', '9')")
            connection.execute("CREATE TABLE tenant (id integer PRIMARY KEY, name text NOT NULL)")
            connection.execute("INSERT INTO tenant VALUES (1, 'one'), (2, 'two')")
            keyed = (
                f"CREATE TABLE keyed (id integer PRIMARY KEY, tenant_id integer NOT NULL REFERENCES tenant, {columns})"
            )
            bare = f"CREATE TABLE bare (tenant_id integer NOT NULL REFERENCES tenant, {columns})"
            connection.execute(keyed.encode())
            connection.execute(bare.encode())
        project = Project(Outlast(tmp_path_factory.mktemp("project")), url)
        project.init("public.tenant", "name")
        yield project


# A failing example is found again from the database of examples; shrinking whole backups would take minutes.
@settings(
    max_examples=5,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(st.lists(st.tuples(st.sampled_from([1, 2]), ROW), min_size=5, max_size=25))
def test_any_row_comes_back(project: Project, rows: list[tuple[int, tuple[Any, ...]]]) -> None:
    """Rows of every type with arbitrary values, in a table with a key and in one without, duplicates included."""
    with psycopg.connect(project.url) as connection:
        connection.execute("TRUNCATE keyed, bare")
        _insert(connection, rows)
        before = _content(connection)
    project.backup()
    with psycopg.connect(project.url) as connection:
        connection.execute("DELETE FROM keyed WHERE tenant_id = 1")
        connection.execute("DELETE FROM bare WHERE tenant_id = 1")
    project.restore("one")
    with psycopg.connect(project.url) as connection:
        after = _content(connection)
    assert [one for one in zip(before, after, strict=True) if one[0] != one[1]] == []


def _insert(connection: psycopg.Connection, rows: list[tuple[int, tuple[Any, ...]]]) -> None:
    values = sql.SQL(", ").join([sql.SQL("%s::{}").format(sql.SQL(one)) for one in TYPES])
    keyed = sql.SQL("INSERT INTO keyed VALUES (%s, %s, {})").format(values)
    bare = sql.SQL("INSERT INTO bare VALUES (%s, {})").format(values)
    with connection.cursor() as cursor:
        cursor.executemany(keyed, [(number, tenant, *row) for number, (tenant, row) in enumerate(rows)])
        cursor.executemany(bare, [(tenant, *row) for tenant, row in [*rows, *rows[:3]]])


def _content(connection: psycopg.Connection) -> list[bytes]:
    """Every row in binary, each by itself, in an order that depends on nothing but the rows."""
    found = []
    for table in ("keyed", "bare"):
        statement = f"COPY (SELECT record_send(t) FROM {table} AS t) TO STDOUT"
        with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            found += sorted(bytes(row) for row in copy)
    return found
