"""In which order tables are written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outlast.core.table import TableName
from outlast.sources.postgres.schema import ForeignKey
from outlast.sources.postgres.write_order import write_order

edges = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=25)


def table(number: int) -> TableName:
    return TableName("public", f"t{number}")


def keys(found: list[tuple[int, int]]) -> list[ForeignKey]:
    return [ForeignKey(f"k{a}_{b}", table(a), ("x",), table(b), ("id",)) for a, b in found]


@given(edges)
def test_referenced_tables_come_first(found: list[tuple[int, int]]) -> None:
    """Each table stands in one group; what it points at stands in an earlier group, or in its own."""
    groups = write_order([table(n) for n in range(10)], keys(found))
    place = {one: number for number, group in enumerate(groups) for one in group}
    assert sorted(place) == [table(n) for n in range(10)]
    assert sum(len(group) for group in groups) == 10
    for a, b in found:
        assert place[table(b)] <= place[table(a)]


@given(edges)
def test_a_group_of_several_is_a_cycle(found: list[tuple[int, int]]) -> None:
    """Tables share a statement only where each reaches each."""
    reach = {n: {n} for n in range(10)}
    for _ in range(10):
        for a, b in found:
            reach[a] |= reach[b]
    for group in write_order([table(n) for n in range(10)], keys(found)):
        numbers = [int(one.name[1:]) for one in group]
        assert all(b in reach[a] for a in numbers for b in numbers)


def test_keys_that_lead_elsewhere_and_those_not_enforced_do_not_count() -> None:
    """Only enforced keys among the tables that are written order them."""
    a, b = table(1), table(2)
    loose = ForeignKey("k", a, ("x",), b, ("id",), enforced=False)
    away = ForeignKey("k", a, ("x",), table(3), ("id",))
    back = ForeignKey("k", b, ("x",), a, ("id",))
    assert write_order([a, b], [loose, away, back]) == [(a,), (b,)]
