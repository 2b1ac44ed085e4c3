"""COPY … TO STDOUT: how it is begun, and its rows taken off the connection many at a time.

Through libpq a row costs a call, a copy and a Python object, as much as all that is done with it afterwards. So where
nothing encrypts the connection its bytes are read from the socket past libpq, and a quarter of a megabyte of messages
is taken apart by one split (`take`); what that cannot tell apart is walked message by message. libpq is not told of the
query at all: it is as idle before as after. Under TLS or GSS libpq reads. What the rows mean is left to sweep.py.
"""

from __future__ import annotations

import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from operator import itemgetter

import psycopg
from psycopg import pq

from outlast.core.errors import BugError
from outlast.sources.postgres.copy_stream import is_plain
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session

READ_BYTES = 256 * 1024
_ROWS_MAX = 2000
_ROWS_BYTES_MAX = 512 * 1024

_FRAME = struct.Struct(">cI")
_QUERY, _ROW, _ERROR, _READY = b"Q", b"d", b"E", b"Z"
_SILENT = (b"H", b"N", b"S", b"A", b"c", b"C")  # begun, a notice, a setting, a notification, no more rows, done
_LENGTH = itemgetter(slice(0, 2))
_BETWEEN_ROWS = b"\nd\0\0"
"""A row's end and the next one's head, but for half of its length. No text of COPY's holds a newline or a zero
byte, so that it stands nowhere else; it is missing where the next row is of 64 KiB and more."""


@dataclass(frozen=True, slots=True)
class Lines:
    """Rows as they came, none ending in its newline, each with `head` bytes in front that are not the row's."""

    rows: list[bytes]
    head: int


@dataclass(slots=True)
class Taken:
    """What a buffer held: rows with two bytes of their length in front, other messages, and what is not whole yet."""

    rows: list[bytes] = field(default_factory=list)
    others: list[tuple[bytes, bytes]] = field(default_factory=list)
    rest: bytes = b""


def copy_out(connection: Session, statement: bytes, doing: str) -> Iterator[Lines]:
    """The rows that a COPY statement sends, in lists of a bounded size.

    Abandoning the iterator cancels the COPY. Raises an OutlastError that says what could not be done: `doing`.
    """
    status = connection.pgconn.transaction_status
    if status not in (pq.TransactionStatus.INTRANS, pq.TransactionStatus.IDLE):
        raise BugError(f"cannot {doing}: the connection is busy or its transaction has failed")
    try:
        yield from (_plain if is_plain(connection) else _by_libpq)(connection, statement)
    except psycopg.Error as error:
        raise explain(error, doing) from error


def take(buffer: bytes) -> Taken:
    """Take the whole messages off a buffer that begins with one."""
    taken = Taken()
    at = 0
    last = buffer.rfind(_BETWEEN_ROWS)
    if last > 0 and buffer.startswith(_BETWEEN_ROWS[1:]):
        rows = buffer[3:last].split(_BETWEEN_ROWS)
        lengths = struct.unpack(f">{len(rows)}H", b"".join(map(_LENGTH, rows)))
        # The lengths that were told are those that were found: there is nothing but rows, and none of 64 KiB.
        if sum(lengths) + len(rows) == last + 1:
            taken.rows = rows
            at = last + 1
    while len(buffer) - at >= _FRAME.size:
        kind, length = _FRAME.unpack_from(buffer, at)
        end = at + 1 + length
        if end > len(buffer):
            break
        if kind == _ROW:
            taken.rows.append(buffer[at + 3 : end - 1])
        else:
            taken.others.append((kind, buffer[at + _FRAME.size : end]))
        at = end
    taken.rest = buffer[at:]
    return taken


def _plain(connection: Session, statement: bytes) -> Iterator[Lines]:
    with closing(_Wire(connection)) as wire:
        wire.send(_FRAME.pack(_QUERY, len(statement) + 5) + statement + b"\0")
        try:
            while not wire.ended:
                rows = wire.rows()
                if rows:
                    yield Lines(rows, 2)
            if wire.failed is not None:
                raise wire.failed
        finally:
            if not wire.ended:
                connection.pgconn.get_cancel().cancel()
                while not wire.ended:
                    wire.rows()


