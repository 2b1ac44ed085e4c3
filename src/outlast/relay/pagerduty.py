"""PagerDuty as an upstream: Events v2. What it has no event for (notes, owners, tags) is not sent."""

from __future__ import annotations

from typing import Any

from outlast.relay.alert import Alert
from outlast.relay.event import Action, Event, Vendor
from outlast.relay.upstream import HOPS_HEADER, Answer, Said, Upstream, Verdict, client, request

BASE_URL = "https://events.pagerduty.com"
_ACTIONS = {
    Action.CREATE: "trigger",
    Action.ACKNOWLEDGE: "acknowledge",
    Action.CLOSE: "resolve",
    Action.DELETE: "resolve",
}
_SEVERITIES = {"P1": "critical", "P2": "error", "P3": "warning", "P4": "info", "P5": "info"}


class PagerDuty(Upstream):
    kind = "pagerduty"

    def __init__(self, name: str, base_url: str, key: str, timeout_s: float, instance: str) -> None:
        self.name = name
        self._key = key
        self._client = client(base_url, timeout_s, {HOPS_HEADER: instance, "User-Agent": "outlast"})

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, event: Event, alert: Alert) -> Answer:
        if event.action not in _ACTIONS:
            return Answer(Verdict.DONE, "PagerDuty has no event for this")
        said = await request(
            self._client, "POST", "/v2/enqueue", json=translated(event, alert) | {"routing_key": self._key}
        )
        if said.fault is not None:
            return said.fault
        if said.status == 202 and said.content.get("status") == "success":
            return Answer(Verdict.DONE, str(said.content.get("message", "taken"))[:200])
        if said.status == 400:
            return Answer(Verdict.REFUSED, _told(said))
        return Answer(Verdict.LATER, _told(said), healthy=False, uncertain=200 <= said.status < 300)

    async def ask(self, reference: str) -> Answer:
        return Answer(Verdict.DONE)  # it has no request status: its 202 is its word

    async def has(self, event: Event, alert: Alert) -> bool:
        return False  # and need not say: a dedup_key makes one alert of any number of the same event

    async def probe(self) -> Answer:
        said = await request(self._client, "POST", "/v2/enqueue", json={})
        if said.fault is not None:
            return said.fault
        if said.status == 400 and "status" in said.content:
            return Answer(Verdict.DONE)  # an event that is none is refused, by a PagerDuty that works
        return Answer(Verdict.LATER, _told(said), healthy=False)


def translated(event: Event, alert: Alert) -> dict[str, Any]:
    """The event in its words, without the routing key."""
    if event.vendor is Vendor.PAGERDUTY and event.raw is not None:
        return {**event.raw, "dedup_key": alert.alias}
    body: dict[str, Any] = {"event_action": _ACTIONS[event.action], "dedup_key": alert.alias[:255]}
    if event.action is Action.CREATE:
        details = {**(event.fields.get("details") or {})}
        if event.fields.get("description"):
            details["description"] = str(event.fields["description"])
        body["payload"] = {
            "summary": str(event.fields["message"])[:1024],
            "source": str(event.fields.get("source") or alert.integration),
            "severity": _SEVERITIES[str(event.fields.get("priority") or "P3")],
            "custom_details": details,
        }
    return body


def _told(said: Said) -> str:
    errors = said.content.get("errors")
    more = f" ({'; '.join(str(one) for one in errors)[:200]})" if isinstance(errors, list) else ""
    return f"it answered {said.status}: {str(said.content.get('message', 'not what was expected'))[:200]}{more}"
