"""Opsgenie's rules, a case a rule: what its documents say, and who is on call by them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from outlast.oncall.clock import ScheduleError
from outlast.oncall.opsgenie import final_shifts, rendered
from tests.unit.oncall.reading import between, lines

Document = dict[str, Any]


def user(name: str) -> Document:
    return {"type": "user", "id": name, "username": name}


def rotation(*names: str, start: str = "2026-03-02T09:00:00Z", **more: Any) -> Document:
    return {
        "id": more.pop("id", "r1"),
        "name": more.pop("name", "first"),
        "startDate": start,
        "type": "daily",
        "length": 1,
        "participants": [user(name) if name != "-" else {"type": "none"} for name in names],
        **more,
    }


def schedule(*rotations: Document, zone: str = "UTC", **more: Any) -> Document:
    return {"id": "s1", "name": "web", "timezone": zone, "enabled": True, "rotations": list(rotations), **more}


def hours(start: int, end: int, start_min: int = 0, end_min: int = 0) -> Document:
    return {"startHour": start, "startMin": start_min, "endHour": end, "endMin": end_min}


def time_of_day(*given: int) -> Document:
    return {"type": "time-of-day", "restriction": hours(*given)}


def weekly(*spans: tuple[str, int, str, int]) -> Document:
    return {
        "type": "weekday-and-time-of-day",
        "restrictions": [{"startDay": a, "endDay": c} | hours(b, d) for a, b, c, d in spans],
    }


CASES: dict[str, tuple[Document, tuple[str, str], Sequence[str]]] = {
    "daily": (
        schedule(rotation("ann", "bob")),
        ("2026-03-02T00:00", "2026-03-05T00:00"),
        [
            "ann: Mon 02 09:00+0000 to Tue 03 09:00+0000",
            "bob: Tue 03 09:00+0000 to Wed 04 09:00+0000",
            "ann: Wed 04 09:00+0000 to Thu 05 00:00+0000",
        ],
    ),
    "every second day": (
        schedule(rotation("ann", "bob", length=2)),
        ("2026-03-04T00:00", "2026-03-06T00:00"),
        ["ann: Wed 04 00:00+0000 to Wed 04 09:00+0000", "bob: Wed 04 09:00+0000 to Fri 06 00:00+0000"],
    ),
    "hourly, twelve at a time": (
        schedule(rotation("ann", "bob", type="hourly", length=12)),
        ("2026-03-03T00:00", "2026-03-04T00:00"),
        [
            "bob: Tue 03 00:00+0000 to Tue 03 09:00+0000",
            "ann: Tue 03 09:00+0000 to Tue 03 21:00+0000",
            "bob: Tue 03 21:00+0000 to Wed 04 00:00+0000",
        ],
    ),
    "weekly, two at a time": (
        schedule(rotation("ann", "bob", type="weekly", length=2)),
        ("2026-03-15T00:00", "2026-03-17T00:00"),
        ["ann: Sun 15 00:00+0000 to Mon 16 09:00+0000", "bob: Mon 16 09:00+0000 to Tue 17 00:00+0000"],
    ),
    "a participant twice in the list has two turns": (
        schedule(rotation("ann", "ann", "bob")),
        ("2026-03-02T09:00", "2026-03-05T09:00"),
        ["ann: Mon 02 09:00+0000 to Wed 04 09:00+0000", "bob: Wed 04 09:00+0000 to Thu 05 09:00+0000"],
    ),
    "none takes a turn, and nobody is on call": (
        schedule(rotation("ann", "-")),
        ("2026-03-02T09:00", "2026-03-05T09:00"),
        ["ann: Mon 02 09:00+0000 to Tue 03 09:00+0000", "ann: Wed 04 09:00+0000 to Thu 05 09:00+0000"],
    ),
    "nothing before the start or after the end": (
        schedule(rotation("ann", endDate="2026-03-03T12:00:00Z")),
        ("2026-03-01T00:00", "2026-03-09T00:00"),
        ["ann: Mon 02 09:00+0000 to Tue 03 12:00+0000"],
    ),
    "rotations are cumulative": (
        schedule(rotation("ann"), rotation("bob", id="r2", name="second", start="2026-03-02T12:00:00Z")),
        ("2026-03-02T00:00", "2026-03-03T00:00"),
        ["ann: Mon 02 09:00+0000 to Tue 03 00:00+0000", "bob: Mon 02 12:00+0000 to Tue 03 00:00+0000"],
    ),
    "time of day": (
        schedule(rotation("ann", "bob", start="2026-03-02T00:00:00Z", timeRestriction=time_of_day(9, 17))),
        ("2026-03-02T00:00", "2026-03-04T00:00"),
        ["ann: Mon 02 09:00+0000 to Mon 02 17:00+0000", "bob: Tue 03 09:00+0000 to Tue 03 17:00+0000"],
    ),
    "overnight, cut where turns change": (
        schedule(rotation("ann", "bob", start="2026-03-02T00:00:00Z", timeRestriction=time_of_day(22, 6))),
        ("2026-03-02T12:00", "2026-03-03T12:00"),
        ["ann: Mon 02 22:00+0000 to Tue 03 00:00+0000", "bob: Tue 03 00:00+0000 to Tue 03 06:00+0000"],
    ),
    "equal start and end mean always": (
        schedule(rotation("ann", timeRestriction=time_of_day(9, 9))),
        ("2026-03-03T00:00", "2026-03-04T00:00"),
        ["ann: Tue 03 00:00+0000 to Wed 04 00:00+0000"],
    ),
    "until 24:00": (
        schedule(rotation("ann", start="2026-03-02T00:00:00Z", timeRestriction=time_of_day(18, 24))),
        ("2026-03-02T00:00", "2026-03-03T12:00"),
        ["ann: Mon 02 18:00+0000 to Tue 03 00:00+0000"],
    ),
    "half hours": (
        schedule(rotation("ann", start="2026-03-02T00:00:00Z", timeRestriction=time_of_day(9, 17, 30, 30))),
        ("2026-03-02T00:00", "2026-03-03T00:00"),
        ["ann: Mon 02 09:30+0000 to Mon 02 17:30+0000"],
    ),
    "weekdays and times": (
        schedule(
            rotation(
                "ann", timeRestriction=weekly(("monday", 9, "monday", 18), ("friday", 9, "friday", 18)), type="weekly"
            )
        ),
        ("2026-03-02T00:00", "2026-03-09T00:00"),
        ["ann: Mon 02 09:00+0000 to Mon 02 18:00+0000", "ann: Fri 06 09:00+0000 to Fri 06 18:00+0000"],
    ),
    "over the weekend and the end of the week": (
        schedule(rotation("ann", timeRestriction=weekly(("friday", 17, "monday", 8)), type="weekly")),
        ("2026-03-02T00:00", "2026-03-10T00:00"),
        ["ann: Fri 06 17:00+0000 to Mon 09 08:00+0000"],
    ),
    "equal days and times mean always": (
        schedule(rotation("ann", timeRestriction=weekly(("friday", 17, "friday", 17)), type="weekly")),
        ("2026-03-03T00:00", "2026-03-04T00:00"),
        ["ann: Tue 03 00:00+0000 to Wed 04 00:00+0000"],
    ),
    "restrictions that overlap count once": (
        schedule(rotation("ann", timeRestriction=weekly(("monday", 9, "monday", 18), ("monday", 12, "tuesday", 2)))),
        ("2026-03-02T00:00", "2026-03-04T00:00"),
        ["ann: Mon 02 09:00+0000 to Tue 03 02:00+0000"],
    ),
    "a schedule that is off has nobody": (
        schedule(rotation("ann"), enabled=False),
        ("2026-03-02T00:00", "2026-03-09T00:00"),
        [],
    ),
    "a rotation that is off has nobody": (
        schedule(rotation("ann", enabled=False)),
        ("2026-03-02T00:00", "2026-03-09T00:00"),
        [],
    ),
    "teams and escalations take turns too": (
        schedule(
            rotation()
            | {"participants": [{"type": "team", "id": "t1", "name": "ops"}, {"type": "escalation", "id": "e1"}]}
        ),
        ("2026-03-02T09:00", "2026-03-04T09:00"),
        ["ops: Mon 02 09:00+0000 to Tue 03 09:00+0000", "e1: Tue 03 09:00+0000 to Wed 04 09:00+0000"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    """Who is on call by one rule."""
    document, (start, end), expected = CASES[name]
    assert lines(final_shifts(document, (), (), between(start, end)), "UTC") == expected


DST = {
    # The day on which the clock is set forward is an hour short, and the hand-over stays at nine.
    ("America/New_York", "2026-03-07", "2026-03-10"): [
        "ann: Sat 07 09:00-0500 to Sun 08 09:00-0400",
        "bob: Sun 08 09:00-0400 to Mon 09 09:00-0400",
    ],
    ("America/New_York", "2026-10-31", "2026-11-03"): [
        "ann: Sat 31 09:00-0400 to Sun 01 09:00-0500",
        "bob: Sun 01 09:00-0500 to Mon 02 09:00-0500",
    ],
    ("Europe/London", "2026-03-28", "2026-03-31"): [
        "ann: Sat 28 09:00+0000 to Sun 29 09:00+0100",
        "bob: Sun 29 09:00+0100 to Mon 30 09:00+0100",
    ],
    ("Europe/London", "2026-10-24", "2026-10-27"): [
        "ann: Sat 24 09:00+0100 to Sun 25 09:00+0000",
        "bob: Sun 25 09:00+0000 to Mon 26 09:00+0000",
    ],
    ("Australia/Sydney", "2026-10-03", "2026-10-06"): [
        "ann: Sat 03 09:00+1000 to Sun 04 09:00+1100",
        "bob: Sun 04 09:00+1100 to Mon 05 09:00+1100",
    ],
    ("Australia/Sydney", "2026-04-04", "2026-04-07"): [
        "ann: Sat 04 09:00+1100 to Sun 05 09:00+1000",
        "bob: Sun 05 09:00+1000 to Mon 06 09:00+1000",
    ],
    ("Australia/Lord_Howe", "2026-10-03", "2026-10-06"): [
        "ann: Sat 03 09:00+1030 to Sun 04 09:00+1100",
        "bob: Sun 04 09:00+1100 to Mon 05 09:00+1100",
    ],
    ("Australia/Lord_Howe", "2026-04-04", "2026-04-07"): [
        "ann: Sat 04 09:00+1100 to Sun 05 09:00+1030",
        "bob: Sun 05 09:00+1030 to Mon 06 09:00+1030",
    ],
}


@pytest.mark.parametrize("place", DST)
def test_hand_over_stays_at_the_same_hour_when_the_clock_changes(place: tuple[str, str, str]) -> None:
    """Daily turns that were begun half a year before, in spring and in autumn."""
    zone, start, end = place
    began = between(f"{start}T09:00", f"{end}T00:00", zone).start
    # So many days before that it is ann's turn again, in the other half of the year.
    earlier = between(f"{int(start[:4]) - 1}{start[4:]}T09:00", f"{end}T00:00", zone).start
    turns = ("ann", "bob") if (began.date() - earlier.date()).days % 2 == 0 else ("bob", "ann")
    document = schedule(rotation(*turns, start=earlier.isoformat()), zone=zone)
    found = lines(final_shifts(document, (), (), between(f"{start}T09:00", f"{end}T00:00", zone)), zone)
    assert found[:2] == DST[place]


@pytest.mark.parametrize(
    ("place", "day", "given", "expected"),
    [
        ("America/New_York", "2026-03-08", (1, 4), "ann: Sun 08 01:00-0500 to Sun 08 04:00-0400"),
        ("America/New_York", "2026-03-08", (2, 3), None),  # an hour that is left out
        ("America/New_York", "2026-03-08", (2, 5), "ann: Sun 08 03:00-0400 to Sun 08 05:00-0400"),
        ("America/New_York", "2026-11-01", (1, 2), "ann: Sun 01 01:00-0400 to Sun 01 02:00-0500"),  # both of them
        ("Europe/London", "2026-03-29", (0, 2), "ann: Sun 29 00:00+0000 to Sun 29 02:00+0100"),
        ("Europe/London", "2026-10-25", (0, 2), "ann: Sun 25 00:00+0100 to Sun 25 02:00+0000"),
        ("Australia/Sydney", "2026-10-04", (1, 4), "ann: Sun 04 01:00+1000 to Sun 04 04:00+1100"),
        ("Australia/Lord_Howe", "2026-04-05", (1, 2), "ann: Sun 05 01:00+1100 to Sun 05 02:00+1030"),
        ("Australia/Lord_Howe", "2026-10-04", (1, 4), "ann: Sun 04 01:00+1030 to Sun 04 04:00+1100"),
    ],
)
def test_restrictions_go_by_the_wall_clock(place: str, day: str, given: tuple[int, int], expected: str | None) -> None:
    """On the day of the change: an hour that comes twice is covered twice, one that is left out not at all."""
    document = schedule(rotation("ann", start="2026-01-01T00:00:00Z", timeRestriction=time_of_day(*given)), zone=place)
    found = lines(final_shifts(document, (), (), between(f"{day}T00:00", f"{day}T12:00", place)), place)
    assert found == ([expected] if expected else [])


def override(who: str, start: str, end: str, *rotations: str, by: str = "id") -> Document:
    person = {"type": "none"} if who == "-" else user(who)
    document: Document = {"alias": "o", "user": person, "startDate": f"{start}:00Z", "endDate": f"{end}:00Z"}
    return document | ({"rotations": [{by: name} for name in rotations]} if rotations else {})


TWO = schedule(rotation("ann"), rotation("bob", id="r2", name="second"))


SIX_HOURS = ("2026-03-03T00:00", "2026-03-03T06:00")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        # of all rotations: one person instead of two
        ([override("eve", *SIX_HOURS)], ["eve 00-06", "ann 06-09", "bob 06-09"]),
        # of one rotation, by its id and by its name
        ([override("eve", *SIX_HOURS, "r2")], ["eve 00-06", "ann 00-09", "bob 06-09"]),
        ([override("eve", *SIX_HOURS, "second", by="name")], ["eve 00-06", "ann 00-09", "bob 06-09"]),
        # by nobody
        ([override("-", *SIX_HOURS)], ["ann 06-09", "bob 06-09"]),
        # of a rotation that is gone: it does not become one of all
        ([override("eve", *SIX_HOURS, "gone")], ["ann 00-09", "bob 00-09"]),
        # the later-begun wins
        (
            [override("eve", "2026-03-03T02:00", "2026-03-03T04:00"), override("fay", *SIX_HOURS)],
            ["fay 00-02", "eve 02-04", "fay 04-06", "ann 06-09", "bob 06-09"],
        ),
    ],
)
def test_overrides(overrides: list[Document], expected: list[str]) -> None:
    """Of all rotations, of some, by nobody, of what is gone, and over each other."""
    found = final_shifts(TWO, overrides, (), between("2026-03-03T00:00", "2026-03-03T09:00"))
    assert [f"{one.person} {one.start:%H}-{one.end:%H}" for one in found] == expected


def test_an_override_of_all_holds_where_no_rotation_has_anybody() -> None:
    """Somebody who was asked to be on call is, also outside the rotations' hours."""
    document = schedule(rotation("ann", timeRestriction=time_of_day(9, 17)))
    given = [override("eve", "2026-03-03T17:00", "2026-03-03T20:00")]
    found = lines(final_shifts(document, given, (), between("2026-03-03T12:00", "2026-03-04T00:00")), "UTC")
    assert found == ["ann: Tue 03 12:00+0000 to Tue 03 17:00+0000", "eve: Tue 03 17:00+0000 to Tue 03 20:00+0000"]


