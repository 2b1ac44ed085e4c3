"""Letters to web hooks: JSON by POST, signed with a secret that the subscriber knows, to be told apart by a header.

Outlast-Signature: t=TIME,v1=HEX      HMAC-SHA256 of "TIME.BODY" under the subscription's secret
Outlast-Delivery: ID                  the same when a letter has to be sent again
Outlast-Again: 1                      it may have arrived already
"""

from __future__ import annotations

import hmac
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import httpcore
import httpx

from outlast.incident.channels.outcome import SENT, Outcome, Went
from outlast.incident.channels.outside import InsideError, Outside
from outlast.incident.letters import Letter

TIMEOUT_S = 10
_GONE = (404, 410)
_UNREACHED = (httpcore.NetworkError, httpcore.TimeoutException, httpcore.LocalProtocolError, httpx.InvalidURL)


def sign(body: bytes, secret: str, at: datetime) -> str:
    """The signature header of a body."""
    time = int(at.timestamp())
    mac = hmac.digest(secret.encode(), f"{time}.".encode() + body, "sha256").hex()
    return f"t={time},v1={mac}"


class Webhooks:
    """Thread-safe. `secret_of` gives a subscriber's secret; `outside` makes the connections."""

    def __init__(
        self,
        secret_of: Callable[[str], str | None],
        outside: Outside,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._secret_of = secret_of
        self._clock = clock
        # httpcore and not httpx: it takes our own connections, looks at no proxy, and follows no redirect. A web hook
        # that points elsewhere tomorrow must not get what it was not asked for.
        self._pool = httpcore.ConnectionPool(network_backend=outside)

    def send(self, letter: Letter, *, again: bool = False) -> Outcome:
        body = letter.body.encode()
        secret = self._secret_of(letter.subscriber) if letter.subscriber else None
        headers = {"Content-Type": "application/json", "User-Agent": "Outlast", "Outlast-Delivery": letter.id}
        if again:
            headers["Outlast-Again"] = "1"
        if secret is not None:
            headers["Outlast-Signature"] = sign(body, secret, self._clock())
        try:
            status = self._post(letter.address, body, headers)
        except InsideError as error:
            return Outcome(Went.REFUSED, f"the web hook is not called: {error} ([incident] inside)")
        except (httpcore.ReadError, httpcore.ReadTimeout, httpcore.RemoteProtocolError) as error:
            return Outcome(Went.UNCLEAR, f"the web hook did not answer ({type(error).__name__})")
        except _UNREACHED as error:
            return Outcome(Went.LATER, f"the web hook could not be reached ({type(error).__name__})")
        if 200 <= status < 300:
            return SENT
        return Outcome(Went.REFUSED if status in _GONE else Went.LATER, f"the web hook answered {status}")

    def _post(self, address: str, body: bytes, headers: Mapping[str, str]) -> int:
        """The status alone. The answer's body is not read: it is of no use, and may have no end."""
        url = httpx.URL(address)  # names in other scripts, and what is left out, as browsers do it
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        sent = [("Host", url.netloc.decode("ascii")), *headers.items(), ("Content-Length", str(len(body)))]
        if url.userinfo:
            user = b64encode(f"{url.username}:{url.password}".encode()).decode("ascii")
            sent.append(("Authorization", f"Basic {user}"))
        timeout = dict.fromkeys(("connect", "read", "write", "pool"), TIMEOUT_S)
        with self._pool.stream("POST", target, headers=sent, content=body, extensions={"timeout": timeout}) as answer:
            return int(answer.status)

    def close(self) -> None:
        self._pool.close()
