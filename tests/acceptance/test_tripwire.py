"""`outlast tripwire`, as it is installed: shown, proven without harm, and reset."""

from __future__ import annotations

import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator

import psycopg
import pytest

from outlast.sources.postgres.halt import Halter
from outlast.sources.postgres.session import Target
from tests.commands import Outlast
from tests.receiver import Receiver, receiving

SCHEMA = """
CREATE TABLE accounts (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE users (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts ON DELETE CASCADE);
"""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def roles(database: str) -> Iterator[tuple[str, str]]:
    """The application's role and one for scripts."""
    names = [f"{name}_{uuid.uuid4().hex[:8]}" for name in ("app", "script")]
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        for name in names:
            connection.execute(f"CREATE ROLE {name} LOGIN; GRANT ALL ON accounts, users TO {name}".encode())
        yield names[0], names[1]
        for name in names:
            connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def configure(outlast: Outlast, database: str, *lines: str) -> None:
    outlast.done("init", database, "--tenant-table", "accounts", "--tenant-label", "name")
    with (outlast.folder / "outlast.toml").open("a") as file:
        file.write("\n".join(["", "[tripwire]", *lines, ""]))


def test_shown_proven_and_reset(outlast: Outlast, database: str, roles: tuple[str, str], receiver: Receiver) -> None:
    """A message arrives that says it is a test; the role keeps LOGIN; what a halt took, reset gives back."""
    configure(outlast, database, f'halt_roles = ["{roles[1]}"]', "tenant_roots = 3")
    shown = outlast.done("--json", "tripwire").json
    assert (shown["rules"]["tenant_roots"], shown["incident"], shown["halt_roles"]) == (3, None, [roles[1]])
    told = {"OUTLAST_NOTIFY": receiver.url}
    tested = outlast.done("--json", "tripwire", "test", environment=told).json
    assert (tested["notified"], tested["halt_proven"], tested["problems"]) == (1, True, [])
    assert receiver.next()[1] == "Outlast: this is a test of the tripwire"
    script = database.replace("postgres@", f"{roles[1]}@")
    psycopg.connect(script).close()
    assert outlast.done("--json", "tripwire", "reset").json["let_in"] == []
    halter = Halter(Target(database), [roles[1]])
    halter.act([], "now")
    halter.close()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(script)
    assert "LOGIN was given back" in outlast.done("tripwire", "reset").stdout
    psycopg.connect(script).close()


def test_what_would_not_work_is_found_beforehand(
    outlast: Outlast, database: str, roles: tuple[str, str], receiver: Receiver
) -> None:
    """The application's own role, nobody to tell, and a service that refuses."""
    configure(outlast, database, f'halt_roles = ["{roles[0]}", "{roles[1]}"]')
    refused = outlast("--json", "tripwire", "test")
    assert refused.exit_code == 4
    assert any("the application seems to use it" in problem for problem in refused.json["problems"])
    assert any("nobody is told" in problem for problem in refused.json["problems"])
    checked = outlast("--json", "check").json["notices"]
    assert [one["level"] for one in checked if one["code"] == "halt-application"] == ["warning", "warning"]
    grants = outlast.done("init", database, "--tenant-table", "accounts", "--print-grants").stdout
    assert roles[0] in grants[grants.index("halt_roles()") :]
    receiver.refusing = True
    refused = outlast("--json", "tripwire", "test", environment={"OUTLAST_NOTIFY": receiver.url + "/s3cret"})
    assert any("not notified: no. 1 (json)" in problem for problem in refused.json["problems"])
    assert "s3cret" not in refused.stdout + refused.stderr


def test_a_rule_about_a_table_that_is_not_there(outlast: Outlast, database: str, roles: tuple[str, str]) -> None:
    """Wrong usage, before anything starts."""
    configure(outlast, database, 'tombstone = "closures"')
    result = outlast("tripwire")
    assert result.exit_code == 2
    assert "names the table public.closures, which is not in the database" in result.stderr


def test_a_running_follow_halts_a_script_and_a_reset_lets_it_in(
    outlast: Outlast, database: str, roles: tuple[str, str], receiver: Receiver
) -> None:
    """The whole of it, installed: the script is stopped in its transaction, a person resets, and work goes on."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("INSERT INTO accounts SELECT n, 'tenant-' || n FROM generate_series(1, 30) n")
        users = "SELECT a * 100 + n, a FROM generate_series(1, 30) a, generate_series(1, 40) n"
        connection.execute(f"INSERT INTO users {users}".encode())
        configure(outlast, database, f'halt_roles = ["{roles[1]}"]', "", "[follow]", "accept_unbounded_wal = true")
        outlast.done("follow", "--setup", "--execute")
        script = database.replace("postgres@", f"{roles[1]}@")
        following = outlast.start("follow", environment={"OUTLAST_NOTIFY": receiver.url})
        try:
            until(lambda: following.poll() is None and is_followed(connection))
            session = psycopg.connect(script, application_name="purge.py")
            with pytest.raises(psycopg.OperationalError):
                delete_one_after_the_other(session)
            session.close()
            _, title, text = receiver.next()
            assert "of main" in title
            assert f"role {roles[1]}, application_name 'purge.py'" in text
            assert connection.execute("SELECT count(*) FROM accounts").fetchone() == (30,)
            shown = outlast.done("--json", "tripwire").json
            assert shown["incident"]["halt"]["roles"] == [roles[1]]
            assert outlast.done("--json", "tripwire", "reset").json["let_in"] == [roles[1]]
            psycopg.connect(script).close()
        finally:
            following.send_signal(signal.SIGTERM)
            _, errors = following.communicate(timeout=60)
        assert "TRIPWIRE" in errors
        assert following.returncode == 0, errors


def is_followed(connection: psycopg.Connection) -> bool:
    slots = "SELECT 1 FROM pg_replication_slots WHERE database = current_database() AND active"
    return connection.execute(slots.encode()).fetchone() is not None


def delete_one_after_the_other(session: psycopg.Connection) -> None:
    """In one transaction, at a script's pace, until it is stopped."""
    for number in [*range(1, 31)] * 1000:
        session.execute("DELETE FROM accounts WHERE id = %s", [number])
        threading.Event().wait(0.05)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
