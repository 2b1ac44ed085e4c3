"""Every type goes out as a COPY line and comes back equal: the ground that the whole pipeline stands on."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from outlast.core import row
from outlast.sources.postgres.session import Target, connect
from tests import types_catalogue
from tests.servers import Server


def test_the_catalogue_names_every_built_in_type(server: Server) -> None:
    """A type of this PostgreSQL that the catalogue does not know is found out here, not by a customer."""
    check_complete(server)


def check_complete(server: Server) -> None:
    query = (
        "SELECT typname FROM pg_type WHERE typnamespace = 'pg_catalog'::regnamespace AND typrelid = 0"
        " AND typtype IN ('b', 'd', 'e', 'r', 'm') AND NOT (typelem <> 0 AND typcategory = 'A')"
    )
    with server.connect() as connection:
        names = {name for (name,) in connection.execute(query).fetchall()}
    listed = {case.catalog_name for case in types_catalogue.BUILT_IN if case.catalog_name}
    assert names == listed | (types_catalogue.CANNOT_BE_STORED.keys() & names)


@pytest.mark.parametrize("name", sorted(types_catalogue.CANNOT_BE_STORED))
def test_what_is_left_out_cannot_be_stored(server: Server, name: str) -> None:
    """The types that the catalogue leaves out take no value at all."""
    with server.connect() as connection, pytest.raises(psycopg.errors.FeatureNotSupported):
        connection.execute(sql.SQL("SELECT CAST('1' AS {})").format(sql.Identifier(name)))


def test_every_type_goes_out_and_back_equal(database: str) -> None:
    """Read under the pinned session, taken apart and put together by core/row.py, written: the same bytes in binary."""
    check_every_type(database)


def check_every_type(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        cases = types_catalogue.create(connection, tenants=1)
        before = {case.name: types_catalogue.content(connection, case, 1) for case in cases}
    with connect(Target(url), role="test", read_only=False, autocommit=True) as session:
        for case in cases:
            _out_and_back(session, case.name)
    with psycopg.connect(url) as connection:
        for case in cases:
            assert types_catalogue.content(connection, case, 1) == before[case.name], case.name


def _out_and_back(session: psycopg.Connection, name: str) -> None:
    table = sql.Identifier("public", name)
    with session.cursor() as cursor, cursor.copy(sql.SQL("COPY {} TO STDOUT").format(table)) as copy:
        lines = [bytes(line) for line in copy]
    rebuilt = [_rebuilt(line) for line in lines]
    assert rebuilt == lines, name
    session.execute(sql.SQL("DELETE FROM {}").format(table))
    with session.cursor() as cursor, cursor.copy(sql.SQL("COPY {} FROM STDIN").format(table)) as copy:
        copy.write(b"".join(lines))


def _rebuilt(line: bytes) -> bytes:
    """One line stays one line, and escape is the inverse of unescape for every field."""
    assert line.count(b"\n") == 1
    parts = row.fields(line)
    assert len(parts) == 5
    return b"\t".join(field if field == row.NULL else row.escape(row.unescape(field)) for field in parts) + b"\n"
