"""The replication slot: its snapshot is exact, its creation is bounded, its health is told on every version."""

from __future__ import annotations

import threading
from contextlib import closing

import psycopg
import pytest

from outlast.core.errors import Refused, SourceError, TransientError
from outlast.sources.postgres import slot_making
from outlast.sources.postgres.session import Target, connect
from outlast.sources.postgres.slot import drop_slot, slot_health
from outlast.sources.postgres.slot_making import create_slot
from outlast.sources.postgres.snapshot import join_snapshot
from tests.integration.postgres.conftest import run
from tests.servers import Server
from tests.streams import Follower, make_slot, publish, remove_slot


def test_the_snapshot_and_the_stream_meet_without_gap_or_double(any_database: str) -> None:
    """While others write: what the snapshot sees and what the stream brings are the table, each row once."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    publication = publish(any_database, "t")
    target, stop = Target(any_database), threading.Event()

    def write(first: int) -> None:
        with psycopg.connect(any_database, autocommit=True) as connection:
            number = first
            while not stop.is_set():
                connection.execute("INSERT INTO t VALUES (%s)", [number])
                number += 2

    writers = [threading.Thread(target=write, args=(first,)) for first in (0, 1)]
    for writer in writers:
        writer.start()
    try:
        with create_slot(target, "exact") as slot:
            with join_snapshot(target, "test", slot.snapshot) as session:
                swept = {number for (number,) in session.execute("SELECT id FROM public.t").fetchall()}
            with psycopg.connect(any_database) as connection:  # some more, so that the stream has something
                while connection.execute("SELECT count(*) FROM t").fetchone() <= (len(swept) + 20,):  # type: ignore[operator]
                    pass
    finally:
        stop.set()
        for writer in writers:
            writer.join()
    with Follower(any_database, "exact", [publication], slot.consistent) as follower:
        seen = follower.catch_up()
    streamed = [int(change[3] or b"") for one in seen for change in one.changes]
    assert len(streamed) == len(set(streamed))
    assert not swept & set(streamed)
    with psycopg.connect(any_database) as connection:
        assert {number for (number,) in connection.execute("SELECT id FROM t").fetchall()} == swept | set(streamed)
    assert all(one.commit >= slot.consistent for one in seen)
    remove_slot(any_database, "exact")


def test_waiting_for_a_transaction_that_does_not_end_is_bounded(any_database: str) -> None:
    """The error names the oldest, prepared ones too, and no slot is left behind that nobody would read."""
    target = Target(any_database)
    run(any_database, "CREATE TABLE t (id int)")
    with psycopg.connect(any_database) as blocker:
        blocker.execute("INSERT INTO t VALUES (1)")
        with (
            pytest.raises(TransientError, match=f"process {blocker.info.backend_pid} of postgres") as caught,
            create_slot(target, "waits", timeout_s=0.5),
        ):
            pass
        assert caught.value.code == "slot-waits"
        blocker.execute("PREPARE TRANSACTION 'for ever'")
    with (
        pytest.raises(TransientError, match="prepared transaction 'for ever'"),
        create_slot(target, "waits", timeout_s=0.5),
    ):
        pass
    run(any_database, "ROLLBACK PREPARED 'for ever'")
    with closing(connect(target, role="test")) as session:
        assert not slot_health(session, "waits").exists
    with create_slot(target, "waits"):
        pass
    assert drop_slot(target, "waits")
    assert not drop_slot(target, "waits")


def test_whoever_waits_is_told_for_whom(any_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within seconds, with who it is, since when, and the statement that ends it, and nothing of what it does. Whoever
    stops waiting leaves no slot."""
    monkeypatch.setattr(slot_making, "TELL_AFTER_S", 0.1)
    target, heard = Target(any_database), list[str]()
    run(any_database, "CREATE TABLE t (id int, secret text)")
    with psycopg.connect(any_database) as blocker:
        blocker.execute("INSERT INTO t VALUES (1, 'a customer''s')")
        pid = blocker.info.backend_pid
        with (
            pytest.raises(TransientError) as caught,
            create_slot(target, "waits", told=heard.append, stopped=lambda: bool(heard)),
        ):
            pass
        blocker.execute("PREPARE TRANSACTION 'it''s'")
    database = str(psycopg.conninfo.conninfo_to_dict(any_database)["dbname"])
    assert f"process {pid} of postgres in {database} (idle in transaction)" in heard[0]
    assert f"To end it: SELECT pg_terminate_backend({pid})" in heard[0]
    assert str(caught.value.hint).startswith(f"SELECT pg_terminate_backend({pid}); then")
    heard.clear()
    with (
        pytest.raises(TransientError) as caught,
        create_slot(target, "waits", told=heard.append, stopped=lambda: bool(heard)),
    ):
        pass
    run(any_database, "ROLLBACK PREPARED 'it''s'")
    assert f"the prepared transaction 'it''s' of postgres in {database}" in heard[0]
    assert f"or ROLLBACK PREPARED 'it''s' (connected to {database})" in heard[0]
    assert "customer" not in f"{heard} {caught.value}"
    with closing(connect(target, role="test")) as session:
        assert not slot_health(session, "waits").exists


