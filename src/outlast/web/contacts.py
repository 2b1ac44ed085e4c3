"""Contacts: everybody in the copy of the tools, how each is reached, and who of them is on call at this moment.

The page is for the hour in which somebody is to be called by hand. A viewer sees who there is and by which ways; phone
numbers and addresses are shown from the role responder on, since those who may page somebody get to know them anyway.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from outlast.oncall import overrides, roster
from outlast.oncall.clock import ScheduleError, wall, zone_of
from outlast.oncall.people import Contact, Person
from outlast.oncall.policy import Directory
from outlast.web.accounts import Role
from outlast.web.pages import render
from outlast.web.security import Viewer
from outlast.web.services import Services, services

router = APIRouter(include_in_schema=False)

_SHOWN_MAX = 200
_WAYS = {"email": "e-mail", "sms": "text message", "voice": "call", "push": "push", "whatsapp": "WhatsApp"}
_SCHEMES = {"email": "mailto", "sms": "sms", "voice": "tel"}


@dataclass(frozen=True, slots=True)
class Way:
    """One way to a person. `address` is empty where the visitor may not see it, `link` where a browser has none."""

    name: str
    address: str
    link: str


@dataclass(frozen=True, slots=True)
class Card:
    name: str
    source: str
    zone: str
    clock: str  # what time it is there; empty where the zone is not known
    ways: tuple[Way, ...]
    schedules: tuple[tuple[str, str], ...]  # that the person is on call for now: name and page


@router.get("/contacts")
def list_contacts(request: Request, visitor: Viewer, query: Annotated[str, Query(max_length=300)] = "") -> HTMLResponse:
    """Those on call come first, then everybody by name."""
    found, moment = services(request), datetime.now(UTC)
    directory = found.lookup.directory() if found.lookup else None
    cards = list(_cards(found, directory, query, moment, visitor.role)) if directory else []
    cards.sort(key=lambda one: (not one.schedules, one.name.casefold(), one.source))
    sources = sorted({one.source for one in directory.people.by_key.values()}) if directory else []
    return render(
        request, "contacts.html", visitor,
        cards=cards[:_SHOWN_MAX], more=max(0, len(cards) - _SHOWN_MAX), query=query, copied=directory is not None,
        hidden=not visitor.role.may(Role.RESPONDER),
        ages=[(one, found.lookup.copied_at(one)) for one in sources] if found.lookup else [],
    )  # fmt: skip


def _cards(found: Services, directory: Directory, query: str, moment: datetime, role: Role) -> Iterator[Card]:
    on_call = _on_call(found, directory, moment)
    words = query.casefold().split()
    for person in directory.people.by_key.values():
        about = f"{person.name} {person.email} {person.source}".casefold()
        if all(word in about for word in words):
            yield _card(person, on_call.get(person.key, ()), moment, role)


def _on_call(found: Services, directory: Directory, moment: datetime) -> Mapping[str, tuple[tuple[str, str], ...]]:
    """The schedules that each person is on call for now, by the person's key."""
    laid = overrides.laid_by_schedule(overrides.all_of(found.database))
    by_person: dict[str, tuple[tuple[str, str], ...]] = {}
    for schedule in directory.roster.schedules:
        for one in roster.now(schedule, moment, laid.get(schedule.key, ())).people:
            person = directory.people.find(schedule.source, one.id)
            if person is not None:
                place = (schedule.name, f"/oncall/{schedule.source}/{schedule.id}")
                by_person[person.key] = (*by_person.get(person.key, ()), place)
    return by_person


def _card(person: Person, schedules: tuple[tuple[str, str], ...], moment: datetime, role: Role) -> Card:
    return Card(
        name=person.name,
        source=person.source,
        zone=person.zone_name,
        clock=_clock(person.zone_name, moment),
        ways=tuple(_way(one, shown=role.may(Role.RESPONDER)) for one in person.contacts),
        schedules=schedules,
    )


def _clock(zone_name: str, moment: datetime) -> str:
    try:
        return f"{wall(moment, zone_of(zone_name)):%H:%M}"
    except ScheduleError:
        return ""


def _way(contact: Contact, *, shown: bool) -> Way:
    name = _WAYS.get(contact.method, contact.method)
    if not shown or contact.method == "push":  # a push goes to an app; what stands there is no address for people
        return Way(name, "", "")
    scheme = _SCHEMES.get(contact.method)
    return Way(name, contact.address, f"{scheme}:{contact.address}" if scheme else "")
