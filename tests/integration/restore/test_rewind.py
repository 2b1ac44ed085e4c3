"""Rewind makes a tenant as it was, and undo makes it as it was before that; nobody else's row is touched."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from outlast.core.errors import UsageError
from outlast.core.plan import ConflictKind, TenantPlan, TenantState
from outlast.core.recipe import Mode, Prefer, Recipe
from outlast.sources.postgres.catalog import OwnershipSettings
from tests.integration.restore.memory import Keeping, remember, restorer, subjects
from tests.integration.restore.test_conflicts import SCHEMA, SETTINGS, Shop
from tests.worlds import World, WorldTenant

REWIND = Recipe(mode=Mode.REWIND, delete_newer=True)


@pytest.fixture
def shop(database: str) -> Iterator[Shop]:
    """The shop of test_conflicts, its tenant 1 remembered, and untouched so far."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        yield Shop(database, connection, remember(database, SETTINGS, ["1"]))


def run(shop: Shop, recipe: Recipe = REWIND) -> TenantPlan:
    """Restore tenant 1; other tenants' rows are as before."""
    others = others_of(shop)
    with restorer(shop.url, SETTINGS, recipe=recipe) as job:
        (outcome,) = job.execute(subjects(shop.pasts))
        if job.errors:
            raise job.errors[0]
    assert others_of(shop) == others
    return outcome


def others_of(shop: Shop) -> list[str]:
    found = shop.connection.execute(
        "SELECT 'a' || a::text FROM accounts a WHERE id <> 1 UNION ALL SELECT 'u' || u::text FROM users u"
        " WHERE account_id <> 1 UNION ALL SELECT 'b' || b::text FROM bookings b WHERE account_id <> 1"
        " UNION ALL SELECT 'n' || n::text FROM notes n WHERE account_id <> 1 ORDER BY 1"
    )
    return [row[0] for row in found]


CHANGES = [
    "UPDATE users SET nick = 'x', amount = 9 WHERE id = 10",
    "UPDATE accounts SET name = 'acme 2', plan_id = 1 WHERE id = 1",
    "DELETE FROM users WHERE id = 11",
    "INSERT INTO users (id, account_id, email, code, boss) VALUES (50, 1, 'n@x.org', 'n', 10)",
    "INSERT INTO notes VALUES (1, 'same'), (1, 'mine')",
    "DELETE FROM notes WHERE ctid = (SELECT min(ctid) FROM notes WHERE body = 'same' AND account_id = 1)",
    "UPDATE notes SET body = 'changed' WHERE body = 'other' AND account_id = 1",
    "UPDATE bookings SET room = '[2,3)' WHERE id = 1",
    "UPDATE users SET id = 77 WHERE id = 11",  # a changed key is a row that went and one that came
    "UPDATE users SET nick = CASE nick WHEN 'ann' THEN 'bob' ELSE 'ann' END WHERE nick IS NOT NULL AND account_id = 1",
    "UPDATE users SET email = 'q@x.org' WHERE id = 11; UPDATE users SET email = 'bob@x.org' WHERE id = 10",
    "UPDATE users SET boss = 50 WHERE id = 10",
    "UPDATE users SET boss = NULL; DELETE FROM users WHERE account_id = 1",
]


@pytest.mark.parametrize("seed", range(6))
def test_everything_is_as_it_was(shop: Shop, seed: int) -> None:
    """Whatever was changed, inserted and deleted: one transaction makes it as it was, exactly."""
    before = shop.rows()
    chance = random.Random(seed)
    for change in CHANGES if seed == 0 else chance.sample(CHANGES, 5):
        for statement in change.split(";"):
            try:
                shop.run(statement)
            except psycopg.Error:
                continue  # it does not go with the others of this seed
    outcome = run(shop)
    assert (outcome.state, outcome.exact) == (TenantState.DONE, True), outcome
    assert shop.rows() == before
    assert run(shop).state is TenantState.RIGHT


def test_unique_values_change_hands(shop: Shop) -> None:
    """Rows of the tenant that exchanged their unique values, expressions and partial indexes too, get them back."""
    before = shop.rows()
    shop.run("UPDATE users SET nick = 'tmp', email = 'tmp@x.org' WHERE id = 10")
    shop.run("UPDATE users SET nick = 'ann', email = 'ANN@X.org' WHERE id = 11")
    shop.run("UPDATE users SET nick = 'bob', email = 'Bob@x.org' WHERE id = 10")
    assert run(shop).state is TenantState.DONE
    assert shop.rows() == before


