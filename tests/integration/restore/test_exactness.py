"""Destroyed tenants come back exactly, and nobody else's row is touched."""

from __future__ import annotations

import random

import pytest
from psycopg.conninfo import conninfo_to_dict

from outlast.core.plan import TenantState
from outlast.sources.postgres.catalog import OwnershipSettings
from tests.integration.restore.memory import execute, remember, restorer, subjects
from tests.servers import Server
from tests.worlds import Workload, World


def settings_of(world: World) -> OwnershipSettings:
    return OwnershipSettings(world.tenant_table_name, world.label_column)


@pytest.mark.parametrize("seed", range(12))
def test_destroyed_tenants_are_as_before(database: str, seed: int) -> None:
    """Whatever the schema: some tenants are deleted for good, put back, and every tenant's fingerprint is as before."""
    chance = random.Random(seed)
    world = World.random(seed)
    world.create(database)
    before = world.fingerprints(database)
    settings = settings_of(world)
    victims = chance.sample(list(world.tenants), 3)
    pasts = remember(database, settings, [tenant.key for tenant in victims])
    world.destroy(database, victims, world.pick_part(chance) if seed % 2 else None)
    assert world.fingerprints(database) != before or not any(past.tables for past in pasts.values())
    outcomes = execute(database, settings, pasts)
    assert world.fingerprints(database) == before
    for outcome in outcomes:
        assert outcome.state in (TenantState.DONE, TenantState.RIGHT), outcome
        assert outcome.exact
        assert outcome.root == pasts[outcome.tenant.key].root
    again = execute(database, settings, pasts)
    assert {outcome.state for outcome in again} == {TenantState.RIGHT}


@pytest.mark.parametrize("seed", range(100, 104))
def test_others_go_on_writing(server: Server, database: str, seed: int) -> None:
    """While tenants are restored the others keep writing, and end as they would have without the restore."""
    chance = random.Random(seed)
    world = World.random(seed)
    world.create(database)
    settings = settings_of(world)
    victims, others = list(world.tenants[:3]), world.tenants[3:]
    pasts = remember(database, settings, [tenant.key for tenant in victims])
    twin = server.copy_database(database)
    with Workload(world, database, others, seed) as workload:
        for _ in range(3):
            world.destroy(database, victims, world.pick_part(chance))
            outcomes = execute(database, settings, pasts)
            assert all(outcome.exact for outcome in outcomes), outcomes
    workload.replay(twin)
    assert world.fingerprints(database) == world.fingerprints(twin)
    server.drop_database(str(conninfo_to_dict(twin)["dbname"]))


def test_a_plan_changes_nothing(database: str) -> None:
    """Planning stages and looks for conflicts, and leaves the database as it was."""
    world = World.random(5)
    world.create(database)
    settings = settings_of(world)
    pasts = remember(database, settings, [tenant.key for tenant in world.tenants[:2]])
    world.destroy(database, world.tenants[:2])
    before = world.fingerprints(database)
    with restorer(database, settings) as job:
        plans = job.plan(subjects(pasts))
    assert world.fingerprints(database) == before
    for plan in plans:
        assert plan.state is TenantState.PLANNED
        assert not plan.conflicts
        assert plan.effect.rows == sum(table.rows for table in pasts[plan.tenant.key].tables.values())
