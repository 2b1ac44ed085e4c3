"""What customers see without a login: pages, notices and subscriptions, by a real server."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn

from outlast.core.tenant import Tenant, TenantKey
from outlast.incident import letters
from outlast.incident.conduct import Conduct, Opening, Rules, Saying
from outlast.incident.driving import Automatic, Driver
from outlast.incident.incident import Incident, Severity
from outlast.incident.journal import Journal
from outlast.incident.letters import Desk
from outlast.incident.outbox import Outbox
from outlast.incident.page import ComponentSpec, PageSpec
from outlast.incident.subscribers import Channel, State, Subscribers, Wish
from outlast.incident.teller import Teller
from outlast.oncall import tables as paging_tables
from outlast.oncall.channels import read
from outlast.oncall.paging import Paging
from outlast.relay import tables
from outlast.relay.commit import Commits
from outlast.relay.integration import Keys
from outlast.relay.rate import Rates
from outlast.state.database import Database
from outlast.web import accounts
from outlast.web.app import create_app
from outlast.web.services import Services
from outlast.web.telling import Site

EVIL = "<script>alert(1)</script>"
ACME, BOLT = Tenant(TenantKey("7"), f"acme {EVIL}"), Tenant(TenantKey("8"), "bolt")


@dataclass
class Served:
    url: str
    teller: Teller

    @property
    def conduct(self) -> Conduct:
        return self.teller.driver.conduct

    def open(self) -> Incident:
        opening = Opening(f"Sites are missing {EVIL}", Severity.CRITICAL, public=True, tenants=[(ACME, 5), (BOLT, 1)])
        return self.conduct.open(opening, "ada", datetime.now(UTC))[0]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """`serve`'s own application on a port of this host."""
    listener = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with Database.file(tmp_path / "serve.sqlite") as database:
        database.install(tables.SCHEMA, accounts.SCHEMA, paging_tables.SCHEMA)
        journal = Journal(database)
        spec = PageSpec("Acme", f"{url}/status", (ComponentSpec("API"),), ("en", "de"), f"{url}/subscribe")
        teller = Teller(
            Driver(Conduct(journal, Rules(components=("API",), languages=("en", "de"))), Automatic()),
            Subscribers(database),
            Outbox(database),
            Desk(spec, journal.link_key(), url),
            reach=lambda *_, urgent: urgent,
            contacts=lambda *_: {},
        )
        pager = Paging(database, read({}, None, ()), lambda: None)
        with Commits(database, pager) as commits:
            services = Services(
                database, commits, Keys(database), pager, [], "test",
                teller=teller, site=Site(teller), subscribe_rates=Rates(0.001, 5),
            )  # fmt: skip
            server = uvicorn.Server(uvicorn.Config(create_app(services), log_config=None, access_log=False))
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
            thread.start()
            try:
                httpx.get(f"{url}/login", timeout=30)
                yield Served(url, teller)
            finally:
                server.should_exit = True
                thread.join()


def test_the_page_is_for_everybody_and_what_people_wrote_is_text(served: Served) -> None:
    """No login; a title with markup is shown as it was typed; tenants are on no public page."""
    incident = served.open()
    page = httpx.get(f"{served.url}/status/")
    assert page.status_code == 200
    assert EVIL not in page.text
    assert "&lt;script&gt;" in page.text
    files = served.teller.page(datetime.now(UTC))
    assert files.current[0].incident.id == incident.id
    for path in ("", "history.html", "de/index.html", f"incidents/{incident.id}.html", "history.atom", "history.rss"):
        found = httpx.get(f"{served.url}/status/{path}")
        assert found.status_code == 200, path
        assert "bolt" not in found.text
        assert EVIL not in found.text
    assert "script-src 'self'" in page.headers["content-security-policy"]
    summary = httpx.get(f"{served.url}/status/api/v2/summary.json")
    assert summary.headers["access-control-allow-origin"] == "*"
    assert httpx.get(f"{served.url}/status/../web/app.py").status_code == 404
    assert httpx.get(f"{served.url}/status/%2e%2e/serve.sqlite").status_code == 404


def test_a_notice_is_one_tenants_alone(served: Served) -> None:
    """Another tenant's id, another purpose, an altered or an expired link: all refused in the same words."""
    incident, links = served.open(), served.teller.desk.links
    own = httpx.get(served.teller.desk.notice(incident.id, "7"))
    assert own.status_code == 200
    assert "acme &lt;script&gt;" in own.text
    assert "bolt" not in own.text
    token = served.teller.desk.notice(incident.id, "7").rpartition("/")[2]
    other = links.make("unsubscribe", (incident.id, "7"))
    late = links.make("notice", (incident.id, "7"), datetime.now(UTC) - timedelta(seconds=1))
    swapped = token.partition(".")[0] + "." + links.make("notice", (incident.id, "8")).partition(".")[2]
    refused = [httpx.get(f"{served.url}/notice/{one}") for one in (other, late, swapped, token[:-1], "x", "a.b")]
    assert {one.status_code for one in refused} == {409}
    assert len({one.text.split("As of")[0] for one in refused}) == 1
    unknown = httpx.get(f"{served.url}/notice/{links.make('notice', (incident.id, '9'))}")
    assert unknown.status_code == 404
    deutsch = httpx.get(served.teller.desk.notice(incident.id, "7"), params={"language": "de"})
    assert "Ihre Daten bei Acme" in deutsch.text


