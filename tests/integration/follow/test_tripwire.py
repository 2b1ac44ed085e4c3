"""The script of 2022 against a real follower: how soon it is reported and halted, and whom it still got."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import cycle, islice

import psycopg
import pytest

from outlast.capture.guarding import Guard
from outlast.capture.notify import Notifier
from outlast.capture.records import Records
from outlast.capture.rules import Rules
from outlast.capture.sentry import Sentry
from outlast.capture.sizes import Sizes
from outlast.capture.tripwire import Tripwire
from outlast.capture.watching import Figures
from outlast.sources.postgres.halt import Halter
from outlast.sources.postgres.session import Target
from tests.integration.follow.conftest import Factory, Followed, wait_until
from tests.receiver import Receiver, receiving

TENANTS = 883  # as in 2022
FEW = 60


DDL = (
    "CREATE TABLE account (id int PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE site (id int PRIMARY KEY, account_id int NOT NULL REFERENCES account ON DELETE CASCADE, name text)",
    "CREATE TABLE page (id int PRIMARY KEY, site_id int NOT NULL REFERENCES site ON DELETE CASCADE, body text)",
    "CREATE TABLE closure (account_id int PRIMARY KEY)",
    "INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, «tenants») n",
    "INSERT INTO site SELECT id, id, 'site' FROM account",
    "INSERT INTO page SELECT id * 100 + n, id, 'page' FROM site, generate_series(1, 40) n",
    "CREATE INDEX ON site (account_id); CREATE INDEX ON page (site_id)",
)
TABLES = {
    "public.account": "owned by id",
    "public.site": "owned by account_id",
    "public.page": "owned through site_id",
    "public.closure": "owned by account_id",
}
OWNED = frozenset({"public.account", "public.site", "public.page", "public.closure"})
RULES = Rules("public.account", OWNED, quiet=frozenset({"public.closure"}))

PER_MINUTE = 38
REPORTED_S, HALTED_S = 3.0, 5.0


@pytest.fixture(params=["18", pytest.param("15", marks=pytest.mark.system)])
def any_database(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("database" if request.param == "18" else "debian_database")
    return url


@dataclass
class Watched:
    """A followed database with a tripwire, a receiver of its messages, and a role that is halted."""

    followed: Followed
    sentry: Sentry
    receiver: Receiver
    role: str
    figures: Figures

    @property
    def script_url(self) -> str:
        return self.followed.url.replace("postgres@", f"{self.role}@")

    def alive(self) -> set[int]:
        return {row[0] for row in self.followed.query("SELECT id FROM account")}


@contextmanager
def watched(followed: Factory, url: str, rules: Rules, tenants: int = FEW) -> Iterator[Watched]:
    role = f"script_{uuid.uuid4().hex[:8]}"
    one = followed(url, *(statement.replace("«tenants»", str(tenants)) for statement in DDL), tables=TABLES)
    one.execute(f"CREATE ROLE {role} LOGIN", f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    with receiving() as receiver, ExitStack() as closing:
        closing.callback(lambda: one.execute(f"DROP OWNED BY {role}", f"DROP ROLE {role}"))
        records = Records(one.place().state, "main")
        sizes = Sizes(records)
        guard = Guard(sizes=sizes)
        tripwire = Tripwire(rules, sizes, lambda tenant: guard.label(tenant) or records.label(tenant))
        sentry = Sentry(
            tripwire, notifier=Notifier([receiver.url]), halter=Halter(Target(url), [role]), say=lambda _: None
        )
        guard.listener = closing.enter_context(sentry)
        running = closing.enter_context(one.running(guard=guard))
        yield Watched(one, sentry, receiver, role, running.follower.watch.figures)


@dataclass
class Script:
    """What ran in 2022: one account after the other, each in a transaction of its own; over and over, until it is
    stopped (a second round finds nothing to delete, and tells how long it was let go on)."""

    url: str
    pause_s: float
    one_transaction: bool = False
    first: float = 0.0  # when the first deletion was committed (monotonic)
    stopped: float = 0.0  # when it was thrown out
    done: int = 0
    _thread: threading.Thread | None = None
    _error: BaseException | None = None
    _given_up: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Script:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._thread is not None
        self._thread.join(30)
        self._given_up.set()
        self._thread.join(30)
        if self._error is not None:
            raise self._error
        assert self.stopped, "nobody stopped the script"

    def _run(self) -> None:
        try:
            with psycopg.connect(self.url, application_name="purge.py", autocommit=not self.one_transaction) as session:
                for number in islice(cycle(range(1, TENANTS + 1)), TENANTS if self.one_transaction else None):
                    if self._given_up.is_set():
                        break
                    session.execute("DELETE FROM account WHERE id = %s", [number])
                    self.first = self.first or time.monotonic()
                    self.done = number
                    self._given_up.wait(self.pause_s)  # its own pace
                session.commit()
        except psycopg.OperationalError:
            self.stopped = time.monotonic()
        except BaseException as error:  # noqa: BLE001 - raised again where the block ends
            self._error = error


@pytest.mark.parametrize("pause_s", [60 / PER_MINUTE, 0.0], ids=["38 a minute", "as fast as it can"])
def test_the_script_of_2022(
    followed: Factory, any_database: str, pause_s: float, record_property: Callable[[str, object], None]
) -> None:
    """Reported within 3 s of the first deletion's commit, halted within 5 s; who was gone by then is counted."""
    with watched(followed, any_database, RULES, FEW if pause_s else TENANTS) as one:
        before = one.alive()
        with Script(one.script_url, pause_s) as script:
            told, title, text = one.receiver.next()
        lost = len(before) - len(one.alive())
        reported, halted = told - script.first, script.stopped - script.first
        record_property("figures", f"reported after {reported:.2f} s, halted after {halted:.2f} s, {lost} tenants lost")
        print(f"pause {pause_s:.2f} s: reported after {reported:.2f} s, halted after {halted:.2f} s, {lost} lost")
        assert reported < REPORTED_S
        assert 0 < halted < HALTED_S
        assert lost < len(before)
        assert "are losing data" in title
        assert "tenant-1 (1) " in text
        assert f"Halt: {one.role} cannot log in any more" in text
        wait_until(lambda: one.figures.incident_tenants == lost, "the figure in /metrics")
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(one.script_url)


