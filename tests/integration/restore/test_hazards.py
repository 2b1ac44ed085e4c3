"""Every hazard restored or refused as said, by a privileged role and by one that owns nothing, under traffic."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from outlast.core.errors import OutlastError
from outlast.core.plan import ConflictKind, TenantPlan, TenantState
from outlast.core.recipe import Mode, Recipe
from outlast.restore.history import Past
from outlast.sources.postgres.write_facts import TriggerRules
from tests.integration.restore.hazards import GRANTS, ROLE, SCHEMA, SETTINGS, Traffic, rows_of
from tests.integration.restore.memory import remember, restorer, subjects
from tests.servers import Server

REWIND = Recipe(mode=Mode.REWIND, delete_newer=True)


@dataclass
class Ground:
    """The hazard database, tenant 1 remembered, and the URL of the role that restores."""

    url: str
    role_url: str
    connection: psycopg.Connection
    pasts: dict[str, Past]
    privileged: bool

    def run(self, statements: str) -> None:
        self.connection.execute(statements.encode())

    def restore(self, recipe: Recipe = REWIND, rules: TriggerRules | None = None) -> TenantPlan:
        """Restore tenant 1 while tenant 3 works; tenant 2 and the shared rows are as before."""
        before = rows_of(self.connection, 2)
        plans = self.connection.execute("SELECT * FROM plans ORDER BY 1").fetchall()
        with (
            Traffic(self.url) as traffic,
            restorer(self.role_url, SETTINGS, recipe=recipe, rules=rules or TriggerRules()) as job,
        ):
            (outcome,) = job.execute(subjects(self.pasts))
            if job.errors:
                raise job.errors[0]
        assert rows_of(self.connection, 2) == before
        assert self.connection.execute("SELECT * FROM plans ORDER BY 1").fetchall() == plans
        traffic.check(self.connection)
        return outcome


def ground_of(server: Server, database: str, *, privileged: bool) -> Iterator[Ground]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        pasts = remember(database, SETTINGS, ["1"])
        if privileged:
            yield Ground(database, database, connection, pasts, privileged)
            return
        connection.execute(f"CREATE ROLE {ROLE} LOGIN".encode())
        connection.execute(GRANTS.encode())
        yield Ground(database, make_conninfo(database, user=ROLE), connection, pasts, privileged)
        connection.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}".encode())


@pytest.fixture(params=[True, False], ids=["privileged", "unprivileged"])
def ground(request: pytest.FixtureRequest, server: Server, database: str) -> Iterator[Ground]:
    yield from ground_of(server, database, privileged=request.param)


WIPE = """
UPDATE teams SET lead = NULL WHERE account_id = 1; DELETE FROM people WHERE account_id = 1;
DELETE FROM badges WHERE account_id = 1; DELETE FROM teams WHERE account_id = 1; DELETE FROM lists WHERE account_id = 1;
DELETE FROM events WHERE account_id = 1; DELETE FROM notes WHERE account_id = 1; DELETE FROM accounts WHERE id = 1;
"""

RESTORED = {
    "everything gone": WIPE,
    "cycle, one side NULL": "UPDATE teams SET lead = NULL WHERE id < 200; DELETE FROM people WHERE account_id = 1",
    "self-references": "UPDATE people SET boss = NULL WHERE id < 2000; DELETE FROM people WHERE id IN (1005, 1006)",
    "unique key that is pointed at": "UPDATE teams SET code = 'X' || code WHERE account_id = 1",
    "unique values swapped (citext)": "UPDATE people SET nick = 't' WHERE id = 1001;"
    "UPDATE people SET nick = 'NICK1-1' WHERE id = 1002; UPDATE people SET nick = 'nick1-2' WHERE id = 1001",
    "deferrable unique values swapped": "BEGIN; SET CONSTRAINTS ALL DEFERRED;"
    "UPDATE badges SET place = 4 - place WHERE account_id = 1; COMMIT",
    "exclusion swapped": "UPDATE people SET room = '[5,6)' WHERE id = 1001;"
    "UPDATE people SET room = '[1011,1013)' WHERE id = 1002; UPDATE people SET room = '[1020,1022)' WHERE id = 1001",
    "composite keys changed along": "UPDATE lists SET name = 'other' WHERE account_id = 1 AND name = 'list1'",
    "identity and generated columns": "UPDATE people SET born = 1950 WHERE account_id = 1;"
    "UPDATE people SET serial = DEFAULT WHERE id = 1003",
    "a row in another partition": "UPDATE events SET at = '2026-01-05' WHERE id = 103;"
    "DELETE FROM events WHERE id = 104",
    "rows without a key": "DELETE FROM notes WHERE account_id = 1 AND body IS NULL;"
    "INSERT INTO notes VALUES (1, '{\"a\": 1}'), (1, '{\"a\":1}')",
    "a parent exchanged": "INSERT INTO teams VALUES (150, 1, NULL, 'T150'); UPDATE people SET team_id = 150 WHERE"
    " account_id = 1; UPDATE teams SET lead = NULL WHERE id = 101; DELETE FROM badges WHERE team_code = 'T11';"
    "DELETE FROM teams WHERE id = 101",
    "a parent exchanged that holds its value": "INSERT INTO teams VALUES (150, 1, NULL, 'T150');"
    "UPDATE people SET team_id = 150 WHERE account_id = 1; DELETE FROM badges WHERE team_code = 'T11';"
    "DELETE FROM teams WHERE id = 101; UPDATE teams SET code = 'T11' WHERE id = 150",
    "key in other letters": "UPDATE accounts SET slug = 'ACME1' WHERE id = 1",
}


@pytest.mark.parametrize("damage", RESTORED.values(), ids=RESTORED.keys())
def test_restored(ground: Ground, damage: str) -> None:
    """The tenant is as it was, exactly, while another one goes on working."""
    before = rows_of(ground.connection, 1)
    for statement in damage.split(";"):
        ground.run(statement)
    assert rows_of(ground.connection, 1) != before
    outcome = ground.restore()
    assert (outcome.state, outcome.exact) == (TenantState.DONE, True), outcome
    assert rows_of(ground.connection, 1) == before


REFUSED = {
    "a partition dropped": ("DROP TABLE events_1", ConflictKind.PARTITION_GONE, "public.events"),
    "pointed at by another tenant": (
        "INSERT INTO teams VALUES (150, 1, NULL, 'T150'); INSERT INTO shares VALUES (1, 2, 150)",
        ConflictKind.REFERENCED,
        "tenant 2",
    ),
    "a cascade out of the tenant": (
        "INSERT INTO people (account_id, team_id, nick) VALUES (1, 101, 'x'); INSERT INTO sessions VALUES (1, 9001)",
        ConflictKind.REFERENCED,
        "public.sessions",
    ),
    "a shared parent gone": (
        "UPDATE accounts SET plan_id = NULL; DELETE FROM plans WHERE id = 7",
        ConflictKind.PARENT_GONE,
        "public.plans",
    ),
    "a unique value taken": (
        "UPDATE people SET nick = NULL WHERE id = 1001; UPDATE people SET nick = 'NICK1-1' WHERE id = 2001",
        ConflictKind.VALUE_TAKEN,
        "tenant 2",
    ),
    "a range taken": (
        "UPDATE people SET room = NULL WHERE id = 1001; UPDATE people SET room = '[1012,1013)' WHERE id = 2001",
        ConflictKind.VALUE_TAKEN,
        "tenant 2",
    ),
    "a new NOT NULL": (
        "DELETE FROM notes WHERE body IS NULL; ALTER TABLE notes ALTER body SET NOT NULL",
        ConflictKind.VALUE_REFUSED,
        "NOT NULL",
    ),
    "a column renamed": (
        "DELETE FROM entries WHERE account_id = 1; ALTER TABLE entries RENAME body TO text",
        ConflictKind.TABLE_CHANGED,
        "'body'",
    ),
    "a new constraint": (
        "UPDATE entries SET body = 'c'; ALTER TABLE entries ADD CHECK (body = 'c')",
        ConflictKind.VALUE_REFUSED,
        "entries_body_check",
    ),
}


@pytest.mark.parametrize(("damage", "kind", "word"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(ground: Ground, damage: str, kind: ConflictKind, word: str) -> None:
    """What cannot be is told in full, and nothing is changed."""
    for statement in damage.split(";"):
        ground.run(statement)
    before = rows_of(ground.connection, 1)
    outcome = ground.restore()
    assert outcome.state is TenantState.REFUSED
    assert {one.kind for one in outcome.conflicts} == {kind}, outcome.conflicts
    assert any(word in one.message for one in outcome.conflicts), outcome.conflicts
    assert rows_of(ground.connection, 1) == before


TRIGGER = """
CREATE FUNCTION act() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {body}; RETURN COALESCE(NEW, OLD); END $$;
CREATE TRIGGER act {when} ON entries FOR EACH ROW EXECUTE FUNCTION act();
"""
INTO_AUDIT = "INSERT INTO audit VALUES (TG_OP)"
INTO_OTHERS = "UPDATE accounts SET plan_id = plan_id WHERE id = 2"
ACCEPTED = TriggerRules(accept=frozenset({"public.entries.act"}))


def test_triggers_that_fire_are_measured(ground: Ground) -> None:
    """What a trigger writes into a table that nobody keeps is counted and shown; quiet where that is sound."""
    ground.run(TRIGGER.format(body=INTO_AUDIT, when="AFTER INSERT"))
    ground.run("DELETE FROM entries WHERE account_id = 1")
    outcome = ground.restore()
    assert outcome.state is TenantState.DONE
    fired = any("public.audit (+6 inserted)" in note for note in outcome.notes)
    assert fired is not ground.privileged
    assert any("will fire" in note and "act" in note for note in outcome.notes) is not ground.privileged


def test_triggers_on_deletes_always_fire(ground: Ground) -> None:
    """A delete fires triggers for every role: named in the plan, and measured."""
    ground.run(TRIGGER.format(body=INTO_AUDIT, when="AFTER DELETE"))
    ground.run("INSERT INTO entries VALUES (1, 'list1', 50, 'new')")
    outcome = ground.restore()
    assert outcome.state is TenantState.DONE
    assert any("public.audit (+1 inserted)" in note for note in outcome.notes)
    assert any("will fire" in note and "act" in note for note in outcome.notes)


def test_a_trigger_that_writes_to_others(ground: Ground) -> None:
    """Its writes to rows that are kept are a reason to refuse, unless outlast.toml accepts that trigger."""
    ground.run(TRIGGER.format(body=INTO_OTHERS, when="AFTER INSERT"))
    ground.run("ALTER TABLE entries ENABLE ALWAYS TRIGGER act; DELETE FROM entries WHERE account_id = 1")
    before = rows_of(ground.connection, 1)
    outcome = ground.restore()
    assert [one.kind for one in outcome.conflicts] == [ConflictKind.NOT_EXACT]
    assert "public.accounts (+6 updated)" in outcome.conflicts[0].message
    assert rows_of(ground.connection, 1) == before
    accepted = ground.restore(rules=ACCEPTED)
    assert accepted.state is TenantState.DONE
    assert any("public.accounts (+6 updated)" in note for note in accepted.notes)


def test_a_counter_that_a_trigger_keeps(ground: Ground) -> None:
    """A row that an accepted trigger writes, too, is read back as planned: writing it twice is no reason to refuse."""
    body = "UPDATE accounts SET touched = touched - 1 WHERE id = OLD.account_id"
    ground.run(TRIGGER.format(body=body, when="AFTER DELETE"))
    ground.run("INSERT INTO entries VALUES (1, 'list1', 50, 'new'); UPDATE accounts SET touched = 1 WHERE id = 1")
    (conflict,) = ground.restore().conflicts
    assert "public.accounts (+1 updated)" in conflict.message
    assert 'accept_triggers = ["public.entries.act"]' in (conflict.hint or "")
    assert ground.restore(rules=ACCEPTED).state is TenantState.DONE
    assert ground.connection.execute("SELECT touched FROM accounts WHERE id = 1").fetchone() == (0,)


def test_a_trigger_that_writes_a_row_of_the_plan_first(ground: Ground) -> None:
    """Where it cannot be kept still the row is there already: it is named, and the right that keeps it still."""
    body = "INSERT INTO lists (account_id, name) VALUES (NEW.id, 'list1')"
    ground.run(TRIGGER.format(body=body, when="AFTER INSERT").replace("ON entries", "ON accounts"))
    before = rows_of(ground.connection, 1)
    for statement in WIPE.split(";"):
        ground.run(statement)
    if ground.privileged:
        assert ground.restore().state is TenantState.DONE
        assert rows_of(ground.connection, 1) == before
        return
    with pytest.raises(OutlastError) as caught:
        ground.restore()
    assert "lists_pkey, or a trigger wrote there first; triggers that fired: act on public.accounts" in str(
        caught.value
    )
    assert "GRANT SET ON PARAMETER session_replication_role" in str(caught.value.hint)


def test_a_trigger_that_is_wanted(ground: Ground) -> None:
    """outlast.toml can have a trigger fire that a privileged role would keep silent."""
    ground.run(TRIGGER.format(body=INTO_AUDIT, when="AFTER INSERT"))
    ground.run("DELETE FROM entries WHERE account_id = 1")
    outcome = ground.restore(rules=TriggerRules(fire=frozenset({"public.entries.act"})))
    assert outcome.state is TenantState.DONE
    assert ground.connection.execute("SELECT count(*) FROM audit").fetchone() == (6,)


def test_rows_that_differ_are_named(ground: Ground) -> None:
    """A trigger that changes what is written is found by reading back, and the rows are named."""
    ground.run(TRIGGER.format(body="IF NEW.n = 2 THEN NEW.body := 'x'; END IF", when="BEFORE INSERT"))
    ground.run("ALTER TABLE entries ENABLE ALWAYS TRIGGER act; DELETE FROM entries WHERE account_id = 1")
    outcome = ground.restore()
    (conflict,) = outcome.conflicts
    assert (conflict.kind, conflict.table) == (ConflictKind.NOT_EXACT, "public.entries")
    assert conflict.keys == ("1, list1, 2", "1, list2, 2")
