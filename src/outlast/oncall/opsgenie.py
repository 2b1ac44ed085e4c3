"""Opsgenie's rules of who is on call, which Jira Service Management has as well.

A schedule has rotations, and whoever any of them has on call is on call (cumulative). A rotation's participants (user,
team, escalation, or none) take turns of `length` hours, days or weeks from its start on, within its time restriction,
until its end. Overrides replace whoever is on call in the rotations that they name, or in all; forwarding rules come
last. From the vendor's documents as its API gives them; nothing is asked of anybody.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from outlast.oncall.clock import ScheduleError, moment_of, zone_of
from outlast.oncall.schedule import (
    NOBODY,
    Forwarding,
    Interval,
    Override,
    Responder,
    Shift,
    clipped,
    forwarded,
    joined,
    overridden,
)
from outlast.oncall.turns import DAY, Window, opened, turns

Document = Mapping[str, Any]

_UNITS = {"hourly": timedelta(hours=1), "daily": DAY, "weekly": 7 * DAY}
_WEEK = 7 * DAY
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_NOBODY = ("none", "noone", "no-one")


def final_shifts(
    schedule: Document, overrides: Sequence[Document], forwardings: Sequence[Document], interval: Interval
) -> tuple[Shift, ...]:
    """Who is on call within the interval, computed. A schedule that is off has nobody. Raises ScheduleError."""
    if schedule.get("enabled") is False:
        return ()
    zone = zone_of(schedule.get("timezone") or schedule.get("timeZone") or "UTC")
    rotations = [one for one in schedule.get("rotations") or () if one.get("enabled") is not False]
    base = [shift for rotation in rotations for shift in rotation_shifts(rotation, zone, interval)]
    ids = {name: one["id"] for one in rotations for name in (one.get("name"), one["id"]) if name}
    laid = overridden(base, list(_overrides(overrides, ids)))
    sent = forwarded(laid, [_forwarding(one) for one in forwardings])
    return joined(clipped(sent, interval))


def rotation_shifts(rotation: Document, zone: ZoneInfo, interval: Interval) -> Iterator[Shift]:
    """One rotation's own shifts, nobody's turns included."""
    participants = [responder(one) for one in rotation.get("participants") or ()]
    active = _active(rotation, zone, interval)
    if not participants or active is None:
        return
    unit = _UNITS.get(str(rotation.get("type") or "weekly").lower())
    if unit is None:
        raise ScheduleError(f"rotation {rotation.get('name')!r} is {rotation.get('type')!r}, which is not known")
    start = moment_of(rotation["startDate"], zone)
    hours = opened(windows(rotation.get("timeRestriction")), zone, active)
    for turn in turns(start, unit * int(rotation.get("length") or 1), zone, active):
        person = participants[turn.number % len(participants)]
        for part in (found for hour in hours if (found := turn.interval.cut(hour))):
            yield Shift(person, part.start, part.end, rotation["id"], rotation.get("name") or "")


def _active(rotation: Document, zone: ZoneInfo, interval: Interval) -> Interval | None:
    end = rotation.get("endDate")
    until = moment_of(end, zone) if end else interval.end
    return interval.cut(Interval(moment_of(rotation["startDate"], zone), until))


def windows(restriction: Document | None) -> list[Window]:
    """A time restriction's hours. Without one there are none, which means always."""
    if not restriction:
        return []
    if restriction.get("type") == "weekday-and-time-of-day":
        given = restriction.get("restrictions") or ()
        return [Window.between(_WEEK, _of_week(one, "start"), _of_week(one, "end")) for one in given]
    hours = [one for one in (restriction.get("restriction"), *(restriction.get("restrictions") or ())) if one]
    return [Window.between(DAY, _time(one, "start"), _time(one, "end")) for one in hours]


def _time(restriction: Document, edge: str) -> timedelta:
    return timedelta(hours=int(restriction.get(f"{edge}Hour") or 0), minutes=int(restriction.get(f"{edge}Min") or 0))


def _of_week(restriction: Document, edge: str) -> timedelta:
    day = str(restriction.get(f"{edge}Day")).lower()
    if day not in _DAYS:
        raise ScheduleError(f"a time restriction has {restriction.get(f'{edge}Day')!r} for a weekday")
    return _DAYS.index(day) * DAY + _time(restriction, edge)


def responder(document: Document | None) -> Responder:
    """A participant or recipient of Opsgenie's; without a type it is a user."""
    kind = str((document or {}).get("type") or "user").lower()
    if document is None or kind in _NOBODY:
        return NOBODY
    name = document.get("username") or document.get("fullName") or document.get("name") or ""
    return Responder(kind, str(document.get("id") or name), name)


def _overrides(documents: Sequence[Document], rotations: Mapping[str, str]) -> Iterator[Override]:
    for document in documents:
        named = document.get("rotations") or ()
        found = [rotations.get(one.get("id") or "") or rotations.get(one.get("name") or "") for one in named]
        origins = tuple(one for one in found if one)
        if named and not origins:
            continue  # the rotations that it was for are gone, or switched off: it must not become one of all
        yield Override(
            responder(document.get("user") or document.get("responder")),
            moment_of(document["startDate"]),
            moment_of(document["endDate"]),
            origins,
            document.get("alias") or "override",
        )


def _forwarding(document: Document) -> Forwarding:
    return Forwarding(
        responder(document["fromUser"]),
        responder(document["toUser"]),
        moment_of(document["startDate"]),
        moment_of(document["endDate"]),
    )


def rendered(timeline: Document) -> tuple[Interval, tuple[Shift, ...]] | None:
    """The vendor's own final timeline and the interval that it is of; None where there is none in the document."""
    final = timeline.get("finalTimeline")
    if not final or not timeline.get("startDate") or not timeline.get("endDate"):
        return None
    interval = Interval(moment_of(timeline["startDate"]), moment_of(timeline["endDate"]))
    shifts = [
        Shift(
            responder(period.get("recipient")),
            moment_of(period["startDate"]),
            moment_of(period["endDate"]),
            str(rotation.get("id") or ""),
            rotation.get("name") or "",
        )
        for rotation in final.get("rotations") or ()
        for period in rotation.get("periods") or ()
    ]
    return interval, joined(clipped(shifts, interval))
