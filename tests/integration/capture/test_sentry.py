"""The tripwire at work: facts go in, a real server's sessions end, and a real HTTP receiver is told."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest

from outlast.capture.incident_book import IncidentBook
from outlast.capture.notify import Notifier, urls
from outlast.capture.rules import Rules
from outlast.capture.sentry import Sentry
from outlast.capture.tripwire import MINUTE_S, Fact, Tripwire
from outlast.core.effect import Operation
from outlast.core.errors import OutlastError, UsageError
from outlast.core.moment import Lsn
from outlast.core.tenant import TenantKey
from outlast.sources.postgres.halt import Halter
from outlast.sources.postgres.session import Target
from outlast.state.local import LocalState
from tests.receiver import Receiver, receiving

ROOT = "public.accounts"
RULES = Rules(ROOT, frozenset({ROOT}), tombstone="public.closures")


def facts(*tenants: str, xid: int = 7, provisional: bool = False) -> list[Fact]:
    time, commit = (None, None) if provisional else (datetime.now(UTC), Lsn(xid))
    return [
        Fact(xid, time, commit, provisional, TenantKey(tenant), ROOT, Operation.HARD_DELETE, 1) for tenant in tenants
    ]


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def script(database: str) -> Iterator[str]:
    """The URL of a role that may be halted."""
    name = f"script_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN".encode())
        yield database.replace("postgres@", f"{name}@")
        connection.execute(f"DROP ROLE {name}".encode())


def let_in(database: str, role: str) -> None:
    halter = Halter(Target(database), [role])
    assert halter.let_in() == (role,)
    halter.close()


class Clock:
    """Stands, until it is let go on for as long as ends an incident."""

    now = time.time()

    def __call__(self) -> float:
        return self.now

    def go_on(self, sentry: Sentry) -> None:
        for _ in range(int(RULES.window_s / MINUTE_S) + 1):
            self.now += MINUTE_S
            sentry.tick()


def tripwire() -> Tripwire:
    return Tripwire(RULES, labels=lambda tenant: f"label-{tenant}")


def test_one_message_says_everything(receiver: Receiver) -> None:
    """What, who, since when, the transaction, and the commands to run next; once for the incident."""
    said: list[str] = []
    with Sentry(tripwire(), notifier=Notifier([receiver.url]), say=said.append) as sentry:
        sentry.observe(facts("1", xid=8))
        sentry.observe(facts("2", "3", xid=9))
        _, title, text = receiver.next()
        sentry.observe(facts("4", xid=10))
    assert title == "Outlast: 3 tenants of main are losing data"
    assert "What: 3 tenants' root rows were deleted (rule tenant_roots = 2)." in text
    assert "Who: label-1 (1) 1 row, label-2 (2) 1 row, label-3 (3) 1 row; 3 rows of 3 tenants so far." in text
    assert "Since: 20" in text
    assert "Transactions: 8 (committed 20" in text
    assert "Halt: nobody was halted: no role is named under halt_roles" in text
    assert text.endswith("Next: outlast damage --since before:8\nThen: outlast restore --damage-since before:8")
    assert receiver.empty
    assert text in said[0]


def test_growth_and_the_end_are_told(receiver: Receiver) -> None:
    """Tenfold is told again, more of the same is not; the end is, where it came to more than was told."""
    clock = Clock()
    watching = Tripwire(RULES, clock=clock)
    with Sentry(watching, notifier=Notifier([receiver.url])) as sentry:
        sentry.observe(facts("1", "2"))
        assert receiver.next()[1] == "Outlast: 2 tenants of main are losing data"
        sentry.observe(facts(*map(str, range(3, 21)), xid=8))
        _, title, text = receiver.next()
        assert title == "Outlast: it goes on: 20 tenants of main are losing data"
        assert "and 10 more; 20 rows of 20 tenants so far." in text
        sentry.observe(facts("21", xid=9))
        clock.go_on(sentry)
        _, title, text = receiver.next()
        assert title == "Outlast: it is over: 21 tenants of main have lost data"
        assert "21 rows of 21 tenants in all." in text
        assert "Then: outlast restore --damage-since before:7" in text
    assert receiver.empty


def test_an_end_that_was_told_is_not_told_again(receiver: Receiver) -> None:
    """And neither is one that a person has reset."""
    clock = Clock()
    watching = Tripwire(RULES, clock=clock)
    with Sentry(watching, notifier=Notifier([receiver.url])) as sentry:
        sentry.observe(facts("1", "2"))
        receiver.next()
        clock.go_on(sentry)
        assert sentry.incident is None
        until(lambda: sentry._told_of is None)
    assert receiver.empty


def test_a_transaction_in_progress_is_ended_and_named(receiver: Receiver, database: str, script: str) -> None:
    """The message says whose it was, and that nothing of it is lost."""
    role = script.partition("//")[2].partition("@")[0]
    with psycopg.connect(script, application_name="purge.py") as connection:
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
        assert row is not None
        with Sentry(tripwire(), notifier=Notifier([receiver.url]), halter=Halter(Target(database), [role])) as sentry:
            sentry.observe(facts("1", "2", xid=int(row[0]), provisional=True))
            _, _, text = receiver.next()
        assert f"Transactions: {row[0]} (ended before its COMMIT: nothing of it is lost; 2 rows, role {role}" in text
        assert "application_name 'purge.py', pid " in text
        assert f"Halt: {role} cannot log in any more; 1 session ended (in 0." in text
        assert "When it is over: outlast tripwire reset" in text
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    let_in(database, role)


def test_a_receiver_that_is_down_stops_nothing(receiver: Receiver, database: str, script: str) -> None:
    """The halt is made all the same, the failure is told, and neither the URL nor its secret is shown."""
    role = script.partition("//")[2].partition("@")[0]
    receiver.refusing = True
    receiver.path = "hook/s3cret-token"
    said: list[str] = []
    with Sentry(
        tripwire(), notifier=Notifier([receiver.url]), halter=Halter(Target(database), [role]), say=said.append
    ) as sentry:
        sentry.observe(facts("1", "2"))
        until(lambda: any("not notified yet: no. 1 (json)" in line for line in said))
        assert sentry.halted is not None
        assert sentry.halted.roles == (role,)
    assert any("NOT notified" in line for line in said)
    assert "s3cret" not in "".join(said)
    let_in(database, role)


def test_no_url_is_told_loudly() -> None:
    """An incident of which nobody hears is said to be one."""
    said: list[str] = []
    with Sentry(tripwire(), say=said.append) as sentry:
        sentry.observe(facts("1", "2"))
        until(lambda: any("nobody was notified" in line for line in said))


def test_a_server_that_cannot_be_reached_stops_nothing(receiver: Receiver) -> None:
    """The halt failed: the message says so in capitals."""
    halter = Halter(Target("postgresql://x@127.0.0.1:1/x"), ["script"])
    with Sentry(tripwire(), notifier=Notifier([receiver.url]), halter=halter) as sentry:
        sentry.observe(facts("1", "2"))
        _, _, text = receiver.next()
    assert "FAILED: cannot connect to x@127.0.0.1:1/x" in text


def test_what_is_remembered(tmp_path: Path, receiver: Receiver) -> None:
    """The incident, for another terminal; declared closings, for after a restart; and a reset, asked from elsewhere."""
    with LocalState(tmp_path) as state:
        book = IncidentBook(state, "main")
        with Sentry(
            tripwire(), notifier=Notifier([receiver.url]), open_book=lambda: IncidentBook(LocalState(tmp_path), "main")
        ) as sentry:
            closing = Fact(6, datetime.now(UTC), Lsn(6), False, TenantKey("9"), "public.closures", Operation.INSERT, 1)
            sentry.observe([closing])
            sentry.observe(facts("1", "2"))
            until(lambda: book.last() is not None)
            until(lambda: set(book.tombstones()) == {"9"})
            book.ask_reset(datetime.now(UTC))
            until(lambda: sentry.incident is None)
            sentry.observe(facts("3"))
            assert sentry.incident is None
        last = book.last()
        assert last is not None
        assert (last["tenants"], last["rules"], last["largest"][0][:2]) == (2, {"tenant_roots": 2}, ["1", "label-1"])


def test_urls_come_from_the_environment_or_a_command(tmp_path: Path) -> None:
    """The environment wins; a command that fails, and a URL that is none, are told without what they hold."""
    assert urls({"OUTLAST_NOTIFY": "json://a\njson://b"}, "false") == ("json://a", "json://b")
    assert urls({}, "echo json://c") == ("json://c",)
    assert urls({}, None) == ()
    with pytest.raises(OutlastError, match="exit code 1"):
        urls({}, "false")
    with pytest.raises(UsageError, match=r"no\. 1 is none that Apprise knows") as caught:
        Notifier(["nonsense://s3cret"])
    assert "s3cret" not in str(caught.value) + str(caught.value.hint)


def test_a_bug_in_the_tripwire_does_not_end_capture() -> None:
    """It is told, and the feeding thread goes on."""
    broken = tripwire()
    broken.observe = None  # type: ignore[assignment, method-assign]
    said: list[str] = []
    with Sentry(broken, say=said.append) as sentry:
        sentry.observe(facts("1", "2"))
    assert any("the tripwire itself failed" in line for line in said)


def test_where_it_is_off_nothing_happens() -> None:
    """[tripwire] enabled = false."""
    with Sentry.disabled() as sentry:
        sentry.observe(facts("1", "2"))
        sentry.tick()
        assert (sentry.incident, sentry.tombstone) == (None, None)
