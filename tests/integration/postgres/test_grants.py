"""Each role that --print-grants makes can do its job, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from outlast.core.errors import Refused
from outlast.core.table import TableName
from outlast.sources.postgres.check import check, unreadable
from outlast.sources.postgres.dump import dump_schema
from outlast.sources.postgres.following import FollowingSettings
from outlast.sources.postgres.following_facts import Names
from outlast.sources.postgres.grants import ROLES, print_grants
from outlast.sources.postgres.ownership import propose
from outlast.sources.postgres.session import Target, connect
from outlast.sources.postgres.setup import verify
from outlast.sources.postgres.write_rights import require_insert
from tests.integration.postgres.conftest import look, run

SCHEMA = (
    "CREATE SCHEMA app",
    "CREATE TABLE app.plans (id int PRIMARY KEY, name text)",
    "CREATE TABLE app.accounts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, plan_id int REFERENCES app.plans)",
    'CREATE TABLE app."Odd ""items" (id bigserial PRIMARY KEY, account_id bigint NOT NULL REFERENCES app.accounts)',
    """CREATE TABLE app.events (at int, account_id bigint NOT NULL REFERENCES app.accounts,
       PRIMARY KEY (account_id, at)) PARTITION BY RANGE (at)""",
    "CREATE TABLE app.events_1 PARTITION OF app.events FOR VALUES FROM (0) TO (9)",
    "CREATE TABLE app.private (secret text)",
    "CREATE TABLE app.guarded (id int PRIMARY KEY, account_id bigint NOT NULL REFERENCES app.accounts)",
    "ALTER TABLE app.guarded ENABLE ROW LEVEL SECURITY",
    "INSERT INTO app.plans VALUES (1, 'small')",
    "INSERT INTO app.accounts (plan_id) VALUES (1), (1)",
    'INSERT INTO app."Odd ""items" (account_id) VALUES (1)',
    "INSERT INTO app.events VALUES (1, 1)",
    "INSERT INTO app.guarded VALUES (1, 1)",
)
READ = ('SELECT * FROM app."Odd ""items"', "SELECT * FROM app.plans", "SELECT * FROM app.events")


@pytest.fixture
def granted(any_database: str) -> Iterator[str]:
    """A database on which the printed SQL was run twice, as it may be; app_role may be halted."""
    run(any_database, *SCHEMA, "CREATE ROLE app_role LOGIN", "CREATE ROLE other_role LOGIN")
    proposal = propose(look(any_database, "app.accounts")) | {"app.private": "ignored"}
    sql = print_grants(look(any_database, "app.accounts", proposal), ["app_role"])
    try:
        run(any_database, sql, sql)
        yield any_database
    finally:
        for role in (*ROLES, "app_role", "other_role"):
            run(any_database, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


def as_role(url: str, role: str) -> str:
    return url.replace("postgres@", f"{role}@")


def may(url: str, role: str, *statements: str) -> list[bool]:
    """Whether each statement is allowed to the role, each in a transaction that is rolled back."""
    allowed = []
    with psycopg.connect(as_role(url, role)) as connection:
        for statement in statements:
            try:
                connection.execute(statement.encode())
            except (psycopg.errors.InsufficientPrivilege, psycopg.errors.ReadOnlySqlTransaction):
                allowed.append(False)
            else:
                allowed.append(True)
            connection.rollback()
    return allowed


WRITES = (
    "INSERT INTO app.plans VALUES (2, 'x')",
    "UPDATE app.plans SET name = 'x'",
    "DELETE FROM app.plans",
    "SELECT * FROM app.private",
    "TRUNCATE app.accounts CASCADE",
    "DROP TABLE app.plans",
    "CREATE TABLE app.mine (x int)",
    "ALTER TABLE app.plans ADD COLUMN x int",
    "CREATE ROLE another",
    "SELECT pg_read_file('PG_VERSION')",
)


def test_the_backups_role_reads_everything_and_writes_nothing(granted: str) -> None:
    """It dumps the schema too, partitions included, those to come as well; what is ignored it cannot see."""
    assert all(may(granted, "outlast_backup", *READ))
    writes = ("INSERT INTO app.accounts DEFAULT VALUES", "SET transaction_read_only = off; DELETE FROM app.accounts")
    assert not any(may(granted, "outlast_backup", *WRITES, *writes))
    run(granted, "CREATE TABLE app.events_2 PARTITION OF app.events FOR VALUES FROM (10) TO (19)")
    url = as_role(granted, "outlast_backup")
    proposal = propose(look(granted, "app.accounts")) | {"app.private": "ignored"}
    catalog = look(url, "app.accounts", proposal)
    with psycopg.connect(url) as connection:
        notices = check(connection, catalog)
        hidden = unreadable(connection, catalog.tables)
    assert [notice for notice in notices if notice.level == "error"] == []
    assert {"cannot-restore", "definition-missing"} <= {notice.code for notice in notices}
    assert hidden == (TableName("app", "private"),)
    dumped = dump_schema(Target(url), None, hidden)
    assert b"events_2" in dumped["pre-data"]
    assert b"private" not in dumped["pre-data"]


def test_a_policy_hides_no_row_from_the_backups_role(granted: str) -> None:
    """Where row-level security is on, the role got BYPASSRLS."""
    with psycopg.connect(as_role(granted, "outlast_backup")) as connection:
        connection.execute("SET row_security = off")
        assert connection.execute("SELECT count(*) FROM app.guarded").fetchone() == (1,)


def test_the_restores_role_writes_what_is_owned_and_only_locks_what_is_shared(granted: str) -> None:
    """Staging, sequences and the lock on a shared parent work; shared rows cannot be changed, tables neither."""
    assert all(
        may(
            granted,
            "outlast_restore",
            *READ,
            "CREATE TEMPORARY TABLE stage (x int)",
            "INSERT INTO app.accounts OVERRIDING SYSTEM VALUE VALUES (7, 1)",
            'INSERT INTO app."Odd ""items" (account_id) VALUES (1)',
            "INSERT INTO app.events VALUES (2, 1)",
            "INSERT INTO app.guarded VALUES (2, 1)",
            "DELETE FROM app.events",
            "UPDATE app.accounts SET plan_id = NULL",
            "SELECT * FROM app.plans FOR KEY SHARE",
            "SELECT setval('app.accounts_id_seq', 100), nextval('app.accounts_id_seq')",
        )
    )
    assert not any(may(granted, "outlast_restore", *WRITES))


def test_putting_back_shared_rows_is_a_right_of_its_own(granted: str) -> None:
    """Without it --with-shared is refused by the name of the right; the optional lines, uncommented, give it."""
    run(granted, "CREATE TABLE app.apart (id int PRIMARY KEY)")
    proposal = propose(look(granted, "app.accounts")) | {"app.private": "ignored", "app.apart": "shared"}
    catalog = look(granted, "app.accounts", proposal)
    plans = next(table for table in catalog.tables if table.name == TableName("app", "plans"))
    lines = [line for line in print_grants(catalog).splitlines() if " INSERT ON TABLE " in line]
    assert lines == [
        '--   GRANT INSERT ON TABLE "app"."plans" TO outlast_restore;',
        '--   REVOKE INSERT ON TABLE "app"."plans" FROM outlast_restore;',
    ]
    grant, revoke = (line.removeprefix("--   ") for line in lines)
    url = as_role(granted, "outlast_restore")
    for right, allowed in ((None, False), (grant, True), (revoke, False)):
        run(granted, *([right] if right else []))
        with connect(Target(url), role="restore", autocommit=True) as session:
            if allowed:
                require_insert(session, plans)
                continue
            with pytest.raises(Refused, match=r"app\.plans: role outlast_restore may not INSERT") as caught:
                require_insert(session, plans)
            assert 'GRANT INSERT ON TABLE "app"."plans" TO "outlast_restore";' in str(caught.value.hint)


def test_the_followers_role_reads_and_may_replicate(granted: str) -> None:
    """It makes a slot, reads what a baseline and each flush need, sees how following is set up, and writes nothing."""
    assert all(may(granted, "outlast_follow", *READ, "SELECT last_value FROM app.accounts_id_seq"))
    url = as_role(granted, "outlast_follow")
    catalog = look(url, "app.accounts", propose(look(granted, "app.accounts")) | {"app.private": "ignored"})
    with connect(Target(url), role="follow") as session:
        notices = verify(session, catalog, FollowingSettings("main", Names.of("main")))
    assert "publication-missing" in {notice.code for notice in notices}
    assert dump_schema(Target(url), None, [TableName("app", "private")])["pre-data"]
    assert not any(may(granted, "outlast_follow", *WRITES, "DELETE FROM app.accounts"))
    with psycopg.connect(as_role(granted, "outlast_follow"), replication="database", autocommit=True) as connection:
        assert connection.execute("IDENTIFY_SYSTEM").fetchone()
        made = connection.execute("CREATE_REPLICATION_SLOT grants_test TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')")
        assert made.fetchone()


def test_the_halting_role_shuts_out_whom_it_may_and_nobody_else(granted: str) -> None:
    """The application's sessions end and it cannot come back; another role is refused; no table can be read."""
    with psycopg.connect(as_role(granted, "app_role")) as application:
        with psycopg.connect(as_role(granted, "outlast_halt"), autocommit=True) as halt:
            assert halt.execute("SELECT outlast.halt_shut_out('app_role', 'now')").fetchone() == (True,)
            assert halt.execute("SELECT ended FROM outlast.halt_end(NULL)").fetchall() == [(True,)]
            for function in ("halt_shut_out('other_role', 'now')", "halt_let_in('other_role')"):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    halt.execute(f"SELECT outlast.{function}".encode())
        with pytest.raises(psycopg.OperationalError):
            application.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(as_role(granted, "app_role"))
    psycopg.connect(as_role(granted, "other_role")).close()
    assert may(granted, "outlast_halt", "SELECT outlast.halt_let_in('app_role')") == [True]
    assert not any(may(granted, "outlast_halt", *READ, *WRITES, "ALTER ROLE other_role NOLOGIN"))


def test_nobody_else_may_halt(granted: str) -> None:
    """PUBLIC was given nothing."""
    assert may(granted, "outlast_backup", "SELECT outlast.halt_shut_out('app_role', '')") == [False]
