"""Chunks: where a run of rows is cut, and the roots by which content is compared.

A run is all rows of one table and one tenant, in key order. It is cut at row boundaries that the content itself
chooses, so that a changed row changes the chunk it stands in and leaves the others as they were. The cut depends on
nothing but the rows since the last cut: equal content gives equal chunks, whoever cuts it, from wherever it is read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from zlib import crc32

SIZE_BYTES_MIN = 128 * 1024
"""No cut before this: most tenants' tables are smaller, and then no row needs to be looked at."""

SIZE_BYTES_TARGET = 256 * 1024
"""Past the minimum, a cut is expected once in so many bytes."""

SIZE_BYTES_MAX = 2 * 1024 * 1024
"""A cut is forced here; only a single row can be larger, and then it is a chunk of its own."""

_WINDOW_BYTES = 32 * 1024
"""Rows looked at before it is asked whether more are needed."""

_CRC_RANGE = 1 << 32
_CUT_BELOW_PER_BYTE = _CRC_RANGE // SIZE_BYTES_TARGET


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive rows of one run, each ending in a newline."""

    data: bytes
    rows: int
    digest: bytes  # SHA-256 of `data`
    first_key: bytes


class Chunker:
    """Cuts one run into chunks. `add` rows in key order, then `finish`; each gives the chunks complete by then.

    At most SIZE_BYTES_MAX and one added block are held. A row cuts the run after itself with a probability in
    proportion to its length, so that the mean size of a chunk is the same for wide and for narrow rows.
    """

    def __init__(self, key_of: Callable[[bytes], bytes]) -> None:
        self._key_of = key_of
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._held_rows = 0

    def add(self, data: bytes, rows: int) -> Iterable[Chunk]:
        """Take `rows` whole lines. Returns the chunks that are now complete, often none."""
        self._held.append(data)
        self._held_bytes += len(data)
        self._held_rows += rows
        if self._held_bytes < SIZE_BYTES_MAX:
            return ()
        return list(self._cut(final=False))

    def settle(self) -> Iterable[Chunk]:
        """The chunks that no further row can change any more, though less is held than `add` would cut."""
        return list(self._cut(final=False)) if self._held_bytes >= SIZE_BYTES_MIN else ()

    @property
    def is_empty(self) -> bool:
        """Whether the last row that was added was the last of a chunk."""
        return not self._held_rows

    def finish(self) -> Iterable[Chunk]:
        """The chunks of what is left; the chunker is then empty and can take another run."""
        if not self._held_rows:
            return ()
        if self._held_bytes <= SIZE_BYTES_MIN:
            return (self._chunk(b"".join(self._held), self._take()),)
        return list(self._cut(final=True))

    def _take(self) -> int:
        rows = self._held_rows
        self._held, self._held_bytes, self._held_rows = [], 0, 0
        return rows

    def _chunk(self, data: bytes, rows: int) -> Chunk:
        first = data[: data.index(b"\n") + 1]
        return Chunk(data, rows, hashlib.sha256(data).digest(), self._key_of(first))

    def _cut(self, *, final: bool) -> Iterator[Chunk]:
        data = b"".join(self._held)
        left = self._take()
        start = 0
        while (end := _end_of_chunk(data, start, final=final)) is not None:
            rows = data.count(b"\n", start, end)
            yield self._chunk(data[start:end], rows)
            start = end
            left -= rows
        if left:
            self._held = [data[start:]]
            self._held_bytes = len(data) - start
            self._held_rows = left


def _end_of_chunk(data: bytes, start: int, *, final: bool) -> int | None:
    """Where the chunk that begins at `start` ends, or None where the rows so far do not tell: after the first row past
    the minimum that says so, else after the last row that fits into the maximum. Rows before the minimum cost nothing.
    """
    limit = start + SIZE_BYTES_MAX
    at = data.rfind(b"\n", start, start + SIZE_BYTES_MIN - 1) + 1 or start
    while at < len(data):
        known = data.rfind(b"\n", at, min(at + _WINDOW_BYTES, limit)) + 1
        if not known:
            known = data.index(b"\n", at) + 1  # one row that is larger than the window, or that passes the limit
            if known > limit:
                return known if at == start else at
        for line in data[at : known - 1].split(b"\n"):
            at += len(line) + 1
            if crc32(line) < (len(line) + 1) * _CUT_BELOW_PER_BYTE:
                return at
    return len(data) if final and start < len(data) else None


def table_root(chunks: Iterable[tuple[bytes, int]]) -> bytes:
    """The root of a run: over each chunk's digest and number of rows, in order."""
    root = hashlib.sha256()
    for digest, rows in chunks:
        root.update(digest)
        root.update(rows.to_bytes(8, "big"))
    return root.digest()


def tenant_root(tables: Iterable[tuple[str, bytes]]) -> bytes:
    """The root of a tenant: over the names and roots of its tables that have rows, sorted by name."""
    root = hashlib.sha256()
    for name, digest in sorted(tables):
        root.update(name.encode("utf-8", "surrogateescape") + b"\0" + digest)
    return root.digest()
