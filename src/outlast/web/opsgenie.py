"""Opsgenie's Alert API, as its clients know it: monitoring points its base URL here and notices nothing.

Every change is answered 202 with a requestId once it is on disk; `requests/{id}` says at once what became of it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, HTTPException, Path, Query, Request
from fastapi.security import APIKeyHeader

from outlast.core.errors import OutlastError, UsageError
from outlast.relay import reading
from outlast.relay.alert import Alert
from outlast.relay.event import Action, Event, Naming, Vendor, new_id, told_time
from outlast.relay.integration import Integration
from outlast.relay.tables import alerts
from outlast.web.intake import Json, admitted, key_of, refused, upstreams_of
from outlast.web.opsgenie_bodies import (
    ActionBody,
    AssignBody,
    CreateBody,
    DescriptionBody,
    DetailsBody,
    Error,
    MessageBody,
    NoteBody,
    PriorityBody,
    RequestAnswer,
    RespondersBody,
    SnoozeBody,
    Success,
    TagsBody,
)  # fmt: skip
from outlast.web.services import services

OFFSET_MAX = 20_000
_scheme = APIKeyHeader(name="Authorization", scheme_name="GenieKey", description="GenieKey KEY", auto_error=False)
_ERRORS: dict[int | str, dict[str, Any]] = {
    code: {"model": Error, "description": text}
    for code, text in {
        400: "The body is no JSON.", 401: "The key is not valid.", 404: "There is no such alert.",
        413: "The body is too large.", 422: "What was sent is not right.", 429: "Too many requests.",
        503: "It could not be kept: send it again.", 508: "The request came round in a circle.",
    }.items()
}  # fmt: skip
router = APIRouter(prefix="/v2/alerts", tags=["Opsgenie Alert API"], responses=_ERRORS)


def _key(request: Request, _documented: Annotated[str | None, Depends(_scheme)]) -> Integration:
    return admitted(request, key_of(request, "geniekey"), "opsgenie")


Sender = Annotated[Integration, Depends(_key)]
Kind = Annotated[Literal["id", "alias", "tiny"], Query()]
Name = Annotated[str, Path(min_length=1, max_length=512)]
Text = Annotated[str | None, Query(max_length=1000)]


async def _take(
    request: Request, sender: Integration, action: Action, naming: Naming, name: str,
    fields: Mapping[str, Any], raw: Mapping[str, Any] | None,
) -> Json:  # fmt: skip
    started = time.monotonic()
    found = services(request)
    event = Event(
        new_id(), time.time(), sender.name, Vendor.OPSGENIE, action, naming, name, sender.scope, fields, raw,
        upstreams_of(found, sender),
    )  # fmt: skip
    try:
        taken = await found.commits.take([event])
    except OutlastError as error:
        raise refused(error) from error
    took = round(time.monotonic() - started, 4)
    headers = {"X-Request-ID": event.id, "X-Response-Time": str(took), "X-RateLimit-State": "OK"}
    data = {"alertId": taken[0].alert_id} if taken[0].alert_id else {}
    content = {"result": "Request will be processed", "took": took, "requestId": event.id, "data": data}
    return Json(content, 202, headers)


@router.post("", status_code=202, response_model=Success)
async def create(request: Request, sender: Sender, body: CreateBody) -> Json:
    """Open an alert, or count up the one that is open under its alias."""
    return await created(request, sender, body)


async def created(request: Request, sender: Integration, body: CreateBody) -> Json:
    """What `create` does, for whoever has checked the sender."""
    fields = body.model_dump(exclude_none=True)
    raw = body.model_dump(exclude_unset=True)
    return await _take(request, sender, Action.CREATE, Naming.ALIAS, body.alias or "", fields, raw)


def _change(action: Action, path: str, method: str, model: type[ActionBody], summary: str) -> None:
    async def change(
        request: Request,
        sender: Sender,
        identifier: Name,
        body: Any,
        identifierType: Kind = "id",  # noqa: N803
    ) -> Json:
        fields = body.fields() if body is not None else {}
        raw = body.model_dump(exclude_unset=True) if body is not None else {}
        return await _take(request, sender, action, Naming(identifierType), identifier, fields, raw)

    optional = model is ActionBody
    change.__annotations__["body"] = model | None if optional else model
    if optional:
        change.__defaults__ = (None, "id")
    change.__name__ = f"{method.lower()}_{path.strip('/') or 'alert'}"
    router.add_api_route(
        "/{identifier}" + path, change, methods=[method], status_code=202, response_model=Success, summary=summary
    )


_change(Action.CLOSE, "/close", "POST", ActionBody, "Close an alert.")
_change(Action.ACKNOWLEDGE, "/acknowledge", "POST", ActionBody, "Acknowledge an alert.")
_change(Action.UNACKNOWLEDGE, "/unacknowledge", "POST", ActionBody, "Take an acknowledgement back.")
_change(Action.NOTE, "/notes", "POST", NoteBody, "Add a note.")
_change(Action.SNOOZE, "/snooze", "POST", SnoozeBody, "Snooze an alert.")
_change(Action.ASSIGN, "/assign", "POST", AssignBody, "Give an alert to somebody.")
_change(Action.ADD_TAGS, "/tags", "POST", TagsBody, "Add tags.")
_change(Action.ADD_DETAILS, "/details", "POST", DetailsBody, "Add details.")
_change(Action.ADD_RESPONDER, "/responders", "POST", RespondersBody, "Add a responder.")
_change(Action.PRIORITY, "/priority", "PUT", PriorityBody, "Change the priority.")
_change(Action.MESSAGE, "/message", "PUT", MessageBody, "Change the message.")
_change(Action.DESCRIPTION, "/description", "PUT", DescriptionBody, "Change the description.")


async def _take_away(
    request: Request, sender: Integration, action: Action, kind: str, name: str, values: dict[str, Any]
) -> Json:
    fields = {key: value for key, value in values.items() if value is not None}
    return await _take(request, sender, action, Naming(kind), name, fields, None)


@router.delete("/{identifier}", status_code=202, response_model=Success)
async def delete(
    request: Request, sender: Sender, identifier: Name, identifierType: Kind = "id",  # noqa: N803
    user: Text = None, source: Text = None,
) -> Json:  # fmt: skip
    """Close an alert for good. It is kept here all the same."""
    given = {"user": user, "source": source}
    return await _take_away(request, sender, Action.DELETE, identifierType, identifier, given)


@router.delete("/{identifier}/tags", status_code=202, response_model=Success)
async def remove_tags(
    request: Request, sender: Sender, identifier: Name, tags: Annotated[str, Query(min_length=1, max_length=4000)],
    identifierType: Kind = "id", user: Text = None, source: Text = None, note: Text = None,  # noqa: N803
) -> Json:  # fmt: skip
    """Take tags off, which are given with commas between them."""
    given = {"tags": tags.split(","), "user": user, "source": source, "note": note}
    return await _take_away(request, sender, Action.REMOVE_TAGS, identifierType, identifier, given)


@router.delete("/{identifier}/details", status_code=202, response_model=Success)
async def remove_details(
    request: Request, sender: Sender, identifier: Name, keys: Annotated[str, Query(min_length=1, max_length=4000)],
    identifierType: Kind = "id", user: Text = None, source: Text = None, note: Text = None,  # noqa: N803
) -> Json:  # fmt: skip
    """Take details off, by their keys with commas between them."""
    given = {"keys": keys.split(","), "user": user, "source": source, "note": note}
    return await _take_away(request, sender, Action.REMOVE_DETAILS, identifierType, identifier, given)


# Reading


@router.get("", response_model=None)
def list_alerts(
    request: Request, sender: Sender, query: Annotated[str, Query(max_length=1000)] = "",
    offset: Annotated[int, Query(ge=0, le=OFFSET_MAX)] = 0, limit: Annotated[int, Query(ge=1, le=100)] = 20,
    sort: Annotated[str, Query(max_length=40)] = "createdAt", order: Literal["asc", "desc"] = "desc",
) -> Json:  # fmt: skip
    """Alerts, a page at a time."""
    where = _query(query)
    with services(request).database.read() as connection:
        found = reading.page(
            connection, where, limit=limit, offset=offset, sort=sort, descending=order == "desc", scope=sender.scope
        )
    more = f"&query={_quoted(query)}&sort={_quoted(sort)}&order={order}"
    base = str(request.url.replace(query="", path="/v2/alerts")).rstrip("?")
    paging = {"first": f"{base}?limit={limit}&offset=0{more}"}
    if len(found) == limit and offset + limit <= OFFSET_MAX:
        paging["next"] = f"{base}?limit={limit}&offset={offset + limit}{more}"
    return _read({"data": [_listed(alert) for alert in found], "paging": paging})


@router.get("/count", response_model=None)
def count(request: Request, sender: Sender, query: Annotated[str, Query(max_length=1000)] = "") -> Json:
    """How many alerts there are, to 10,000."""
    where = [*_query(query), alerts.c.scope == sender.scope]
    with services(request).database.read() as connection:
        return _read({"data": {"count": reading.count(connection, where, at_most=10_000)}})


@router.get("/requests/{requestId}", response_model=RequestAnswer)
def request_status(
    request: Request,
    sender: Sender,
    requestId: Annotated[str, Path(max_length=100)],  # noqa: N803
) -> Json:
    """What became of a request."""
    with services(request).database.read() as connection:
        found = reading.request(connection, requestId)
    if found is None or found.integration != sender.name:
        raise HTTPException(404, "Request not found. It might not be processed, yet.")
    data = {
        "success": found.success,
        "isSuccess": found.success,
        "action": found.action,
        "processedAt": told_time(found.at),
        "integrationId": found.integration,
        "status": found.status,
    }
    data |= {"alertId": found.alert_id, "alias": found.alias} if found.alert_id else {}
    return _read({"data": data}, found.id)


@router.get("/{identifier}", response_model=None)
def get(request: Request, sender: Sender, identifier: Name, identifierType: Kind = "id") -> Json:  # noqa: N803
    """One alert."""
    return _read({"data": _whole(_alert(request, sender, identifierType, identifier))})


@router.get("/{identifier}/notes", response_model=None)
def notes(
    request: Request, sender: Sender, identifier: Name, identifierType: Kind = "id",  # noqa: N803
    offset: Annotated[str, Query(max_length=20)] = "", limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Json:  # fmt: skip
    """An alert's notes."""
    return _read({"data": _lines(request, sender, identifierType, identifier, offset, limit, order, "note", "note")})


