"""How rows are written: triggers, roles without privileges, cycles of foreign keys, plans applied later."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outlast.core.errors import OutlastError, Refused
from outlast.core.plan import ConflictKind, Plan, Recipe, TenantPlan, TenantState, new_plan_id
from outlast.restore.history import Past
from outlast.sources.postgres.catalog import OwnershipSettings
from tests.integration.restore.memory import execute, remember, restorer, subjects
from tests.servers import Server

SETTINGS = OwnershipSettings("public.accounts", "name")

SCHEMA = """
CREATE TABLE accounts (id bigint PRIMARY KEY, name text UNIQUE);
CREATE TABLE plans (id int PRIMARY KEY);
CREATE TABLE teams (
    id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, lead bigint NOT NULL,
    plan_id int REFERENCES plans
);
CREATE TABLE people (
    id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, team_id bigint NOT NULL REFERENCES teams,
    boss bigint NOT NULL REFERENCES people
);
ALTER TABLE teams ADD FOREIGN KEY (lead) REFERENCES people;
CREATE TABLE ranks (
    account_id bigint NOT NULL REFERENCES accounts, place int NOT NULL, who bigint REFERENCES people,
    UNIQUE (account_id, place) DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX ON people (account_id);
INSERT INTO plans VALUES (1);
INSERT INTO accounts SELECT g, 'a' || g FROM generate_series(1, 3) g;
SET session_replication_role = replica;
INSERT INTO teams SELECT g, 1 + g % 3, g, 1 FROM generate_series(1, 30) g;
INSERT INTO people SELECT g, 1 + g % 3, g, 31 - g FROM generate_series(1, 30) g WHERE (31 - g) % 3 <> 9;
SET session_replication_role = origin;
INSERT INTO ranks SELECT 1 + g % 3, g, g FROM generate_series(1, 30) g;
"""

WIPE = """
SET session_replication_role = replica;
DELETE FROM ranks WHERE account_id = 1; DELETE FROM people WHERE account_id = 1; DELETE FROM teams WHERE account_id = 1;
DELETE FROM accounts WHERE id = 1;
SET session_replication_role = origin;
"""

MEDDLE = """
CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := upper(NEW.name); RETURN NEW; END $$;
CREATE TRIGGER meddle BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION meddle();
"""

ROLE = "outlast_restore_tests"
GRANTS = f"""
GRANT USAGE ON SCHEMA public TO {ROLE};
GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA public TO {ROLE};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE};
"""


@pytest.fixture
def victim(database: str) -> Iterator[tuple[str, psycopg.Connection, dict[str, Past]]]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        pasts = remember(database, SETTINGS, ["1"])
        connection.execute(WIPE.encode())
        yield database, connection, pasts


@pytest.fixture
def unprivileged(server: Server, victim: tuple[str, psycopg.Connection, dict[str, Past]]) -> Iterator[str]:
    """The database's URL for a role that may do no more than read and write the tables."""
    url, connection, _ = victim
    connection.execute(f"DROP ROLE IF EXISTS {ROLE}".encode())
    connection.execute(f"CREATE ROLE {ROLE} LOGIN".encode())
    connection.execute(GRANTS.encode())
    yield make_conninfo(url, user=ROLE)
    connection.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}".encode())


def everything(connection: psycopg.Connection) -> list[str]:
    return [
        f"{table} {row}"
        for table in ("accounts", "teams", "people", "ranks")
        for (row,) in connection.execute(f"SELECT t::text FROM {table} t ORDER BY 1".encode())
    ]


def test_a_cycle_of_foreign_keys(victim: tuple[str, psycopg.Connection, dict[str, Past]], unprivileged: str) -> None:
    """Tables that point at each other by NOT NULL keys are written by one statement, with triggers off and on."""
    url, connection, pasts = victim
    for who in (url, unprivileged):
        (outcome,) = execute(who, SETTINGS, pasts)
        assert (outcome.state, outcome.exact) == (TenantState.DONE, True), outcome
        connection.execute(WIPE.encode())


