"""What the relay asks of a vendor, whichever it is: take an event, say what became of it, say whether it is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

import httpx

from outlast.relay.alert import Alert
from outlast.relay.event import Event

HOPS_HEADER = "X-Outlast-Relay"
"""Which instances of Outlast a request came through. One that finds itself in it has been sent round in a circle."""


class Verdict(StrEnum):
    DONE = "done"  # it has it
    ACCEPTED = "accepted"  # it says it will have it: to be asked again
    LATER = "later"  # it did not take it, and may another time
    REFUSED = "refused"  # it will never take this one


@dataclass(frozen=True, slots=True)
class Answer:
    verdict: Verdict
    told: str = ""  # for people; never a key
    reference: str | None = None  # by which an accepted one is asked about
    healthy: bool = True  # whether it speaks for the upstream being there
    uncertain: bool = False  # it may have taken it all the same: the answer was lost
    wait_s: float | None = None  # it said itself when to come again


class Upstream(Protocol):
    """One vendor's account. Every call ends within the timeout it was made with, and raises nothing."""

    name: str
    kind: str

    async def send(self, event: Event, alert: Alert) -> Answer:
        """Hand an event over. Not repeated by itself."""

    async def ask(self, reference: str) -> Answer:
        """What became of an event that was accepted. ACCEPTED: it is not known yet."""

    async def has(self, event: Event, alert: Alert) -> bool:
        """Whether it has an event already whose answer was lost. False where it cannot say."""

    async def probe(self) -> Answer:
        """Whether it is there, without any effect."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Said:
    """A vendor's answer over HTTP: JSON, or a fault that says why not."""

    status: int
    content: Mapping[str, Any]
    fault: Answer | None = None


async def request(
    client: httpx.AsyncClient, method: str, path: str, *, json: object = None, params: Mapping[str, str] | None = None
) -> Said:
    """One request. What is no JSON object, or no answer at all, comes back as a fault."""
    try:
        response = await client.request(method, path, json=json, params=params)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        return _fault(f"no connection ({type(error).__name__})")
    except httpx.TimeoutException:
        return _fault("no answer in time", uncertain=True)
    except httpx.HTTPError as error:
        return _fault(f"the connection broke ({type(error).__name__})", uncertain=True)
    wait = response.headers.get("Retry-After", "")
    wait_s = min(float(wait), 60.0) if wait.isdecimal() else None
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
        return Said(429, {}, Answer(Verdict.LATER, "it answered 429: too many requests", healthy=False, wait_s=wait_s))
    if response.status_code >= 500:
        told = f"it answered {response.status_code}"
        return Said(response.status_code, {}, Answer(Verdict.LATER, told, healthy=False, uncertain=True, wait_s=wait_s))
    try:
        content = response.json()
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return _fault(f"it answered {response.status_code} with what is no JSON object", uncertain=True)
    return Said(response.status_code, content)


def _fault(told: str, *, uncertain: bool = False) -> Said:
    return Said(0, {}, Answer(Verdict.LATER, told, healthy=False, uncertain=uncertain))


def client(base_url: str, timeout_s: float, headers: Mapping[str, str]) -> httpx.AsyncClient:
    """No redirects are followed: a key goes where it was configured to go, and nowhere else."""
    return httpx.AsyncClient(
        base_url=base_url,
        timeout=httpx.Timeout(timeout_s, connect=min(timeout_s, 2.0)),
        headers=dict(headers),
        follow_redirects=False,
        limits=httpx.Limits(max_connections=16, max_keepalive_connections=8),
    )
