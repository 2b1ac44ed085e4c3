"""What events make of alerts, in the database: one open alert an alias, in the order in which they came."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, func, select

from outlast.core.errors import UsageError
from outlast.core.page import Page
from outlast.relay import reading, tables
from outlast.relay.event import Action, Event, Naming, Vendor, new_id
from outlast.relay.journal import Taken, take
from outlast.relay.rate import Rates
from outlast.state.database import Database


class Book:
    """A pager that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def page(self, connection: Connection, page: Page) -> None:
        self.told.append(("page", page.alert_id))

    def acknowledge(self, connection: Connection, alert_id: str, by: str) -> None:
        self.told.append(("acknowledge", alert_id))

    def close(self, connection: Connection, alert_id: str, by: str) -> None:
        self.told.append(("close", alert_id))

    def reopen(self, connection: Connection, alert_id: str) -> None:
        self.told.append(("reopen", alert_id))

    def assign(self, connection: Connection, alert_id: str, owner: str, by: str) -> None:
        self.told.append(("assign", alert_id))

    def wake(self) -> None:
        pass


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Database]:
    with Database.file(tmp_path / "serve.sqlite") as database:
        database.install(tables.SCHEMA)
        yield database


def event(action: Action, alias: str = "a", *, naming: Naming = Naming.ALIAS, upstreams: tuple[str, ...] = ("og",),
          **fields: object) -> Event:  # fmt: skip
    fields.setdefault("message", alias)
    return Event(new_id(), time.time(), "i", Vendor.OPSGENIE, action, naming, alias, "s", fields, {}, upstreams)


def taken(database: Database, *events: Event, pager: Book | None = None) -> list[Taken]:
    with database.write() as connection:
        return take(connection, events, pager or Book())


def test_one_open_alert_an_alias(kept: Database) -> None:
    """A second create counts up; after a close, even in the same batch, a create opens a new alert."""
    create, close = Action.CREATE, Action.CLOSE
    first, again, closed, second = taken(kept, event(create), event(create), event(close), event(create))
    assert first.alert_id == again.alert_id == closed.alert_id != second.alert_id
    assert [one.new for one in (first, again, second)] == [True, False, True]
    with kept.read() as connection:
        newest = reading.find(connection, Naming.ALIAS, "a")
        oldest = reading.find(connection, Naming.ID, str(first.alert_id))
    assert newest is not None
    assert newest.is_open
    assert oldest is not None
    assert (oldest.status, oldest.count) == ("closed", 2)


def test_what_is_about_nothing_is_told_so(kept: Database) -> None:
    """An event about an alert that is not there is recorded as a failure, and passed on to nobody."""
    missing = taken(kept, event(Action.CLOSE, "nowhere"))[0]
    assert not missing.success
    with kept.read() as connection:
        assert connection.scalar(select(func.count()).select_from(tables.deliveries)) == 0


def test_alone_it_pages_once(kept: Database) -> None:
    """Without an upstream Outlast pages, once an alert, and not for what is closed in the same breath."""
    book = Book()
    alone = {"upstreams": ()}
    create = event(Action.CREATE, **alone)  # type: ignore[arg-type]
    taken(kept, create, event(Action.CREATE, **alone), pager=book)  # type: ignore[arg-type]
    taken(kept, event(Action.CREATE, "b", **alone), event(Action.CLOSE, "b", **alone), pager=book)  # type: ignore[arg-type]
    assert [what for what, _ in book.told] == ["page", "close"]


def test_an_escalation_is_told_what_it_must_know(kept: Database) -> None:
    """Acknowledged, taken back, assigned, snoozed, closed."""
    book = Book()
    end = "2099-01-01T00:00:00Z"
    actions = (event(Action.CREATE), event(Action.ACKNOWLEDGE), event(Action.UNACKNOWLEDGE),
               event(Action.ASSIGN, owner="ann"), event(Action.SNOOZE, endTime=end), event(Action.CLOSE))  # fmt: skip
    taken(kept, *actions, pager=book)
    assert [what for what, _ in book.told] == ["acknowledge", "reopen", "assign", "acknowledge", "close"]


