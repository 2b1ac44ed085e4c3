"""PagerDuty's rules of schedules of version 2, a case a rule; what the vendor published resolves to what it shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from outlast.oncall.clock import ScheduleError, moment_of, zone_of
from outlast.oncall.pagerduty import final_shifts, layer_shifts, rendered
from outlast.oncall.schedule import Interval
from tests.unit.oncall.reading import between, lines

Document = dict[str, Any]

PUBLISHED = Path(__file__).parent / "pagerduty_schedule.json"
"""The answer of GET /schedules/{id} in PagerDuty's own specification of its API: layers and rendered entries."""


def layer(*names: str, start: str = "2026-03-02T09:00:00Z", **more: Any) -> Document:
    return {
        "id": more.pop("id", "l1"),
        "name": more.pop("name", "Layer 1"),
        "start": start,
        "rotation_virtual_start": start,
        "rotation_turn_length_seconds": 86400,
        "users": [{"user": {"id": name, "type": "user_reference", "summary": name}} for name in names],
        "restrictions": [],
        **more,
    }


def schedule(*layers: Document, zone: str = "UTC") -> Document:
    return {"id": "P1", "type": "schedule", "time_zone": zone, "schedule_layers": list(layers)}


def daily(start: str, seconds: int) -> Document:
    return {"type": "daily_restriction", "start_time_of_day": start, "duration_seconds": seconds}


def weekly(day: int, start: str, seconds: int) -> Document:
    return daily(start, seconds) | {"type": "weekly_restriction", "start_day_of_week": day}


