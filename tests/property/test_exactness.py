"""Exactness: destroy tenants of a random world, restore them, and everybody is as if nothing had happened.

The reference is a twin: a copy of the database from before, in which nothing was destroyed, and on which the workload
is replayed. It is compared by plain SQL that knows nothing of Outlast (tests/worlds.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.commands import Outlast
from tests.projects import Project
from tests.servers import Server
from tests.shapes import SHAPES
from tests.worlds import Workload, World


@pytest.fixture
def twin_of(server: Server) -> Iterator[Callable[[str], str]]:
    with server.copies() as copy:
        yield copy


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 6))])
def test_everybody_is_as_before(seed: int, database: str, outlast: Outlast, twin_of: Callable[[str], str]) -> None:
    """Whole tenants destroyed and restored, while others are written to from before the backup to after the restore."""
    check_exactness(World.random(1000 + seed), seed, database, outlast, twin_of, partly=False)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 4))])
def test_what_is_gone_in_part_comes_back(
    seed: int, database: str, outlast: Outlast, twin_of: Callable[[str], str]
) -> None:
    """Tenants that lost only some tables' rows have them again, and what was still there is untouched."""
    check_exactness(World.random(2000 + seed), seed, database, outlast, twin_of, partly=True)


@pytest.mark.parametrize("names", ["plain", "odd"])
def test_every_shape_at_once(names: str, database: str, outlast: Outlast, twin_of: Callable[[str], str]) -> None:
    """A database that has every shape there is."""
    world = World.random(3000, only=sorted(SHAPES), names=names, rows_max=25)
    check_exactness(world, 1, database, outlast, twin_of, partly=False)


@pytest.mark.slow
@pytest.mark.parametrize("partly", [False, True])
@pytest.mark.parametrize("seed", range(10, 50))
def test_more_worlds(seed: int, partly: bool, database: str, outlast: Outlast, twin_of: Callable[[str], str]) -> None:
    """The same with many more seeds."""
    check_exactness(World.random(1000 + seed), seed, database, outlast, twin_of, partly=partly)


def check_exactness(
    world: World, seed: int, url: str, outlast: Outlast, twin_of: Callable[[str], str], *, partly: bool
) -> None:
    chance = random.Random(seed)
    world.create(url)
    twin = twin_of(url)
    gone = chance.sample(world.tenants, 3)
    others = [tenant for tenant in world.tenants if tenant not in gone]
    project = Project(outlast, url)
    project.init(world.tenant_table_name, world.label_column)
    with Workload(world, url, others, seed) as workload:
        project.backup()
        destroyed = world.destroy(url, gone, world.pick_part(chance) if partly else None)
        names = [chance.choice([tenant.key, tenant.label]) for tenant in gone]
        result = project.restore(*names)
    workload.replay(twin)
    assert len(workload.committed) > 3
    assert world.fingerprints(url) == world.fingerprints(twin)
    inserted = sum(counts.get("insert", 0) for counts in result["effect"].values())
    assert inserted == destroyed
