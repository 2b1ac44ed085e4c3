"""Laying changes over a stored run of rows: only the chunks that they touch are read, and cut anew.

Pure but for what it is given: how a piece's rows are read, and how a new chunk is kept. Cutting starts at a touched
chunk and goes on until a cut falls where the old run had one; from there on the old chunks hold as they are. A cut
depends on nothing but the rows since the last one, so the result is what a sweep would have cut: the same roots.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from outlast.core.errors import BugError
from outlast.core.row import OrderKey
from outlast.vault.chunk import Chunk, Chunker
from outlast.vault.manifest import ChunkRef
from outlast.vault.net import MISMATCH_HINT, MismatchError, Net, Patch, Shape


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of a run, without its rows: it lies in the vault (`ref`), or where `keep` put it (`spooled`)."""

    first_key: bytes
    rows: int
    digest: bytes
    size: int
    ref: ChunkRef | None = None
    spooled: tuple[int, int] | None = None

    @classmethod
    def stored(cls, ref: ChunkRef) -> Piece:
        return cls(ref.first_key, ref.rows, ref.digest, ref.length, ref)


Read = Callable[[Sequence[Piece]], Iterator[bytes]]
"""The rows of some pieces, one block each, in order."""

Keep = Callable[[Chunk], Piece]


def overlay(pieces: Sequence[Piece], net: Net, read: Read, keep: Keep) -> list[Piece]:
    """The run after the changes. Raises MismatchError where they do not fit it."""
    known = {piece.digest: piece for piece in pieces}

    def kept(chunk: Chunk) -> Piece:
        return known.get(chunk.digest) or keep(chunk)

    base: Sequence[Piece] = () if net.emptied else pieces
    _resolve_waiting(base, net, read)
    merge: _Keyed | _Counted = _Keyed(base, net, read) if net.shape.key else _Counted(base, net)
    if not merge.touched:
        return list(base)
    recut = Recut(net.shape, kept)
    touched = frozenset(merge.touched)
    for number, piece in enumerate(base):
        if number in touched:
            recut.add(merge.rows(number, rows_of(next(read([piece])))))
        elif recut.is_open:
            recut.add_block(next(read([piece])), piece.rows)
        else:
            recut.skip(piece)
    if not base:
        recut.add(merge.rows(0, []))
    merge.finish()
    return recut.finish()


class Recut:
    """Pieces out of rows and of pieces that hold as they are."""

    def __init__(self, shape: Shape, keep: Keep) -> None:
        self._chunker = Chunker(shape.key_of)
        self._keep = keep
        self._pieces: list[Piece] = []

    @property
    def is_open(self) -> bool:
        """Whether the rows so far end within a chunk."""
        return not self._chunker.is_empty

    def add(self, rows: Sequence[bytes]) -> None:
        if rows:
            self.add_block(b"\n".join(rows) + b"\n", len(rows))

    def add_block(self, data: bytes, rows: int) -> None:
        self._take(self._chunker.add(data, rows))
        self._take(self._chunker.settle())

    def skip(self, piece: Piece) -> None:
        if self.is_open:
            raise BugError("a chunk was kept as it is in the middle of another")
        self._pieces.append(piece)

    def finish(self) -> list[Piece]:
        self._take(self._chunker.finish())
        return self._pieces

    def _take(self, chunks: Iterable[Chunk]) -> None:
        self._pieces += [self._keep(chunk) for chunk in chunks]


