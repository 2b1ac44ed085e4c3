"""Conflicts that a policy settles: shown in the plan, done as shown, and others' rows untouched."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest

from outlast.core.errors import OutlastError
from outlast.core.plan import ConflictKind, Plan, Policy, Recipe, TenantPlan, TenantState
from outlast.restore.history import Past
from outlast.sources.postgres.catalog import OwnershipSettings
from tests.integration.restore.memory import remember, restorer, shared_past, subjects
from tests.integration.restore.test_conflicts import SCHEMA, SETTINGS, USER, WIPE, Shop


@pytest.fixture
def shop(database: str) -> Iterator[Shop]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        pasts = remember(database, SETTINGS, ["1"])
        connection.execute(WIPE.encode())
        yield Shop(database, connection, pasts)


def planned_and_applied(
    url: str, settings: OwnershipSettings, pasts: dict[str, Past], recipe: Recipe, **more: object
) -> TenantPlan:
    """Plan, keep the plan as bytes, apply it: it comes out as it was shown."""
    now = datetime.now(UTC)
    with restorer(url, settings, recipe=recipe, **more) as job:  # type: ignore[arg-type]
        tenants = job.plan(subjects(pasts))
        plan = Plan("p", "restore", "main", recipe, 1, "now", now, tenants, shape=job.shape())
    if tenants[0].conflicts:
        return tenants[0]
    with restorer(url, settings, recipe=recipe, **more) as job:  # type: ignore[arg-type]
        (outcome,) = job.apply(Plan.from_bytes(plan.to_bytes()), subjects(pasts))
        if job.errors:
            raise job.errors[0]
    assert (outcome.changes, outcome.resolutions) == (tenants[0].changes, tenants[0].resolutions)
    return outcome


def restored(shop: Shop, **policies: Policy) -> TenantPlan:
    return planned_and_applied(shop.url, SETTINGS, shop.pasts, Recipe(on_conflict=policies))


@pytest.mark.parametrize(
    ("taken", "constraint", "policy", "column", "value"),
    [
        ("(99, 2, 'ANN@X.ORG', NULL)", "users_email", Policy.SUFFIX, "email", "Ann@x.org-restored"),
        ("(99, 2, 'z@x.org', 'ann')", "users_nick", Policy.SUFFIX, "nick", "ann-restored"),
        ("(99, 2, 'z@x.org', 'ann')", "users_nick", Policy.NULL, "nick", None),
        ("(99, 2, 'z@x.org', 'ann'), (98, 2, 'y@x.org', 'ann-restored')", "*", Policy.SUFFIX, "nick", "ann-restored-2"),
    ],
)
def test_a_taken_value(shop: Shop, taken: str, constraint: str, policy: Policy, column: str, value: str | None) -> None:
    """The restored row gives way: by an ending that is free, or without the value. The holder keeps what it has."""
    shop.run("DROP INDEX users_code; " + USER + taken)
    holder = shop.connection.execute("SELECT u::text FROM users u WHERE account_id = 2 ORDER BY 1").fetchall()
    assert shop.plan().state is TenantState.REFUSED
    outcome = restored(shop, **{constraint: policy})
    assert outcome.state is TenantState.DONE, outcome
    assert [(one.key, one.policy) for one in outcome.resolutions][-1] == ("10", policy)
    found = shop.connection.execute(f"SELECT {column} FROM users WHERE id = 10".encode()).fetchone()
    assert found == (value,)
    assert shop.connection.execute("SELECT u::text FROM users u WHERE account_id = 2 ORDER BY 1").fetchall() == holder


def test_a_row_left_out(shop: Shop) -> None:
    """skip leaves the row in conflict out; what points at it is then a conflict of its own, which says why."""
    shop.run("INSERT INTO bookings VALUES (9, 2, '[4,9)')")
    outcome = restored(shop, bookings_room_excl=Policy.SKIP)
    assert outcome.state is TenantState.DONE
    assert shop.connection.execute("SELECT id FROM bookings WHERE account_id = 1").fetchall() == []
    shop.run(WIPE)
    shop.run(USER + "(99, 2, 'ANN@X.ORG', NULL)")
    outcome = restored(shop, users_email=Policy.SKIP, bookings_room_excl=Policy.SKIP)
    (conflict,) = outcome.conflicts  # 12's boss is 10
    assert conflict.kind is ConflictKind.PARENT_GONE
    assert "id = (10), by users_boss_fkey; 1 of these public.users rows was left out by" in conflict.message
    assert conflict.message.endswith("--on-conflict users_email=skip")
    assert "another policy than skip" in str(conflict.hint)


def test_a_policy_that_does_not_help(shop: Shop) -> None:
    """What a policy cannot settle stays a conflict: a value that must not be NULL, a range that takes no ending."""
    shop.run(USER + "(99, 2, 'ANN@X.ORG', NULL); INSERT INTO bookings VALUES (9, 2, '[4,9)')")
    outcome = restored(shop, users_email=Policy.NULL, bookings_room_excl=Policy.SUFFIX)
    assert {one.constraint for one in outcome.conflicts} == {"users_email", "bookings_room_excl"}


def test_a_key_given_anew(shop: Shop) -> None:
    """remap: rows whose key belongs to another tenant get new ones from the sequence, and their references follow."""
    shop.run("DROP INDEX users_code; " + USER + "(10, 2, 'a@y.org', NULL), (12, 2, 'b@y.org', NULL)")
    others = shop.connection.execute("SELECT u::text FROM users u WHERE account_id = 2 ORDER BY 1").fetchall()
    outcome = restored(shop, users_pkey=Policy.REMAP)
    assert outcome.state is TenantState.DONE, outcome
    rows = shop.connection.execute("SELECT id, email, boss FROM users WHERE account_id = 1 ORDER BY id").fetchall()
    assert rows == [(11, "bob@x.org", 102), (101, "Ann@x.org", None), (102, "c@x.org", 101)]
    assert shop.connection.execute("SELECT nextval('users_id_seq')").fetchone() == (103,)
    assert shop.connection.execute("SELECT u::text FROM users u WHERE account_id = 2 ORDER BY 1").fetchall() == others


def test_a_new_key_is_carried_through_every_table(database: str) -> None:
    """Composite keys that hold a remapped one move with it, and what points at them follows as well."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            b"CREATE TABLE accounts (id int PRIMARY KEY, name text);"
            b"CREATE TABLE docs (id uuid PRIMARY KEY, account_id int NOT NULL REFERENCES accounts);"
            b"CREATE TABLE pages (doc uuid REFERENCES docs, n int, PRIMARY KEY (doc, n));"
            b"CREATE TABLE marks (id int PRIMARY KEY, doc uuid NOT NULL, n int NOT NULL,"
            b" FOREIGN KEY (doc, n) REFERENCES pages);"
            b"INSERT INTO accounts VALUES (1, 'acme'), (2, 'other');"
            b"INSERT INTO docs SELECT ('00000000-0000-4000-8000-00000000000' || n)::uuid, 1"
            b" FROM generate_series(1, 5) n;"
            b"INSERT INTO pages SELECT id, n FROM docs, generate_series(1, 3) n;"
            b"INSERT INTO marks SELECT row_number() OVER (ORDER BY doc, n), doc, n FROM pages"
        )
        settings = OwnershipSettings("accounts", "name")
        pasts = remember(database, settings, ["1"])
        connection.execute(b"DELETE FROM marks; DELETE FROM pages; DELETE FROM docs")
        taken = "00000000-0000-4000-8000-000000000003"
        connection.execute("INSERT INTO docs VALUES (%s, 2)", [taken])
        recipe = Recipe(on_conflict={"*": Policy.REMAP})
        outcome = planned_and_applied(database, settings, pasts, recipe)
        assert outcome.state is TenantState.DONE, outcome
        (settled,) = outcome.resolutions
        new = settled.values["id"]
        marks = connection.execute("SELECT id, n FROM marks WHERE doc = %s ORDER BY id", [new]).fetchall()
        assert marks == [(7, 1), (8, 2), (9, 3)]
        counts = connection.execute("SELECT account_id, count(*) FROM docs GROUP BY 1 ORDER BY 1").fetchall()
        assert counts == [(1, 5), (2, 1)]
        assert connection.execute("SELECT count(*) FROM pages").fetchone() == (15,)


