"""restore, apply, plans and diff as commands: what they print, keep, and end with."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.commands import Outlast
from tests.integration.restore.test_conflicts import SCHEMA, WIPE
from tests.servers import Server


@pytest.fixture
def shop(outlast: Outlast, database: str) -> Iterator[tuple[Outlast, psycopg.Connection]]:
    """A shop that was backed up; then its tenant 1 (acme) was destroyed."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        outlast.done("init", database, "--tenant-table", "accounts", "--tenant-label", "name")
        outlast.done("backup")
        connection.execute(WIPE.encode())
        yield outlast, connection


def test_a_conflict_is_shown_whole_and_ends_with_3(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """The plan, its conflict and the next step; the same from --execute, and from apply."""
    project, connection = shop
    connection.execute("DELETE FROM plans WHERE id = 7")
    plan = project("restore", "acme")
    assert plan.exit_code == 3
    assert "9 to insert, 0 to change, 0 to delete" in plan.stdout
    assert "public.plans" in plan.stdout
    assert "(7)" in plan.stderr
    answer = project("--json", "restore", "acme", "--execute")
    assert (answer.exit_code, answer.json["executed"]) == (3, False)
    (conflict,) = answer.json["conflicts"]
    assert (conflict["tenant"], conflict["table"], conflict["constraint"]) == (
        "1",
        "public.accounts",
        "accounts_plan_id_fkey",
    )
    connection.execute("INSERT INTO plans VALUES (7, 'gold')")
    assert project("apply", answer.json["plan"]).exit_code == 3
    assert project.done("--json", "restore", "acme", "--execute").json["tenants"][0]["state"] == "done"


def test_a_part_that_fails_ends_with_1(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """One tenant's conflict stops no other, and is not hidden by it."""
    project, connection = shop
    connection.execute("DELETE FROM users WHERE account_id = 2; DELETE FROM plans WHERE id = 7")
    answer = project("--json", "restore", "acme", "other", "--execute")
    assert answer.exit_code == 1
    assert {one["label"]: one["state"] for one in answer.json["tenants"]} == {"acme": "refused", "other": "done"}
    assert answer.json["error"]["code"] == "partly"


def test_a_stale_plan_ends_with_3(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """What changed since the plan is not overwritten; the plan can be applied when it holds again."""
    project, connection = shop
    plan = project.done("--json", "restore", "acme").json["plan"]
    connection.execute("INSERT INTO accounts VALUES (1, 'somebody', 1)")
    stale = project("--json", "apply", plan)
    assert (stale.exit_code, stale.json["error"]["code"]) == (3, "stale")
    connection.execute("DELETE FROM accounts WHERE id = 1")
    assert project.done("--json", "apply", plan[:8]).json["executed"] is True
    (listed,) = project.done("--json", "plans").json["plans"]
    assert (listed["plan"], listed["state"]) == (plan, "applied")
    assert project("apply", "nonsense").exit_code == 2


def test_into_another_database(shop: tuple[Outlast, psycopg.Connection], server: Server) -> None:
    """--into writes there, and leaves the source alone; the plan remembers where."""
    project, connection = shop
    with server.new_database() as other, psycopg.connect(other, autocommit=True) as there:
        there.execute(SCHEMA.encode())
        there.execute(WIPE.encode())
        plan = project.done("--json", "restore", "acme", "--into", other).json["plan"]
        project.done("apply", plan)
        assert there.execute("SELECT count(*) FROM users WHERE account_id = 1").fetchone() == (3,)
    assert connection.execute("SELECT count(*) FROM users WHERE account_id = 1").fetchone() == (0,)


def test_names_from_a_file_and_the_hook(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """--tenants-file names many; the hook hears the keys of those that came back."""
    project, _ = shop
    (project.folder / "names.txt").write_text("acme\n\n2\n")
    config = project.folder / "outlast.toml"
    config.write_text(config.read_text().replace("[hooks]\n", '[hooks]\nafter_restore = "cat > heard.txt"\n', 1))
    answer = project.done("--json", "restore", "--tenants-file", "names.txt", "--execute").json
    assert [one["state"] for one in answer["tenants"]] == ["done", "nothing-to-do"]
    assert (project.folder / "heard.txt").read_text() == "1\n"
    assert project("restore").exit_code == 2
    assert project("restore", "--tenants-file", "none.txt").exit_code == 2


def test_diff(shop: tuple[Outlast, psycopg.Connection]) -> None:
    """Equal states end with 0, different ones with 4, and the effect says what happened."""
    project, _ = shop
    gone = project("--json", "diff", "acme")
    assert gone.exit_code == 4
    assert gone.json["effect"]["public.users"] == {"hard-delete": 3}
    assert project.done("--json", "diff", "other").json["same"] is True
    project.done("restore", "acme", "--execute")
    assert project.done("diff", "acme").exit_code == 0
    assert project.done("--json", "diff", "acme", "--at", "run:1", "--to", "latest").json["effect"] == {}
