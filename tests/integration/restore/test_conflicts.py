"""What cannot be put back is refused, with everything named, and nothing is changed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from outlast.core.errors import OutlastError
from outlast.core.plan import Conflict, ConflictKind, TenantPlan, TenantState
from outlast.restore.history import Past
from outlast.sources.postgres.catalog import OwnershipSettings
from tests.integration.restore.memory import execute, remember, restorer, subjects

SETTINGS = OwnershipSettings("public.accounts", "name")

SCHEMA = """
CREATE TABLE plans (id int PRIMARY KEY, name text);
CREATE TABLE accounts (id bigint PRIMARY KEY, name text UNIQUE, plan_id int REFERENCES plans);
CREATE TABLE users (
    id bigserial PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, email text NOT NULL, nick text,
    active bool NOT NULL DEFAULT true, code varchar(20), amount numeric(12,2), boss bigint REFERENCES users
);
CREATE UNIQUE INDEX users_email ON users (lower(email));
CREATE UNIQUE INDEX users_nick ON users (nick) WHERE active;
CREATE UNIQUE INDEX users_code ON users (account_id, code) NULLS NOT DISTINCT;
CREATE INDEX ON users (account_id);
CREATE TABLE bookings (
    id int PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, room int4range,
    EXCLUDE USING gist (room WITH &&)
);
CREATE TABLE notes (account_id bigint NOT NULL REFERENCES accounts, body text);
INSERT INTO plans VALUES (1, 'free'), (7, 'gold');
INSERT INTO accounts VALUES (1, 'acme', 7), (2, 'other', 1);
INSERT INTO users (id, account_id, email, nick, code, amount, boss) VALUES
    (10, 1, 'Ann@x.org', 'ann', 'A1', 1.25, NULL), (11, 1, 'bob@x.org', 'bob', NULL, 2, 12),
    (12, 1, 'c@x.org', NULL, 'C', 3, 10),
    (20, 2, 'zoe@y.org', 'zoe', 'A1', 4, NULL);