class _Wire:
    """The socket under an idle libpq, for one simple query. `ended` when libpq can have it back, or it is cut."""

    def __init__(self, connection: Session) -> None:
        # A duplicate shares the descriptor's flags: it does not block, as libpq wants it.
        self._socket = socket.socket(fileno=os.dup(connection.pgconn.socket))
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        self._held: list[bytes] = []
        self._have = 0
        self._need = _FRAME.size
        self.ended = False
        self.failed: psycopg.Error | None = None

    def close(self) -> None:
        self._socket.close()

    def send(self, message: bytes) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLOUT)
        view = memoryview(message)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                poll.poll()
            except OSError as error:
                self.ended = True
                raise psycopg.OperationalError(f"connection lost: {error.strerror}") from error

    def rows(self) -> list[bytes]:
        """Wait for bytes; the rows that they complete, often none."""
        data = self._read()
        if not data:
            self.ended = True
            self.failed = self.failed or psycopg.OperationalError("server closed the connection unexpectedly")
            return []
        self._held.append(data)
        self._have += len(data)
        if self._have < self._need:
            return []
        taken = take(self._held[0] if len(self._held) == 1 else b"".join(self._held))
        for kind, body in taken.others:
            self._hear(kind, body)
        rest = taken.rest
        self._held, self._have = [rest] if rest else [], len(rest)
        self._need = 1 + _FRAME.unpack_from(rest)[1] if len(rest) >= _FRAME.size else _FRAME.size
        return taken.rows

    def _read(self) -> bytes:
        while True:
            try:
                return self._socket.recv(READ_BYTES)
            except BlockingIOError:
                self._poll.poll()  # without a time limit, as in libpq; an interrupt from the keyboard gets through
            except OSError:
                return b""

    def _hear(self, kind: bytes, body: bytes) -> None:
        if kind == _READY:
            self.ended = True
        elif kind == _ERROR:
            self.failed = _error(body)
        elif kind not in _SILENT:
            self.ended = True
            self.failed = psycopg.OperationalError("the server sent what is no part of a COPY")


def _error(body: bytes) -> psycopg.Error:
    """What the server said, as libpq would have told it."""
    said = {part[0]: part[1:] for part in body.split(b"\0") if part}
    state = said.get(pq.DiagnosticField.SQLSTATE, b"").decode("ascii", "replace")
    try:
        kind = psycopg.errors.lookup(state)
    except KeyError:
        kind = psycopg.DatabaseError
    text = said.get(pq.DiagnosticField.MESSAGE_PRIMARY, b"").decode("utf-8", "replace")
    return kind(text, info={one.value: said.get(one.value) for one in pq.DiagnosticField}, encoding="utf-8")


def _by_libpq(connection: Session, statement: bytes) -> Iterator[Lines]:
    pgconn = connection.pgconn
    _start(pgconn, statement)
    get = pgconn.get_copy_data
    rows: list[bytes] = []
    size = before = 0
    complete = False
    try:
        while True:
            length, row = get(1)
            if length > 0:
                rows.append(bytes(row[:-1]))
                size += length
                if size >= _ROWS_BYTES_MAX or len(rows) >= _ROWS_MAX:
                    yield Lines(rows, 0)
                    rows, size = [], 0
            elif length == 0:
                if size == before:  # nothing came since the last time: until then it pays to look without waiting
                    _wait(pgconn)
                before = size
                pgconn.consume_input()
            else:
                break
        if rows:
            yield Lines(rows, 0)
        _finish(pgconn)
        complete = True
    except psycopg.Error:
        complete = True  # nothing is left to cancel
        raise
    finally:
        if not complete and pgconn.status == pq.ConnStatus.OK:
            pgconn.get_cancel().cancel()
            while pgconn.get_copy_data(0)[0] > 0:
                pass
            while pgconn.get_result():
                pass


def _start(pgconn: pq.abc.PGconn, statement: bytes) -> None:
    pgconn.send_query(statement)
    result = _result(pgconn)
    if result is None or result.status != pq.ExecStatus.COPY_OUT:
        failed = psycopg.errors.error_from_result(result) if result else psycopg.OperationalError("no answer")
        while _result(pgconn):
            pass
        raise failed


def _result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    while pgconn.is_busy():
        _wait(pgconn)
        pgconn.consume_input()
    return pgconn.get_result()


def _wait(pgconn: pq.abc.PGconn) -> None:
    # Waiting here, and not inside libpq, is what lets an interrupt from the keyboard through.
    select.select([pgconn.socket], [], [])


def _finish(pgconn: pq.abc.PGconn) -> None:
    failed: psycopg.Error | None = None
    while (result := _result(pgconn)) is not None:
        if result.status == pq.ExecStatus.FATAL_ERROR:
            failed = psycopg.errors.error_from_result(result)
    if failed is not None:
        raise failed
