"""A row: one line of PostgreSQL's COPY text format, as bytes, without its newline where it stands alone.

The format escapes newlines, tabs and backslashes, so a row is one line, always, and a column is what stands between
two tabs. NULL is `\\N`. Nothing here knows types beyond one question: whether a key column sorts by number or by bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum

NULL = b"\\N"

_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_UNESCAPED = {
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}
_NEEDS_ESCAPE = re.compile(rb"[\b\f\n\r\t\v\\]")
_ESCAPED = {value: b"\\" + key for key, value in _UNESCAPED.items()} | {b"\\": b"\\\\"}


class KeyKind(StrEnum):
    """How a key column is ordered, on the server and here alike: by number, or by its text's bytes (COLLATE "C")."""

    INTEGER = "integer"
    TEXT = "text"


KeyPart = tuple[int, int | bytes]
"""One ordered key part: (0, value), or (1, b"") for NULL, which sorts last as in PostgreSQL."""

OrderKey = tuple[KeyPart, ...]


def unescape(field: bytes) -> bytes:
    """The value's text that a COPY field stands for. `field` is not NULL."""
    if b"\\" not in field:
        return field
    return _ESCAPE.sub(lambda match: _UNESCAPED.get(match[1], match[1]), field)


def escape(text: bytes) -> bytes:
    """The COPY field for a value's text; the inverse of `unescape`."""
    return _NEEDS_ESCAPE.sub(lambda match: _ESCAPED[match[0]], text)


def fields(row: bytes) -> list[bytes]:
    """The row's COPY fields, still escaped, in column order."""
    return row.rstrip(b"\n").split(b"\t")


def value(field: bytes) -> str | None:
    """The field as text, or None for NULL. Bytes that are not UTF-8 (a SQL_ASCII server) are kept by surrogates."""
    return None if field == NULL else unescape(field).decode("utf-8", "surrogateescape")


def key_of(positions: tuple[int, ...]) -> Callable[[bytes], bytes]:
    """A function that cuts a row's key out of it: the key columns' fields, joined by tabs.

    Without positions (a table that has no key) the whole row is the key.
    """
    if not positions:
        return lambda row: row.rstrip(b"\n")
    if positions == (0,):
        return lambda row: row.rstrip(b"\n").partition(b"\t")[0]
    last = max(positions) + 1

    def cut(row: bytes) -> bytes:
        parts = row.rstrip(b"\n").split(b"\t", last)
        return b"\t".join([parts[position] for position in positions])

    return cut


def order_of(kinds: tuple[KeyKind, ...]) -> Callable[[bytes], OrderKey]:
    """A function from a key (as `key_of` cuts it) to a value that sorts as the sweep's ORDER BY does.

    Without kinds (no key) the key is the whole row, ordered column by column by its text.
    """
    if not kinds:
        return lambda key: tuple([_part(KeyKind.TEXT, field) for field in key.split(b"\t")])

    def order(key: bytes) -> OrderKey:
        return tuple([_part(kind, field) for kind, field in zip(kinds, key.split(b"\t"), strict=True)])

    return order


def _part(kind: KeyKind, field: bytes) -> KeyPart:
    if field == NULL:
        return (1, b"")
    return (0, int(field)) if kind is KeyKind.INTEGER else (0, unescape(field))
