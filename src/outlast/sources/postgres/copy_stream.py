"""The bytes of a replication session: how START_REPLICATION's endless COPY is begun, read and written to.

Two ways, chosen by `copy_stream`. Through libpq every message costs a call, a copy and a Python object: more than all
the rest of our work on a change. So where nothing encrypts the connection its bytes are read from the socket as they
come, a quarter of a megabyte at a time, and taken apart by pgoutput.py's one loop. libpq has connected, authenticated
and asked by then, and is not used again; it holds no bytes back, because START_REPLICATION is sent past it as well.
Under TLS or GSS libpq reads, and its messages are framed again for the same loop.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import psycopg
from psycopg import pq

from outlast.sources.postgres.pgoutput import Decoder
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.walsender import ask, error_of

READ_BYTES = 256 * 1024
BEGIN_TIMEOUT_S = 120.0
SEND_TIMEOUT_S = 60.0

_FRAME = struct.Struct(">cI")
_COPY_DATA, _COPY_BOTH, _ERROR, _NOTICE, _COPY_DONE = b"d", b"W", b"E", b"N", b"c"
_SILENT = (b"S", b"A", b"C", b"Z")  # a setting, a notification, the end of a command, ready
_MESSAGE_BYTES_MAX = 0x4000_0000  # what the server itself allows


@dataclass(frozen=True, slots=True)
class Said:
    """What the server, or the operating system, said: an error with its SQLSTATE, or a cut without one."""

    sqlstate: str | None
    message: str

    @classmethod
    def of(cls, error: psycopg.Error) -> Said:
        first_line = str(error).strip().partition("\n")[0]
        return cls(error.sqlstate, error.diag.message_primary or first_line or "the connection is gone")


class CopyStream(Protocol):
    """One COPY in both directions, begun. Never blocks but for `send` (bounded)."""

    socket_number: int

    def drain(self, decoder: Decoder, size_bytes_max: int) -> int:
        """Decode what has come, at least up to `size_bytes_max` if there is so much. Returns the bytes decoded.

        Sets `ended` when there will be no more, and `warning` when the server warned of a state that it goes on in.
        """

    ended: Said | None
    warning: Said | None

    def send(self, payload: bytes) -> None:
        """Raises OSError or psycopg.Error where it cannot."""

    def close(self) -> None: ...


def copy_stream(connection: Session, command: str) -> CopyStream | Said:
    """Begin; or what the server said to that."""
    kind = PlainCopy if is_plain(connection) else LibpqCopy
    return kind.begin(connection, command)


def is_plain(connection: Session) -> bool:
    """Whether what stands in the socket is what the server wrote."""
    pgconn = connection.pgconn
    if pgconn.ssl_in_use or pgconn.host.startswith((b"/", b"@")):  # through a socket of this machine GSS is not spoken
        return not pgconn.ssl_in_use
    plain = _PLAIN.get(connection)
    if plain is None:
        plain = _PLAIN[connection] = _is_without_gss(connection)
    return plain


_PLAIN: WeakKeyDictionary[Session, bool] = WeakKeyDictionary()
"""What was asked once a session. It cannot change in it."""


def _is_without_gss(connection: Session) -> bool:
    rows = ask(connection, "SELECT encrypted FROM pg_catalog.pg_stat_gssapi WHERE pid = pg_catalog.pg_backend_pid()")
    return rows == [("f",)]


class LibpqCopy:
    """Through libpq, which knows TLS."""

    def __init__(self, connection: Session) -> None:
        self._pgconn = connection.pgconn
        self._pgconn.nonblocking = 1
        self.socket_number = self._pgconn.socket
        self.ended: Said | None = None
        self.warning: Said | None = None
        connection.add_notice_handler(self._on_notice)

    @classmethod
    def begin(cls, connection: Session, command: str) -> LibpqCopy | Said:
        result = connection.pgconn.exec_(command.encode())
        if result.status != pq.ExecStatus.COPY_BOTH:
            return Said.of(error_of(result))
        return cls(connection)

    def drain(self, decoder: Decoder, size_bytes_max: int) -> int:
        pgconn = self._pgconn
        done, fresh = 0, False
        while done < size_bytes_max and self.ended is None:
            frames: list[bytes] = []
            size = 0
            try:
                while size < READ_BYTES:
                    length, data = pgconn.get_copy_data(1)
                    if length <= 0:
                        break
                    frames += (_FRAME.pack(_COPY_DATA, length + 4), bytes(data))
                    size += length
                if length < 0:
                    self.ended = self._why()
                elif length == 0 and not frames:
                    if fresh:
                        break
                    pgconn.consume_input()
                    fresh = True
            except psycopg.Error as error:
                self.ended = Said.of(error)
            if frames:
                decoder.decode(b"".join(frames), 0)
                done += size
                fresh = False
        return done

    def _why(self) -> Said:
        while (result := self._pgconn.get_result()) is not None:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                return Said.of(error_of(result))
        return Said("57P01", "the server is shutting down")

    def send(self, payload: bytes) -> None:
        self._pgconn.put_copy_data(payload)
        self._pgconn.flush()

    def close(self) -> None:
        self._pgconn.put_copy_end()
        self._pgconn.flush()

    def _on_notice(self, diagnostic: psycopg.errors.Diagnostic) -> None:
        if diagnostic.sqlstate == "55000":
            self.warning = Said("55000", diagnostic.message_primary or "")


class PlainCopy:
    """Past libpq, straight from the socket."""

    def __init__(self, connection: Session) -> None:
        self._socket = socket.socket(fileno=os.dup(connection.pgconn.socket))
        self._socket.setblocking(False)
        self.socket_number = self._socket.fileno()
        self.ended: Said | None = None
        self.warning: Said | None = None
        self._chunks: list[bytes] = []
        self._have = 0
        self._need = 1
        self._begun = False

    @classmethod
    def begin(cls, connection: Session, command: str) -> PlainCopy | Said:
        stream = cls(connection)
        query = command.encode() + b"\0"
        stream._send(_FRAME.pack(b"Q", len(query) + 4) + query)
        # Not a byte more than the answer is read here: what follows is the decoder's.
        deadline = time.monotonic() + BEGIN_TIMEOUT_S
        while not stream._begun and stream.ended is None:
            stream._answer(deadline)
        if stream.ended is not None:
            stream._socket.close()
            return stream.ended
        return stream

    def _answer(self, deadline: float) -> None:
        header = self._exactly(5, deadline)
        if self.ended is None:
            kind, length = _FRAME.unpack(header)
            body = self._exactly(length - 4, deadline)
            if self.ended is None:
                self._control(kind, body)

    def _exactly(self, size: int, deadline: float) -> bytes:
        data = b""
        poll = select.poll()
        poll.register(self.socket_number, select.POLLIN)
        while len(data) < size and self.ended is None:
            try:
                got = self._socket.recv(size - len(data))
                data += got
                if not got:
                    self.ended = Said(None, "server closed the connection unexpectedly")
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    self.ended = Said(None, "the server did not answer in time")
                poll.poll(max(0.0, left) * 1000)
            except OSError as error:
                self.ended = Said(None, error.strerror or str(error))
        return data

    def drain(self, decoder: Decoder, size_bytes_max: int) -> int:
        done = 0
        while done < size_bytes_max and self.ended is None:
            try:
                data = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                self.ended = Said(None, error.strerror or str(error))
                break
            if not data:
                self.ended = Said(None, "server closed the connection unexpectedly")
                break
            self._chunks.append(data)
            self._have += len(data)
            if self._have >= self._need:
                done += self._decode(decoder)
        return done

    def _decode(self, decoder: Decoder) -> int:
        """What is whole; the rest waits. A message of many reads is put together once, when all of it is there."""
        buffer = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        at = 0
        while True:
            at = decoder.decode(buffer, at)
            left = len(buffer) - at
            self._need = 5
            if left < 5:
                break
            kind, length = _FRAME.unpack_from(buffer, at)
            self._need = length + 1
            if not 4 <= length <= _MESSAGE_BYTES_MAX:
                self.ended = Said("08P01", "its messages are not those of a PostgreSQL server")
                break
            if left < self._need:
                break
            self._control(kind, buffer[at + 5 : at + 1 + length])
            at += length + 1
        self._chunks = [buffer[at:]] if left else []
        self._have = left
        return at

    def _control(self, kind: bytes, body: bytes) -> None:
        """A message that carries no data."""
        if kind == _COPY_BOTH:
            self._begun = True
        elif kind == _ERROR:
            self.ended = _said(body)
        elif kind == _COPY_DONE:
            self.ended = self.ended or Said("57P01", "the server is shutting down")
        elif kind == _NOTICE:
            said = _said(body)
            if said.sqlstate == "55000":
                self.warning = said
        elif kind not in _SILENT:
            self.ended = Said("08P01", f"the server sent a message of the kind {kind!r}")

    def send(self, payload: bytes) -> None:
        self._send(_FRAME.pack(_COPY_DATA, len(payload) + 4) + payload)

    def close(self) -> None:
        try:
            self._send(_FRAME.pack(_COPY_DONE, 4))
        finally:
            self._socket.close()

    def _send(self, message: bytes) -> None:
        view = memoryview(message)
        deadline = time.monotonic() + SEND_TIMEOUT_S
        poll = select.poll()
        poll.register(self.socket_number, select.POLLOUT)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("the server does not read what it is sent") from None
                poll.poll(left * 1000)


def _said(body: bytes) -> Said:
    fields = {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\0") if part}
    return Said(fields.get(b"C"), fields.get(b"M", ""))
