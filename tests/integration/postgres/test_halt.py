"""Halting on real servers: who is shut out, whose sessions end, who gets LOGIN back, and who must not be halted."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql

from outlast.sources.postgres.grants import ROLES, print_grants
from outlast.sources.postgres.halt import Halter
from outlast.sources.postgres.halt_roles import judge, read_roles
from outlast.sources.postgres.session import Target
from tests.integration.postgres.conftest import look, run

SCHEMA = (
    "CREATE TABLE accounts (id int PRIMARY KEY)",
    "CREATE TABLE users (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts ON DELETE CASCADE)",
    "INSERT INTO accounts SELECT generate_series(1, 50)",
    "INSERT INTO users SELECT n, n FROM generate_series(1, 50) n",
)


@dataclass
class Database:
    """A database with an application (`app`), a role for scripts (`script`) and one that only halts (`halter`)."""

    url: str
    tag: str

    def role(self, name: str) -> str:
        return f"{name}_{self.tag}"

    def url_of(self, name: str) -> str:
        return self.url.replace("postgres@", f"{self.role(name)}@")

    def connect(self, name: str) -> psycopg.Connection:
        return psycopg.connect(self.url_of(name), autocommit=True, application_name="purge.py")

    def run(self, *statements: str) -> None:
        run(self.url, *(statement.replace("«", "").replace("»", f"_{self.tag}") for statement in statements))

    def may_log_in(self, name: str) -> bool:
        """When this returns its session has ended: a halt would find it otherwise."""
        try:
            with self.connect(name) as connection:
                pid = connection.info.backend_pid
        except psycopg.OperationalError as error:
            return "not permitted to log in" not in str(error)
        with psycopg.connect(self.url, autocommit=True) as look_on:
            until(lambda: row(look_on, f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == "0")
        return True

    def codes(self, *roles: str, ours: tuple[str, ...] = (), accept: bool = False, url: str | None = None) -> set[str]:
        """What stands against halting these roles."""
        names = [self.role(role) for role in roles]
        halter = Halter(Target(url or self.url), names)
        catalog = look(self.url)
        facts = read_roles(halter.session, catalog, names, [self.role(role) for role in ours])
        halter.close()
        return {notice.code for notice in judge(facts, [self.role(role) for role in ours], accept_outage=accept)}


@pytest.fixture
def database(any_database: str) -> Iterator[Database]:
    database = Database(any_database, uuid.uuid4().hex[:8])
    names = ("app", "script", "halter")
    run(any_database, *SCHEMA)
    database.run(
        *(f"CREATE ROLE «{name}» LOGIN" for name in names),
        "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO «app», «script»",
    )
    yield database
    for name in names:
        database.run(f"DROP OWNED BY «{name}»", f"DROP ROLE «{name}»")


@pytest.fixture
def granted(database: Database) -> Iterator[Database]:
    """With what --print-grants prints, for `script`."""
    run(database.url, print_grants(look(database.url), [database.role("script")]))
    yield database
    run(database.url, *(f"DROP OWNED BY {role}" for role in ROLES), *(f"DROP ROLE {role}" for role in ROLES))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def is_over(connection: psycopg.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


@pytest.mark.parametrize("how", ["superuser", "functions", "own-rights"])
def test_a_transaction_in_progress_is_ended_and_nobody_else(database: Database, how: str) -> None:
    """The script's transaction ends before COMMIT, the script cannot come back; the application does not notice."""
    with ExitStack() as closing:
        url = database.url
        if how == "functions":
            run(url, print_grants(look(url), [database.role("script")]))
            closing.callback(lambda: run(database.url, *(f"DROP OWNED BY {r}; DROP ROLE {r}" for r in ROLES)))
            url = url.replace("postgres@", "outlast_halt@")
        elif how == "own-rights":
            database.run("ALTER ROLE «halter» CREATEROLE", "GRANT pg_signal_backend, pg_read_all_stats TO «halter»")
            with psycopg.connect(database.url) as connection:
                if connection.info.server_version >= 160000:
                    database.run("GRANT «script» TO «halter» WITH ADMIN OPTION, INHERIT FALSE")
            url = database.url_of("halter")
        application = closing.enter_context(database.connect("app"))
        script, idle = database.connect("script"), database.connect("script")
        other = closing.enter_context(psycopg.connect(database.url))
        other.execute("UPDATE users SET id = id + 100 WHERE id = 1")
        xids = [row(connection, "SELECT pg_current_xact_id()::text") for connection in (other,)]
        script.execute("BEGIN")
        script.execute("DELETE FROM accounts WHERE id > 1")
        xids.append(row(script, "SELECT pg_current_xact_id()::text"))
        halter = Halter(Target(url), [database.role("script")])
        closing.callback(halter.close)
        halter.open()
        assert halter.through_functions is (how == "functions")
        assert halter.prove() == ()
        assert database.may_log_in("script")
        assert {seen.pid for seen in halter.look([int(xid) for xid in xids])} == {
            script.info.backend_pid,
            other.info.backend_pid,
        }
        halted = halter.act([int(xid) for xid in xids], "2026-11-23T05:00:00Z")
        assert halted.failures == ()
        assert halted.roles == (database.role("script"),)
        assert {seen.pid for seen in halted.sessions if seen.ended} == {
            script.info.backend_pid,
            idle.info.backend_pid,
        }
        assert "purge.py" in str(next(seen for seen in halted.sessions if seen.ended))
        assert halted.outcomes == {int(xids[0]): "in progress", int(xids[1]): "aborted"}
        assert is_over(script)
        assert is_over(idle)
        assert not database.may_log_in("script")
        assert application.execute("SELECT count(*) FROM accounts").fetchone() == (50,)
        assert other.execute("SELECT 1").fetchone() == (1,)
        other.rollback()
        assert halter.let_in() == (database.role("script"),)
        assert halter.let_in() == ()
        assert database.may_log_in("script")
        for connection in (script, idle):
            connection.close()