@router.get("/{identifier}/logs", response_model=None)
def logs(
    request: Request, sender: Sender, identifier: Name, identifierType: Kind = "id",  # noqa: N803
    offset: Annotated[str, Query(max_length=20)] = "", limit: Annotated[int, Query(ge=1, le=100)] = 20,
    order: Literal["asc", "desc"] = "desc",
) -> Json:  # fmt: skip
    """What was done to an alert."""
    return _read({"data": _lines(request, sender, identifierType, identifier, offset, limit, order, None, "log")})


def _lines(
    request: Request, sender: Integration, naming: str, name: str, offset: str, limit: int, order: str,
    kind: str | None, key: str,
) -> list[dict[str, Any]]:  # fmt: skip
    alert = _alert(request, sender, naming, name)
    after = int(offset) if offset.isdecimal() else None
    with services(request).database.read() as connection:
        lines = reading.log(connection, alert.id, limit=limit, kind=kind, after=after, descending=order == "desc")
    told = ((line, line.text if kind else f"{line.kind} {line.text}".strip()) for line in lines)
    return [
        {key: text, "owner": line.by, "createdAt": told_time(line.at), "offset": str(line.id)} for line, text in told
    ]


def _alert(request: Request, sender: Integration, naming: str, name: str) -> Alert:
    with services(request).database.read() as connection:
        alert = reading.find(connection, Naming(naming), name, sender.scope)
    if alert is None or alert.scope != sender.scope:
        raise HTTPException(404, "Alert not found")
    return alert


