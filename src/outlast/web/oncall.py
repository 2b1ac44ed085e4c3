"""Who is on call: now and next for every schedule, the weeks to come, overrides set here, and feeds for calendars."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from outlast.core.errors import NotFoundError, UsageError
from outlast.oncall import ledger, links, overrides, roster
from outlast.oncall.clock import instant, wall
from outlast.oncall.feed import calendar
from outlast.oncall.feed import interval as reach
from outlast.oncall.policy import Directory
from outlast.oncall.roster import Basis, Now, Schedule
from outlast.oncall.schedule import Interval, Override, people_by_time
from outlast.oncall.schedule import Responder as Someone
from outlast.web.accounts import Role
from outlast.web.pages import back, render
from outlast.web.security import Form, Responder, Viewer
from outlast.web.services import Services, services

router = APIRouter(include_in_schema=False)

_WEEKS_MAX = 12
_NOTE_MAX = 500
_BASIS = {
    Basis.VENDOR: "as the vendor rendered it",
    Basis.COMPUTED: "computed from the vendor's rules",
    Basis.OVERRIDE: "set here",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A part of a day in which the same people are on call: `09:00` to `24:00`."""

    start: str
    end: str
    people: str


@dataclass(frozen=True, slots=True)
class Day:
    name: str
    entries: tuple[Entry, ...]


@router.get("/oncall")
def list_schedules(request: Request, visitor: Viewer) -> HTMLResponse:
    found, moment = services(request), datetime.now(UTC)
    directory = _directory(found)
    laid = _laid(found)
    told = [roster.now(one, moment, laid.get(one.key, ())) for one in directory.roster.schedules] if directory else []
    return render(
        request, "oncall.html", visitor,
        schedules=[_shown(found, one) for one in told], copied=directory is not None,
    )  # fmt: skip


@router.get("/oncall/{source}/{schedule}.ics")
def feed(request: Request, source: str, schedule: str, key: str = "") -> Response:
    """A calendar's own address of a schedule: whoever has it reads the feed, since calendars cannot log in."""
    found = services(request)
    with found.database.read() as connection:
        signing = ledger.known_key(connection)
    if signing is None or not links.feed_opens(signing, f"{source}/{schedule}", key):
        raise HTTPException(404, "There is no such page")
    one, _ = _schedule(found, source, schedule)
    now = datetime.now(UTC)
    told = roster.answer(one, reach(now), _laid(found).get(one.key, ()))
    copied_at = found.lookup.copied_at(one.source) if found.lookup else None
    return Response(calendar(told, at=now, copied_at=copied_at), media_type="text/calendar; charset=utf-8")


