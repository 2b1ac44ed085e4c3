"""The people in the copy, how each is reached, and by which rules: contacts and notification rules of both vendors.

A person's own rules say which contact is tried when. Who has none is told by every contact at once; whose rules let an
alert pass unnoticed is still written to once, by e-mail: this is read on a day on which the vendor tells nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from outlast.core.page import Page
from outlast.oncall.clock import ScheduleError, zone_of
from outlast.oncall.criteria import met
from outlast.oncall.opsgenie import windows
from outlast.oncall.roster import Documents
from outlast.oncall.schedule import Interval
from outlast.oncall.turns import opened

Document = Mapping[str, Any]

_METHODS = {"mobile": "push", "phone": "voice", "push_notification": "push", "call": "voice"}
_UNITS_S = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1, "miliseconds": 0.001, "milliseconds": 0.001}
_URGENT = ("P1", "P2", "P3")
_LOOPS_MAX = 10


@dataclass(frozen=True, slots=True)
class Contact:
    """One way to a person. `method` is email, sms, voice, push or whatsapp; an address is as its method writes it."""

    method: str
    address: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A contact to be tried, so long after the person's turn has come."""

    contact: Contact
    after: timedelta


@dataclass(frozen=True, slots=True)
class Person:
    source: str
    vendor: str
    id: str
    name: str
    email: str
    zone_name: str = "UTC"
    contacts: tuple[Contact, ...] = ()
    rules: tuple[Document, ...] = field(default=(), repr=False, compare=False)

    @property
    def key(self) -> str:
        return f"{self.source}/{self.id}"

    def attempts(self, page: Page, moment: datetime) -> tuple[Attempt, ...]:
        """What the person's rules try for this alert, in order. Contacts that no rule names are not in it."""
        if not self.rules:
            return tuple(Attempt(one, timedelta()) for one in self.contacts)
        found = self._pagerduty(page) if self.vendor == "pagerduty" else self._opsgenie(page, moment)
        if not found:
            found = [Attempt(one, timedelta()) for one in self.contacts if one.method == "email"][:1]
        return tuple(sorted(dict.fromkeys(found), key=lambda one: one.after))

    def _pagerduty(self, page: Page) -> list[Attempt]:
        urgency = "high" if page.priority in _URGENT else "low"
        methods = {str(one["id"]): one["contact"] for one in self.rules if "contact" in one}
        return [
            Attempt(methods[method], timedelta(minutes=int(one.get("start_delay_in_minutes") or 0)))
            for one in self.rules
            if one.get("urgency") == urgency and (method := str((one.get("contact_method") or {}).get("id"))) in methods
        ]

    def _opsgenie(self, page: Page, moment: datetime) -> list[Attempt]:
        rules = [
            one
            for one in self.rules
            if one.get("enabled") is not False and one.get("actionType") in (None, "create-alert")
        ]
        for rule in sorted(rules, key=lambda one: int(one.get("order") or 0)):
            if met(rule.get("criteria"), page) and self._in_hours(rule.get("timeRestriction"), moment):
                return list(_steps(rule))
        return []

    def _in_hours(self, restriction: Document | None, moment: datetime) -> bool:
        try:
            now = Interval(moment, moment + timedelta(seconds=1))
            return bool(opened(windows(restriction), zone_of(self.zone_name), now))
        except (ScheduleError, KeyError, TypeError, ValueError):
            return True  # a rule that cannot be read is followed at any hour


def _steps(rule: Document) -> Iterator[Attempt]:
    steps = [one for one in rule.get("steps") or () if one.get("enabled") is not False]
    attempts = [Attempt(contact, delay(one.get("sendAfter"))) for one in steps if (contact := _contact(one["contact"]))]
    yield from attempts
    repeat = rule.get("repeat") or {}
    if attempts and repeat.get("enabled") and int(repeat.get("loopAfter") or 0) > 0:
        length = max(one.after for one in attempts) + timedelta(minutes=int(repeat["loopAfter"]))
        for number in range(1, _LOOPS_MAX):
            yield from (Attempt(one.contact, one.after + number * length) for one in attempts)