ALIASES = st.sampled_from("abc")
STEPS = st.lists(st.tuples(st.sampled_from([Action.CREATE, Action.CLOSE, Action.ACKNOWLEDGE]), ALIASES), max_size=25)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, cuts=st.sets(st.integers(0, 25)))
def test_batches_make_no_difference(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Action, str]], cuts: set[int]
) -> None:
    """However events are cut into transactions, the alerts are the same, as a plain model has them."""
    model: dict[str, list[list[object]]] = {}
    for action, alias in steps:
        alerts = model.setdefault(alias, [])
        is_open = bool(alerts) and alerts[-1][0] == "open"
        if action is Action.CREATE and not is_open:
            alerts.append(["open", 1, False])
        elif is_open and action is Action.CREATE:
            alerts[-1][1] = int(str(alerts[-1][1])) + 1
        elif is_open and action is Action.CLOSE:
            alerts[-1][0] = "closed"
        elif is_open:
            alerts[-1][2] = True
    folder = tmp_path_factory.mktemp("batches")
    with Database.file(folder / "serve.sqlite") as database:
        database.install(tables.SCHEMA)
        start = 0
        for end in [*sorted(cut for cut in cuts if cut < len(steps)), len(steps)]:
            if steps[start:end]:
                taken(database, *(event(action, alias) for action, alias in steps[start:end]))
            start = end
        with database.read() as connection:
            found = reading.page(connection, [], limit=100, sort="tinyId", descending=False)
    for alias in "abc":
        mine = [[alert.status, alert.count, alert.acknowledged] for alert in found if alert.alias == alias]
        assert mine == model.get(alias, [])


def test_search(kept: Database) -> None:
    """Opsgenie's words for finding alerts; what cannot be read is an error, and never everything."""
    taken(kept, event(Action.CREATE, "a", message="disk full", priority="P1", tags=["db"]),
          event(Action.CREATE, "b", message="cpu hot 100%"), event(Action.ACKNOWLEDGE, "b"))  # fmt: skip
    for text, aliases in {
        "status: open": "ab", "disk": "a", "disk AND priority: P1": "a",
        "priority: P1 OR acknowledged: true": "ab",
        "NOT disk": "b", "tag: db": "a",
        '"cpu hot"': "b", "100%": "b", "%": "b", "status: closed": "", "tinyId: 1": "a",
    }.items():  # fmt: skip
        with kept.read() as connection:
            found = reading.page(connection, reading.query(text), limit=10, sort="tinyId", descending=False)
        assert "".join(alert.alias for alert in found) == aliases, text
    for text in ("colour: red", "createdAt > yesterday", "(((", '"open'):
        with pytest.raises(UsageError):
            reading.query(text)


def test_rates() -> None:
    """A burst, then as many as come back; names do not count for each other; old ones are forgotten."""
    now = [0.0]
    rates = Rates(2, 3, names_max=2, clock=lambda: now[0])
    assert [rates.allow("a") for _ in range(4)] == [True, True, True, False]
    assert rates.allow("b")
    now[0] = 0.5
    assert [rates.allow("a") for _ in range(2)] == [True, False]
    rates.give_back("a")
    assert rates.allow("a")


def test_on_postgresql(database: str) -> None:
    """The same on PostgreSQL, from two instances at once."""
    with Database.server(database) as one, Database.server(database) as two:
        one.install(tables.SCHEMA)
        first = taken(one, event(Action.CREATE))[0]
        second = taken(two, event(Action.CREATE))[0]
        assert first.alert_id == second.alert_id
        assert (first.seq, second.seq) == (1, 2)
        taken(one, event(Action.CLOSE), event(Action.CREATE))
        with two.read() as connection:
            assert len(reading.page(connection, reading.query("status: open AND a"), limit=5)) == 1
