"""Small tenants share a transaction: fast, exact, and each of them refused or restored by itself."""

from __future__ import annotations

import psycopg
import pytest

from outlast.core.plan import ConflictKind, Plan, TenantPlan, TenantState
from outlast.restore import attempt, groups
from outlast.restore.applying import Applied
from outlast.sources.postgres.catalog import OwnershipSettings
from tests.integration.restore.memory import remember, restorer, subjects
from tests.servers import Server
from tests.worlds import Workload, World

SEED = 11


def settings_of(world: World) -> OwnershipSettings:
    return OwnershipSettings(world.tenant_table_name, world.label_column)


def count_statements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Transactions that apply_on was asked for, each with the number of its tenants."""
    sizes: list[int] = []
    real = attempt.apply_on

    def counting(work: object, scope: object, plans: list[TenantPlan], *more: object) -> Applied:
        sizes.append(len(plans))
        return real(work, scope, plans, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(groups, "apply_on", counting)
    return sizes


@pytest.mark.parametrize("lanes", [1, 3])
def test_many_tenants_one_transaction(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch, lanes: int
) -> None:
    """Every shape of table, thirty tenants: all exact, in one transaction a group, while the others keep writing."""
    world = World.random(SEED, tenants=36, rows_max=25, only=None)
    world.create(database)
    pasts = remember(database, settings_of(world), [tenant.key for tenant in world.tenants[:30]])
    with server.copies() as copies:
        twin = copies(database)
        world.destroy(database, world.tenants[:30])
        sizes = count_statements(monkeypatch)
        monkeypatch.setattr(groups, "TENANTS_MAX", 12)
        with (
            Workload(world, database, world.tenants[30:], SEED) as workload,
            restorer(database, settings_of(world)) as job,
        ):
            job.lanes = lanes
            outcomes = job.execute(subjects(pasts))
        assert [one.tenant.key for one in outcomes] == list(pasts)
        assert not job.errors
        done = [one for one in outcomes if one.state is TenantState.DONE]
        assert all(one.exact for one in done)
        assert {one.state for one in outcomes} <= {TenantState.DONE, TenantState.RIGHT}
        assert sum(sizes) == len(done)
        assert len(sizes) == 3
        workload.replay(twin)
        assert world.fingerprints(database) == world.fingerprints(twin)


def shop(url: str, tenants: int = 9) -> tuple[OwnershipSettings, list[str]]:
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE accounts (id int PRIMARY KEY, name text UNIQUE NOT NULL)")
        connection.execute(
            "CREATE TABLE items (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, code text UNIQUE)"
        )
        connection.execute("INSERT INTO accounts SELECT n, 'a' || n FROM generate_series(1, %s::int) n", [tenants])
        connection.execute(
            "INSERT INTO items SELECT a * 100 + n, a, 'c' || (a * 100 + n)"
            " FROM generate_series(1, %s::int) a, generate_series(1, 5) n",
            [tenants],
        )
    return OwnershipSettings("accounts", "name"), [str(number) for number in range(1, tenants + 1)]


def destroy(url: str, keep: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM items WHERE account_id <> %s", [keep])
        connection.execute("DELETE FROM accounts WHERE id <> %s", [keep])


def rows(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT * FROM items ORDER BY id").fetchall()


@pytest.mark.parametrize("execute", [True, False], ids=["execute", "plan"])
def test_the_culprit_stands_alone(database: str, execute: bool) -> None:
    """One tenant of a group cannot be written: it is refused with its reason, and all others are restored."""
    settings, keys = shop(database)
    whole = rows(database)
    pasts = remember(database, settings, keys[:8])
    destroy(database, keep=9)
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE items SET code = 'c302' WHERE id = 901")
    with restorer(database, settings) as job:
        outcomes = (job.execute if execute else job.plan)(subjects(pasts))
    states = {one.tenant.key: one.state for one in outcomes}
    fine = TenantState.DONE if execute else TenantState.PLANNED
    assert states == {key: TenantState.REFUSED if key == "3" else fine for key in pasts}
    (conflict,) = [conflict for one in outcomes for conflict in one.conflicts]
    assert (conflict.tenant, conflict.kind, conflict.holders) == ("3", ConflictKind.VALUE_TAKEN, ("9",))
    if execute:
        kept = [row for row in whole if row[1] not in (3, 9)]
        assert [row for row in rows(database) if row[1] != 9] == kept


def test_a_value_that_no_longer_fits_refuses_its_tenant_only(database: str) -> None:
    """A CHECK that came since is broken by one tenant's rows."""
    settings, keys = shop(database)
    pasts = remember(database, settings, keys[:8])
    destroy(database, keep=9)
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE items ADD CHECK (id <> 402)")
    with restorer(database, settings) as job:
        outcomes = job.execute(subjects(pasts))
    assert {one.tenant.key for one in outcomes if one.state is not TenantState.DONE} == {"4"}


