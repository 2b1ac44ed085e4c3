"""What a stored state wants of live rows: put back what is gone, or make everything as it was.

Whole chunks are passed over by their hashes, and only chunks that differ are compared row by row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from heapq import merge
from itertools import islice

from outlast.core.recipe import Mode
from outlast.core.row import NULL, fields
from outlast.restore.changes import Filled, Kept, Part, blocks_of
from outlast.restore.difference import Layout, Pair, Region, pairs, regions, rows_of
from outlast.restore.history import Past, PastTable
from outlast.restore.live import LiveRun, layout_of
from outlast.restore.projection import Projection
from outlast.restore.rewriting import Rewriter


@dataclass(frozen=True, slots=True)
class Keep:
    """A column that only ever grows: where a row is rewound, the larger of both values stays."""

    position: int
    number: bool  # compared as a number, else by its text (dates and times)

    def larger(self, ours: bytes, theirs: bytes) -> bytes:
        if NULL in (ours, theirs):
            return theirs if ours == NULL else ours
        if not self.number:
            return max(ours, theirs)
        try:
            return ours if Decimal(ours.decode()) >= Decimal(theirs.decode()) else theirs
        except InvalidOperation:  # NaN and infinities are larger than anything, as PostgreSQL has it
            return ours


@dataclass(frozen=True, slots=True)
class StoredWish:
    """A table's stored rows held against its live ones. `live_rows` gives the live chunks' rows again, in order.

    `chosen` says of a row, live or stored, whether the restore is about it; None: all are.
    """

    past: Past
    stored: PastTable | None
    live: LiveRun
    projection: Projection
    mode: Mode
    live_rows: Callable[[], Iterator[bytes]]
    keep: tuple[Keep, ...] = ()
    chosen: Callable[[bytes], bool] | None = None
    rewriter: Rewriter | None = None

    @property
    def _plain(self) -> bool:
        return self.chosen is None and self.rewriter is None

    @property
    def root(self) -> str | None:
        if self.live.pieces or not self._plain or not self.projection.identity:
            return None
        return self.stored.root if self.stored is not None else None

    def parts(self) -> Iterator[Part]:
        pieces = self.stored.pieces if self.stored is not None else ()
        if not self.live.pieces and self._plain:
            for block in self._read(range(len(pieces))):
                yield Filled(block)
            return
        live = self.live_rows()
        for region, stored in self._regions(pieces):
            ours = islice(live, len(region.before))
            if region.equal:
                for data in ours:
                    yield Kept(data)
            else:
                merged = pairs(rows_of(ours), stored, self._layout)
                for some in blocks_of(merged):
                    yield [self._wish(before, after) for before, after in some]

    @property
    def _layout(self) -> Layout:
        return layout_of(self.live.table)

    def _regions(self, pieces: Sequence[object]) -> Iterator[tuple[Region, Iterator[bytes]]]:
        """Regions in order, each with its stored rows; a row that gets another key is found where that belongs."""
        rewriter = self.rewriter
        whole = Region(range(len(self.live.pieces)), range(len(pieces)), equal=False)
        if rewriter is not None and rewriter.moves:
            order, key = self._layout.order_of, self._layout.key_of
            moved = sorted(rewriter.moved(rows_of(self._read(whole.after))), key=lambda row: order(key(row)))
            staying = rewriter.staying(rows_of(self._read(whole.after)))
            yield whole, merge(staying, moved, key=lambda row: order(key(row)))
            return
        if self.stored is not None and self.projection.identity:
            cut = list(regions(self.live.pieces, self.stored.pieces, keyed=bool(self._layout.key)))
        else:  # the hashes are of rows with other columns
            cut = [whole]
        wanted = [number for region in cut if not region.equal for number in region.after]
        blocks = self._read(wanted)
        for region in cut:
            if region.equal:
                yield region, iter(())
            else:
                rows = rows_of(islice(blocks, len(region.after)))
                yield region, rows if rewriter is None else rewriter.staying(rows)

    def _read(self, numbers: Sequence[int]) -> Iterator[bytes]:
        if self.stored is None or not numbers:
            return iter(())
        return self.projection.apply(self.past.read(self.stored, numbers))

    def _wish(self, before: bytes | None, after: bytes | None) -> Pair:
        if before == after:
            return before, before
        row = before if before is not None else after
        assert row is not None
        if self.chosen is not None and not self.chosen(row):
            return before, before
        if before is None:
            return None, after
        if self.mode is Mode.MISSING:
            return before, before
        return before, None if after is None else self._rewound(before, after)

    def _rewound(self, before: bytes, after: bytes) -> bytes:
        """The row as it was; but columns that came since, and the larger of counters, as they are."""
        if not self.keep and self.projection.identity:
            return after
        old, new = fields(before), fields(after)
        for position, source in enumerate(self.projection.sources):
            if isinstance(source, bytes):
                new[position] = old[position]
        for keep in self.keep:
            new[keep.position] = keep.larger(old[keep.position], new[keep.position])
        return b"\t".join(new)
