"""What goes wrong around a follower: the vault away, the slot gone, another timeline's history, long transactions."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest

from outlast.capture.fold import fold
from outlast.capture.metrics import MetricsServer
from outlast.core.errors import Refused, TransientError
from outlast.core.moment import Lsn
from outlast.sources.postgres import slot_making
from outlast.state.local import LocalState
from outlast.vault.log import LogReader
from tests.fault.faults import Fault, FaultyStore
from tests.integration.follow.conftest import Factory, Followed, wait_until
from tests.integration.follow.truth import Truth, compared, differences, stored

SCHEMA = """
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE project (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, title text);
CREATE TABLE task (id bigserial PRIMARY KEY, project_id bigint NOT NULL REFERENCES project, body text);
INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, 3) n;
INSERT INTO project SELECT n, 1 + n % 3, 'project ' || n FROM generate_series(1, 9) n;
INSERT INTO task (project_id, body) SELECT 1 + n % 9, 'task ' || n FROM generate_series(1, 60) n;
"""
OWNERS = {
    "public.account": "t.id",
    "public.project": "t.account_id",
    "public.task": "(SELECT p.account_id FROM public.project p WHERE p.id = t.project_id)",
}


class Switched(FaultyStore):
    """A store that can be taken away and given back."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner, Fault())
        self.away = False

    def create(self, path: str, data: bytes) -> None:
        if self.away:
            raise TransientError("cannot write: the network is gone")
        super().create(path, data)


def test_a_vault_that_is_away_is_waited_for_and_told(database: str, followed: Factory) -> None:
    """Nothing is confirmed meanwhile, an alarm stands, and everything arrives when it is back."""
    one = followed(database, SCHEMA)
    store = Switched(one.store)
    truth = Truth(one.url, OWNERS)
    with one.running(store=store, buffer_bytes=2000) as running:
        truth.note()
        watch = running.follower.watch
        store.away = True
        for number in range(20):
            one.execute(f"UPDATE task SET body = 'away {number}' WHERE id % 5 = {number} % 5")
            truth.note()
        wait_until(lambda: watch.alarms, "the alarm")
        assert "the vault cannot be written" in watch.alarms[0]
        time.sleep(0.3)
        assert _confirmed(one) < truth.moments[1][0]  # the end of the first of them
        store.away = False
        running.caught_up()
        wait_until(lambda: not watch.alarms, "the end of the alarm")
    compared(one.vault(), truth)


@pytest.mark.parametrize("running_then", [True, False])
def test_a_slot_that_is_dropped_begins_a_new_log_with_a_new_base(
    database: str, followed: Factory, running_then: bool
) -> None:
    """Under a running follower, or while it was not: loud, and from the new base on everything is exact again."""
    one = followed(database, SCHEMA)
    one.drain()
    drop = (
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active AND slot_name = '{0}'",
        "SELECT pg_drop_replication_slot('{0}')",
    )
    if running_then:
        with one.running() as running:
            for statement in drop:
                _patiently(one, statement.format(one.names.slot))
            one.execute("UPDATE task SET body = 'unseen' WHERE id = 1")
            wait_until(lambda: any("gap" in text for text in running.follower.watch.ever), "the alarm")
            wait_until(lambda: running.follower.watch.figures.base_run == 2, "the new base")
            wait_until(lambda: running.follower.watch.figures.connected, "the new stream")
            one.execute("UPDATE task SET body = 'seen' WHERE id = 2")
            running.caught_up()
    else:
        one.execute(drop[1].format(one.names.slot), "UPDATE task SET body = 'unseen' WHERE id = 1")
        assert one.drain().epoch == 2
    truth = Truth(one.url, OWNERS)
    assert differences(truth.state(), stored(one.vault(), "latest")) == []