INSERT INTO bookings VALUES (1, 1, '[1,5)'), (2, 2, '[10,20)');
INSERT INTO notes VALUES (1, 'same'), (1, 'same'), (1, 'same'), (1, 'other'), (2, 'same');
SELECT setval('users_id_seq', 100);
"""

WIPE = """
DELETE FROM notes WHERE account_id = 1;
DELETE FROM bookings WHERE account_id = 1;
DELETE FROM users WHERE account_id = 1;
DELETE FROM accounts WHERE id = 1;
"""


@dataclass
class Shop:
    """A small shop whose tenant 1 (acme) was remembered and then wiped out."""

    url: str
    connection: psycopg.Connection
    pasts: dict[str, Past]

    def run(self, statements: str) -> None:
        self.connection.execute(statements.encode())

    def rows(self) -> dict[str, list[str]]:
        tables = self.connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'public'"
        ).fetchall()
        return {
            table: sorted(row[0] for row in self.connection.execute(f"SELECT t::text FROM {table} t".encode()))
            for (table,) in tables
        }

    def plan(self, **options: object) -> TenantPlan:
        with restorer(self.url, SETTINGS, **options) as job:  # type: ignore[arg-type]
            (plan,) = job.plan(subjects(self.pasts))
            if job.errors:
                raise job.errors[0]
            return plan

    def execute(self, url: str | None = None, **options: object) -> TenantPlan:
        (outcome,) = execute(url or self.url, SETTINGS, self.pasts, **options)
        return outcome

    def refused(self) -> Conflict:
        """The one conflict, found alike by a plan and by an execution, which changed nothing."""
        before = self.rows()
        plan, outcome = self.plan(), self.execute()
        assert self.rows() == before
        assert plan.state is outcome.state is TenantState.REFUSED
        assert plan.conflicts == outcome.conflicts
        (conflict,) = plan.conflicts
        assert conflict.tenant == "1"
        assert conflict.table in conflict.message
        return conflict


@pytest.fixture
def shop(database: str) -> Iterator[Shop]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        pasts = remember(database, SETTINGS, ["1"])
        connection.execute(WIPE.encode())
        yield Shop(database, connection, pasts)


def test_all_comes_back(shop: Shop) -> None:
    """Without anything in the way all rows come back: self-references, a multiset, an exclusion constraint."""
    outcome = shop.execute()
    assert (outcome.state, outcome.exact, outcome.effect.rows) == (TenantState.DONE, True, 9)
    assert shop.rows()["public.notes"] == ["(1,other)", "(1,same)", "(1,same)", "(1,same)", "(2,same)"]


def test_a_shared_parent_that_is_gone(shop: Shop) -> None:
    """The row pointed at is named, with the constraint."""
    shop.run("DELETE FROM plans WHERE id = 7")
    conflict = shop.refused()
    assert (conflict.kind, conflict.table, conflict.constraint) == (
        ConflictKind.PARENT_GONE,
        "public.accounts",
        "accounts_plan_id_fkey",
    )
    assert "public.plans" in conflict.message
    assert "(7)" in conflict.message


KEY, VALUE = ConflictKind.KEY_TAKEN, ConflictKind.VALUE_TAKEN
USER = "INSERT INTO users (id, account_id, email, nick) VALUES "


@pytest.mark.parametrize(
    ("statement", "kind", "table", "constraint", "keys", "values", "holders"),
    [
        (USER + "(11, 2, 'n@x.org', NULL)", KEY, "public.users", "users_pkey", ("11",), ("11",), ("2",)),
        (USER + "(99, 2, 'ANN@X.ORG', NULL)", VALUE, "public.users", "users_email", ("10",), ("ann@x.org",), ("2",)),
        (USER + "(99, 2, 'n@x.org', 'bob')", VALUE, "public.users", "users_nick", ("11",), ("bob",), ("2",)),
        (
            "INSERT INTO bookings VALUES (9, 2, '[4,9)')",
            VALUE,
            "public.bookings",
            "bookings_room_excl",
            ("1",),
            ("[1,5)",),
            ("2",),
        ),
        (
            "INSERT INTO accounts VALUES (3, 'acme')",
            VALUE,
            "public.accounts",
            "accounts_name_key",
            ("1",),
            ("acme",),
            ("3",),
        ),
    ],
)
def test_what_another_tenant_holds(
    shop: Shop,
    statement: str,
    kind: ConflictKind,
    table: str,
    constraint: str,
    keys: tuple[str],
    values: tuple[str],
    holders: tuple[str],
) -> None:
    """A key or unique value that now belongs to another tenant: constraint, row, value and holder are named."""
    shop.run(statement)
    conflict = shop.refused()
    assert (conflict.kind, conflict.table, conflict.constraint) == (kind, table, constraint)
    assert (conflict.keys, conflict.values, conflict.holders) == (keys, values, holders)


@pytest.mark.parametrize("index", ["slug", "upper(slug)", "slug || active"])
def test_what_another_tenant_holds_in_a_generated_column(shop: Shop, index: str) -> None:
    """Found in the plan, alone and within an expression, though no generated column is stored or staged."""
    made = "GENERATED ALWAYS AS (replace(email, '.', '-')) STORED"
    shop.run(f"ALTER TABLE users ADD slug text {made}; CREATE UNIQUE INDEX users_slug ON users (({index}))")
    shop.run(USER + "(99, 2, 'Ann@x-org', NULL)")
    conflict = shop.refused()
    assert (conflict.kind, conflict.constraint, conflict.keys) == (VALUE, "users_slug", ("10",))
    shop.run("DELETE FROM users WHERE id = 99")
    assert shop.execute().state is TenantState.DONE


def test_a_check_on_a_generated_column(shop: Shop) -> None:
    """One that came later and does not hold for stored rows is told in the plan."""
    shop.run("ALTER TABLE users ADD cents numeric GENERATED ALWAYS AS (amount * 100) STORED")
    shop.run("ALTER TABLE users ADD CONSTRAINT whole CHECK (cents % 100 = 0)")
    conflict = shop.refused()
    assert (conflict.kind, conflict.constraint, conflict.keys) == (ConflictKind.VALUE_REFUSED, "whole", ("10",))


def test_what_is_outside_a_partial_index_is_no_conflict(shop: Shop) -> None:
    """The same nick on an inactive user takes nothing away."""
    shop.run("INSERT INTO users (id, account_id, email, nick, active) VALUES (99, 2, 'n@x.org', 'bob', false)")
    assert shop.execute().state is TenantState.DONE


def test_nulls_that_are_not_distinct(shop: Shop) -> None:
    """Two NULLs collide under NULLS NOT DISTINCT; the holder is the tenant itself."""
    shop.run("INSERT INTO accounts VALUES (1, 'acme', 7)")
    shop.run("INSERT INTO users (id, account_id, email, code) VALUES (98, 1, 'new@x.org', NULL)")
    conflict = shop.refused()
    assert (conflict.constraint, conflict.keys, conflict.holders) == ("users_code", ("11",), ("1",))
    assert "other rows of this tenant" in conflict.message


@pytest.mark.parametrize(
    ("statement", "constraint", "keys"),
    [
        ("ALTER TABLE users ADD CONSTRAINT positive CHECK (amount > 2.5) NOT VALID", "positive", ("10", "11")),
        ("UPDATE users SET boss = id; ALTER TABLE users ALTER boss SET NOT NULL", "boss", ("10",)),
        ("ALTER TABLE users ALTER code TYPE varchar(1) USING left(code, 1)", "code", ("10",)),
        ("ALTER TABLE users ALTER nick TYPE int USING NULL", "nick", ("10",)),
    ],
)
def test_values_that_are_not_taken_any_more(shop: Shop, statement: str, constraint: str, keys: tuple[str, ...]) -> None:
    """NOT NULL, CHECK and types that came later: the column or constraint and our rows are named."""
    shop.run(statement)
    conflict = shop.refused()
    assert (conflict.kind, conflict.table, conflict.constraint) == (
        ConflictKind.VALUE_REFUSED,
        "public.users",
        constraint,
    )
    assert conflict.keys == keys


# The rewrite forgets what rows had before the column came
FLAG = "ALTER TABLE users ADD flag int NOT NULL DEFAULT 1; ALTER TABLE users ALTER flag DROP DEFAULT; VACUUM FULL users"
OTHER_KEY = "ALTER TABLE users DROP CONSTRAINT users_pkey CASCADE; ALTER TABLE users ADD PRIMARY KEY (id, account_id)"


@pytest.mark.parametrize(
    ("statement", "table", "word"),
    [
        ("DROP TABLE notes", "public.notes", "is gone"),
        ("ALTER TABLE users DROP nick", "public.users", "'nick'"),
        (FLAG, "public.users", "'flag'"),
        ("ALTER TABLE users ADD stamp timestamptz DEFAULT clock_timestamp()", "public.users", "'stamp'"),
        ("ALTER TABLE users ALTER amount TYPE numeric(12,1)", "public.users", "amount"),
        (OTHER_KEY, "public.users", "key"),
    ],
)
def test_tables_that_changed(shop: Shop, statement: str, table: str, word: str) -> None:
    """A table or column that has no place for the stored rows any more is named."""
    for part in statement.split("; "):
        shop.run(part)
    conflict = shop.refused()
    assert (conflict.kind, conflict.table) == (ConflictKind.TABLE_CHANGED, table)
    assert word in conflict.message


@pytest.mark.parametrize(
    ("statement", "column", "value"),
    [
        ("ALTER TABLE users ADD extra int NOT NULL DEFAULT 5", "extra", 5),
        ("ALTER TABLE users ADD extra text", "extra", None),
        ("ALTER TABLE users ADD extra text; ALTER TABLE users ALTER extra SET DEFAULT E'o''\\tx'", "extra", "o'\tx"),
        ("ALTER TABLE users ALTER code TYPE varchar(50)", "code", "A1"),
        ("ALTER TABLE users ALTER id TYPE integer", "id", 10),
    ],
)
def test_changes_that_keep_every_value(shop: Shop, statement: str, column: str, value: object) -> None:
    """A wider type, a new column with a constant default: rows go in, and get what they would have had."""
    shop.run(statement)
    outcome = shop.execute()
    assert outcome.state is TenantState.DONE, outcome
    found = shop.connection.execute(f"SELECT {column} FROM users WHERE id = 10".encode()).fetchone()
    assert found == (value,)
    assert shop.execute().state is TenantState.RIGHT


def test_everything_is_named_at_once(shop: Shop) -> None:
    """All that stands in the way is told in one go, table by table."""
    shop.run("DELETE FROM plans WHERE id = 7; INSERT INTO bookings VALUES (1, 2, '[1,2)')")
    shop.run("INSERT INTO users (id, account_id, email) VALUES (10, 2, 'ann@x.org')")
    outcome = shop.execute()
    assert {(one.table, one.constraint) for one in outcome.conflicts} == {
        ("public.accounts", "accounts_plan_id_fkey"),
        ("public.bookings", "bookings_pkey"),
        ("public.bookings", "bookings_room_excl"),
        ("public.users", "users_pkey"),
        ("public.users", "users_email"),
    }
    assert outcome.effect.rows == 9


def test_rows_that_exist_are_never_touched(shop: Shop) -> None:
    """Mode `missing` fills the gaps around live rows, changed or new, and proves what that gives."""
    shop.run("INSERT INTO accounts VALUES (1, 'acme 2', 1)")
    shop.run("INSERT INTO users (id, account_id, email, code) VALUES (11, 1, 'changed@x.org', 'p')")
    shop.run("INSERT INTO users (id, account_id, email, code) VALUES (50, 1, 'new@x.org', 'q')")
    shop.run("INSERT INTO notes VALUES (1, 'same'), (1, 'mine')")
    outcome = shop.execute()
    assert (outcome.state, outcome.exact, outcome.effect.rows) == (TenantState.DONE, False, 6)
    rows = shop.rows()
    assert rows["public.accounts"] == ['(1,"acme 2",1)', "(2,other,1)"]
    assert [row for row in rows["public.users"] if row.startswith("(11,")] == ["(11,1,changed@x.org,,t,p,,)"]
    assert rows["public.notes"].count("(1,same)") == 3
    again = shop.execute()
    assert (again.state, again.root) == (TenantState.RIGHT, outcome.root)


def test_one_table_alone(shop: Shop) -> None:
    """--table puts back that table only, and says so when its parents are not there."""
    conflict = shop.execute(tables=["users"]).conflicts
    assert {one.constraint for one in conflict} == {"users_account_id_fkey"}
    shop.run("INSERT INTO accounts VALUES (1, 'acme', 7)")
    outcome = shop.execute(tables=["users"])
    assert (outcome.state, outcome.effect.to_json()) == (TenantState.DONE, {"public.users": {"insert": 3}})
    with pytest.raises(OutlastError, match=r"public\.plans: it is shared"):
        shop.execute(tables=["plans"])


def test_sequences_are_raised_never_lowered(shop: Shop) -> None:
    """A sequence ends past every restored key, near or far, and keeps what it had where that is more."""
    shop.run("SELECT setval('users_id_seq', 3)")
    shop.execute()
    assert shop.connection.execute("SELECT nextval('users_id_seq')").fetchone() == (13,)
    shop.run(WIPE)
    shop.run("SELECT setval('users_id_seq', 5000)")
    shop.execute()
    assert shop.connection.execute("SELECT nextval('users_id_seq')").fetchone() == (5001,)
    shop.run("UPDATE users SET id = 900000 WHERE id = 11")
    pasts = remember(shop.url, SETTINGS, ["1"])
    shop.run(WIPE)
    execute(shop.url, SETTINGS, pasts)
    (value,) = shop.connection.execute("SELECT nextval('users_id_seq')").fetchone() or (0,)
    assert 900000 < value < 903000


def test_a_key_taken_while_we_write(shop: Shop) -> None:
    """An uncommitted row of another tenant is waited for: a conflict when it commits, none when it rolls back."""
    for ending, state in (("ROLLBACK", TenantState.DONE), ("COMMIT", TenantState.REFUSED)):
        with psycopg.connect(shop.url) as other:
            other.execute("INSERT INTO users (id, account_id, email) VALUES (10, 2, 'taken@x.org')")
            outcomes: list[TenantPlan] = []
            thread = threading.Thread(target=lambda found=outcomes: found.append(shop.execute()))
            thread.start()
            _wait_for_lock(shop.connection)
            other.execute(ending.encode())
            thread.join(60)
            assert [outcome.state for outcome in outcomes] == [state]
            assert {one.constraint for one in outcomes[0].conflicts} == (
                {"users_pkey"} if ending == "COMMIT" else set()
            )
        shop.run(WIPE)


def test_a_parent_deleted_while_we_write(shop: Shop) -> None:
    """A shared parent that is being deleted is waited for, and then found to be gone."""
    with psycopg.connect(shop.url) as other:
        other.execute("DELETE FROM plans WHERE id = 7")
        outcomes: list[TenantPlan] = []
        thread = threading.Thread(target=lambda: outcomes.append(shop.execute()))
        thread.start()
        _wait_for_lock(shop.connection)
        other.commit()
        thread.join(60)
        (outcome,) = outcomes
        assert [one.kind for one in outcome.conflicts] == [ConflictKind.PARENT_GONE]


def _wait_for_lock(connection: psycopg.Connection) -> None:
    while True:
        row = connection.execute(
            "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid)"
            " WHERE NOT l.granted AND a.datname = current_database()"
        ).fetchone()
        if row and row[0]:
            return
