"""COPY's messages are taken apart exactly, however they are cut and whatever stands between them."""

from __future__ import annotations

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from outlast.sources.postgres.copy_out import take

LINES = st.binary(max_size=40).map(lambda data: data.translate(None, b"\0\n"))
LARGE = st.integers(65_500, 66_000).map(lambda size: b"x" * size)
ROWS = st.one_of(LINES, LARGE, st.sampled_from([b"d", b"dd", b"d\t", b"", b"x" * 5, b"d" * 2_565]))
NOTICE = (b"N", b"SNOTICE\0Mthat's it\nd\0\0")
MESSAGES = st.lists(st.one_of(ROWS, st.just(NOTICE)), max_size=30)


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">I", len(body) + 4) + body


def encoded(one: bytes | tuple[bytes, bytes]) -> bytes:
    return message(*one) if isinstance(one, tuple) else message(b"d", one + b"\n")


@given(MESSAGES, st.lists(st.integers(1, 70_000), max_size=8))
@example([b"x" * 65_532, b"y"], [])
@example([b"x" * 5, b"d", b"y"], [])  # a length of ten is a newline, and what follows looks like another message
def test_every_row_is_given_once_and_in_order(messages: list[bytes | tuple[bytes, bytes]], cuts: list[int]) -> None:
    """Rows of any length, empty ones, and notices between them, read in pieces of any size."""
    data = b"".join(map(encoded, messages))
    rows: list[bytes] = []
    others: list[tuple[bytes, bytes]] = []
    held = b""
    for size in [*cuts, len(data) + 1]:
        piece, data = data[:size], data[size:]
        taken = take(held + piece)
        rows += [row[2:] for row in taken.rows]
        others += taken.others
        held = taken.rest
    assert held == b""
    assert rows == [one for one in messages if isinstance(one, bytes)]
    assert others == [one for one in messages if isinstance(one, tuple)]
