"""Pairs: what the map is known to hold, as one look at one slot. A row's route is asked for far more often than it
changes, and the answer is nearly always that it is what the change itself says.

A slot keeps the 64-bit hash of one (id, route). An id has two slots, its own and the one beside it; a later id of the
same two takes a place. So memory is bounded, and what is not found here is asked of the map. What is noted is what the
map holds; where that changes, both slots are emptied first, so that no former route of an id is ever found. Ids are
hashes under the host's key and Python's own hash is keyed by the process, so nobody can make two pairs meet.
"""

from __future__ import annotations

from array import array

from outlast.capture.route_ids import Route

SLOTS_MIN, SLOTS_MAX = 1 << 17, 1 << 23
"""One megabyte, and 64."""

_SLOTS_A_ROW = 8
"""An id whose slots are taken by others is asked of the map: of so many slots a row less than 1% are."""


class Pairs:
    """`slots[hash(id) & mask] == hash((id, route))`, or the slot beside it: the hot path looks for itself."""

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
        """The map leads from here to there, and did so before."""
        slots, place, pair = self.slots, hash(id_) & self.mask, hash((id_, route))
        if slots[place] and slots[place] != pair:
            place ^= 1
        slots[place] = pair

    def change(self, id_: bytes, route: Route) -> None:
        """The map leads from here to there now."""
        self.forget(id_)
        self.note(id_, route)

    def forget(self, id_: bytes) -> None:
        place = hash(id_) & self.mask
        self.slots[place] = self.slots[place ^ 1] = 0

    def holds(self, id_: bytes, route: Route) -> bool:
        """Whether the map is known to lead from here to there; False says nothing."""
        place, pair = hash(id_) & self.mask, hash((id_, route))
        return self.slots[place] == pair or self.slots[place ^ 1] == pair

    def clear(self) -> None:
        """In place: whoever looks into the slots goes on with the same ones."""
        self.slots[:] = array("q", bytes(8 * len(self.slots)))
