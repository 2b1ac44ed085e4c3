"""The stream's session: it goes on where it was confirmed, outlives pauses, and tells each way in which it can end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from outlast.core.errors import OutlastError, Refused, TransientError
from outlast.core.moment import Lsn
from outlast.sources.postgres import stream
from outlast.sources.postgres.pgoutput import Event, Rows, StreamCommit
from outlast.sources.postgres.session import Target, connect
from outlast.sources.postgres.slot import slot_health
from outlast.sources.postgres.stream import ChangeStream
from outlast.sources.postgres.walsender import Identity, SlotLostError
from tests.integration.postgres.conftest import run
from tests.servers import DEBIAN_BINARIES, DURABLE, Server, embedded_binaries, running
from tests.streams import START, Follower, followed, make_slot, publish, remove_slot, table

own_server = pytest.mark.parametrize(
    "binaries",
    [
        pytest.param(embedded_binaries(), id="18"),
        pytest.param(DEBIAN_BINARIES, id="15", marks=pytest.mark.system),
    ],
)
"""For tests that stop or starve a server of their own."""


def _account(binaries: Path) -> str:
    return "postgres" if binaries == DEBIAN_BINARIES else "nobody"


def test_a_stream_goes_on_where_it_was_confirmed(any_database: str) -> None:
    """Cut in the middle, with a large transaction half sent: nothing is lost, nothing comes twice."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)")
    fill = "INSERT INTO t SELECT n, repeat('x', 80) FROM generate_series(%s, %s + 1999) AS n"
    with followed(any_database, "t") as follower:
        commits = []
        with psycopg.connect(any_database) as other:
            for round_ in range(4):
                run(any_database, f"INSERT INTO t VALUES ({-round_ - 1})")
                other.execute(fill.replace("%s", str(10_000 * round_)).encode())
                seen = follower.catch_up()
                commits += [one.commit for one in seen]
                if round_ % 2:
                    follower.stream.confirm(follower.position)
                # What was delivered but not confirmed is asked for no more, because the caller says where it stands.
                follower.reconnect(follower.position)
        run(any_database, "DELETE FROM t WHERE id < 0")
        commits += [one.commit for one in follower.catch_up()]
        assert len(commits) == len(set(commits)) == 6
        assert follower.rows("t") == table(any_database, "t")


def test_what_was_not_confirmed_comes_again(any_database: str) -> None:
    """At least once: without a position of our own the server begins at what was confirmed."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    with followed(any_database, "t") as follower:
        run(any_database, "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)")
        first = follower.catch_up()
        follower.stream.confirm(first[0].end)
        follower.stream.confirm(Lsn(1))  # never backwards
        follower.reconnect(START)
        assert [one.changes for one in follower.catch_up()] == [first[1].changes]


def test_an_idle_database_lets_the_slot_advance(any_database: str) -> None:
    """While only others write: the position moves with the server's keepalives, and may be confirmed."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)", "CREATE TABLE unpublished (id int)")
    with followed(any_database, "t") as follower:
        before = follower.position
        with psycopg.connect(any_database, autocommit=True) as connection:
            connection.execute("SET synchronous_commit = on")  # only what is on disk is decoded
            connection.execute("INSERT INTO unpublished SELECT generate_series(1, 1000)")
            row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
            assert row is not None
            deadline = time.monotonic() + 30
            while follower.position < Lsn.parse(row[0]):
                assert time.monotonic() < deadline
                connection.execute("INSERT INTO unpublished VALUES (0)")
                follower.assembler.feed(follower.stream.receive(0.2))
        assert follower.position > before
        assert follower.stream.server_end >= follower.position
        assert follower.stream.server_time is not None


