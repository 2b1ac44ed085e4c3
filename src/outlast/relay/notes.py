"""What paging did about an alert, in the alert's own log; and its close by an escalation that is over."""

from __future__ import annotations

import time

from sqlalchemy import Connection, insert, select

from outlast.relay.commit import Commits
from outlast.relay.event import Action, Event, Naming, Vendor, new_id
from outlast.relay.reading import find
from outlast.relay.tables import alerts, lines

BY = "Outlast"


def write(connection: Connection, alert_id: str, text: str) -> None:
    """A line of an alert's log, in the caller's transaction. Nothing where the relay has no such alert."""
    if connection.scalar(select(alerts.c.id).where(alerts.c.id == alert_id)) is None:
        return
    line = {"alert_id": alert_id, "at": time.time(), "by": BY, "kind": "paging", "text": text}
    connection.execute(insert(lines), [line])


def close(commits: Commits, alert_id: str) -> None:
    """Close an alert as anybody would: it is journaled, and passed on. From a thread."""
    event = event_of(commits, alert_id, Action.CLOSE, BY)
    if event is not None:
        commits.wait_for_taken([event])


def event_of(commits: Commits, alert_id: str, action: Action, by: str) -> Event | None:
    """The event of somebody doing something about an alert, or None where the relay has no such alert."""
    return commits.wait_for(lambda connection: event_in(connection, alert_id, action, by))


def event_in(connection: Connection, alert_id: str, action: Action, by: str) -> Event | None:
    """The same, within a transaction."""
    alert = find(connection, Naming.ID, alert_id)
    if alert is None:
        return None
    return Event(
        new_id(), time.time(), alert.integration, Vendor.DESK, action, Naming.ID, alert.id, alert.scope,
        {"user": by, "source": BY},
    )  # fmt: skip
