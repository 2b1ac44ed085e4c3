"""A page: why somebody has to be woken up for an alert, as the relay hands it to paging. Pure values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Responder:
    """Whom an alert is for, as its sender named it: `type` is team, user, escalation or schedule."""

    type: str
    id: str | None = None
    name: str | None = None  # a team's or schedule's name, a user's e-mail address


@dataclass(frozen=True, slots=True)
class Page:
    """One alert that the vendor did not take, and that Outlast pages for. `alert_id` is its identity: one page each."""

    alert_id: str
    event_id: str  # the relay's event that opened it
    integration: str  # the name of the integration it came by
    message: str
    priority: str  # P1 (critical) to P5
    at: datetime  # when the event was accepted
    reason: str  # why Outlast pages and not the vendor, for people
    description: str = ""
    source: str = ""
    responders: Sequence[Responder] = ()
    tags: Sequence[str] = ()
    details: Mapping[str, str] = field(default_factory=dict)
    service: str | None = None  # PagerDuty: the service that the integration belongs to, where it is known
    doubtful: bool = False  # the vendor may have paged as well: its answer was lost
