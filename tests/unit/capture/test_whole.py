"""A backup of everything divides tenants into slices that leave nobody out."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.row import KeyKind
from outlast.core.tenant import TenantKey
from outlast.sources.slicing import slices

WEIGHTS = st.dictionaries(st.integers(-100, 100), st.floats(0.5, 1000), max_size=40)


@given(WEIGHTS, st.integers(1, 8))
def test_slices_follow_each_other_without_a_gap(weights: dict[int, float], count: int) -> None:
    """From the first to the last, each begins where the one before ends, whatever the sample saw."""
    found = slices({TenantKey(str(key)): weight for key, weight in weights.items()}, KeyKind.INTEGER, count)
    assert 1 <= len(found) <= count
    assert found[0].first is None
    assert found[-1].end is None
    for one, following in pairwise(found):
        assert one.end is not None
        assert one.end == following.first
    bounds = [int(one.end) for one in found if one.end is not None]
    assert bounds == sorted(set(bounds))


def test_integers_are_divided_by_number_and_texts_by_bytes() -> None:
    """The order is the sweep's own: 9 before 10, but "10" before "9"."""
    weights = {TenantKey("9"): 1.0, TenantKey("10"): 1.0}
    assert slices(weights, KeyKind.INTEGER, 2)[0].end == "10"
    assert slices(weights, KeyKind.TEXT, 2)[0].end == "9"


def test_a_tenant_that_is_most_of_all_has_a_slice_to_itself() -> None:
    weights = {TenantKey(str(key)): 1.0 for key in range(10)} | {TenantKey("5"): 100.0}
    ends = [one.end for one in slices(weights, KeyKind.INTEGER, 3)]
    assert ends == ["5", "6", None]
