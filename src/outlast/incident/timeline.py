"""The timeline: everything that happened in an incident, in order, and the incident that it comes to.

Append-only. An event is written once and never changed, so that the review afterwards is what was, and so that a crash
between two writes leaves an incident that is whole. `fold` is the only place that knows what an event means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from outlast.core.tenant import Tenant, TenantKey
from outlast.incident.incident import (
    AffectedTenant,
    Component,
    Draft,
    Incident,
    IncidentId,
    Role,
    Severity,
    Spell,
    Status,
    TenantState,
    Update,
)


class Kind(StrEnum):
    OPENED = "opened"
    PUBLISHED = "published"  # a draft incident was made public
    SEVERITY = "severity"
    TITLE = "title"
    COMPONENTS = "components"
    TENANTS = "tenants"  # tenants were found to be affected
    QUEUED = "queued"  # their restore was planned
    RESTORED = "restored"  # one tenant's restore was proven
    FAILED = "failed"  # one tenant's restore was refused or failed
    TOLD = "told"  # one tenant's contacts were written to
    SENT = "sent"  # an update went to the subscribers
    ROLE = "role"
    DRAFTED = "drafted"
    REJECTED = "rejected"  # a draft was given up
    UPDATED = "updated"
    RESOLVED = "resolved"
    NOTED = "noted"  # a person's note, never public
    SEEN = "seen"  # an alarm of the tripwire, a halt
    MEANWHILE = "meanwhile"  # a rehearsal was blocked, a script ran, Outlast stands in for a tool
    NUDGED = "nudged"  # somebody was reminded or paged that a word is due


@dataclass(frozen=True, slots=True)
class Event:
    """`number` counts from 1 within the incident. `key`, where it is given, makes the event happen once only."""

    incident: IncidentId
    number: int
    at: datetime
    kind: Kind
    who: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None


def stamp(moment: datetime) -> str:
    """A time as facts hold it."""
    return moment.astimezone(UTC).isoformat()


def moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def fold(events: Iterable[Event]) -> Incident | None:
    """What the events come to; None without any. They are one incident's, in order.

    The tenants are one map that grows while it folds, and is nobody else's until then: a copy an event would cost the
    square of the tenants.
    """
    incident: Incident | None = None
    for event in events:
        if incident is None:
            incident = _opened(event)
        elif (apply := _MEANINGS.get(event.kind)) is not None:
            incident = apply(incident, event)
        incident = replace(incident, length=event.number)
        if source := event.facts.get("source"):
            incident = replace(incident, sources=incident.sources | {str(source)})
    return incident


def _opened(event: Event) -> Incident:
    assert event.kind is Kind.OPENED, f"incident {event.incident} begins with {event.kind}"
    facts = event.facts
    severity = Severity(facts["severity"])
    incident = Incident(
        id=event.incident,
        title=facts["title"],
        severity=severity,
        opened_at=event.at,
        opened_by=event.who,
        began_at=moment(facts.get("began_at")) or event.at,
        public=bool(facts.get("public")),
        status=Status.SCHEDULED if severity is Severity.MAINTENANCE else Status.INVESTIGATING,
        scheduled_for=moment(facts.get("scheduled_for")),
        scheduled_until=moment(facts.get("scheduled_until")),
    )
    return _with_components(incident, facts.get("components", {}), event.at)


def _with_components(incident: Incident, facts: Mapping[str, str], at: datetime) -> Incident:
    """Components in another state from now on. Equal states change nothing."""
    changed = {name: Component(state) for name, state in facts.items()}
    changed = {name: state for name, state in changed.items() if incident.components.get(name) is not state}
    spells = [
        replace(spell, until=at) if spell.until is None and spell.component in changed else spell
        for spell in incident.spells
    ]
    spells += [Spell(name, state, at) for name, state in changed.items() if state is not Component.OPERATIONAL]
    return replace(incident, components={**incident.components, **changed}, spells=tuple(spells))


def _published(incident: Incident, event: Event) -> Incident:
    del event
    return replace(incident, public=True)


def _severity(incident: Incident, event: Event) -> Incident:
    return replace(incident, severity=Severity(event.facts["severity"]))


def _title(incident: Incident, event: Event) -> Incident:
    return replace(incident, title=event.facts["title"])


def _affected(incident: Incident, event: Event) -> Incident:
    return _with_components(incident, event.facts["components"], event.at)


def _tenants(incident: Incident, event: Event) -> Incident:
    for key, label, rows in event.facts["tenants"]:
        known = _known(incident, event, key, label)
        tenant = Tenant(known.tenant.key, label or known.tenant.label)
        _put(incident, replace(known, tenant=tenant, rows_lost=known.rows_lost if rows is None else rows))
    return incident


def _queued(incident: Incident, event: Event) -> Incident:
    for place, (key, label) in enumerate(event.facts["tenants"], start=1):
        known = _known(incident, event, key, label)
        if known.state is not TenantState.RESTORED:
            _put(incident, replace(known, state=TenantState.QUEUED, place=place))
    return incident


def _restored(incident: Incident, event: Event) -> Incident:
    facts = event.facts
    done = replace(
        _known(incident, event, facts["tenant"], facts.get("label")),
        state=TenantState.RESTORED,
        restored_at=event.at,
        moment=facts.get("moment"),
        rows_restored=facts.get("rows"),
        rows_missing=facts.get("missing"),
    )
    return _put(incident, done)


def _failed(incident: Incident, event: Event) -> Incident:
    known = _known(incident, event, event.facts["tenant"], event.facts.get("label"))
    return _put(incident, replace(known, state=TenantState.FAILED))


def _told(incident: Incident, event: Event) -> Incident:
    known = _known(incident, event, event.facts["tenant"], None)
    return _put(incident, replace(known, told=known.told | {event.facts["state"]}))


def _known(incident: Incident, event: Event, key: str, label: str | None) -> AffectedTenant:
    known = incident.tenants.get(TenantKey(key))
    return known or AffectedTenant(Tenant(TenantKey(key), label), since=event.at)


def _put(incident: Incident, one: AffectedTenant) -> Incident:
    assert isinstance(incident.tenants, dict)
    incident.tenants[one.tenant.key] = one
    return incident


def _role(incident: Incident, event: Event) -> Incident:
    return replace(incident, roles={**incident.roles, Role(event.facts["role"]): event.facts["person"]})


def _drafted(incident: Incident, event: Event) -> Incident:
    facts = event.facts
    draft = Draft(
        number=event.number,
        at=event.at,
        who=event.who,
        status=Status(facts["status"]),
        bodies=facts["bodies"],
        next_at=moment(facts.get("next_at")),
        scope=bool(facts.get("scope")),
    )
    return replace(incident, drafts=(*incident.drafts, draft))


def _rejected(incident: Incident, event: Event) -> Incident:
    return replace(incident, drafts=tuple(one for one in incident.drafts if one.number != event.facts["draft"]))


def _updated(incident: Incident, event: Event) -> Incident:
    facts = event.facts
    update = Update(
        number=event.number,
        at=event.at,
        who=event.who,
        status=Status(facts["status"]),
        bodies=facts["bodies"],
        next_at=moment(facts.get("next_at")),
        scope=bool(facts.get("scope")),
        approved_by=facts.get("approved_by"),
    )
    drafts = tuple(one for one in incident.drafts if one.number != facts.get("draft"))
    said = replace(incident, updates=(*incident.updates, update), drafts=drafts, status=update.status, public=True)
    return _over(said, event.at) if update.status.over else said


def _resolved(incident: Incident, event: Event) -> Incident:
    """Closed without a public word: a draft that nobody published, a false alarm."""
    return _over(replace(incident, status=Status.RESOLVED), event.at)


def _over(incident: Incident, at: datetime) -> Incident:
    well = _with_components(incident, dict.fromkeys(incident.components, Component.OPERATIONAL.value), at)
    return replace(well, resolved_at=at, drafts=())


def _nudged(incident: Incident, event: Event) -> Incident:
    return replace(incident, nudged=incident.nudged | {event.facts["nudge"]})


def _sent(incident: Incident, event: Event) -> Incident:
    return replace(incident, sent=incident.sent | {event.facts["update"]})


_MEANINGS: Mapping[Kind, Callable[[Incident, Event], Incident]] = {
    Kind.PUBLISHED: _published,
    Kind.SEVERITY: _severity,
    Kind.TITLE: _title,
    Kind.COMPONENTS: _affected,
    Kind.TENANTS: _tenants,
    Kind.QUEUED: _queued,
    Kind.RESTORED: _restored,
    Kind.FAILED: _failed,
    Kind.TOLD: _told,
    Kind.SENT: _sent,
    Kind.ROLE: _role,
    Kind.DRAFTED: _drafted,
    Kind.REJECTED: _rejected,
    Kind.UPDATED: _updated,
    Kind.RESOLVED: _resolved,
    Kind.NUDGED: _nudged,
}
