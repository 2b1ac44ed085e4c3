"""pgoutput, protocol version 2: what the server's messages say, as events.

Pure: bytes in, events out. Where bytes come from is stream.py's business, what becomes of a transaction is
transactions.py's. Made for speed: a row's change becomes one tuple of core/change.py with the row's bytes as they came,
and nothing else; no column is looked at. Rows that follow each other in one (sub)transaction share one event. A message
that is not known is an error: to pass over it would be to lose a change in silence.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import NamedTuple

from outlast.core.change import OP_TRUNCATE, Change, Relation
from outlast.core.errors import SourceError
from outlast.core.table import TableName

PROTOCOL_VERSION = 2
MESSAGES_OF_OURS = "outlast."
"""Logical messages with other prefixes are other programs' and are dropped here."""


class Begin(NamedTuple):
    """A transaction that was not streamed begins: all of it follows, up to its Commit."""

    xid: int
    commit: int
    time_us: int


class Rows(NamedTuple):
    """Changes in a row of one (sub)transaction. `subxid`, 32 bits wide, is 0 outside of streamed transactions."""

    subxid: int
    changes: list[Change]
    size_bytes: int


class RelationSeen(NamedTuple):
    """What the fields of this relation's tuples mean from here on, in this transaction and those after it."""

    relation: Relation


class Message(NamedTuple):
    """A pg_logical_emit_message of ours. One that is not transactional stands between transactions."""

    subxid: int
    lsn: int
    transactional: bool
    prefix: str
    content: bytes


class Commit(NamedTuple):
    commit: int
    end: int
    time_us: int


class StreamStart(NamedTuple):
    """A part of a transaction that has not committed follows, up to StreamStop. `first` where it is the first part."""

    xid: int
    first: bool


class StreamStop(NamedTuple):
    pass


class StreamCommit(NamedTuple):
    xid: int
    commit: int
    end: int
    time_us: int


class StreamAbort(NamedTuple):
    """A streamed transaction was rolled back (`whole`), or one of its subtransactions."""

    xid: int
    subxid: int
    whole: bool


class Keepalive(NamedTuple):
    """Every transaction whose commit record stands before `end` was sent before this."""

    end: int
    time_us: int
    wants_reply: bool


Event = (
    Begin | Rows | RelationSeen | Message | Commit | StreamStart | StreamStop | StreamCommit | StreamAbort | Keepalive
)

_HEADER_BYTES = 25
"""Before pgoutput's own bytes: `w`, two LSNs and the server's clock."""

_FRAME = Struct(">BI").unpack_from  # of a message of the wire: kind, length without the kind
_FRAME_BYTES = 5
_COPY_DATA = ord("d")
_ROW = Struct(">BI25xBIB").unpack_from  # frame, length; kind, relation, letter of the tuple
_ROW_IN_STREAM = Struct(">BI25xBIIB").unpack_from  # the same with the (sub)transaction before the relation
_ROW_BYTES_MIN = 4 + _HEADER_BYTES + 6
"""The length of the shortest message that _ROW may be asked of; inside a stream four more."""
_BEGIN = Struct(">QqI").unpack_from
_COMMIT = Struct(">BQQq").unpack_from
_STREAM_COMMIT = Struct(">IBQQq").unpack_from
_KEEPALIVE = Struct(">QqB").unpack_from
_U32 = Struct(">I").unpack_from
_TWO_U32 = Struct(">II").unpack_from
_RELATION_COUNTS = Struct(">cH").unpack_from
_COLUMN = Struct(">Ii").unpack_from
_TRUNCATE = Struct(">IB").unpack_from
_MESSAGE = Struct(">BQ").unpack_from

_INSERT, _UPDATE, _DELETE = b"IUD"
_ROW_KINDS = frozenset(b"IUD")
_NEW, _NULL, _TEXT, _UNCHANGED = b"Nntu"
_XLOG_DATA, _KEEPALIVE_KIND = b"wk"
_MASK, _HALF = 0xFFFFFFFF, 0x80000000
_KEY_FLAG = 1
_TRANSACTIONAL_FLAG = 1

TypeName = Callable[[int, int, str | None], str]
"""(type's oid, modifier, the name that a Type message gave it) -> format_type()'s text."""


