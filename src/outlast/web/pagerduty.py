"""PagerDuty's Events API v2: `/v2/enqueue`, as its clients know it."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Request
from pydantic import BaseModel, Field, StrictStr, model_validator

from outlast.core.errors import OutlastError
from outlast.relay.event import Action, Event, Naming, Vendor, new_id
from outlast.web.intake import Json, admitted, pagerduty_error, refused, upstreams_of
from outlast.web.opsgenie_bodies import Body, Text, Words
from outlast.web.services import services

Severity = Literal["critical", "error", "warning", "info"]
_PRIORITIES: dict[str, str] = {"critical": "P1", "error": "P2", "warning": "P3", "info": "P5"}
_ACTIONS = {"trigger": Action.CREATE, "acknowledge": Action.ACKNOWLEDGE, "resolve": Action.CLOSE}


class Payload(Body):
    summary: Annotated[Words, Field(max_length=1024)]
    source: Words
    severity: Severity
    timestamp: Text | None = None
    component: Text | None = None
    group: Text | None = None
    class_: Annotated[Text | None, Field(alias="class")] = None
    custom_details: Any = None


class EnqueueBody(Body):
    """One event. `payload` is needed for a trigger, `dedup_key` for the others."""

    routing_key: Annotated[StrictStr, Field(min_length=32, max_length=32)]
    event_action: Literal["trigger", "acknowledge", "resolve"]
    dedup_key: Annotated[Text, Field(max_length=255)] | None = None
    payload: Payload | None = None
    client: Text | None = None
    client_url: Text | None = None
    links: list[dict[str, Any]] | None = None
    images: list[dict[str, Any]] | None = None

    @model_validator(mode="after")
    def _whole(self) -> EnqueueBody:
        if self.event_action == "trigger" and self.payload is None:
            raise ValueError("'payload' is missing or blank")
        if self.event_action != "trigger" and not self.dedup_key:
            raise ValueError("'dedup_key' is missing or blank")
        return self


class Taken(BaseModel):
    status: str
    message: str
    dedup_key: str


class Problem(BaseModel):
    """How PagerDuty tells that something is wrong."""

    status: str
    message: str
    errors: list[str] | None = None


_ERRORS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The event or its routing key is not valid."},
    422: {"model": Problem, "description": "Never: what is wrong with an event is told with 400."},
    429: {"model": Problem, "description": "Too many events."},
    503: {"model": Problem, "description": "It could not be kept: send it again."},
    508: {"model": Problem, "description": "The event came round in a circle."},
}
router = APIRouter(tags=["PagerDuty Events API v2"], responses=_ERRORS)


@router.post("/v2/enqueue", status_code=202, response_model=Taken)
async def enqueue(request: Request, body: EnqueueBody) -> Json:
    """Trigger, acknowledge or resolve an alert."""
    try:
        sender = admitted(request, body.routing_key, "pagerduty")
    except HTTPException as error:
        if error.status_code != 401:
            raise
        return pagerduty_error(400, "Event object is invalid", ["Invalid routing key"])
    found = services(request)
    raw = body.model_dump(exclude_unset=True, by_alias=True)
    raw.pop("routing_key")
    key = body.dedup_key or new_id().replace("-", "")
    event = Event(
        new_id(), time.time(), sender.name, Vendor.PAGERDUTY, _ACTIONS[body.event_action], Naming.ALIAS, key,
        sender.scope, _fields(body), raw, upstreams_of(found, sender),
    )  # fmt: skip
    try:
        await found.commits.take([event])
    except OutlastError as error:
        raise refused(error) from error
    return Json({"status": "success", "message": "Event processed", "dedup_key": key}, 202)


def _fields(body: EnqueueBody) -> dict[str, Any]:
    payload = body.payload
    if payload is None:
        return {"user": body.client} if body.client else {}
    details = payload.custom_details
    known = {"component": payload.component, "group": payload.group, "class": payload.class_, "url": body.client_url}
    given = details if isinstance(details, dict) else {"details": details} if details is not None else {}
    merged = {str(name): _text(value) for name, value in {**known, **given}.items() if value is not None}
    return {
        "message": payload.summary,
        "source": payload.source,
        "priority": _PRIORITIES[payload.severity],
        **({"details": merged} if merged else {}),
    }


def _text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
