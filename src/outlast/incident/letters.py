"""Letters: an update or a notice as one subscriber gets it. Pure; sending is outbox.py's and the channels'.

A letter's id is made of what it says to whom. The same letter is thus written once, whoever asks for it how often, and
one that had to be sent again after a crash carries the same Message-ID, by which mail programs know it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from outlast.core.link import LinkKey
from outlast.incident.incident import AffectedTenant, Incident, Update
from outlast.incident.notices import clock, notice
from outlast.incident.page import PageSpec
from outlast.incident.subscribers import Channel, Subscriber, Wish
from outlast.incident.words import Words, words

CONFIRM, UNSUBSCRIBE, NOTICE = "confirm", "unsubscribe", "notice"
"""What links in letters are for."""


@dataclass(frozen=True, slots=True)
class Letter:
    """`unsubscribe` is the address that ends the subscription by one POST (RFC 8058)."""

    id: str
    channel: Channel
    address: str
    subject: str
    body: str
    subscriber: str | None = None
    incident: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Desk:
    """What letters are written with: the page they speak of, where `serve` is reached, and the key of its links."""

    page: PageSpec
    links: LinkKey
    url: str  # where the links lead, without a slash at the end

    def unsubscribe(self, subscriber: str) -> str:
        # Without an expiry: a letter that is read years later must still be able to end it.
        return f"{self.url}/unsubscribe/{self.links.make(UNSUBSCRIBE, (subscriber,), name='u')}"

    def confirm(self, subscriber: str) -> str:
        return f"{self.url}/confirm/{self.links.make(CONFIRM, (subscriber,), name='c')}"

    def notice(self, incident: str, tenant: str) -> str:
        return f"{self.url}/notice/{self.links.make(NOTICE, (incident, tenant), name='n')}"

    def said_again(self, language: str) -> str:
        """What a letter says that may have arrived already."""
        return words(self.language(language))("mail.again")

    def language(self, wanted: str) -> str:
        return wanted if wanted in self.page.languages else self.page.languages[0]


def of_update(desk: Desk, incident: Incident, update: Update, subscribers: Iterable[Subscriber]) -> Iterator[Letter]:
    """An update's letters. Who subscribed twice by one address gets one."""
    seen: set[tuple[Channel, str]] = set()
    for one in subscribers:
        place = (one.wish.channel, one.wish.address)
        if place in seen or not one.wants(incident):
            continue
        seen.add(place)
        yield Letter(
            id=_id("update", incident.id, str(update.number), *place),
            channel=one.wish.channel,
            address=one.wish.address,
            subject=_subject(desk, incident, update, one.wish.language),
            body=_webhook(desk, incident, update)
            if one.wish.channel is Channel.WEBHOOK
            else _text(desk, incident, update, one),
            subscriber=one.id,
            incident=incident.id,
        )


def _subject(desk: Desk, incident: Incident, update: Update, language: str) -> str:
    say = words(desk.language(language))
    status = say(f"status.{update.status.value}")
    return say("mail.update_subject", service=desk.page.name, title=incident.title, status=status)


def _text(desk: Desk, incident: Incident, update: Update, one: Subscriber) -> str:
    say = words(desk.language(one.wish.language))
    parts = [update.body(say.language)]
    if update.next_at is not None:
        parts.append(say("mail.next", time=clock(update.next_at)))
    parts.append(say("mail.page", url=f"{desk.page.url}/incidents/{incident.id}.html"))
    if one.wish.channel is Channel.EMAIL:
        parts.append(say("mail.unsubscribe", service=desk.page.name, url=desk.unsubscribe(one.id)))
    return "\n\n".join(parts)


def _webhook(desk: Desk, incident: Incident, update: Update) -> str:
    """The JSON that Statuspage's web hooks send, as far as it is about an incident."""
    return json.dumps(
        {
            "page": {"id": desk.page.id, "status_indicator": incident.severity.value},
            "incident": {
                "id": incident.id,
                "name": incident.title,
                "status": update.status.value,
                "impact": incident.severity.value,
                "created_at": incident.opened_at.isoformat(),
                "updated_at": update.at.isoformat(),
                "shortlink": f"{desk.page.url}/incidents/{incident.id}.html",
                "next_update_at": None if update.next_at is None else update.next_at.isoformat(),
                "incident_updates": [
                    {
                        "id": str(update.number),
                        "status": update.status.value,
                        "body": update.body(desk.page.languages[0]),
                        "created_at": update.at.isoformat(),
                    }
                ],
            },
        },
        ensure_ascii=False,
    )


def of_notice(desk: Desk, incident: Incident, own: AffectedTenant, contacts: Sequence[Wish]) -> Iterator[Letter]:
    """A tenant's own letters, one an address and state: that it is affected, and that it is restored."""
    seen: set[tuple[Channel, str]] = set()
    for contact in contacts:
        place = (contact.channel, contact.address)
        if place in seen:
            continue
        seen.add(place)
        say = words(desk.language(contact.language))
        yield Letter(
            id=_id("notice", incident.id, own.tenant.key, own.state.value, *place),
            channel=contact.channel,
            address=contact.address,
            subject=say("mail.notice_subject", service=desk.page.name, state=say(f"tenant.{own.state.value}")),
            body=_notice(desk, incident, own, say),
            incident=incident.id,
            tenant=own.tenant.key,
        )


def _notice(desk: Desk, incident: Incident, own: AffectedTenant, say: Words) -> str:
    found = notice(incident, own.tenant.key, desk.page.name, say.language)
    assert found is not None
    url = desk.notice(incident.id, own.tenant.key)
    said = [f"{say('notice.what')}: {incident.title}"]
    said += [update.body(say.language) for update in found.updates[:1]]
    if found.next_at is not None:
        said.append(say("mail.next", time=clock(found.next_at)))
    return "\n\n".join([f"{found.title}: {found.label}", *found.lines, *said, say("notice.own_link", url=url)])


def of_confirmation(desk: Desk, one: Subscriber, since: str) -> Letter:
    """The one letter that an address gets before its owner has confirmed it. `since` parts a later wish from this."""
    say = words(desk.language(one.wish.language))
    return Letter(
        id=_id("confirm", one.id, since),
        channel=one.wish.channel,
        address=one.wish.address,
        subject=say("mail.confirm_subject", service=desk.page.name),
        body=say("mail.confirm_body", service=desk.page.name, url=desk.confirm(one.id)),
        subscriber=None,
    )


def _id(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
