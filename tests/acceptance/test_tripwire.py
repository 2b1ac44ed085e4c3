"""`outlast tripwire`, as it is installed: shown, proven without harm, and reset."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

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
