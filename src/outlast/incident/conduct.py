"""How an incident is led: who may say what, and when. Every rule about words is here or in cadence.py.

A public word states when the next one comes, and where [incident] approval is set it needs a second person. Reads the
journal, decides, appends; what others wrote meanwhile is judged anew, since the decision is made on what was loaded.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from outlast.core.errors import NotFoundError, Refused, UsageError
from outlast.core.tenant import Tenant
from outlast.incident import drafting
from outlast.incident.cadence import Promise, check_next
from outlast.incident.incident import Component, Draft, Incident, Role, Severity, Status
from outlast.incident.journal import Entry, Journal
from outlast.incident.notices import clock
from outlast.incident.timeline import Event, Kind, fold, stamp

TITLE_MAX = 200
BODY_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What outlast.toml says about incidents."""

    promise: Promise = field(default_factory=Promise)
    approval: bool = False
    languages: tuple[str, ...] = ("en",)
    components: tuple[str, ...] = ()
    writes: bool = False  # affected tenants have contacts, and letters leave


@dataclass(frozen=True, slots=True)
class Opening:
    """What is known of an incident when it is opened."""

    title: str
    severity: Severity
    public: bool = False
    began_at: datetime | None = None
    components: Mapping[str, Component] = field(default_factory=dict)
    tenants: Sequence[tuple[Tenant, int | None]] = ()  # with the rows that each lost, where that is known
    roles: Mapping[Role, str] = field(default_factory=dict)
    source: str | None = None
    scheduled: tuple[datetime, datetime] | None = None


@dataclass(frozen=True, slots=True)
class Saying:
    """A word to be said. `body` is in the page's first language; `bodies` has others. Without any: from the facts."""

    status: Status | None = None
    body: str | None = None
    bodies: Mapping[str, str] = field(default_factory=dict)
    next_at: datetime | None = None
    scope: bool | None = None


