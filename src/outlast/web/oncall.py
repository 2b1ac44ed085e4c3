"""Who is on call, now and next, from the local copy and what was overridden here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from outlast.core.errors import UsageError
from outlast.oncall import feed, overrides, roster
from outlast.oncall.schedule import Interval, Override, Responder
from outlast.web.accounts import Role
from outlast.web.pages import back, render
from outlast.web.security import Form, Viewer
from outlast.web.security import Responder as Acting
from outlast.web.services import Services, services

router = APIRouter(include_in_schema=False)

_DAYS = 14
_OVERRIDE_HOURS_MAX = 14 * 24


def _read(found: Services) -> roster.Roster | None:
    copy = found.library()
    return roster.read(copy) if copy is not None else None


def _laid(found: Services) -> dict[str, list[Override]]:
    return overrides.laid_by_schedule(overrides.all_of(found.database))


@router.get("/oncall")
def show(request: Request, visitor: Viewer) -> HTMLResponse:
    found = services(request)
    read, at = _read(found), datetime.now(UTC)
    laid = _laid(found) if read is not None else {}
    rows = [roster.now(one, at, laid.get(one.key, ())) for one in read.schedules] if read is not None else []
    copy = found.library()
    copied = {one.source: one.moment for one in copy.sources()} if copy is not None else {}
    return render(request, "oncall.html", visitor, rows=rows, copied=copied)


@router.get("/oncall/{key:path}.ics")
def calendar(request: Request, visitor: Viewer, key: str) -> Response:
    """The schedule as iCalendar, two weeks back and eight ahead."""
    found = services(request)
    schedule, at = _schedule(found, key), datetime.now(UTC)
    answer = roster.answer(schedule, feed.interval(at), _laid(found).get(schedule.key, ()))
    copy = found.library()
    copied_at = copy.moment(schedule.source) if copy is not None else None
    content = feed.calendar(answer, at=at, copied_at=copied_at)
    return Response(content, media_type="text/calendar", headers={"Content-Disposition": "attachment"})


@router.get("/oncall/{key:path}")
def one(request: Request, visitor: Viewer, key: str) -> HTMLResponse:
    found = services(request)
    schedule, at = _schedule(found, key), datetime.now(UTC)
    laid = _laid(found).get(schedule.key, ())
    answer = roster.answer(schedule, Interval(at, at + timedelta(days=_DAYS)), laid)
    copy = found.library()
    return render(
        request, "schedule.html", visitor,
        schedule=schedule, answer=answer, now_there=roster.now(schedule, at, laid),
        shifts=[(shift, str(schedule.named(shift.person))) for shift in answer.shifts],
        names=sorted(set(schedule.names.values())),
        set_here=overrides.all_of(found.database, schedule.key), zone=schedule.zone,
        copied_at=copy.moment(schedule.source) if copy is not None else None,
        may_act=visitor.role.may(Role.RESPONDER),
    )  # fmt: skip


@router.post("/oncall/{key:path}")
def override(request: Request, visitor: Acting, form: Form, key: str) -> Response:
    """Put somebody on call from now on, for some hours, or end what was set."""
    found = services(request)
    schedule, at = _schedule(found, key), datetime.now(UTC)
    if form.get("end"):
        overrides.end(found.database, str(form["end"]), by=visitor.name, at=at)
        return back(f"/oncall/{schedule.key}")
    person, hours = str(form.get("person", "")).strip(), str(form.get("hours", ""))
    if not person or len(person) > 200 or not hours.isdecimal() or not 0 < int(hours) <= _OVERRIDE_HOURS_MAX:
        raise HTTPException(422, f"Name a person, and 1 to {_OVERRIDE_HOURS_MAX} hours")
    try:
        overrides.put(
            found.database, schedule.key, _named(schedule, person), Interval(at, at + timedelta(hours=int(hours))),
            by=visitor.name, at=at,
        )  # fmt: skip
    except UsageError as error:
        raise HTTPException(422, error.message) from None
    return back(f"/oncall/{schedule.key}")


def _schedule(found: Services, key: str) -> roster.Schedule:
    read = _read(found)
    known = next((one for one in read.schedules if one.key == key), None) if read is not None else None
    if known is None:
        raise HTTPException(404, "The copy has no such schedule")
    return known


def _named(schedule: roster.Schedule, person: str) -> Responder:
    """The user of the tool by name or id; else whoever was typed."""
    known = next(
        (key for key, name in schedule.names.items() if person.casefold() in (key.casefold(), name.casefold())), None
    )
    return Responder("user", known or person, schedule.names.get(known or "", person))
