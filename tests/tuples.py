"""pgoutput's tuples, made by hand: for tests of what reads them, without a server."""

from __future__ import annotations

from collections.abc import Sequence

from outlast.core.change import UNCHANGED, Unchanged

Value = bytes | str | int | Unchanged | None
SAME = UNCHANGED
"""A value that the server would leave out, since it is as it was."""


def tuple_of(values: Sequence[Value]) -> bytes:
    """A new tuple."""
    parts = [len(values).to_bytes(2, "big")]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif isinstance(value, Unchanged):
            parts.append(b"u")
        else:
            text = value if isinstance(value, bytes) else str(value).encode()
            parts.append(b"t" + len(text).to_bytes(4, "big") + text)
    return b"".join(parts)


def key_tuple(values: Sequence[Value]) -> bytes:
    """An old tuple that holds the identity only; other columns are NULL in it."""
    return b"K" + tuple_of(values)


def old_tuple(values: Sequence[Value]) -> bytes:
    """An old tuple that holds the whole row (REPLICA IDENTITY FULL)."""
    return b"O" + tuple_of(values)
