"""PagerDuty's rules of who is on call, for schedules of version 2: layers, of which a higher one wins.

The API gives layers from the highest down. A layer's users take turns of a number of seconds, counted from its virtual
start (which may lie before it or after), from its start until its end, within its restrictions. Where a layer has
nobody the one below shows. Overrides lie over all. Version 3 is in pagerduty_v3.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

from outlast.oncall.clock import ScheduleError, moment_of, zone_of
from outlast.oncall.schedule import (
    NOBODY,
    Interval,
    Override,
    Responder,
    Shift,
    clipped,
    joined,
    overridden,
    stacked,
)
from outlast.oncall.turns import DAY, Window, opened, turns

Document = Mapping[str, Any]


def final_shifts(schedule: Document, overrides: Sequence[Document], interval: Interval) -> tuple[Shift, ...]:
    """Who is on call within the interval, computed. Raises ScheduleError."""
    zone = zone_of(schedule.get("time_zone") or "UTC")
    layers = [list(layer_shifts(layer, zone, interval)) for layer in schedule.get("schedule_layers") or ()]
    laid = overridden(stacked(layers), [_override(one) for one in overrides])
    return joined(clipped(laid, interval))


def layer_shifts(layer: Document, zone: ZoneInfo, interval: Interval) -> Iterator[Shift]:
    """One layer's own shifts, as if there were no other."""
    users = [responder(one.get("user")) for one in layer.get("users") or ()]
    end = layer.get("end")
    until = moment_of(end, zone) if end else interval.end
    active = interval.cut(Interval(moment_of(layer["start"], zone), until))
    if not users or active is None:
        return
    length = timedelta(seconds=int(layer.get("rotation_turn_length_seconds") or 0))
    start = moment_of(layer.get("rotation_virtual_start") or layer["start"], zone)
    hours = opened([_window(one) for one in layer.get("restrictions") or ()], zone, active)
    for turn in turns(start, length, zone, active):
        person = users[turn.number % len(users)]
        for part in (found for hour in hours if (found := turn.interval.cut(hour))):
            yield Shift(person, part.start, part.end, str(layer.get("id") or ""), layer.get("name") or "")


def _window(restriction: Document) -> Window:
    start = _time_of_day(restriction["start_time_of_day"])
    length = timedelta(seconds=int(restriction["duration_seconds"]))
    if restriction.get("type") == "weekly_restriction":
        day = int(restriction.get("start_day_of_week") or 0)
        if not 1 <= day <= 7:
            raise ScheduleError(f"a weekly restriction begins on day {day} of the week")
        return Window(7 * DAY, (day - 1) * DAY + start, length)
    return Window(DAY, start, length)


def _time_of_day(text: str) -> timedelta:
    try:
        hours, minutes, seconds = (int(part) for part in f"{text}:0:0".split(":")[:3])
    except ValueError:
        raise ScheduleError(f"{text!r} is no time of day") from None
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def responder(reference: Document | None) -> Responder:
    """A reference of PagerDuty's (`user_reference` and the like). Whom nobody took the place of is nobody."""
    if not reference or not reference.get("id"):
        return NOBODY
    kind = str(reference.get("type") or "user").removesuffix("_reference")
    kind = {"escalation_policy": "escalation", "schedule_v3": "schedule"}.get(kind, kind)
    return Responder(kind, str(reference["id"]), reference.get("summary") or reference.get("name") or "")


def _override(document: Document) -> Override:
    return Override(
        responder(document.get("user")),
        moment_of(document["start"]),
        moment_of(document["end"]),
        note=str(document.get("id") or "override"),
    )


def rendered(schedule: Document) -> tuple[Interval, tuple[Shift, ...]] | None:
    """PagerDuty's own final schedule, and the interval that it speaks of: from the first entry of any layer to the
    last, since the answer does not say for which time it was asked. None where there is no entry."""
    final = schedule.get("final_schedule") or {}
    shifts = list(_entries(final))
    below = [schedule.get("overrides_subschedule") or {}, *(schedule.get("schedule_layers") or ())]
    every = [*shifts, *(shift for part in below for shift in _entries(part))]
    if not shifts:
        return None
    interval = Interval(min(shift.start for shift in every), max(shift.end for shift in every))
    return interval, joined(shifts)


def _entries(part: Document) -> Iterator[Shift]:
    for entry in part.get("rendered_schedule_entries") or ():
        if entry.get("end"):
            yield Shift(responder(entry.get("user")), moment_of(entry["start"]), moment_of(entry["end"]), "final")
