"""PagerDuty's shift-based schedules: recurring events, custom shifts, overrides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from outlast.oncall.clock import ScheduleError
from outlast.oncall.pagerduty_v3 import final_shifts, rendered
from tests.unit.oncall.reading import between, lines

Document = dict[str, Any]
NEW_YORK = "America/New_York"


def event(*members: str, start: str, end: str, rules: Sequence[str] = ("RRULE:FREQ=WEEKLY",), **more: Any) -> Document:
    """As the vendor publishes them: 09:00:00Z with a time zone is nine by the clock there."""
    each = more.pop("each", 1)
    strategy: Document = {
        "type": "rotating_member_assignment_strategy",
        "shifts_per_member": each,
        "members": [
            {"type": "user_member", "user_id": name} if name != "-" else {"type": "empty_member"} for name in members
        ],
    }
    if each == 0:
        strategy["type"] = "every_member_assignment_strategy"
    zone = more.pop("zone", NEW_YORK)
    return {
        "id": "e1",
        "name": "an event",
        "start_time": {"date_time": f"{start}:00Z", "time_zone": zone},
        "end_time": {"date_time": f"{end}:00Z", "time_zone": zone},
        "effective_since": "2026-03-02T00:00:00Z",
        "effective_until": None,
        "recurrence": list(rules),
        "assignment_strategy": strategy,
        **more,
    }


def schedule(*events: Document) -> Document:
    rotations = [{"id": f"r{number}", "events": [one]} for number, one in enumerate(events, start=1)]
    return {"id": "P3", "type": "schedule_v3", "time_zone": NEW_YORK, "rotations": rotations}


WEEK = {"start": "2026-03-02T09:00", "end": "2026-03-09T09:00"}
DAY = {"start": "2026-03-02T09:00", "end": "2026-03-02T17:00"}

CASES: dict[str, tuple[Document, tuple[str, str], Sequence[str]]] = {
    "weekly, over the change of the clock": (
        schedule(event("ann", "bob", **WEEK)),
        ("2026-03-02T00:00", "2026-03-16T12:00"),
        [
            "ann: Mon 02 09:00-0500 to Mon 09 09:00-0400",
            "bob: Mon 09 09:00-0400 to Mon 16 09:00-0400",
            "ann: Mon 16 09:00-0400 to Mon 16 12:00-0400",
        ],
    ),
    "several shifts a member": (
        schedule(event("ann", "bob", rules=["RRULE:FREQ=DAILY"], each=2, **DAY)),
        ("2026-03-02T00:00", "2026-03-05T00:00"),
        [
            "ann: Mon 02 09:00-0500 to Mon 02 17:00-0500",
            "ann: Tue 03 09:00-0500 to Tue 03 17:00-0500",
            "bob: Wed 04 09:00-0500 to Wed 04 17:00-0500",
        ],
    ),
    "weekdays": (
        schedule(event("ann", rules=["RRULE:FREQ=WEEKLY;BYDAY=MO,WE"], **DAY)),
        ("2026-03-02T00:00", "2026-03-09T00:00"),
        ["ann: Mon 02 09:00-0500 to Mon 02 17:00-0500", "ann: Wed 04 09:00-0500 to Wed 04 17:00-0500"],
    ),
    "every member at once": (
        schedule(event("ann", "bob", each=0, **DAY)),
        ("2026-03-02T00:00", "2026-03-03T00:00"),
        ["ann: Mon 02 09:00-0500 to Mon 02 17:00-0500", "bob: Mon 02 09:00-0500 to Mon 02 17:00-0500"],
    ),
    "an empty member": (
        schedule(event("ann", "-", rules=["RRULE:FREQ=DAILY"], **DAY)),
        ("2026-03-02T00:00", "2026-03-05T00:00"),
        ["ann: Mon 02 09:00-0500 to Mon 02 17:00-0500", "ann: Wed 04 09:00-0500 to Wed 04 17:00-0500"],
    ),
    "until, by an instant": (
        schedule(event("ann", rules=["RRULE:FREQ=DAILY;UNTIL=20260303T140000Z"], **DAY)),
        ("2026-03-02T00:00", "2026-03-09T00:00"),
        ["ann: Mon 02 09:00-0500 to Mon 02 17:00-0500", "ann: Tue 03 09:00-0500 to Tue 03 17:00-0500"],
    ),
    "dates taken out and put in": (
        schedule(
            event(
                "ann",
                rules=["RRULE:FREQ=WEEKLY;COUNT=2", "EXDATE:20260309T130000Z", "RDATE:20260305T140000Z"],
                **DAY,
            )
        ),
        ("2026-03-02T00:00", "2026-03-20T00:00"),
        ["ann: Mon 02 09:00-0500 to Mon 02 17:00-0500", "ann: Thu 05 09:00-0500 to Thu 05 17:00-0500"],
    ),
    "turns are counted from when it takes effect": (
        schedule(event("ann", "bob", rules=["RRULE:FREQ=DAILY"], effective_since="2026-03-03T15:00:00Z", **DAY)),
        ("2026-03-02T00:00", "2026-03-05T00:00"),
        ["ann: Tue 03 10:00-0500 to Tue 03 17:00-0500", "bob: Wed 04 09:00-0500 to Wed 04 17:00-0500"],
    ),
    "it ends": (
        schedule(event("ann", rules=["RRULE:FREQ=DAILY"], effective_until="2026-03-03T15:00:00Z", **DAY)),
        ("2026-03-02T00:00", "2026-03-09T00:00"),
        ["ann: Mon 02 09:00-0500 to Mon 02 17:00-0500", "ann: Tue 03 09:00-0500 to Tue 03 10:00-0500"],
    ),
    "rotations are cumulative": (
        schedule(event("ann", **DAY), event("bob", **DAY)),
        ("2026-03-02T00:00", "2026-03-03T00:00"),
        ["ann: Mon 02 09:00-0500 to Mon 02 17:00-0500", "bob: Mon 02 09:00-0500 to Mon 02 17:00-0500"],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rule(name: str) -> None:
    """Who is on call by one rule."""
    document, (start, end), expected = CASES[name]
    shown = lines(final_shifts(document, (), (), between(start, end, NEW_YORK)), NEW_YORK)
    assert [line.replace("user:", "") for line in shown] == expected


def test_an_override_replaces_one_member_in_one_rotation() -> None:
    """Who else is on call then stays; a custom shift is added, and can be overridden too."""
    member = {name: {"type": "user_member", "user_id": name} for name in ("ann", "bob", "eve", "fay")}
    custom = {
        "id": "c1",
        "start_time": "2026-03-02T20:00:00Z",
        "end_time": "2026-03-02T23:00:00Z",
        "assignments": [{"member": member["bob"]}],
    }

    def override(before: str, after: str, start: str, end: str, **where: str) -> Document:
        return {
            "start_time": f"2026-03-02T{start}Z",
            "end_time": f"2026-03-02T{end}Z",
            "overridden_member": member[before],
            "overriding_member": member[after],
            **where,
        }

    overrides = [
        override("ann", "eve", "16:00:00", "18:00:00", rotation_id="r1"),
        override("ann", "eve", "16:00:00", "18:00:00", rotation_id="r9"),
        override("bob", "fay", "22:00:00", "23:59:00", custom_shift_id="c1"),
    ]
    found = final_shifts(
        schedule(event("ann", **DAY)), [custom], overrides, between("2026-03-02T00:00", "2026-03-03T00:00", NEW_YORK)
    )
    assert [f"{one.person} {one.start:%H}-{one.end:%H}" for one in found] == [
        "ann 14-16",
        "eve 16-18",
        "ann 18-22",
        "bob 20-22",
        "fay 22-23",
    ]


def test_the_vendors_own_assignments_are_read() -> None:
    """Computed by PagerDuty, each with where it is from."""
    assignment = {
        "start_time": "2026-03-02T09:00:00Z",
        "end_time": "2026-03-09T09:00:00Z",
        "member": {"type": "user_member", "user_id": "ann"},
        "source": {"type": "schedule_rotation", "rotation_id": "r1"},
    }
    found = rendered({"final_schedule": {"computed_shift_assignments": [assignment]}})
    assert found is not None
    assert lines(found[1], "UTC") == ["ann: Mon 02 09:00+0000 to Mon 09 09:00+0000"]
    assert rendered({}) is None


@pytest.mark.parametrize(
    "broken",
    [
        event("ann", rules=["RRULE:FREQ=SOMETIMES"], **DAY),
        event("ann", rules=["nonsense"], **DAY),
        event("ann", start="2026-03-02T09:00", end="2026-03-02T09:00"),
        event("ann", zone="Nowhere/Town", **DAY),
    ],
)
def test_what_cannot_be_carried_out_is_an_error(broken: Document) -> None:
    """Not an empty schedule."""
    with pytest.raises(ScheduleError):
        final_shifts(schedule(broken), (), (), between("2026-03-02T00:00", "2026-03-09T00:00"))
