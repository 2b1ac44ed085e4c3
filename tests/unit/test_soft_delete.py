"""Which updates soft-delete a row."""

from __future__ import annotations

import struct

import pytest

from outlast.core.change import Relation
from outlast.core.soft_delete import SoftDeleteMarkers
from outlast.core.table import TableName

RELATION = Relation(1, TableName("public", "users"), (("id", "bigint"), ("deleted_at", "date")), "f", (0,))


def tuple_of(*fields: bytes | str | None) -> bytes:
    """TupleData as pgoutput sends it; a str stands for an unchanged value."""
    parts = [struct.pack(">H", len(fields))]
    for field in fields:
        if field is None:
            parts.append(b"n")
        elif isinstance(field, str):
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack(">I", len(field)) + field)
    return b"".join(parts)


@pytest.mark.parametrize(
    ("old", "new", "marks"),
    [
        (b"O" + tuple_of(b"1", None), tuple_of(b"1", b"2022-04-05"), True),
        (b"O" + tuple_of(b"1", b"2022-04-05"), tuple_of(b"2", b"2022-04-05"), False),
        (b"O" + tuple_of(b"1", b"2022-04-05"), tuple_of(b"1", None), False),
        (b"O" + tuple_of(b"1", b"f"), tuple_of(b"1", b"t"), True),
        (None, tuple_of(b"1", b"2022-04-05"), True),
        (b"K" + tuple_of(b"1", None), tuple_of(b"2", b"2022-04-05"), True),
        (None, tuple_of(b"1", None), False),
        (None, tuple_of(b"1", "unchanged"), False),
    ],
)
def test_an_update_that_sets_a_marker(old: bytes | None, new: bytes, marks: bool) -> None:
    """From empty to a value; where the old value was not sent, a value now is enough."""
    markers = SoftDeleteMarkers.of(RELATION)
    assert markers is not None
    assert markers.marks(old, new) is marks


def test_a_table_without_a_marker_is_not_looked_at() -> None:
    """None says so once for the table, and not for each of its updates."""
    assert SoftDeleteMarkers.of(Relation(1, TableName("public", "t"), (("id", "bigint"),), "d", (0,))) is None
