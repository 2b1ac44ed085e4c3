"""The status page's feeds: Atom and RSS, an entry an incident with all that was said of it."""

from __future__ import annotations

import html
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from xml.etree import ElementTree

from outlast.incident.incident import Incident, Update
from outlast.incident.page import StatusPage
from outlast.incident.words import Words, words

_ATOM = "http://www.w3.org/2005/Atom"
ENTRIES_MAX = 25


def documents(page: StatusPage) -> Mapping[str, bytes]:
    """The files by their paths below the page."""
    shown = [view.incident for view in (*page.current, *page.planned, *page.past)][:ENTRIES_MAX]
    say = words(page.spec.languages[0])
    return {"history.atom": _atom(page, shown, say), "history.rss": _rss(page, shown, say)}


def _atom(page: StatusPage, incidents: list[Incident], say: Words) -> bytes:
    ElementTree.register_namespace("", _ATOM)
    feed = ElementTree.Element(f"{{{_ATOM}}}feed", {"{http://www.w3.org/XML/1998/namespace}lang": say.language})

    def add(parent: ElementTree.Element, name: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
        child = ElementTree.SubElement(parent, f"{{{_ATOM}}}{name}", attributes)
        child.text = _xml(text)
        return child

    add(feed, "id", f"{page.spec.url}/history.atom")
    add(feed, "title", page.spec.name)
    add(feed, "updated", _rfc3339(max((_changed(one) for one in incidents), default=page.at)))
    add(feed, "link", rel="self", type="application/atom+xml", href=f"{page.spec.url}/history.atom")
    add(feed, "link", rel="alternate", type="text/html", href=f"{page.spec.url}/")
    add(add(feed, "author"), "name", page.spec.name)
    for incident in incidents:
        entry = add(feed, "entry")
        add(entry, "id", _url(page, incident))
        add(entry, "title", incident.title)
        add(entry, "published", _rfc3339(incident.opened_at))
        add(entry, "updated", _rfc3339(_changed(incident)))
        add(entry, "link", rel="alternate", type="text/html", href=_url(page, incident))
        add(entry, "content", _content(incident, say), type="html")
    return bytes(ElementTree.tostring(feed, encoding="utf-8", xml_declaration=True))


def _rss(page: StatusPage, incidents: list[Incident], say: Words) -> bytes:
    rss = ElementTree.Element("rss", version="2.0")
    channel = ElementTree.SubElement(rss, "channel")

    def add(parent: ElementTree.Element, name: str, text: str, **attributes: str) -> None:
        ElementTree.SubElement(parent, name, attributes).text = _xml(text)

    add(channel, "title", page.spec.name)
    add(channel, "link", f"{page.spec.url}/")
    add(channel, "description", page.spec.name)
    add(channel, "language", say.language)
    add(channel, "pubDate", format_datetime(max((_changed(one) for one in incidents), default=page.at)))
    for incident in incidents:
        item = ElementTree.SubElement(channel, "item")
        add(item, "title", incident.title)
        add(item, "link", _url(page, incident))
        add(item, "guid", _url(page, incident), isPermaLink="true")
        add(item, "pubDate", format_datetime(_changed(incident)))
        add(item, "description", _content(incident, say))
    return bytes(ElementTree.tostring(rss, encoding="utf-8", xml_declaration=True))


def _changed(incident: Incident) -> datetime:
    return incident.updates[-1].at if incident.updates else incident.opened_at


def _url(page: StatusPage, incident: Incident) -> str:
    return f"{page.spec.url}/incidents/{incident.id}.html"


def _content(incident: Incident, say: Words) -> str:
    """HTML, the newest update first; what people wrote is escaped."""
    return "".join(_said(update, say) for update in reversed(incident.updates))


def _said(update: Update, say: Words) -> str:
    status = html.escape(say(f"status.{update.status.value}"))
    body = html.escape(update.body(say.language)).replace("\n", "<br>")
    due = "" if update.next_at is None else f" {html.escape(say('mail.next', time=_clock(update.next_at)))}"
    return f"<p><strong>{status}</strong> {_clock(update.at)}<br>{body}{due}</p>"


def _clock(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _rfc3339(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _xml(text: str | None) -> str | None:
    """Without the control characters that XML cannot hold at all."""
    return None if text is None else "".join(one for one in text if one >= " " or one in "\n\t")
