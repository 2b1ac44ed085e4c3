"""What every answer carries, how much a request may weigh, and who makes it. Plain ASGI: it costs no copy of a body."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

from fastapi import Depends, HTTPException, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from outlast.web import accounts
from outlast.web.accounts import Role, Visitor
from outlast.web.services import Services, services

BODY_BYTES_MAX = 512 * 1024
CSRF_FIELD = "csrf"
CSRF_HEADER = "x-csrf-token"
_SAFE = frozenset({"GET", "HEAD"})
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


class TooLargeError(HTTPException):
    """The request's body is larger than any that is meant."""

    def __init__(self) -> None:
        super().__init__(413, f"the body is larger than {BODY_BYTES_MAX} bytes")


class LoginNeededError(Exception):
    """A page that needs a login, and whoever asks for it has none."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.target = target


class Guard:
    """Adds the headers, and ends a request whose body outgrows the limit, whatever its Content-Length says."""

    def __init__(self, app: ASGIApp, *, https: bool) -> None:
        self._app = app
        hsts = ((b"strict-transport-security", b"max-age=31536000"),) if https else ()
        self._headers = _HEADERS + hsts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        private = not scope["path"].startswith("/static/")

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = list(message.get("headers", ()))
                named = {name for name, _ in headers}
                headers += [header for header in self._headers if header[0] not in named]
                if private and b"cache-control" not in named:
                    headers.append((b"cache-control", b"no-store"))
                message["headers"] = headers
            await send(message)

        await self._app(scope, _limited(receive), sending)


def _limited(receive: Receive) -> Receive:
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        if message["type"] == "http.request":
            size += len(message.get("body", b""))
            if size > BODY_BYTES_MAX:
                raise TooLargeError
        return message

    return limited


def cookie_name(found: Services) -> str:
    # __Host- binds it to this host and to TLS; without TLS a browser would refuse a cookie of that name.
    return "__Host-outlast" if found.https else "outlast"


def _visitor(request: Request, found: Services) -> Visitor | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.casefold() == "bearer" and token:
        with found.database.read() as connection:
            return accounts.bearer(connection, token)
    token = request.cookies.get(cookie_name(found), "")
    if not token:
        return None
    length_s = found.session_length.total_seconds()
    with found.database.read() as connection:
        known = accounts.visitor(connection, token, length_s)
    if known is None:
        return None
    visitor, to_note = known
    if to_note:
        found.commits.wait_for(lambda connection: accounts.used(connection, token))
    return visitor


def _checked(request: Request, needed: Role, form: dict[str, Any]) -> Visitor:
    found = services(request)
    visitor = _visitor(request, found)
    if visitor is None:
        if "text/html" in request.headers.get("accept", "") or not request.url.path.startswith("/api/"):
            raise LoginNeededError(_back(request))
        raise HTTPException(401, "log in, or send a token as Authorization: Bearer TOKEN")
    if not visitor.role.may(needed):
        raise HTTPException(403, f"this needs the role {needed.value}; you are {visitor.role.value}")
    if request.method not in _SAFE and visitor.csrf is not None:
        given = request.headers.get(CSRF_HEADER) or str(form.get(CSRF_FIELD, ""))
        if not hmac.compare_digest(given.encode(), visitor.csrf.encode()):
            raise HTTPException(403, "the page was too old, or not ours: load it again and repeat what you did")
    return visitor


def _back(request: Request) -> str:
    """Where to go after the login: the page that was asked for, never another host's."""
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return target if request.method in _SAFE else "/"


def login_url(target: str) -> str:
    return f"/login?next={quote(target, safe='')}" if target != "/" else "/login"


def local(target: str) -> str:
    """A target that somebody gave, if it is a path on this host; else the start page."""
    parts = urlsplit(target)
    plain = target.startswith("/") and not target.startswith(("//", "/\\")) and "\\" not in target
    return target if plain and not parts.scheme and not parts.netloc and target.isprintable() else "/"


async def _form(request: Request) -> dict[str, Any]:
    if request.method in _SAFE:
        return {}
    kind = request.headers.get("content-type", "")
    if kind.startswith(("application/x-www-form-urlencoded", "multipart/form-data")):
        return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    return {}


def needs(role: Role) -> Callable[[Request, dict[str, Any]], Visitor]:
    """A dependency: whoever makes the request, if their role allows it. A form must carry the session's CSRF token."""

    def check(request: Request, form: Annotated[dict[str, Any], Depends(_form)]) -> Visitor:
        return _checked(request, role, form)

    return check


Form = Annotated[dict[str, Any], Depends(_form)]
Viewer = Annotated[Visitor, Depends(needs(Role.VIEWER))]
Responder = Annotated[Visitor, Depends(needs(Role.RESPONDER))]
Operator = Annotated[Visitor, Depends(needs(Role.OPERATOR))]
Approver = Annotated[Visitor, Depends(needs(Role.APPROVER))]


def client_address(request: Request, found: Services) -> str:
    """Whose request it is, for limits: a proxy that we trust says so, nobody else is believed."""
    peer = request.client.host if request.client else ""
    forwarded = request.headers.get("x-forwarded-for", "")
    if peer in found.trusted_proxies and forwarded:
        return forwarded.rpartition(",")[2].strip()
    return peer
