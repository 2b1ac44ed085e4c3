"""The rows of one table that are stored and not live, streamed, and what the table will be once they are back."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import islice

from outlast.core.effect import Effect, Operation
from outlast.core.tenant import TenantKey
from outlast.restore.difference import Piece, Region, Tally, pairs, regions, rows_of, shown_key
from outlast.restore.history import Past, PastTable
from outlast.restore.live import LiveRun, layout_of, root_of
from outlast.restore.projection import Projection
from outlast.vault.chunk import Chunk, Chunker

_BLOCK_ROWS = 2000


class MissingRows:
    """One table's missing rows. Iterate over `rows()` to its end; `target_root` and `effect` are known after that.

    Where nothing is live, stored chunks pass through untouched. Elsewhere only chunks that differ are compared row by
    row. Memory is bounded by a few chunks. `live_rows` gives the live chunks' rows again, in order.
    """

    def __init__(
        self,
        past: Past,
        stored: PastTable,
        live: LiveRun,
        projection: Projection,
        live_rows: Callable[[], Iterator[bytes]],
    ) -> None:
        self._past = past
        self._stored = stored
        self._live = live
        self._projection = projection
        self._live_rows = live_rows
        self._layout = layout_of(live.table)
        self._untouched = not live.pieces and projection.identity
        self._reset()

    def _reset(self) -> None:
        self._target: list[Piece] = []
        self._chunker = Chunker(self._layout.key_of)
        self._tally = Tally(self._layout)

    def rows(self) -> Generator[bytes, None, None]:
        """The missing rows in blocks of whole lines, with the live table's columns. Starts anew at each call."""
        self._reset()
        if self._untouched:
            yield from self._past.read(self._stored)
        elif not self._live.pieces:
            for block in self._projection.apply(self._past.read(self._stored)):
                self._keep(self._chunker.add(block, block.count(b"\n")))
                yield block
        else:
            yield from self._merged()
        self._keep(self._chunker.finish())

    @property
    def target_root(self) -> str:
        return self._stored.root if self._untouched else root_of(self._target)

    def effect(self, tenant: TenantKey, rows: int) -> Effect:
        """What putting back these rows, counted by the server, does."""
        if not self._live.pieces:
            sample = [shown_key(self._stored.first_key)] if self._layout.key else []
            self._tally.add_unseen(Operation.INSERT, rows, sample)
        return self._tally.effect(tenant, str(self._live.table.name))

    def key_at(self, line: int) -> str | None:
        """The key of the missing row with this number, counted from 1: for telling which one a column refused."""
        if line < 1 or not self._layout.key:
            return None
        row = next(islice(rows_of(self.rows()), line - 1, None), None)
        return None if row is None else shown_key(self._layout.key_of(row))

    def _keep(self, chunks: Iterable[Chunk]) -> None:
        self._target += [Piece(chunk.digest, chunk.rows) for chunk in chunks]

    def _merged(self) -> Iterator[bytes]:
        stored_pieces = self._stored.pieces
        if self._projection.identity:
            cut = list(regions(self._live.pieces, stored_pieces, keyed=bool(self._layout.key)))
        else:  # the hashes are of rows with other columns
            cut = [Region(range(len(self._live.pieces)), range(len(stored_pieces)), equal=False)]
        wanted = [number for region in cut if not region.equal for number in region.after]
        stored = self._projection.apply(self._past.read(self._stored, wanted) if wanted else ())
        live = self._live_rows()
        for region in cut:
            ours = islice(live, len(region.before))
            if region.equal:
                for data in ours:
                    self._keep(self._chunker.add(data, data.count(b"\n")))
            else:
                yield from self._compared(ours, islice(stored, len(region.after)))

    def _compared(self, live: Iterable[bytes], stored: Iterable[bytes]) -> Iterator[bytes]:
        """Merge one region in key order: what is only stored is missing, and all of it makes the target."""
        merged = pairs(rows_of(live), rows_of(stored), self._layout)
        while block := list(islice(merged, _BLOCK_ROWS)):
            kept = [after if before is None else before for before, after in block]
            self._keep(self._chunker.add(_lines(kept), len(kept)))
            missing = [after for before, after in block if before is None]
            for row in missing:
                self._tally.add(None, row)
            if missing:
                yield _lines(missing)


def _lines(rows: list[bytes | None]) -> bytes:
    return b"".join([row + b"\n" for row in rows if row is not None])
