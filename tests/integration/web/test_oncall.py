"""`outlast serve` with a copy of the tools and nothing else: who is on call, who is paged, and the link in the page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from icalendar import Calendar

from outlast.library.copy import FILE_NAME
from tests import rosters
from tests.copies import fill_copy
from tests.letterbox import Letterbox, receiving_mail
from tests.receiver import Receiver, receiving
from tests.serving import Serving, serving, until

PUBLIC_URL = "http://outlast.example.org"  # with https a browser would send the session by TLS only
SETTINGS = f'public_url = "{PUBLIC_URL}"\n[paging]\ndefault_policy = "web_escalation"\n'


def fill(folder: Path, tables: rosters.Tables) -> None:
    (folder / "state").mkdir(mode=0o700, exist_ok=True)
    fill_copy(folder / "state" / FILE_NAME, tables)


class Desk:
    """A served installation, its mail, its SMS, and somebody who is logged in."""

    def __init__(self, one: Serving, mail: Letterbox, phone: Receiver, stack: ExitStack) -> None:
        self.one, self.mail, self.phone = one, mail, phone
        self.key = one.integration("prometheus", "opsgenie")
        one.user("ann", "responder")
        one.user("eve", "viewer")
        one.start()
        self.ann = stack.enter_context(one.browser("ann"))

    def alert(self, alias: str, **more: object) -> None:
        with self.one.opsgenie(self.key) as client:
            answer = client.post("/v2/alerts", json={"message": f"it is {alias}", "alias": alias, **more})
        assert answer.status_code == 202, answer.text

    def link(self, number: int = -1) -> str:
        letter = self.mail.letters[number][1].get_body(("plain",))
        assert letter is not None
        match = re.search(rf"{PUBLIC_URL}(/a/[A-Za-z0-9_-]+)", letter.get_content())
        assert match
        return match[1]

    def stranger(self) -> httpx.Client:
        return httpx.Client(base_url=self.one.url, timeout=60)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    with ExitStack() as stack:
        mail, phone = stack.enter_context(receiving_mail()), stack.enter_context(receiving())
        fill(folder, rosters.both())
        lines = (
            f"email mailto://127.0.0.1:{mail.port}/?from=outlast@example.org&to={{address}}&mode=insecure\n"
            f"sms {phone.url}?:to={{address}}\n"
        )
        one = stack.enter_context(serving(folder, settings=SETTINGS, paging=lines))
        yield Desk(one, mail, phone, stack)


def test_it_shows_who_is_on_call(desk: Desk) -> None:
    """Of every schedule, with how old the copy is; to nobody who is not logged in."""
    page = desk.ann.get("/oncall").text
    assert "Eve Example" in page
    assert re.search(r"(Ann|Bob) Example", page)
    assert "copied" in page
    with desk.stranger() as stranger:
        assert stranger.get("/oncall").headers["location"].startswith("/login")


def test_contacts_are_there_to_be_called_by_hand(desk: Desk) -> None:
    """Everybody in the copy with the ways to them, those on call first, as of when; found by a word of theirs."""
    page = desk.ann.get("/contacts").text
    names = re.findall(r'<strong class="line">(\w+) Example</strong>', page)
    assert sorted(names) == ["Ann", "Bob", "Cid", "Eve", "Fay"]
    assert set(names[:2]) in ({"Ann", "Eve"}, {"Bob", "Eve"})  # those on call
    assert names[2:] == sorted(names[2:])
    assert '<a href="mailto:cid@example.org">cid@example.org</a>' in page
    assert '<a href="sms:+15550002">+15550002</a>' in page
    assert "main as of 20" in page
    assert "(Eastern Time (US &amp; Canada))" in page or "(America/New_York)" in page
    found = desk.ann.get("/contacts", params={"query": "FAY example.org"}).text
    assert re.findall(r'<strong class="line">(.+)</strong>', found) == ["Fay Example"]
    assert "Nobody matches" in desk.ann.get("/contacts", params={"query": "<zed>"}).text


def test_a_viewer_sees_who_there_is_and_no_address(desk: Desk) -> None:
    """Numbers and addresses are for those who may page somebody anyway."""
    with desk.one.browser("eve") as viewer:
        page = viewer.get("/contacts").text
    assert "Cid Example" in page
    assert "text message" in page
    assert "5550002" not in page
    assert "cid@" not in page


def test_a_page_goes_to_whoever_is_on_call_and_its_link_acknowledges(desk: Desk) -> None:
    """From the alert to the acknowledgement; a scanner that opens the link changes nothing."""
    desk.alert("disk", responders=[{"type": "team", "name": "web-team"}])
    desk.mail.wait_for(1, 10)
    assert desk.mail.letters[0][0] in ("ann@example.org", "bob@example.org")
    link = desk.link()
    with desk.stranger() as phone:
        seen = phone.get(link)
        assert seen.status_code == 200
        assert "it is disk" in seen.text
        assert "I have it" in seen.text
        assert "nobody has it" in desk.ann.get("/").text
        assert "It is yours" in phone.post(link).text
        assert "This link was used" in phone.get(link).text
        assert phone.get(link[:-1] + ("A" if link[-1] != "A" else "B")).status_code == 404
    assert "it is disk" not in desk.ann.get("/?view=waiting").text
    alert = re.search(r'href="(/alerts/[^"]+)"', desk.ann.get("/?view=open").text)
    assert alert
    log = desk.ann.get(alert[1]).text
    assert "acknowledged by" in log
    assert "was told by email" in log


def test_an_override_is_set_and_ended_here(desk: Desk) -> None:
    """By a responder, and by nobody with fewer rights or without the session's token."""
    here = "/oncall/main/s1"
    csrf = re.search(r'name="csrf" value="([^"]+)"', desk.ann.get(here).text)
    assert csrf
    now = datetime.now(UTC)
    given = {
        "csrf": csrf[1],
        "person": "cid",
        "start": f"{now - timedelta(days=1):%Y-%m-%dT%H:%M}",
        "end": f"{now + timedelta(days=2):%Y-%m-%dT%H:%M}",
        "note": "swapped <b>",
    }
    assert desk.ann.post(f"{here}/override", data=given | {"csrf": "no"}).status_code == 403
    assert desk.ann.post(f"{here}/override", data=given | {"person": "nobody"}).status_code == 422
    assert desk.ann.post(f"{here}/override", data=given | {"end": "soon"}).status_code == 422
    assert desk.ann.post(f"{here}/override", data=given).status_code == 303
    page = desk.ann.get(here).text
    assert "set by ann: swapped &lt;b&gt;" in page
    assert "Cid Example" in desk.ann.get("/oncall").text
    told = desk.one.run("oncall", "web")["schedules"][0]
    assert ([one["name"] for one in told["people"]], told["basis"]) == (["Cid Example"], "override")
    with desk.one.browser("eve") as viewer:
        assert "Have somebody take over" not in viewer.get(here).text
    number = re.search(rf"{here}/override/([0-9a-f]+)/end", page)
    assert number
    assert desk.ann.post(f"{here}/override/{number[1]}/end", data={"csrf": csrf[1]}).status_code == 303
    assert "Cid Example" not in desk.ann.get("/oncall").text
    assert desk.ann.post(f"{here}/override/{number[1]}/end", data={"csrf": csrf[1]}).status_code == 404


