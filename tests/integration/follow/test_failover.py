"""Following over what happens to a cluster: failover to another timeline, jumps of its clock, prepared transactions."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from outlast.core.errors import NotFoundError, Refused
from outlast.restore.history import resolve
from outlast.sources.postgres import pgoutput
from tests.integration.follow.conftest import Factory, wait_until
from tests.integration.follow.test_troubles import OWNERS, SCHEMA
from tests.integration.follow.truth import Truth, compared, differences, stored
from tests.servers import DURABLE, Server, embedded_binaries, running

WORK = (
    "UPDATE task SET body = body || '.' WHERE id % 4 = 0",
    "DELETE FROM task WHERE id % 7 = 0",
    "UPDATE project SET account_id = 1 + account_id % 3 WHERE id = 2",
    "INSERT INTO task (project_id, body) SELECT 1 + n % 9, 'more' FROM generate_series(1, 10) n",
)


@pytest.fixture
def primary() -> Iterator[Server]:
    with running(embedded_binaries(), settings={**DURABLE, "max_prepared_transactions": "10"}) as server:
        yield server


@contextmanager
def standby_of(primary: Server) -> Iterator[Server]:
    """A physical standby in a folder of its own, streaming from the primary. It ends with the block."""
    folder = Path(str(primary.folder) + "-standby")
    owner = primary.data.stat()
    folder.mkdir()
    os.chown(folder, owner.st_uid, owner.st_gid)
    as_owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": [], "cwd": folder}
    if os.geteuid() != 0:
        as_owner = {"cwd": folder}
    connection = f"host={primary.folder} port={primary.port} user=postgres"
    command = [primary.binaries / "pg_basebackup", "-D", folder / "data", "-d", connection, "-R", "-X", "stream"]
    subprocess.run([*command, "-c", "fast"], check=True, capture_output=True, **as_owner)  # type: ignore[call-overload]
    with (folder / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write(f"unix_socket_directories = '{folder}'\nlisten_addresses = ''\n")
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(  # type: ignore[call-overload]
            [primary.binaries / "postgres", "-D", folder / "data"], stdout=log, stderr=log, **as_owner
        )
    server = replace(primary, folder=folder, guard=None)
    try:
        wait_until(lambda: _answers(server), "the standby's start")
        yield server
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _answers(server: Server) -> bool:
    try:
        server.connect().close()
    except psycopg.OperationalError:
        return False
    return True


def test_a_failover_to_a_standby_begins_a_new_log_with_a_new_base(primary: Server, followed: Factory) -> None:
    """The primary is killed while it is followed, the standby promoted, and the follower finds it by itself (a URL with
    both hosts). That is told; moments of before are exact as they were, and those of after are exact again."""
    with primary.new_database("shop"), standby_of(primary) as standby:
        both = (
            f"postgresql://postgres@/shop?host={quote(f'{primary.folder},{standby.folder}', safe='')}"
            f"&port={primary.port}%2C{standby.port}&target_session_attrs=read-write"
        )
        one = followed(both, SCHEMA)
        truth = Truth(both, OWNERS)
        with one.running() as running_:
            truth.note()
            for statement in WORK[:2]:
                one.execute(statement)
                truth.note()
            running_.caught_up()
            _replayed(primary, standby)
            primary.stop(signal.SIGQUIT)
            with standby.connect() as connection:
                connection.execute("SELECT pg_promote()")
            watch = running_.follower.watch
            wait_until(lambda: running_.error or watch.figures.base_run == 2, "the new base")
            wait_until(lambda: running_.error or watch.figures.connected, "the new stream")
            assert any("gap" in text for text in watch.ever), watch.ever
            for statement in WORK[2:]:
                one.execute(statement)
                truth.note()
            running_.caught_up()
            assert running_.follower._result.epoch == 2
        compared(one.vault(), truth)
        primary.start_again()


def _replayed(primary: Server, standby: Server) -> None:
    with primary.connect() as connection:
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None

    def done() -> bool:
        with standby.connect() as connection:
            found = connection.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [row[0]]).fetchone()
        return found == (True,)

    wait_until(done, "the standby's replay")


def test_a_slot_that_survives_on_another_timeline_is_not_believed(primary: Server, followed: Factory) -> None:
    """A cluster that was a standby for a moment: slot, system and position are as before, and the history is another.
    What was written on the old timeline alone is in nobody's database any more, and not in the vault's newest state."""
    with primary.new_database("shop") as url:
        one = followed(url, SCHEMA)
        one.drain()
        one.execute(WORK[0])
        one.drain()
        one.execute(WORK[1])
        primary.stop(signal.SIGINT)
        wait_until(lambda: not (primary.data / "postmaster.pid").exists(), "the server's end")
        (primary.data / "standby.signal").touch()
        owner = primary.data.stat()
        os.chown(primary.data / "standby.signal", owner.st_uid, owner.st_gid)
        primary.start_again()
        with primary.connect() as connection:
            connection.execute("SELECT pg_promote()")
        one.execute(WORK[2])
        follower = one.follower(until_current=True)
        assert follower.run().epoch == 2
        assert any("timeline 2" in text for text in follower.watch.ever), follower.watch.ever
        truth = Truth(url, OWNERS)
        assert differences(truth.state(), stored(one.vault(), "latest")) == []
        one.execute(WORK[3])
        one.drain()
        assert differences(truth.state(), stored(one.vault(), "latest")) == []


@pytest.mark.parametrize("restarted", [False, True])
def test_a_prepared_transaction_counts_from_its_commit_on(database: str, followed: Factory, restarted: bool) -> None:
    """Prepared, overtaken by others, and committed, or rolled back, much later; also by another follower than the one
    that saw it prepared."""
    one = followed(database, SCHEMA)
    truth = Truth(one.url, OWNERS)
    one.drain()
    truth.note()
    name = one.names.slot
    for gid, statement in (("kept", WORK[1]), ("dropped", "DELETE FROM project WHERE id = 9 AND id > 9; " + WORK[3])):
        with psycopg.connect(one.url, autocommit=True) as connection:
            connection.execute("BEGIN")
            connection.execute(statement.encode())
            connection.execute(f"PREPARE TRANSACTION '{name}_{gid}'".encode())
    truth.note()
    one.execute("UPDATE task SET body = 'between' WHERE id IN (1, 2)")  # rows that no prepared transaction holds
    truth.note()
    if restarted:
        one.drain()
    one.execute(f"COMMIT PREPARED '{name}_kept'")
    truth.note()
    one.execute("UPDATE task SET body = 'after' WHERE id IN (1, 2)")
    one.execute(f"ROLLBACK PREPARED '{name}_dropped'")
    truth.note()
    one.drain()
    compared(one.vault(), truth)


def test_a_clock_that_jumps_changes_no_moment(
    database: str, followed: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's clock is set an hour back, then two hours forth, while it is followed: what it writes into its log
    jumps. Every state by position is exact, a time gives a moment of the log, and segments go out all the while."""
    jumps = [0, -3600, 7200, 0]
    now = [0]
    take = pgoutput.Decoder.take

    def shifted(self: pgoutput.Decoder) -> list[pgoutput.Event]:
        return [_shifted(event, now[0]) for event in take(self)]

    monkeypatch.setattr(pgoutput.Decoder, "take", shifted)
    one = followed(database, SCHEMA)
    truth = Truth(one.url, OWNERS)
    with one.running() as running_:
        watch = running_.follower.watch
        truth.note()
        for seconds, statement in zip(jumps, WORK, strict=True):
            now[0] = seconds
            one.execute(statement)
            truth.note()
            running_.caught_up()
            wait_until(lambda: running_.error or not watch.lag_seconds, "nothing to wait for the vault")
    compared(one.vault(), truth)
    vault = one.vault()
    positions = []
    for seconds in range(-4000, 8000, 500):
        at = datetime.now(UTC) + timedelta(seconds=seconds)
        try:
            positions.append(resolve(vault, "main", at.isoformat()).position)
        except (NotFoundError, Refused):  # before the base, or after all that is known: never guessed
            continue
    assert any(positions)


def _shifted(event: pgoutput.Event, seconds: int) -> pgoutput.Event:
    if isinstance(event, pgoutput.Begin | pgoutput.Commit | pgoutput.StreamCommit | pgoutput.Keepalive):
        return event._replace(time_us=event.time_us + seconds * 1_000_000)
    return event