def row(connection: psycopg.Connection, query: str) -> str:
    found = connection.execute(query.encode()).fetchone()
    assert found is not None
    return str(found[0])


def test_login_goes_back_only_to_whom_it_was_taken_from(database: Database) -> None:
    """Not to a role that could not log in before, whoever asks; and from another host, by the word in its comment."""
    database.run("COMMENT ON ROLE «script» IS 'for scripts'", "ALTER ROLE «app» NOLOGIN")
    roles = [database.role("script"), database.role("app")]
    first, second = Halter(Target(database.url), roles), Halter(Target(database.url), roles)
    assert first.act([], "a").roles == (database.role("script"),)
    assert first.act([], "b").roles == ()
    first.close()
    comment = sql.SQL("SELECT shobj_description({}::regrole, 'pg_authid')").format(sql.Literal(roles[0]))
    with psycopg.connect(database.url) as connection:
        assert connection.execute(comment).fetchone() == ("for scripts[outlast halt a]",)
        assert second.let_in() == (database.role("script"),)
        connection.rollback()
        assert connection.execute(comment).fetchone() == ("for scripts",)
    assert not database.may_log_in("app")
    second.close()


def test_a_role_that_keeps_coming_back(database: Database) -> None:
    """A script that opens a session whenever it loses one gets none any more."""
    halter = Halter(Target(database.url), [database.role("script")])
    halter.open()
    sessions = [database.connect("script") for _ in range(5)]
    halted = halter.act([], "now")
    assert halted.ended == 5
    assert not database.may_log_in("script")
    assert halter.act([], "now").ended == 0
    for session in sessions:
        session.close()
    halter.let_in()
    halter.close()


def test_a_cut_connection_is_opened_again_in_time(database: Database) -> None:
    """The server ended the halting session itself, and it halts all the same."""
    halter = Halter(Target(database.url), [database.role("script")])
    halter.open()
    run(database.url, f"SELECT pg_terminate_backend({halter.session.info.backend_pid}, 60000)")
    halted = halter.act([], "now")
    assert (halted.roles, halted.failures) == ((database.role("script"),), ())
    halter.let_in()
    halter.close()


def test_what_it_may_not_do_is_told_and_not_hidden(database: Database) -> None:
    """Without rights the proof fails beforehand; in earnest, each thing that failed is named, and nothing raises."""
    halter = Halter(Target(database.url_of("halter")), [database.role("script")])
    (refused,) = halter.prove()
    assert "take LOGIN from role script" in refused
    with database.connect("script") as script:
        halted = halter.act([], "now")
        assert len(halted.failures) == 2
        assert script.execute("SELECT 1").fetchone() == (1,)
    halter.close()
    assert {"halt-rights"} == database.codes("script", url=database.url_of("halter"))


def test_the_sessions_of_a_superuser_cannot_be_ended_by_anybody_else(database: Database) -> None:
    """`test` says so beforehand."""
    database.run(
        "ALTER ROLE «script» SUPERUSER",
        "ALTER ROLE «halter» CREATEROLE",
        "GRANT pg_signal_backend, pg_read_all_stats TO «halter»",
    )
    assert "halt-rights" in database.codes("script", url=database.url_of("halter"), accept=True)
    with database.connect("script"):
        halter = Halter(Target(database.url_of("halter")), [database.role("script")])
        assert any("could not be ended" in failure for failure in halter.act([], "now").failures)
        halter.close()
    assert database.codes("script") == set()


def test_the_applications_own_role_is_refused(database: Database) -> None:
    """By what other roles may write at any hour, and by who has the sessions now; `accept_outage` overrules both."""
    assert database.codes("script") == set()
    assert database.codes("script", "app") == {"halt-application"}
    assert database.codes("script", "app", accept=True) == set()
    with ExitStack() as sessions:
        for _ in range(4):
            sessions.enter_context(database.connect("script"))
        until(lambda: database.codes("script") == {"halt-application"})
        for _ in range(5):
            sessions.enter_context(database.connect("app"))
        until(lambda: database.codes("script") == set())
    database.run("REVOKE ALL ON accounts FROM «app»")
    assert database.codes("script") == {"halt-application"}


def test_what_else_is_refused(database: Database) -> None:
    """Outlast's own role, one that is not there, one that cannot log in anyway."""
    assert database.codes("script", ours=("script",)) == {"halt-ourselves"}
    assert database.codes("nobody") == {"halt-role"}
    database.run("ALTER ROLE «script» NOLOGIN")
    assert database.codes("script") == {"halt-no-login"}


def test_the_functions_know_their_roles(granted: Database) -> None:
    """outlast.toml may name more roles than the functions: those are not touched, and that is told."""
    url = granted.url.replace("postgres@", "outlast_halt@")
    assert granted.codes("script", url=url) == set()
    halter = Halter(Target(url), [granted.role("script"), granted.role("app")])
    halter.open()
    assert halter.through_functions
    assert len(halter.prove()) == 1
    halted = halter.act([], "now")
    assert (halted.roles, len(halted.failures)) == ((granted.role("script"),), 1)
    assert granted.may_log_in("app")
    halter.close()
