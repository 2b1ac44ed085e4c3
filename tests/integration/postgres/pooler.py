"""A connection pooler in a hundred lines: enough of PgBouncer's two modes to show what Outlast makes of them.

Clients over TCP, sessions of the server through its socket. Under transaction pooling a client has a session only from
its first message to the end of its transaction, and the session that was given back last is given out first.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.servers import Server

Message = tuple[bytes, bytes]


def _exactly(link: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = link.recv(size - len(data))
        if not part:
            raise ConnectionError
        data += part
    return data


def _receive(link: socket.socket) -> Message:
    kind = _exactly(link, 1)
    return kind, _exactly(link, struct.unpack(">I", _exactly(link, 4))[0] - 4)


def _send(link: socket.socket, kind: bytes, body: bytes) -> None:
    link.sendall(kind + struct.pack(">I", len(body) + 4) + body)


@dataclass(frozen=True)
class Pooler:
    server: Server
    database: str
    by_transaction: bool
    sessions: queue.LifoQueue[socket.socket]
    greeting: list[Message]
    links: list[socket.socket]
    threads: list[threading.Thread]

    def open_session(self) -> None:
        link = socket.socket(socket.AF_UNIX)
        link.connect(str(self.server.folder / f".s.PGSQL.{self.server.port}"))
        body = struct.pack(">I", 3 << 16) + f"user\0postgres\0database\0{self.database}\0\0".encode()
        link.sendall(struct.pack(">I", len(body) + 4) + body)
        self.greeting.clear()
        while (message := _receive(link))[0] != b"Z":
            self.greeting.append(message)
        self.sessions.put(link)
        self.links.append(link)

    def serve(self, client: socket.socket, number: int) -> None:
        session: socket.socket | None = None
        with suppress(OSError), client:
            self._greet(client, number)
            while (message := _receive(client))[0] != b"X":
                if session is None:
                    session = self.sessions.get()
                _send(session, *message)
                if message[0] in b"QS" and self._answer(session, client) and self.by_transaction:
                    self.sessions.put(session)
                    session = None
        if session is not None and session in self.links:
            for tidying in (b"ROLLBACK\0", b"DISCARD ALL\0"):
                _send(session, b"Q", tidying)
                while _receive(session)[0] != b"Z":
                    pass
            self.sessions.put(session)

    def _greet(self, client: socket.socket, number: int) -> None:
        while True:
            request = _exactly(client, struct.unpack(">I", _exactly(client, 4))[0] - 4)
            if struct.unpack(">I", request[:4])[0] >> 16 == 3:
                break
            client.sendall(b"N")  # no TLS, no GSSAPI
        for kind, body in self.greeting:
            _send(client, kind, struct.pack(">II", 900000 + number, number) if kind == b"K" else body)
        _send(client, b"Z", b"I")

    @staticmethod
    def _answer(session: socket.socket, client: socket.socket) -> bool:
        """Pass the server's answer on; whether the transaction ended with it."""
        while True:
            kind, body = _receive(session)
            _send(client, kind, body)
            if kind == b"Z":
                return body == b"I"


@contextmanager
def pooling(server: Server, database: str, *, by_transaction: bool, sessions: int) -> Iterator[str]:
    """A pooler before one database for as long as the block lasts; gives the URL of the database through it."""
    pooler = Pooler(server, database, by_transaction, queue.LifoQueue(), [], [], [])
    for _ in range(sessions):
        pooler.open_session()
    listener = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        number = 0
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                number += 1
                serving = threading.Thread(target=pooler.serve, args=(client, number), daemon=True)
                pooler.threads.append(serving)
                serving.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield f"postgresql://postgres@127.0.0.1:{listener.getsockname()[1]}/{database}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()
        ends = [socket.socket() for _ in pooler.threads]  # for clients that still wait for a session
        for end in ends:
            pooler.sessions.put(end)
        for thread in pooler.threads:
            thread.join()
        for link in [*pooler.links, *ends]:
            link.close()
