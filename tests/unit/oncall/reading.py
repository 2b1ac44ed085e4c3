"""Shifts as lines that a person can check against a calendar."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from zoneinfo import ZoneInfo

from outlast.oncall.schedule import Interval, Shift


def lines(shifts: Iterable[Shift], place: str) -> list[str]:
    """`ann: Sun 08 09:00-0400 to Mon 09 09:00-0400`, in the time of a place."""
    zone = ZoneInfo(place)
    return [f"{shift.person}: {_told(shift.start, zone)} to {_told(shift.end, zone)}" for shift in shifts]


def _told(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%a %d %H:%M%z}"


def between(start: str, end: str, place: str = "UTC") -> Interval:
    zone = ZoneInfo(place)
    return Interval(
        datetime.fromisoformat(start).replace(tzinfo=zone), datetime.fromisoformat(end).replace(tzinfo=zone)
    )
