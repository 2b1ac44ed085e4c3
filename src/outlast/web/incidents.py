"""Incidents at the desk: what is open, what is due, and saying the next word; the same as an API for scripts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, Field

from outlast.core.tenant import Tenant, TenantKey
from outlast.incident.cadence import dues
from outlast.incident.conduct import Conduct, Opening, Saying
from outlast.incident.drafting import progress
from outlast.incident.incident import Component, Incident, Role, Severity, Status
from outlast.incident.report import make_report, markdown
from outlast.incident.site import render_report
from outlast.web.pages import NAVIGATION, back, render
from outlast.web.security import Approver, Form, Responder, Viewer
from outlast.web.services import services

router = APIRouter(include_in_schema=False)
api = APIRouter(prefix="/api/incidents", tags=["incidents"])
NAVIGATION.append(("/incidents", "Incidents"))

Name = Annotated[str, Field(max_length=40)]


def _conduct(request: Request) -> Conduct:
    teller = services(request).teller
    if teller is None:
        raise HTTPException(404, "Incidents are not set up here")
    return teller.driver.conduct


# Pages


@router.get("/incidents")
def list_incidents(request: Request, visitor: Viewer) -> HTMLResponse:
    conduct, now = _conduct(request), datetime.now(UTC)
    found = list(reversed(conduct.journal.all()))
    rows = [(one, next(iter(dues(one, conduct.rules.promise)), None)) for one in found]
    return render(
        request, "incidents.html", visitor,
        current=[row for row in rows if not row[0].over], past=[row for row in rows if row[0].over][:50], moment=now,
        may_act=visitor.role.may(_role("responder")), components=conduct.rules.components,
    )  # fmt: skip


@router.get("/incidents/{name}")
def show(request: Request, visitor: Viewer, name: str) -> HTMLResponse:
    conduct, now = _conduct(request), datetime.now(UTC)
    incident = conduct.journal.load(name)
    language = conduct.rules.languages[0]
    interval = conduct.rules.promise.interval(incident.severity)
    return render(
        request, "incident.html", visitor,
        incident=incident, dues=dues(incident, conduct.rules.promise), moment=now,
        report=make_report(incident, conduct.journal.events(name), conduct.rules.promise),
        suggestion=progress(incident, [language], now)[language], components=conduct.rules.components,
        minutes=None if interval is None else int(interval.total_seconds() // 60),
        may_act=visitor.role.may(_role("responder")), may_approve=visitor.role.may(_role("approver")),
    )  # fmt: skip


@router.get("/incidents/{name}/report")
def report(request: Request, visitor: Viewer, name: str) -> Response:
    """The review as a file: its style is its own, so it is not shown among our pages."""
    del visitor
    conduct = _conduct(request)
    made = make_report(conduct.journal.load(name), conduct.journal.events(name), conduct.rules.promise)
    headers = {"content-disposition": f'attachment; filename="incident-{made.incident.id}.html"'}
    return HTMLResponse(render_report(made), headers=headers)


@router.post("/incidents")
def open_incident(request: Request, visitor: Responder, form: Form) -> Response:
    conduct = _conduct(request)
    component = str(form.get("component", ""))
    opening = Opening(
        str(form.get("title", "")),
        _severity(form.get("severity")),
        public=bool(form.get("publish")),
        components={component: Component.MAJOR} if component else {},
    )
    incident, _ = conduct.open(opening, visitor.name, datetime.now(UTC))
    return back(f"/incidents/{incident.id}")


@router.post("/incidents/{name}/update")
def update(request: Request, visitor: Responder, form: Form, name: str) -> Response:
    conduct, now = _conduct(request), datetime.now(UTC)
    saying = Saying(
        _status(form.get("status")), str(form.get("message", "")), next_at=_minutes(form.get("minutes"), now),
        scope=True if form.get("scope") else None,
    )  # fmt: skip
    say = conduct.draft if form.get("draft") else conduct.say
    say(name, saying, visitor.name, now)
    return back(f"/incidents/{name}")


@router.post("/incidents/{name}/drafts/{number}")
def settle(request: Request, visitor: Approver, form: Form, name: str, number: int) -> Response:
    """Publish a draft, or give it up."""
    conduct, now = _conduct(request), datetime.now(UTC)
    if form.get("doing") == "reject":
        conduct.reject(name, number, visitor.name, now)
    else:
        conduct.approve(name, number, visitor.name, now)
    return back(f"/incidents/{name}")


@router.post("/incidents/{name}/note")
def note(request: Request, visitor: Responder, form: Form, name: str) -> Response:
    _conduct(request).affect(name, visitor.name, datetime.now(UTC), note=str(form.get("note", "")))
    return back(f"/incidents/{name}")


@router.post("/incidents/{name}/role")
def take_role(request: Request, visitor: Responder, form: Form, name: str) -> Response:
    """Whoever presses it leads, or speaks."""
    try:
        role = Role(str(form.get("role", "")))
    except ValueError:
        raise HTTPException(422, "There is no such role") from None
    _conduct(request).affect(name, visitor.name, datetime.now(UTC), roles={role: visitor.name})
    return back(f"/incidents/{name}")


@router.post("/incidents/{name}/resolve")
def resolve(request: Request, visitor: Responder, form: Form, name: str) -> Response:
    message = str(form.get("message", "")).strip()
    _conduct(request).resolve(name, Saying(body=message or None), visitor.name, datetime.now(UTC))
    return back(f"/incidents/{name}")


def _role(word: str) -> Any:
    from outlast.web.accounts import Role as VisitorRole

    return VisitorRole(word)


def _severity(text: object) -> Severity:
    try:
        severity = Severity(str(text))
    except ValueError:
        raise HTTPException(422, "There is no such severity") from None
    if severity is Severity.MAINTENANCE:
        raise HTTPException(422, "Planned work is announced by `outlast incident open --scheduled`")
    return severity


def _status(text: object) -> Status | None:
    if not text:
        return None
    try:
        return Status(str(text))
    except ValueError:
        raise HTTPException(422, "There is no such status") from None


def _minutes(text: object, now: datetime) -> datetime | None:
    digits = str(text or "")
    return now + timedelta(minutes=int(digits)) if digits.isdecimal() and len(digits) < 6 else None


# API


class Opened(BaseModel):
    """An incident to be opened."""

    title: str = Field(min_length=1, max_length=200, pattern=r"\S")
    severity: Severity = Severity.MAJOR
    publish: bool = False
    components: dict[str, Component] = Field(default_factory=dict)
    tenants: list[Name] = Field(default_factory=list, max_length=100_000)


class Said(BaseModel):
    """An update. Without `message` it is made from the facts. `next_minutes` is when the next one comes."""

    message: str | None = Field(default=None, max_length=10_000)
    status: Status | None = None
    next_minutes: int | None = Field(default=None, ge=1, le=1440)
    scope: bool | None = None
    draft: bool = False


class Told(BaseModel):
    """An incident as the API tells it."""

    incident: str
    title: str
    severity: Severity
    status: Status
    public: bool
    opened_at: datetime
    resolved_at: datetime | None
    next_update_at: datetime | None
    tenants: dict[str, int]
    drafts: list[int]


def _told(incident: Incident) -> Told:
    states = [one.state.value for one in incident.tenants.values()]
    return Told(
        incident=incident.id,
        title=incident.title,
        severity=incident.severity,
        status=incident.status,
        public=incident.public,
        opened_at=incident.opened_at,
        resolved_at=incident.resolved_at,
        next_update_at=incident.next_at,
        tenants={state: states.count(state) for state in sorted(set(states))},
        drafts=[one.number for one in incident.drafts],
    )


@api.get("")
def all_incidents(request: Request, visitor: Viewer) -> list[Told]:
    """Every incident, the newest first."""
    del visitor
    return [_told(one) for one in reversed(_conduct(request).journal.all())]


@api.post("", status_code=201)
def create(request: Request, visitor: Responder, opened: Opened) -> Told:
    """Open an incident."""
    if opened.severity is Severity.MAINTENANCE:
        raise HTTPException(422, "Planned work is announced by `outlast incident open --scheduled`")
    tenants = [(Tenant(TenantKey(name)), None) for name in opened.tenants]
    opening = Opening(opened.title, opened.severity, opened.publish, components=opened.components, tenants=tenants)
    return _told(_conduct(request).open(opening, visitor.name, datetime.now(UTC))[0])


@api.get("/{name}")
def one_incident(request: Request, visitor: Viewer, name: Name) -> Told:
    """One incident."""
    del visitor
    return _told(_conduct(request).journal.load(name))


@api.post("/{name}/updates", status_code=201)
def say(request: Request, visitor: Responder, name: Name, said: Said) -> Told:
    """Publish an update, or write it as a draft."""
    conduct, now = _conduct(request), datetime.now(UTC)
    next_at = None if said.next_minutes is None else now + timedelta(minutes=said.next_minutes)
    saying = Saying(said.status, said.message, next_at=next_at, scope=said.scope)
    return _told((conduct.draft if said.draft else conduct.say)(name, saying, visitor.name, now))


@api.post("/{name}/resolve")
def end(request: Request, visitor: Responder, name: Name, said: Said) -> Told:
    """Say the last word."""
    return _told(_conduct(request).resolve(name, Saying(body=said.message), visitor.name, datetime.now(UTC)))


@api.get("/{name}/report")
def review(request: Request, visitor: Viewer, name: Name) -> dict[str, str]:
    """The post-incident review as Markdown."""
    del visitor
    conduct = _conduct(request)
    made = make_report(conduct.journal.load(name), conduct.journal.events(name), conduct.rules.promise)
    return {"markdown": markdown(made)}
