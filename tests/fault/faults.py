"""Faults on the way to the store and to the database: the Nth operation fails, once or from then on.

The test for every write path is: for N = 1, 2, … run the operation with the Nth request failing, once as a passing and
once as a lasting fault, and check the invariants each time, until a run needs fewer than N requests. For that there are

    FaultyStore     wraps a vault Store inside this process, for tests that call a function;
    StoreProxy      stands before the S3 server: whatever process asks, worker processes too, is counted and failed;
    DatabaseProxy   stands before PostgreSQL and cuts the connection at the Nth statement;
    kill            ends a started command as `kill -9` and all it started, at the Nth request or after a time.

A fault strikes BEFORE the operation (nothing happened) or AFTER it (it happened, but nobody was told): the second is
what makes a COMMIT or a put-if-absent doubtful. `counted` walks N for any of them.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit


class When(Enum):
    BEFORE = "before"
    AFTER = "after"


@dataclass
class Fault:
    """Which operations fail. `at` counts from 1; 0 never. `strike` is called, once, when the first one does."""

    at: int = 0
    lasting: bool = False
    when: When = When.BEFORE
    strike: Callable[[], None] | None = None
    seen: int = 0
    struck: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self) -> bool:
        """Count one operation; says whether it is to fail."""
        with self._lock:
            self.seen += 1
            fails = self.at > 0 and (self.seen >= self.at if self.lasting else self.seen == self.at)
            self.struck += fails
            first = fails and self.struck == 1
        if first and self.strike is not None:
            self.strike()
        return fails


def counted(*, limit: int = 10_000, step: int = 1) -> Iterator[Fault]:
    """Faults for N = 1, 1 + step, …: each passing and lasting, before and after. Ends once none struck for an N.

    Use each in a run of its own, from a fresh start:  for fault in counted(): … run with fault …; check.
    """
    for at in range(1, limit, step):
        struck = False
        for lasting in (False, True):
            for when in When:
                fault = Fault(at, lasting, when)
                yield fault
                struck = struck or fault.struck > 0
        if not struck:
            return
    raise AssertionError(f"more than {limit} operations")


class InjectedError(Exception):
    """What a FaultyStore raises unless told otherwise."""


class FaultyStore:
    """A Store in this process of which operations fail. `error` makes what is raised from a text."""

    def __init__(self, inner: Any, fault: Fault, error: Callable[[str], Exception] = InjectedError) -> None:
        self._inner = inner
        self._fault = fault
        self._error = error
        self.operations: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return str(self._inner.url)

    @property
    def is_remote(self) -> bool:
        return bool(self._inner.is_remote)

    def flush(self) -> None:
        self._do("flush", "", self._inner.flush)

    def get(self, path: str) -> bytes:
        return self._do("get", path, lambda: self._inner.get(path))  # type: ignore[no-any-return]

    def get_range(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        return self._do("get_range", path, lambda: self._inner.get_range(path, offset_bytes, length_bytes))  # type: ignore[no-any-return]

    def create(self, path: str, data: bytes) -> None:
        self._do("create", path, lambda: self._inner.create(path, data))

    def list(self, prefix: str = "") -> Iterator[Any]:
        return iter(self._do("list", prefix, lambda: list(self._inner.list(prefix))))

    def delete(self, path: str) -> None:
        self._do("delete", path, lambda: self._inner.delete(path))

    def exists(self, path: str) -> bool:
        return self._do("exists", path, lambda: self._inner.exists(path))  # type: ignore[no-any-return]

    def _do(self, name: str, path: str, operation: Callable[[], Any]) -> Any:
        self.operations.append((name, path))
        if not self._fault.count():
            return operation()
        if self._fault.when is When.AFTER:
            operation()
        raise self._error(f"injected: {name} {path}")


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]

    @property
    def is_write(self) -> bool:
        return self.method in ("PUT", "POST", "DELETE")


class StoreProxy:
    """An HTTP proxy before an S3 server. Every request is kept in `requests`; `fault` says which fail, and how.

    `status` is what a failed request is answered with; 0 cuts the connection without an answer.
    """

    def __init__(self, endpoint: str, fault: Fault | None = None, status: int = 503) -> None:
        self._upstream = urlsplit(endpoint).netloc
        self.fault = fault or Fault()
        self.status = status
        self.requests: list[Request] = []
        proxy = self

        class Handler(_ProxyHandler):
            owner = proxy

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def writes(self) -> list[Request]:
        return [request for request in self.requests if request.is_write]

    def __enter__(self) -> StoreProxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    def forward(self, request: Request, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self._upstream, timeout=60)
        try:
            connection.request(request.method, request.path, body=body, headers=request.headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()


class _ProxyHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: ClassVar[StoreProxy]

    def _handle(self) -> None:
        request = Request(self.command, self.path, dict(self.headers.items()))
        body = self._body()
        proxy = self.owner
        proxy.requests.append(request)
        fails = proxy.fault.count()
        if fails and proxy.fault.when is When.BEFORE:
            self._fail()
            return
        status, headers, content = proxy.forward(request, body)
        if fails:
            self._fail()
            return
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = next((value for name, value in headers if name.lower() == "content-length"), str(len(content)))
        self.send_header("Content-Length", length if self.command == "HEAD" else str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", "0")))

    def _fail(self) -> None:
        self.close_connection = True
        if not self.owner.status:
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        text = b"<Error><Code>SlowDown</Code><Message>injected</Message></Error>"
        self.send_response_only(self.owner.status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else text)

    def handle(self) -> None:
        # A client that hung up is what these tests are about, not an error of the proxy's.
        with contextlib.suppress(ConnectionError, TimeoutError):
            super().handle()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        pass

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 - names that the base class looks for


_SSL_REQUEST = 80877103
_CANCEL_REQUEST = 80877102
_GSS_REQUEST = 80877104

# What counts as one operation: a connection's start, a query, a Sync (the end of an extended query), the end of a COPY.
_COUNTED = frozenset(b"QScF")


class DatabaseProxy:
    """A TCP proxy before PostgreSQL that understands where a message begins, and cuts the connection at the Nth.

    A lasting fault lets nobody connect any more either. `url_of` turns a TCP URL of the server into one through here.
    """

    def __init__(self, port: int, fault: Fault | None = None) -> None:
        self._port = port
        self.fault = fault or Fault()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self.cancels = 0

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def url_of(self, url: str) -> str:
        """The same database through this proxy. `url` must be a TCP one (server.tcp_url)."""
        return url.replace(f":{self._port}/", f":{self.port}/")

    def __enter__(self) -> DatabaseProxy:
        self._spawn(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        # A listener that another thread waits on is woken by shutdown, not by close.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            for each in self._sockets:
                _cut(each)
        for thread in list(self._threads):
            thread.join(10)
        with self._lock:
            for each in self._sockets:
                each.close()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.add(client)
            if self.fault.lasting and self.fault.struck:
                _cut(client)
                continue
            try:
                server = socket.create_connection(("127.0.0.1", self._port))
            except OSError:
                _cut(client)
                continue
            with self._lock:
                self._sockets.add(server)
            self._spawn(self._back, server, client)
            self._spawn(self._forth, client, server)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                client.sendall(data)
        except OSError:
            pass
        finally:
            _cut(client)
            _cut(server)

    def _forth(self, client: socket.socket, server: socket.socket) -> None:
        try:
            self._start_up(client, server)
            while True:
                head = _exactly(client, 5)
                body = _exactly(client, struct.unpack("!i", head[1:])[0] - 4)
                self._pass_on(head + body, client, server, counts=head[0] in _COUNTED)
        except _UnheardError:
            return  # the server is at work; `_back` ends its connection once it has answered
        except (OSError, EOFError):
            pass
        _cut(client)
        _cut(server)

    def _start_up(self, client: socket.socket, server: socket.socket) -> None:
        while True:
            head = _exactly(client, 8)
            length, code = struct.unpack("!ii", head)
            body = _exactly(client, length - 8)
            if code in (_SSL_REQUEST, _GSS_REQUEST):
                client.sendall(b"N")
                continue
            if code == _CANCEL_REQUEST:
                self.cancels += 1
            self._pass_on(head + body, client, server, counts=code != _CANCEL_REQUEST)
            return

    def _pass_on(self, data: bytes, client: socket.socket, server: socket.socket, *, counts: bool) -> None:
        fails = counts and self.fault.count()
        if fails and self.fault.when is When.BEFORE:
            raise EOFError
        if fails:
            _cut(client)  # the server does what it was told; nobody hears the answer
        server.sendall(data)
        if fails:
            server.shutdown(socket.SHUT_WR)
            raise _UnheardError


class _UnheardError(Exception):
    """A message was passed on, and its answer will reach nobody."""


def _exactly(source: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = source.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return data


def _cut(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)


def kill(process: subprocess.Popen[Any]) -> None:
    """kill -9 a command that was started in a session of its own (tests.commands.Outlast.start), children and all."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def ended(process: subprocess.Popen[str], timeout_s: float = 300) -> tuple[int, str, str]:
    """Wait for it; its exit code (negative: the signal), stdout and stderr."""
    stdout, stderr = process.communicate(timeout=timeout_s)
    return process.returncode, stdout, stderr
