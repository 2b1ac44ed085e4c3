"""What the tests of the PostgreSQL adapter share: a database on either server, and how it is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import psycopg
import pytest

from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Target, connect
from tests.servers import Server


@pytest.fixture(params=["18", pytest.param("15", marks=pytest.mark.system)])
def any_database(request: pytest.FixtureRequest) -> str:
    """A fresh database's URL, on the embedded PostgreSQL 18 and on Debian's 15."""
    url: str = request.getfixturevalue("database" if request.param == "18" else "debian_database")
    return url


def run(url: str, *statements: str) -> None:
    """Run SQL as the superuser, each statement by itself."""
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def look(
    url: str,
    tenant_table: str = "accounts",
    tables: Mapping[str, str] | None = None,
    *,
    label: str | None = None,
    key: str | None = None,
) -> Catalog:
    """The catalog as it is now."""
    with connect(Target(url), role="test") as connection:
        return read_catalog(connection, OwnershipSettings(tenant_table, label, tables, key))


@pytest.fixture
def server_database_latin1(server: Server) -> Iterator[str]:
    with server.new_database(options="TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'") as url:
        yield url


@pytest.fixture
def server_database_ascii(server: Server) -> Iterator[str]:
    with server.new_database(options="TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'") as url:
        yield url