def test_newer_rows_are_deleted_only_when_asked(shop: Shop) -> None:
    """Without --delete-newer the plan is refused with the number; with it they are counted apart."""
    shop.run("INSERT INTO users (id, account_id, email, code) VALUES (50, 1, 'n@x.org', 'n'), (51, 1, 'm@x.org', 'm')")
    before = shop.rows()
    outcome = run(shop, Recipe(mode=Mode.REWIND))
    assert outcome.state is TenantState.REFUSED
    (conflict,) = outcome.conflicts
    assert (conflict.kind, conflict.rows, conflict.keys) == (ConflictKind.NEWER_ROWS, 2, ("50", "51"))
    assert "--delete-newer" in str(conflict.hint)
    assert shop.rows() == before
    assert run(shop).effect.to_json() == {"public.users": {"hard-delete": 2}}


def test_a_counter_keeps_its_larger_value(shop: Shop) -> None:
    """--keep leaves what only ever grows, where it grew."""
    shop.run("UPDATE users SET amount = amount + 100, nick = NULL WHERE id IN (10, 11); UPDATE users SET amount = 0")
    shop.run("UPDATE users SET amount = 500.5 WHERE id = 10")
    outcome = run(shop, Recipe(mode=Mode.REWIND, keep=("users.amount",)))
    assert (outcome.state, outcome.exact) == (TenantState.DONE, False)
    rows = shop.connection.execute(
        "SELECT id, nick, amount::text FROM users WHERE account_id = 1 ORDER BY 1"
    ).fetchall()
    assert rows == [(10, "ann", "500.50"), (11, "bob", "2.00"), (12, None, "3.00")]
    for wrong in ("nick", "nothing", "id"):
        with pytest.raises(UsageError, match="--keep"):
            run(shop, Recipe(mode=Mode.REWIND, keep=(wrong,)))


def test_one_table_alone(shop: Shop) -> None:
    """--table rewinds that table and leaves the others."""
    shop.run("UPDATE users SET nick = 'x' WHERE id = 10; UPDATE accounts SET name = 'acme 2' WHERE id = 1")
    outcome = run(shop, Recipe(mode=Mode.REWIND, tables=("public.users",)))
    assert outcome.effect.to_json() == {"public.users": {"update": 1}}
    assert shop.connection.execute("SELECT name FROM accounts WHERE id = 1").fetchone() == ("acme 2",)