def test_a_transaction_that_holds_up_the_beginning_is_named(
    database: str, followed: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alarm while it is waited for, and its end when that goes on."""
    monkeypatch.setattr(slot_making, "TELL_AFTER_S", 0.1)
    one = followed(database, SCHEMA)
    running = one.running()
    watch = running.follower.watch
    with psycopg.connect(one.url) as blocker:
        blocker.execute("UPDATE task SET body = 'not yet' WHERE id = 1")

        def committed() -> None:
            wait_until(lambda: watch.alarms, "the alarm")
            assert f"process {blocker.info.backend_pid} of" in watch.alarms[0]
            blocker.commit()

        with ThreadPoolExecutor(1) as pool:
            told = pool.submit(committed)
            with running:
                told.result()
                assert watch.alarms == []
    assert differences(Truth(one.url, OWNERS).state(), stored(one.vault(), "latest")) == []


def test_a_route_map_that_is_lost_begins_a_new_log(database: str, followed: Factory) -> None:
    """Without it nobody knows whose a deleted row was: the state of this host can be thrown away, and that is told."""
    one = followed(database, SCHEMA)
    one.drain()
    truth = Truth(one.url, OWNERS)
    one.execute("DELETE FROM task WHERE id = 2")
    truth.note()
    one.drain()
    one.execute("DELETE FROM task WHERE id = 1")
    (one.folder / "state" / "main.routes.sqlite").unlink()
    follower = one.follower(until_current=True)
    assert follower.run().epoch == 2
    assert any("route map" in text for text in follower.watch.ever)
    assert differences(Truth(one.url, OWNERS).state(), stored(one.vault(), "latest")) == []
    one.execute("DELETE FROM task WHERE id = 3")
    one.drain()
    with LocalState(one.folder / "state") as state:
        folded = fold(one.vault(), "main", one.keys, state)
    assert folded.run == 3
    assert folded.earlier > 0, "nobody is told that the old log stays"
    compared(one.vault(), truth)  # and its moments stay, too


def test_two_followers_of_one_source_are_one_too_many(database: str, followed: Factory) -> None:
    """The second is told who is there, and changes nothing."""
    one = followed(database, SCHEMA)
    with one.running(), pytest.raises(Refused) as caught:
        one.drain()
    assert caught.value.code == "locked"


def test_a_long_transaction_is_written_in_bounded_parts(database: str, followed: Factory) -> None:
    """It spans many segments, and is one moment all the same."""
    one = followed(database, SCHEMA)
    one.memory_bytes = 60_000
    one.drain()
    truth = Truth(one.url, OWNERS)
    truth.note()
    one.execute(
        "INSERT INTO task (project_id, body) SELECT 1 + n % 9, repeat('x', 40) FROM generate_series(1, 5000) n;"
        "UPDATE project SET account_id = 1 + account_id % 3; DELETE FROM task WHERE id % 10 = 0"
    )
    truth.note()
    result = one.drain()
    assert result.segments > 2
    compared(one.vault(), truth)


def test_a_row_that_the_map_does_not_know_is_told_and_read_again(database: str, followed: Factory) -> None:
    """A doubt is never passed over: the moment is refused, and a new base makes the next one exact."""
    one = followed(database, SCHEMA)
    one.drain()
    import sqlite3

    with sqlite3.connect(one.folder / "state" / "main.routes.sqlite") as routes:
        routes.execute("DELETE FROM route")
    one.execute("DELETE FROM task WHERE id = 3")
    follower = one.follower(until_current=True)
    follower.run()
    assert any("not exact" in text for text in follower.watch.ever)
    assert differences(Truth(one.url, OWNERS).state(), stored(one.vault(), "latest")) == []


def test_sequences_come_with_each_flush(database: str, followed: Factory) -> None:
    """Their last values are in the segment's details, when they changed."""
    one = followed(database, SCHEMA)
    one.drain()
    one.execute("INSERT INTO task (project_id, body) VALUES (1, 'x')")
    one.drain()
    reader = LogReader(one.store, one.keys.signers)
    newest = [reader.details(header, one.operator).sequences for header in reader.headers("main")]
    assert {"public.task_id_seq": 61} in newest


def test_no_commit_is_unprotected_for_longer_than_the_interval_and_two_seconds(
    database: str, followed: Factory
) -> None:
    """While transactions go on, every commit's age when its segment stood is within the bound."""
    one = followed(database, SCHEMA)
    one.flush_interval_s = 0.5
    with one.running() as running, MetricsServer.at(running.follower.watch, "127.0.0.1:0") as metrics:
        worst = 0.0
        until = time.monotonic() + 3
        with psycopg.connect(one.url, autocommit=True) as connection:
            while time.monotonic() < until:
                connection.execute("UPDATE task SET body = body WHERE id = 1 + (random() * 50)::int")
                worst = max(worst, running.follower.watch.lag_seconds)
        assert 0 < worst < 0.5 + 2
        with urlopen(f"http://{metrics.host}:{metrics.port}/metrics") as answer:
            text = answer.read().decode()
    assert 'outlast_follow_connected{source="main"} 1' in text
    assert "outlast_follow_lag_seconds" in text


def _confirmed(one: Followed) -> Lsn:
    query = f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '{one.names.slot}'"
    return Lsn.parse(str(one.query(query)[0][0]))


def _patiently(one: Followed, statement: str) -> None:
    """A slot that a follower takes up again at once is not dropped at the first try."""
    deadline = time.monotonic() + 30
    while True:
        try:
            one.execute(statement)
        except psycopg.errors.ObjectInUse:
            assert time.monotonic() < deadline
            one.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active"
                f" AND slot_name = '{one.names.slot}'"
            )
        else:
            return
