"""The page of what goes back: what waits for the tools to return, what went, and the command that brings it there."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from outlast.desk import entries
from outlast.oncall import overrides
from outlast.web.pages import render
from outlast.web.security import Viewer
from outlast.web.services import services

router = APIRouter(include_in_schema=False)

_SHOWN_MAX = 200


@router.get("/failback")
def show(request: Request, visitor: Viewer) -> HTMLResponse:
    with services(request).database.read() as connection:
        waiting = [_entry(one) for one in entries.untaken(connection)]
        waiting += [_override(one) for one in overrides.untaken(connection, datetime.now(UTC))]
        went = [_entry(one) for one in entries.newest_taken(connection, _SHOWN_MAX)]
        went += [_override(one) for one in overrides.newest_taken(connection, _SHOWN_MAX)]
    went.sort(key=lambda one: float(one["taken_at"]), reverse=True)
    return render(
        request, "failback.html", visitor, waiting=waiting[:_SHOWN_MAX], waits=len(waiting), went=went[:_SHOWN_MAX]
    )


def _entry(one: entries.Entry) -> dict[str, Any]:
    ticket = one.kind == entries.TICKET
    link = f"/tickets/{one.id}" if ticket else None
    return {
        "what": one.title if ticket else f"Comment on {one.about}",
        "link": link,
        "for": one.source,
        "by": one.by,
        "at": one.at,
        "attempted_at": one.attempted_at,
        "taken_at": one.taken_at,
        "taken_as": one.taken_as,
        "taken_url": _web(one.taken_url),
    }


def _override(one: overrides.LocalOverride) -> dict[str, Any]:
    return {
        "what": f"{one.person} takes over {one.schedule.partition('/')[2]} until {one.interval.end:%Y-%m-%d %H:%MZ}",
        "link": f"/oncall/{one.schedule}",
        "for": one.schedule.partition("/")[0],
        "by": one.set_by,
        "at": one.set_at.timestamp(),
        "attempted_at": one.attempted_at,
        "taken_at": one.taken_at,
        "taken_as": one.taken_as,
        "taken_url": _web(one.taken_url),
    }


def _web(url: str | None) -> str | None:
    return url if url is not None and url.startswith(("https://", "http://")) else None