def test_a_long_pause_of_the_consumer_does_not_end_the_session(any_database: str) -> None:
    """Nobody receives for three times wal_sender_timeout, and the server has more to say than fits its buffers."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)", "CREATE ROLE patient SUPERUSER LOGIN")
    run(any_database, "ALTER ROLE patient SET wal_sender_timeout = '1500ms'")
    publication, slot = publish(any_database, "t"), make_slot(any_database)
    url = any_database.replace("postgres@", "patient@", 1)
    try:
        with ChangeStream(Target(url), slot, [publication], START, status_interval_s=0.1) as changes:
            run(any_database, "INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 20000) AS n")
            events = changes.receive(10)
            time.sleep(4.6)
            while not any(isinstance(event, StreamCommit) for event in events):
                events += changes.receive(10)
            assert sum(len(event.changes) for event in events if isinstance(event, Rows)) == 20000
    finally:
        remove_slot(any_database, slot)
        run(any_database, "DROP ROLE patient")


def test_a_second_follower_is_told_who_reads(any_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a slot that is lost: the other may just have died, and a new base is not what is needed."""
    monkeypatch.setattr(stream, "RELEASE_TIMEOUT_S", 0.2)
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    with (
        followed(any_database, "t") as follower,
        pytest.raises(TransientError, match=r"process \d+ of the server reads") as caught,
    ):
        ChangeStream(Target(any_database), follower.slot, follower.publications, START)
    assert caught.value.code == "slot-in-use"


def _failure(
    url: str, slot: str, publication: str, start: Lsn = START, identity: Identity | None = None
) -> OutlastError:
    with pytest.raises(OutlastError) as caught:
        ChangeStream(Target(url), slot, [publication], start, identity=identity)
    assert caught.value.hint
    return caught.value


def test_every_way_in_which_a_stream_cannot_begin_has_its_own_word(any_database: str) -> None:
    """A slot that is missing, of another plugin, of another database or past our position; a publication; a history."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    publication, slot, other = (
        publish(any_database, "t"),
        make_slot(any_database),
        make_slot(any_database, "test_decoding"),
    )
    lost = _failure(any_database, "none_such", publication)
    assert isinstance(lost, SlotLostError)
    assert "does not exist" in lost.message
    assert lost.code == "slot-lost"
    assert "test_decoding" in _failure(any_database, other, publication).message
    assert _failure(any_database, slot, publication, Lsn(1)).code == "slot-lost"
    assert _failure(any_database, slot, "none such").code == "publication-missing"
    elsewhere = _failure(any_database, slot, publication, identity=Identity("1", 1))
    assert isinstance(elsewhere, Refused)
    assert "another cluster" in elsewhere.message
    with ChangeStream(Target(any_database), slot, [publication], START) as changes:
        identity = changes.identity
    later = Identity(identity.system, identity.timeline + 1)
    assert "timeline 1" in _failure(any_database, slot, publication, identity=later).message
    remove_slot(any_database, slot)
    run(any_database, f"SELECT pg_drop_replication_slot('{other}')")


def test_a_slot_of_another_database_is_lost_for_this_one(server: Server, database: str) -> None:
    """Slots are the cluster's, and each belongs to one database."""
    with server.new_database() as elsewhere:
        slot = make_slot(elsewhere)
        run(database, "CREATE TABLE t (id int PRIMARY KEY)")
        assert "belongs to the database" in _failure(database, slot, publish(database, "t")).message
        remove_slot(elsewhere, slot)


def test_a_role_that_may_not_replicate_is_told_so(any_database: str) -> None:
    """With the statement that would allow it."""
    run(any_database, "CREATE ROLE plain LOGIN")
    try:
        failure = _failure(any_database.replace("postgres@", "plain@", 1), "s", "p")
        assert "may not replicate" in failure.message
        assert failure.hint is not None
        assert "REPLICATION" in failure.hint
    finally:
        run(any_database, "DROP ROLE plain")


