"""The difference between two states of one table of one tenant, and the effect it amounts to.

Pure: it is given chunks and rows, and knows neither a vault nor a server. Whole chunks are told apart by their hashes
first; rows are looked at only where chunks differ, and split into columns only where rows do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from outlast.core.effect import SAMPLES_MAX, Count, Effect, Operation
from outlast.core.row import KeyKind, OrderKey, fields, key_of, order_of, unescape
from outlast.core.soft_delete import NOT_DELETED, SOFT_DELETE_COLUMNS
from outlast.core.tenant import TenantKey

Pair = tuple[bytes | None, bytes | None]
"""One row before and after, without newlines; None where there is none. Never both None."""


@dataclass(frozen=True, slots=True)
class Piece:
    """What is known of a chunk without its rows."""

    digest: bytes
    rows: int


@dataclass(frozen=True, slots=True)
class Region:
    """A run of chunks before, and the run after that covers the same range of keys. `equal`: they are the same."""

    before: range
    after: range
    equal: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """What a row's fields are: the columns by name, and which of them make up the key, ordered how."""

    columns: tuple[str, ...]
    key: tuple[str, ...]
    key_kinds: tuple[KeyKind, ...]

    @property
    def key_of(self) -> Callable[[bytes], bytes]:
        return key_of(tuple(self.columns.index(name) for name in self.key))

    @property
    def order_of(self) -> Callable[[bytes], OrderKey]:
        # Without a key the sweep orders by every column, each by the bytes of its text
        return order_of(self.key_kinds if self.key else (KeyKind.TEXT,) * len(self.columns))


def regions(before: Sequence[Piece], after: Sequence[Piece], *, keyed: bool = True) -> Iterator[Region]:
    """Cut two runs of chunks into regions that are equal and regions that may differ, in order.

    Keys only ascend, so an equal chunk on both sides covers the same range of keys, and what lies between two equal
    chunks has to be compared with what lies between their twins, and with nothing else. Without a key that does not
    hold (a run of identical rows can be cut anywhere): only what the two begin and end with is then taken as equal.
    """
    matched = _matched(before, after) if keyed else _matched_ends(before, after)
    return _between(matched, len(before), len(after))


def _matched(before: Sequence[Piece], after: Sequence[Piece]) -> list[tuple[int, int]]:
    places = {piece.digest: number for number, piece in enumerate(after)}
    matched: list[tuple[int, int]] = []
    reached = 0
    for number, piece in enumerate(before):
        place = places.get(piece.digest)
        if place is not None and place >= reached:
            matched.append((number, place))
            reached = place + 1
    return matched


def _matched_ends(before: Sequence[Piece], after: Sequence[Piece]) -> list[tuple[int, int]]:
    shorter = min(len(before), len(after))
    head = next((n for n in range(shorter) if before[n] != after[n]), shorter)
    tail = next((n for n in range(shorter - head) if before[-1 - n] != after[-1 - n]), shorter - head)
    return [(n, n) for n in range(head)] + [(len(before) - n, len(after) - n) for n in range(tail, 0, -1)]


def _between(matched: list[tuple[int, int]], before_end: int, after_end: int) -> Iterator[Region]:
    before_start = after_start = 0
    for ours, theirs in [*matched, (before_end, after_end)]:
        if ours > before_start or theirs > after_start:
            yield Region(range(before_start, ours), range(after_start, theirs), equal=False)
        if ours < before_end:
            yield Region(range(ours, ours + 1), range(theirs, theirs + 1), equal=True)
        before_start, after_start = ours + 1, theirs + 1


def rows_of(data: Iterable[bytes]) -> Iterator[bytes]:
    """The rows in blocks of whole lines, without their newlines."""
    return chain.from_iterable(block.split(b"\n")[:-1] for block in data)


def pairs(before: Iterable[bytes], after: Iterable[bytes], layout: Layout) -> Iterator[Pair]:
    """Merge two runs of rows in key order. Rows with the same key come as one pair.

    Without a key the whole row is one, and equal rows pair off one by one: a difference by counts.
    """
    key, order = layout.key_of, layout.order_of
    ours, theirs = iter(before), iter(after)
    mine, its = next(ours, None), next(theirs, None)
    while mine is not None and its is not None:
        if mine == its:
            yield mine, its
            mine, its = next(ours, None), next(theirs, None)
            continue
        my_order, its_order = order(key(mine)), order(key(its))
        if my_order == its_order:
            yield mine, its
            mine, its = next(ours, None), next(theirs, None)
        elif my_order < its_order:
            yield mine, None
            mine = next(ours, None)
        else:
            yield None, its
            its = next(theirs, None)
    for row in chain([] if mine is None else [mine], ours):
        yield row, None
    for row in chain([] if its is None else [its], theirs):
        yield None, row


class Tally:
    """Counts what pairs amount to, for one tenant and table."""

    def __init__(self, layout: Layout, soft_delete: frozenset[str] = SOFT_DELETE_COLUMNS) -> None:
        self._layout = layout
        self._key = layout.key_of
        self._markers = [number for number, name in enumerate(layout.columns) if name in soft_delete]
        self._rows: dict[Operation, int] = defaultdict(int)
        self._columns: set[str] = set()
        self._samples: dict[Operation, list[str]] = defaultdict(list)

    def add(self, before: bytes | None, after: bytes | None) -> None:
        if before == after:
            return
        if before is None:
            operation = Operation.INSERT
        elif after is None:
            operation = Operation.HARD_DELETE
        else:
            operation = self._updated(fields(before), fields(after))
        self._rows[operation] += 1
        samples = self._samples[operation]
        if len(samples) < SAMPLES_MAX:
            samples.append(self._sample(before if after is None else after))

    def add_unseen(self, operation: Operation, rows: int, samples: Iterable[str] = ()) -> None:
        """Count rows of which only the number is known: a table of which nothing exists on the other side."""
        if rows:
            self._rows[operation] += rows
            self._samples[operation] += list(samples)

    def _updated(self, before: list[bytes], after: list[bytes]) -> Operation:
        changed = {number for number, (old, new) in enumerate(zip(before, after, strict=True)) if old != new}
        if any(
            number in changed and before[number] in NOT_DELETED and after[number] not in NOT_DELETED
            for number in self._markers
        ):
            return Operation.SOFT_DELETE
        self._columns |= {self._layout.columns[number] for number in changed}
        return Operation.UPDATE

    def _sample(self, row: bytes | None) -> str:
        assert row is not None
        return "" if not self._layout.key else shown_key(self._key(row))

    def effect(self, tenant: TenantKey, table: str) -> Effect:
        return Effect(
            {
                (tenant, table, operation): Count(
                    rows,
                    frozenset(self._columns) if operation is Operation.UPDATE else frozenset(),
                    tuple(sample for sample in self._samples[operation][:SAMPLES_MAX] if sample),
                )
                for operation, rows in self._rows.items()
            }
        )


def shown_key(key: bytes) -> str:
    """A key, as it is cut out of a row, for people: its values joined by commas."""
    return ", ".join(unescape(field).decode("utf-8", "replace") for field in key.split(b"\t"))