def test_forwarding_follows_to_whom_it_leads_and_never_round_in_a_circle() -> None:
    """Ann forwards to Bob, Bob to Eve, Eve back to Ann: Eve has it."""

    def rule(who: str, to: str, start: str, end: str) -> Document:
        return {"fromUser": user(who), "toUser": user(to), "startDate": f"{start}:00Z", "endDate": f"{end}:00Z"}

    rules = [
        rule("ann", "bob", "2026-03-02T12:00", "2026-03-02T20:00"),
        rule("bob", "eve", "2026-03-02T14:00", "2026-03-02T16:00"),
        rule("eve", "ann", "2026-03-02T14:00", "2026-03-02T16:00"),
    ]
    found = lines(
        final_shifts(schedule(rotation("ann")), (), rules, between("2026-03-02T09:00", "2026-03-02T22:00")), "UTC"
    )
    assert found == [
        "ann: Mon 02 09:00+0000 to Mon 02 12:00+0000",
        "bob: Mon 02 12:00+0000 to Mon 02 14:00+0000",
        "eve: Mon 02 14:00+0000 to Mon 02 16:00+0000",
        "bob: Mon 02 16:00+0000 to Mon 02 20:00+0000",
        "ann: Mon 02 20:00+0000 to Mon 02 22:00+0000",
    ]


