"""A tenant that goes on working while it is restored; plans that are overtaken; locks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import psycopg
import pytest

from outlast.core.errors import Refused, TransientError
from outlast.core.plan import ConflictKind, Plan, TenantPlan, TenantState
from outlast.core.recipe import Mode, Recipe
from outlast.restore.history import Past
from outlast.sources.postgres.catalog import OwnershipSettings
from tests.integration.restore.memory import remember, restorer, subjects

SETTINGS = OwnershipSettings("accounts", "name")
REWIND = Recipe(mode=Mode.REWIND, delete_newer=True)

SCHEMA = """
CREATE TABLE accounts (id int PRIMARY KEY, name text, hits int NOT NULL DEFAULT 0);
CREATE TABLE items (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, body text, code int UNIQUE);
CREATE INDEX ON items (account_id);
CREATE TABLE remarks (id int PRIMARY KEY, item_id int NOT NULL REFERENCES items ON DELETE CASCADE);
CREATE INDEX ON remarks (item_id);
INSERT INTO accounts VALUES (1, 'acme'), (2, 'other');
INSERT INTO items SELECT n, 1 + n % 2, repeat('x', 50) || n, n FROM generate_series(1, 20000) n;
INSERT INTO remarks SELECT n, n FROM generate_series(1, 20000) n;
"""


@dataclass
class Shop:
    url: str
    connection: psycopg.Connection
    pasts: dict[str, Past]

    def run(self, statements: str) -> None:
        self.connection.execute(statements.encode())

    def one(self, query: str) -> object:
        row = self.connection.execute(query.encode()).fetchone()
        return None if row is None else row[0]

    def plan(self, recipe: Recipe = REWIND) -> Plan:
        with restorer(self.url, SETTINGS, recipe=recipe) as job:
            tenants = job.plan(subjects(self.pasts))
            plan = Plan("p", "restore", "main", recipe, 1, "now", datetime.now(UTC), tenants, shape=job.shape())
        return Plan.from_bytes(plan.to_bytes())

    def apply(self, plan: Plan) -> TenantPlan:
        with restorer(self.url, SETTINGS, recipe=plan.recipe) as job:
            (outcome,) = job.apply(plan, subjects(self.pasts))
            if job.errors:
                raise job.errors[0]
            return outcome


@pytest.fixture
def shop(database: str) -> Iterator[Shop]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        yield Shop(database, connection, remember(database, SETTINGS, ["1"]))


@dataclass
class Busy:
    """Something that is done over and over in a thread of its own, until the block ends."""

    url: str
    step: str  # %s is a number that counts up
    committed: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _going: threading.Event = field(default_factory=threading.Event)
    _failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        self._going.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        if error is None and self._failure is not None:
            raise AssertionError("the tenant's own work failed") from self._failure

    def _work(self) -> None:
        try:
            with psycopg.connect(self.url) as connection:
                while not self._stop.is_set():
                    connection.execute(self.step.replace("%s", str(self.committed + 1)).encode())
                    connection.commit()
                    self.committed += 1
                    self._going.set()
        except BaseException as error:  # noqa: BLE001 - raised again where the block ends
            self._failure = error
        finally:
            self._going.set()


WORK = (
    "UPDATE accounts SET hits = %s WHERE id = 1; INSERT INTO items VALUES (100000 + %s, 1, 'new', NULL);"
    "INSERT INTO remarks VALUES (100000 + %s, 100000 + %s)"
)


def test_the_tenant_itself_goes_on_working(shop: Shop) -> None:
    """Lost rows come back while the same tenant's users write: none of their writes is lost, or in the way."""
    for _ in range(3):
        shop.run("DELETE FROM items WHERE account_id = 1 AND id <= 20000 AND id % 3 = 0")
        work = WORK.replace("100000", str(shop.one("SELECT 100000 + max(id) FROM items")))
        with Busy(shop.url, work) as busy, restorer(shop.url, SETTINGS, recipe=Recipe()) as job:
            (outcome,) = job.execute(subjects(shop.pasts))
            assert not job.errors
        assert outcome.state is TenantState.DONE
        assert shop.one("SELECT hits FROM accounts WHERE id = 1") == busy.committed
        assert shop.one("SELECT count(*) FROM items WHERE body = 'new'") == busy.committed
        assert shop.one("SELECT count(*) FROM items WHERE id <= 20000") == 20000
        assert shop.one("SELECT count(*) FROM remarks WHERE id <= 20000") == 20000
        shop.run("DELETE FROM items WHERE body = 'new'")


def test_the_same_rows_are_written_by_both(shop: Shop) -> None:
    """A row that both change is serialized: tried again, and in the end as it was at the moment."""
    shop.run("UPDATE items SET body = 'y' WHERE account_id = 1")
    busy = Busy(shop.url, "UPDATE items SET body = 'busy %s' WHERE id = 2; SELECT pg_sleep(0.05)")
    with busy, restorer(shop.url, SETTINGS, recipe=REWIND) as job:
        (outcome,) = job.execute(subjects(shop.pasts))
    assert outcome.state in (TenantState.DONE, TenantState.FAILED)
    if outcome.state is TenantState.FAILED:
        assert isinstance(job.errors[0], TransientError)
        assert shop.one("SELECT count(*) FROM items WHERE body = 'y'") == 9999


