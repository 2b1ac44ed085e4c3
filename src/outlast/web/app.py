"""The application: every page and API, what guards them, and the loops that run as long as it does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from outlast import __version__
from outlast.core.errors import NotFoundError, OutlastError, Refused, TransientError, UsageError
from outlast.web import (
    acknowledging,
    alertmanager,
    alerts,
    contacts,
    documents,
    failback,
    health,
    incidents,
    login,
    oncall,
    opsgenie,
    pagerduty,
    telling,
    upstreams,
)
from outlast.web.intake import API_ERRORS, problem
from outlast.web.leading import ended, lead
from outlast.web.pages import HERE, back, render
from outlast.web.quick import Quick
from outlast.web.security import Guard, LoginNeededError, login_url
from outlast.web.services import Services

log = logging.getLogger("outlast.web")
_STATUS: dict[type[OutlastError], int] = {UsageError: 422, NotFoundError: 404, Refused: 409, TransientError: 503}


def create_app(services: Services, ready: Callable[[], None] = lambda: None) -> FastAPI:
    """The application over opened services. Whoever opened them closes them. `ready` is called when it serves."""
    app = FastAPI(
        title="Outlast",
        version=__version__,
        description="Stands in for alerting and on-call tools while they are away.",
        docs_url=None,  # its page loads scripts from elsewhere; /openapi.json is for every tool there is
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.services = services
    app.state.ready = ready
    pages = (login, acknowledging, alerts, oncall, contacts, documents, failback, incidents, telling, upstreams)
    for module in (opsgenie, pagerduty, alertmanager, health, *pages):
        app.include_router(module.router)
    app.include_router(incidents.api, responses=API_ERRORS)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    app.add_middleware(Quick, application=app)
    app.add_middleware(Guard, https=services.https)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(OutlastError, _ours)
    app.add_exception_handler(LoginNeededError, _login)
    app.add_exception_handler(Exception, _bug)
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    found: Services = app.state.services
    loop = asyncio.get_running_loop()
    leading = asyncio.create_task(lead(found))

    def wake() -> None:
        for line in found.lines:
            line.wake.set()

    # From the writer's thread, while the loop may be ending
    def committed() -> None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(wake)

    found.commits.listen(committed)
    app.state.ready()
    try:
        yield
    finally:
        await ended(leading)
        for line in found.lines:
            await line.upstream.close()


def _told(request: Request, status: int, message: str, errors: list[str], headers: Any = None) -> Response:
    answer = problem(request, status, message, errors, headers)
    if answer is not None:
        return answer
    page = render(request, "problem.html", None, status_code=status, message=message, errors=errors)
    for name, value in (headers or {}).items():
        page.headers[name] = value
    return page


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _told(request, error.status_code, str(error.detail), [str(error.detail)], error.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = []
    for one in error.errors():
        place = ".".join(str(part) for part in one["loc"] if part != "body")
        errors.append(f"{place}: {one['msg']}".removeprefix(": ").replace("Value error, ", ""))
    if any(one["type"] == "json_invalid" for one in error.errors()):
        return _told(request, 400, "The body is no valid JSON", ["JSON parse error"])
    return _told(request, 422, "; ".join(errors)[:1000], errors[:20])


async def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, OutlastError)
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 500)
    if status == 500:
        log.warning("%s %s: %s", request.method, request.url.path, error.message)
    return _told(request, status, error.message, [error.hint] if error.hint else [])


async def _login(request: Request, error: Exception) -> Response:
    assert isinstance(error, LoginNeededError)
    return back(login_url(error.target))


async def _bug(request: Request, error: Exception) -> Response:
    # What it says may carry a customer's row: its type and place are what is needed to mend it.
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    where = " > ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    log.error("%s %s ended in %s at %s", request.method, request.url.path, type(error).__name__, where)
    return _told(request, 500, "a bug in Outlast: please report it, with its log", [])