def test_a_slot_dropped_under_us_is_lost(any_database: str) -> None:
    """First the connection is cut, then the reason is found."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    with followed(any_database, "t") as follower:
        remove_slot(any_database, follower.slot)
        with pytest.raises(TransientError) as cut:
            follower.catch_up()
        assert cut.value.code == "stream-cut"
        with pytest.raises(SlotLostError, match="does not exist"):
            follower.reconnect(follower.position)


def _until_the_end(changes: ChangeStream) -> tuple[list[Event], OutlastError]:
    events: list[Event] = []
    while True:
        try:
            events += changes.receive(10)
        except OutlastError as error:
            return events, error


def test_a_publication_dropped_under_us_is_never_passed_over_in_silence(any_database: str) -> None:
    """PostgreSQL 15 fails with the next change, 18 skips it and warns: no position after it is given."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    with followed(any_database, "t") as follower:
        run(any_database, "INSERT INTO t VALUES (1)", f"DROP PUBLICATION {follower.publications[0]}")
        run(any_database, "INSERT INTO t VALUES (2)")
        with psycopg.connect(any_database) as connection:
            row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        events, error = _until_the_end(follower.stream)
        assert error.code == "publication-missing"
        assert all(getattr(event, "end", 0) < Lsn.parse(row[0]).value for event in events)
        follower.stream.close()
        failure = _failure(any_database, follower.slot, follower.publications[0])
        assert failure.code == "publication-missing"


def test_a_slot_older_than_its_publication_is_told(any_database: str) -> None:
    """The server decodes with the catalog of that time, in which the publication did not exist yet."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    slot = make_slot(any_database)
    run(any_database, "INSERT INTO t VALUES (1)")
    publication = publish(any_database, "t")
    with ChangeStream(Target(any_database), slot, [publication], START) as changes:
        error = _until_the_end(changes)[1]
    assert error.code == "publication-missing"
    assert "did not exist at this place" in error.message
    remove_slot(any_database, slot)


@own_server
def test_a_slot_that_the_server_gave_up_is_lost(binaries: Path) -> None:
    """max_slot_wal_keep_size: the session is ended, and the next one says why."""
    with running(
        binaries, account=_account(binaries), settings={"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB"}
    ) as small:
        url = small.url()
        run(url, "CREATE TABLE t (id int PRIMARY KEY)")
        publication, slot = publish(url, "t"), make_slot(url)
        for _ in range(3):
            run(url, "SELECT pg_logical_emit_message(false, 'x', repeat('x', 1000000))", "SELECT pg_switch_wal()")
        run(url, "CHECKPOINT")
        with closing(connect(Target(url), role="test")) as session:
            health = slot_health(session, slot)
        assert health.wal_status == "lost"
        assert health.lost_because is not None
        assert "max_slot_wal_keep_size" in health.lost_because
        failure = _failure(url, slot, publication)
        assert isinstance(failure, SlotLostError)
        assert "max_slot_wal_keep_size" in failure.message


@own_server
def test_a_server_that_shuts_down_sends_everything_first(binaries: Path) -> None:
    """And ends as soon as we have confirmed it; then it is a cut like any other, after which the stream goes on."""
    with running(binaries, account=_account(binaries), settings=DURABLE) as server:
        url = server.url()
        run(url, "CREATE TABLE t (id int PRIMARY KEY)")
        publication, slot = publish(url, "t"), make_slot(url)
        with Follower(url, slot, [publication]) as follower:
            run(url, "INSERT INTO t SELECT generate_series(1, 100)")
            server.stop(signal.SIGINT)
            with pytest.raises(TransientError) as caught:
                follower.live()
            assert caught.value.code == "stream-cut"
            assert len(follower.rows("t")) == 100
            server.start_again()
            follower.reconnect(follower.position)
            run(url, "INSERT INTO t VALUES (0)")
            assert [len(one.changes) for one in follower.catch_up()] == [1]


@own_server
def test_a_server_killed_again_and_again_loses_nothing_that_was_confirmed(binaries: Path) -> None:
    """Crashes while transactions run: after each, the stream goes on at our position, and the table is the replica."""
    with running(binaries, account=_account(binaries), settings=DURABLE) as server:
        url = server.url()
        run(url, "CREATE TABLE t (id bigserial PRIMARY KEY, x text)")
        publication, slot = publish(url, "t"), make_slot(url)
        with Follower(url, slot, [publication]) as follower:
            for _ in range(2):
                writer = threading.Thread(target=_write_until_cut, args=(url,))
                writer.start()
                killer = threading.Timer(0.3, server.stop, [signal.SIGQUIT])
                killer.start()
                with pytest.raises(TransientError):
                    follower.live()
                writer.join()
                killer.join()
                server.start_again()
                follower.reconnect(follower.position)
                run(url, "DELETE FROM t WHERE id % 2 = 0")
                follower.catch_up()
                assert follower.rows("t") == table(url, "t")
                run(url, "DELETE FROM t")


@pytest.mark.slow
def test_transaction_numbers_stay_right_when_the_server_s_come_round() -> None:
    """A cluster set to the last numbers of a turn: before and after it they are the server's own, all 64 bits."""
    with running(
        embedded_binaries(), settings={**DURABLE, "autovacuum": "off", "track_commit_timestamp": "off"}
    ) as server:
        url = server.url()
        run(url, "VACUUM FREEZE", "CHECKPOINT")
        _set_next_xid(server, epoch=6, xid=4_294_967_280)
        run(url, "CREATE TABLE t (id bigint PRIMARY KEY, x text)")
        publication, slot = publish(url, "t"), make_slot(url)
        with Follower(url, slot, [publication]) as follower, psycopg.connect(url) as old:
            old.execute("INSERT INTO t SELECT pg_current_xact_id()::text::bigint, repeat('x', 200000)")
            for _ in range(3):
                for _ in range(8):
                    run(url, "INSERT INTO t VALUES (pg_current_xact_id()::text::bigint)")
                for one in follower.catch_up():
                    assert one.changes[0][3] == b"%d\t\\N" % one.xid
                follower.reconnect(follower.position)
            old.commit()
            (last,) = follower.catch_up()
            assert last.xid >> 32 == 6
            assert (last.changes[0][3] or b"").startswith(b"%d\t" % last.xid)
            assert int(max(follower.tables["t"])) >> 32 == 7


