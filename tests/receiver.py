"""A real HTTP server on this host that takes what Apprise posts to json://: what a test's notifications arrive at."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import SimpleQueue
from typing import Any

TIMEOUT_S = 60


@dataclass
class Receiver:
    """`url` is Apprise's. `next` waits for a message; `refusing` makes the server answer 500."""

    port: int
    path: str = "hook"
    refusing: bool = False
    _came: SimpleQueue[tuple[float, dict[str, Any]]] = field(default_factory=SimpleQueue)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.port}/{self.path}"

    def next(self, timeout_s: float = TIMEOUT_S) -> tuple[float, str, str]:
        """When it came (monotonic), its title and its text."""
        at, message = self._came.get(timeout=timeout_s)
        return at, str(message["title"]), str(message["message"])

    @property
    def empty(self) -> bool:
        return self._came.empty()

    def take(self, body: bytes) -> int:
        if self.refusing:
            return 500
        self._came.put((time.monotonic(), json.loads(body)))
        return 200


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver for as long as the block lasts."""
    receiver = Receiver(0)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = receiver.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(answer)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        receiver.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.shutdown()
            thread.join(TIMEOUT_S)
