"""What is read again while the stream goes on: what it must not hide, must refuse, and what may interrupt it."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest

from outlast.capture.follow import Follower
from outlast.capture.guarding import Guard
from outlast.capture.incident import Incident
from outlast.capture.tripwire import Fact
from outlast.core.effect import Operation
from outlast.core.errors import Refused
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.state.local import LocalState
from outlast.vault.log import LogReader
from outlast.vault.segment import SegmentDetails
from tests.integration.follow.conftest import Factory, Followed, wait_until
from tests.integration.follow.test_troubles import OWNERS, SCHEMA
from tests.integration.follow.truth import Truth, differences, stored

MUCH = "INSERT INTO task (project_id, body) SELECT 1 + n % 9, repeat('x', 200) FROM generate_series(1, 12000) n"
"""More than is taken off the stream at a time: what follows it is routed after the loop has looked after things."""


def forget_routes(one: Followed) -> None:
    """Whose each task is, is not known any more: the next change of one that is not its INSERT is a doubt."""
    with sqlite3.connect(one.folder / "state" / "main.routes.sqlite") as routes:
        spaces = "SELECT substr(id, 1, 2) FROM route GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"  # there are most tasks
        routes.execute(f"DELETE FROM route WHERE substr(id, 1, 2) = ({spaces})")


def details(one: Followed) -> list[SegmentDetails]:
    reader = LogReader(one.store, one.keys.signers)
    return [reader.details(header, one.operator) for header in reader.headers("main")]


def test_a_look_for_one_table_leaves_the_others_changes_to_be_told(database: str, followed: Factory) -> None:
    """A table is looked at again at a snapshot that is ahead of the stream, in which another table got a column. That
    is still told when the stream comes to it: rows of before it have the column's value at moments after it."""
    one = followed(database, SCHEMA)
    one.drain()
    forget_routes(one)
    one.execute("DELETE FROM task WHERE id = 3", MUCH, "ALTER TABLE account ADD COLUMN flag int DEFAULT 7")
    one.drain()
    told = [change for each in details(one) for change in each.schema if change.table == TableName("public", "account")]
    assert [(name, fill) for name, _, origin, fill in told[0].columns if origin is None] == [("flag", "7")]
    assert differences(Truth(one.url, OWNERS).state(), stored(one.vault(), "latest")) == []


def test_moments_for_which_routes_ran_ahead_of_the_stream_are_refused(database: str, followed: Factory) -> None:
    """Whose the rows are was read at a later place of the log: between there and the doubt a row that moved meanwhile
    would be told of the wrong tenant. Such a moment is refused, with a base before it too; later ones are not."""
    one = followed(database, SCHEMA)
    one.drain()
    forget_routes(one)
    one.execute("DELETE FROM task WHERE id = 3", MUCH)
    one.execute("UPDATE task SET body = 'before its move' WHERE id = 10")
    between = one.position()
    one.execute("UPDATE task SET project_id = 1 + project_id % 9 WHERE id = 10", "DELETE FROM task WHERE id = 11")
    after = one.position()
    one.drain()
    anew = [gap for each in details(one) for gap in each.gaps if "read anew" in gap.reason]
    assert anew
    assert all(gap.noticed is not None and gap.noticed >= after for gap in anew)
    with pytest.raises(Refused):
        stored(one.vault(), str(between))
    truth = Truth(one.url, OWNERS)
    assert differences(truth.state(), stored(one.vault(), "latest")) == []
    one.execute("UPDATE task SET body = 'later' WHERE id IN (10, 12)")
    one.drain()
    assert differences(truth.state(), stored(one.vault(), "latest")) == []


def test_a_new_log_that_begins_while_an_old_one_is_mended_owes_it_nothing(database: str, followed: Factory) -> None:
    """The backup that was to end a doubt is under way when the slot is lost. The new log begins with a base of its own,
    the old doubt is not carried into it, and a doubt of its own is mended by a backup of its own."""
    one = followed(database, SCHEMA)
    one.drain()
    forget_routes(one)
    begun, gate = threading.Event(), threading.Event()

    def slowly() -> Any:
        begun.set()
        assert gate.wait(60)
        return one.place(LocalState(one.folder / "state"))

    running = one.running()
    running.follower = Follower(one.place(), one.options(), open_place=slowly)
    with running:
        watch = running.follower.watch
        one.execute("DELETE FROM task WHERE id = 3")
        wait_until(lambda: running.error or begun.is_set(), "the backup beside the stream")
        one.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active"
            f" AND slot_name = '{one.names.slot}';"
            f"SELECT pg_drop_replication_slot('{one.names.slot}')"
        )
        wait_until(lambda: running.error or any("gap" in text for text in watch.ever), "the loss of the slot")
        gate.set()
        wait_until(lambda: running.error or watch.figures.base_run, "the new base")
        wait_until(lambda: running.error or watch.figures.connected, "the new stream")
        one.execute("UPDATE task SET body = 'seen' WHERE id = 4")
        running.caught_up()
        assert not [text for text in watch.alarms if "not exact" in text or "read again" in text]
    assert running.result is not None
    assert running.result.epoch == 2
    assert differences(Truth(one.url, OWNERS).state(), stored(one.vault(), "latest")) == []


class Heard:
    """A guarding.Listener that keeps what it is told."""

    tombstone: str | None = None
    incident: Incident | None = None

    def __init__(self) -> None:
        self.facts: list[Fact] = []

    def observe(self, facts: Sequence[Fact], *, lag_s: float = 0.0) -> None:
        self.facts += facts

    def committed(self, xid: int, at: datetime, commit: Lsn) -> None: ...

    def aborted(self, xid: int) -> None: ...

    def withdraw(self, facts: Sequence[Fact]) -> None: ...

    def dropped(self, table: str, xid: int, at: datetime | None, *, lag_s: float = 0.0) -> None: ...

    def tick(self) -> None: ...


def test_the_tripwire_hears_all_of_a_transaction_that_is_written_in_parts(database: str, followed: Factory) -> None:
    """One DELETE of 12,060 rows, with memory for some hundreds: each is told, not those of the last part only."""
    one = followed(database, SCHEMA)
    one.memory_bytes = 16_000
    one.execute(MUCH)
    one.drain()
    one.execute("DELETE FROM task")
    heard = Heard()
    follower = Follower(one.place(), one.options(until_current=True), guard=Guard(heard))
    result = follower.run()
    assert result.segments > 2
    assert sum(fact.rows for fact in heard.facts if fact.operation is Operation.HARD_DELETE) == 12_060
