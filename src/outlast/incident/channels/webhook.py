"""Letters to web hooks: JSON by POST, signed with a secret that the subscriber knows, to be told apart by a header.

Outlast-Signature: t=TIME,v1=HEX      HMAC-SHA256 of "TIME.BODY" under the subscription's secret
Outlast-Delivery: ID                  the same when a letter has to be sent again
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from datetime import UTC, datetime

import httpx

from outlast.incident.channels.outcome import SENT, Outcome, Went
from outlast.incident.letters import Letter

TIMEOUT_S = 10
_GONE = (404, 410)


def sign(body: bytes, secret: str, at: datetime) -> str:
    """The signature header of a body."""
    time = int(at.timestamp())
    mac = hmac.digest(secret.encode(), f"{time}.".encode() + body, "sha256").hex()
    return f"t={time},v1={mac}"


class Webhooks:
    """Thread-safe. `secret_of` gives a subscriber's secret."""

    def __init__(
        self, secret_of: Callable[[str], str | None], clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._secret_of = secret_of
        self._clock = clock
        # No redirect is followed: a web hook that points elsewhere tomorrow must not get what it was not asked for.
        self._client = httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, trust_env=False)

    def send(self, letter: Letter) -> Outcome:
        body = letter.body.encode()
        secret = self._secret_of(letter.subscriber) if letter.subscriber else None
        headers = {"Content-Type": "application/json", "User-Agent": "Outlast", "Outlast-Delivery": letter.id}
        if secret is not None:
            headers["Outlast-Signature"] = sign(body, secret, self._clock())
        try:
            answer = self._client.post(letter.address, content=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return Outcome(Went.LATER, f"the web hook could not be reached ({type(error).__name__})")
        if answer.is_success:
            return SENT
        went = Went.REFUSED if answer.status_code in _GONE else Went.LATER
        return Outcome(went, f"the web hook answered {answer.status_code}")

    def close(self) -> None:
        self._client.close()
