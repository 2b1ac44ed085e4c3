"""The difference of two states: whatever they are, applying it to the one gives the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.effect import Operation
from outlast.core.row import KeyKind, escape
from outlast.core.tenant import TenantKey
from outlast.restore.difference import Layout, Piece, Tally, pairs, regions, rows_of
from outlast.vault.chunk import Chunker

KEYED = Layout(("id", "name", "deleted_at"), ("id",), (KeyKind.INTEGER,))
NAMED = Layout(("name", "id", "deleted_at"), ("name", "id"), (KeyKind.TEXT, KeyKind.INTEGER))
KEYLESS = Layout(("id", "name"), (), ())

texts = st.one_of(st.just("\\N"), st.text("ab\t\\é", max_size=3).map(lambda text: escape(text.encode()).decode()))
numbers = st.integers(-20, 20)


def row(*fields: object) -> bytes:
    return "\t".join(str(field) for field in fields).encode()


keyed_rows = st.dictionaries(numbers, st.tuples(texts, texts), max_size=30).map(
    lambda found: [row(key, *rest) for key, rest in found.items()]
)
named_rows = st.dictionaries(
    st.tuples(st.text("aZ\t\\\x01é", max_size=2).map(lambda text: escape(text.encode()).decode()), numbers),
    texts,
    max_size=30,
).map(lambda found: [row(*key, rest) for key, rest in found.items()])
keyless_rows = st.lists(st.tuples(st.integers(-3, 3), texts).map(lambda found: row(*found)), max_size=30)

states = st.one_of(
    st.tuples(st.just(KEYED), keyed_rows, keyed_rows),
    st.tuples(st.just(NAMED), named_rows, named_rows),
    st.tuples(st.just(KEYLESS), keyless_rows, keyless_rows),
)


def ordered(layout: Layout, rows: Iterable[bytes]) -> list[bytes]:
    key, order = layout.key_of, layout.order_of
    return sorted(rows, key=lambda row: order(key(row)))


@given(states)
def test_applying_the_difference_gives_the_other_state(case: tuple[Layout, list[bytes], list[bytes]]) -> None:
    """before - (rows only before, or changed) + (rows only after, or changed) = after, as multisets."""
    layout, before, after = case
    found = list(pairs(ordered(layout, before), ordered(layout, after), layout))
    state = Counter(before)
    for old, new in found:
        if old is not None:
            state[old] -= 1
        if new is not None:
            state[new] += 1
    assert +state == Counter(after)
    assert min(state.values(), default=0) >= 0


@given(states)
def test_pairs_are_by_key_and_in_order(case: tuple[Layout, list[bytes], list[bytes]]) -> None:
    """Two rows of a pair have one key; what is on one side only has no twin left over on the other."""
    layout, before, after = case
    key, order = layout.key_of, layout.order_of
    found = list(pairs(ordered(layout, before), ordered(layout, after), layout))
    keys = []
    for old, new in found:
        if old is not None and new is not None:
            assert key(old) == key(new)
        one = old if old is not None else new
        assert one is not None
        keys.append(order(key(one)))
    assert keys == sorted(keys)
    only_before = Counter(key(old) for old, new in found if old is not None and new is None)
    only_after = Counter(key(new) for old, new in found if old is None and new is not None)
    assert not only_before & only_after


@given(states)
def test_the_tally_counts_every_pair_once(case: tuple[Layout, list[bytes], list[bytes]]) -> None:
    """An effect's counts are those of a naive comparison by key."""
    layout, before, after = case
    tally = Tally(layout)
    for old, new in pairs(ordered(layout, before), ordered(layout, after), layout):
        tally.add(old, new)
    effect = tally.effect(TenantKey("t"), "public.x")
    key = layout.key_of
    olds, news = Counter(map(key, before)), Counter(map(key, after))
    changed = sum((Counter(before) - Counter(after)).values()) - sum((olds - news).values()) if layout.key else 0
    assert effect.total(Operation.INSERT) == sum((news - olds).values())
    assert effect.total(Operation.HARD_DELETE) == sum((olds - news).values())
    assert effect.total(Operation.UPDATE) + effect.total(Operation.SOFT_DELETE) == changed


pieces = st.lists(st.integers(0, 12).map(lambda n: Piece(b"%d" % n, n)), max_size=12)
ascending = pieces.map(lambda found: sorted(set(found), key=lambda piece: piece.rows))


@given(st.one_of(st.tuples(ascending, ascending, st.just(True)), st.tuples(pieces, pieces, st.just(False))))
def test_regions_cover_both_runs_in_order(case: tuple[list[Piece], list[Piece], bool]) -> None:
    """Every chunk of either side lies in exactly one region; equal regions are equal."""
    before, after, keyed = case
    cut = list(regions(before, after, keyed=keyed))
    assert [number for region in cut for number in region.before] == list(range(len(before)))
    assert [number for region in cut for number in region.after] == list(range(len(after)))
    for region in cut:
        ours, theirs = [before[n] for n in region.before], [after[n] for n in region.after]
        assert ours or theirs
        assert not region.equal or ours == theirs
    if before == after:
        assert all(region.equal for region in cut)


@settings(max_examples=15, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sets(st.integers(0, 7999), max_size=40),
    st.sets(st.integers(0, 7999), max_size=40),
    st.sets(st.integers(8000, 9000), max_size=20),
)
def test_comparing_chunks_first_finds_what_comparing_rows_finds(
    seed: int, gone: set[int], changed: set[int], new: set[int]
) -> None:
    """Regions that are equal chunk by chunk hide no difference."""
    layout = Layout(("id", "name"), ("id",), (KeyKind.INTEGER,))
    stored = {number: b"%d\t%x" % (number, hash((seed, number)) ** 9 % 10**400) for number in range(8000)}
    live = {number: line for number, line in stored.items() if number not in gone}
    live |= {number: b"%d\tchanged" % number for number in changed - gone}
    live |= {number: b"%d\tnew" % number for number in new}
    ours, theirs = cut(live), cut(stored)
    found = set()
    for region in regions([piece for piece, _ in ours], [piece for piece, _ in theirs]):
        if not region.equal:
            found |= {
                pair
                for pair in pairs(
                    rows_of(ours[n][1] for n in region.before), rows_of(theirs[n][1] for n in region.after), layout
                )
                if pair[0] != pair[1]
            }
    assert {new for old, new in found if old is None} == {stored[number] for number in gone}
    assert len(found) == len(gone) + len(changed - gone) + len(new)


def cut(rows: dict[int, bytes]) -> list[tuple[Piece, bytes]]:
    chunker = Chunker(KEYED.key_of)
    lines = [line + b"\n" for _, line in sorted(rows.items())]
    chunks = [*chunker.add(b"".join(lines), len(lines)), *chunker.finish()]
    return [(Piece(chunk.digest, chunk.rows), chunk.data) for chunk in chunks]
