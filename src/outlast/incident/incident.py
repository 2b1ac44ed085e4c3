"""An incident, as everybody sees it: what is affected, who leads, what was said, and when the next word is due.

Values only. An incident is never changed in place: it is what its timeline's events come to (timeline.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import NewType

from outlast.core.tenant import Tenant, TenantKey

IncidentId = NewType("IncidentId", str)
"""A short word that people type; it says when the incident was opened, and sorts by it."""


class Severity(StrEnum):
    """How bad it is. The words are those of Statuspage's `impact`, so that its readers know them."""

    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"
    MAINTENANCE = "maintenance"  # planned work: announced, and not an incident


class Status(StrEnum):
    """Where it stands, in Statuspage's words; the last three are planned work's."""

    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    RESOLVED = "resolved"
    SCHEDULED = "scheduled"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"

    @property
    def over(self) -> bool:
        return self in (Status.RESOLVED, Status.COMPLETED)


class Component(StrEnum):
    """How a component is, in Statuspage's words, the worst last."""

    OPERATIONAL = "operational"
    MAINTENANCE = "under_maintenance"
    DEGRADED = "degraded_performance"
    PARTIAL = "partial_outage"
    MAJOR = "major_outage"

    @property
    def rank(self) -> int:
        return list(Component).index(self)


class Role(StrEnum):
    COMMANDER = "commander"
    COMMUNICATIONS = "communications"


class TenantState(StrEnum):
    """What is known about one tenant's data."""

    AFFECTED = "affected"
    QUEUED = "queued"  # its restore is planned
    RESTORED = "restored"  # proven before commit
    FAILED = "failed"  # its restore was refused or failed: a person is at it


@dataclass(frozen=True, slots=True)
class Update:
    """One public word. `bodies` has a text by language; `next_at` is when the next one comes, None once it is over."""

    number: int
    at: datetime
    who: str
    status: Status
    bodies: Mapping[str, str]
    next_at: datetime | None
    scope: bool = False  # whether it says who is affected
    approved_by: str | None = None

    def body(self, language: str) -> str:
        """The text in that language, else in the first one that it was written in."""
        return self.bodies.get(language) or next(iter(self.bodies.values()))


@dataclass(frozen=True, slots=True)
class Draft:
    """An update that waits for a second person's word, or for somebody to take it up."""

    number: int
    at: datetime
    who: str
    status: Status
    bodies: Mapping[str, str]
    next_at: datetime | None
    scope: bool = False


@dataclass(frozen=True, slots=True)
class AffectedTenant:
    """`rows_missing` are rows that could not be put back; None while nobody knows. `place` counts from 1."""

    tenant: Tenant
    state: TenantState = TenantState.AFFECTED
    since: datetime | None = None
    place: int | None = None
    restored_at: datetime | None = None
    moment: str | None = None
    rows_lost: int | None = None
    rows_restored: int | None = None
    rows_missing: int | None = None
    told: frozenset[str] = frozenset()  # the states of which its contacts were written to


@dataclass(frozen=True, slots=True)
class Spell:
    """For how long a component was not as it should be. `until` is None while it still is not."""

    component: str
    state: Component
    since: datetime
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """`public` is whether customers see it. `opened_at` is when it was found, `began_at` when the trouble began."""

    id: IncidentId
    title: str
    severity: Severity
    opened_at: datetime
    opened_by: str
    began_at: datetime
    public: bool = False
    status: Status = Status.INVESTIGATING
    components: Mapping[str, Component] = field(default_factory=dict)
    spells: tuple[Spell, ...] = ()
    tenants: Mapping[TenantKey, AffectedTenant] = field(default_factory=dict)
    roles: Mapping[Role, str] = field(default_factory=dict)
    updates: tuple[Update, ...] = ()
    drafts: tuple[Draft, ...] = ()
    sources: frozenset[str] = frozenset()  # what Outlast saw that belongs to it: alarms, plans
    nudged: frozenset[str] = frozenset()  # which reminders and pages went out
    sent: frozenset[int] = frozenset()  # the updates whose letters to subscribers are in the outbox
    resolved_at: datetime | None = None
    scheduled_for: datetime | None = None
    scheduled_until: datetime | None = None
    length: int = 0  # events in its timeline: what the next one's number must follow

    @property
    def over(self) -> bool:
        return self.resolved_at is not None

    @property
    def planned(self) -> bool:
        return self.severity is Severity.MAINTENANCE

    @property
    def next_at(self) -> datetime | None:
        """When customers were told that they hear more."""
        return self.updates[-1].next_at if self.updates else None

    @property
    def scoped(self) -> bool:
        """Whether customers were told who is affected."""
        return any(update.scope for update in self.updates)

    def counted(self, state: TenantState) -> int:
        return sum(one.state is state for one in self.tenants.values())
