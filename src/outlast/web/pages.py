"""How pages are rendered: Jinja with autoescaping on, the words for times and ages, and what every page shows."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from outlast.web.accounts import Visitor
from outlast.web.services import services

HERE = Path(__file__).parent
NAVIGATION = [
    ("/", "Alerts"),
    ("/oncall", "On call"),
    ("/contacts", "Contacts"),
    ("/documents", "Tickets and runbooks"),
    ("/failback", "Going back"),
    ("/upstreams", "Upstreams"),
]
"""The pages in every page's head, in order. A module of pages adds its own when it is imported."""


def _when(at: float | datetime | None) -> str:
    if at is None:
        return "never"
    moment = at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _age(at: float | datetime | None) -> str:
    """`just now`, `5 min ago`, `3 h ago`, `2 d ago`."""
    if at is None:
        return "never"
    seconds = time.time() - (at.timestamp() if isinstance(at, datetime) else at)
    if seconds < 0:
        return _when(at)
    for limit, size, unit in ((60, 1, "s"), (3600, 60, "min"), (86400 * 2, 3600, "h")):
        if seconds < limit:
            return f"{int(seconds / size)} {unit} ago"
    return f"{int(seconds / 86400)} d ago"


_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {"when": _when, "age": _age}


def render(
    request: Request, template: str, visitor: Visitor | None, *, status_code: int = 200, **values: Any
) -> HTMLResponse:
    """A whole page. `values` are escaped by the template."""
    found = services(request)
    text = _environment.get_template(template).render(
        visitor=visitor,
        nav=NAVIGATION,
        path=request.url.path,
        standing_in=[line for line in found.lines if line.stands_in],
        upstream_lines=found.lines,
        now=time.time(),
        **values,
    )
    return HTMLResponse(text, status_code=status_code)


def back(target: str) -> Response:
    """After something was done: the page again, by GET."""
    return RedirectResponse(target, status_code=303)
