"""Alertmanager's webhook, version 4. One alert here for each of its alerts, known by its fingerprint.

It sends a group as a whole, again and again: what it says of an alert that is known already counts it up, or closes it.
"""

from __future__ import annotations

import base64
import binascii
import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.security import HTTPBearer
from pydantic import BaseModel, Field

from outlast.core.errors import OutlastError
from outlast.relay.event import Action, Event, Naming, Vendor, new_id
from outlast.relay.integration import Integration
from outlast.web.intake import Json, admitted, key_of, refused, upstreams_of
from outlast.web.opsgenie_bodies import Body, Text, Words
from outlast.web.services import services

_PRIORITIES = {
    "critical": "P1", "page": "P1", "disaster": "P1", "error": "P2", "high": "P2", "major": "P2", "warning": "P3",
    "average": "P3", "minor": "P4", "info": "P5", "information": "P5", "none": "P5",
}  # fmt: skip


class AlertBody(Body):
    status: Literal["firing", "resolved"]
    fingerprint: Annotated[Words, Field(max_length=512)]
    labels: dict[str, Text] = Field(default_factory=dict)
    annotations: dict[str, Text] = Field(default_factory=dict)
    generatorURL: Text | None = None  # noqa: N815 - the sender's name


class WebhookBody(Body):
    """A notification about a group of alerts."""

    version: Literal["4"] = "4"
    receiver: Text | None = None
    alerts: Annotated[list[AlertBody], Field(max_length=5000)]


class Taken(BaseModel):
    ok: bool
    alerts: int


class Problem(BaseModel):
    ok: bool
    error: dict[str, str | None]


_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in {
        400: "The body is no JSON.", 401: "The key is not valid.", 413: "The body is too large.",
        422: "What was sent is not right.", 429: "Too many requests.",
        503: "It could not be kept: send it again.", 508: "The request came round in a circle.",
    }.items()
}  # fmt: skip
router = APIRouter(tags=["Alertmanager webhook"], responses=_ERRORS)
_scheme = HTTPBearer(auto_error=False, scheme_name="IntegrationKey")


def _key(request: Request, _documented: Annotated[Any, Depends(_scheme)]) -> Integration:
    return admitted(request, key_of(request, "bearer") or _basic(request), "alertmanager")


def _basic(request: Request) -> str:
    """The password of basic authentication, where Alertmanager was set up with that."""
    try:
        return base64.b64decode(key_of(request, "basic"), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""


@router.post("/alertmanager/webhook", response_model=Taken)
async def webhook(request: Request, sender: Annotated[Integration, Depends(_key)], body: WebhookBody) -> Json:
    """Take what Alertmanager's webhook receiver sends."""
    found = services(request)
    now = time.time()
    events = [_event(sender, one, body.receiver, now, upstreams_of(found, sender)) for one in body.alerts]
    try:
        if events:
            await found.commits.take(events)
    except OutlastError as error:
        raise refused(error) from error
    return Json({"ok": True, "alerts": len(events)})


def _event(
    sender: Integration, alert: AlertBody, receiver: str | None, now: float, upstreams: tuple[str, ...]
) -> Event:
    firing = alert.status == "firing"
    labels, annotations = alert.labels, alert.annotations
    name = labels.get("alertname", "alert")
    fields: dict[str, Any] = {"source": "Alertmanager"}
    if firing:
        details = {**labels, **({"generatorURL": alert.generatorURL} if alert.generatorURL else {})}
        fields |= {
            "message": annotations.get("summary") or annotations.get("message") or name,
            "description": annotations.get("description", ""),
            "priority": _priority(labels),
            "details": details | {key: value for key, value in annotations.items() if key not in details},
            "entity": labels.get("instance", ""),
            "tags": [name],
        }
        team = labels.get("team")
        if team:
            fields["responders"] = [{"type": "team", "name": team}]
    action = Action.CREATE if firing else Action.CLOSE
    return Event(
        new_id(), now, sender.name, Vendor.ALERTMANAGER, action, Naming.ALIAS, alert.fingerprint, sender.scope,
        fields, None, upstreams,
    )  # fmt: skip


def _priority(labels: dict[str, str]) -> str:
    given = labels.get("priority", "").upper()
    return (
        given
        if given in ("P1", "P2", "P3", "P4", "P5")
        else _PRIORITIES.get(labels.get("severity", "").casefold(), "P3")
    )
