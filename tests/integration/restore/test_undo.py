"""undo as a command: what a plan did is taken back out of the vault, proven, and undone in its turn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.commands import Outlast
from tests.integration.restore.test_conflicts import SCHEMA, WIPE
from tests.servers import Server


@pytest.fixture
def shop(outlast: Outlast, database: str) -> Iterator[tuple[Outlast, psycopg.Connection]]:
    """A shop that was backed up; then its tenant 1 (acme) lost rows, and changed and gained some."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        outlast.done("init", database, "--tenant-table", "accounts", "--tenant-label", "name")
        outlast.done("backup")
        connection.execute(
            b"DELETE FROM users WHERE id = 11; UPDATE users SET nick = 'x' WHERE id = 10;"
            b"INSERT INTO users (id, account_id, email, code) VALUES (50, 1, 'n@x.org', 'n')"
        )
        yield outlast, connection


def users(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    return connection.execute("SELECT id, nick FROM users WHERE account_id = 1 ORDER BY id").fetchall()


NOW, THEN = [(10, "x"), (12, None), (50, None)], [(10, "ann"), (11, "bob"), (12, None)]


def undo_objects(project: Outlast) -> list[Path]:
    return sorted(path for path in (project.folder / "vault").rglob("undo/*/*") if path.is_file())


def test_rewound_undone_and_undone_again(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """rewind shows deletions apart and wants a word for them; undo is a plan like any other."""
    project, connection = shop
    refused = project("--json", "restore", "acme", "--mode", "rewind")
    assert (refused.exit_code, [one["kind"] for one in refused.json["conflicts"]]) == (3, ["newer-rows"])
    answer = project.done("restore", "acme", "--mode", "rewind", "--delete-newer")
    assert "1 to insert, 1 to change, 1 to delete" in answer.stdout
    done = project.done("--json", "restore", "acme", "--mode", "rewind", "--delete-newer", "--execute").json
    assert done["effect"] == {"public.users": {"insert": 1, "update": 1, "hard-delete": 1}}
    assert users(connection) == THEN
    shown = project.done("--json", "undo", done["plan"]).json
    assert (shown["executed"], shown["effect"]) == (False, done["effect"])
    assert users(connection) == THEN
    undone = project.done("--json", "apply", shown["plan"]).json
    assert users(connection) == NOW
    assert "To take it back" in project.done("undo", undone["plan"], "--execute").stdout
    assert users(connection) == THEN
    assert project("undo", shown["plan"][:-1] + "?").exit_code == 2
    nothing = project.done("--json", "restore", "acme").json
    assert project("undo", nothing["plan"]).exit_code == 3


def test_what_was_changed_again(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """Rows changed since are a conflict with exit code 3, settled by --prefer."""
    project, connection = shop
    done = project.done("--json", "restore", "acme", "--execute").json
    connection.execute("UPDATE users SET nick = 'later' WHERE id = 11")
    refused = project("--json", "undo", done["plan"], "--execute")
    assert (refused.exit_code, [one["kind"] for one in refused.json["conflicts"]]) == (3, ["changed-since"])
    assert project.done("--json", "undo", done["plan"], "--prefer", "live", "--execute").json["effect"] == {}
    project.done("undo", done["plan"], "--prefer", "vault", "--execute")
    assert users(connection) == NOW


def test_on_another_host(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """A host that does not have the plan undoes it by the vault's before-images: conflicts and undo as anywhere."""
    project, connection = shop
    done = project.done("--json", "restore", "acme", "--mode", "rewind", "--delete-newer", "--execute").json["plan"]
    for kept in (project.folder / ".outlast").glob("state*"):
        kept.rename(project.folder / kept.name)
    assert project("apply", done).exit_code == 2
    connection.execute("UPDATE users SET nick = 'later' WHERE id = 11")
    refused = project("--json", "undo", done[:8])
    assert (refused.exit_code, [one["kind"] for one in refused.json["conflicts"]]) == (3, ["changed-since"])
    connection.execute("UPDATE users SET nick = 'bob' WHERE id = 11")
    shown = project.done("undo", done[:8])
    assert f"Plan {done} is not in this host's state" in shown.stderr
    assert f"taking back plan {done}" in shown.stdout
    (made,) = {one["plan"] for one in project.done("--json", "plans").json["plans"] if one["state"] == "planned"}
    assert users(connection) == THEN
    project.done("apply", made)
    assert users(connection) == NOW
    project.done("undo", made, "--execute")
    assert users(connection) == THEN
    for unknown in ("0000", "../../main", done + "0"):
        refused = project("--json", "undo", unknown)
        assert (refused.exit_code, "in the vault" in refused.json["error"]["message"]) == (2, True), refused


def test_of_a_tenant_that_no_run_has(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """What is undone needs no run: a job for another machine finds the tenant in the before-images."""
    project, connection = shop
    connection.execute(WIPE.encode())
    done = project.done("--json", "restore", "acme", "--execute").json["plan"]
    (kept,) = undo_objects(project)
    for path in (project.folder / "vault").rglob("runs/*"):
        path.rename(project.folder / path.name)
    (project.folder / ".outlast" / "state.sqlite").unlink()
    project.done("undo", done, "--execute")
    assert users(connection) == []
    assert kept.exists()


def test_of_another_database(shop: tuple[Outlast, psycopg.Connection], server: Server) -> None:
    """A host without the plan does not know the URL that it was written --into, and says so."""
    project, connection = shop
    with server.new_database() as url:
        with psycopg.connect(url, autocommit=True) as beside:
            beside.execute(SCHEMA.encode())
            beside.execute(WIPE.encode())
        done = project.done("--json", "restore", "acme", "--into", url, "--execute").json["plan"]
    (project.folder / ".outlast" / "state.sqlite").unlink()
    refused = project("--json", "undo", done, "--execute")
    assert (refused.exit_code, refused.json["error"]["code"]) == (3, "other-database")
    assert users(connection) == NOW


def test_no_keys_no_writing(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """A host that cannot keep a before-image can plan, and is told so before it writes."""
    project, connection = shop
    (project.folder / ".outlast" / "signing.key").rename(project.folder / "elsewhere")
    plan = project.done("--json", "restore", "acme").json["plan"]
    for arguments in (("restore", "acme", "--execute"), ("apply", plan)):
        refused = project("--json", *arguments)
        assert (refused.exit_code, refused.json["error"]["code"]) == (3, "no-undo")
    assert users(connection) == NOW


def test_verify_reads_every_byte(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """Before-images are nothing foreign, and a flipped byte of one is damage, with and without a key."""
    project, _ = shop
    project.done("restore", "acme", "--execute")
    (kept,) = undo_objects(project)
    assert [one for one in project.done("--json", "verify").json["findings"] if one["level"] != "note"] == []
    whole = kept.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 70):
        kept.chmod(0o600)
        kept.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        found = project("--json", "verify")
        assert found.exit_code == 4, place
        assert any("undo/" in one["object"] and one["level"] == "damage" for one in found.json["findings"])
    kept.write_bytes(whole)
    project.done("verify")


def test_nothing_in_the_clear(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """A before-image shows no row, key or label to who can read the store."""
    project, connection = shop
    connection.execute(WIPE.encode())
    project.done("restore", "acme", "--execute")
    (kept,) = undo_objects(project)
    data = kept.read_bytes()
    assert not any(word in data for word in (b"acme", b"x.org", b"public.users"))


def test_a_plan_that_was_cut_short(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """Killed after COMMIT and before it was noted: the vault knows what to take back."""
    project, connection = shop
    started = project.start("restore", "acme", "--execute")
    while users(connection) == NOW and started.poll() is None:
        continue
    started.kill()
    started.communicate()
    assert users(connection) == [(10, "x"), (11, "bob"), (12, None), (50, None)]
    (plan,) = project.done("--json", "plans").json["plans"]
    if plan["state"] == "interrupted":
        assert project("apply", plan["plan"]).exit_code == 3
    project.done("undo", plan["plan"], "--execute")
    assert users(connection) == NOW
