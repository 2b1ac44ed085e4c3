"""Cutting runs into chunks."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.row import key_of
from outlast.vault import chunk
from outlast.vault.chunk import Chunk, Chunker


def cut(rows: list[bytes], block_rows: int) -> list[Chunk]:
    chunker = Chunker(key_of((0,)))
    chunks: list[Chunk] = []
    for start in range(0, len(rows), block_rows):
        block = rows[start : start + block_rows]
        chunks += chunker.add(b"".join(block), len(block))
    return chunks + list(chunker.finish())


def rows_of(seed: int, count: int, width: int) -> list[bytes]:
    source = random.Random(seed)
    return [b"%d\t%s\n" % (i, source.randbytes(source.randrange(1, width)).hex().encode()) for i in range(count)]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 4000),
    width=st.sampled_from([2, 50, 2000, 100_000]),
    blocks=st.tuples(st.integers(1, 500), st.integers(1, 5000)),
)
def test_equal_content_gives_equal_chunks_however_it_arrives(
    seed: int, count: int, width: int, blocks: tuple[int, int]
) -> None:
    """Chunks join to the input, stay within bounds, and do not depend on the blocks they arrive in."""
    rows = rows_of(seed, min(count, 40_000_000 // width // 4), width)
    one, other = (cut(rows, block) for block in blocks)
    assert one == other
    assert b"".join(part.data for part in one) == b"".join(rows)
    assert sum(part.rows for part in one) == len(rows)
    for part in one:
        assert len(part.data) <= chunk.SIZE_BYTES_MAX or part.rows == 1
        assert part.data.count(b"\n") == part.rows
    for part in one[:-1]:
        assert len(part.data) >= chunk.SIZE_BYTES_MIN or part.rows == 1


def test_a_changed_row_leaves_the_other_chunks_as_they_were() -> None:
    """One change in the middle of a large run rewrites a few chunks at the most."""
    rows = rows_of(7, 60_000, 200)
    changed = rows.copy()
    changed[30_000] = b"30000\tchanged\n"
    before, after = ({part.digest for part in cut(version, 1000)} for version in (rows, changed))
    assert len(before) > 20
    assert 1 <= len(after - before) <= 3


def test_a_cut_forgets_what_came_before_it() -> None:
    """Cutting can start again at any chunk's beginning: what folding relies on."""
    rows = rows_of(3, 40_000, 200)
    whole = cut(rows, 1000)
    skipped = sum(part.rows for part in whole[:5])
    assert cut(rows[skipped:], 777) == whole[5:]


def test_identical_rows_are_cut_at_the_maximum() -> None:
    """Rows that never ask for a cut do not make an endless chunk."""
    rows = [b"1\t" + b"x" * 1000 + b"\n"] * 10_000
    assert max(len(part.data) for part in cut(rows, 100)) <= chunk.SIZE_BYTES_MAX