def test_subscribed_confirmed_and_ended_by_one_click(served: Served) -> None:
    """Following a link changes nothing, since mail scanners do; a POST does, with no cookie and no token."""
    done = httpx.post(f"{served.url}/subscribe", data={"email": "ada@x.example", "language": "de"})
    assert done.status_code == 200
    (one,) = served.teller.subscribers.all()
    assert (one.state, one.wish.language) == (State.UNCONFIRMED, "de")
    (letter,) = served.teller.outbox.take(Channel.EMAIL, 10, datetime.now(UTC))
    confirm = served.teller.desk.confirm(one.id)
    assert confirm in letter.letter.body
    httpx.get(confirm)
    assert served.teller.subscribers.all()[0].state is State.UNCONFIRMED
    assert httpx.post(confirm).status_code == 200
    assert served.teller.subscribers.all()[0].state is State.ACTIVE
    end = served.teller.desk.unsubscribe(one.id)
    assert httpx.get(end).status_code == 200
    assert served.teller.subscribers.all()[0].state is State.ACTIVE
    assert httpx.post(end, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert served.teller.subscribers.all()[0].state is State.ENDED
    assert httpx.post(confirm).status_code == 404
    assert httpx.post(end.replace("unsubscribe", "confirm")).status_code == 409


def test_nobody_is_flooded_with_confirmations(served: Served) -> None:
    """Neither one address nor from one place."""
    answers = [httpx.post(f"{served.url}/subscribe", data={"email": f"u{n}@x.example"}) for n in range(7)]
    assert [one.status_code for one in answers].count(429) == 2


@pytest.mark.parametrize("email", ["", "nobody", "a@b\r\nBcc: c@d", "x" * 400, "a b@c.d"])
def test_what_is_no_address_is_refused(served: Served, email: str) -> None:
    """And never put into a letter's head."""
    answer = httpx.post(f"{served.url}/subscribe", data={"email": email})
    assert answer.status_code == 422
    assert served.teller.subscribers.all() == []


def test_the_desk_and_its_api_need_a_login(served: Served) -> None:
    """Incidents with their tenants and notes are for the team."""
    assert httpx.get(f"{served.url}/incidents", follow_redirects=False).status_code == 303
    assert httpx.get(f"{served.url}/api/incidents").status_code == 401
    assert httpx.post(f"{served.url}/api/incidents", json={"title": "x"}).status_code == 401


def test_an_incident_by_the_api(served: Served) -> None:
    """Opened, told on, refused without the next time, resolved: as the commands do it."""
    with served.conduct.journal.database.write() as connection:
        token = accounts.add_token(connection, "script", accounts.Role.RESPONDER)
    head = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=served.url, headers=head) as client:
        opened = client.post("/api/incidents", json={"title": "Slow", "severity": "minor", "publish": True})
        assert opened.status_code == 201, opened.text
        path = f"/api/incidents/{opened.json()['incident']}"
        assert client.post(f"{path}/updates", json={"message": "We look."}).status_code == 409
        said = client.post(f"{path}/updates", json={"message": "We look.", "next_minutes": 30})
        assert said.status_code == 201
        assert said.json()["next_update_at"] is not None
        assert client.post(f"{path}/resolve", json={}).json()["status"] == "resolved"
        assert "## Communication" in client.get(f"{path}/report").json()["markdown"]
        assert client.get("/api/incidents/20200101-1").status_code == 404


def test_a_subscriber_of_a_tenant_gets_its_notices(served: Served) -> None:
    """Each state once, whoever looks how often."""
    served.teller.subscribers.add(Wish(Channel.WEBHOOK, "https://x.example/hook", tenant="8"), datetime.now(UTC))
    incident = served.open()
    for _ in range(3):
        served.teller.look(datetime.now(UTC))
    taken = served.teller.outbox.take(Channel.WEBHOOK, 10, datetime.now(UTC))
    assert [(one.letter.tenant, one.letter.incident) for one in taken] == [("8", incident.id)]
    assert letters.NOTICE in taken[0].letter.body


def test_who_owes_a_word_is_reached_once_a_stage(served: Served) -> None:
    """The clock is moved by hand: reminded, paged, the commander; what nobody hears is shouted about."""
    reached: list[tuple[str | None, str, bool]] = []

    def reach(person: str | None, title: str, body: str, *, urgent: bool) -> bool:
        del body
        reached.append((person, title, urgent))
        return False

    served.teller.reach = reach
    shouted: list[str] = []
    served.teller.say = shouted.append
    opening = Opening("Slow", Severity.CRITICAL, roles={})
    incident, _ = served.conduct.open(opening, "ada", datetime.now(UTC))
    start = incident.opened_at
    for minutes in (0, 1, 5, 6, 10, 11, 15, 16):
        served.teller.look(start + timedelta(minutes=minutes))
    assert [urgent for _, _, urgent in reached] == [False, True, False, True, True, True]
    assert len(shouted) == 6
    assert all("NOBODY" in line for line in shouted)
    said = served.conduct.say(
        incident.id, Saying(body="We look.", next_at=start + timedelta(minutes=30), scope=True), "bob",
        start + timedelta(minutes=17),
    )  # fmt: skip
    served.teller.look(start + timedelta(minutes=18))
    assert len(reached) == 6
    assert said.public