CASES: dict[str, tuple[Document, tuple[str, str], Sequence[str]]] = {
    "turns": (
        schedule(layer("ann", "bob")),
        ("2026-03-02T00:00", "2026-03-04T00:00"),
        ["ann: Mon 02 09:00+0000 to Tue 03 09:00+0000", "bob: Tue 03 09:00+0000 to Wed 04 00:00+0000"],
    ),
    "a virtual start before the start": (
        schedule(layer("ann", "bob", rotation_virtual_start="2026-03-01T08:00:00Z")),
        ("2026-03-02T00:00", "2026-03-04T00:00"),
        ["bob: Mon 02 09:00+0000 to Tue 03 08:00+0000", "ann: Tue 03 08:00+0000 to Wed 04 00:00+0000"],
    ),
    "a virtual start after the start": (
        schedule(layer("ann", "bob", rotation_virtual_start="2026-03-03T08:00:00Z")),
        ("2026-03-02T00:00", "2026-03-04T00:00"),
        ["bob: Mon 02 09:00+0000 to Tue 03 08:00+0000", "ann: Tue 03 08:00+0000 to Wed 04 00:00+0000"],
    ),
    "a layer ends": (
        schedule(layer("ann", end="2026-03-03T12:00:00Z")),
        ("2026-03-02T00:00", "2026-03-09T00:00"),
        ["ann: Mon 02 09:00+0000 to Tue 03 12:00+0000"],
    ),
    "the higher layer wins, and the API gives it first": (
        schedule(
            layer("eve", id="l2", restrictions=[daily("10:00:00", 7200)]),
            layer("ann", id="l1"),
        ),
        ("2026-03-03T09:00", "2026-03-03T18:00"),
        [
            "ann: Tue 03 09:00+0000 to Tue 03 10:00+0000",
            "eve: Tue 03 10:00+0000 to Tue 03 12:00+0000",
            "ann: Tue 03 12:00+0000 to Tue 03 18:00+0000",
        ],
    ),
    "where the higher one has nobody the one below shows": (
        schedule(layer("eve", id="l2") | {"users": [{"user": None}]}, layer("ann", id="l1")),
        ("2026-03-03T09:00", "2026-03-03T18:00"),
        ["ann: Tue 03 09:00+0000 to Tue 03 18:00+0000"],
    ),
    "daily, over midnight": (
        schedule(layer("ann", start="2026-03-01T00:00:00Z", restrictions=[daily("22:00:00", 28800)])),
        ("2026-03-03T12:00", "2026-03-04T12:00"),
        ["ann: Tue 03 22:00+0000 to Wed 04 06:00+0000"],
    ),
    "a whole day is always": (
        schedule(layer("ann", restrictions=[daily("22:00:00", 86400)])),
        ("2026-03-03T00:00", "2026-03-04T00:00"),
        ["ann: Tue 03 00:00+0000 to Wed 04 00:00+0000"],
    ),
    "several a day": (
        schedule(layer("ann", restrictions=[daily("09:00:00", 3600), daily("12:30:00", 5400)])),
        ("2026-03-03T00:00", "2026-03-04T00:00"),
        ["ann: Tue 03 09:00+0000 to Tue 03 10:00+0000", "ann: Tue 03 12:30+0000 to Tue 03 14:00+0000"],
    ),
    "weekly, from Sunday night into Monday": (
        schedule(layer("ann", restrictions=[weekly(7, "20:00:00", 36000), weekly(5, "09:00:00", 28800)])),
        ("2026-03-05T00:00", "2026-03-10T00:00"),
        ["ann: Fri 06 09:00+0000 to Fri 06 17:00+0000", "ann: Sun 08 20:00+0000 to Mon 09 06:00+0000"],
    ),
    "turns of eight hours": (
        schedule(layer("ann", "bob", "eve", rotation_turn_length_seconds=28800)),
        ("2026-03-03T09:00", "2026-03-04T09:00"),
        [
            "ann: Tue 03 09:00+0000 to Tue 03 17:00+0000",
            "bob: Tue 03 17:00+0000 to Wed 04 01:00+0000",
            "eve: Wed 04 01:00+0000 to Wed 04 09:00+0000",
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    """Who is on call by one rule."""
    document, (start, end), expected = CASES[name]
    assert lines(final_shifts(document, (), between(start, end)), "UTC") == expected


def test_overrides_lie_over_all_layers() -> None:
    """Also where no layer has anybody."""
    given = {
        "id": "o1",
        "start": "2026-03-03T16:00:00Z",
        "end": "2026-03-03T20:00:00Z",
        "user": {"id": "eve", "type": "user_reference", "summary": "eve"},
    }
    document = schedule(layer("ann", restrictions=[daily("09:00:00", 32400)]))
    assert lines(final_shifts(document, [given], between("2026-03-03T00:00", "2026-03-04T00:00")), "UTC") == [
        "ann: Tue 03 09:00+0000 to Tue 03 16:00+0000",
        "eve: Tue 03 16:00+0000 to Tue 03 20:00+0000",
    ]


@pytest.mark.parametrize(
    ("zone", "place", "day", "expected"),
    [
        ("Eastern Time (US & Canada)", "America/New_York", "2026-03-08", "ann: Sun 08 01:00-0500 to Sun 08 10:00-0400"),
        ("America/New_York", "America/New_York", "2026-11-01", "ann: Sun 01 01:00-0400 to Sun 01 10:00-0500"),
        ("London", "Europe/London", "2026-03-29", "ann: Sun 29 02:00+0100 to Sun 29 10:00+0100"),
        ("London", "Europe/London", "2026-10-25", "ann: Sun 25 01:00+0100 to Sun 25 10:00+0000"),
        ("Sydney", "Australia/Sydney", "2026-10-04", "ann: Sun 04 01:00+1000 to Sun 04 10:00+1100"),
        ("Sydney", "Australia/Sydney", "2026-04-05", "ann: Sun 05 01:00+1100 to Sun 05 10:00+1000"),
        ("Australia/Lord_Howe", "Australia/Lord_Howe", "2026-10-04", "ann: Sun 04 01:00+1030 to Sun 04 10:00+1100"),
        ("Australia/Lord_Howe", "Australia/Lord_Howe", "2026-04-05", "ann: Sun 05 01:00+1100 to Sun 05 10:00+1030"),
    ],
)
def test_restrictions_go_by_the_wall_clock(zone: str, place: str, day: str, expected: str) -> None:
    """Nine hours from one o'clock end at ten, whatever the clock does meanwhile; a zone may have Rails' name."""
    document = schedule(layer("ann", start="2026-01-01T00:00:00Z", restrictions=[daily("01:00:00", 32400)]), zone=zone)
    assert lines(final_shifts(document, (), between(f"{day}T00:00", f"{day}T12:00", place)), place) == [expected]


@pytest.mark.parametrize("length", [43200, 86400, 604800])
def test_hand_overs_stay_at_the_same_hours_when_the_clock_changes(length: int) -> None:
    """Of half days, days and weeks: in a year of turns the hours of hand-overs are those of the first."""
    document = schedule(
        layer("ann", "bob", start="2026-01-05T08:00:00-05:00", rotation_turn_length_seconds=length),
        zone="America/New_York",
    )
    shifts = final_shifts(document, (), between("2026-01-05T08:00", "2027-01-01T00:00", "America/New_York"))
    zone = zone_of("America/New_York")
    assert {f"{shift.start.astimezone(zone):%H:%M}" for shift in shifts} == (
        {"08:00", "20:00"} if length == 43200 else {"08:00"}
    )


def test_the_published_example_resolves_to_what_it_shows() -> None:
    """PagerDuty's specification has an answer with a layer, the entries rendered from it, and the final schedule."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))["schedule"]
    zone = zone_of(published["time_zone"])
    shown = [
        (published["schedule_layers"][0]["rendered_schedule_entries"][0], True),
        (published["final_schedule"]["rendered_schedule_entries"][0], False),
    ]
    for entry, of_layer in shown:
        start, end = moment_of(entry["start"]), moment_of(entry["end"])
        day = Interval(start - timedelta(hours=8), end + timedelta(hours=7))  # midnight to midnight
        found = (
            list(layer_shifts(published["schedule_layers"][0], zone, day))
            if of_layer
            else list(final_shifts(published, (), day))
        )
        assert [(one.person.id, one.start, one.end) for one in found] == [(entry["user"]["id"], start, end)]
    week = between("2015-11-09T00:00", "2015-11-16T00:00", "America/New_York")
    covered = sum((one.end - one.start for one in final_shifts(published, (), week)), timedelta())
    percent = 100 * covered / (week.end - week.start)
    assert percent == published["final_schedule"]["rendered_coverage_percentage"]


def test_the_vendors_own_schedule_is_read() -> None:
    """Its final entries, and from when to when it speaks: also of hours that only a lower layer covers."""
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))["schedule"]
    found = rendered(published)
    assert found is not None
    assert found[0] == between("2015-11-09T08:00", "2015-11-10T17:00", "America/New_York")
    assert lines(found[1], "America/New_York") == ["Regina Phalange: Tue 10 08:00-0500 to Tue 10 17:00-0500"]
    assert rendered(schedule(layer("ann"))) is None


@pytest.mark.parametrize(
    "broken",
    [
        layer("ann", rotation_turn_length_seconds=0),
        layer("ann", restrictions=[weekly(8, "09:00:00", 3600)]),
        layer("ann", restrictions=[daily("nine", 3600)]),
        layer("ann", start="soon"),
    ],
)
def test_what_cannot_be_carried_out_is_an_error(broken: Document) -> None:
    """Not an empty schedule."""
    with pytest.raises(ScheduleError):
        final_shifts(schedule(broken), (), between("2026-03-02T00:00", "2026-03-09T00:00"))
