"""Any moment, as a person asks for it: before the script, while nobody has folded, after folding, and after pruning."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from tests.commands import Outlast
from tests.projects import Project

SCHEMA = """
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE project (id bigint PRIMARY KEY, title text,
  account_id bigint NOT NULL REFERENCES account ON DELETE CASCADE);
CREATE TABLE task (id bigint PRIMARY KEY, project_id bigint NOT NULL REFERENCES project ON DELETE CASCADE, body text);
INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, 5) n;
INSERT INTO project SELECT n, 'project ' || n, 1 + n % 5 FROM generate_series(1, 20) n;
INSERT INTO task SELECT n, 1 + n % 20, 'task ' || n FROM generate_series(1, 200) n;
"""


@pytest.fixture
def project(database: str, outlast: Outlast) -> Project:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA)
    project = Project(outlast, database)
    project.init("account", "name")
    outlast.done("follow", "--setup", "--execute", "--accept-unbounded-wal")
    outlast.done("follow", "--until-current")
    return project


def _rows(project: Project) -> list[tuple[Any, ...]]:
    with psycopg.connect(project.url, autocommit=True) as connection:
        return connection.execute(
            "SELECT a.id, p.id, p.title, t.id, t.body FROM account a JOIN project p ON p.account_id = a.id"
            " JOIN task t ON t.project_id = p.id ORDER BY 1, 2, 4"
        ).fetchall()


def _damage(project: Project) -> tuple[int, list[tuple[Any, ...]], datetime]:
    """A day's work after the backup, then the script. Its transaction, what was there before it, and when that was."""
    with psycopg.connect(project.url, autocommit=True) as connection:
        connection.execute("UPDATE task SET body = 'this morning' WHERE id % 10 = 3")
        connection.execute("INSERT INTO task VALUES (1000, 2, 'an hour ago')")
        before = _rows(project)
        row = connection.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        with connection.transaction():
            found = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
            connection.execute("DELETE FROM account WHERE id IN (2, 3)")
        connection.execute("INSERT INTO task VALUES (1001, 4, 'somebody else goes on')")
    assert found is not None
    return int(found[0]), before, row[0]


def _restored(project: Project, *moment: str) -> None:
    project.outlast.done("restore", "tenant-2", "tenant-3", *moment, "--execute")


@pytest.mark.parametrize("folded", [False, True], ids=["log", "folded"])
def test_the_moment_before_the_script(project: Project, folded: bool) -> None:
    """`before:` its transaction brings both customers back as they were then, the hour's work included, and nobody
    else's row is touched."""
    xid, before, _ = _damage(project)
    project.outlast.done("follow", "--until-current")
    if folded:
        result = project.json("fold")
        assert (result["run"], result["segments"] > 0) == (2, True)
        assert project.json("fold")["waiting"]
    shown = project.outlast.done("show", "tenant-3", "task", "--at", f"before:{xid}", "--limit", "200")
    assert "an hour ago" in shown.stdout
    assert f"just before transaction {xid}" in shown.stderr
    _restored(project, "--at", f"before:{xid}")
    assert [row for row in _rows(project) if row[3] != 1001] == before
    assert project.outlast("diff", "tenant-3", "--at", f"before:{xid}").exit_code == 0
    assert project.outlast.done("verify").exit_code == 0


def test_the_moment_by_the_clock(project: Project) -> None:
    """A timestamp means the state just before the next commit; a plan made for it is applied as it was shown."""
    _, before, when = _damage(project)
    project.outlast.done("follow", "--until-current")
    plan = project.json("restore", "tenant-2", "tenant-3", "--at", when.astimezone(UTC).isoformat())
    project.outlast.done("fold")
    project.outlast.done("apply", plan["plan"])
    assert [row for row in _rows(project) if row[3] != 1001] == before


def test_what_can_be_had_is_told(project: Project) -> None:
    """`history` says from when to when, `status` how far the log is, and a lag is exit code 4."""
    _damage(project)
    project.outlast.done("follow", "--until-current")
    told = project.outlast.done("history", "tenant-3")
    assert "Any moment from" in told.stdout
    status = project.outlast("--json", "status")
    assert status.exit_code == 0
    assert status.json["log"]["lag_seconds"] < 120
    refused = project.outlast("restore", "tenant-3")
    assert refused.exit_code == 3
    assert "--at before:" in refused.stdout + refused.stderr
    text = project.config.read_text()
    project.config.write_text(text.replace("[status]", '[status]\nmax_lag = "0s"'))
    late = project.outlast("--json", "status")
    assert (late.exit_code, late.json["error"]["code"]) == (4, "lagging")


def test_a_table_of_which_the_log_lacks_something_holds_up_no_other(project: Project) -> None:
    """A migration of today made a table that nobody classified. The moment before the script is refused as a whole, and
    the refusal says how to have all but that table: at a moment, and by the damage."""
    with psycopg.connect(project.url, autocommit=True) as connection:
        connection.execute("CREATE TABLE loose (id int PRIMARY KEY, body text)")
        connection.execute("INSERT INTO loose VALUES (1, 'whose?')")
    xid, before, _ = _damage(project)
    assert project.outlast("follow", "--until-current").exit_code == 4
    told = project.outlast("restore", "tenant-2", "tenant-3", "--at", f"before:{xid}")
    assert (told.exit_code, "restore --exclude-table public.loose" in told.stderr) == (3, True)
    parent = project.outlast(
        "restore", "tenant-3", "--at", f"before:{xid}", "--exclude-table", "public.project", "--execute"
    )
    assert parent.exit_code == 2
    assert "rows of public.task find their tenant through it" in parent.stderr
    _restored(project, "--at", f"before:{xid}", "--exclude-table", "public.loose")
    assert [row for row in _rows(project) if row[3] != 1001] == before
    with psycopg.connect(project.url, autocommit=True) as connection:
        connection.execute("DELETE FROM account WHERE id IN (2, 3)")
        assert connection.execute("SELECT body FROM loose").fetchall() == [("whose?",)]
    assert project.outlast("follow", "--until-current").exit_code == 4
    refused = project.outlast("restore", "--damage-since", f"before:{xid}", "--execute")
    assert (refused.exit_code, "--exclude-table public.loose" in refused.stderr) == (3, True)
    project.outlast.done("restore", "--damage-since", f"before:{xid}", "--exclude-table", "loose", "--execute")
    assert [row for row in _rows(project) if row[3] != 1001] == before


def test_a_table_that_bears_another_name_since_is_not_left_out_by_the_old_one(project: Project) -> None:
    """Its rows would come back under the new one, and the log lacks some of them."""
    with psycopg.connect(project.url, autocommit=True) as connection:
        connection.execute("ALTER TABLE task DROP CONSTRAINT task_pkey")
        connection.execute("UPDATE task SET body = 'of which the log knows nothing'")
        connection.execute("SET synchronous_commit = on")
        connection.execute("ALTER TABLE task RENAME TO chore")
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
    assert row is not None
    assert project.outlast("follow", "--until-current").exit_code == 4
    gap = project.outlast("restore", "tenant-3", "--at", row[0])
    assert (gap.exit_code, "is not known exactly" in gap.stderr) == (3, True)
    for name in ("public.task", "public.chore"):
        told = project.outlast("restore", "tenant-3", "--at", row[0], "--exclude-table", name)
        assert told.exit_code == 3, (name, told.stdout, told.stderr)
