"""What the tuples of a change tell of a row, for its way: the key that it had, what was not sent."""

from __future__ import annotations

from collections.abc import Sequence

from outlast.capture.ways import Way
from outlast.core.change import Field, Unchanged, copy_field, fields_at, fields_of


def key_before(way: Way, old: bytes | None, new: bytes) -> bytes:
    """The row's key before the change, as COPY fields; the whole row where the table has no key."""
    logged = way.logged
    told = old[1:] if old is not None and way.keyed else new
    if logged.key:
        return b"\t".join([_field(field) for field in fields_at(told, logged.key_positions)])
    return b"\t".join([_field(field) for field in fields_of(told)])


def all_unsent(old: bytes) -> bytes:
    """A new tuple of which no value was sent."""
    return old[1:3] + b"u" * int.from_bytes(old[1:3], "big")


def any_unsent(values: Sequence[Field]) -> bool:
    return any(isinstance(value, Unchanged) for value in values)


def _field(field: Field) -> bytes:
    return b"" if isinstance(field, Unchanged) else copy_field(field)