class _Keyed:
    """Merges changes by key, piece by piece."""

    def __init__(self, base: Sequence[Piece], net: Net, read: Read) -> None:
        self._net = net
        self._order = net.shape.order_of
        self._key_of = net.shape.key_of
        firsts = [self._order(piece.first_key) for piece in base]
        self._by_piece: dict[int, list[tuple[OrderKey, bytes]]] = {}
        for order, key in sorted((self._order(key), key) for key in net.cells):
            self._by_piece.setdefault(max(0, bisect_right(firsts, order) - 1), []).append((order, key))
        self.touched = sorted(self._by_piece)
        self._origins = self._read_origins(base, firsts, read)

    def _read_origins(self, base: Sequence[Piece], firsts: list[OrderKey], read: Read) -> dict[bytes, bytes]:
        """Base rows whose values went on under another key."""
        wanted: dict[int, set[bytes]] = {}
        for key, cell in self._net.cells.items():
            if isinstance(cell, Patch) and cell.origin != key:
                place = max(0, bisect_right(firsts, self._order(cell.origin)) - 1)
                wanted.setdefault(place, set()).add(cell.origin)
        found: dict[bytes, bytes] = {}
        for number in sorted(wanted) if base else ():
            for row in rows_of(next(read([base[number]]))):
                key = self._key_of(row)
                if key in wanted[number]:
                    found[key] = row
        return found

    def rows(self, number: int, before: list[bytes]) -> list[bytes]:
        """The rows of one piece after the changes that fall on it."""
        changes = self._by_piece.get(number, [])
        cells, held = self._net.cells, self._net.held
        mine = {key for _, key in changes}
        fresh = [(order, key) for order, key in changes if not held.get(key, False)]
        result: list[bytes] = []
        seen = 0
        ahead = iter(fresh)
        due = next(ahead, None)
        for row in before:
            key = self._key_of(row)
            if due is not None:
                order = self._order(key)
                while due is not None and due[0] < order:
                    self._insert(due[1], result)
                    due = next(ahead, None)
            if key not in mine:
                result.append(row)
                continue
            if not held.get(key, False):
                raise self._mismatch("adds a row that is there already")
            seen += 1
            cell = cells[key]
            if cell is not None:
                result.append(cell if isinstance(cell, bytes) else self._patched(cell, key, row))
        while due is not None:
            self._insert(due[1], result)
            due = next(ahead, None)
        if seen != len(changes) - len(fresh):
            raise self._mismatch("changes or takes away a row that is not there")
        return result

    def _insert(self, key: bytes, result: list[bytes]) -> None:
        cell = self._net.cells[key]
        if cell is not None:
            result.append(cell if isinstance(cell, bytes) else self._patched(cell, key, None))

    def _patched(self, cell: Patch, key: bytes, row: bytes | None) -> bytes:
        base = row if cell.origin == key else self._origins.get(cell.origin)
        if base is None:
            raise self._mismatch("needs a value of a row that is not there")
        return cell.over(base)

    def finish(self) -> None:
        """Every piece has said what was missing."""

    def _mismatch(self, why: str) -> MismatchError:
        return MismatchError(f"the log of table {self._net.name} {why}", hint=MISMATCH_HINT)


class _Counted:
    """Adds and takes away rows of a table without a key. Equal rows may lie in several pieces."""

    def __init__(self, base: Sequence[Piece], net: Net) -> None:
        self._net = net
        self._order = net.shape.order_of
        self._left = {row: count for row, count in net.counts.items() if count}
        firsts = [self._order(piece.first_key) for piece in base]
        self._added: dict[int, list[tuple[OrderKey, bytes]]] = {}
        touched = set()
        for row, count in self._left.items():
            order = self._order(row)
            last = max(0, bisect_right(firsts, order) - 1)
            if count > 0:
                self._added.setdefault(last, []).append((order, row))
                touched.add(last)
            else:
                touched.update(range(max(0, bisect_left(firsts, order) - 1), last + 1))
        self.touched = sorted(touched)

    def rows(self, number: int, before: list[bytes]) -> list[bytes]:
        added = sorted(self._added.get(number, []))
        result: list[bytes] = []
        place = 0
        for row in before:
            if place < len(added):
                order = self._order(row)
                while place < len(added) and added[place][0] <= order:
                    result += self._copies(added[place][1])
                    place += 1
            if self._left.get(row, 0) < 0:
                self._left[row] += 1
            else:
                result.append(row)
        for _, row in added[place:]:
            result += self._copies(row)
        return result

    def _copies(self, row: bytes) -> list[bytes]:
        return [row] * self._left.pop(row)

    def finish(self) -> None:
        if any(self._left.values()):
            raise MismatchError(
                f"the log of table {self._net.name} takes away a row that is not there", hint=MISMATCH_HINT
            )


def _resolve_waiting(base: Sequence[Piece], net: Net, read: Read) -> None:
    """Find the keys of the rows that changes name by another index: one pass over the run."""
    if not net.waiting:
        return
    identity_of = net.identity_of()
    wanted = set(net.identities())
    found: dict[bytes, bytes] = {}
    if identity_of is not None and wanted:
        for block in read(base):
            for row in rows_of(block):
                identity = identity_of(row)
                if identity in wanted:
                    found[identity] = net.shape.key_of(row)
    net.resolve_waiting(found)


def rows_of(block: bytes) -> list[bytes]:
    """The rows of a block, without newlines."""
    return block.split(b"\n")[:-1]