def delay(document: Document | None) -> timedelta:
    """Opsgenie's duration; its unit is minutes where none is given."""
    given = document or {}
    return timedelta(seconds=float(given.get("timeAmount") or 0) * _UNITS_S.get(given.get("timeUnit") or "minutes", 60))


def _contact(document: Document) -> Contact | None:
    """A contact of either vendor; None where it is switched off, or there is no address."""
    status = document.get("status") or document
    address = str(document.get("to") or document.get("address") or "").strip()
    if status.get("enabled") is False or document.get("blacklisted") or not address:
        return None
    kind = document.get("method") or document.get("contactMethod") or document.get("type") or "email"
    plain = str(kind).lower().removesuffix("_reference").removesuffix("_contact_method")
    method = _METHODS.get(plain, plain)
    if method in ("sms", "voice", "whatsapp"):
        code = document.get("country_code")
        address = "+" + "".join(one for one in f"{code or ''}{address}" if one.isdigit())
    return Contact(method, address)


@dataclass(frozen=True, slots=True)
class People:
    """Everybody in the copy. A person is found by id within a source, or by e-mail address in all of them."""

    by_key: Mapping[str, Person]
    by_email: Mapping[str, Person]

    def find(self, source: str, one: str | None) -> Person | None:
        if not one:
            return None
        return self.by_key.get(f"{source}/{one}") or self.by_email.get(one.casefold())


def read(copy: Documents) -> People:
    found = [*_opsgenie(copy, "opsgenie"), *_opsgenie(copy, "jsm"), *_pagerduty(copy)]
    return People({one.key: one for one in found}, {one.email.casefold(): one for one in reversed(found) if one.email})


def _children(copy: Documents, table: str) -> dict[tuple[str, str], list[Document]]:
    found: dict[tuple[str, str], list[Document]] = {}
    for one in copy.documents(table):
        found.setdefault((one.source, (one.parent or one.key).partition("/")[0]), []).append(one.document)
    return found


def _opsgenie(copy: Documents, vendor: str) -> Iterator[Person]:
    contacts = _children(copy, f"{vendor}.contacts")
    rules = _children(copy, f"{vendor}.notification_rules")
    for one in copy.documents(f"{vendor}.users"):
        user, at = one.document, (one.source, one.key)
        if user.get("blocked"):
            continue
        email = str(user.get("username") or user.get("email") or "")
        own = contacts.get(at) or user.get("userContacts") or ([{"method": "email", "to": email}] if email else [])
        name = user.get("fullName") or user.get("displayName") or email or one.key
        zone = user.get("timeZone") or "UTC"
        yield Person(one.source, vendor, one.key, name, email, zone, _contacts(own), tuple(rules.get(at, ())))


def _pagerduty(copy: Documents) -> Iterator[Person]:
    methods = _children(copy, "pagerduty.contact_methods")
    rules = _children(copy, "pagerduty.notification_rules")
    for one in copy.documents("pagerduty.users"):
        user, at = one.document, (one.source, one.key)
        email = str(user.get("email") or "")
        own = methods.get(at) or user.get("contact_methods") or ([{"type": "email", "address": email}] if email else [])
        given: list[Document] = list(rules.get(at) or user.get("notification_rules") or ())
        # A rule names its contact by id: the contacts stand among the rules, so that the two are found together.
        named = [{"id": method.get("id"), "contact": contact} for method in own if (contact := _contact(method))]
        name, zone = user.get("name") or user.get("summary") or email or one.key, user.get("time_zone") or "UTC"
        both = (*given, *named) if given else ()
        yield Person(one.source, "pagerduty", one.key, name, email, zone, _contacts(own), both)


def _contacts(documents: Iterable[Document]) -> tuple[Contact, ...]:
    found = [contact for one in documents if (contact := _contact(one))]
    return tuple(dict.fromkeys(found))
