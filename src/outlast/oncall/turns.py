"""Taking turns by the wall clock, and the hours of a day or a week to which a rotation is limited.

Turns whose length is a whole number of days, or of which a whole number makes a day, change hands at the same hours of
the wall clock all year. Of any other length (five hours) there are no such hours, and they are counted as time passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from outlast.oncall.clock import ScheduleError, instant, wall
from outlast.oncall.schedule import Interval, union

DAY = timedelta(days=1)
_NOTHING = timedelta(0)
_MONDAY = datetime(1970, 1, 5)  # noqa: DTZ001 - a wall-clock time, of no zone
_TURN_MIN = timedelta(minutes=1)
_SKEW = timedelta(days=2)  # more than any zone's offset and any clock's change


@dataclass(frozen=True, slots=True)
class Turn:
    number: int  # counted from the rotation's start; negative before it
    interval: Interval


def turns(start: datetime, length: timedelta, zone: ZoneInfo, interval: Interval) -> Iterator[Turn]:
    """The turns of `length` from the instant `start` on, and backwards from it, that touch the interval.
    Raises ScheduleError."""
    if length < _TURN_MIN:
        raise ScheduleError(f"turns of {length / timedelta(seconds=1):g} s are not taken by people")
    if length % DAY == _NOTHING or DAY % length == _NOTHING:
        begin = wall(start, zone)
        number = (wall(interval.start, zone) - _SKEW - begin) // length
        while True:
            edge = instant(begin + number * length, zone)
            if edge >= interval.end:
                return
            end = instant(begin + (number + 1) * length, zone)
            if end > interval.start and edge < end:
                yield Turn(number, Interval(edge, end))
            number += 1
    number = (interval.start - start) // length
    while (edge := start + number * length) < interval.end:
        yield Turn(number, Interval(edge, edge + length))
        number += 1


@dataclass(frozen=True, slots=True)
class Window:
    """Hours that come again every `every` (a day, or a week from Monday on): from `start` after its midnight on, for
    `length`, by the wall clock."""

    every: timedelta
    start: timedelta
    length: timedelta

    @classmethod
    def between(cls, every: timedelta, start: timedelta, end: timedelta) -> Window:
        """An end that is not after the start is in the next day or week: overnight. Equal ones are always."""
        length = (end - start) % every
        return cls(every, start, length or every)


def opened(windows: Sequence[Window], zone: ZoneInfo, interval: Interval) -> list[Interval]:
    """When any of the windows is open within the interval. Without a window always."""
    if not windows or any(window.length >= window.every for window in windows):
        return [interval]
    open_at = [found for window in windows for found in _openings(window, zone, interval)]
    return [part for found in union(open_at) if (part := found.cut(interval))]


def _openings(window: Window, zone: ZoneInfo, interval: Interval) -> Iterator[Interval]:
    number = (wall(interval.start, zone) - _SKEW - window.length - window.start - _MONDAY) // window.every
    while True:
        begin = _MONDAY + number * window.every + window.start
        edge = instant(begin, zone)
        if edge >= interval.end:
            return
        yield Interval(edge, instant(begin + window.length, zone))
        number += 1
