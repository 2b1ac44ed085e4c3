"""Letters through a real SMTP server and web hooks: everybody once, whatever happens in between."""

from __future__ import annotations

import hmac
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from outlast.core.errors import NotFoundError
from outlast.core.link import LinkKey
from outlast.incident import letters
from outlast.incident.channels.chat import Chat
from outlast.incident.channels.mail import Mailer, MailServer
from outlast.incident.channels.outcome import Sender, Went
from outlast.incident.channels.outside import Outside
from outlast.incident.channels.webhook import Webhooks
from outlast.incident.conduct import Conduct, Opening
from outlast.incident.delivery import Delivery
from outlast.incident.incident import Incident, Severity
from outlast.incident.letters import Desk, Letter
from outlast.incident.outbox import LetterState, Outbox
from outlast.incident.subscribers import BOUNCES_MAX, Channel, State, Subscribers, Wish
from outlast.state.database import Database
from tests.letterbox import Letterbox
from tests.receiver import receiving
from tests.unit.incident.stories import START, at

SENDER = "Acme Status <status@acme.example>"


@pytest.fixture
def incident(conduct: Conduct) -> Incident:
    return conduct.open(Opening("Sites are missing", Severity.CRITICAL, public=True), "ada", START)[0]


def mailer(mailbox: Letterbox, desk: Desk) -> Mailer:
    return Mailer(MailServer.parse(mailbox.url, None), SENDER, desk.unsubscribe, again(desk))


def again(desk: Desk) -> Callable[[Letter], str]:
    return lambda _: desk.said_again("en")


def web_hooks(subscribers: Subscribers, inside: tuple[str, ...] = ("127.0.0.1",)) -> Webhooks:
    return Webhooks(lambda name: subscribers.get(name).secret, Outside(inside))  # type: ignore[union-attr]


def deliver(database: Database, mailbox: Letterbox, desk: Desk) -> None:
    outbox, subscribers = Outbox(database), Subscribers(database)
    senders: Mapping[Channel, Callable[[], Sender]] = {
        Channel.EMAIL: lambda: mailer(mailbox, desk),
        Channel.WEBHOOK: lambda: web_hooks(subscribers),
        Channel.APPRISE: lambda: Chat(again(desk)),
    }
    with Delivery(outbox, subscribers, senders) as delivery:
        delivery.drain()


def put(database: Database, desk: Desk, incident: Incident) -> int:
    active = Subscribers(database).all(State.ACTIVE)
    return Outbox(database).put(letters.of_update(desk, incident, incident.updates[-1], active), START)


def test_a_subscription_counts_once_it_is_confirmed(database: Database, conduct: Conduct) -> None:
    """Ended it stays ended by the same link; subscribed again it has to be confirmed again."""
    subscribers = Subscribers(conduct.journal.database)
    one = subscribers.add(Wish(Channel.EMAIL, "ada@acme.EXAMPLE"), START)
    assert (one.state, one.wish.address) == (State.UNCONFIRMED, "ada@acme.example")
    assert subscribers.confirm(one.id).state is State.ACTIVE
    assert subscribers.end(one.id).state is State.ENDED
    with pytest.raises(NotFoundError):
        subscribers.confirm(one.id)
    assert subscribers.add(Wish(Channel.EMAIL, "ada@acme.example"), START).state is State.UNCONFIRMED