def test_a_calendar_reads_its_feed_without_a_login(desk: Desk) -> None:
    """By the address that the page shows, and by no other."""
    address = re.search(rf"{PUBLIC_URL}(/oncall/main/P1\.ics\?key=[\w-]+)", desk.ann.get("/oncall/main/P1").text)
    assert address
    with desk.stranger() as client:
        answer = client.get(address[1])
        assert answer.headers["content-type"].startswith("text/calendar")
        events = Calendar.from_ical(answer.content).walk("VEVENT")
        assert {str(one["summary"]) for one in events} == {"Eve Example on call: Database"}
        assert client.get(address[1][:-1]).status_code == 404
        assert client.get(address[1].replace("P1", "s1")).status_code == 404


@pytest.mark.parametrize("path", ["/oncall/main/gone", "/oncall/gone/s1", "/a/x"])
def test_what_is_not_there_is_said(desk: Desk, path: str) -> None:
    """With a page and not with an error of ours."""
    assert desk.ann.get(path).status_code == 404


def test_killed_at_once_after_an_alert_it_pages_when_it_is_back(desk: Desk) -> None:
    """What was answered as accepted is on disk with its page; who was told before may be told again, marked."""
    before = len(desk.mail.letters)
    for number in range(5):
        desk.alert(f"kill-{number}", responders=[{"type": "schedule", "name": "web"}])
    desk.one.kill()
    desk.one.start()

    def told() -> list[list[str]]:
        texts = [str(letter.get_body(("plain",)).get_content()) for _, letter in desk.mail.letters[before:]]  # type: ignore[union-attr]
        return [[text for text in texts if f"it is kill-{number}" in text] for number in range(5)]

    until(lambda: all(told()), "every alert of before the kill is paged for", 20)
    assert all(len(texts) == 1 or "had this before" in texts[-1] for texts in told())


def test_page_shows_and_tests(desk: Desk) -> None:
    """Before the day comes: who would be paged, and whether it reaches them."""
    shown = desk.one.run("page", "show", "Database policy")
    assert [[person["id"] for person in step["people"]] for step in shown["steps"]] == [["main/eve"], ["main/fay"]]
    tested = desk.one.run("page", "test", "Database policy")
    assert [(one["name"], one["method"], one["taken"]) for one in tested["results"]] == [
        ("Eve Example", "email", True),
        ("Eve Example", "sms", True),
    ]
    letter = desk.mail.to("eve@example.org")[-1]
    assert "THIS IS A TEST" in letter["subject"]
