"""What a monitoring system, a person at the desk, or Outlast itself says about an alert: one event, in any API."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any


class Action(StrEnum):
    CREATE = "create"
    CLOSE = "close"
    ACKNOWLEDGE = "acknowledge"
    UNACKNOWLEDGE = "unacknowledge"
    NOTE = "note"
    SNOOZE = "snooze"
    ASSIGN = "assign"
    ADD_TAGS = "add-tags"
    REMOVE_TAGS = "remove-tags"
    ADD_DETAILS = "add-details"
    REMOVE_DETAILS = "remove-details"
    ADD_RESPONDER = "add-responder"
    PRIORITY = "priority"
    MESSAGE = "message"
    DESCRIPTION = "description"
    DELETE = "delete"


class Vendor(StrEnum):
    """Whose words an event is in."""

    OPSGENIE = "opsgenie"
    PAGERDUTY = "pagerduty"
    ALERTMANAGER = "alertmanager"
    DESK = "desk"  # a person at Outlast's pages
    OUTLAST = "outlast"  # Outlast itself: what happened here, told upstream as a note


class Naming(StrEnum):
    """By what an event names its alert."""

    ID = "id"
    ALIAS = "alias"
    TINY = "tiny"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing said about one alert. `id` is what the sender is given as its requestId.

    `fields` are in Opsgenie's words (message, description, tags, details, owner, endTime …), whoever sent it. `raw` is
    the sender's own body, without keys: a vendor gets what was meant for it unchanged.
    """

    id: str
    at: float  # seconds since the epoch, when it was received
    integration: str
    vendor: Vendor
    action: Action
    naming: Naming
    name: str  # the alert's id, alias or tiny id; an empty alias: this event opens an alert without one
    scope: str  # within which an alias means one alert
    fields: Mapping[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] | None = None
    upstreams: tuple[str, ...] = ()

    @property
    def by(self) -> str:
        """Who did it, as people read it."""
        return str(self.fields.get("user") or self.fields.get("source") or self.integration)


def new_id() -> str:
    return str(uuid.uuid4())


def told_time(at: float) -> str:
    """A time as the vendors' APIs write it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
