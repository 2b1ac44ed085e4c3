"""Pairs: what the map is known to hold, as one look at one slot. A row's route is asked for far more often than it
changes, and the answer is nearly always that it is what the change itself says.

A slot keeps the 64-bit hash of one (id, route); a later id of the same slot takes its place. So memory is bounded, and
what is not found here is asked of the map. An id has one slot only: to note another route is to forget the one before.
Ids are hashes under the host's key and Python's own hash is keyed by the process, so nobody can make two pairs meet.
"""

from __future__ import annotations

from array import array

from outlast.capture.route_ids import Route

SLOTS_MIN, SLOTS_MAX = 1 << 17, 1 << 23
"""One megabyte, and 64."""

_SLOTS_A_ROW = 8
"""An id that shares its slot is asked of the map: of so many slots a row 6% do, of two 20%."""


class Pairs:
    """`slots[hash(id) & mask] == hash((id, route))`: the hot path asks that itself, and saves the call."""

    __slots__ = ("mask", "slots")

    def __init__(self, slots: int = SLOTS_MIN) -> None:
        self.mask = slots - 1
        self.slots = array("q", bytes(8 * slots))

    @classmethod
    def for_rows(cls, rows: int) -> Pairs:
        slots = SLOTS_MIN
        while slots < _SLOTS_A_ROW * rows and slots < SLOTS_MAX:
            slots *= 2
        return cls(slots)

    def note(self, id_: bytes, route: Route) -> None:
        """The map leads from here to there now."""
        self.slots[hash(id_) & self.mask] = hash((id_, route))

    def forget(self, id_: bytes) -> None:
        self.slots[hash(id_) & self.mask] = 0

    def holds(self, id_: bytes, route: Route) -> bool:
        """Whether the map is known to lead from here to there; False says nothing."""
        return self.slots[hash(id_) & self.mask] == hash((id_, route))

    def clear(self) -> None:
        """In place: whoever looks into the slots goes on with the same ones."""
        self.slots[:] = array("q", bytes(8 * len(self.slots)))