def test_one_transaction_is_ended_before_its_commit(followed: Factory, any_database: str) -> None:
    """Seen while it runs, ended before COMMIT: not one tenant is lost, and the message says whose it was."""
    with watched(followed, any_database, RULES) as one:
        with Script(one.script_url, 0.05, one_transaction=True) as script:
            _, _, text = one.receiver.next()
        assert script.done >= 2
        assert one.alive() == set(range(1, FEW + 1))
        wait_until(lambda: one.sentry.incident is None, "the end of the incident")
        assert "ended before its COMMIT: nothing of it is lost" in text
        assert f"role {one.role}, application_name 'purge.py', pid " in text
        assert one.receiver.empty


def test_ordinary_deletions_do_not_fire(followed: Factory, any_database: str) -> None:
    """One customer, many declared ones, and cleaning up after all of them."""
    rules = replace(RULES, tombstone="public.closure", quiet=frozenset())
    with watched(followed, any_database, rules) as one:
        one.followed.execute("DELETE FROM account WHERE id = 1")
        for number in range(2, 12):
            one.followed.execute(f"INSERT INTO closure VALUES ({number})", f"DELETE FROM account WHERE id = {number}")
        one.followed.execute("DELETE FROM page WHERE id % 100 = 5", "UPDATE page SET body = 'x' WHERE id % 100 = 4")
        one.followed.execute("BEGIN; DELETE FROM account WHERE id = 20; ROLLBACK")
        wait_until(lambda: caught_up(one), "the stream")
        assert one.sentry.incident is None
        assert one.receiver.empty


def caught_up(one: Watched) -> bool:
    position = one.followed.query("SELECT confirmed_flush_lsn >= pg_current_wal_lsn() FROM pg_replication_slots")
    return all(row[0] for row in position)


@pytest.mark.parametrize(
    ("statement", "told", "since"),
    [
        ("TRUNCATE page", "TRUNCATE of a table that tenants own (rule truncate = 1); tables: public.page", "before:"),
        ("DROP TABLE page", "DROP of a table that tenants own (rule drop = 1); tables: public.page", "20"),
    ],
)
def test_truncate_and_drop(followed: Factory, any_database: str, statement: str, told: str, since: str) -> None:
    """One statement is enough."""
    with watched(followed, any_database, RULES) as one:
        one.followed.execute(statement)
        _, _, text = one.receiver.next()
        assert told in text
        assert f"Next: outlast damage --since {since}" in text
