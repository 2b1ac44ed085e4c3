"""Talking to a vendor: dlt's REST client over a session that is patient and keeps within a budget.

The session waits as the vendor's own headers say, leaves part of the vendor's limit to the people who use the tool, and
tries a passing fault again for as long as it is told to. No token, header or body is ever in an error.
"""

from __future__ import annotations

import email.utils
import random
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from outlast.core.errors import OutlastError, SourceError, TransientError
from outlast.sources.tools.connector import Connector, NextLink, Offset, Pages, Paging, Rate, Token, Whole

if TYPE_CHECKING:
    from dlt.sources.helpers.rest_client.paginators import BasePaginator

_CONNECT_S, _READ_S = 10.0, 60.0
TOO_FAST = frozenset({420, 429})
_PASSING = frozenset({500, 502, 503, 504, 522, 524})
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_MINUTE_S = 60.0


class RefusedError(SourceError):
    """The vendor answered, and will not do it: a client's error, with its HTTP status. `where` is the path asked."""

    def __init__(self, message: str, *, status: int, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status


@dataclass(frozen=True, slots=True)
class Clock:
    """Time, so that a test need not wait."""

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class Account:
    """One site of a vendor: where it is, who asks, and how much may be asked. The token is in no text of this."""

    name: str  # the source's name in outlast.toml, for hints
    connector: Connector
    base: str
    token: str = field(repr=False)
    user: str | None = None
    per_minute: int | None = None
    share: float = 0.5  # of what the vendor allows
    patience_s: float = 300.0

    def __str__(self) -> str:
        return f"{self.connector.title} ({urlsplit(self.base).netloc})"


class _Auth(AuthBase):
    """Puts the credentials on a request. Being there keeps requests from looking into ~/.netrc."""

    def __init__(self, account: Account) -> None:
        self._account = account

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        credentials, account = self._account.connector.credentials, self._account
        if credentials.scheme == "Basic":
            return requests.auth.HTTPBasicAuth(account.user or "", account.token)(request)
        request.headers[credentials.header] = f"{credentials.scheme}{account.token}"
        return request


class Budget:
    """When the next request may go: not faster than the share we take, nor before the vendor says."""

    def __init__(self, rate: Rate, per_minute: int | None, share: float, clock: Clock) -> None:
        self._rate = rate
        self._share = share
        self._clock = clock
        self._gap_s = _MINUTE_S / (per_minute or max(1.0, rate.per_minute * share))
        self._next = 0.0

    def await_turn(self) -> None:
        wait = self._next - self._clock.now()
        if wait > 0:
            self._clock.sleep(wait)
        self._next = max(self._next, self._clock.now()) + self._gap_s

    def heard(self, headers: Mapping[str, str]) -> None:
        """Go by what an answer says of what is left: when only the others' share is, wait until it is new."""
        remaining, limit = _number(headers, self._rate.remaining), _number(headers, self._rate.limit)
        if remaining is not None and limit and remaining < limit * (1 - self._share):
            reset = _wait_of(headers.get(self._rate.reset), self._clock)
            if reset is not None:
                self._next = max(self._next, self._clock.now() + min(reset, _LONGEST_WAIT_S))
        state, period = self._rate.state, self._rate.period
        if state is not None and period is not None and headers.get(state[0]) == state[1]:
            wait = _number(headers, period)
            self._next = max(self._next, self._clock.now() + min(wait or 1.0, _LONGEST_WAIT_S))

    def throttled(self, headers: Mapping[str, str], wait_s: float) -> float:
        """How long to wait after "too many": what the vendor says, else `wait_s`."""
        for name in ("Retry-After", self._rate.reset, self._rate.period or ""):
            told = _wait_of(headers.get(name), self._clock)
            if told is not None:
                return max(told, 0.01)
        return wait_s


def _number(headers: Mapping[str, str], name: str) -> float | None:
    try:
        return float(headers.get(name, ""))
    except ValueError:
        return None


def _wait_of(value: str | None, clock: Clock) -> float | None:
    """Seconds from now: of a number of seconds, a time in seconds since 1970, an HTTP date or an ISO time."""
    if not value:
        return None
    try:
        number = float(value)
        return max(0.0, number - clock.wall()) if number > 1e9 else number
    except ValueError:
        pass
    from outlast.sources.tools.connector import time_of

    parsed = time_of(value)
    if parsed is None:
        try:
            parsed = email.utils.parsedate_to_datetime(value)
        except (TypeError, ValueError):
            return None
    return max(0.0, parsed.timestamp() - clock.wall())


class PatientSession(requests.Session):
    """A session that waits its turn and tries again what may pass. Errors come out of it told, without a secret."""

    def __init__(self, account: Account, clock: Clock) -> None:
        super().__init__()
        self._account = account
        self._clock = clock
        self._budget = Budget(account.connector.rate, account.per_minute, account.share, clock)
        self._host = urlsplit(account.base).netloc
        self.requests = 0

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        carries = self._account.connector.credentials.header in request.headers
        if carries and urlsplit(str(request.url)).netloc != self._host:
            raise SourceError(
                f"{self._account} names another host for its next page: the token is not sent there",
                hint="See [sources] url and site in outlast.toml; report this where they are right.",
                code="another-host",
            )
        options["timeout"] = (_CONNECT_S, _READ_S)
        began, wait = self._clock.now(), _FIRST_WAIT_S
        while True:
            self._budget.await_turn()
            self.requests += 1
            fault, response, sent = "", None, True
            try:
                response = super().send(request, **options)
            except (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError) as error:
                fault, sent = _kind(error), not _was_never_sent(error)
            if response is not None:
                self._budget.heard(response.headers)
                if response.status_code < 400:
                    return response
                if response.status_code not in TOO_FAST | _PASSING:
                    raise self.refused(request, response)
                fault = f"it answers HTTP {response.status_code}"
            if sent and not self.may_repeat(request, response):
                raise self.unclear(request, fault)
            if response is not None and (response.status_code in TOO_FAST or "Retry-After" in response.headers):
                wait = self._budget.throttled(response.headers, wait)
            if self._clock.now() - began + wait > self._account.patience_s:
                raise self.away(request, fault)
            self._clock.sleep(wait * random.uniform(1.0, 1.2))  # noqa: S311 - so that many hosts do not come at once
            wait = min(max(wait, _FIRST_WAIT_S) * 2, _LONGEST_WAIT_S)

    def may_repeat(self, request: requests.PreparedRequest, response: requests.Response | None) -> bool:
        """Whether it does no harm if this was done although it failed. Reading never does."""
        return True

    def unclear(self, request: requests.PreparedRequest, fault: str) -> TransientError:
        """What is raised where it may do harm."""
        return self.away(request, fault)

    def away(self, request: requests.PreparedRequest, fault: str) -> TransientError:
        return TransientError(
            f"{self._account} does not answer: {fault}, for {self._account.patience_s:.0f} s ({_path(request)})",
            hint="What was fetched so far is kept, and the next backup goes on from there. The last good backup is "
            f"what `outlast show --source {self._account.name}` reads.",
            code="vendor-away",
        )

    def refused(self, request: requests.PreparedRequest, response: requests.Response) -> OutlastError:
        status, credentials, path = response.status_code, self._account.connector.credentials, _path(request)
        name = self._account.name
        if status == 401:
            return RefusedError(
                f"{self._account} does not accept the token: it is wrong, expired or revoked (HTTP 401)",
                hint=f"Make a new one ({credentials.made_at}) and give it by token_command in [sources.{name}], or by "
                f"{token_variable(name)}.",
                status=status,
                code="token",
            )
        if status in (402, 403):
            return RefusedError(
                f"{self._account} refuses {path} (HTTP {status}): the token lacks a right, or it is not in the plan",
                hint=f'It needs {credentials.needs}. To leave it out: skip = ["…"] in [sources.{name}].',
                status=status,
                code="scope",
            )
        if status in (404, 410):
            return RefusedError(
                f"{self._account} has no {path} (HTTP {status})",
                hint=f"Is the site still there, and right in [sources.{name}]? What was backed up stays readable: "
                f"outlast show --source {name}",
                status=status,
                code="gone",
            )
        return RefusedError(
            f"{self._account} refuses {path} (HTTP {status})",
            hint="This may be a change in the vendor's API. To leave it out: "
            f'skip = ["…"] in [sources.{name}]; and please report it.',
            status=status,
            code="vendor-refused",
        )


def token_variable(name: str, purpose: str = "") -> str:
    """The environment variable that holds the token of a source; `purpose`: another one of the same ("_WRITE")."""
    return "OUTLAST_" + re.sub(r"[^A-Za-z0-9]", "_", name).upper() + purpose + "_TOKEN"


def _path(request: requests.PreparedRequest) -> str:
    return urlsplit(str(request.url)).path  # without its query, which may carry what people searched for


def _was_never_sent(error: Exception) -> bool:
    """Whether there was no connection to send it over."""
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)