def test_a_letter_says_what_when_next_and_how_to_end_it(
    database: Database, mailbox: Letterbox, desk: Desk, incident: Incident
) -> None:
    """In the subscriber's language, with the headers of a one-click unsubscribe."""
    one = Subscribers(database).add(Wish(Channel.EMAIL, "ada@acme.example", "de"), START, confirmed=True)
    assert put(database, desk, incident) == 1
    assert put(database, desk, incident) == 0
    deliver(database, mailbox, desk)
    (letter,) = mailbox.to("ada@acme.example")
    assert letter["Subject"] == "[Acme] Sites are missing: Wird untersucht"
    assert letter["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = str(letter["List-Unsubscribe"]).strip("<>")
    assert link == desk.unsubscribe(one.id)
    token = link.rpartition("/")[2]
    assert desk.links.read(token, letters.UNSUBSCRIBE, at(10**6)).subject == (one.id,)
    body = letter.get_content()
    assert "Nächste Meldung bis 2026-11-25 03:20 UTC." in body
    assert "https://status.example/incidents/20261125-1.html" in body


def test_who_wants_one_component_hears_of_that_alone_and_each_address_once(
    database: Database, conduct: Conduct, mailbox: Letterbox, desk: Desk
) -> None:
    """Two subscriptions of one address are one letter."""
    subscribers = Subscribers(database)
    for address, component in [
        ("a@x.example", None),
        ("a@x.example", "API"),
        ("b@x.example", "Web"),
        ("c@x.example", "API"),
    ]:
        subscribers.add(Wish(Channel.EMAIL, address, component=component), START, confirmed=True)
    opening = Opening("Slow", Severity.MINOR, public=True, components={"API": "degraded_performance"})  # type: ignore[dict-item]
    put(database, desk, conduct.open(_typed(opening), "ada", START)[0])
    deliver(database, mailbox, desk)
    assert Counter(address for address, _ in mailbox.letters) == {"a@x.example": 1, "c@x.example": 1}


def _typed(opening: Opening) -> Opening:
    from outlast.incident.incident import Component

    return replace(opening, components={name: Component(state) for name, state in opening.components.items()})


def test_bounces_are_counted_and_end_a_subscription(
    database: Database, conduct: Conduct, mailbox: Letterbox, desk: Desk
) -> None:
    """An address that refused for good so many times is written to no more."""
    subscribers = Subscribers(database)
    one = subscribers.add(Wish(Channel.EMAIL, "gone@x.example"), START, confirmed=True)
    mailbox.unknown.add("gone@x.example")
    for number in range(BOUNCES_MAX):
        put(database, desk, conduct.open(Opening(f"No. {number}", Severity.MINOR, public=True), "ada", START)[0])
        deliver(database, mailbox, desk)
    found = subscribers.get(one.id)
    assert found is not None
    assert (found.state, found.bounces) == (State.BOUNCED, BOUNCES_MAX)
    assert Outbox(database).counts() == {LetterState.FAILED: BOUNCES_MAX}


def test_a_mail_server_that_is_away_is_waited_for(
    database: Database, mailbox: Letterbox, desk: Desk, incident: Incident
) -> None:
    """It is no bounce, and the letter is tried again later."""
    Subscribers(database).add(Wish(Channel.EMAIL, "a@x.example"), START, confirmed=True)
    put(database, desk, incident)
    taken = Outbox(database).take(Channel.EMAIL, 1, START)[0]
    port, mailbox.port = mailbox.port, 1
    with closing(mailer(mailbox, desk)) as sender:
        outcome = sender.send(taken.letter)
    assert outcome.went is Went.LATER
    Outbox(database).later(taken, outcome.problem or "", START)
    mailbox.port = port
    assert Outbox(database).take(Channel.EMAIL, 1, START) == []
    assert [one.attempts for one in Outbox(database).take(Channel.EMAIL, 1, at(1))] == [2]


def test_a_letter_whose_answer_is_lost_is_sent_again_and_says_so(
    database: Database, mailbox: Letterbox, desk: Desk, incident: Incident
) -> None:
    """It may have arrived, and here it did: the second one has the same Message-ID. Others say nothing of the kind."""
    subscribers = Subscribers(database)
    subscribers.add(Wish(Channel.EMAIL, "a@x.example", "de"), START, confirmed=True)
    subscribers.add(Wish(Channel.EMAIL, "b@x.example"), START, confirmed=True)
    mailbox.cut.add("a@x.example")
    put(database, desk, incident)
    deliver(database, mailbox, desk)
    outbox = Outbox(database)
    assert outbox.counts() == {LetterState.UNCLEAR: 1, LetterState.SENT: 1}
    (taken,) = outbox.take(Channel.EMAIL, 5, datetime.now(UTC) + timedelta(minutes=2))
    assert taken.again
    with closing(mailer(mailbox, desk)) as sender:
        assert sender.send(taken.letter, again=taken.again).went is Went.SENT
    first, second = mailbox.to("a@x.example")
    assert first["Message-ID"] == second["Message-ID"]
    assert [desk.said_again("en") in one.get_content() for one in (first, second)] == [False, True]
    assert desk.said_again("de") != desk.said_again("en")
    assert not any(desk.said_again("en") in one.get_content() for one in mailbox.to("b@x.example"))


def test_what_a_sender_held_but_did_not_send_is_as_if_it_had_not_been_taken(
    database: Database, desk: Desk, incident: Incident
) -> None:
    """After a kill only the letter on the wire is unclear; the others have no attempt counted, and say nothing."""
    wishes = [Wish(Channel.EMAIL, f"u{number}@x.example") for number in range(3)]
    Subscribers(database).add_all(wishes, START, confirmed=True)
    put(database, desk, incident)
    outbox = Outbox(database)
    first, second, _ = outbox.take(Channel.EMAIL, 5, START)
    outbox.sent(first.letter, START, second)
    assert outbox.recover() == 2
    again = {one.letter.id: (one.again, one.attempts) for one in outbox.take(Channel.EMAIL, 5, START)}
    assert again.pop(second.letter.id) == (True, 2)
    assert list(again.values()) == [(False, 1)]
    assert outbox.take(Channel.EMAIL, 5, START) == []


class Hooks:
    """Web hooks on this host: `dead` never answers until the test is over."""

    def __init__(self) -> None:
        self.came: list[tuple[str, bytes, dict[str, str]]] = []
        self.over = threading.Event()


@contextmanager
def hooks() -> Iterator[tuple[Hooks, str]]:
    taken = Hooks()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path.startswith("/dead"):
                taken.over.wait(60)
            taken.came.append((self.path, body, dict(self.headers)))
            self.send_response(410 if self.path == "/gone" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield taken, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            taken.over.set()
            server.shutdown()


def test_a_web_hook_is_signed_and_a_dead_one_delays_nobody(
    database: Database, mailbox: Letterbox, desk: Desk, incident: Incident
) -> None:
    """Those that answer are served while the dead one still hangs; who is gone for good is counted as a bounce."""
    subscribers = Subscribers(database)
    with hooks() as (taken, url):
        subscribers.add(Wish(Channel.WEBHOOK, f"{url}/dead"), START)
        live = [subscribers.add(Wish(Channel.WEBHOOK, f"{url}/live/{number}"), START) for number in range(20)]
        gone = subscribers.add(Wish(Channel.WEBHOOK, f"{url}/gone"), START)
        subscribers.add(Wish(Channel.EMAIL, "a@x.example"), START, confirmed=True)
        put(database, desk, incident)
        senders: Mapping[Channel, Callable[[], Sender]] = {
            Channel.EMAIL: lambda: mailer(mailbox, desk),
            Channel.WEBHOOK: lambda: web_hooks(subscribers),
        }
        with Delivery(Outbox(database), subscribers, senders):
            mailbox.wait_for(1)
            until(lambda: len(taken.came) >= 21)
            assert not any(path.startswith("/dead") for path, _, _ in taken.came)
            taken.over.set()
        path, body, headers = next(one for one in taken.came if one[0] == "/live/3")
        time_, _, mac = headers["Outlast-Signature"].partition(",")
        secret = live[3].secret
        assert secret is not None
        expected = hmac.digest(secret.encode(), time_.removeprefix("t=").encode() + b"." + body, "sha256").hex()
        assert mac == f"v1={expected}"
        assert json.loads(body)["incident"]["name"] == "Sites are missing"
        found = subscribers.get(gone.id)
        assert found is not None
        assert found.bounces == 1
        assert path


def test_a_chat_is_told_through_apprise(database: Database, mailbox: Letterbox, desk: Desk, incident: Incident) -> None:
    """Whatever Apprise knows by a URL."""
    with receiving() as receiver:
        Subscribers(database).add(Wish(Channel.APPRISE, receiver.url), START)
        put(database, desk, incident)
        deliver(database, mailbox, desk)
        assert receiver.next()[1] == "[Acme] Sites are missing: Investigating"


SENDING = """
import sys
from pathlib import Path
from outlast.core.link import LinkKey
from outlast.incident.channels.mail import Mailer, MailServer
from outlast.incident.delivery import Delivery
from outlast.incident.outbox import Outbox
from outlast.incident.subscribers import Channel, Subscribers
from outlast.state.database import Database
path, url = Path(sys.argv[1]), sys.argv[2]
with Database.file(path) as database:
    outbox, subscribers = Outbox(database), Subscribers(database)
    outbox.recover()
    mailer = Mailer(MailServer.parse(url, None), "s@acme.example", lambda one: "https://x/" + one, lambda _: "AGAIN")
    senders = {Channel.EMAIL: lambda: mailer}
    with Delivery(outbox, subscribers, senders) as delivery:
        delivery.drain()
"""


@pytest.mark.parametrize(("number", "kills"), [(300, 2), pytest.param(10_000, 12, marks=pytest.mark.slow)])
def test_killed_in_the_middle_nobody_is_missed_and_nobody_is_written_to_twice(
    number: int, kills: int, database: Database, tmp_path: Path, mailbox: Letterbox, desk: Desk, incident: Incident
) -> None:
    """kill -9 while letters leave, again and again. A letter that was on the wire in that moment is unavoidably sent
    again, under the same Message-ID, by which mail programs know it, and says so: one a kill at the most."""
    wishes = [Wish(Channel.EMAIL, f"u{one}@x.example") for one in range(number)]
    Subscribers(database).add_all(wishes, START, confirmed=True)
    assert put(database, desk, incident) == number
    command = [sys.executable, "-c", SENDING, str(tmp_path / "serve.sqlite"), mailbox.url]
    for kill in range(kills):
        process = subprocess.Popen(command)
        mailbox.wait_for((kill + 1) * number // (kills + 2))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    subprocess.run(command, check=True, timeout=600)
    got = Counter(address for address, _ in mailbox.letters)
    assert len(got) == number
    twice = [address for address, times in got.items() if times > 1]
    assert len(twice) <= kills
    for address in twice:
        assert len({str(one["Message-ID"]) for one in mailbox.to(address)}) == 1
        assert ["AGAIN" in one.get_content() for one in mailbox.to(address)] == [False, True]
    assert sum("AGAIN" in one.get_content() for _, one in mailbox.letters) <= kills
    assert Outbox(database).counts() == {LetterState.SENT: number}


def test_a_link_key_is_made_once(conduct: Conduct, database: Database) -> None:
    """Every instance that shares the state reads each other's links."""
    token = conduct.journal.link_key().make("notice", ("i", "7"))
    key = conduct.journal.link_key()
    assert isinstance(key, LinkKey)
    assert key.read(token, "notice", START).subject == ("i", "7")
    assert database.is_sqlite


def until(condition: object) -> None:
    deadline = time.monotonic() + 60
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