@pytest.mark.parametrize(
    "broken",
    [
        rotation("ann", type="lunar"),
        rotation("ann", start="soon"),
        rotation("ann", timeRestriction=weekly(("someday", 9, "friday", 17))),
        rotation("ann", type="hourly", length=-1),
    ],
)
def test_what_cannot_be_carried_out_is_an_error(broken: Document) -> None:
    """Not an empty schedule: nobody on call would be the wrong answer."""
    with pytest.raises(ScheduleError):
        final_shifts(schedule(broken), (), (), between("2026-03-02T00:00", "2026-03-09T00:00"))


def test_the_vendors_own_timeline_is_read() -> None:
    """Periods of the final timeline, cut at its own beginning and end; of several kinds of recipients."""
    period = {"startDate": "2026-03-01T00:00:00Z", "endDate": "2026-03-03T00:00:00Z", "type": "default"}
    found = rendered(
        {
            "startDate": "2026-03-02T00:00:00Z",
            "endDate": "2026-03-09T00:00:00Z",
            "finalTimeline": {
                "rotations": [{"id": "r1", "name": "first", "periods": [period | {"recipient": user("ann")}]}]
            },
        }
    )
    assert found is not None
    assert found[0] == between("2026-03-02T00:00", "2026-03-09T00:00")
    assert lines(found[1], "UTC") == ["ann: Mon 02 00:00+0000 to Tue 03 00:00+0000"]
    assert rendered({"_parent": {"id": "s1"}}) is None
