"""Incidents told as a list of events, for tests: a clock that is set by hand, and events numbered as they come."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from outlast.incident.incident import Incident, IncidentId
from outlast.incident.timeline import Event, Kind, fold, stamp

START = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    """That many minutes after the incident was opened."""
    return START + timedelta(minutes=minutes)


@dataclass
class Story:
    """One incident's events. Each method adds one; `incident` is what they come to."""

    severity: str = "critical"
    title: str = "Sites are missing"
    public: bool = True
    opened: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    id: str = "i1"

    def __post_init__(self) -> None:
        facts = {"title": self.title, "severity": self.severity, "public": self.public, **self.opened}
        self.add(0, Kind.OPENED, **facts)

    def add(self, minutes: float, kind: Kind, **facts: Any) -> Story:
        self.events.append(Event(IncidentId(self.id), len(self.events) + 1, at(minutes), kind, "ada", facts))
        return self

    def update(
        self, minutes: float, body: str = "We look into it.", *, next_in: float | None = 20, **facts: Any
    ) -> Story:
        due = None if next_in is None else stamp(at(minutes + next_in))
        facts = {"status": "investigating", "bodies": {"en": body}, "next_at": due, **facts}
        return self.add(minutes, Kind.UPDATED, **facts)

    @property
    def incident(self) -> Incident:
        incident = fold(self.events)
        assert incident is not None
        return incident