def test_what_was_shown_is_what_is_done(database: str) -> None:
    """A tenant that changed since the plan was shown is refused; the others of its group are applied as shown."""
    settings, keys = shop(database)
    pasts = remember(database, settings, keys[:8])
    destroy(database, keep=9)
    with restorer(database, settings) as job:
        planned = job.plan(subjects(pasts))
        shape = job.shape()
    with psycopg.connect(database) as connection:
        connection.execute("INSERT INTO accounts VALUES (5, 'a5')")
    with restorer(database, settings) as job:
        outcomes = job.apply(plan_of(planned, shape), subjects(pasts))
    assert {one.tenant.key for one in outcomes if one.state is not TenantState.DONE} == {"5"}
    assert [error.code for error in job.errors] == ["stale"]


def test_a_tenant_whose_stored_state_cannot_be_read_fails_alone(database: str) -> None:
    """Corruption of one tenant in the vault is told of that tenant, and keeps no other waiting."""
    from outlast.core.errors import CorruptionError
    from outlast.restore.history import Past
    from outlast.restore.restoring import Subject

    settings, keys = shop(database)
    pasts = remember(database, settings, keys[:8])
    destroy(database, keep=9)

    def lost() -> Past:
        raise CorruptionError("the pack is gone")

    told: list[str] = []
    with restorer(database, settings) as job:
        job.on_tenant = lambda one: told.append(one.tenant.key)
        given = [Subject(one.tenant, lost) if one.tenant.key == "2" else one for one in subjects(pasts)]
        outcomes = job.execute(given)
    assert {one.tenant.key: one.state for one in outcomes if one.state is not TenantState.DONE} == {
        "2": TenantState.FAILED
    }
    assert sorted(told) == sorted(pasts)


def test_memory_decides_who_shares(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tenant whose rows are too many for a group runs alone, whether they are stored or live."""
    settings, keys = shop(database)
    whole = rows(database)
    pasts = remember(database, settings, keys[:8])
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM items WHERE id % 100 = 3 AND account_id <> 9")
    sizes = count_statements(monkeypatch)
    monkeypatch.setattr(groups, "_GROUP_BYTES_MAX", 180)
    with restorer(database, settings) as job:
        outcomes = job.execute(subjects(pasts))
    assert {one.state for one in outcomes} == {TenantState.DONE}
    assert all(one.exact for one in outcomes)
    assert rows(database) == whole
    assert sum(sizes) < len(pasts)


def plan_of(planned: tuple[TenantPlan, ...], shape: str) -> Plan:
    from datetime import UTC, datetime

    from outlast.core.plan import Recipe

    return Plan("p", "restore", "main", Recipe(), 1, "run 1", datetime.now(UTC), planned, shape=shape)


def test_a_lost_connection_is_nobodys_fault(server: Server, database: str) -> None:
    """The session is ended while a group is written: it is done again as a whole, and told as done once."""
    settings, keys = shop(database)
    whole = rows(database)
    pasts = remember(database, settings, keys[:8])
    destroy(database, keep=9)
    told: list[str] = []
    with restorer(database, settings) as job:
        job.on_tenant = lambda one: told.append(one.tenant.key)
        job.sessions.writer()
        with server.connect() as other:
            other.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'outlast restore'"
            )
        outcomes = job.execute(subjects(pasts))
    assert {one.state for one in outcomes} == {TenantState.DONE}
    assert sorted(told) == sorted(pasts)
    assert rows(database) == whole


def test_nobody_elses_rows_are_read(database: str) -> None:
    """A group's rows are looked up by index, through a foreign key too, where the server's defaults read the table."""
    settings, keys = shop(database, tenants=2_000)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("CREATE INDEX ON items (account_id)")
        connection.execute(
            "CREATE TABLE comments (id int PRIMARY KEY, item_id int NOT NULL REFERENCES items, body text);"
            "INSERT INTO comments SELECT row_number() OVER (), id, repeat('word ', 20)"
            " FROM items, generate_series(1, 3);"
            "CREATE INDEX ON comments (item_id)"
        )
        connection.execute("VACUUM ANALYZE")
    gone = keys[:40]
    pasts = remember(database, settings, gone)
    with psycopg.connect(database, autocommit=True) as connection:
        few = "SELECT id FROM items WHERE account_id <= 40"
        connection.execute(f"DELETE FROM comments WHERE item_id IN ({few})".encode())
        connection.execute("DELETE FROM items WHERE account_id <= 40")
        connection.execute("DELETE FROM accounts WHERE id <= 40")
        read = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'comments'"
        connection.execute("SELECT pg_stat_force_next_flush()")
        before = connection.execute(read.encode()).fetchone()
        with restorer(database, settings) as job:
            assert {one.state for one in job.execute(subjects(pasts))} == {TenantState.DONE}
        # the sessions have told what they did once they are gone
        while connection.execute(
            "SELECT FROM pg_stat_activity WHERE application_name = 'outlast restore' AND datname = current_database()"
        ).fetchone():
            pass
        assert connection.execute(read.encode()).fetchone() == before
