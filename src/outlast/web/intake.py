"""What the three APIs that take events have in common: whose key it is, whether it may, and that it did not come round.

Every problem is told in the shape of the vendor whose API was called (`shapes`), since its client reads no other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import Response
from pydantic import BaseModel

from outlast.core.errors import OutlastError, TransientError
from outlast.relay.integration import Integration
from outlast.relay.upstream import HOPS_HEADER
from outlast.web.services import Services, services

HOPS_MAX = 3


class Problem(BaseModel):
    """How our own API tells that something is wrong."""

    ok: bool
    error: dict[str, str | None]


API_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in {
        400: "The body is no JSON.",
        401: "There is no login and no token.",
        403: "The role does not allow it.",
        404: "There is no such thing.",
        409: "It cannot be done as things stand.",
        413: "The body is too large.",
        422: "What was sent is not right.",
        503: "It could not be kept: send it again.",
    }.items()
}


class Json(Response):
    """JSON that is made once, small, and of what json knows."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, ensure_ascii=False, separators=(",", ":"), default=str).encode("utf-8", "replace")


def opsgenie_error(status: int, message: str, request_id: str, errors: list[str] | None = None) -> Json:
    content: dict[str, Any] = {"message": message, "code": status, "took": 0.0, "requestId": request_id}
    content |= {"errors": errors} if errors else {}
    return Json(content, status, {"X-Request-ID": request_id})


def pagerduty_error(status: int, message: str, errors: list[str]) -> Json:
    word = {400: "invalid event", 429: "throttle exceeded"}.get(status, "error")
    return Json({"status": word, "message": message, "errors": errors}, status)


def api_error(status: int, message: str, hint: str | None = None, code: str | None = None) -> Json:
    return Json({"ok": False, "error": {"code": code or f"http-{status}", "message": message, "hint": hint}}, status)


def key_of(request: Request, *schemes: str) -> str:
    """The key in the Authorization header, by one of these schemes; empty where there is none."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.casefold() in schemes else ""


def admitted(request: Request, key: str, kind: str, amount: int = 1) -> Integration:
    """The integration that sends. Raises HTTPException 401, 429 or 508."""
    found = services(request)
    known = found.keys.find(key, kind) if key else None
    if known is None:
        raise HTTPException(401, "Could not authenticate", {"WWW-Authenticate": "GenieKey"})
    _no_circle(request, found)
    if not found.integration_rates.allow(known.name, amount):
        raise HTTPException(429, "You are making too many requests!", {"Retry-After": "1"})
    return known


def _no_circle(request: Request, found: Services) -> None:
    hops = [hop.strip() for hop in request.headers.get(HOPS_HEADER, "").split(",") if hop.strip()]
    if found.instance in hops or len(hops) > HOPS_MAX:
        raise HTTPException(508, "this event came through this Outlast before: an upstream points back at it")


def upstreams_of(found: Services, integration: Integration) -> tuple[str, ...]:
    """Where an integration's events go: where it says, or to all there are."""
    return found.upstreams if integration.upstreams is None else integration.upstreams


def refused(error: OutlastError) -> HTTPException:
    """An error of ours that ended a request: 503 where sending it again may help."""
    if isinstance(error, TransientError):
        return HTTPException(503, error.message, {"Retry-After": "2"})
    return HTTPException(500, "Outlast could not do this; its log says why")


def problem(
    request: Request, status: int, message: str, errors: list[str], headers: Mapping[str, str] | None
) -> Response | None:
    """A problem in the shape of the vendor whose path it is; None: the path is no vendor's."""
    path = request.url.path
    if path.startswith("/v2/enqueue"):
        # Its clients know 400 for whatever is wrong with an event, a key that is none included.
        answer = pagerduty_error(400 if status in (401, 404, 413, 422) else status, "Event object is invalid", errors)
        answer = answer if status not in (429, 503) else pagerduty_error(status, message, errors)
    elif path.startswith("/v2/"):
        from outlast.relay.event import new_id

        answer = opsgenie_error(status, message, new_id(), errors=errors if status == 422 else None)
    elif path.startswith(("/api/", "/alertmanager/", "/openapi.json", "/health")):
        answer = api_error(status, message, "; ".join(errors) or None)
    else:
        return None
    for name, value in (headers or {}).items():
        answer.headers[name] = value
    return answer
