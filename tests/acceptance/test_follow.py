"""`outlast follow` as a person runs it: set up, started, stopped, and asked for a moment afterwards."""

from __future__ import annotations

import json
import signal
import subprocess
import time

import psycopg
import pytest

from tests.commands import Outlast
from tests.projects import Project
from tests.servers import Server

SCHEMA = """
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE task (id bigserial PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, body text);
INSERT INTO account VALUES (1, 'acme'), (2, 'globex');
INSERT INTO task (account_id, body) SELECT 1 + n % 2, 'task ' || n FROM generate_series(1, 20) n;
"""


@pytest.fixture
def project(database: str, outlast: Outlast) -> Project:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA)
    project = Project(outlast, database)
    project.init("account", "name")
    return project


def test_following_is_refused_until_it_is_set_up(project: Project) -> None:
    """The first word of an unprepared source is what to run."""
    result = project.outlast("--json", "follow", "--until-current")
    assert (result.exit_code, result.json["error"]["code"]) == (3, "not-set-up")
    assert "outlast follow --setup" in result.json["error"]["hint"]


def test_a_change_after_the_backup_is_restorable_at_its_moment(project: Project, server: Server) -> None:
    """Set up, follow, and a row that was there between two backups is shown as of any moment."""
    project.outlast.done("follow", "--setup", "--execute", "--accept-unbounded-wal")
    first = project.json("follow", "--until-current")
    assert (first["epoch"], first["base_run"]) == (1, 1)
    with psycopg.connect(project.url, autocommit=True) as connection:
        connection.execute("INSERT INTO task (account_id, body) VALUES (1, 'short-lived')")
        moment = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        connection.execute("DELETE FROM task WHERE body = 'short-lived'")
    assert moment is not None
    second = project.json("follow", "--until-current")
    assert (second["transactions"], second["changes"]) == (2, 2)
    then = project.outlast.done("show", "acme", "task", "--at", str(moment[0])).stdout
    now = project.outlast.done("show", "acme", "task").stdout
    assert "short-lived" in then
    assert "short-lived" not in now


def test_a_running_follower_tells_its_figures_and_flushes_when_it_is_stopped(project: Project) -> None:
    """/metrics answers while it runs; SIGTERM ends it with 0 and nothing unflushed."""
    project.outlast.done("follow", "--setup", "--execute", "--accept-unbounded-wal")
    process = project.outlast.start("--json", "follow", "--metrics", "127.0.0.1:0", "--flush-interval", "60")
    try:
        assert process.stdout is not None
        events = _until(process, "base")
        assert events
        _connected(project)
        with psycopg.connect(project.url, autocommit=True) as connection:
            connection.execute("INSERT INTO task (account_id, body) VALUES (2, 'last words')")
        _received(project)
    finally:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    result = json.loads(out.strip().splitlines()[-1])
    assert process.returncode == 0, err
    assert (result["ok"], result["changes"]) == (True, 1)
    assert "last words" in project.outlast.done("show", "globex", "task").stdout


def _until(process: subprocess.Popen[str], kind: str) -> list[dict[str, object]]:
    seen = []
    assert process.stdout is not None
    for line in process.stdout:
        seen.append(json.loads(line))
        if seen[-1].get("event") == kind:
            return seen
    raise AssertionError(f"it ended: {seen}")


def _connected(project: Project) -> None:
    deadline = time.monotonic() + 60
    with psycopg.connect(project.url, autocommit=True) as connection:
        while not connection.execute("SELECT 1 FROM pg_replication_slots WHERE active").fetchone():
            assert time.monotonic() < deadline
            time.sleep(0.02)


def _received(project: Project) -> None:
    """Returns when the follower has told the server that it has all that is committed until now."""
    deadline = time.monotonic() + 60
    with psycopg.connect(project.url, autocommit=True) as connection:
        (until,) = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone() or (None,)
        reached = (
            "SELECT 1 FROM pg_stat_replication JOIN pg_replication_slots ON active_pid = pid"
            " WHERE database = current_database() AND write_lsn >= %s::pg_lsn"
        )
        while not connection.execute(reached, [until]).fetchone():
            assert time.monotonic() < deadline, "it was not received"
            time.sleep(0.02)
