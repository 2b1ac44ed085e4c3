"""Every type through the whole product: backed up, destroyed, restored by the installed command, compared in binary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
from psycopg import sql

from tests import types_catalogue
from tests.commands import Outlast
from tests.projects import Project
from tests.types_catalogue import TypeCase

Contents = Mapping[tuple[str, int], bytes]


def test_every_type_survives_a_restore(database: str, outlast: Outlast) -> None:
    """Two of three tenants are destroyed and restored; every value of every type is as before, and the third's too."""
    check_restore_of_every_type(database, outlast)


def check_restore_of_every_type(url: str, outlast: Outlast) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        cases = types_catalogue.create(connection, tenants=3)
        before = _contents(connection, cases)
        assert all(len(content) > 20 for content in before.values())
    project = Project(outlast, url)
    project.init("public.tenant", "name")
    project.backup()
    with psycopg.connect(url) as connection:
        _destroy(connection, cases, (1, 2))
    project.restore("1", "customer 2")
    with psycopg.connect(url) as connection:
        after = _contents(connection, cases)
    assert [key for key in before if before[key] != after[key]] == []


def _contents(connection: psycopg.Connection, cases: Sequence[TypeCase]) -> Contents:
    return {
        (case.name, tenant): types_catalogue.content(connection, case, tenant) for case in cases for tenant in (1, 2, 3)
    }


def _destroy(connection: psycopg.Connection, cases: Sequence[TypeCase], tenants: Sequence[int]) -> None:
    for case in cases:
        statement = sql.SQL("DELETE FROM {} WHERE tenant_id = ANY(%s)").format(sql.Identifier(case.name))
        assert connection.execute(statement, [list(tenants)]).rowcount > 0
    assert connection.execute("DELETE FROM tenant WHERE id = ANY(%s)", [list(tenants)]).rowcount == len(tenants)
