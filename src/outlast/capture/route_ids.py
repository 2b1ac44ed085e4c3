"""Ids and routes: what the route map is made of.

An *id* is 16 bytes: the number of a *space* (a table and some of its columns) and a BLAKE2b hash, under the host key,
of the values in them; no key stands in the clear. A *route* is what an id leads to: a tenant's number, or the id of a
parent row, so that a parent that moves takes its subtree along without a change here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

Route = int | bytes
"""A tenant's number, or bytes: a parent's id, or a route that `aliased` made, with ids of the same row behind it."""

ORPHAN_NUMBER, SHARED_NUMBER, RESERVED_MAX = 0, 1, 2

ID_BYTES = 16
_HASH_BYTES = 14
_NUMBER = b"\xff\xff"  # where a space's number would stand in an aliased route: a tenant's number follows

SPACES_MAX = 0xFFFE


def aliased(route: Route, aliases: Sequence[bytes]) -> bytes:
    """A route that remembers the row's other ids, which a DELETE by key could not tell."""
    head = route[:ID_BYTES] if isinstance(route, bytes) else _NUMBER + route.to_bytes(_HASH_BYTES, "big")
    return head + b"".join(aliases)


def aliases_of(route: Route) -> list[bytes]:
    if isinstance(route, int):
        return []
    return [route[at : at + ID_BYTES] for at in range(ID_BYTES, len(route), ID_BYTES)]


def plain(route: Route) -> Route:
    """The route without the row's other ids."""
    if isinstance(route, int):
        return route
    return int.from_bytes(route[2:ID_BYTES], "big") if route.startswith(_NUMBER) else route[:ID_BYTES]


def parent_of(route: Route | None) -> bytes | None:
    """The id of the row that a route leads to, None where it leads to a tenant or nowhere."""
    return route[:ID_BYTES] if isinstance(route, bytes) and not route.startswith(_NUMBER) else None


def space_number(id_: bytes) -> int:
    return int.from_bytes(id_[:2], "big")


def bounds(number: int) -> tuple[bytes, bytes]:
    """The ids of a space: from the first of these to below the second."""
    return number.to_bytes(2, "big"), (number + 1).to_bytes(2, "big")


class Space:
    """A table and some of its columns. `id_of` makes the id of one row's values in them."""

    __slots__ = ("_base", "_head", "number")

    def __init__(self, number: int, key: bytes) -> None:
        self.number = number
        self._head = number.to_bytes(2, "big")
        self._base = hashlib.blake2b(self._head, key=key, digest_size=_HASH_BYTES)

    def id_of(self, values: Sequence[bytes]) -> bytes:
        if len(values) == 1:
            return self.id_of_one(values[0])
        return self.id_of_one(b"".join([len(value).to_bytes(4, "big") + value for value in values]))

    def id_of_one(self, value: bytes) -> bytes:
        hashed = self._base.copy()
        hashed.update(value)
        return self._head + hashed.digest()
