"""An alert, and what an event makes of it. Pure: journal.py keeps both.

One alert is open per scope and alias. A further create while it is open counts it up, as the vendors do; after it was
closed a create opens a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from outlast.relay.event import Action, Event

PRIORITY = "P3"
OPEN = "open"
CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert as it stands. Times are seconds since the epoch."""

    id: str
    tiny: int
    scope: str
    alias: str
    integration: str
    message: str
    created_at: float
    updated_at: float
    last_at: float
    status: str = OPEN
    acknowledged: bool = False
    snoozed_until: float | None = None
    owner: str = ""
    priority: str = PRIORITY
    count: int = 1
    source: str = ""
    entity: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    details: Mapping[str, str] | None = None
    responders: tuple[Mapping[str, str], ...] = ()
    actions: tuple[str, ...] = ()
    acknowledged_by: str = ""
    acknowledged_at: float | None = None
    closed_by: str = ""
    closed_at: float | None = None
    paged_at: float | None = None
    upstreams: tuple[str, ...] = ()

    @property
    def is_open(self) -> bool:
        return self.status == OPEN

    def waits_for_somebody(self, now: float) -> bool:
        """Whether it is open and nobody has it."""
        return self.is_open and not self.acknowledged and (self.snoozed_until is None or self.snoozed_until <= now)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an event came to. `alert` is None where there is none that it could be about."""

    alert: Alert | None
    status: str
    lines: tuple[tuple[str, str], ...] = ()  # (kind, text) for the alert's own log; kind "note" is a person's

    @property
    def success(self) -> bool:
        return self.alert is not None


NOT_THERE = Outcome(None, "Alert does not exist")


def opened(event: Event, alert_id: str, tiny: int) -> Outcome:
    """A new alert."""
    fields = event.fields
    alert = Alert(
        id=alert_id,
        tiny=tiny,
        scope=event.scope,
        alias=event.name or alert_id,
        integration=event.integration,
        message=str(fields.get("message", "")),
        created_at=event.at,
        updated_at=event.at,
        last_at=event.at,
        priority=fields.get("priority") or PRIORITY,
        source=str(fields.get("source") or ""),
        entity=str(fields.get("entity") or ""),
        description=str(fields.get("description") or ""),
        tags=tuple(dict.fromkeys(fields.get("tags") or ())),
        details=fields.get("details") or None,
        responders=tuple(fields.get("responders") or ()),
        actions=tuple(fields.get("actions") or ()),
        upstreams=event.upstreams,
    )
    return Outcome(alert, "Created alert", (("created", ""), *_note(event)))


def changed(alert: Alert, event: Event) -> Outcome:
    """An alert that is there, after the event."""
    return _CHANGES[event.action](replace(alert, updated_at=max(alert.updated_at, event.at)), event)


def _note(event: Event) -> tuple[tuple[str, str], ...]:
    note = event.fields.get("note")
    return (("note", str(note)),) if note else ()


def _create(alert: Alert, event: Event) -> Outcome:
    counted = replace(alert, count=alert.count + 1, last_at=event.at)
    return Outcome(counted, "Alert count is increased", _note(event))


def _close(alert: Alert, event: Event) -> Outcome:
    if not alert.is_open:
        return Outcome(alert, "Alert is already closed", _note(event))
    closed = replace(alert, status=CLOSED, closed_by=event.by, closed_at=event.at, snoozed_until=None)
    return Outcome(closed, "Closed alert", (("closed", ""), *_note(event)))


def _acknowledge(alert: Alert, event: Event) -> Outcome:
    if not alert.is_open or alert.acknowledged:
        return Outcome(alert, "Alert is already acknowledged" if alert.is_open else "Alert is closed", _note(event))
    taken = replace(alert, acknowledged=True, acknowledged_by=event.by, acknowledged_at=event.at, snoozed_until=None)
    return Outcome(taken, "Acknowledged alert", (("acknowledged", ""), *_note(event)))


def _unacknowledge(alert: Alert, event: Event) -> Outcome:
    if not alert.is_open or not alert.acknowledged:
        return Outcome(alert, "Alert is not acknowledged", _note(event))
    freed = replace(alert, acknowledged=False, acknowledged_by="", acknowledged_at=None)
    return Outcome(freed, "UnAcknowledged alert", (("unacknowledged", ""), *_note(event)))


def _noted(alert: Alert, event: Event) -> Outcome:
    return Outcome(alert, "Added note", _note(event))


def _snooze(alert: Alert, event: Event) -> Outcome:
    if not alert.is_open:
        return Outcome(alert, "Alert is closed", _note(event))
    until = instant(event.fields["endTime"])
    taken = replace(alert, snoozed_until=until, acknowledged=False)
    return Outcome(taken, "Snoozed alert", (("snoozed", f"until {event.fields['endTime']}"), *_note(event)))


def _assign(alert: Alert, event: Event) -> Outcome:
    owner = str(event.fields["owner"])
    return Outcome(replace(alert, owner=owner), "Assigned alert", (("assigned", f"to {owner}"), *_note(event)))


def _add_tags(alert: Alert, event: Event) -> Outcome:
    tags = tuple(dict.fromkeys((*alert.tags, *event.fields["tags"])))
    return Outcome(replace(alert, tags=tags), "Added tags", (("tags", f"+ {', '.join(event.fields['tags'])}"),))


def _remove_tags(alert: Alert, event: Event) -> Outcome:
    gone = set(event.fields["tags"])
    tags = tuple(tag for tag in alert.tags if tag not in gone)
    return Outcome(replace(alert, tags=tags), "Removed tags", (("tags", f"- {', '.join(sorted(gone))}"),))


def _add_details(alert: Alert, event: Event) -> Outcome:
    added = event.fields["details"]
    details = {**(alert.details or {}), **added}
    return Outcome(replace(alert, details=details), "Added details", (("details", f"+ {', '.join(added)}"),))


def _remove_details(alert: Alert, event: Event) -> Outcome:
    gone = set(event.fields["keys"])
    details = {key: value for key, value in (alert.details or {}).items() if key not in gone}
    told = (("details", f"- {', '.join(sorted(gone))}"),)
    return Outcome(replace(alert, details=details or None), "Removed details", told)


def _add_responder(alert: Alert, event: Event) -> Outcome:
    responder = event.fields["responder"]
    if responder in alert.responders:
        return Outcome(alert, "Responder is already there")
    named = responder.get("name") or responder.get("username") or responder.get("id") or ""
    more = replace(alert, responders=(*alert.responders, responder))
    return Outcome(more, "Added responder", (("responder", f"{responder.get('type', '')} {named}".strip()),))


def _priority(alert: Alert, event: Event) -> Outcome:
    priority = str(event.fields["priority"])
    return Outcome(replace(alert, priority=priority), "Updated priority", (("priority", priority),))


def _message(alert: Alert, event: Event) -> Outcome:
    return Outcome(replace(alert, message=str(event.fields["message"])), "Updated message", (("message", ""),))


def _description(alert: Alert, event: Event) -> Outcome:
    told = (("description", ""),)
    return Outcome(replace(alert, description=str(event.fields["description"])), "Updated description", told)


def _delete(alert: Alert, event: Event) -> Outcome:
    # Kept as closed: what was accepted once is never forgotten here, whatever the vendor does with it.
    closed = _close(alert, event)
    return replace(closed, status="Deleted alert", lines=(("deleted", ""),))


_CHANGES: Mapping[Action, Callable[[Alert, Event], Outcome]] = {
    Action.CREATE: _create,
    Action.CLOSE: _close,
    Action.ACKNOWLEDGE: _acknowledge,
    Action.UNACKNOWLEDGE: _unacknowledge,
    Action.NOTE: _noted,
    Action.SNOOZE: _snooze,
    Action.ASSIGN: _assign,
    Action.ADD_TAGS: _add_tags,
    Action.REMOVE_TAGS: _remove_tags,
    Action.ADD_DETAILS: _add_details,
    Action.REMOVE_DETAILS: _remove_details,
    Action.ADD_RESPONDER: _add_responder,
    Action.PRIORITY: _priority,
    Action.MESSAGE: _message,
    Action.DESCRIPTION: _description,
    Action.DELETE: _delete,
}


def instant(text: Any) -> float:
    """An ISO 8601 time as seconds since the epoch; without a zone it is UTC. Raises ValueError."""
    moment = datetime.fromisoformat(str(text))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