def _query(text: str) -> Sequence[Any]:
    try:
        return reading.query(text)
    except UsageError as error:
        raise HTTPException(422, error.message) from None


def _read(content: dict[str, Any], request_id: str | None = None) -> Json:
    request_id = request_id or new_id()
    return Json({**content, "took": 0.001, "requestId": request_id}, 200, {"X-Request-ID": request_id})


def _listed(alert: Alert) -> dict[str, Any]:
    now = time.time()
    data = {
        "id": alert.id,
        "tinyId": str(alert.tiny),
        "alias": alert.alias,
        "message": alert.message,
        "status": alert.status,
        "acknowledged": alert.acknowledged,
        "isSeen": alert.acknowledged,
        "tags": list(alert.tags),
        "snoozed": alert.snoozed_until is not None and alert.snoozed_until > now,
        "count": alert.count,
        "lastOccurredAt": told_time(alert.last_at),
        "createdAt": told_time(alert.created_at),
        "updatedAt": told_time(alert.updated_at),
        "source": alert.source,
        "owner": alert.owner,
        "priority": alert.priority,
        "responders": [{"type": one.get("type", "team"), "id": str(one.get("id") or one.get("name") or "")}
                       for one in alert.responders],
        "integration": {"id": alert.integration, "name": alert.integration, "type": "API"},
        "report": _report(alert),
    }  # fmt: skip
    if alert.snoozed_until is not None:
        data["snoozedUntil"] = told_time(alert.snoozed_until)
    return data


def _report(alert: Alert) -> dict[str, Any]:
    report: dict[str, Any] = {}
    if alert.acknowledged_at is not None:
        report |= {
            "ackTime": int((alert.acknowledged_at - alert.created_at) * 1000),
            "acknowledgedBy": alert.acknowledged_by,
        }
    if alert.closed_at is not None:
        report |= {"closeTime": int((alert.closed_at - alert.created_at) * 1000), "closedBy": alert.closed_by}
    return report


def _whole(alert: Alert) -> dict[str, Any]:
    return _listed(alert) | {
        "actions": list(alert.actions),
        "entity": alert.entity,
        "description": alert.description,
        "details": dict(alert.details or {}),
    }


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
