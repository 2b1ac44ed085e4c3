"""pgoutput's messages taken apart: the corners that a real server seldom shows."""

from __future__ import annotations

from struct import pack

import pytest

from outlast.core.change import Change
from outlast.core.errors import SourceError
from outlast.sources.postgres.pgoutput import Begin, Commit, Decoder, Event, Keepalive, Rows, StreamStart

HEADER = b"w" + bytes(24)


def _tuple(*values: bytes | None) -> bytes:
    parts = [b"n" if value is None else b"t" + pack(">I", len(value)) + value for value in values]
    return pack(">H", len(values)) + b"".join(parts)


def _decoded(*messages: bytes, next_xid: int = 1000, in_pieces_of: int | None = None) -> list[Event]:
    decoder = Decoder(lambda oid, modifier, told: "text", next_xid)
    stream = b"".join(b"d" + pack(">I", len(message) + 4) + message for message in messages)
    size = in_pieces_of or len(stream)
    rest = b""
    for begin in range(0, len(stream), size):
        rest += stream[begin : begin + size]
        rest = rest[decoder.decode(rest, 0) :]
    assert rest == b""
    return decoder.take()


def _changes(*messages: bytes) -> list[Change]:
    return [change for event in _decoded(*messages) if isinstance(event, Rows) for change in event.changes]


def _update(old: bytes, new: bytes) -> bytes:
    return HEADER + b"U" + pack(">I", 7) + old + b"N" + new


def test_the_end_of_an_old_row_is_found_whatever_its_values_hold() -> None:
    """Values that look like the beginning of the new row do not mislead: then the columns are walked over."""
    for value in (b"N\x00\x02", b"xN\x00\x02t\x00\x00\x00\x01", b"N\x00\x02" * 50, b"", b"N"):
        for other in (b"plain", None, value):
            old, new = b"O" + _tuple(value, other), _tuple(other, value)
            assert _changes(_update(old, new)) == [(ord("U"), 7, old, new)]


def test_a_malformed_old_row_is_an_error() -> None:
    """It is not cut at a place that happens to look right."""
    broken = b"O" + pack(">H", 2) + b"x" + b"N\x00\x02" * 2
    with pytest.raises(SourceError, match="does not know"):
        _changes(_update(broken, _tuple(b"1", b"2")))


@pytest.mark.parametrize("message", [HEADER + b"Z" + bytes(40), b"x" + bytes(40), HEADER, HEADER + b"P" + bytes(9)])
def test_an_unknown_message_is_an_error(message: bytes) -> None:
    """To pass over it would be to lose a change in silence."""
    with pytest.raises(SourceError, match="does not know") as caught:
        _decoded(message)
    assert caught.value.code == "stream-protocol"


def test_the_shortest_row_is_a_row() -> None:
    """Of a table without columns."""
    assert _changes(HEADER + b"I" + pack(">I", 7) + b"N" + _tuple()) == [(ord("I"), 7, None, b"\x00\x00")]


def test_runs_of_rows_are_parted_by_subtransaction_and_by_batch() -> None:
    """The sizes add up, however the messages are read."""

    def row(xid: int) -> bytes:
        return HEADER + b"I" + pack(">II", xid, 7) + b"N" + _tuple(b"1")

    stream = [HEADER + b"S" + pack(">IB", 5, 1), row(5), row(5), row(6), row(5), HEADER + b"E"]
    whole = [event for event in _decoded(*stream) if isinstance(event, Rows)]
    assert [(event.subxid, len(event.changes)) for event in whole] == [(5, 2), (6, 1), (5, 1)]
    one_by_one = [event for event in _decoded(*stream, in_pieces_of=1) if isinstance(event, Rows)]
    assert [(event.subxid, len(event.changes)) for event in one_by_one] == [(5, 1), (5, 1), (6, 1), (5, 1)]
    size = sum(len(message) + 5 for message in stream[1:5])
    assert sum(event.size_bytes for event in whole) == sum(event.size_bytes for event in one_by_one) == size


@pytest.mark.parametrize(
    ("next_xid", "told", "wide"),
    [
        (1000, 999, 999),
        (1000, 2000, 2000),
        ((5 << 32) + 10, 0xFFFFFFF0, (4 << 32) + 0xFFFFFFF0),  # began before the numbers came round
        ((5 << 32) - 3, 5, (5 << 32) + 5),  # begins after
        ((7 << 32) + 0x80000000, 3, (7 << 32) + 3),
        (3 << 32, 0x7FFFFFFF, (3 << 32) + 0x7FFFFFFF),
    ],
)
def test_transaction_numbers_are_widened_to_the_nearest(next_xid: int, told: int, wide: int) -> None:
    """Of the numbers that end in these 32 bits, the one near the newest known."""
    (begin,) = _decoded(HEADER + b"B" + pack(">QqI", 77, 88, told), next_xid=next_xid)
    assert begin == Begin(wide, 77, 88)
    (start,) = _decoded(HEADER + b"S" + pack(">IB", told, 1), next_xid=next_xid)
    assert start == StreamStart(wide, True)


def test_numbers_go_on_widening_past_a_turn() -> None:
    """Two transactions on either side of it, in either order."""
    next_xid = (2 << 32) - 2
    numbers = [0xFFFFFFFE, 3, 0xFFFFFFFF, 4]
    begins = _decoded(*[HEADER + b"B" + pack(">QqI", 0, 0, number) for number in numbers], next_xid=next_xid)
    wide = [event.xid for event in begins if isinstance(event, Begin)]
    assert wide == [(1 << 32) + 0xFFFFFFFE, (2 << 32) + 3, (1 << 32) + 0xFFFFFFFF, (2 << 32) + 4]


def test_keepalives_and_commits() -> None:
    """Positions and clocks as they were sent."""
    keepalive = b"k" + pack(">QqB", 5, 6, 1)
    commit = HEADER + b"C" + pack(">BQQq", 0, 7, 8, 9)
    assert _decoded(keepalive, commit) == [Keepalive(5, 6, True), Commit(7, 8, 9)]