def test_shared_parents(shop: Shop) -> None:
    """--with-shared puts back exactly the shared rows that are pointed at; without it their lack is a conflict."""
    past = shared_past(shop.url, SETTINGS)
    shop.run("DELETE FROM plans WHERE id = 7; INSERT INTO plans VALUES (8, 'new')")
    assert [one.kind for one in shop.plan().conflicts] == [ConflictKind.PARENT_GONE]
    recipe = Recipe(with_shared=True)
    outcome = planned_and_applied(shop.url, SETTINGS, shop.pasts, recipe, shared=lambda: past)
    assert (outcome.state, outcome.exact) == (TenantState.DONE, True), outcome
    assert outcome.effect.to_json()["public.plans"] == {"insert": 1}
    plans = shop.connection.execute("SELECT id, name FROM plans ORDER BY id").fetchall()
    assert plans == [(1, "free"), (7, "gold"), (8, "new")]


def test_a_conflict_that_came_after_the_plan(shop: Shop) -> None:
    """A policy settles what the plan showed, and nothing that came later: that is stale."""
    recipe = Recipe(on_conflict={"*": Policy.SUFFIX})
    with restorer(shop.url, SETTINGS, recipe=recipe) as job:
        tenants = job.plan(subjects(shop.pasts))
        plan = Plan("p", "restore", "main", recipe, 1, "now", datetime.now(UTC), tenants, shape=job.shape())
    assert (tenants[0].state, tenants[0].resolutions) == (TenantState.PLANNED, ())
    shop.run(USER + "(99, 2, 'ANN@X.ORG', NULL)")
    with restorer(shop.url, SETTINGS, recipe=recipe) as job:
        (outcome,) = job.apply(plan, subjects(shop.pasts))
    assert outcome.state is TenantState.REFUSED
    assert job.errors[0].code == "stale"
    assert shop.connection.execute("SELECT count(*) FROM users WHERE account_id = 1").fetchone() == (0,)