def _kind(error: Exception) -> str:
    """A fault without the address or the headers that the library puts into its text."""
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    if isinstance(error, requests.Timeout):
        return "it does not answer in time"
    return "it cannot be reached, or cuts the connection"


class Client:
    """Pages and files of one account."""

    def __init__(
        self, account: Account, clock: Clock | None = None, session: type[PatientSession] = PatientSession
    ) -> None:
        from dlt.common.configuration.specs.runtime_configuration import RuntimeConfiguration
        from dlt.sources.helpers.rest_client.client import RESTClient

        self.account = account
        self._clock = clock or Clock()
        self._session = session(account, self._clock)
        self._auth = _Auth(account)
        self._client = RESTClient(
            account.base,
            headers=dict(account.connector.headers),
            auth=self._auth,
            session=self._session,
            config=RuntimeConfiguration(),  # not looked for in files and the environment
        )

    @property
    def requests(self) -> int:
        """How many were made."""
        return self._session.requests

    def now(self) -> datetime:
        """By this host's clock."""
        return datetime.fromtimestamp(self._clock.wall(), UTC)

    def close(self) -> None:
        self._session.close()

    def pages(
        self, path: str, items: str, paging: Paging, params: Mapping[str, Any], body: Mapping[str, Any] | None = None
    ) -> Iterator[list[dict[str, Any]]]:
        """The lists at `items` of one answer after the other. Raises RefusedError and TransientError."""
        paginator, sized = _paginator(paging)
        asked = dict(params)
        posted = None if body is None else dict(body)
        if posted is not None and isinstance(paging, Token) and paging.in_body:
            posted |= sized
        else:
            asked |= sized
        pages = self._client.paginate(
            path,
            method="GET" if body is None else "POST",
            params=asked,
            json=posted,
            paginator=paginator,
            data_selector=items,
            hooks={"response": []},  # errors were told already
        )
        while True:
            try:
                page = next(pages, None)
            except OutlastError:
                raise
            except (ValueError, TypeError, KeyError) as error:  # no JSON: a log-in page, a proxy's error
                raise self._unreadable(path) from error
            if page is None:
                return
            yield [one if isinstance(one, dict) else {"value": one} for one in page]

    def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """One answer's JSON."""
        response = self._client.get(path, params=dict(params or {}))
        try:
            return response.json()
        except ValueError as error:
            raise self._unreadable(path) from error

    def content(self, path: str, size_bytes: int) -> Iterator[bytes]:
        """A file's bytes, in parts of `size_bytes`; redirects to a vendor's store are followed without the token."""
        response = self._client.get(path, stream=True)
        try:
            held = bytearray()
            for data in response.iter_content(64 * 1024):
                held += data
                while len(held) >= size_bytes:
                    yield bytes(held[:size_bytes])
                    del held[:size_bytes]
            if held:
                yield bytes(held)
        except requests.RequestException as error:
            raise TransientError(
                f"{self.account} cut a file short ({urlsplit(path).path})",
                hint="Run the same command again: it goes on from there.",
                code="vendor-away",
            ) from error
        finally:
            response.close()

    def _unreadable(self, path: str) -> SourceError:
        return SourceError(
            f"{self.account} answered {urlsplit(path).path} with something that is no JSON",
            hint=f"Is [sources.{self.account.name}] site right, or a proxy's log-in page in between?",
            code="no-json",
        )


def _paginator(paging: Paging) -> tuple[BasePaginator, dict[str, Any]]:
    """dlt's paginator for a declaration, and the parameters that say how large a page is."""
    from dlt.sources.helpers.rest_client import paginators

    if isinstance(paging, Whole):
        return paginators.SinglePagePaginator(), {}
    if isinstance(paging, Offset):
        offset = paginators.OffsetPaginator(
            limit=paging.limit,
            offset_param=paging.offset,
            limit_param=paging.size,
            total_path=paging.total,
            has_more_path=paging.more,
            stop_after_empty_page=True,
        )
        return offset, {}
    if isinstance(paging, Pages):
        pages = paginators.PageNumberPaginator(base_page=paging.first, page_param=paging.page, total_path=None)
        return pages, {paging.size: paging.limit}
    sized = {} if paging.limit is None else {paging.size: paging.limit}
    if isinstance(paging, NextLink):
        return paginators.JSONLinkPaginator(paging.at), sized
    if paging.in_body:
        return paginators.JSONResponseCursorPaginator(paging.at, cursor_body_path=paging.param), sized
    return paginators.JSONResponseCursorPaginator(paging.at, cursor_param=paging.param), sized
