"""Vendors on this host: HTTP servers that behave as Opsgenie's and PagerDuty's APIs do, and misbehave as told.

`mood` is how a vendor answers from now on; what it took is in `creations` and `calls`. Real vendors cannot be run here;
the answers are those of their specifications.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


class Mood(StrEnum):
    WELL = "well"
    KILLED = "killed"  # takes connections no more (resets them)
    HANGING = "hanging"  # takes a request and never answers
    ERROR = "500"
    BUSY = "429"
    GARBAGE = "garbage"  # 200 and a page of HTML
    LOSING = "losing"  # 202, and its request status says failed
    SILENT = "silent"  # 202, and its request status says nothing, ever
    DEAF = "deaf"  # does what it is told, and the answer gets lost


@dataclass
class Vendor:
    port: int = 0
    mood: Mood = Mood.WELL
    creations: Counter[str] = field(default_factory=Counter)  # by alias: how often it opened an alert
    calls: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)  # what it did: action, alias, body
    headers: list[dict[str, str]] = field(default_factory=list)
    open: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    requests: dict[str, bool] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def of(self, alias: str) -> list[str]:
        """What it did to an alert, in order."""
        with self.lock:
            return [action for action, name, _ in self.calls if name == alias]

    def opsgenie(self, method: str, path: str, query: dict[str, str], body: dict[str, Any]) -> tuple[int, Any]:
        parts = [unquote(part) for part in path.strip("/").split("/")[2:]]
        if parts[:1] == ["requests"]:
            return self._status(parts[1])
        if method == "GET":
            return self._get(parts)
        request = str(uuid.uuid4())
        if self.mood in (Mood.LOSING, Mood.SILENT):
            with self.lock:
                if self.mood is Mood.LOSING:
                    self.requests[request] = False
            return 202, {"result": "Request will be processed", "requestId": request, "took": 0.01}
        alias = body["alias"] if not parts else parts[0]
        action = "create" if not parts else parts[1] if len(parts) > 1 else "delete"
        with self.lock:
            self._do(action, alias, body)
            self.requests[request] = action == "create" or alias in self.notes
        return 202, {"result": "Request will be processed", "requestId": request, "took": 0.01}

    def _do(self, action: str, alias: str, body: dict[str, Any]) -> None:
        self.calls.append((action, alias, body))
        if action == "create" and alias not in self.open:
            self.creations[alias] += 1
            self.open[alias] = {"alias": alias, "createdAt": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
            self.notes.setdefault(alias, [])
        elif action == "close":
            self.open.pop(alias, None)
        elif action == "notes":
            self.notes.setdefault(alias, []).append(body["note"])

    def _status(self, request: str) -> tuple[int, Any]:
        if self.mood is Mood.SILENT or request not in self.requests:
            return 404, {"message": "Request not found. It might not be processed, yet.", "requestId": "x", "took": 0}
        done = self.requests[request]
        status = "Created alert" if done else "Alert does not exist"
        return 200, {"data": {"isSuccess": done, "success": done, "status": status}, "requestId": "x", "took": 0}

    def _get(self, parts: list[str]) -> tuple[int, Any]:
        if not parts:
            return 200, {"data": [], "requestId": "x", "took": 0}
        alias = parts[0]
        with self.lock:
            if len(parts) > 1:
                notes = [{"note": note} for note in self.notes.get(alias, [])]
                return 200, {"data": notes, "requestId": "x", "took": 0}
            if alias in self.open:
                return 200, {"data": self.open[alias], "requestId": "x", "took": 0}
        return 404, {"message": "Alert not found", "requestId": "x", "took": 0}

    def pagerduty(self, body: dict[str, Any]) -> tuple[int, Any]:
        if "event_action" not in body:
            return 400, {"status": "invalid event", "message": "Event object is invalid", "errors": ["x"]}
        action, key = (
            {"trigger": "create", "resolve": "close"}.get(body["event_action"], "acknowledge"),
            body["dedup_key"],
        )
        with self.lock:
            self._do(action, key, body)
        return 202, {"status": "success", "message": "Event processed", "dedup_key": key}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    vendor: Vendor

    def _answer(self) -> None:
        vendor = self.vendor
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        mood = vendor.mood
        if mood is Mood.KILLED:
            self.close_connection = True
            return
        if mood is Mood.HANGING:
            vendor.ended.wait(30)
            self.close_connection = True
            return
        if mood in (Mood.ERROR, Mood.BUSY, Mood.GARBAGE):
            text = b"<html>We are down for maintenance</html>"
            self._send({Mood.ERROR: 500, Mood.BUSY: 429, Mood.GARBAGE: 200}[mood], text, "text/html")
            return
        where = urlsplit(self.path)
        with vendor.lock:
            vendor.headers.append(dict(self.headers))
        if where.path == "/v2/enqueue":
            status, content = vendor.pagerduty(body)
        else:
            query = {name: values[0] for name, values in parse_qs(where.query).items()}
            status, content = vendor.opsgenie(self.command, where.path, query, body)
        if mood is Mood.DEAF and self.command != "GET":
            self.close_connection = True
            return
        self._send(status, json.dumps(content).encode(), "application/json")

    do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 - the base class's names

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that was killed in the middle is what these tests are about


@contextmanager
def vendor(mood: Mood = Mood.WELL) -> Iterator[Vendor]:
    """A vendor for as long as the block lasts."""
    one = Vendor(mood=mood)
    handler = type("Handler", (_Handler,), {"vendor": one})
    with _Server(("127.0.0.1", 0), handler) as server:
        one.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield one
        finally:
            one.ended.set()
            server.shutdown()
            thread.join()
