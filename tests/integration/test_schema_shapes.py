"""Schemas of every shape: each table finds its owner from the catalog alone, and is read tenant by tenant, whole."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg import IsolationLevel

from outlast.core.row import key_of, order_of
from outlast.core.table import OwnershipKind, Table
from outlast.core.tenant import TenantKey
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session, Target, connect
from outlast.sources.postgres.sweep import fingerprints, sweep
from tests.shapes import KEY_TYPES, SHAPES
from tests.worlds import World, WorldTenant, expected_ownership


@contextmanager
def reading(world: World, url: str) -> Iterator[tuple[Session, Catalog]]:
    settings = OwnershipSettings(world.tenant_table_name, world.label_column)
    with connect(Target(url), role="test") as session:
        session.isolation_level = IsolationLevel.REPEATABLE_READ
        yield session, read_catalog(session, settings)


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_every_table_finds_its_owner(shape: str, database: str) -> None:
    """The proposal that `init` would write is the one the shape was built for, and leaves nothing open."""
    world = World.random(len(shape), only=[shape], tenants=3, rows_max=5)
    world.create(database)
    check_ownership(world, database)


@pytest.mark.parametrize("seed", range(8))
def test_rows_come_whole_and_by_tenant(seed: int, database: str) -> None:
    """What the sweep reads is what the tables hold: each row once, with its tenant, in the order of its key."""
    world = World.random(100 + seed)
    world.create(database)
    check_sweep(world, database)


@pytest.mark.parametrize("key_type", sorted(KEY_TYPES))
def test_all_shapes_under_each_key_type(key_type: str, database: str) -> None:
    """Every shape at once, under tenant keys of every type."""
    world = World.random(7, only=sorted(SHAPES), key_type=key_type, names="odd", tenants=4, rows_max=8)
    world.create(database)
    check_ownership(world, database)
    check_sweep(world, database)


@pytest.mark.parametrize("seed", range(4))
def test_a_fingerprint_tells_who_changed(seed: int, database: str) -> None:
    """Writing to one tenant changes the fingerprints of that tenant's tables only, and reading changes none."""
    world = World.random(200 + seed)
    world.create(database)
    before = _all_fingerprints(world, database)
    assert _all_fingerprints(world, database) == before
    content = world.fingerprints(database)
    world.destroy(database, world.tenants[2:3], world.tables[-1:])
    _touch(world, database, world.tenants[0])
    after, content_after = _all_fingerprints(world, database), world.fingerprints(database)
    for table in world.tables:
        for tenant in world.tenants:
            pair = (table.printed, tenant.key)
            if content.get(tenant.key, {}).get(table.title) != content_after.get(tenant.key, {}).get(table.title):
                assert before.get(pair) != after.get(pair), pair
            elif tenant not in (world.tenants[0], world.tenants[2]):
                assert before.get(pair) == after.get(pair), pair


def check_ownership(world: World, url: str) -> None:
    with reading(world, url) as (_, catalog):
        found = {str(table.name): table.ownership for table in catalog.tables}
    open_ones = {name: one.reason for name, one in found.items() if one.kind is OwnershipKind.UNDECIDED}
    assert not open_ones
    assert {name: one.kind.value for name, one in found.items()} == expected_ownership(world)


def check_sweep(world: World, url: str) -> None:
    content = world.fingerprints(url)
    printed = {table.printed: table.title for table in world.tables}
    with reading(world, url) as (session, catalog):
        for table in catalog.tables:
            rows = _swept(session, catalog, table)
            expected = {
                tenant: int(tables[printed[str(table.name)]].split()[0])
                for tenant, tables in content.items()
                if printed[str(table.name)] in tables
            }
            assert {tenant: len(data) for tenant, data in rows.items()} == expected, table.name
            _check_order(table, rows)
            if table.ownership.kind is OwnershipKind.OWNED:
                for tenant in world.tenants:
                    alone = _swept(session, catalog, table, [TenantKey(tenant.key)])
                    assert alone.get(tenant.key, []) == rows.get(tenant.key, []), table.name


def _swept(
    session: Session, catalog: Catalog, table: Table, tenants: list[TenantKey] | None = None
) -> dict[str, list[bytes]]:
    rows: dict[str, list[bytes]] = defaultdict(list)
    last = None
    for block in sweep(session, catalog, table, tenants):
        assert block.tenant == last or block.tenant not in rows, f"{block.tenant} comes in two places"
        last = block.tenant
        lines = block.data.split(b"\n")[:-1]
        assert len(lines) == block.rows
        rows[block.tenant] += lines
    return dict(rows)


def _check_order(table: Table, rows: dict[str, list[bytes]]) -> None:
    cut, order = key_of(table.key_positions), order_of(table.key_kinds)
    for tenant, lines in rows.items():
        keys = [order(cut(line)) for line in lines]
        assert keys == sorted(keys), (table.name, tenant)
        if table.key:
            assert len(set(keys)) == len(keys), (table.name, tenant)


def _all_fingerprints(world: World, url: str) -> dict[tuple[str, str], object]:
    with reading(world, url) as (session, catalog):
        return {
            (str(table.name), tenant): fingerprint
            for table in catalog.tables
            for tenant, fingerprint in fingerprints(session, catalog, table).items()
        }


def _touch(world: World, url: str, tenant: WorldTenant) -> None:
    with psycopg.connect(url) as connection:
        for statement in world.work_on(tenant, 1):
            connection.execute(statement.encode())
