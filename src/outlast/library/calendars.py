"""Schedules as iCalendar: who is on call when, as the vendor rendered it, for any calendar program."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from outlast.library.copy import LocalCopy


@dataclass(frozen=True, slots=True)
class Shift:
    """Somebody is on call."""

    who: str
    start: datetime
    end: datetime


def calendars(copy: LocalCopy, source: str) -> Iterator[tuple[str, bytes]]:
    """Each schedule's name and its calendar, of the vendors whose schedules are kept rendered."""
    for schedule in copy.documents("opsgenie.schedules", source):
        for timeline in copy.children(source, "opsgenie.timelines", schedule.key):
            name = str(schedule.document.get("name") or schedule.key)
            yield name, _written(name, schedule.key, _opsgenie(timeline.document))
    for rendered in copy.documents("pagerduty.rendered_schedules", source):
        name = str(rendered.document.get("name") or rendered.key)
        yield name, _written(name, rendered.key, _pagerduty(rendered.document))
    names = {one.key: str(one.document.get("name") or one.key) for one in copy.documents("pagerduty.users", source)}
    for schedule in copy.documents("pagerduty.schedules_v3", source):
        name = str(schedule.document.get("name") or schedule.key)
        yield name, _written(name, schedule.key, _shift_based(schedule.document, names))


def _opsgenie(timeline: dict[str, Any]) -> Iterator[Shift]:
    final = timeline.get("finalTimeline") or {}
    for rotation in final.get("rotations") or []:
        for period in rotation.get("periods") or []:
            who = (period.get("recipient") or {}).get("name") or (period.get("recipient") or {}).get("id") or "nobody"
            yield from _shift(who, period.get("startDate"), period.get("endDate"))


def _pagerduty(schedule: dict[str, Any]) -> Iterator[Shift]:
    for entry in (schedule.get("final_schedule") or {}).get("rendered_schedule_entries") or []:
        who = (entry.get("user") or {}).get("summary") or (entry.get("user") or {}).get("id") or "nobody"
        yield from _shift(who, entry.get("start"), entry.get("end"))


def _shift_based(schedule: dict[str, Any], names: Mapping[str, str]) -> Iterator[Shift]:
    for one in (schedule.get("final_schedule") or {}).get("computed_shift_assignments") or []:
        user = str((one.get("member") or {}).get("user_id") or "nobody")
        yield from _shift(names.get(user, user), one.get("start_time"), one.get("end_time"))


def _shift(who: str, start: object, end: object) -> Iterator[Shift]:
    try:
        if isinstance(start, str) and isinstance(end, str):
            yield Shift(str(who), datetime.fromisoformat(start), datetime.fromisoformat(end))
    except ValueError:
        return  # a time that is none has no place in a calendar; the document itself is exported beside it


def _written(name: str, key: str, shifts: Iterator[Shift]) -> bytes:
    from icalendar import Calendar, Event

    calendar = Calendar()
    calendar.add("prodid", "-//Outlast//on call//EN")
    calendar.add("version", "2.0")
    calendar.add("x-wr-calname", name)
    for number, shift in enumerate(shifts):
        event = Event()
        event.add("uid", f"{key}-{shift.start.timestamp():.0f}-{number}@outlast")
        event.add("summary", f"{shift.who} on call: {name}")
        event.add("dtstamp", shift.start.astimezone(UTC))
        event.add("dtstart", shift.start.astimezone(UTC))
        event.add("dtend", shift.end.astimezone(UTC))
        calendar.add_component(event)
    return bytes(calendar.to_ical())
