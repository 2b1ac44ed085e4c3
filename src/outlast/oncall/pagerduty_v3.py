"""PagerDuty's shift-based schedules (version 3): events that recur by RFC 5545, custom shifts, overrides of shifts.

A schedule has rotations; each event of one recurs by an RRULE (with RDATE and EXDATE) by the wall clock of its own time
zone, and its occurrences are given to its members in turn, or to all at once. Whoever any rotation has on call is on
call. An override puts one member in another's place, in one rotation or one custom shift.

Two things the specification leaves open, and how they are read here: a `date_time` that ends in Z is a time of the wall
clock in `time_zone` ("9 AM to 5 PM in New York" is published as 09:00:00Z), and turns are counted from the first
occurrence that is not over at `effective_since`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from outlast.oncall.clock import ScheduleError, instant, moment_of, wall, zone_of
from outlast.oncall.schedule import NOBODY, Interval, Responder, Shift, clipped, joined, without

Document = Mapping[str, Any]

OCCURRENCES_MAX = 100_000


def final_shifts(
    schedule: Document, custom_shifts: Sequence[Document], overrides: Sequence[Document], interval: Interval
) -> tuple[Shift, ...]:
    """Who is on call within the interval, computed. Raises ScheduleError."""
    base = [
        shift
        for rotation in schedule.get("rotations") or ()
        for event in rotation.get("events") or ()
        for shift in event_shifts(event, str(rotation["id"]), interval)
    ]
    base += [shift for one in custom_shifts for shift in _custom(one)]
    for override in overrides:
        base = list(_overridden(base, override))
    return joined(clipped(base, interval))


def event_shifts(event: Document, rotation: str, interval: Interval) -> Iterator[Shift]:
    """One event's shifts that touch the interval."""
    zone = zone_of(event["start_time"]["time_zone"])
    first, length = _first(event, zone)
    since = moment_of(event["effective_since"]) if event.get("effective_since") else instant(first, zone)
    until = moment_of(event["effective_until"]) if event.get("effective_until") else interval.end
    active = interval.cut(Interval(since, until))
    strategy = event.get("assignment_strategy") or {}
    members = [_member(one) for one in strategy.get("members") or ()]
    if active is None or not members:
        return
    together = strategy.get("type") == "every_member_assignment_strategy"
    each = max(1, int(strategy.get("shifts_per_member") or 1))
    number = -1
    for begin in _occurrences(event, first, zone, active.end):
        whole = Interval(instant(begin, zone), instant(begin + length, zone))
        if whole.end <= since:
            continue
        number += 1
        part = whole.cut(active)
        if part is None:
            continue
        for person in members if together else (members[number // each % len(members)],):
            yield Shift(person, part.start, part.end, rotation, event.get("name") or "")


def _first(event: Document, zone: ZoneInfo) -> tuple[datetime, timedelta]:
    """The wall-clock time at which the first occurrence begins, and how long each is by the wall clock."""
    start, end = _wall_time(event["start_time"], zone), _wall_time(event["end_time"], zone)
    if end <= start:
        raise ScheduleError(f"event {event.get('name')!r} ends before it begins")
    return start, end - start


def _wall_time(zoned: Document, zone: ZoneInfo) -> datetime:
    text = str(zoned["date_time"])
    if text.endswith(("Z", "+00:00")):
        return wall(moment_of(text), ZoneInfo("UTC"))
    return wall(moment_of(text, zone), zone)


def _occurrences(event: Document, first: datetime, zone: ZoneInfo, end: datetime) -> Iterator[datetime]:
    """Wall-clock beginnings, in order, before `end`."""
    from dateutil.rrule import rrulestr

    lines = [_local(line, zone) for line in event.get("recurrence") or ()]
    try:
        rules = rrulestr("\n".join([f"DTSTART:{first:%Y%m%dT%H%M%S}", *lines]), forceset=True)
    except (ValueError, TypeError) as error:
        raise ScheduleError(f"event {event.get('name')!r} recurs by what cannot be read: {error}") from None
    for number, begin in enumerate(rules):
        if number == OCCURRENCES_MAX:
            raise ScheduleError(f"event {event.get('name')!r} recurs more than {OCCURRENCES_MAX:,} times")
        if instant(begin, zone) >= end:
            return
        yield begin


def _local(line: str, zone: ZoneInfo) -> str:
    """A recurrence line with its instants (…Z) as wall-clock times, as DTSTART is one."""
    head, colon, values = line.partition(":")
    if head.upper().startswith(("EXDATE", "RDATE")):
        moments = [_stamp(value, zone) for value in values.split(",")]
        return f"{head.partition(';')[0]}:{','.join(moments)}"
    parts = [
        f"UNTIL={_stamp(part[6:], zone)}" if part.upper().startswith("UNTIL=") else part for part in values.split(";")
    ]
    return f"{head}{colon}{';'.join(parts)}" if colon else line


def _stamp(text: str, zone: ZoneInfo) -> str:
    if not text.upper().endswith("Z"):
        return text
    return f"{wall(moment_of(text), zone):%Y%m%dT%H%M%S}"


def _member(document: Document) -> Responder:
    if document.get("type") == "empty_member" or not document.get("user_id"):
        return NOBODY
    return Responder("user", str(document["user_id"]))


def _custom(document: Document) -> Iterator[Shift]:
    for assignment in document.get("assignments") or ():
        yield Shift(
            _member(assignment.get("member") or {}),
            moment_of(document["start_time"]),
            moment_of(document["end_time"]),
            str(document["id"]),
            "custom shift",
        )


def _overridden(shifts: Sequence[Shift], override: Document) -> Iterator[Shift]:
    origin = str(override.get("rotation_id") or override.get("custom_shift_id") or "")
    before, after = _member(override["overridden_member"]), _member(override["overriding_member"])
    hole = Interval(moment_of(override["start_time"]), moment_of(override["end_time"]))
    for shift in shifts:
        part = shift.within(hole) if shift.origin == origin and shift.person == before else None
        if part is None:
            yield shift
            continue
        yield from without(shift, [hole])
        yield Shift(after, part.start, part.end, origin, "override")


def rendered(schedule: Document) -> tuple[Interval, tuple[Shift, ...]] | None:
    """PagerDuty's own computed assignments and the interval from the first to the last; None where there is none."""
    final = schedule.get("final_schedule") or {}
    shifts = [
        Shift(
            _member(one.get("member") or {}),
            moment_of(one["start_time"]),
            moment_of(one["end_time"]),
            str((one.get("source") or {}).get("rotation_id") or (one.get("source") or {}).get("shift_id") or ""),
        )
        for one in final.get("computed_shift_assignments") or ()
    ]
    if not shifts:
        return None
    return Interval(min(one.start for one in shifts), max(one.end for one in shifts)), joined(shifts)
