"""A wire that can be cut: a proxy before PostgreSQL's Unix socket that counts what the client asks for.

An operation is one query, one prepared statement or the end of one COPY. The wire is cut at the Nth: before the server
has seen it, or after the server has done it and before the client hears of that, which is how a COMMIT goes lost.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict, make_conninfo

_OPERATIONS = (b"Q", b"P", b"c")


@dataclass
class Wire:
    """Cut at operation `cut_at`; `after` lets the server do it first; `lasting` leaves everything cut from then on."""

    server: str
    path: str
    cut_at: int | None = None
    after: bool = False
    lasting: bool = False
    operations: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, cut_at: int | None, *, after: bool = False, lasting: bool = False) -> None:
        self.cut_at, self.after, self.lasting, self.operations = cut_at, after, lasting, 0

    @property
    def _dead(self) -> bool:
        return self.lasting and self.cut_at is not None and self.operations >= self.cut_at

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            if self._dead:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.server)
            cut = threading.Event()
            threading.Thread(target=self._ask, args=(client, server, cut), daemon=True).start()
            threading.Thread(target=self._answer, args=(client, server, cut), daemon=True).start()

    def _ask(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        """Client to server, message by message."""
        with contextlib.suppress(OSError, EOFError):
            server.sendall(_startup(client))
            while True:
                kind, message = _message(client)
                if kind in _OPERATIONS and self._counts():
                    if not self.after:
                        break
                    # What follows (bind, execute, sync) still has to reach the server, or it would do nothing.
                    cut.set()
                server.sendall(message)
        _close(client, server)

    def _counts(self) -> bool:
        with self._lock:
            self.operations += 1
            return self.cut_at is not None and (
                self.operations == self.cut_at or (self.lasting and self.operations > self.cut_at)
            )

    def _answer(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        """Server to client. Once cut, it reads to the end of the operation and tells nothing of it."""
        with contextlib.suppress(OSError, EOFError):
            while True:
                kind, message = _message(server)
                if not cut.is_set():
                    client.sendall(message)
                elif kind in (b"Z", b"G", b"H"):  # ready again, or COPY has begun: the operation was done
                    break
        _close(client, server)


def _startup(client: socket.socket) -> bytes:
    head = _exactly(client, 4)
    return head + _exactly(client, struct.unpack("!I", head)[0] - 4)


def _message(peer: socket.socket) -> tuple[bytes, bytes]:
    head = _exactly(peer, 5)
    return head[:1], head + _exactly(peer, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = peer.recv(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
        one.close()


@contextmanager
def wired(url: str, folder: Path) -> Iterator[tuple[str, Wire]]:
    """A URL of the same database through a wire in `folder`, and the wire."""
    parameters = conninfo_to_dict(url)
    port = parameters.get("port", "5432")
    path = folder / f".s.PGSQL.{port}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    wire = Wire(f"{parameters['host']}/.s.PGSQL.{port}", str(path))
    thread = threading.Thread(target=wire.serve, args=(listener,), daemon=True)
    thread.start()
    try:
        # Encryption is asked for before the startup message, in a message of another form: not needed on a socket.
        yield make_conninfo(url, host=str(folder), sslmode="disable", gssencmode="disable"), wire
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
