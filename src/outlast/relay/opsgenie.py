"""Opsgenie (and the same API of Jira Service Management) as an upstream: its Alert API, asynchronous throughout.

A 202 means that it will look at the request. What became of it stands under its request id a moment later, or never.
"""

from __future__ import annotations

from typing import Any

from outlast.relay.alert import Alert, instant
from outlast.relay.event import Action, Event, Vendor
from outlast.relay.upstream import HOPS_HEADER, Answer, Said, Upstream, Verdict, client, request

BASE_URL = "https://api.opsgenie.com"
_SKEW_S = 120.0  # by how much its clock and ours may differ
_NEVER = (400, 409, 413, 422)  # this request is wrong, and will be next time

_CALLS: dict[Action, tuple[str, str]] = {
    Action.CLOSE: ("POST", "/close"),
    Action.ACKNOWLEDGE: ("POST", "/acknowledge"),
    Action.UNACKNOWLEDGE: ("POST", "/unacknowledge"),
    Action.NOTE: ("POST", "/notes"),
    Action.SNOOZE: ("POST", "/snooze"),
    Action.ASSIGN: ("POST", "/assign"),
    Action.ADD_TAGS: ("POST", "/tags"),
    Action.REMOVE_TAGS: ("DELETE", "/tags"),
    Action.ADD_DETAILS: ("POST", "/details"),
    Action.REMOVE_DETAILS: ("DELETE", "/details"),
    Action.ADD_RESPONDER: ("POST", "/responders"),
    Action.PRIORITY: ("PUT", "/priority"),
    Action.MESSAGE: ("PUT", "/message"),
    Action.DESCRIPTION: ("PUT", "/description"),
    Action.DELETE: ("DELETE", ""),
}


class Opsgenie(Upstream):
    kind = "opsgenie"

    def __init__(self, name: str, base_url: str, key: str, timeout_s: float, instance: str) -> None:
        self.name = name
        headers = {"Authorization": f"GenieKey {key}", HOPS_HEADER: instance, "User-Agent": "outlast"}
        self._client = client(base_url, timeout_s, headers)

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, event: Event, alert: Alert) -> Answer:
        if event.action is Action.CREATE:
            said = await request(self._client, "POST", "/v2/alerts", json=creation(event, alert))
            return _accepted(said)
        method, path = _CALLS[event.action]
        params = {"identifierType": "alias"}
        body = event.raw if event.vendor is Vendor.OPSGENIE and event.raw is not None else _body(event)
        if method == "DELETE":
            params |= {name: value for name, value in _deletion(event).items() if value}
        where = f"/v2/alerts/{_quoted(alert.alias)}{path}"
        said = await request(self._client, method, where, json=None if method == "DELETE" else body, params=params)
        return _accepted(said)

    async def ask(self, reference: str) -> Answer:
        said = await request(self._client, "GET", f"/v2/alerts/requests/{_quoted(reference)}")
        if said.fault is not None:
            return said.fault
        if said.status == 404:
            return Answer(Verdict.ACCEPTED, "it does not know yet what became of it", reference)
        data = said.content.get("data")
        if said.status != 200 or not isinstance(data, dict):
            return _unlooked(said)
        success = data.get("isSuccess", data.get("success"))
        if success is True:
            return Answer(Verdict.DONE, str(data.get("status", "done"))[:200])
        if success is False:
            told = f"it accepted it, and then: {str(data.get('status', 'failed'))[:200]}"
            return Answer(Verdict.LATER, told, healthy=False)
        return Answer(Verdict.ACCEPTED, "it does not say what became of it", reference)

    async def has(self, event: Event, alert: Alert) -> bool:
        where = f"/v2/alerts/{_quoted(alert.alias)}"
        alias = {"identifierType": "alias"}
        if event.action is Action.CREATE:
            said = await request(self._client, "GET", where, params=alias)
            data = said.content.get("data")
            return said.status == 200 and isinstance(data, dict) and _since(data, alert.created_at)
        if event.action is Action.NOTE:
            said = await request(self._client, "GET", f"{where}/notes", params={**alias, "limit": "100"})
            notes = said.content.get("data")
            mine = event.fields.get("note")
            return isinstance(notes, list) and any(
                isinstance(note, dict) and note.get("note") == mine for note in notes
            )
        return False

    async def probe(self) -> Answer:
        said = await request(self._client, "GET", "/v2/alerts", params={"limit": "1"})
        if said.fault is not None:
            return said.fault
        if said.status in (401, 402):
            return Answer(Verdict.LATER, f"it answered {said.status}: its key is not valid", healthy=False)
        if "requestId" not in said.content:
            return _unlooked(said)
        return Answer(Verdict.DONE)  # a key that may only create is told 403, by an Opsgenie that works


def creation(event: Event, alert: Alert) -> dict[str, Any]:
    """The body that opens the alert there. It always has the alias, by which everything later finds it."""
    if event.vendor is Vendor.OPSGENIE and event.raw is not None:
        return {**event.raw, "alias": alert.alias}
    fields = event.fields
    body: dict[str, Any] = {"message": str(fields["message"])[:130], "alias": alert.alias}
    limits = {"description": 15000, "source": 100, "entity": 512}
    body |= {name: str(fields[name])[:limit] for name, limit in limits.items() if fields.get(name)}
    body |= {
        name: fields[name] for name in ("priority", "responders", "details", "actions", "note") if fields.get(name)
    }
    if fields.get("tags"):
        body["tags"] = [str(tag)[:50] for tag in fields["tags"][:20]]
    return body


def _body(event: Event) -> dict[str, Any]:
    body = {name: event.fields[name] for name in ("user", "source", "note") if event.fields.get(name)}
    match event.action:
        case Action.SNOOZE:
            body["endTime"] = event.fields["endTime"]
        case Action.ASSIGN:
            body["owner"] = {"username": event.fields["owner"]}
        case Action.ADD_TAGS | Action.ADD_DETAILS | Action.ADD_RESPONDER | Action.PRIORITY | Action.MESSAGE:
            names = ("tags", "details", "responder", "priority", "message")
            body |= {name: event.fields[name] for name in names if name in event.fields}
        case Action.DESCRIPTION:
            body["description"] = event.fields["description"]
        case _:
            pass
    return body


def _deletion(event: Event) -> dict[str, str]:
    return {
        "tags": ",".join(event.fields.get("tags", ())),
        "keys": ",".join(event.fields.get("keys", ())),
        "source": str(event.fields.get("source") or ""),
        "user": str(event.fields.get("user") or ""),
    }


def _accepted(said: Said) -> Answer:
    if said.fault is not None:
        return said.fault
    reference = said.content.get("requestId")
    if said.status == 202 and isinstance(reference, str) and reference:
        return Answer(Verdict.ACCEPTED, "accepted", reference)
    if said.status in _NEVER:
        return Answer(Verdict.REFUSED, f"it answered {said.status}: {str(said.content.get('message', ''))[:200]}")
    return _unlooked(said)


def _unlooked(said: Said) -> Answer:
    """It answered, and not as it should: a wrong key, another server in its place, a proxy's page."""
    told = f"it answered {said.status}: {str(said.content.get('message', 'not what was expected'))[:200]}"
    return Answer(Verdict.LATER, told, healthy=False, uncertain=200 <= said.status < 300)


def _since(data: dict[str, Any], at: float) -> bool:
    try:
        return instant(data["createdAt"]) >= at - _SKEW_S
    except (KeyError, ValueError):
        return False


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe="")
