"""What following promises under load: how long a commit waits for the vault, and that nothing confirmed is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg
import pytest

from outlast.capture.watching import Figures
from outlast.core.moment import Lsn
from tests.integration.follow.conftest import Factory, Followed, Running, wait_until
from tests.integration.follow.test_troubles import OWNERS, SCHEMA
from tests.integration.follow.truth import Truth, compared, differences, stored
from tests.servers import Server, embedded_binaries

INTERVAL_S = 0.5
BOUND_S = INTERVAL_S + 2

SCRIPT = r"""
\set task random(1, 60)
\set project random(1, 9)
BEGIN;
UPDATE task SET body = md5(random()::text) WHERE id = :task;
INSERT INTO task (project_id, body) VALUES (:project, 'pgbench');
DELETE FROM task WHERE id = 60 + :task * 50 + :project;
END;
"""


@contextmanager
def pgbench(url: str, folder: Path, clients: int = 2) -> Iterator[subprocess.Popen[bytes]]:
    """As many transactions as the machine holds, until the block ends."""
    script = folder / "script.sql"
    script.write_text(SCRIPT)
    command = [str(embedded_binaries() / "pgbench"), "-n", "-c", str(clients), "-T", "3600", "-f", str(script), url]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


class Sampled:
    """How long what was durable on the server took to be confirmed to the slot, asked of the server alone."""

    def __init__(self, one: Followed) -> None:
        self.worst_s = 0.0
        self.samples = 0
        self._one = one
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Sampled:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        waiting: list[tuple[float, Lsn]] = []
        query = (
            "SELECT pg_current_wal_flush_lsn()::text, confirmed_flush_lsn::text FROM pg_replication_slots"
            f" WHERE slot_name = '{self._one.names.slot}'"
        )
        with psycopg.connect(self._one.url, autocommit=True) as connection:
            while not self._stop.is_set():
                row = connection.execute(query.encode()).fetchone()
                assert row is not None
                now, confirmed = time.monotonic(), Lsn.parse(row[1])
                waiting.append((now, Lsn.parse(row[0])))
                while waiting and waiting[0][1] <= confirmed:
                    waiting.pop(0)
                    self.samples += 1
                if waiting:
                    self.worst_s = max(self.worst_s, now - waiting[0][0])
                self._stop.wait(0.02)


@pytest.mark.parametrize("seconds", [4, pytest.param(60, marks=pytest.mark.slow)])
def test_under_load_no_commit_is_unprotected_for_longer_than_the_interval_and_two_seconds(
    database: str, followed: Factory, tmp_path: Path, seconds: int
) -> None:
    """pgbench at whatever rate the machine holds: every position of the server's log is confirmed in time, and
    afterwards the vault has exactly what the server has."""
    one = followed(database, SCHEMA)
    one.flush_interval_s = INTERVAL_S
    with one.running() as running:
        with pgbench(one.url, tmp_path), Sampled(one) as sampled:
            time.sleep(seconds)  # the load is what is waited for
        running.caught_up()
        assert running.follower.watch.figures.transactions > 100
    assert sampled.samples > seconds
    assert sampled.worst_s < BOUND_S
    assert differences(Truth(one.url, OWNERS).state(), stored(one.vault(), "latest")) == []


@pytest.mark.parametrize("rounds", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_a_database_that_is_killed_under_load_loses_nothing_that_was_confirmed(
    durable_server: Server, followed: Factory, tmp_path: Path, rounds: int
) -> None:
    """kill -9 of every process of the server, again and again: what the vault had by then is in the database that comes
    back, row by row, and afterwards both are equal at every moment that was noted."""
    with durable_server.new_database() as url:
        one = followed(url, SCHEMA)
        truth = Truth(url, OWNERS)
        with one.running() as running:
            truth.note()
            figures = running.follower.watch.figures
            for _ in range(rounds):
                before = figures.transactions
                with pgbench(url, tmp_path):
                    wait_until(partial(_went_on, running, figures, before), "some load")
                    _kill(durable_server)
                confirmed = figures.flushed
                durable_server.start_again()
                assert Lsn.parse(str(one.query("SELECT pg_current_wal_flush_lsn()")[0][0])) >= confirmed
                truth.note()
                running.caught_up()
        compared(one.vault(), truth)


def _went_on(running: Running, figures: Figures, before: int) -> bool:
    return bool(running.error) or figures.transactions > before + 200


def _kill(server: Server) -> None:
    """As a machine that loses its power does to the server, but for the disk's own cache."""
    postmaster = int((server.data / "postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in [postmaster, *map(int, children)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(map(_runs, [postmaster, *map(int, children)])), "its end")


def _runs(pid: int) -> bool:
    """Not one that only waits for its parent to take note of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
