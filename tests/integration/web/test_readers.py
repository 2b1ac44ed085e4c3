"""What others read our status page with: an unmodified exporter for Statuspage pages, a feed reader, and the feed's
own grammar."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import feedparser
import pytest
from lxml import etree

from outlast.incident import site
from outlast.incident.cadence import Promise
from outlast.incident.page import ComponentSpec, PageSpec, make_page
from outlast.incident.publish import Folder, publish
from tests.unit.incident.stories import START, Story, at

COMPONENTS = (ComponentSpec("API"), ComponentSpec("Web", group="Pages"))

# The exporter's own way to look at one page, as its scheduler calls it; its settings come from the environment.
READING = """
import json, sys
from statuspage_prometheus_exporter.service_checker import SERVICES, check_service_status
print(json.dumps(check_service_status("acme", SERVICES["acme"]), default=str))
"""


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder that a plain file server serves, and its URL."""
    place = tmp_path / "published"
    place.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(place))) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield place, f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def read(tmp_path: Path, url: str) -> dict[str, Any]:
    services = tmp_path / "services.json"
    services.write_text(
        json.dumps({"acme": {"name": "Acme", "type": "status_page", "url": f"{url}/api/v2/summary.json"}})
    )
    environment = {"SERVICES_JSON_PATH": str(services), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", READING], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert isinstance(found, dict)
    return found


def written(place: Path, url: str, *stories: Story) -> None:
    spec = PageSpec("Acme", url, COMPONENTS)
    page = make_page(spec, [story.incident for story in stories], Promise(), START + timedelta(minutes=10))
    publish(Folder(place), site.files(page))


def test_an_exporter_for_statuspage_reads_ours(folder: tuple[Path, str], tmp_path: Path) -> None:
    """All well; then one incident with its component and its link; then all well again."""
    place, url = folder
    written(place, url)
    well = read(tmp_path, url)
    assert (well["success"], well["status"], well["raw_status"]) == (True, 1, "none")
    story = Story(opened={"components": {"API": "major_outage"}}).update(1, "We are on it.")
    written(place, url, story)
    out = read(tmp_path, url)
    assert (out["status"], out["raw_status"]) == (0, "critical")
    (incident,) = out["incident_metadata"]
    assert incident["name"] == "Sites are missing"
    assert incident["shortlink"] == f"{url}/incidents/i1.html"
    assert {one["name"]: one["status"] for one in out["component_metadata"]}["API"] == "major_outage"
    written(place, url, story.update(5, "Done.", next_in=None, status="resolved"))
    assert read(tmp_path, url)["raw_status"] == "none"


@pytest.mark.parametrize("name", ["history.atom", "history.rss"])
def test_feeds_are_well_formed_and_say_everything(folder: tuple[Path, str], name: str) -> None:
    """Each incident is an entry with its newest word first; markup that people typed is text."""
    place, url = folder
    story = Story(title="Sites <b>& more</b>").update(1, "First\nword.").update(4, "Second <i>word</i>.")
    written(place, url, story)
    found = feedparser.parse(str(place / name))
    assert not found.bozo, found.get("bozo_exception")
    assert found.feed.title == "Acme"
    (entry,) = found.entries
    assert entry.link == f"{url}/incidents/i1.html"
    body = entry.content[0].value if "content" in entry else entry.summary
    assert body.index("Second &lt;i&gt;") < body.index("First<br")
    assert "<i>" not in body
    if name.endswith(".atom"):
        # What RFC 4287 demands of a feed and of an entry.
        assert all(found.feed.get(one) for one in ("id", "title", "updated", "author"))
        assert all(entry.get(one) for one in ("id", "title", "updated"))
        assert datetime.fromisoformat(entry.updated).astimezone(UTC) == at(4)


ATOM = "{http://www.w3.org/2005/Atom}"
GRAMMAR = Path(__file__).with_name("atom.rng")


def wrong_by_rfc_4287(data: bytes) -> list[str]:
    """What is wrong with a feed: by the grammar of RFC 4287, and by what the RFC says in words."""
    grammar = etree.RelaxNG(etree.parse(GRAMMAR))
    feed = etree.fromstring(data)
    told = [] if grammar.validate(feed) else [str(one) for one in grammar.error_log]
    entries = feed.findall(f"{ATOM}entry")
    if feed.find(f"{ATOM}author") is None and any(one.find(f"{ATOM}author") is None for one in entries):
        told.append("4.1.1: an author, of the feed or of each entry")
    if not [one for one in feed.findall(f"{ATOM}link") if one.get("rel") == "self"]:
        told.append("4.1.1: a link to itself")
    for one in entries:
        alternates = [link for link in one.findall(f"{ATOM}link") if link.get("rel", "alternate") == "alternate"]
        if len({(link.get("type"), link.get("hreflang")) for link in alternates}) < len(alternates):
            told.append("4.1.1: no two alternate links of one type and language")
        if not alternates and one.find(f"{ATOM}content") is None:
            told.append("4.1.2: an alternate link, where there is no content")
    places = [feed.findtext(f"{ATOM}id"), *(one.findtext(f"{ATOM}id") for one in entries)]
    if len(set(places)) < len(places):
        told.append("4.1.1: no id twice")
    return told + [f"4.2.6: {place} is not absolute" for place in places if "://" not in str(place)]


@pytest.mark.parametrize(
    "stories",
    [
        [],
        [
            Story(title="Sites <b>& more</b> \x07")
            .update(1, "First\nword.")
            .update(4, "Second <i>word</i> \u2028 \x00.")
        ],
        [
            Story(id="i1").update(1, "We are on it."),
            Story(id="i2", title="").update(2, "Two at once."),
            Story(id="i3").update(1, "One.").update(5, "Done.", next_in=None, status="resolved"),
        ],
    ],
    ids=["nothing", "markup", "several"],
)
def test_the_atom_feed_is_valid_by_rfc_4287(folder: tuple[Path, str], stories: list[Story]) -> None:
    """By its RELAX NG grammar and by its rules in words, whatever people typed."""
    place, url = folder
    written(place, url, *stories)
    data = (place / "history.atom").read_bytes()
    assert wrong_by_rfc_4287(data) == []
    assert len(etree.fromstring(data).findall(f"{ATOM}entry")) == len(stories)


@pytest.mark.parametrize(
    ("was", "is_"),
    [
        (b"<updated>2026", b"<updated>26 Nov 2026"),
        (b"<author>", b"<author><email>nobody</email>"),
        (b'type="html"', b'type="markdown"'),
        (b"<title>", b"<title>twice</title><title>"),
        (b'rel="self"', b'rel="other"'),
        (b"<published>", b"<when>now</when><published>"),
    ],
)
def test_a_feed_that_is_not_valid_would_be_seen(folder: tuple[Path, str], was: bytes, is_: bytes) -> None:
    """What the test above relies on."""
    place, url = folder
    written(place, url, Story().update(1, "We are on it."))
    data = (place / "history.atom").read_bytes()
    assert was in data
    assert wrong_by_rfc_4287(data.replace(was, is_, 1))
