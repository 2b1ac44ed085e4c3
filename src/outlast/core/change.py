"""A change: what one transaction did to one row, as the server's logical decoding told it.

Owns the tuple's bytes (pgoutput's TupleData, kept as they came) and how a row of COPY text is made of them. Who owns
the row, and where it is kept, is decided elsewhere. Nothing here is done for every column of every change on the way
in: rows are made when they are read or folded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from struct import Struct

from outlast.core.errors import BugError
from outlast.core.row import NULL, escape
from outlast.core.table import TableName

OP_INSERT, OP_UPDATE, OP_DELETE, OP_TRUNCATE, OP_MOVE_OUT, OP_MOVE_IN = b"IUDTON"

Change = tuple[int, int, bytes | None, bytes | None]
"""(operation, relation's oid, old tuple, new tuple). An old tuple begins with `K` (its key only) or `O` (all of it)."""


class Unchanged:
    """A value that the server did not send, because the change left it as it was (TOAST)."""

    def __repr__(self) -> str:
        return "unchanged"


UNCHANGED = Unchanged()
Field = bytes | None | Unchanged
"""A value's text, not escaped; None for NULL."""

_COUNT = Struct(">H")
_LENGTH = Struct(">I")
_NULL, _TEXT, _UNCHANGED = b"ntu"


@dataclass(frozen=True, slots=True)
class Relation:
    """What a tuple's fields mean. `identity` is pg_class.relreplident; `identity_columns` are positions."""

    oid: int
    name: TableName
    columns: tuple[tuple[str, str], ...]
    identity: str
    identity_columns: tuple[int, ...]


def fields_of(tuple_: bytes) -> Iterator[Field]:
    """The fields of a new tuple, or of an old one with its leading letter taken off."""
    (count,) = _COUNT.unpack_from(tuple_)
    at = 2
    for _ in range(count):
        kind = tuple_[at]
        if kind == _TEXT:
            (length,) = _LENGTH.unpack_from(tuple_, at + 1)
            yield tuple_[at + 5 : at + 5 + length]
            at += 5 + length
        elif kind == _NULL:
            yield None
            at += 1
        elif kind == _UNCHANGED:
            yield UNCHANGED
            at += 1
        else:
            raise BugError("a tuple of the change stream has a field of an unknown kind")


def fields_at(tuple_: bytes, positions: Iterable[int]) -> list[Field]:
    """Some fields of a tuple, in the order of `positions`; what lies behind the last of them is not looked at."""
    wanted = tuple(positions)
    last = max(wanted, default=-1)
    found: list[Field] = []
    at = 2
    for number in range(_COUNT.unpack_from(tuple_)[0]):
        if number > last:
            break
        kind = tuple_[at]
        if kind == _TEXT:
            (length,) = _LENGTH.unpack_from(tuple_, at + 1)
            found.append(tuple_[at + 5 : at + 5 + length])
            at += 5 + length
        else:
            found.append(None if kind == _NULL else UNCHANGED)
            at += 1
    return [found[position] for position in wanted]


def copy_field(field: Field) -> bytes:
    """The COPY field for a value of a tuple. An unchanged one has no text: BugError."""
    if isinstance(field, Unchanged):
        raise BugError("a value that the change stream left out was asked for")
    return NULL if field is None else escape(field)


def row_of(tuple_: bytes, before: bytes | None = None) -> bytes:
    """The COPY row (without newline) of a tuple. What was not sent is taken from `before`, the same row as it was."""
    old = None if before is None else before.split(b"\t")
    parts = []
    for number, field in enumerate(fields_of(tuple_)):
        if isinstance(field, Unchanged) and old is not None:
            parts.append(old[number])
        else:
            parts.append(copy_field(field))
    return b"\t".join(parts)


def key_in(tuple_: bytes, positions: Iterable[int]) -> bytes:
    """A key as core/row.key_of cuts it: the COPY fields at these positions, joined by tabs."""
    return b"\t".join([copy_field(field) for field in fields_at(tuple_, positions)])
