"""Whole databases of many schema shapes, from a seed: what the vault gives at every moment is what was there."""

from __future__ import annotations

from random import Random

import psycopg
import pytest

from tests.integration.follow.conftest import Factory
from tests.integration.follow.truth import Truth, compared
from tests.servers import Server
from tests.worlds import World


def work(url: str, followed: Factory, seed: int, steps: int, version: int = 18) -> None:
    world = World.random(seed, tenants=5, rows_max=12, version=version)
    world.create(url)
    one = followed(url, tenant_table=world.tenant_table_name, label=world.label_column)
    # Of a table without a usable identity the log has inserts only, and the vault says so: backups protect the rest.
    partial = {
        tuple(row)
        for row in one.query(
            f"SELECT schemaname, tablename FROM pg_publication_tables WHERE pubname = '{one.names.partial}'"
        )
    }
    tables = [table for table in world.tables if (table.schema, table.name) not in partial]
    truth = Truth(
        url,
        {table.printed: table.tenant if table.tenant is None else f"({table.tenant})::text" for table in tables},
        titles={table.printed: (table.title, table.from_clause) for table in tables},
    )
    chance = Random(seed)
    with one.running() as running:
        truth.note()
        for number in range(steps):
            with psycopg.connect(url) as connection:
                for statement in world.work_on(chance.choice(world.tenants), number + 1):
                    connection.execute(statement.encode())
            truth.note()
        world.destroy(url, world.tenants[:1])
        truth.note()
        running.caught_up()
        ever = running.follower.watch.ever
    assert not [text for text in ever if "not exact" in text], ever
    compared(one.vault(), truth, ignore={table.printed for table in world.tables if table not in tables})


@pytest.mark.parametrize("seed", range(3))
def test_a_world_is_followed_whatever_its_shapes(database: str, followed: Factory, seed: int) -> None:
    """Composite keys, self references, odd names, every type of key: each moment is exact for every tenant."""
    work(database, followed, 7000 + seed, 4)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(40))
def test_many_worlds_are_followed(database: str, followed: Factory, seed: int) -> None:
    work(database, followed, 7100 + seed, 8)


@pytest.mark.system
def test_a_world_on_15_is_followed(debian_server: Server, followed: Factory) -> None:
    with debian_server.new_database() as url:
        work(url, followed, 7200, 4, version=15)
