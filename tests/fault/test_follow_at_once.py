"""Following, where two things go wrong at once, or one goes wrong in the middle of setting right another."""

from __future__ import annotations

from typing import Any

import pytest

from outlast.capture.backup import backup
from outlast.core.errors import TransientError
from outlast.restore.history import find_entry, resolve
from tests.fault.faults import Fault, FaultyStore
from tests.fault.test_follow import OWNERS, SCHEMA
from tests.integration.follow.conftest import Factory, Followed, followed, wait_until
from tests.integration.follow.truth import Truth, compared, differences, stored

__all__ = ["followed"]


class Away(FaultyStore):
    """A store that cannot be written for a while: everything, or the objects of which `away` says so."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner, Fault())
        self.away: Any = lambda path: False

    def create(self, path: str, data: bytes) -> None:
        if self.away(path):
            raise TransientError("cannot write: the network is gone")
        super().create(path, data)


def cut(one: Followed) -> None:
    """End the stream's session on the server, as a network that is gone does."""
    one.execute(
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
        f" WHERE active AND slot_name = '{one.names.slot}'"
    )


def test_a_stream_that_is_cut_while_the_vault_is_away_doubles_nothing(database: str, followed: Factory) -> None:
    """What was routed and is not in the vault is sent again, and is written once all the same."""
    one = followed(database, SCHEMA)
    store = Away(one.store)
    truth = Truth(one.url, OWNERS)
    with one.running(store=store) as running:
        truth.note()
        watch = running.follower.watch
        store.away = lambda path: True
        for number in range(3):
            one.execute(f"INSERT INTO task VALUES ({500 + number}, 1, 'away')")
            truth.note()
        one.execute("DELETE FROM task WHERE id = 3", "UPDATE project SET account_id = 1 + account_id % 3 WHERE id = 2")
        truth.note()
        wait_until(lambda: watch.alarms, "the alarm")
        cut(one)
        wait_until(lambda: running.error or any("cut" in text for text in watch.ever) or not watch.figures.connected)
        wait_until(lambda: running.error or watch.figures.connected, "the next session")
        one.execute("INSERT INTO task VALUES (600, 1, 'after the cut')")
        truth.note()
        store.away = lambda path: False
        running.caught_up()
    compared(one.vault(), truth)


def test_new_tenants_are_named_though_the_key_of_one_could_not_be_written_at_once(
    database: str, followed: Factory
) -> None:
    """One key stands, the next one fails and comes later: the log names both."""
    one = followed(database, SCHEMA)
    store = Away(one.store)
    keys = 0

    def second(path: str) -> bool:
        nonlocal keys
        keys += "/keys/" in path
        return "/keys/" in path and keys == 2

    with one.running(store=store) as running:
        store.away = second
        one.execute("INSERT INTO account VALUES (71, 'first new'), (72, 'second new'), (73, 'third new')")
        running.caught_up()
    assert keys > 2
    vault = one.vault()
    for name in ("first new", "second new", "third new"):
        assert find_entry(vault, "main", name, resolve(vault, "main")).tenant.label == name


def test_what_was_in_doubt_when_a_follower_ended_is_read_again_by_the_next(
    database: str, followed: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The base that closes a gap could not be made before the end: the next start does not forget that it is due."""
    one = followed(database, SCHEMA)
    one.drain()
    import sqlite3

    with sqlite3.connect(one.folder / "state" / "main.routes.sqlite") as routes:
        routes.execute("DELETE FROM route")
    one.execute("DELETE FROM task WHERE id = 3")

    def failing(*_: object, **__: object) -> None:
        raise TransientError("the source is busy")

    with monkeypatch.context() as patched:
        patched.setattr("outlast.capture.mending.backup", failing)
        result = one.drain()
    assert result.alarms
    assert one.drain().alarms == []
    assert differences(Truth(one.url, OWNERS).state(), stored(one.vault(), "latest")) == []


def test_a_time_before_the_log_began_is_not_answered_by_what_came_later(database: str, followed: Factory) -> None:
    """A log in which nothing happened says nothing of the time before its base: an older run does."""
    one = followed(database, SCHEMA)
    backup(one.place())
    truth = Truth(one.url, OWNERS)
    truth.note()
    ((between,),) = one.query("SELECT clock_timestamp()")
    one.execute("INSERT INTO task VALUES (900, 1, 'later than that')")
    one.drain()
    assert differences(truth.moments[0][1], stored(one.vault(), between.isoformat())) == []


def test_a_table_that_is_altered_again_while_it_is_read_again_is_read_once_more(
    database: str, followed: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A migration in steps: the base that mends the first one began before the second, and must not pass for it."""
    one = followed(database, SCHEMA)
    one.drain()
    bases: list[int] = []

    with one.running() as running:

        def slow(*given: Any, **named: Any) -> Any:
            result = backup(*given, **named)
            bases.append(result.run)
            if len(bases) == 1:
                one.execute("ALTER TABLE task ADD COLUMN stamp text DEFAULT clock_timestamp()::text")
                mark = one.position()
                one.execute("SELECT pg_logical_emit_message(true, 'test', 'mark')")
                wait_until(lambda: running.error or running.follower.watch.figures.position >= mark, "the second step")
            return result

        monkeypatch.setattr("outlast.capture.mending.backup", slow)
        one.execute("ALTER TABLE task ADD COLUMN first text DEFAULT clock_timestamp()::text")
        wait_until(lambda: bases, "the first base")
        running.caught_up()
        truth = Truth(one.url, OWNERS)
        wait_until(lambda: running.error or not running.follower.watch.figures.tables_in_doubt, "mending")
        one.execute("DELETE FROM task WHERE id = 5")
        running.caught_up()
    assert len(bases) == 2
    assert differences(truth.state(), stored(one.vault(), "latest")) == []