def test_triggers_stay_silent_where_that_is_sound(victim: tuple[str, psycopg.Connection, dict[str, Past]]) -> None:
    """A role that may set session_replication_role restores what was stored, whatever triggers would make of it."""
    url, connection, pasts = victim
    connection.execute(MEDDLE.encode())
    (outcome,) = execute(url, SETTINGS, pasts)
    assert (outcome.state, outcome.exact, outcome.notes) == (TenantState.DONE, True, ())


@pytest.mark.parametrize("always", [True, False])
def test_a_trigger_that_changes_rows(
    victim: tuple[str, psycopg.Connection, dict[str, Past]], unprivileged: str, always: bool
) -> None:
    """Where it must fire, the plan names it, the read-back catches it, and nothing is changed."""
    url, connection, pasts = victim
    connection.execute(MEDDLE.encode())
    if always:
        connection.execute("ALTER TABLE accounts ENABLE ALWAYS TRIGGER meddle")
    before = everything(connection)
    who = url if always else unprivileged
    (outcome,) = execute(who, SETTINGS, pasts)
    assert everything(connection) == before
    assert outcome.state is TenantState.REFUSED
    (conflict,) = outcome.conflicts
    assert (conflict.kind, conflict.table) == (ConflictKind.NOT_EXACT, "public.accounts")
    assert "meddle" in conflict.message
    assert any("meddle" in note for note in outcome.notes)


def test_a_trigger_that_only_watches(
    victim: tuple[str, psycopg.Connection, dict[str, Past]], unprivileged: str
) -> None:
    """A trigger that leaves the tenant's rows alone is no obstacle."""
    _, connection, pasts = victim
    connection.execute(
        b"CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
        b"CREATE TRIGGER watch AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION watch();"
    )
    (outcome,) = execute(unprivileged, SETTINGS, pasts)
    assert (outcome.state, outcome.exact) == (TenantState.DONE, True)
    assert outcome.notes


def test_a_trigger_finds_what_it_names_without_a_schema(
    victim: tuple[str, psycopg.Connection, dict[str, Past]], unprivileged: str
) -> None:
    """A trigger's function sees the search path that the database gives its own sessions, deferred ones too."""
    _, connection, pasts = victim
    connection.execute(
        b"CREATE TABLE audit (note text);"
        b"CREATE FUNCTION watch() RETURNS trigger LANGUAGE plpgsql AS"
        b" $$ BEGIN INSERT INTO audit VALUES (TG_NAME); RETURN NULL; END $$;"
        b"CREATE TRIGGER watch AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION watch();"
        b"CREATE CONSTRAINT TRIGGER later AFTER INSERT ON accounts DEFERRABLE INITIALLY DEFERRED"
        b" FOR EACH ROW EXECUTE FUNCTION watch();"
    )
    connection.execute(f"GRANT INSERT ON audit TO {ROLE}".encode())
    (outcome,) = execute(unprivileged, SETTINGS, pasts)
    assert (outcome.state, outcome.exact) == (TenantState.DONE, True), outcome
    assert {note for (note,) in connection.execute("SELECT note FROM audit")} == {"watch", "later"}


def test_row_level_security_never_hides_rows(
    victim: tuple[str, psycopg.Connection, dict[str, Past]], unprivileged: str
) -> None:
    """A policy that applies to the role is an error, not a filter."""
    _, connection, pasts = victim
    connection.execute("ALTER TABLE teams ENABLE ROW LEVEL SECURITY")
    connection.execute("CREATE POLICY part ON teams USING (id > 5)")
    before = everything(connection)
    with pytest.raises(Refused, match="row-level security"):
        execute(unprivileged, SETTINGS, pasts)
    assert everything(connection) == before


def test_without_a_privilege(victim: tuple[str, psycopg.Connection, dict[str, Past]], unprivileged: str) -> None:
    """A table that may not be written is named, with what to do."""
    _, connection, pasts = victim
    connection.execute(f"REVOKE INSERT ON people FROM {ROLE}".encode())
    before = everything(connection)
    with pytest.raises(OutlastError, match="permission denied for table people") as caught:
        execute(unprivileged, SETTINGS, pasts)
    assert "--print-grants" in str(caught.value.hint)
    assert everything(connection) == before


