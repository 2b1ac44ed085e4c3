"""The worlds that other tests stand on: each shape can be built, destroyed and written to, and replayed."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.servers import Server
from tests.shapes import KEY_TYPES, SHAPES
from tests.worlds import ORPHAN, SHARED, Workload, World


@pytest.fixture
def twin_of(server: Server) -> Iterator[Callable[[str], str]]:
    with server.copies() as copy:
        yield copy


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_a_shape_stands(shape: str, database: str) -> None:
    """Every shape builds alone, with odd names, and each tenant that has rows has its own fingerprint."""
    world = World.random(len(shape), only=[shape], names="odd", tenants=4, rows_max=12)
    world.create(database)
    prints = world.fingerprints(database)
    assert {tenant.key for tenant in world.tenants} <= prints.keys()
    assert prints.keys() <= {tenant.key for tenant in world.tenants} | {ORPHAN, SHARED}
    largest = prints[world.tenants[0].key]
    assert largest.keys() == {table.title for table in world.tables if table.tenant is not None}


@pytest.mark.parametrize("seed", range(6))
def test_destroying_some_leaves_the_others(seed: int, database: str) -> None:
    """After a destruction nothing of the destroyed is left, and everybody else is as before."""
    world = World.random(seed)
    world.create(database)
    before = world.fingerprints(database)
    gone = random.Random(seed).sample(world.tenants, 3)
    assert world.destroy(database, gone) > 0
    after = world.fingerprints(database)
    keys = {tenant.key for tenant in gone}
    assert keys.isdisjoint(after)
    assert after == {key: value for key, value in before.items() if key not in keys}


@pytest.mark.parametrize("seed", range(6))
def test_a_workload_replays(seed: int, database: str, twin_of: Callable[[str], str]) -> None:
    """What a workload did to one database, done again to its copy, makes the two equal."""
    world = World.random(seed)
    world.create(database)
    before = world.fingerprints(database)
    twin = twin_of(database)
    with Workload(world, database, world.tenants[3:], seed) as workload:
        world.destroy(database, world.tenants[:1])
        while len(workload.committed) < 30 and workload.running:
            pass
    assert len(workload.committed) >= 30
    workload.replay(twin)
    after, expected = world.fingerprints(database), world.fingerprints(twin)
    assert expected.pop(world.tenants[0].key) == before[world.tenants[0].key]
    assert after == expected
    assert after != before


def test_a_seed_is_the_whole_world(server: Server) -> None:
    """The same seed gives the same statements and the same rows."""
    first, again, other = World.random(5), World.random(5), World.random(6)
    assert first == again
    assert first != other
    prints = []
    for world in (first, again):
        with server.new_database() as url:
            world.create(url)
            prints.append(world.fingerprints(url))
    assert prints[0] == prints[1]


@pytest.mark.parametrize("key_type", sorted(KEY_TYPES))
def test_tenant_keys_of_every_type(key_type: str, database: str) -> None:
    """All shapes together stand under each type of tenant key."""
    world = World.random(1, only=sorted(SHAPES), key_type=key_type, names="plain", tenants=3, rows_max=9)
    world.create(database)
    assert len(world.fingerprints(database)) == 5
