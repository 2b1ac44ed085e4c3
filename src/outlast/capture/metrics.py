"""What Prometheus is told of a process that follows, over HTTP: its figures, and whether it is healthy."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Protocol

from outlast.core.errors import UsageError


class Measured(Protocol):
    """What has figures. Read from a thread of the server's."""

    @property
    def healthy(self) -> bool: ...

    @property
    def alarms(self) -> Sequence[str]: ...

    def metrics(self) -> str: ...


Metric = tuple[str, str, str, float]
"""(name, kind, help, value)."""


def exposition(prefix: str, source: str, metrics: Iterable[Metric]) -> str:
    """Prometheus's text format, each metric with its source as a label."""
    lines = []
    for name, kind, text, value in metrics:
        lines += [
            f"# HELP {prefix}_{name} {text}",
            f"# TYPE {prefix}_{name} {kind}",
            f'{prefix}_{name}{{source="{_escaped(source)}"}} {value}',
        ]
    return "\n".join([*lines, ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@dataclass
class MetricsServer:
    """`/metrics` over HTTP, and `/healthz`: 200 while it is healthy, else 503 and why."""

    watch: Measured
    host: str
    port: int
    _server: ThreadingHTTPServer | None = field(default=None, init=False, repr=False)

    @classmethod
    def at(cls, watch: Measured, place: str) -> MetricsServer:
        """`HOST:PORT`, or `:PORT` for this machine alone. Raises UsageError."""
        host, colon, port = place.rpartition(":")
        if not colon or not port.isdecimal() or int(port) > 65535:
            raise UsageError(f"{place!r} is no address for metrics", hint="Write HOST:PORT, such as 127.0.0.1:9187.")
        return cls(watch, host.strip("[]") or "127.0.0.1", int(port))

    def __enter__(self) -> MetricsServer:
        watch = self.watch

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, watch.metrics(), "text/plain; version=0.0.4; charset=utf-8")
                elif self.path == "/healthz":
                    self._answer(
                        200 if watch.healthy else 503, "\n".join([*watch.alarms, ""]), "text/plain; charset=utf-8"
                    )
                else:
                    self._answer(404, "there is /metrics and /healthz\n", "text/plain; charset=utf-8")

            def _answer(self, status: int, text: str, kind: str) -> None:
                data = text.encode("utf-8", "backslashreplace")
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Requests are not logged."""

        try:
            self._server = ThreadingHTTPServer((self.host, self.port), Handler)
        except OSError as error:
            raise UsageError(
                f"cannot give metrics at {self.host}:{self.port}: {error.strerror}", hint="Choose another --metrics."
            ) from error
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, name="outlast metrics", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()