def plan_of(url: str, pasts: dict[str, Past]) -> Plan:
    with restorer(url, SETTINGS) as job:
        tenants = job.plan(subjects(pasts))
        now = datetime.now(UTC)
        plan = Plan(new_plan_id(now), "restore", "main", Recipe(), 1, "now", now, tenants, shape=job.shape())
    return Plan.from_bytes(plan.to_bytes())


def applied(url: str, plan: Plan, pasts: dict[str, Past]) -> TenantPlan:
    with restorer(url, SETTINGS) as job:
        (outcome,) = job.apply(plan, subjects(pasts))
        if job.errors:
            raise job.errors[0]
        return outcome


def test_a_plan_is_applied_as_shown(victim: tuple[str, psycopg.Connection, dict[str, Past]]) -> None:
    """A plan that was kept and read back gives exactly what it showed; again, it has nothing left to do."""
    url, _, pasts = victim
    plan = plan_of(url, pasts)
    outcome = applied(url, plan, pasts)
    assert outcome.state is TenantState.DONE
    (shown,) = plan.tenants
    same = {"seconds": 0.0, "snapshot": ""}
    assert replace(outcome, **same, state=shown.state) == replace(shown, **same)  # type: ignore[arg-type]
    assert applied(url, plan, pasts).state is TenantState.RIGHT


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO accounts VALUES (1, 'back')",
        "INSERT INTO accounts VALUES (1, 'a1')",  # one of the missing rows is back as it was
    ],
)
def test_a_stale_plan_is_refused(victim: tuple[str, psycopg.Connection, dict[str, Past]], change: str) -> None:
    """Live rows of the tenant that came since the plan was made: it is not recomputed unseen."""
    url, connection, pasts = victim
    plan = plan_of(url, pasts)
    connection.execute(change.encode())
    before = everything(connection)
    with pytest.raises(Refused, match="stale"):
        applied(url, plan, pasts)
    assert everything(connection) == before


def test_a_plan_for_another_schema_is_refused(victim: tuple[str, psycopg.Connection, dict[str, Past]]) -> None:
    """A constraint that came since the plan was made makes it stale."""
    url, connection, pasts = victim
    plan = plan_of(url, pasts)
    connection.execute("ALTER TABLE people ADD CHECK (id > 0)")
    with pytest.raises(Refused, match="schema"):
        applied(url, plan, pasts)


def test_writes_of_others_do_not_make_a_plan_stale(
    victim: tuple[str, psycopg.Connection, dict[str, Past]],
) -> None:
    """What other tenants do is not the plan's business."""
    url, connection, pasts = victim
    plan = plan_of(url, pasts)
    connection.execute("INSERT INTO accounts VALUES (77, 'new'); UPDATE accounts SET name = 'z' WHERE id = 2")
    assert applied(url, plan, pasts).state is TenantState.DONE


def test_locks(victim: tuple[str, psycopg.Connection, dict[str, Past]]) -> None:
    """No lock stronger than ROW EXCLUSIVE is ever held on a live table."""
    url, connection, pasts = victim
    seen: set[tuple[str, str]] = set()
    # A trigger that fires in any case looks into pg_locks while the rows are being written
    connection.execute(
        b"CREATE TABLE seen (relation text, mode text);"
        b"CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        b" INSERT INTO public.seen SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
        b" WHERE l.pid = pg_backend_pid() AND c.relnamespace = 'public'::regnamespace; RETURN NULL; END $$;"
        b"CREATE TRIGGER look AFTER INSERT ON people FOR EACH STATEMENT EXECUTE FUNCTION look();"
        b"ALTER TABLE people ENABLE ALWAYS TRIGGER look"
    )
    settings = replace(SETTINGS, tables=None)
    (outcome,) = execute(url, settings, pasts)
    assert outcome.state is TenantState.DONE
    seen = {(row[0], row[1]) for row in connection.execute("SELECT DISTINCT relation, mode FROM seen")}
    assert ("people", "RowExclusiveLock") in seen
    assert {mode for _, mode in seen} <= {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
