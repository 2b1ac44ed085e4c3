"""Wall-clock times and their instants, across the changes of the clock."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

import pytest

from outlast.oncall.clock import ScheduleError, instant, moment_of, wall, zone_of
from outlast.oncall.rails import ZONES


@pytest.mark.parametrize(
    ("place", "time", "expected"),
    [
        # spring: the hour from 02:00 on is left out, and over when the clock is set forward
        ("America/New_York", "2026-03-08 01:59", "2026-03-08 06:59"),
        ("America/New_York", "2026-03-08 02:00", "2026-03-08 07:00"),
        ("America/New_York", "2026-03-08 02:30", "2026-03-08 07:00"),
        ("America/New_York", "2026-03-08 03:00", "2026-03-08 07:00"),
        ("Europe/London", "2026-03-29 01:30", "2026-03-29 01:00"),
        ("Australia/Sydney", "2026-10-04 02:30", "2026-10-03 16:00"),
        ("Australia/Lord_Howe", "2026-10-04 02:15", "2026-10-03 15:30"),  # half an hour only
        ("Australia/Lord_Howe", "2026-10-04 02:30", "2026-10-03 15:30"),
        # autumn: of an hour that comes twice the first
        ("America/New_York", "2026-11-01 01:30", "2026-11-01 05:30"),
        ("America/New_York", "2026-11-01 02:00", "2026-11-01 07:00"),
        ("Europe/London", "2026-10-25 01:30", "2026-10-25 00:30"),
        ("Australia/Sydney", "2026-04-05 02:30", "2026-04-04 15:30"),
        ("Australia/Lord_Howe", "2026-04-05 01:45", "2026-04-04 14:45"),
        ("Australia/Lord_Howe", "2026-04-05 02:00", "2026-04-04 15:30"),
        # a day that never was
        ("Pacific/Apia", "2011-12-30 12:00", "2011-12-30 10:00"),
    ],
)
def test_a_wall_clock_time_is_the_first_instant_at_which_a_clock_has_reached_it(
    place: str, time: str, expected: str
) -> None:
    """Also of a time that is left out, and of one that comes twice."""
    assert instant(datetime.fromisoformat(time), ZoneInfo(place)) == datetime.fromisoformat(expected + "Z")


def test_rails_names_are_zones() -> None:
    """Every name in the table leads to a zone that exists, and PagerDuty's usual ones are among them."""
    assert set(ZONES.values()) <= available_timezones()
    assert zone_of("Eastern Time (US & Canada)") == ZoneInfo("America/New_York")
    assert zone_of("Nuku'alofa") == ZoneInfo("Pacific/Tongatapu")
    assert zone_of("Europe/Paris") == ZoneInfo("Europe/Paris")


@pytest.mark.parametrize("name", ["Middle-earth/Shire", "", "../../etc/passwd", "/etc/localtime", "Europe/\0"])
def test_an_unknown_zone_is_an_error_that_names_it(name: str) -> None:
    """And nothing outside the time-zone database is opened."""
    with pytest.raises(ScheduleError):
        zone_of(name)


def test_moments_of_vendors_are_instants() -> None:
    """With an offset as they say, with more digits than microseconds, and without an offset in the schedule's zone."""
    assert moment_of("2026-03-08T09:00:00-05:00") == datetime(2026, 3, 8, 14, tzinfo=UTC)
    assert moment_of("2026-03-08T09:00:00.123456789Z") == datetime(2026, 3, 8, 9, 0, 0, 123456, tzinfo=UTC)
    assert moment_of("2026-03-08T09:00:00", ZoneInfo("Asia/Tokyo")) == datetime(2026, 3, 8, 0, tzinfo=UTC)
    assert wall(datetime(2026, 3, 8, 14, tzinfo=UTC), ZoneInfo("America/New_York")) == datetime(2026, 3, 8, 10)  # noqa: DTZ001
    for wrong in ("tomorrow", None, 5, ""):
        with pytest.raises(ScheduleError):
            moment_of(wrong)
