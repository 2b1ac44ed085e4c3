"""The page behind the link in a page: it says what is wrong, and one button says that somebody has it.

No login: the link is the proof, good once and for one alert. Looking changes nothing, since mail scanners look.
"""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse
from sqlalchemy import Connection

from outlast.oncall.acknowledging import Outcome, Shown, look, use
from outlast.relay import notes
from outlast.relay.event import Action
from outlast.relay.journal import take
from outlast.web.pages import render
from outlast.web.security import client_address
from outlast.web.services import Services, services

router = APIRouter(include_in_schema=False)


@router.get("/a/{token}")
def show(request: Request, token: str) -> HTMLResponse:
    found = services(request)
    if not _allowed(request, found):
        return _told(request, token, Shown(Outcome.UNKNOWN), 429)
    with found.database.read() as connection:
        shown = look(connection, token, datetime.now(UTC))
    return _told(request, token, shown)


@router.post("/a/{token}")
def acknowledge(request: Request, token: str) -> HTMLResponse:
    found = services(request)
    if not _allowed(request, found):
        return _told(request, token, Shown(Outcome.UNKNOWN), 429)

    def work(connection: Connection) -> Shown:
        def by(connection: Connection, alert_id: str, name: str) -> None:
            event = notes.event_in(connection, alert_id, Action.ACKNOWLEDGE, name)
            if event is not None:
                take(connection, [event], found.pager)

        return use(connection, token, datetime.now(UTC), by)

    shown = found.commits.wait_for(work)
    found.pager.wake()
    return _told(request, token, shown)


def _allowed(request: Request, found: Services) -> bool:
    return found.link_rates.allow(client_address(request, found))


def _told(request: Request, token: str, shown: Shown, status_code: int = 200) -> HTMLResponse:
    status = 404 if shown.outcome is Outcome.UNKNOWN and status_code == 200 else status_code
    return render(request, "acknowledge.html", None, status_code=status, shown=shown, token=token)