def test_a_plan_holds_while_other_rows_change(shop: Shop) -> None:
    """What the tenant's users write elsewhere does not make a plan stale."""
    shop.run("UPDATE items SET body = 'y' WHERE id IN (2, 4); DELETE FROM items WHERE id = 6")
    plan = shop.plan(Recipe(mode=Mode.REWIND))
    shop.run("INSERT INTO accounts VALUES (3, 'third'); UPDATE items SET body = 'z' WHERE id = 3")
    assert shop.apply(plan).state is TenantState.DONE
    missing = Recipe()
    shop.run("DELETE FROM items WHERE id = 6")
    plan = shop.plan(missing)
    shop.run("UPDATE items SET body = 'later' WHERE id = 8; INSERT INTO items VALUES (30000, 1, 'later', NULL)")
    outcome = shop.apply(plan)
    assert (outcome.state, outcome.exact) == (TenantState.DONE, False)
    assert shop.one("SELECT count(*) FROM items WHERE body = 'later'") == 2


def test_a_plan_for_an_empty_table_holds_when_it_fills(shop: Shop) -> None:
    """Rows that the tenant writes into a table that was empty are none of the plan's."""
    shop.run("DELETE FROM items WHERE account_id = 1")
    plan = shop.plan(Recipe())
    shop.run("INSERT INTO items VALUES (30000, 1, 'new', NULL)")
    assert shop.apply(plan).state is TenantState.DONE
    assert shop.one("SELECT count(*) FROM items WHERE account_id = 1") == 10001


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE items SET body = 'again' WHERE id IN (2, 8)", "2 rows of public.items were written since (2, 8)"),
        ("INSERT INTO items VALUES (30000, 1, 'new', NULL)", "1 rows of public.items were written since (30000)"),
        ("DELETE FROM items WHERE id = 4", "rows of public.items are gone"),
    ],
)
def test_a_stale_plan_names_the_rows(shop: Shop, change: str, told: str) -> None:
    """Rows changed between plan and apply are named, and nothing is overwritten unseen."""
    shop.run("UPDATE items SET body = 'y' WHERE id IN (2, 4)")
    plan = shop.plan()
    shop.run(change)
    before = shop.one("SELECT md5(string_agg(i::text, '' ORDER BY id)) FROM items i")
    with pytest.raises(Refused, match="stale") as caught:
        shop.apply(plan)
    assert told in caught.value.message
    assert shop.one("SELECT md5(string_agg(i::text, '' ORDER BY id)) FROM items i") == before


def test_waiting_for_a_lock_is_bounded(shop: Shop) -> None:
    """A row that somebody else keeps locked ends the attempt in time, and the error says what to look for."""
    shop.run("UPDATE items SET body = 'y' WHERE id = 2")
    with psycopg.connect(shop.url) as other:
        other.execute("SELECT FROM items WHERE id = 2 FOR UPDATE")
        with restorer(shop.url, SETTINGS, recipe=REWIND, lock_timeout_s=0.05) as job:
            (outcome,) = job.execute(subjects(shop.pasts))
        assert outcome.state is TenantState.FAILED
        assert "lock" in job.errors[0].message
    assert shop.one("SELECT body FROM items WHERE id = 2") == "y"


@pytest.mark.parametrize("owned", [True, False])
def test_a_row_comes_below_one_that_is_deleted(shop: Shop, owned: bool) -> None:
    """Committed after the snapshot, it would go along unseen: counted, rolled back, and seen by the next attempt."""
    tables = _OWNED if owned else {**_OWNED, "public.remarks": "ignored"}
    settings = OwnershipSettings("accounts", "name", tables)
    pasts = remember(shop.url, settings, ["1"])
    shop.run("INSERT INTO items VALUES (50000, 1, 'new', NULL)")
    outcomes: list[TenantPlan] = []

    def restore() -> None:
        with restorer(shop.url, settings, recipe=REWIND) as job:
            outcomes.extend(job.execute(subjects(pasts)))

    with psycopg.connect(shop.url) as other:
        other.execute("INSERT INTO remarks VALUES (50000, 50000)")
        thread = threading.Thread(target=restore)
        thread.start()
        waiting = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        while not shop.one(waiting):
            assert thread.is_alive()
        other.commit()
        thread.join(60)
    (outcome,) = outcomes
    if owned:
        assert outcome.state is TenantState.DONE, outcome
        assert outcome.effect.to_json()["public.remarks"] == {"hard-delete": 1}
    else:
        assert [one.kind for one in outcome.conflicts] == [ConflictKind.REFERENCED], outcome
        assert shop.one("SELECT count(*) FROM remarks WHERE id = 50000") == 1


def test_no_strong_lock_is_ever_taken(shop: Shop) -> None:
    """Looked up in pg_locks all the while: nothing above ROW EXCLUSIVE on a table of the source."""
    watch = (
        "INSERT INTO seen SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
        " JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'relation' AND a.application_name LIKE 'outlast%'"
        " AND c.relnamespace ="
        " 'public'::regnamespace AND c.relkind = 'r' ON CONFLICT DO NOTHING -- %s"
    )
    shop.run("CREATE TABLE seen (name text, mode text, PRIMARY KEY (name, mode))")
    shop.run("DELETE FROM items WHERE account_id = 1 AND id % 3 = 0; UPDATE items SET body = 'y' WHERE account_id = 1")
    shop.run("INSERT INTO items SELECT n, 1, 'new', NULL FROM generate_series(50000, 55000) n")
    settings = OwnershipSettings("accounts", "name", {**_OWNED, "public.seen": "ignored"})
    with Busy(shop.url, watch), restorer(shop.url, settings, recipe=REWIND) as job:
        (outcome,) = job.execute(subjects(shop.pasts))
    assert outcome.state is TenantState.DONE
    seen = set(shop.connection.execute("SELECT name, mode FROM seen").fetchall())
    assert ("items", "RowExclusiveLock") in seen
    assert {mode for _, mode in seen} <= {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}


_OWNED = {
    "public.accounts": "owned by id",
    "public.items": "owned by account_id",
    "public.remarks": "owned through item_id",
}
