"""A vendor that a test can talk to: documents that change, pages, rate limits, faults, and a log of what was asked.

Each vendor's fake lists its routes by hand from the vendor's specification; nothing is taken from the connectors.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Document = dict[str, Any]
Table = dict[str, Document]

TOKEN = "tok-MARKED-9f8e7d6c5b4a"
WRITE_TOKEN = "tok-MARKED-write-0a1b2c3d"
"""What every fake takes, to read and to write. Marked, so that a test can look for it in whatever is written."""


@dataclass(frozen=True)
class Asked:
    """One request, as a handler sees it."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Any
    match: re.Match[str]
    url: str  # of the server, for links to next pages
    headers: Mapping[str, str] = field(default_factory=dict)  # their names in small letters


@dataclass
class Answer:
    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    raw: bytes | None = None


class Gone(Exception):  # noqa: N818 - what a route raises to answer 404
    pass


Route = Callable[[Asked], Any]


class Fake:
    """Subclasses fill `routes` and `tables`. Everything may be changed while the server runs."""

    scheme = "GenieKey "
    header = "Authorization"

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self.routes: list[tuple[str, re.Pattern[str], Route]] = []
        self.log: list[str] = []
        self.token = TOKEN
        self.expected_auth = self.scheme + TOKEN
        self.writing_auth = self.scheme + WRITE_TOKEN
        self.faults: list[Answer | str] = []  # for the next requests, one each: an answer, "cut" or "html"
        self.late: list[int] = []  # answered with such a status after all was done
        self.before: Callable[[int], None] = lambda number: None  # called with each request's number
        self.after: Callable[[int], None] = lambda number: None  # and once it was done, before it is answered
        self.page_size = 3
        self.headers: dict[str, str] = {}
        self.url = ""
        self.heard = threading.local()  # `headers` of the request that this thread answers
        self._lock = threading.RLock()

    def get(self, pattern: str, route: Route, method: str = "GET") -> None:
        self.routes.append((method, re.compile(pattern), route))

    def post(self, pattern: str, route: Route) -> None:
        """One that writes: not with the token that only reads."""

        def written(asked: Asked) -> Any:
            if asked.headers.get(self.header.lower()) != self.writing_auth:
                return Answer({"message": "This key may only read", "errorMessages": ["You may not"]}, 403)
            return route(asked)

        self.get(pattern, written, method="POST")

    def table(self, name: str) -> Table:
        return self.tables.setdefault(name, {})

    def answer(self, method: str, target: str, body: bytes, auth: str | None) -> Answer | str:
        """What a request is answered. The fault "cut late" does it, and answers nothing."""
        with self._lock:
            parts = urlsplit(target)
            self.log.append(f"{method} {target}")
            self.before(len(self.log))
            fault = self.faults.pop(0) if self.faults else None
            if fault is not None and fault != "cut late":
                return fault
            if auth not in (self.expected_auth, self.writing_auth):
                return Answer({"message": "Could not authenticate"}, 401)
            query = {name: values[-1] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
            for wanted, pattern, route in self.routes:
                match = pattern.fullmatch(parts.path)
                if match and wanted == method:
                    given = json.loads(body) if body else None
                    asked = Asked(method, parts.path, query, given, match, self.url, self.heard.headers)
                    try:
                        found = route(asked)
                    except (Gone, KeyError):
                        found = Answer({"message": "No such thing", "took": 0.01, "requestId": "r"}, 404)
                    self.after(len(self.log))
                    if fault is not None:
                        return "cut"
                    if self.late:
                        return Answer({"message": "Something went wrong"}, self.late.pop())
                    return found if isinstance(found, Answer) else Answer(found)
            return Answer({"message": f"no route {method} {parts.path}"}, 404)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The server, under its URL."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 64 * 1024  # headers and body in one packet: else each answer waits for an acknowledgement

            def handle(self) -> None:
                with suppress(ConnectionError):  # the other side was killed
                    super().handle()

            def do_GET(self) -> None:
                self._do("GET")

            def do_POST(self) -> None:
                self._do("POST")

            def _do(self, method: str) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                fake.heard.headers = {name.lower(): value for name, value in self.headers.items()}
                answer = fake.answer(method, self.path, body, self.headers.get(fake.header))
                if answer == "cut":
                    self.close_connection = True
                    self.connection.close()
                    return
                if isinstance(answer, str):
                    answer = Answer(None, raw=b"<html><body>Log in</body></html>")
                data = answer.raw if answer.raw is not None else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {**fake.headers, **answer.headers}.items():
                    self.send_header(name, value)
                if "Content-Type" not in answer.headers:
                    self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield self.url
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


def too_many(wait_s: str = "0") -> Answer:
    return Answer({"message": "You are making too many requests!"}, 429, {"Retry-After": wait_s})


def broken(status: int = 503) -> Answer:
    return Answer({"message": "Service unavailable"}, status)
