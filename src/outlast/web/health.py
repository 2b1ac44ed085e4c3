"""Whether this process serves, and how its upstreams stand: for probes and for Prometheus. No login, and no secrets."""

from __future__ import annotations

import time
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

from outlast.relay import queue
from outlast.relay.breaker import State
from outlast.web.intake import Json
from outlast.web.services import Services, services

router = APIRouter(tags=["Health"])


class UpstreamHealth(BaseModel):
    name: str
    state: str
    standing_in: bool
    waiting: int


class Health(BaseModel):
    ok: bool
    upstreams: list[UpstreamHealth]


@router.get("/health", response_model=Health)
def health(request: Request) -> Json:
    """Answers 200 while events can be taken: an upstream that is away is what Outlast is there for, and no fault."""
    found = services(request)
    return Json({"ok": True, "upstreams": [_standing(found, line) for line in found.lines]})


def _standing(found: Services, line: Any) -> dict[str, Any]:
    with found.database.read() as connection:
        backlog = queue.backlog(connection, line.upstream.name)
    return {
        "name": line.upstream.name,
        "state": line.breaker.state.value,
        "standing_in": line.stands_in,
        "waiting": backlog.waiting,
    }


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> PlainTextResponse:
    """Figures for Prometheus."""
    found = services(request)
    lines = []
    for line in found.lines:
        with found.database.read() as connection:
            backlog = queue.backlog(connection, line.upstream.name)
        label = f'{{upstream="{line.upstream.name}"}}'
        oldest_s = time.time() - backlog.oldest_at if backlog.oldest_at is not None else 0
        lines += [
            f"outlast_relay_waiting{label} {backlog.waiting}",
            f"outlast_relay_oldest_seconds{label} {oldest_s:.1f}",
            f"outlast_relay_standing_in{label} {int(line.stands_in)}",
            f"outlast_relay_breaker_open{label} {int(line.breaker.state is State.OPEN)}",
        ]
    return PlainTextResponse("\n".join(lines) + "\n")
