"""PagerDuty: notes on incidents, found by the mark in their text, and overrides, which carry no mark.

An override is known by its user, its end and a start within the hours that were wanted: no two of the same say more
than one. Notes need a sender (`From`), the address of one of the account's users.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from outlast.sources.tools.client import RefusedError
from outlast.sources.tools.writing.hand import Hand, each, part, time_of
from outlast.sources.tools.writing.writer import (
    Comment,
    Place,
    Standing,
    Terms,
    Ticket,
    Turn,
    Wanted,
    lines_of,
    mark_of,
    meets,
    minute,
    stamped,
)

_SLACK = timedelta(seconds=61)
"""Times are cut to seconds, or to a minute, on the way."""


class PagerDuty:
    def __init__(self, hand: Hand, terms: Terms) -> None:
        self._hand = hand
        self._sender = terms.sender

    def cannot(self, wanted: Wanted) -> str | None:
        if isinstance(wanted, Ticket):
            return "PagerDuty takes no tickets"
        if isinstance(wanted, Comment) and wanted.table != "pagerduty.incidents":
            return f"nothing can be written on {wanted.table}"
        if isinstance(wanted, Comment) and not self._sender:
            name = self._hand.account.name
            return f'PagerDuty wants the address of one of its users: write_user = "…" in [sources.{name}]'
        return None

    def lag_s(self, wanted: Wanted) -> float:
        del wanted
        return 0.0

    def find(self, wanted: Wanted) -> Place | None:
        if isinstance(wanted, Turn):
            mine = (one for one in self._overrides(wanted) if _is(wanted, one))
            return next((Place(str(one["id"])) for one in mine), None)
        assert isinstance(wanted, Comment)
        answer = self._hand.known(f"/incidents/{part(wanted.key)}/notes") or {}
        for note in answer.get("notes", []):
            if mark_of(wanted) in str(note.get("content", "")):
                return _note(note)
        return None

    def standing(self, wanted: Wanted) -> Standing:
        if isinstance(wanted, Turn):
            return self._schedule(wanted)
        assert isinstance(wanted, Comment)
        incident = (self._hand.known(f"/incidents/{part(wanted.key)}") or {}).get("incident")
        if incident is None:
            return Standing(f"incident {wanted.key}", gone=True)
        changed = time_of(incident.get("updated_at")) or time_of(incident.get("last_status_change_at"))
        name = f"incident {incident.get('incident_number', wanted.key)}"
        return Standing(name, changed_at=changed, state=str(incident.get("status", "")))

    def _schedule(self, turn: Turn) -> Standing:
        schedule = (self._hand.known(f"/schedules/{part(turn.schedule)}") or {}).get("schedule")
        if schedule is None:
            if self._hand.known(f"/v3/schedules/{part(turn.schedule)}") is not None:
                return Standing(
                    f"schedule {turn.schedule}", cannot="overrides of shift-based schedules are set by hand"
                )
            return Standing(f"schedule {turn.schedule}", gone=True)
        met = [one for one in self._overrides(turn) if meets(turn, one.get("start"), one.get("end"))]
        found = [one for one in met if not _is(turn, one) and one.get("id") not in turn.ours]
        name = f"schedule {schedule.get('name') or schedule.get('summary') or turn.schedule}"
        return Standing(name, others=tuple(_told(one) for one in found))

    def create(self, wanted: Wanted, now: datetime) -> Place:
        if isinstance(wanted, Turn):
            return self._set(wanted, now)
        assert isinstance(wanted, Comment)
        assert self._sender is not None
        body = {"note": {"content": "\n".join(lines_of(wanted, "PagerDuty"))}}
        answer = self._hand.post(f"/incidents/{part(wanted.key)}/notes", body, {"From": self._sender})
        return _note(answer["note"])

    def _set(self, turn: Turn, now: datetime) -> Place:
        override = {
            "start": stamped(max(turn.start, now)),
            "end": stamped(turn.end),
            "user": {"id": turn.person, "type": "user_reference"},
        }
        answer = self._hand.post(f"/schedules/{part(turn.schedule)}/overrides", {"overrides": [override]})
        said = answer[0] if isinstance(answer, list) and answer and isinstance(answer[0], Mapping) else {}
        if said.get("status", 201) != 201 or "id" not in (said.get("override") or {}):
            why = "; ".join(str(one) for one in said.get("errors") or ["it does not say why"])[:200]
            raise RefusedError(
                f"{self._hand.account} does not set the override: {why}",
                hint="Set it there by hand and say so: outlast failback --by-hand ID=KEY",
                status=int(said.get("status", 400)),
                code="vendor-refused",
            )
        return Place(str(said["override"]["id"]))

    def close(self) -> None:
        self._hand.close()

    def _overrides(self, turn: Turn) -> list[dict[str, Any]]:
        """Those that are set in the hours of a turn."""
        listed = self._hand.account.connector.resource("overrides")
        hours = {"since": stamped(turn.start), "until": stamped(turn.end)}
        where = f"/schedules/{part(turn.schedule)}/overrides"
        try:
            return list(each(self._hand.pages(where, listed.items, listed.paging, hours)))
        except RefusedError as error:
            if error.code == "gone":
                return []
            raise


def _is(turn: Turn, override: Mapping[str, Any]) -> bool:
    start, end = time_of(override.get("start")), time_of(override.get("end"))
    person = (override.get("user") or {}).get("id")
    if start is None or end is None or person != turn.person:
        return False
    # It began when it was sent, where the turn had begun before: an attempt that was cut off says when.
    latest = max(turn.start, turn.attempted_at or turn.start) + _SLACK
    return turn.start - _SLACK < start < latest and abs(end - turn.end) < _SLACK


def _note(note: Mapping[str, Any]) -> Place:
    return Place(str(note["id"]), at=time_of(note.get("created_at")))


def _told(override: Mapping[str, Any]) -> str:
    user = override.get("user") or {}
    start, end = time_of(override.get("start")), time_of(override.get("end"))
    assert start is not None
    assert end is not None
    return f"{user.get('summary') or user.get('id') or 'somebody'}, {minute(start)} to {minute(end)}"