def test_one_row_and_what_hangs_on_it(database: str) -> None:
    """--where takes the row named, and what its deletion took along; other rows stay as they are."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            b"CREATE TABLE accounts (id int PRIMARY KEY, name text);"
            b"CREATE TABLE tickets (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, title text);"
            b"CREATE TABLE comments (id int PRIMARY KEY, ticket_id int NOT NULL REFERENCES tickets ON DELETE CASCADE);"
            b"CREATE TABLE votes (comment_id int REFERENCES comments ON DELETE CASCADE, n int,"
            b" account_id int NOT NULL REFERENCES accounts, PRIMARY KEY (comment_id, n));"
            b"INSERT INTO accounts VALUES (1, 'acme'), (2, 'other');"
            b"INSERT INTO tickets VALUES (5, 1, 'five'), (6, 1, 'six'), (7, 2, 'seven');"
            b"INSERT INTO comments VALUES (50, 5), (51, 5), (60, 6); INSERT INTO votes VALUES (50, 1, 1), (60, 1, 1);"
        )
        settings = OwnershipSettings("accounts", "name")
        pasts = remember(database, settings, ["1"])
        connection.execute(b"DELETE FROM tickets WHERE id IN (5, 6)")
        recipe = Recipe(tables=("public.tickets",), where=("5",))
        with restorer(database, settings, recipe=recipe) as job:
            (outcome,) = job.execute(subjects(pasts))
        assert outcome.effect.to_json() == {
            "public.comments": {"insert": 2},
            "public.tickets": {"insert": 1},
            "public.votes": {"insert": 1},
        }
        connection.execute(b"UPDATE tickets SET title = 'x' WHERE id IN (5, 7); INSERT INTO comments VALUES (52, 5)")
        with restorer(database, settings, recipe=Recipe(Mode.REWIND, recipe.tables, recipe.where)) as job:
            (outcome,) = job.execute(subjects(pasts))
        assert [one.kind for one in outcome.conflicts] == [ConflictKind.NEWER_ROWS]


def settings_of(world: World) -> OwnershipSettings:
    return OwnershipSettings(world.tenant_table_name, world.label_column)


def meddle(world: World, url: str, tenants: list[WorldTenant], chance: random.Random) -> None:
    """Work on tenants as their application would, and lose some of their rows."""
    world.destroy(url, tenants, world.pick_part(chance))
    with psycopg.connect(url) as connection:
        for number in range(1, 4):
            for tenant in tenants:
                for statement in world.work_on(tenant, number):
                    connection.execute("SAVEPOINT one")
                    try:
                        connection.execute(statement.encode())
                    except psycopg.Error:
                        connection.execute("ROLLBACK TO one")  # it needs rows that were destroyed


def check_rewind_and_undo(url: str, world: World, seed: int, folder: Path) -> None:
    """Tenants that were worked on are rewound, that is undone, and that undone again."""
    chance = random.Random(seed)
    world.create(url)
    whole = world.fingerprints(url)
    settings = settings_of(world)
    victims = list(world.tenants[:3])
    pasts = remember(url, settings, [tenant.key for tenant in victims])
    meddle(world, url, victims, chance)
    meddled = world.fingerprints(url)
    keeping = Keeping(folder)
    with restorer(url, settings, recipe=REWIND, keeper=keeping.keeper("p1")) as job:
        outcomes = job.execute(keeping.subjects(pasts))
        assert not job.errors
    assert {one.state for one in outcomes} <= {TenantState.DONE, TenantState.RIGHT}, outcomes
    assert all(one.exact for one in outcomes)
    # The work changed shared rows, too, which are no tenant's
    assert world.fingerprints(url) | {"@shared": {}} == whole | {"@shared": {}}
    done = [one.tenant.key for one in outcomes if one.state is TenantState.DONE]
    for plan, undone, expected in (("p2", "p1", meddled), ("p3", "p2", whole)):
        recipe = Recipe(mode=Mode.REVERSE, undo_of=undone)
        with restorer(url, settings, recipe=recipe, keeper=keeping.keeper(plan)) as job:
            outcomes = job.execute(keeping.undoing(url, undone, done))
            assert not job.errors
        kinds = {conflict.kind for one in outcomes for conflict in one.conflicts}
        if kinds and kinds <= {ConflictKind.REFERENCED, ConflictKind.PARENT_GONE} and plan == "p2":
            return  # a cycle was torn up with its foreign keys switched off: nobody could write that state
        assert {one.state for one in outcomes} <= {TenantState.DONE}, [one.conflicts for one in outcomes]
        assert world.fingerprints(url) | {"@shared": {}} == expected | {"@shared": {}}, plan


@pytest.mark.parametrize("seed", range(6))
def test_any_world_is_rewound_and_undone(database: str, tmp_path: Path, seed: int) -> None:
    """Whatever the schema: rewound tenants are as they were, undone ones as before that; everybody else untouched."""
    check_rewind_and_undo(database, World.random(400 + seed), seed, tmp_path / "undo")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6, 60))
def test_more_worlds(database: str, tmp_path: Path, seed: int) -> None:
    """The same with many more seeds."""
    check_rewind_and_undo(database, World.random(400 + seed), seed, tmp_path / "undo")


def test_undo_keeps_what_came_after(shop: Shop, tmp_path: Path) -> None:
    """A row changed again since is a conflict; --prefer says whose it is to be; other later rows stay."""
    keeping = Keeping(tmp_path / "undo")
    shop.run("DELETE FROM users WHERE id = 11; UPDATE users SET nick = 'x' WHERE id = 10")
    with restorer(shop.url, SETTINGS, recipe=REWIND, keeper=keeping.keeper("p1")) as job:
        (outcome,) = job.execute(keeping.subjects(shop.pasts))
    assert outcome.state is TenantState.DONE
    shop.run("UPDATE users SET nick = 'later' WHERE id = 11")
    shop.run("INSERT INTO users (id, account_id, email, code) VALUES (60, 1, 'after@x.org', 'z')")

    def undo(plan: str, prefer: Prefer | None) -> TenantPlan:
        recipe = Recipe(mode=Mode.REVERSE, undo_of="p1", prefer=prefer)
        with restorer(shop.url, SETTINGS, recipe=recipe, keeper=keeping.keeper(plan)) as job:
            (outcome,) = job.execute(keeping.undoing(shop.url, "p1", ["1"]))
            assert not job.errors
            return outcome

    refused = undo("p2", None)
    assert [(one.kind, one.keys) for one in refused.conflicts] == [(ConflictKind.CHANGED_SINCE, ("11",))]
    assert undo("p3", Prefer.LIVE).state is TenantState.DONE
    rows = shop.connection.execute("SELECT id, nick FROM users WHERE account_id = 1 ORDER BY id").fetchall()
    assert rows == [(10, "x"), (11, "later"), (12, None), (60, None)]
