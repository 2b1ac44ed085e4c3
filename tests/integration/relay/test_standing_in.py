"""What happens to an alert when its vendor refuses, hangs, lies or is gone: people are paged from here, once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.letterbox import receiving_mail
from tests.receiver import Receiver, receiving
from tests.serving import Serving, serving, until
from tests.vendors import Mood, Vendor, vendor

PAGED_WITHIN_S = 10
BAD = [mood for mood in Mood if mood is not Mood.WELL]


@pytest.fixture
def pages() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def started(one: Serving) -> dict[str, str]:
    """Start it with an integration for each upstream; gives their keys."""
    keys = {name: one.integration(f"from-{name}", "opsgenie", "--upstream", name) for name in one.upstreams}
    one.start()
    return keys


def create(one: Serving, key: str, alias: str, **more: object) -> str:
    with one.opsgenie(key) as client:
        answer = client.post("/v2/alerts", json={"message": f"it is {alias}", "alias": alias, **more})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["requestId"])


def _noted(one: Vendor, alias: str) -> bool:
    return bool(one.notes.get(alias))


def test_a_vendor_that_fails_in_any_way(tmp_path: Path, pages: Receiver) -> None:
    """Whatever way it fails, a page goes out within 10 s, exactly once, by HTTP and by SMTP; and when it is well it has
    everything, once."""
    with ExitStack() as stack:
        mail = stack.enter_context(receiving_mail())
        by_mail = f"mailto://127.0.0.1:{mail.port}/?from=outlast@example.org&to=night@example.org&mode=insecure"
        vendors: dict[str, Vendor] = {f"v{mood.value}": stack.enter_context(vendor(mood)) for mood in BAD}
        upstreams = {name: ("opsgenie", one.url) for name, one in vendors.items()}
        one = stack.enter_context(serving(tmp_path, upstreams=upstreams, notify=f"{pages.url} {by_mail}"))
        keys = started(one)
        sent = {}
        for name, key in keys.items():
            create(one, key, f"a-{name}")
            sent[name] = time.monotonic()
        paged = {}
        for _ in keys:
            at, title, text = pages.next(PAGED_WITHIN_S + 5)
            name = title.rpartition("a-")[2]
            paged[name] = at - sent[name]
            assert name in text
        assert set(paged) == set(keys), "every one was paged"
        assert max(paged.values()) < PAGED_WITHIN_S, paged
        mail.wait_for(len(keys), max(0.1, min(sent.values()) + PAGED_WITHIN_S - time.monotonic()))
        for each in vendors.values():
            each.mood = Mood.WELL
        for name, each in vendors.items():
            alias = f"a-{name}"
            until(partial(_noted, each, alias), f"{name} is told that it was paged here")
            assert each.creations[alias] == 1
            assert len([note for note in each.notes[alias] if "Outlast paged" in note]) == 1, each.calls
            assert each.of(alias)[0] == "create"
        assert pages.empty, "nobody was paged twice"
        lettered = sorted(str(letter["Subject"]).rpartition("a-")[2] for letter in mail.to("night@example.org"))
        assert lettered == sorted(keys), "nor by a letter"


def test_while_the_vendor_works_it_is_only_recorded(tmp_path: Path, pages: Receiver) -> None:
    """Events reach a vendor that is well, in order, with its own key, and nobody is paged from here."""
    with vendor() as well, serving(tmp_path, upstreams={"og": ("opsgenie", well.url)}, notify=pages.url) as one:
        key = started(one)["og"]
        create(one, key, "a", unknown={"kept": True})
        with one.opsgenie(key) as client:
            for path in ("acknowledge", "notes", "close"):
                body = {"note": "looking"} if path == "notes" else {}
                assert client.post(f"/v2/alerts/a/{path}?identifierType=alias", json=body).status_code == 202
            until(lambda: len(well.of("a")) == 4, "all four arrive")
        assert well.of("a") == ["create", "acknowledge", "notes", "close"]
        assert well.calls[0][2]["unknown"] == {"kept": True}
        assert {header["Authorization"] for header in well.headers} == {"GenieKey key-og"}
        assert pages.empty


def test_what_was_closed_meanwhile_is_not_paged(tmp_path: Path, pages: Receiver) -> None:
    """An alert that resolved by itself before anybody had to be woken up wakes up nobody."""
    with (
        vendor(Mood.HANGING) as hanging,
        serving(tmp_path, upstreams={"og": ("opsgenie", hanging.url)}, notify=pages.url) as one,
    ):
        key = started(one)["og"]
        create(one, key, "short")
        with one.opsgenie(key) as client:
            client.post("/v2/alerts/short/close?identifierType=alias", json={})
        create(one, key, "long")
        assert "long" in pages.next(PAGED_WITHIN_S)[1]
        hanging.mood = Mood.WELL
        hanging.ended.set()
        until(lambda: hanging.of("short") == ["create", "close"], "both are passed on, in order")
        assert pages.empty


SETTINGS = """
[incident]
[page]
name = "Acme"
components = [{ name = "Checkout" }, { name = "API" }]
"""


def test_an_incident_hears_of_it(tmp_path: Path, pages: Receiver) -> None:
    """Opened from an alert it has its components and tenants; that we stand in is in its timeline, for nobody else."""
    with (
        vendor(Mood.ERROR) as away,
        serving(tmp_path, upstreams={"og": ("opsgenie", away.url)}, notify=pages.url, settings=SETTINGS) as one,
    ):
        key = started(one)["og"]
        create(one, key, "first", tags=["checkout"], details={"tenant": "acme"})
        pages.next(PAGED_WITHIN_S)
        opened = one.run("incident", "open", "Payments fail", "--alert", "first")
        assert opened["components"] == {"Checkout": "major_outage"}
        assert [tenant["tenant"] for tenant in opened["tenants"]] == ["acme"]
        for number in range(8):
            create(one, key, f"more-{number}")

        def timeline() -> str:
            return str(one.run("incident", "show", opened["incident"])["timeline"])

        until(lambda: "standing in for og: it is away" in timeline(), "it is told")
        away.mood = Mood.WELL
        until(lambda: "og is back" in timeline(), "and that it is over")
        assert opened["public"] is False


def test_an_answer_that_got_lost_makes_no_double(tmp_path: Path, pages: Receiver) -> None:
    """A note whose answer was lost is not written twice."""
    with vendor() as og, serving(tmp_path, upstreams={"og": ("opsgenie", og.url)}, notify=pages.url) as one:
        key = started(one)["og"]
        create(one, key, "a")
        until(lambda: og.of("a") == ["create"], "it is there")
        og.mood = Mood.DEAF
        with one.opsgenie(key) as client:
            client.post("/v2/alerts/a/notes?identifierType=alias", json={"note": "once only"})
        until(lambda: "once only" in og.notes["a"], "the vendor has it")
        og.mood = Mood.WELL
        with one.opsgenie(key) as client:
            client.post("/v2/alerts/a/close?identifierType=alias", json={})
        until(lambda: "close" in og.of("a"), "the rest follows")
        assert og.notes["a"].count("once only") == 1


def test_pagerduty_as_an_upstream(tmp_path: Path, pages: Receiver) -> None:
    """An event reaches PagerDuty in its own words, and pages here where PagerDuty fails."""
    with vendor() as pd, serving(tmp_path, upstreams={"pd": ("pagerduty", pd.url)}, notify=pages.url) as one:
        key = started(one)["pd"]
        create(one, key, "well", priority="P1")
        until(lambda: pd.of("well") == ["create"], "it is there")
        body = pd.calls[-1][2]
        assert body["payload"]["severity"] == "critical"
        assert body["routing_key"] == "key-pd"
        pd.mood = Mood.ERROR
        create(one, key, "bad")
        assert "bad" in pages.next(PAGED_WITHIN_S)[1]
        pd.mood = Mood.WELL
        until(lambda: pd.of("bad") == ["create"], "it comes when PagerDuty is back")
