"""What one table of one tenant is to become, streamed: the lines to stage, the before-image, and what it amounts to.

Which row each live row is to become is another's decision (`Wanted`): wishes.py for a stored state, reversal.py for
changes that are taken back.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from outlast.core.effect import Effect, Operation
from outlast.core.row import fields
from outlast.core.tenant import TenantKey
from outlast.restore.difference import Pair, Piece, Tally, rows_of, shown_key
from outlast.restore.live import LiveRun, layout_of, root_of
from outlast.vault.chunk import Chunk, Chunker

BLOCK_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Kept:
    """A block of live rows that stay as they are."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Filled:
    """A block of rows of which none is live."""

    data: bytes


Part = Kept | Filled | list[Pair]
"""Rows in key order: two kinds of blocks, and rows one by one, each live row with the one that it is to become."""


class Wanted(Protocol):
    """What is wanted of one table."""

    def parts(self) -> Iterator[Part]:
        """From the first row to the last. Starts anew at each call, and gives the same."""

    @property
    def root(self) -> str | None:
        """The root of what is wanted, where it is known without looking: nothing is live, and stored rows fit as they
        are."""


class Image(Protocol):
    """Takes the before-image of one table: what undo needs to know of each changed row."""

    def add(self, kind: str, data: bytes) -> None:
        """Rows in blocks of whole lines, in key order: `insert`, `delete`, and of updates `before` and `after`."""


class TableChanges:
    """Iterate over `lines()` to its end; everything else is known after that. Memory is bounded by a few chunks."""

    def __init__(self, live: LiveRun, wanted: Wanted, image: Image | None = None) -> None:
        self._live = live
        self._wanted = wanted
        self._image = image
        self._layout = layout_of(live.table)
        self.counts: Counter[str] = Counter()
        self.touched: set[str] = set()
        self._reset()

    def _reset(self) -> None:
        self._target: list[Piece] = []
        self._chunker = Chunker(self._layout.key_of)
        self._tally = Tally(self._layout)
        self._digest = hashlib.sha256()
        self.counts.clear()
        self.touched.clear()

    def lines(self) -> Generator[bytes, None, None]:
        """What is to be staged: blocks of lines `operation, tab, row`. Starts anew at each call."""
        self._reset()
        whole = self._wanted.root
        for part in self._wanted.parts():
            if isinstance(part, Kept):
                self._keep(self._chunker.add(part.data, part.data.count(b"\n")))
            elif isinstance(part, Filled):
                if whole is None:
                    self._keep(self._chunker.add(part.data, part.data.count(b"\n")))
                yield self._fill(part.data)
            else:
                yield from self._compare(part)
        self._keep(self._chunker.finish())

    @property
    def target_root(self) -> str:
        return root_of(self._target) if self._wanted.root is None else self._wanted.root

    @property
    def digest(self) -> str:
        """Over every change: equal where the same is done to the same rows."""
        return self._digest.hexdigest() if self.counts.total() else ""

    def effect(self, tenant: TenantKey) -> Effect:
        return self._tally.effect(tenant, str(self._live.table.name))

    def key_at(self, line: int) -> str | None:
        """The key of the staged row with this number, counted from 1: for telling which one a column refused."""
        if line < 1 or not self._layout.key:
            return None
        row = next(islice(rows_of(self.lines()), line - 1, None), None)
        return None if row is None else shown_key(self._layout.key_of(row.partition(b"\t")[2]))

    def _keep(self, chunks: Iterable[Chunk]) -> None:
        self._target += [Piece(chunk.digest, chunk.rows) for chunk in chunks]

    def _fill(self, data: bytes) -> bytes:
        rows = data.count(b"\n")
        sample = [] if self.counts["i"] or not self._layout.key else [shown_key(self._layout.key_of(_first(data)))]
        self.counts["i"] += rows
        self._tally.add_unseen(Operation.INSERT, rows, sample)
        if self._image is not None:
            self._image.add("insert", data)
        lines = b"i\t" + data[:-1].replace(b"\n", b"\ni\t") + b"\n"
        self._digest.update(lines)
        return lines

    def _compare(self, pairs: list[Pair]) -> Iterator[bytes]:
        stay = [after for _, after in pairs if after is not None]
        if stay:
            self._keep(self._chunker.add(_lines(stay), len(stay)))
        changed = [(before, after) for before, after in pairs if before != after]
        if not changed:
            return
        out: list[bytes] = []
        images: dict[str, list[bytes]] = {"insert": [], "delete": [], "before": [], "after": []}
        for before, after in changed:
            self._tally.add(before, after)
            if before is None:
                assert after is not None
                operation, row = b"i\t", after
                images["insert"].append(after)
            elif after is None:
                operation, row = b"d\t", before
                images["delete"].append(before)
            else:
                operation, row = self._update(before, after), after
                images["before"].append(before)
                images["after"].append(after)
                self._digest.update(b"o\t" + before + b"\n")
            self.counts[operation[:1].decode()] += 1
            out.append(operation + row)
        if self._image is not None:
            for kind, rows in images.items():
                if rows:
                    self._image.add(kind, _lines(rows))
        lines = _lines(out)
        self._digest.update(lines)
        yield lines

    def _update(self, before: bytes, after: bytes) -> bytes:
        """How a changed row is written: a column that only ever takes what the server gives it needs a new row."""
        columns = self._live.table.columns
        changed = [
            column for column, old, new in zip(columns, fields(before), fields(after), strict=True) if old != new
        ]
        if any(column.identity == "a" for column in changed):
            return b"r\t"
        self.touched.update(column.name for column in changed)
        return b"u\t"


def _first(data: bytes) -> bytes:
    return data[: data.index(b"\n") + 1]


def _lines(rows: list[bytes]) -> bytes:
    return b"".join([row + b"\n" for row in rows])


def blocks_of(pairs: Iterable[Pair]) -> Iterator[list[Pair]]:
    """Pairs in lists of a bounded size."""
    found = iter(pairs)
    while block := list(islice(found, BLOCK_ROWS)):
        yield block