def test_a_name_that_is_taken_is_refused(any_database: str) -> None:
    """Nobody else's slot is taken over."""
    slot = make_slot(any_database)
    with pytest.raises(Refused, match="exists already"), create_slot(Target(any_database), slot):
        pass
    remove_slot(any_database, slot)


@pytest.mark.parametrize("plugin", ["pgoutput", "test_decoding"])
def test_a_slot_that_is_not_ours_is_never_dropped(server: Server, plugin: str) -> None:
    """The server would drop one of another database for whoever knows its name, and that follower's log had a gap."""
    name = f"outlast_theirs_{plugin}"
    with server.new_database() as theirs, server.new_database() as ours:
        run(theirs, f"SELECT pg_create_logical_replication_slot('{name}', '{plugin}')")
        try:
            with pytest.raises(Refused, match="it is of") as caught:
                drop_slot(Target(ours), name)
            assert caught.value.code == "slot-taken"
            with closing(connect(Target(theirs), role="test")) as session:
                assert slot_health(session, name).exists
        finally:
            run(theirs, f"SELECT pg_drop_replication_slot('{name}')")


def test_the_health_of_a_slot(any_database: str) -> None:
    """Who reads, how far behind it is, what it keeps."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    publication, slot = publish(any_database, "t"), make_slot(any_database)
    target = Target(any_database)
    with closing(connect(target, role="test", autocommit=True)) as session:
        assert slot_health(session, "none such").lost_because == "it does not exist"
        health = slot_health(session, slot)
        assert health.lost_because is None
        assert not health.active
        assert (health.plugin, health.kind, health.wal_status) == ("pgoutput", "logical", "reserved")
        assert health.database == health.connected_database
        run(any_database, "INSERT INTO t SELECT generate_series(1, 1000)")
        behind = slot_health(session, slot)
        assert behind.lag_bytes > 50_000
        assert behind.retained_bytes >= behind.lag_bytes
        with Follower(any_database, slot, [publication]) as follower:
            follower.catch_up()
            assert slot_health(session, slot).active_pid
            with pytest.raises(Refused, match="reads from it"):
                drop_slot(target, slot)
            follower.stream.confirm(follower.position)
            follower.catch_up()
            done = slot_health(session, slot)
            assert done.confirmed is not None
            assert behind.confirmed is not None
            assert done.confirmed > behind.confirmed
    remove_slot(any_database, slot)


def test_a_server_without_a_free_slot_is_told(server: Server) -> None:
    """The setting is named, and what was made before is left alone."""
    with server.new_database() as url:
        slots = []
        with server.connect() as connection:
            free = "SELECT current_setting('max_replication_slots')::int - count(*) FROM pg_replication_slots"
            row = connection.execute(free).fetchone()
        assert row is not None
        slots = [make_slot(url) for _ in range(row[0])]
        with pytest.raises(SourceError, match="no free slot") as caught, create_slot(Target(url), "one_more"):
            pass
        assert caught.value.hint == "Raise max_replication_slots."
        for slot in slots:
            drop_slot(Target(url), slot)
