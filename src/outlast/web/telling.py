"""What customers see without a login: the status page, their own notice, and their subscription.

Every link is signed for one purpose and one subject; what is not valid is refused alike, whatever is wrong with it. A
GET changes nothing, so that a mail scanner which follows links confirms and ends nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock
from typing import Annotated

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, Response

from outlast.core.errors import NotFoundError, UsageError
from outlast.core.tenant import TenantKey
from outlast.incident import letters, site
from outlast.incident.letters import CONFIRM, NOTICE, UNSUBSCRIBE
from outlast.incident.notices import notice
from outlast.incident.publish import content_type
from outlast.incident.subscribers import Channel, Wish
from outlast.incident.teller import Teller
from outlast.web.pages import render
from outlast.web.security import client_address
from outlast.web.services import services

router = APIRouter(include_in_schema=False)

FRESH_S = 2.0
"""So long the page's files are kept: a crowd that looks at it costs one rendering."""


class Site:
    """The status page's files as they are now."""

    def __init__(self, teller: Teller) -> None:
        self._teller = teller
        self._lock = Lock()
        self._made: tuple[float, Mapping[str, bytes]] | None = None

    def files(self) -> Mapping[str, bytes]:
        with self._lock:
            if self._made is None or time.monotonic() > self._made[0] + FRESH_S:
                self._made = (time.monotonic(), site.files(self._teller.page(datetime.now(UTC))))
            return self._made[1]


def _teller(request: Request) -> Teller:
    teller = services(request).teller
    if teller is None:
        raise HTTPException(404, "There is no status page here")
    return teller


@router.get("/status/{path:path}")
@router.get("/status")
def status(request: Request, path: str = "") -> Response:
    """The status page. Anybody may read it from anywhere, as from a bucket."""
    found = services(request)
    if found.site is None:
        raise HTTPException(404, "There is no status page here")
    if request.url.path == "/status":
        return Response(status_code=307, headers={"location": "/status/"})
    files = found.site.files()
    name = f"{path}index.html" if path == "" or path.endswith("/") else path
    if name not in files:
        raise HTTPException(404, "There is no such page")
    headers = {"cache-control": "public, max-age=15"}
    if not name.endswith(".html"):
        headers |= {"access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin"}
    return Response(files[name], media_type=content_type(name), headers=headers)


@router.get("/notice/{token}")
def own_notice(request: Request, token: str, language: str = "") -> Response:
    """One tenant's own notice, as things stand now."""
    teller = _teller(request)
    name, tenant = teller.desk.links.read(token, NOTICE, datetime.now(UTC)).subject
    try:
        incident = teller.driver.conduct.journal.load(name)
    except NotFoundError:
        raise HTTPException(404, "There is no such notice any more") from None
    found = notice(incident, TenantKey(tenant), teller.desk.page.name, teller.desk.language(language))
    if found is None:
        raise HTTPException(404, "There is no such notice any more")
    content = site.render_notice(found, teller.page(datetime.now(UTC)), root="/status/")
    return HTMLResponse(content, headers={"x-robots-tag": "noindex"})


@router.post("/subscribe")
def subscribe(
    request: Request,
    email: Annotated[str, Form(max_length=320)],
    language: Annotated[str, Form(max_length=10)] = "en",
    component: Annotated[str, Form(max_length=200)] = "",
) -> HTMLResponse:
    """Take an address down and write it one letter. Whether it was known already is not told."""
    teller, found = _teller(request), services(request)
    allowed = found.subscribe_rates.allow(client_address(request, found))
    # By address too: nobody is flooded with letters that ask to confirm.
    if not (found.subscribe_rates.allow(email.casefold()) and allowed):
        raise HTTPException(429, "Too many subscriptions from here. Wait a minute.")
    now = datetime.now(UTC)
    names = {one.name for one in teller.desk.page.components}
    if component and component not in names:
        raise UsageError("there is no such component")
    wish = Wish(Channel.EMAIL, email, teller.desk.language(language), component or None)
    one = teller.subscribers.add(wish, now)
    teller.outbox.put([letters.of_confirmation(teller.desk, one, now.isoformat())], now)
    return _said(request, "Look into your mail", "The subscription begins when you confirm it there.")


@router.get("/confirm/{token}")
def ask_confirm(request: Request, token: str) -> HTMLResponse:
    _subscriber(request, token, CONFIRM)
    return _asked(request, "Confirm your subscription", "Get updates")


@router.post("/confirm/{token}")
def confirm(request: Request, token: str) -> HTMLResponse:
    _teller(request).subscribers.confirm(_subscriber(request, token, CONFIRM))
    return _said(request, "You will get updates", "Each one says how to end them.")


@router.get("/unsubscribe/{token}")
def ask_unsubscribe(request: Request, token: str) -> HTMLResponse:
    _subscriber(request, token, UNSUBSCRIBE)
    return _asked(request, "End your subscription", "Get no more updates")


@router.post("/unsubscribe/{token}")
def unsubscribe(request: Request, token: str) -> HTMLResponse:
    """By a person's click, or by a mail program's (RFC 8058): one POST, no login, no cookie."""
    _teller(request).subscribers.end(_subscriber(request, token, UNSUBSCRIBE))
    return _said(request, "Your subscription has ended", "You will get no more updates.")


def _subscriber(request: Request, token: str, purpose: str) -> str:
    (one,) = _teller(request).desk.links.read(token, purpose, datetime.now(UTC)).subject
    return one


def _asked(request: Request, title: str, button: str) -> HTMLResponse:
    return render(request, "ask.html", None, title=title, button=button, said="")


def _said(request: Request, title: str, said: str) -> HTMLResponse:
    return render(request, "ask.html", None, title=title, button="", said=said)
