"""The page of upstreams: how each stands, and a person's decision whether it is to be believed."""

from __future__ import annotations

import time

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from outlast.relay import queue
from outlast.relay.breaker import Override
from outlast.web.accounts import Role
from outlast.web.pages import back, render
from outlast.web.security import Form, Operator, Viewer
from outlast.web.services import services

router = APIRouter(include_in_schema=False)

MODES = (
    (Override.STAND_IN.value, "Stand in for it"),
    (Override.TRUST.value, "Use it whatever happens"),
    ("", "Decide by how it answers"),
)


@router.get("/upstreams")
def show(request: Request, visitor: Viewer) -> HTMLResponse:
    found = services(request)
    rows = []
    with found.database.read() as connection:
        modes = queue.overridden(connection)
        for line in found.lines:
            backlog = queue.backlog(connection, line.upstream.name)
            rows.append(
                {
                    "name": line.upstream.name,
                    "kind": line.upstream.kind,
                    "stands_in": line.breaker.stands_in(_mode(modes.get(line.upstream.name))),
                    "reason": line.reason,
                    "state": line.breaker.state.value,
                    "waiting": backlog.waiting,
                    "oldest_at": backlog.oldest_at,
                    "heard_at": line.heard_at or None,
                    "override": modes.get(line.upstream.name),
                }
            )
    may_act = visitor.role.may(Role.OPERATOR)
    return render(request, "upstreams.html", visitor, upstreams=rows, modes=MODES, may_act=may_act)


@router.post("/upstreams/{name}")
def decide(request: Request, visitor: Operator, form: Form, name: str) -> Response:
    found = services(request)
    if name not in found.upstreams:
        raise HTTPException(404, "There is no such upstream")
    mode = str(form.get("mode", ""))
    if mode not in {value for value, _ in MODES}:
        raise HTTPException(422, "There is no such decision")
    found.commits.wait_for(lambda connection: queue.override(connection, name, _mode(mode), visitor.name, time.time()))
    return back("/upstreams")


def _mode(mode: str | None) -> Override | None:
    return Override(mode) if mode else None
