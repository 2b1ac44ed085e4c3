"""Pairs: a route that was another before is never found, whatever else lies in the same slots."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outlast.capture.route_pairs import Pairs

IDS = st.integers(0, 40).map(lambda number: number.to_bytes(16, "big"))
ROUTES = st.integers(3, 6)


@given(st.lists(st.tuples(st.sampled_from(["put", "remove", "load"]), IDS, ROUTES)))
def test_only_what_the_map_holds_is_found(steps: list[tuple[str, bytes, int]]) -> None:
    """So many ids in eight slots that they take each other's places all the time."""
    pairs, held = Pairs(8), dict[bytes, int]()
    for step, id_, route in steps:
        if step == "put":
            held[id_] = route
            pairs.change(id_, route)
        elif step == "remove":
            held.pop(id_, None)
            pairs.forget(id_)
        elif id_ in held:
            pairs.note(id_, held[id_])
        for one in held:
            assert not any(pairs.holds(one, other) for other in range(3, 7) if other != held[one])
        assert step == "remove" or id_ not in held or pairs.holds(id_, held[id_])


def test_two_ids_of_one_slot_are_both_found() -> None:
    pairs = Pairs(2)
    first, second = b"a" * 16, b"b" * 16
    pairs.note(first, 3)
    pairs.note(second, 4)
    assert pairs.holds(first, 3)
    assert pairs.holds(second, 4)
