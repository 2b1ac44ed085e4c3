"""Opsgenie: notes on alerts, found by the mark in their text, and overrides, found by their alias.

A note is only accepted at first (202): what became of it is asked for until the vendor says.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from outlast.sources.tools.client import RefusedError
from outlast.sources.tools.writing.hand import Hand, UnclearError, each, part, time_of
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

_NOTE_MAX = 25_000
_ASKED_EVERY_S, _ASKED_FOR_S = 0.5, 60.0


class Opsgenie:
    def __init__(self, hand: Hand, terms: Terms) -> None:
        del terms
        self._hand = hand

    def cannot(self, wanted: Wanted) -> str | None:
        if isinstance(wanted, Ticket):
            return "Opsgenie takes no tickets"
        if isinstance(wanted, Comment) and wanted.table != "opsgenie.alerts":
            return f"nothing can be written on {wanted.table}"
        if isinstance(wanted, Comment) and len(_text(wanted)) > _NOTE_MAX:
            return f"it is longer than Opsgenie's {_NOTE_MAX:,} characters"
        return None

    def lag_s(self, wanted: Wanted) -> float:
        return _ASKED_FOR_S if isinstance(wanted, Comment) else 0.0

    def find(self, wanted: Wanted) -> Place | None:
        if isinstance(wanted, Turn):
            there = self._hand.known(f"{_overrides(wanted)}/{part(mark_of(wanted))}")
            return None if there is None else Place(mark_of(wanted))
        assert isinstance(wanted, Comment)
        listed = self._hand.account.connector.resource("alert_notes")
        try:
            for one in each(self._hand.pages(_notes(wanted), listed.items, listed.paging, {})):
                if mark_of(wanted) in str(one.get("note", "")):
                    return Place(mark_of(wanted), at=time_of(one.get("createdAt")))
        except RefusedError as error:
            if error.code != "gone":
                raise
        return None

    def standing(self, wanted: Wanted) -> Standing:
        if isinstance(wanted, Turn):
            return self._schedule(wanted)
        assert isinstance(wanted, Comment)
        alert = _data(self._hand.known(f"/v2/alerts/{part(wanted.key)}"))
        if alert is None:
            return Standing(f"alert {wanted.key}", gone=True)
        name = f"alert {alert.get('tinyId', wanted.key)}"
        return Standing(name, changed_at=time_of(alert.get("updatedAt")), state=str(alert.get("status", "")))

    def _schedule(self, turn: Turn) -> Standing:
        schedule = _data(self._hand.known(f"/v2/schedules/{part(turn.schedule)}"))
        if schedule is None:
            return Standing(f"schedule {turn.schedule}", gone=True)
        listed = self._hand.account.connector.resource("overrides")
        there = each(self._hand.pages(_overrides(turn), listed.items, listed.paging, {}))
        met = [one for one in there if meets(turn, one.get("startDate"), one.get("endDate"))]
        found = [one for one in met if one.get("alias") not in turn.ours]
        return Standing(f"schedule {schedule.get('name', turn.schedule)}", others=tuple(_told(one) for one in found))

    def create(self, wanted: Wanted, now: datetime) -> Place:
        if isinstance(wanted, Turn):
            body = {
                "alias": mark_of(wanted),
                "user": {"type": "user", "id": wanted.person},
                "startDate": stamped(max(wanted.start, now)),
                "endDate": stamped(wanted.end),
            }
            self._hand.post(_overrides(wanted), body)
            return Place(mark_of(wanted))
        assert isinstance(wanted, Comment)
        accepted = self._hand.post(
            _notes(wanted), {"note": _text(wanted), "user": wanted.by[:100], "source": "Outlast"}
        )
        self._await(str(accepted["requestId"]))
        found = self.find(wanted)
        return found or Place(mark_of(wanted))

    def _await(self, request: str) -> None:
        clock = self._hand.clock
        ends = clock.now() + _ASKED_FOR_S
        while True:
            told = _data(self._hand.known(f"/v2/alerts/requests/{part(request)}")) or {}
            done = told.get("isSuccess")
            if done is True:
                return
            if done is False:
                why = " ".join(str(told.get("status", "it failed")).split())[:200]
                raise RefusedError(
                    f"{self._hand.account} accepted it, and then: {why}",
                    hint="Write it there by hand and say so: outlast failback --by-hand ID=KEY",
                    status=202,
                    code="vendor-refused",
                )
            if clock.now() > ends:
                raise UnclearError(
                    f"{self._hand.account} accepted it, and does not say what became of it",
                    hint="Run the same command again: it looks whether it is there before it sends it once more.",
                )
            clock.sleep(_ASKED_EVERY_S)

    def close(self) -> None:
        self._hand.close()


def _notes(wanted: Comment) -> str:
    return f"/v2/alerts/{part(wanted.key)}/notes"


def _overrides(turn: Turn) -> str:
    return f"/v2/schedules/{part(turn.schedule)}/overrides"


def _text(wanted: Comment) -> str:
    return "\n".join(lines_of(wanted, "Opsgenie", hides=True))


def _data(answer: Any) -> Mapping[str, Any] | None:
    found = answer.get("data") if isinstance(answer, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _told(override: Mapping[str, Any]) -> str:
    user = override.get("user") or {}
    start, end = time_of(override.get("startDate")), time_of(override.get("endDate"))
    assert start is not None
    assert end is not None
    return f"{user.get('username') or user.get('id') or 'somebody'}, {minute(start)} to {minute(end)}"
