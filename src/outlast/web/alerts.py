"""The desk's first page: alerts, and what can be done about one. What is done is an event like any other."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from outlast.core.errors import UsageError
from outlast.relay import reading
from outlast.relay.alert import Alert
from outlast.relay.event import Action, Event, Naming, Vendor, new_id, told_time
from outlast.relay.journal import ACCEPTED, DONE, REFUSED, WAITING
from outlast.relay.tables import alerts as table
from outlast.web.accounts import Role, Visitor
from outlast.web.pages import back, render
from outlast.web.security import Form, Responder, Viewer
from outlast.web.services import services

router = APIRouter(include_in_schema=False)

_PAGE = 50
_LINES = 200
VIEWS = (("waiting", "Nobody has them"), ("open", "Open"), ("closed", "Closed"), ("all", "All"))
_WHERE: dict[str, list[Any]] = {
    "waiting": [reading.WAITING],
    "open": [reading.OPEN],
    "closed": [reading.CLOSED],
    "all": [],
}
_WORDS = {WAITING: "waiting", ACCEPTED: "accepted, not yet confirmed", DONE: "done", REFUSED: "refused"}
_SNOOZE_MINUTES_MAX = 7 * 24 * 60


@router.get("/")
def list_alerts(
    request: Request, visitor: Viewer, view: str = "waiting", query: str = "", before: int | None = None
) -> HTMLResponse:
    view = view if view in _WHERE else "waiting"
    problem, where = "", list(_WHERE[view])
    try:
        where += reading.query(query[:1000])
    except UsageError as error:
        problem = error.message
    if before is not None:
        where.append(table.c.tiny < before)
    with services(request).database.read() as connection:
        found = reading.page(connection, where, limit=_PAGE + 1, sort="tinyId")
    shown = found[:_PAGE]
    asked = {"view": view, "query": query}
    older = f"/?{urlencode({**asked, 'before': shown[-1].tiny})}" if len(found) > _PAGE else None
    here = f"/?{urlencode(asked if before is None else {**asked, 'before': before})}"
    return render(
        request, "alerts.html", visitor,
        alerts=shown, view=view, views=VIEWS, query=query, problem=problem, older=older, here=here,
    )  # fmt: skip


@router.get("/alerts/{alert_id}")
def show(request: Request, visitor: Viewer, alert_id: str) -> HTMLResponse:
    alert = _alert(request, alert_id)
    with services(request).database.read() as connection:
        lines = reading.log(connection, alert.id, limit=_LINES)
        passed = reading.passed(connection, alert.id)
    return render(
        request, "alert.html", visitor,
        alert=alert, lines=lines, passed=passed, words=_WORDS, may_act=visitor.role.may(Role.RESPONDER),
    )  # fmt: skip


@router.post("/alerts/{alert_id}/{doing}")
def act(request: Request, visitor: Responder, form: Form, alert_id: str, doing: str) -> Response:
    """Acknowledge, take that back, note, assign, snooze, close."""
    alert = _alert(request, alert_id)
    perform(request, visitor, alert, _action(doing), _fields(doing, form))
    return back(f"/alerts/{alert.id}")


def perform(request: Request, visitor: Visitor, alert: Alert, action: Action, fields: dict[str, Any]) -> None:
    """Record what a person does about an alert. It is passed on to the vendors like what monitoring sends."""
    event = Event(
        new_id(), time.time(), alert.integration, Vendor.DESK, action, Naming.ID, alert.id, alert.scope,
        {"user": visitor.name, "source": "Outlast", **fields},
    )  # fmt: skip
    services(request).commits.wait_for_taken([event])


def _alert(request: Request, alert_id: str) -> Alert:
    with services(request).database.read() as connection:
        alert = reading.find(connection, Naming.ID, alert_id)
    if alert is None:
        raise HTTPException(404, "There is no such alert")
    return alert


_DOINGS = {
    "acknowledge": Action.ACKNOWLEDGE,
    "unacknowledge": Action.UNACKNOWLEDGE,
    "close": Action.CLOSE,
    "note": Action.NOTE,
    "assign": Action.ASSIGN,
    "snooze": Action.SNOOZE,
}


def _action(doing: str) -> Action:
    try:
        return _DOINGS[doing]
    except KeyError:
        raise HTTPException(404, "There is no such page") from None


def _fields(doing: str, form: dict[str, Any]) -> dict[str, Any]:
    match doing:
        case "note":
            return {"note": _filled(form, "note", 25_000)}
        case "assign":
            return {"owner": _filled(form, "owner", 200)}
        case "snooze":
            minutes = str(form.get("minutes", ""))
            if not minutes.isdecimal() or not 0 < int(minutes) <= _SNOOZE_MINUTES_MAX:
                raise HTTPException(422, "A snooze lasts 1 minute to 7 days")
            return {"endTime": told_time(time.time() + int(minutes) * 60)}
        case _:
            return {}


def _filled(form: dict[str, Any], name: str, length_max: int) -> str:
    text = str(form.get(name, "")).strip().replace("\x00", "")
    if not text or len(text) > length_max:
        raise HTTPException(422, f"The {name} must have 1 to {length_max} characters")
    return text