def test_a_shared_parent_without_the_right(shop: Shop) -> None:
    """A role that may not INSERT there is told in the plan which GRANT it needs; nothing is changed."""
    past = shared_past(shop.url, SETTINGS)
    shop.run("DELETE FROM plans WHERE id = 7")
    role = f"putting_back_{shop.connection.info.dbname}"
    shop.run(
        f"CREATE ROLE {role} LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};"
        f" GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {role}; REVOKE INSERT ON plans FROM {role}"
    )
    try:
        before = shop.rows()
        url = shop.url.replace("postgres@", f"{role}@")
        recipe = Recipe(with_shared=True)
        for work in ("plan", "execute"):
            with restorer(url, SETTINGS, recipe=recipe, shared=lambda: past) as job:
                (outcome,) = getattr(job, work)(subjects(shop.pasts))
            assert (outcome.state, job.errors[0].code) == (TenantState.REFUSED, "privilege")
            assert f'GRANT INSERT ON TABLE "public"."plans" TO "{role}";' in str(job.errors[0].hint)
        assert shop.rows() == before
        shop.run(f"GRANT INSERT ON plans TO {role}")
        assert planned_and_applied(url, SETTINGS, shop.pasts, recipe, shared=lambda: past).state is TenantState.DONE
    finally:
        shop.run(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_shared_parent_that_changed(shop: Shop) -> None:
    """It is named in the plan with what differs, alone and in a group, and never rewound: all tenants share it."""
    past = shared_past(shop.url, SETTINGS)
    changed = [(1, "FREE"), (7, "bronze")]
    shop.run("UPDATE plans SET name = 'bronze' WHERE id = 7; UPDATE plans SET name = 'FREE' WHERE id = 1")
    told = (
        "warning: restored rows point at 1 shared row of public.plans that changed since the moment, and stay as they"
        " are now: id = (7); columns that differ: name"
    )
    for recipe in (Recipe(with_shared=True), Recipe()):
        outcome = planned_and_applied(shop.url, SETTINGS, shop.pasts, recipe, shared=lambda: past)
        assert (outcome.state, outcome.exact, outcome.notes) == (TenantState.DONE, True, (told,))
        assert shop.connection.execute("SELECT id, name FROM plans ORDER BY id").fetchall() == changed
        shop.run(WIPE)
    shop.run("INSERT INTO accounts VALUES (3, 'third', 7)")
    pasts = shop.pasts | remember(shop.url, SETTINGS, ["3"])
    shop.run("DELETE FROM accounts WHERE id = 3")
    with restorer(shop.url, SETTINGS, shared=lambda: past) as job:
        assert [one.notes for one in job.plan(subjects(pasts))] == [(told,), (told,)]
        assert [(one.state, one.notes) for one in job.execute(subjects(pasts))] == [(TenantState.DONE, (told,))] * 2
    shop.run(WIPE + "DELETE FROM accounts WHERE id = 3")
    shop.run("ALTER TABLE plans ADD COLUMN added int; UPDATE plans SET name = 'gold' WHERE id = 7")
    assert planned_and_applied(shop.url, SETTINGS, shop.pasts, Recipe(), shared=lambda: past).notes == ()


def test_shared_rows_that_cannot_be_compared(shop: Shop) -> None:
    """That is told, and keeps nobody from being restored."""

    def past() -> Past:
        raise OutlastError("the key is missing")

    outcome = planned_and_applied(shop.url, SETTINGS, shop.pasts, Recipe(), shared=past)
    assert outcome.state is TenantState.DONE
    assert outcome.notes == ("shared rows of public.plans were not held against the moment: the key is missing",)