class Conduct:
    """One person's or Outlast's own acts; `who` is the name that stands in the timeline."""

    def __init__(self, journal: Journal, rules: Rules) -> None:
        self.journal = journal
        self.rules = rules

    def open(self, opening: Opening, who: str, now: datetime) -> tuple[Incident, bool]:
        """A new incident; with `public` its first word is published at once. False where its source has one."""
        self._check_components(opening.components)
        facts: dict[str, Any] = {
            "title": plain(opening.title, TITLE_MAX, "title"),
            "severity": opening.severity.value,
            "components": {name: state.value for name, state in opening.components.items()},
            "source": opening.source,
        }
        if opening.began_at is not None:
            facts["began_at"] = stamp(opening.began_at)
        if opening.scheduled is not None:
            facts["scheduled_for"], facts["scheduled_until"] = (stamp(one) for one in opening.scheduled)
        more = [Entry(Kind.ROLE, {"role": role.value, "person": name}) for role, name in opening.roles.items()]
        if opening.tenants:
            more.append(_affected(opening.tenants))
        incident, new = self.journal.open(Entry(Kind.OPENED, facts), who, now, more, source=opening.source)
        if new and opening.public:
            incident = self.say_first(incident, who, now)
        return incident, new

    def say_first(self, incident: Incident, who: str, now: datetime) -> Incident:
        """Publish the first word from its template."""
        bodies = drafting.first_word(incident, self.rules.languages, writes=self.rules.writes)
        status = Status.SCHEDULED if incident.planned else Status.INVESTIGATING
        saying = Saying(status, bodies=bodies, next_at=self.promised(incident, now), scope=bool(incident.tenants))
        return self.say(incident.id, saying, who, now)

    def say(self, name: str, saying: Saying, who: str, now: datetime) -> Incident:
        """Publish an update; where approval is needed it becomes a draft that waits for another person."""
        incident = self.journal.load(name)
        facts = self._facts(incident, saying, now)
        kind = Kind.DRAFTED if self.rules.approval else Kind.UPDATED
        return self.journal.append(incident.id, [Entry(kind, facts)], who, now)

    def draft(self, name: str, saying: Saying, who: str, now: datetime, *, key: str | None = None) -> Incident:
        """Write an update that nobody sees until somebody approves it."""
        incident = self.journal.load(name)
        return self.journal.append(
            incident.id, [Entry(Kind.DRAFTED, self._facts(incident, saying, now), key)], who, now
        )

    def approve(self, name: str, number: int, who: str, now: datetime, *, next_at: datetime | None = None) -> Incident:
        """Publish a draft. Under the rule of two its author may not."""
        incident = self.journal.load(name)
        draft = _draft(incident, number)
        if self.rules.approval and who == draft.who:
            raise Refused(
                f"cannot approve draft {number} of {name}: {who} wrote it, and [incident] approval asks for another",
                hint=f"Have somebody else run: outlast incident approve {name} {number}",
                code="two-persons",
            )
        due = next_at or draft.next_at
        if due is not None and due <= now:  # it waited for longer than it promised: counted from now instead
            due = self.promised(incident, now)
        check_next(incident, self.rules.promise, draft.status, due, now)
        facts = {
            "status": draft.status.value,
            "bodies": dict(draft.bodies),
            "next_at": None if due is None else stamp(due),
            "scope": draft.scope,
            "draft": number,
            "approved_by": who,
        }
        return self.journal.append(incident.id, [Entry(Kind.UPDATED, facts, f"draft {number}")], draft.who, now)

    def reject(self, name: str, number: int, who: str, now: datetime) -> Incident:
        incident = self.journal.load(name)
        _draft(incident, number)
        return self.journal.append(incident.id, [Entry(Kind.REJECTED, {"draft": number})], who, now)

    def resolve(self, name: str, saying: Saying, who: str, now: datetime) -> Incident:
        """Say the last word. An incident that customers never heard of ends without one."""
        incident = self.journal.load(name)
        if not incident.public and saying.body is None and not saying.bodies:
            _refuse_over(incident)
            return self.journal.append(incident.id, [Entry(Kind.RESOLVED)], who, now)
        over = Status.COMPLETED if incident.planned else Status.RESOLVED
        if saying.body is None and not saying.bodies:
            saying = Saying(over, bodies=drafting.last_word(incident, self.rules.languages))
        return self.say(name, Saying(over, saying.body, saying.bodies), who, now)

    def affect(
        self,
        name: str,
        who: str,
        now: datetime,
        *,
        tenants: Sequence[tuple[Tenant, int | None]] = (),
        components: Mapping[str, Component] | None = None,
        severity: Severity | None = None,
        roles: Mapping[Role, str] | None = None,
        note: str | None = None,
        saying: Saying | None = None,
        draft: bool = False,
    ) -> Incident:
        """Write down what was found out, and with `saying` what is said of it; where that is refused, neither."""
        incident = self.journal.load(name)
        self._check_components(components or {})
        entries = [_affected(tenants)] if tenants else []
        if components:
            entries.append(Entry(Kind.COMPONENTS, {"components": {key: one.value for key, one in components.items()}}))
        if severity is not None:
            entries.append(Entry(Kind.SEVERITY, {"severity": severity.value}))
        entries += [Entry(Kind.ROLE, {"role": role.value, "person": person}) for role, person in (roles or {}).items()]
        if note is not None:
            entries.append(Entry(Kind.NOTED, {"text": plain(note, BODY_MAX, "note")}))
        if saying is not None:
            facts = self._facts(self._after(incident, entries, who, now), saying, now)
            entries.append(Entry(Kind.DRAFTED if draft or self.rules.approval else Kind.UPDATED, facts))
        return self.journal.append(incident.id, entries, who, now) if entries else incident

    def _after(self, incident: Incident, entries: Sequence[Entry], who: str, now: datetime) -> Incident:
        """What it would be with these: a lower severity promises less, in the same update too."""
        more = [
            Event(incident.id, incident.length + number, now, entry.kind, who, entry.facts, entry.key)
            for number, entry in enumerate(entries, 1)
        ]
        return fold([*self.journal.events(incident.id), *more]) or incident

    def promised(self, incident: Incident, now: datetime) -> datetime | None:
        """When the next word comes if nobody says otherwise: after the severity's interval."""
        interval = self.rules.promise.interval(incident.severity)
        return None if interval is None else now + interval

    def _facts(self, incident: Incident, saying: Saying, now: datetime) -> dict[str, Any]:
        _refuse_over(incident)
        status = saying.status or drafting.status_of(incident)
        check_next(incident, self.rules.promise, status, saying.next_at, now)
        bodies = dict(saying.bodies)
        if saying.body is not None:
            bodies = {self.rules.languages[0]: saying.body, **bodies}
        drafted = not bodies
        if drafted:
            bodies = dict(drafting.progress(incident, self.rules.languages, now, writes=self.rules.writes))
        scope = bool(incident.tenants) and not incident.scoped if saying.scope is None and drafted else saying.scope
        return {
            "status": status.value,
            "bodies": {language: plain(body, BODY_MAX, "update") for language, body in bodies.items()},
            "next_at": None if status.over or saying.next_at is None else stamp(saying.next_at),
            "scope": bool(scope),
        }

    def _check_components(self, components: Mapping[str, Component]) -> None:
        for name in components:
            if name not in self.rules.components:
                known = ", ".join(self.rules.components) or "none"
                raise UsageError(
                    f"there is no component {name!r} on the status page", hint=f"[page] components has: {known}."
                )


def _affected(tenants: Sequence[tuple[Tenant, int | None]]) -> Entry:
    return Entry(Kind.TENANTS, {"tenants": [[one.key, one.label, rows] for one, rows in tenants]})


def _draft(incident: Incident, number: int) -> Draft:
    for draft in incident.drafts:
        if draft.number == number:
            return draft
    known = ", ".join(str(one.number) for one in incident.drafts) or "none"
    raise NotFoundError(f"there is no draft {number} in {incident.id}", hint=f"It has: {known}.")


def _refuse_over(incident: Incident) -> None:
    if incident.over:
        raise Refused(
            f"cannot go on with {incident.id}: it was resolved at {clock(incident.resolved_at or incident.opened_at)}",
            hint="Open a new one: outlast incident open TITLE",
            code="resolved",
        )


def plain(text: str, length_max: int, noun: str) -> str:
    """Text as people type it, without control characters. Raises UsageError where nothing or too much is left."""
    kept = "".join(one for one in text if one == "\n" or unicodedata.category(one) not in ("Cc", "Cs")).strip()
    if not kept or len(kept) > length_max:
        what = "is empty" if not kept else f"has {len(kept):,} characters"
        raise UsageError(f"the {noun} {what}", hint=f"Write between 1 and {length_max:,} characters.")
    return kept
