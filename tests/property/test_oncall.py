"""Who is on call, computed in one piece, is who is on call minute by minute.

The oracle below knows none of the code under test but its answers. It looks at one minute at a time, at what a clock on
the wall has shown at the latest by then, and asks each rule of the vendor's in turn, as a person with a printed
schedule would.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlast.oncall import opsgenie, pagerduty, pagerduty_v3
from outlast.oncall.schedule import Interval, people_by_time

Document = dict[str, Any]
PEOPLE = ("ann", "bob", "eve", "fay")
MINUTE = timedelta(minutes=1)
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
# A day before which the clock there is set forward or back, and days on which nothing happens.
PLACES = (
    ("America/New_York", "2026-03-08"),
    ("America/New_York", "2026-11-01"),
    ("Europe/London", "2026-03-29"),
    ("Europe/London", "2026-10-25"),
    ("Australia/Sydney", "2026-10-04"),
    ("Australia/Sydney", "2026-04-05"),
    ("Australia/Lord_Howe", "2026-10-04"),
    ("Australia/Lord_Howe", "2026-04-05"),
    ("Asia/Kolkata", "2026-05-05"),
)
QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

places = st.sampled_from(PLACES)
hours = st.integers(0, 23)
minutes = st.sampled_from((0, 15, 30))
people = st.lists(st.sampled_from((*PEOPLE, "")), min_size=1, max_size=4)
offsets_min = st.integers(-1500, 1500)


def clock_readings(zone: ZoneInfo, interval: Interval) -> Iterator[tuple[datetime, datetime]]:
    """Each minute of the interval, with the latest time that a clock there has shown until then."""
    moment, shown = interval.start - timedelta(days=2), datetime.min  # noqa: DTZ901 - a wall-clock time
    while moment < interval.end:
        shown = max(shown, moment.astimezone(zone).replace(tzinfo=None))
        if moment >= interval.start:
            yield moment, shown
        moment += MINUTE


def around(place: tuple[str, str]) -> Interval:
    midnight = datetime.fromisoformat(place[1]).replace(tzinfo=ZoneInfo(place[0])).astimezone(UTC)
    return Interval(midnight - timedelta(hours=6), midnight + timedelta(hours=20))


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def turn(shown: datetime, moment: datetime, start: datetime, length: timedelta, zone: ZoneInfo) -> int:
    """Which turn it is: by the wall clock where hand-overs are at the same hours every day, else as time passes."""
    seconds = int(length.total_seconds())
    if seconds % 86400 == 0 or 86400 % seconds == 0:
        return (shown - start.astimezone(zone).replace(tzinfo=None)) // length
    return (moment - start) // length


def at_minute(shifts: Any, interval: Interval) -> Iterator[frozenset[str]]:
    for part, found in people_by_time(shifts, interval):
        for _ in range(int((part.end - part.start) / MINUTE)):
            yield frozenset(one.id for one in found)


# Opsgenie


@st.composite
def restrictions(draw: st.DrawFn) -> Document | None:
    kind = draw(st.sampled_from((None, "time-of-day", "weekday-and-time-of-day")))
    if kind is None:
        return None
    times = st.fixed_dictionaries({"startHour": hours, "startMin": minutes, "endHour": hours, "endMin": minutes})
    if kind == "time-of-day":
        return {"type": kind, "restriction": draw(times)}
    days = st.sampled_from(WEEKDAYS)
    both = st.tuples(times, st.fixed_dictionaries({"startDay": days, "endDay": days})).map(lambda two: two[0] | two[1])
    return {"type": kind, "restrictions": draw(st.lists(both, min_size=1, max_size=3))}


def participant(name: str) -> Document:
    return {"type": "user", "id": name} if name else {"type": "none"}


@st.composite
def spans(draw: st.DrawFn, interval: Interval) -> tuple[datetime, datetime]:
    start = interval.start + draw(st.integers(-300, 1700)) * MINUTE
    return start, start + draw(st.integers(1, 900)) * MINUTE


@st.composite
def opsgenie_schedules(draw: st.DrawFn) -> tuple[Document, list[Document], list[Document], Interval]:
    place = draw(places)
    interval = around(place)
    rotations: list[Document] = []
    for number in range(draw(st.integers(1, 3))):
        start = interval.start + draw(st.integers(-200_000, 600)) * MINUTE
        end = start + draw(st.integers(1, 260_000)) * MINUTE if draw(st.booleans()) else None
        rotations.append(
            {
                "id": f"r{number}",
                "name": f"rotation {number}",
                "startDate": stamp(start),
                "endDate": end and stamp(end),
                "type": draw(st.sampled_from(("hourly", "daily", "weekly"))),
                "length": draw(st.sampled_from((1, 2, 3, 5, 8, 12))),
                "participants": [participant(name) for name in draw(people)],
                "timeRestriction": draw(restrictions()),
            }
        )
    overrides: list[Document] = []
    for _ in range(draw(st.integers(0, 3))):
        start, end = draw(spans(interval))
        named = draw(st.lists(st.sampled_from([one["id"] for one in rotations]), max_size=2, unique=True))
        person = participant(draw(st.sampled_from((*PEOPLE, ""))))
        overrides.append(
            {"user": person, "startDate": stamp(start), "endDate": stamp(end), "rotations": [{"id": n} for n in named]}
        )
    forwardings: list[Document] = []
    for _ in range(draw(st.integers(0, 3))):
        start, end = draw(spans(interval))
        who, to = draw(st.sampled_from(PEOPLE)), draw(st.sampled_from(PEOPLE))
        forwardings.append(
            {"fromUser": {"id": who}, "toUser": {"id": to}, "startDate": stamp(start), "endDate": stamp(end)}
        )
    return {"id": "s", "timezone": place[0], "rotations": rotations}, overrides, forwardings, interval


def covers(document: Mapping[str, Any], moment: datetime) -> bool:
    end = document.get("endDate")
    return datetime.fromisoformat(document["startDate"]) <= moment and (
        end is None or moment < datetime.fromisoformat(end)
    )


def is_open(restriction: Document | None, shown: datetime) -> bool:
    if restriction is None:
        return True
    weekly = restriction["type"] == "weekday-and-time-of-day"
    now = (shown.weekday() * 1440 if weekly else 0) + shown.hour * 60 + shown.minute
    for one in restriction["restrictions"] if weekly else [restriction["restriction"]]:
        start, end = (
            (WEEKDAYS.index(one[f"{edge}Day"]) * 1440 if weekly else 0) + one[f"{edge}Hour"] * 60 + one[f"{edge}Min"]
            for edge in ("start", "end")
        )
        if start == end or (start <= now < end if start < end else now >= start or now < end):
            return True
    return False


def opsgenie_oracle(
    schedule: Document,
    overrides: list[Document],
    forwardings: list[Document],
    moment: datetime,
    shown: datetime,
) -> frozenset[str]:
    zone = ZoneInfo(schedule["timezone"])
    unit = {"hourly": timedelta(hours=1), "daily": timedelta(days=1), "weekly": timedelta(days=7)}
    on_call: dict[str, str] = {}
    for rotation in schedule["rotations"]:
        if not covers(rotation, moment) or not is_open(rotation["timeRestriction"], shown):
            continue
        start = datetime.fromisoformat(rotation["startDate"])
        number = turn(shown, moment, start, unit[rotation["type"]] * rotation["length"], zone)
        turns = rotation["participants"]
        on_call[rotation["id"]] = turns[number % len(turns)].get("id", "")
    for override in sorted(overrides, key=lambda one: datetime.fromisoformat(one["startDate"])):
        if not covers(override, moment):
            continue
        person = override["user"].get("id", "")
        if not override["rotations"]:
            on_call = {"": person}
        for rotation in override["rotations"]:
            on_call[rotation["id"]] = person
    reached = set()
    for name in on_call.values():
        person, seen = name, {name}
        while to := next(
            (
                rule["toUser"]["id"]
                for rule in forwardings
                if rule["fromUser"]["id"] == person and rule["toUser"]["id"] not in seen and covers(rule, moment)
            ),
            None,
        ):
            person = to
            seen.add(to)
        reached.add(person)
    return frozenset(reached - {""})


@QUICK
@given(opsgenie_schedules())
def test_opsgenie_in_one_piece_is_minute_by_minute(
    case: tuple[Document, list[Document], list[Document], Interval],
) -> None:
    """Rotations, restrictions, overrides and forwardings, over changes of the clock."""
    schedule, overrides, forwardings, interval = case
    whole = opsgenie.final_shifts(schedule, overrides, forwardings, interval)
    readings = clock_readings(ZoneInfo(schedule["timezone"]), interval)
    expected = [opsgenie_oracle(schedule, overrides, forwardings, *reading) for reading in readings]
    assert list(at_minute(whole, interval)) == expected


@QUICK
@given(opsgenie_schedules(), st.integers(1, 1500))
def test_a_schedule_asked_for_in_two_pieces_says_the_same(
    case: tuple[Document, list[Document], list[Document], Interval], cut_min: int
) -> None:
    """What is shown of a week does not depend on where the week was cut."""
    schedule, overrides, forwardings, interval = case
    cut = interval.start + cut_min * MINUTE
    parts = [Interval(interval.start, cut), Interval(cut, interval.end)]
    whole = opsgenie.final_shifts(schedule, overrides, forwardings, interval)
    pieces = [opsgenie.final_shifts(schedule, overrides, forwardings, part) for part in parts if part.start < part.end]
    assert list(at_minute(whole, interval)) == list(at_minute([one for some in pieces for one in some], interval))


# PagerDuty, version 2


@st.composite
def pagerduty_schedules(draw: st.DrawFn) -> tuple[Document, list[Document], Interval]:
    place = draw(places)
    interval = around(place)
    layers: list[Document] = []
    for number in range(draw(st.integers(1, 3))):
        start = interval.start + draw(st.integers(-200_000, 600)) * MINUTE
        limits: list[Document] = []
        for _ in range(draw(st.integers(0, 2))):
            limit: Document = {
                "type": draw(st.sampled_from(("daily_restriction", "weekly_restriction"))),
                "start_time_of_day": f"{draw(hours):02}:{draw(minutes):02}:00",
                "duration_seconds": draw(st.integers(1, 1500)) * 60,
            }
            if limit["type"] == "weekly_restriction":
                limit["start_day_of_week"] = draw(st.integers(1, 7))
            limits.append(limit)
        layers.append(
            {
                "id": f"l{number}",
                "start": stamp(start),
                "end": stamp(start + draw(st.integers(1, 260_000)) * MINUTE) if draw(st.booleans()) else None,
                "rotation_virtual_start": stamp(start + draw(offsets_min) * MINUTE),
                "rotation_turn_length_seconds": draw(st.sampled_from((3600, 18000, 43200, 86400, 172800, 604800))),
                "users": [{"user": {"id": name} if name else None} for name in draw(people)],
                "restrictions": limits,
            }
        )
    overrides: list[Document] = []
    for _ in range(draw(st.integers(0, 2))):
        start, end = draw(spans(interval))
        overrides.append({"start": stamp(start), "end": stamp(end), "user": {"id": draw(st.sampled_from(PEOPLE))}})
    return {"id": "P", "time_zone": place[0], "schedule_layers": layers}, overrides, interval


def pagerduty_oracle(
    schedule: Document, overrides: list[Document], moment: datetime, shown: datetime
) -> frozenset[str]:
    zone = ZoneInfo(schedule["time_zone"])
    covering = [
        one
        for one in sorted(overrides, key=lambda one: datetime.fromisoformat(one["start"]))
        if datetime.fromisoformat(one["start"]) <= moment < datetime.fromisoformat(one["end"])
    ]
    if covering:
        return frozenset({covering[-1]["user"]["id"]})
    for layer in schedule["schedule_layers"]:
        if not covers({"startDate": layer["start"], "endDate": layer["end"]}, moment):
            continue
        if layer["restrictions"] and not any(_within(limit, shown) for limit in layer["restrictions"]):
            continue
        length = timedelta(seconds=layer["rotation_turn_length_seconds"])
        start = datetime.fromisoformat(layer["rotation_virtual_start"])
        user = layer["users"][turn(shown, moment, start, length, zone) % len(layer["users"])]["user"]
        if user:
            return frozenset({user["id"]})
    return frozenset()


def _within(limit: Document, shown: datetime) -> bool:
    weekly = limit["type"] == "weekly_restriction"
    hour, minute, _ = (int(part) for part in limit["start_time_of_day"].split(":"))
    start = (limit["start_day_of_week"] - 1) * 1440 * weekly + hour * 60 + minute if weekly else hour * 60 + minute
    now = shown.weekday() * 1440 * weekly + shown.hour * 60 + shown.minute
    return bool((now - start) % (10080 if weekly else 1440) < limit["duration_seconds"] // 60)


@QUICK
@given(pagerduty_schedules())
def test_pagerduty_in_one_piece_is_minute_by_minute(case: tuple[Document, list[Document], Interval]) -> None:
    """Layers, restrictions, virtual starts and overrides, over changes of the clock."""
    schedule, overrides, interval = case
    whole = pagerduty.final_shifts(schedule, overrides, interval)
    readings = clock_readings(ZoneInfo(schedule["time_zone"]), interval)
    assert list(at_minute(whole, interval)) == [pagerduty_oracle(schedule, overrides, *reading) for reading in readings]


# PagerDuty, version 3


@st.composite
def shift_schedules(draw: st.DrawFn) -> tuple[Document, Interval]:
    place = draw(places)
    interval = around(place)
    days = sorted(draw(st.sets(st.integers(0, 6), min_size=1)))
    first = datetime.fromisoformat(place[1]) - timedelta(days=draw(st.integers(0, 20)))
    start = first.replace(hour=draw(hours), minute=draw(minutes))
    length_min = draw(st.integers(1, 1440))
    event = {
        "id": "e",
        "name": "event",
        "start_time": {"date_time": f"{start.isoformat()}Z", "time_zone": place[0]},
        "end_time": {"date_time": f"{(start + length_min * MINUTE).isoformat()}Z", "time_zone": place[0]},
        "effective_since": stamp(interval.start - timedelta(days=30)),
        "recurrence": [
            "RRULE:FREQ=WEEKLY;BYDAY=" + ",".join(("MO", "TU", "WE", "TH", "FR", "SA", "SU")[day] for day in days)
        ],
        "assignment_strategy": {
            "type": "rotating_member_assignment_strategy",
            "shifts_per_member": draw(st.integers(1, 3)),
            "members": [{"type": "user_member", "user_id": name} for name in draw(people) if name]
            or [{"type": "empty_member"}],
        },
    }
    return {"id": "V", "rotations": [{"id": "r", "events": [event]}], "_days": days}, interval


def shifts_oracle(schedule: Document, shown: datetime) -> frozenset[str]:
    event = schedule["rotations"][0]["events"][0]
    start = datetime.fromisoformat(event["start_time"]["date_time"].removesuffix("Z"))
    end = datetime.fromisoformat(event["end_time"]["date_time"].removesuffix("Z"))
    strategy, number, day = event["assignment_strategy"], 0, start
    found = set()
    while day <= shown:
        if day.weekday() in schedule["_days"]:
            if day <= shown < day + (end - start):
                member = strategy["members"][number // strategy["shifts_per_member"] % len(strategy["members"])]
                found.add(member.get("user_id", ""))
            number += 1
        day += timedelta(days=1)
    return frozenset(found - {""})


@QUICK
@given(shift_schedules())
def test_recurring_events_in_one_piece_are_minute_by_minute(case: tuple[Document, Interval]) -> None:
    """Weekly on some days, members in turn, over changes of the clock."""
    schedule, interval = case
    zone = ZoneInfo(schedule["rotations"][0]["events"][0]["start_time"]["time_zone"])
    whole = pagerduty_v3.final_shifts(schedule, (), (), interval)
    assert list(at_minute(whole, interval)) == [
        shifts_oracle(schedule, shown) for _, shown in clock_readings(zone, interval)
    ]