class Decoder:
    """One session's messages, in order. Relations are told anew by the server in every session.

    Top-level transaction numbers are widened to 64 bits: to the one nearest to the newest known, which begins as
    `next_xid` (pg_snapshot_xmax at connecting). The server itself keeps what is alive within 2^31 of each other.
    """

    def __init__(self, type_name: TypeName, next_xid: int) -> None:
        self.events: list[Event] = []
        self._type_name = type_name
        self._newest_xid = next_xid
        self._type_names: dict[int, str] = {}
        self._relations: dict[int, Relation] = {}
        self._in_stream = False
        self._run_xid = 0

    def take(self) -> list[Event]:
        """What was decoded since the last time."""
        events, self.events = self.events, []
        return events

    def decode(self, buffer: bytes, at: int) -> int:
        """Decode the CopyData messages in `buffer` from `at` on, each as the wire frames it: `d`, length, content.

        Returns where it stopped: at the end, at a message that is not all there, or at one that is no CopyData.
        """
        size = len(buffer)
        row_kinds = _ROW_KINDS
        in_stream, run_xid = self._in_stream, self._run_xid
        row_bytes_min = _ROW_BYTES_MIN + 4 * in_stream
        rows: list[Change] = []
        append = rows.append
        rows_at, xid = at, 0
        while size - at >= _FRAME_BYTES:
            if size - at > row_bytes_min:
                if in_stream:
                    frame, length, kind, xid, oid, letter = _ROW_IN_STREAM(buffer, at)
                    tuple_at = at + 40
                else:
                    frame, length, kind, oid, letter = _ROW(buffer, at)
                    tuple_at = at + 36
                if kind in row_kinds and length >= row_bytes_min and frame == _COPY_DATA:
                    end = at + 1 + length
                    if end > size:
                        break
                    if xid != run_xid:
                        if rows:
                            self.events.append(Rows(run_xid, rows, at - rows_at))
                            rows = []
                            append = rows.append
                        rows_at = at
                        run_xid = xid
                    if letter == _NEW:
                        append((kind, oid, None, buffer[tuple_at:end]))
                    elif kind == _DELETE:
                        append((kind, oid, buffer[tuple_at - 1 : end], None))
                    else:
                        new = _end_of_old(buffer, tuple_at - 1, end)
                        append((kind, oid, buffer[tuple_at - 1 : new], buffer[new + 1 : end]))
                    at = end
                    continue
            frame, length = _FRAME(buffer, at)
            end = at + 1 + length
            if end > size or frame != _COPY_DATA:
                break
            if rows:
                self.events.append(Rows(run_xid, rows, at - rows_at))
                rows = []
                append = rows.append
            self._other(buffer[at + _FRAME_BYTES : end])
            in_stream = self._in_stream
            row_bytes_min = _ROW_BYTES_MIN + 4 * in_stream
            run_xid = xid = 0
            rows_at = at = end
        if rows:
            self.events.append(Rows(run_xid, rows, at - rows_at))
        self._run_xid = run_xid
        return at

    def _other(self, message: bytes) -> None:
        """A message that is not a row's change."""
        if message[0] == _KEEPALIVE_KIND:
            end, time_us, reply = _KEEPALIVE(message, 1)
            self.events.append(Keepalive(end, time_us, bool(reply)))
            return
        if message[0] != _XLOG_DATA or len(message) <= _HEADER_BYTES:
            raise _unknown(f"a message of the kind {message[:1]!r}")
        handler = _HANDLERS.get(message[_HEADER_BYTES])
        if handler is None:
            raise _unknown(f"a message of the kind {message[_HEADER_BYTES : _HEADER_BYTES + 1]!r}")
        handler(self, message, _HEADER_BYTES + 1)

    def _widened(self, xid: int) -> int:
        newest = self._newest_xid
        wide = newest + ((xid - newest + _HALF) & _MASK) - _HALF
        if wide > newest:
            self._newest_xid = wide
        return wide

    def _begin(self, message: bytes, at: int) -> None:
        commit, time_us, xid = _BEGIN(message, at)
        self.events.append(Begin(self._widened(xid), commit, time_us))

    def _commit(self, message: bytes, at: int) -> None:
        _, commit, end, time_us = _COMMIT(message, at)
        self.events.append(Commit(commit, end, time_us))

    def _stream_start(self, message: bytes, at: int) -> None:
        (xid,) = _U32(message, at)
        self._in_stream = True
        self.events.append(StreamStart(self._widened(xid), message[at + 4] == 1))

    def _stream_stop(self, message: bytes, at: int) -> None:
        self._in_stream = False
        self.events.append(StreamStop())

    def _stream_commit(self, message: bytes, at: int) -> None:
        xid, _, commit, end, time_us = _STREAM_COMMIT(message, at)
        self.events.append(StreamCommit(self._widened(xid), commit, end, time_us))

    def _stream_abort(self, message: bytes, at: int) -> None:
        xid, subxid = _TWO_U32(message, at)
        self.events.append(StreamAbort(self._widened(xid), subxid, xid == subxid))

    def _ignored(self, message: bytes, at: int) -> None:
        """Origin: a change counts whoever made it first."""

    def _xid(self, message: bytes, at: int) -> tuple[int, int]:
        """The (sub)transaction that every message inside a stream names, and where the message goes on."""
        return (_U32(message, at)[0], at + 4) if self._in_stream else (0, at)

    def _type(self, message: bytes, at: int) -> None:
        _, at = self._xid(message, at)
        (oid,) = _U32(message, at)
        schema, at = _string(message, at + 4)
        name, _ = _string(message, at)
        self._type_names[oid] = f"{schema}.{name}" if schema else name

    def _relation(self, message: bytes, at: int) -> None:
        _, at = self._xid(message, at)
        (oid,) = _U32(message, at)
        schema, at = _string(message, at + 4)
        name, at = _string(message, at)
        identity, count = _RELATION_COUNTS(message, at)
        at += 3
        columns, keys = [], []
        for number in range(count):
            if message[at] & _KEY_FLAG:
                keys.append(number)
            column, at = _string(message, at + 1)
            type_, modifier = _COLUMN(message, at)
            at += 8
            columns.append((column, self._type_name(type_, modifier, self._type_names.get(type_))))
        # The server sends an empty schema for pg_catalog.
        found = Relation(
            oid, TableName(schema or "pg_catalog", name), tuple(columns), identity.decode("ascii"), tuple(keys)
        )
        known = self._relations.get(oid)
        if known == found:
            found = known  # the same object: what a reader derived from it still holds
        self._relations[oid] = found
        self.events.append(RelationSeen(found))

    def _truncate(self, message: bytes, at: int) -> None:
        # CASCADE and RESTART IDENTITY are not kept: the server lists every published table that was emptied, and
        # sequences are read by themselves.
        xid, at = self._xid(message, at)
        count, _ = _TRUNCATE(message, at)
        changes: list[Change] = [(OP_TRUNCATE, _U32(message, at + 5 + 4 * n)[0], None, None) for n in range(count)]
        self.events.append(Rows(xid, changes, len(message)))

    def _message(self, message: bytes, at: int) -> None:
        xid, at = self._xid(message, at)
        flags, lsn = _MESSAGE(message, at)
        prefix, at = _string(message, at + 9)
        if prefix.startswith(MESSAGES_OF_OURS):
            transactional = bool(flags & _TRANSACTIONAL_FLAG)
            self.events.append(Message(xid, lsn, transactional, prefix, message[at + 4 :]))