def _set_next_xid(server: Server, *, epoch: int, xid: int) -> None:
    server.stop(signal.SIGINT)
    while (server.data / "postmaster.pid").exists():
        time.sleep(0.02)
    owner = server.data.stat()
    segment = server.data / "pg_xact" / f"{xid // (32768 * 32):04X}"  # of which the server would find nothing
    segment.write_bytes(bytes(256 * 1024))
    os.chown(segment, owner.st_uid, owner.st_gid)
    subprocess.run(
        [server.binaries / "pg_resetwal", "-e", str(epoch), "-x", str(xid), "-D", server.data],
        user=owner.st_uid, group=owner.st_gid, extra_groups=[], check=True, capture_output=True, cwd=server.folder,
    )  # fmt: skip
    server.start_again()


@own_server
def test_another_timeline_is_another_history(binaries: Path) -> None:
    """A standby is not followed; once it was promoted, the slot may be there, but what it brings may not follow on."""
    with running(binaries, account=_account(binaries), settings=DURABLE) as server:
        url = server.url()
        run(url, "CREATE TABLE t (id int PRIMARY KEY)")
        publication, slot = publish(url, "t"), make_slot(url)
        with ChangeStream(Target(url), slot, [publication], START) as changes:
            before = changes.identity
        server.stop(signal.SIGINT)
        (server.data / "standby.signal").touch()
        owner = server.data.stat()
        os.chown(server.data / "standby.signal", owner.st_uid, owner.st_gid)
        server.start_again()
        assert _failure(url, slot, publication, identity=before).code == "in-recovery"
        run(url, "SELECT pg_promote()")
        failure = _failure(url, slot, publication, identity=before)
        assert isinstance(failure, Refused)
        assert failure.code == "other-history"
        assert "timeline 2" in failure.message


def _write_until_cut(url: str) -> None:
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            while True:
                connection.execute("INSERT INTO t (x) SELECT repeat('x', 50) FROM generate_series(1, 300)")
    except psycopg.Error:
        pass
