"""Wall-clock time in a place, and the instants that it comes to. Everything on call is counted by the wall clock.

A hand-over at 09:00 is at 09:00 in summer and in winter. So what repeats is counted in wall-clock time (a datetime
without a zone) and each boundary is then turned into an instant (UTC), by one rule for all:

    the instant of a wall-clock time is the first one at which a clock there has reached it.

Of an hour that comes twice in autumn it is therefore the first, and nobody goes off call and on again while the clock
is set back; an hour that spring leaves out is over at the moment when the clock is set forward.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from outlast.core.errors import OutlastError
from outlast.oncall.rails import ZONES

_SECOND = timedelta(seconds=1)
_FRACTION = re.compile(r"(\.\d{6})\d+")


class ScheduleError(OutlastError):
    """A schedule's document says what cannot be carried out. One schedule's error never hides another schedule."""

    default_code = "schedule"


@lru_cache(maxsize=1024)
def zone_of(name: str) -> ZoneInfo:
    """A time zone by IANA's name or the one that Rails has for it. Raises ScheduleError."""
    try:
        return ZoneInfo(ZONES.get(name, name))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ScheduleError(
            f"there is no time zone {name!r}", hint="Ask the people of this schedule, or set an override here."
        ) from None


def moment_of(text: object, zone: ZoneInfo | None = None) -> datetime:
    """A vendor's date and time as an instant (UTC). One without an offset is of `zone`. Raises ScheduleError."""
    if not isinstance(text, str):
        raise ScheduleError(f"{text!r} is no date and time")
    try:
        found = datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    except ValueError:
        raise ScheduleError(f"{text!r} is no date and time") from None
    if found.tzinfo is None:
        return instant(found, zone or ZoneInfo("UTC"))
    return found.astimezone(UTC)


def wall(moment: datetime, zone: ZoneInfo) -> datetime:
    """What a clock there shows at an instant."""
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


@lru_cache(maxsize=65536)
def instant(time: datetime, zone: ZoneInfo) -> datetime:
    """The first instant (UTC) at which a clock there has reached a wall-clock time."""
    first = time.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if wall(first, zone) == time:
        return first
    return _after_gap(time, zone, time.replace(tzinfo=zone, fold=1).astimezone(UTC), first)


def _after_gap(time: datetime, zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """Of a time that the clock leaps over: the instant at which it is set forward, between the two given."""
    low, high = 0, int((after - before) / _SECOND)
    while low < high:
        middle = (low + high) // 2
        if wall(before + middle * _SECOND, zone) >= time:
            high = middle
        else:
            low = middle + 1
    return before + low * _SECOND