_HANDLERS: dict[int, Callable[[Decoder, bytes, int], None]] = {
    ord("B"): Decoder._begin,
    ord("C"): Decoder._commit,
    ord("S"): Decoder._stream_start,
    ord("E"): Decoder._stream_stop,
    ord("c"): Decoder._stream_commit,
    ord("A"): Decoder._stream_abort,
    ord("O"): Decoder._ignored,
    ord("Y"): Decoder._type,
    ord("R"): Decoder._relation,
    ord("T"): Decoder._truncate,
    ord("M"): Decoder._message,
}


def _end_of_old(buffer: bytes, at: int, end: int) -> int:
    """Where the `N` stands behind an old tuple whose letter stands at `at`, in a message that ends at `end`.

    Both tuples have the same number of columns, so the place is one where `N` and that number stand. Where there is one
    such place only, which is nearly always, no column has to be walked over.
    """
    marker = b"N" + buffer[at + 1 : at + 3]
    found = buffer.find(marker, at + 3, end)
    if found >= 0 and buffer.find(marker, found + 1, end) < 0:
        return found
    return _walk(buffer, at + 1, end)


def _walk(buffer: bytes, at: int, end: int) -> int:
    """The end of the tuple that begins at `at`, column by column."""
    count = int.from_bytes(buffer[at : at + 2], "big")
    at += 2
    for _ in range(count):
        kind = buffer[at]
        if kind == _TEXT and at + 5 < end:
            at += 5 + _U32(buffer, at + 1)[0]
        elif kind in (_NULL, _UNCHANGED):
            at += 1
        else:
            raise _unknown(f"a field of the kind {bytes([kind])!r}")
        if at >= end:
            raise _unknown("a row that does not end where it should")
    if buffer[at] != _NEW:
        raise _unknown("an old row without a new one")
    return at


def _string(message: bytes, at: int) -> tuple[str, int]:
    end = message.index(b"\0", at)
    return message[at:end].decode("utf-8", "surrogateescape"), end + 1


def _unknown(what: str) -> SourceError:
    return SourceError(
        f"cannot follow the change stream: the server sent {what}, which this release of Outlast does not know",
        hint="Nothing was confirmed beyond what was understood. Look for a newer release of Outlast.",
        code="stream-protocol",
    )
