"""A client that also writes: each request that does something is sent once, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import requests

from outlast.core.errors import OutlastError, TransientError
from outlast.sources.tools.client import TOO_FAST, Account, Client, Clock, PatientSession, RefusedError, token_variable
from outlast.sources.tools.connector import time_of as time_of
from outlast.sources.tools.writing.writer import visible

_TOLD_MAX = 300
_GAVE_UP = frozenset({408, 409})
"""A client's errors by their number, of which somebody in between may know more than the one who did the work."""


class UnclearError(TransientError):
    """The vendor may have done it: it is to be looked for, and not to be sent again."""

    default_code = "unclear"


class _Session(PatientSession):
    """Reads as patiently as ever. What writes is tried again only where the vendor says that it did nothing (429)."""

    def may_repeat(self, request: requests.PreparedRequest, response: requests.Response | None) -> bool:
        return request.method == "GET" or (response is not None and response.status_code in TOO_FAST)

    def unclear(self, request: requests.PreparedRequest, fault: str) -> TransientError:
        return UnclearError(
            f"{self._account} may have taken it or not: {fault} ({_path(request)})",
            hint="Run the same command again: it looks whether it is there before it sends it once more.",
        )

    def away(self, request: requests.PreparedRequest, fault: str) -> TransientError:
        return TransientError(
            f"{self._account} does not answer: {fault}, for {self._account.patience_s:.0f} s ({_path(request)})",
            hint="What was done here stays here. Run the same command again when the tool is back.",
            code="vendor-away",
        )

    def refused(self, request: requests.PreparedRequest, response: requests.Response) -> OutlastError:
        status = response.status_code
        if request.method != "GET" and (status >= 500 or status in _GAVE_UP):
            return self.unclear(request, f"it answers HTTP {status}")
        error = super().refused(request, response)
        assert isinstance(error, RefusedError)
        name = self._account.name
        give = told_token(name)
        if error.code == "token":
            hint = f"Make a new one ({self._account.connector.credentials.made_at}) and give it: {give}."
            return RefusedError(error.message, hint=hint, status=error.status, code=error.code)
        if error.code == "scope":
            return RefusedError(
                f"{self._account} refuses {_path(request)} (HTTP {error.status}): the write token may only read, or "
                "lacks a right there",
                hint=f"Give one that may write: {give}.",
                status=error.status,
                code=error.code,
            )
        told = _told(response)
        return RefusedError(
            f"{self._account} refuses {_path(request)} (HTTP {error.status}){': ' + told if told else ''}",
            hint="Set that right, or write it there by hand and say so: outlast failback --by-hand ID=KEY",
            status=error.status,
            code=error.code,
        )


class Hand(Client):
    """One account, read from and written to."""

    def __init__(self, account: Account, clock: Clock | None = None) -> None:
        super().__init__(account, clock, _Session)
        self.clock = clock or Clock()

    def post(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """Send it once; gives the answer's JSON. Raises UnclearError, RefusedError."""
        response = self._session.post(
            self.account.base + path,
            json=dict(body),
            headers={**self.account.connector.headers, **(headers or {})},
            auth=self._auth,
            allow_redirects=False,
        )
        try:
            if response.status_code < 300:
                return response.json()
        except ValueError:
            pass
        # A log-in page or a proxy's: whether anything behind it did something cannot be told.
        raise UnclearError(
            f"{self.account} answered {path} with something that is no JSON",
            hint=f"Is [sources.{self.account.name}] site right, or a proxy in between? Then run it again.",
        )

    def known(self, path: str, params: Mapping[str, Any] | None = None) -> Any | None:
        """An answer's JSON, or None where there is no such thing."""
        try:
            return self.get(path, params)
        except RefusedError as error:
            if error.code == "gone":
                return None
            raise


def each(pages: Iterator[list[dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    for page in pages:
        yield from page


def told_token(name: str) -> str:
    """Where the token is given that a source is written with."""
    return f"{token_variable(name, '_WRITE')}, or write_token_command in [sources.{name}]"


def part(text: str) -> str:
    """A key as a part of a path."""
    return quote(text, safe="")


def _path(request: requests.PreparedRequest) -> str:
    return urlsplit(str(request.url)).path


def _told(response: requests.Response) -> str:
    """The vendor's own words, which name the field that it lacks: texts of its error, on one line, and no more."""
    try:
        found = list(_texts(response.json()))
    except ValueError:
        return ""
    return visible("; ".join(found))[:_TOLD_MAX]


def _texts(part: object, name: str = "") -> Iterator[str]:
    if isinstance(part, str) and part.strip():
        yield f"{name}: {part}" if name and not name.startswith(("error", "message", "title", "detail")) else part
    elif isinstance(part, list):
        for one in part:
            yield from _texts(one, name)
    elif isinstance(part, Mapping):
        for inner, one in part.items():
            if inner not in ("requestId", "took", "code", "status"):
                yield from _texts(one, str(inner))