@router.get("/oncall/{source}/{schedule}")
def show(request: Request, visitor: Viewer, source: str, schedule: str, weeks: int = 2) -> HTMLResponse:
    found, moment = services(request), datetime.now(UTC)
    one, directory = _schedule(found, source, schedule)
    laid = _laid(found).get(one.key, ())
    told = roster.now(one, moment, laid)
    today = wall(moment, one.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    days = list(_days(one, today, max(1, min(weeks, _WEEKS_MAX)) * 7, laid))
    people = sorted(
        (one for one in directory.people.by_key.values() if one.source == source), key=lambda one: one.name.casefold()
    )
    here = f"/oncall/{source}/{schedule}"
    return render(
        request, "schedule.html", visitor,
        one=_shown(found, told), zone=one.zone_name, days=days, weeks=weeks, here=here,
        overrides=[_override(each, one.zone) for each in overrides.all_of(found.database, one.key)
                   if each.interval.end > moment],
        people=[(each.id, each.name) for each in people], may_act=visitor.role.may(Role.RESPONDER),
        start=_typed(moment, one.zone), end=_typed(told.until or moment + timedelta(hours=8), one.zone),
        feed=_feed_address(request, found, one),
    )  # fmt: skip


@router.post("/oncall/{source}/{schedule}/override")
def override(request: Request, visitor: Responder, form: Form, source: str, schedule: str) -> Response:
    """Have somebody take over, from when until when by the clock of the schedule."""
    found = services(request)
    one, directory = _schedule(found, source, schedule)
    person = directory.people.find(source, str(form.get("person", "")))
    if person is None:
        raise UsageError("there is no such person in the copy", hint="Choose one from the list.")
    interval = Interval(_given(form, "start", one.zone), _given(form, "end", one.zone))
    note = str(form.get("note", "")).replace("\x00", "")[:_NOTE_MAX]
    who = Someone("user", person.id, person.name)
    overrides.put(found.database, one.key, who, interval, by=visitor.name, at=datetime.now(UTC), note=note)
    return back(f"/oncall/{source}/{schedule}")


@router.post("/oncall/{source}/{schedule}/override/{number}/end")
def end_override(request: Request, visitor: Responder, source: str, schedule: str, number: str) -> Response:
    overrides.end(services(request).database, number, by=visitor.name, at=datetime.now(UTC))
    return back(f"/oncall/{source}/{schedule}")


def _directory(found: Services) -> Directory | None:
    return found.lookup.directory() if found.lookup else None


def _schedule(found: Services, source: str, schedule: str) -> tuple[Schedule, Directory]:
    directory = _directory(found)
    if directory is None:
        raise NotFoundError("there is no copy of any schedule yet", hint="It comes with a backup of the tool.")
    one = next((one for one in directory.roster.schedules if (one.source, one.id) == (source, schedule)), None)
    if one is None:
        raise HTTPException(404, "There is no such schedule")
    return one, directory


def _laid(found: Services) -> Mapping[str, Sequence[Override]]:
    return overrides.laid_by_schedule(overrides.all_of(found.database))


def _shown(found: Services, told: Now) -> dict[str, Any]:
    one = told.schedule
    return {
        "name": one.name,
        "address": f"/oncall/{one.source}/{one.id}",
        "source": one.source,
        "people": ", ".join(str(person) for person in told.people),
        "until": _local(told.until, one.zone) if told.until else None,
        "next": ", ".join(str(person) for person in told.next_people),
        "basis": _BASIS[told.basis],
        "problem": told.problem,
        "copied_at": found.lookup.copied_at(one.source) if found.lookup else None,
        "differences": found.lookup.differences(one.key) if found.lookup else 0,
    }


def _days(one: Schedule, today: datetime, count: int, laid: Sequence[Override]) -> Iterator[Day]:
    """The days from today on, each by the schedule's own clock, cut where who is on call changes."""
    edges = [instant(today + timedelta(days=number), one.zone) for number in range(count + 1)]
    told = roster.answer(one, Interval(edges[0], edges[-1]), laid)
    for number in range(count):
        if edges[number] == edges[number + 1]:  # a day that the clock leaps over
            continue
        day = Interval(edges[number], edges[number + 1])
        entries = tuple(
            Entry(
                f"{wall(part.start, one.zone):%H:%M}",
                "24:00" if part.end == day.end else f"{wall(part.end, one.zone):%H:%M}",
                ", ".join(sorted(str(person) for person in people)),
            )
            for part, people in people_by_time(told.shifts, day)
        )
        yield Day(f"{today + timedelta(days=number):%a %-d %b}", entries)


def _override(one: overrides.LocalOverride, zone: ZoneInfo) -> dict[str, Any]:
    return {
        "id": one.id,
        "person": str(one.person),
        "start": _local(one.interval.start, zone),
        "end": _local(one.interval.end, zone),
        "note": one.note,
        "by": one.set_by,
    }


def _local(moment: datetime, zone: ZoneInfo) -> str:
    return f"{moment.astimezone(zone):%a %-d %b %H:%M %Z}"


def _typed(moment: datetime, zone: ZoneInfo) -> str:
    return f"{wall(moment, zone):%Y-%m-%dT%H:%M}"


def _given(form: dict[str, Any], name: str, zone: ZoneInfo) -> datetime:
    try:
        return instant(datetime.fromisoformat(str(form.get(name, ""))).replace(tzinfo=None), zone)
    except (ValueError, OverflowError):
        raise UsageError(f"the {name} is no date and time", hint="Write it as 2026-03-08T09:00.") from None


def _feed_address(request: Request, found: Services, one: Schedule) -> str:
    key = found.commits.wait_for(ledger.signing_key)
    base = found.public_url or str(request.base_url).rstrip("/")
    return f"{base}/oncall/{one.source}/{one.id}.ics?key={links.feed_key(key, one.key)}"
