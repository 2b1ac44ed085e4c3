"""Where the page goes and how large it gets, whose addresses are taken over, and how fast letters leave."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from outlast.core.errors import OutlastError
from outlast.incident import site
from outlast.incident.cadence import Promise
from outlast.incident.delivery import Throttle
from outlast.incident.incident import Incident, IncidentId
from outlast.incident.page import ComponentSpec, PageSpec, make_page
from outlast.incident.publish import place, publish
from outlast.incident.statuspage_import import wishes
from outlast.incident.subscribers import Channel, Wish
from tests.buckets import Bucket
from tests.unit.incident.stories import START, Story

SPEC = PageSpec(
    "Acme", "https://status.example", tuple(ComponentSpec(f"Component {n}") for n in range(12)), ("en", "de")
)


def test_a_bucket_gets_every_file_with_its_type(moto_s3: Bucket, tmp_path: Path) -> None:
    """By a URL as the vault's, into a folder of it; and what is no bucket is told without what the URL asks."""
    page = make_page(SPEC, [Story().update(1).incident], Promise(), START + timedelta(minutes=2))
    files = site.files(page)
    publish(place(moto_s3.url_of("status"), tmp_path), files)
    client = moto_s3.client()
    names = {one["Key"] for one in client.list_objects_v2(Bucket=moto_s3.name)["Contents"]}
    assert names == {f"status/{name}" for name in files}
    for name, kind in (("index.html", "text/html"), ("de/index.html", "text/html"), ("history.atom", "atom+xml")):
        found = client.get_object(Bucket=moto_s3.name, Key=f"status/{name}")
        assert found["Body"].read() == files[name]
        assert kind in found["ContentType"]
        assert "max-age" in found["CacheControl"]
    with pytest.raises(OutlastError, match="cannot publish the status page"):
        publish(place(moto_s3.url_of("status").replace(moto_s3.name, "nowhere"), tmp_path), files)


def past(number: int) -> Incident:
    """One that is over, some weeks ago, after twelve updates of a paragraph each."""
    story = Story(opened={"components": {f"Component {number % 12}": "major_outage"}})
    for minute in range(12):
        story.update(minute, "We are restoring the sites of those who lost them. " * 6)
    story.update(60, "All are back.", next_in=None, status="resolved")
    incident = replace(story.incident, id=IncidentId(f"i{number}"))
    return replace(incident, opened_at=incident.opened_at - timedelta(days=number % 80))


def test_the_page_stays_small_however_much_happened() -> None:
    """Under 100 kB with all it needs: sixty incidents in ninety days, and one that has been open for long."""
    story = Story(opened={"components": {"Component 1": "partial_outage"}})
    for minute in range(40):
        story.update(minute, f"Update {minute}. " + "We are restoring the sites of those who lost them. " * 6)
    incidents = [replace(story.incident, id=IncidentId("open")), *map(past, range(60))]
    files = site.files(make_page(SPEC, incidents, Promise(), START + timedelta(minutes=41)))
    assert b"Update 39." in files["index.html"]
    assert b"Earlier updates: 35" in files["index.html"]
    assert b"Update 0." in files["incidents/open.html"]
    for name in ("index.html", "de/index.html", "incidents/open.html"):
        assert len(files[name]) + len(files["style.css"]) + len(files["age.js"]) < 100_000, name


def test_subscribers_of_a_statuspage_are_taken_over_or_counted() -> None:
    """By component where they chose some; who left, never confirmed or has a telephone alone is counted by reason."""
    rows: list[dict[str, Any]] = [
        {"mode": "email", "email": "a@x.example", "components": ["c1", "gone"]},
        {"mode": "email", "email": "b@x.example", "components": []},
        {"mode": "webhook", "endpoint": "https://x.example/hook"},
        {"mode": "slack", "endpoint": "https://hooks.slack.com/services/T/B/secret"},
        {"mode": "slack", "endpoint": "json://10.0.0.1/inner"},
        {"mode": "sms", "phone_number": "123"},
        {"mode": "email", "email": "c@x.example", "quarantined_at": "2026-01-01T00:00:00Z"},
        {"mode": "email", "email": "d@x.example", "purge_at": "2026-12-01T00:00:00Z"},
    ]
    found, left_out = wishes(rows, {"c1": {"id": "c1", "name": "API"}})
    assert found == [
        Wish(Channel.EMAIL, "a@x.example", component="API"),
        Wish(Channel.EMAIL, "b@x.example"),
        Wish(Channel.WEBHOOK, "https://x.example/hook"),
        Wish(Channel.APPRISE, "https://hooks.slack.com/services/T/B/secret"),
    ]
    assert left_out == {
        "slack: its address is not https": 1,
        "sms: not carried over": 1,
        "quarantined by Statuspage": 1,
        "never confirmed, or has left": 1,
    }


def test_mails_leave_no_faster_than_the_mail_server_takes_them() -> None:
    """At 600 a minute one each tenth of a second; and a stop is not waited out."""
    throttle, stop = Throttle(600), threading.Event()
    started = time.monotonic()
    for _ in range(6):
        throttle.wait(stop)
    assert time.monotonic() - started >= 0.5
    stop.set()
    Throttle(1).wait(stop)
    Throttle(1).wait(stop)
