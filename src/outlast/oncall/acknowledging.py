"""What a signed link from a page does: it shows the alert, and once somebody presses the button, that person has it.

Looking changes nothing, since mail scanners look at every link. Using it is one transaction: the link is spent and the
alert acknowledged together, or neither.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sqlalchemy import Connection

from outlast.core.page import Page
from outlast.oncall import ledger, links
from outlast.oncall.escalation import State

Acknowledge = Callable[[Connection, str, str], None]
"""Acknowledges an alert (its id) for somebody (a name), in the given transaction."""


class Outcome(StrEnum):
    READY = "ready"  # may be acknowledged
    DONE = "done"  # is acknowledged, by this
    USED = "used"  # this link was used before
    ALREADY = "already"  # somebody else was first
    CLOSED = "closed"
    UNKNOWN = "unknown"  # no link of ours, or over


@dataclass(frozen=True, slots=True)
class Shown:
    """What a link leads to. `name`: for whom it is; `by`: who has the alert, if somebody has."""

    outcome: Outcome
    page: Page | None = None
    name: str = ""
    by: str | None = None
    at: datetime | None = None


def look(connection: Connection, token: str, now: datetime) -> Shown:
    """What the link would do. Changes nothing."""
    return _shown(connection, token, now)[0]


def use(connection: Connection, token: str, now: datetime, acknowledge: Acknowledge) -> Shown:
    """Acknowledge, if the link still may, in the caller's writing transaction."""
    shown, notice, alert_id = _shown(connection, token, now)
    if shown.outcome is not Outcome.READY or not ledger.use_link(connection, notice, now):
        return shown
    acknowledge(connection, alert_id, shown.name)
    return Shown(Outcome.DONE, shown.page, shown.name, shown.name, now)


def _shown(connection: Connection, token: str, now: datetime) -> tuple[Shown, int, str]:
    key = ledger.known_key(connection)
    found = links.opened(key, token, now) if key else None
    notice = ledger.alert_of_notice(connection, found.notice) if found else None
    record = ledger.record(connection, notice["alert_id"]) if notice else None
    if found is None or notice is None or record is None:
        return Shown(Outcome.UNKNOWN), 0, ""
    state, by = record.escalation.state, record.acknowledged_by
    outcome = Outcome.READY
    if state is State.CLOSED:
        outcome = Outcome.CLOSED
    elif notice["used_at"] is not None:
        outcome = Outcome.USED
    elif state is State.ACKNOWLEDGED:
        outcome = Outcome.ALREADY
    shown = Shown(outcome, record.page, notice["name"], by, record.escalation.acknowledged_at)
    return shown, found.notice, record.page.alert_id
