"""Changes that are to be taken back, row by row: those of an applied plan, or of the transactions that did a damage.

A row that is still what the change left becomes again what it was before. A row that was changed once more since is in
conflict: `--prefer` says whose it is to be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from outlast.core.recipe import Prefer
from outlast.core.table import TableName
from outlast.core.tenant import Tenant
from outlast.restore.changes import Part, blocks_of
from outlast.restore.difference import Layout, Pair, rows_of
from outlast.restore.live import LiveRun, layout_of

OVERTAKEN = b"\0"
"""In place of the row that a change left: somebody else has changed it since. No row is this."""


@dataclass(frozen=True, slots=True)
class ReversedTable:
    """One table's changes. `changes()` gives each row before and after, by key, in order; never both None."""

    name: TableName
    layout: Layout
    types: tuple[str, ...]
    changes: Callable[[], Iterator[Pair]]


@dataclass(frozen=True, slots=True)
class Reversal:
    """All that is to be taken back of one tenant. `what` says of what, for people: `plan 0abc`.

    `rows` is how many changes there are, or a few more: for judging how large this is.
    """

    tenant: Tenant
    what: str
    tables: Mapping[TableName, ReversedTable]
    rows: int = 0
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class ReversalWish:
    """What taking back wants of one table. `overtaken` has the keys of rows in conflict, once `parts` has ended."""

    reversed: ReversedTable
    live: LiveRun
    live_rows: Callable[[], Iterator[bytes]]
    prefer: Prefer | None = None
    overtaken: list[bytes] = field(default_factory=list)

    @property
    def root(self) -> str | None:
        return None

    def parts(self) -> Iterator[Part]:
        self.overtaken.clear()
        layout = layout_of(self.live.table)
        if not layout.key:
            yield from blocks_of(self._whole_rows(layout))
        else:
            yield from blocks_of(self._keyed(layout))

    def _keyed(self, layout: Layout) -> Iterator[Pair]:
        key, order = layout.key_of, layout.order_of
        changes = self.reversed.changes()
        change = next(changes, None)
        for row in rows_of(self.live_rows()):
            place = order(key(row))
            while change is not None and order(key(_either(change))) < place:
                yield None, self._settled(None, change, key)
                change = next(changes, None)
            if change is not None and order(key(_either(change))) == place:
                yield row, self._settled(row, change, key)
                change = next(changes, None)
            else:
                yield row, row
        while change is not None:
            yield None, self._settled(None, change, key)
            change = next(changes, None)

    def _settled(self, row: bytes | None, change: Pair, key: Callable[[bytes], bytes]) -> bytes | None:
        was, became = change
        if row == became:
            return was
        if row == was:
            return row
        if self.prefer is None:
            self.overtaken.append(key(_either(change)))
        return was if self.prefer is Prefer.VAULT else row

    def _whole_rows(self, layout: Layout) -> Iterator[Pair]:
        """Without a key rows are counted: as many of each content go as came, and come back as went."""
        delta: dict[bytes, int] = defaultdict(int)
        for was, became in self.reversed.changes():
            if became is not None:
                delta[became] -= 1
            if was is not None:
                delta[was] += 1
        order, key = layout.order_of, layout.key_of
        coming = iter(sorted((row for row, count in delta.items() if count > 0), key=lambda row: order(key(row))))
        following = next(coming, None)
        for row in rows_of(self.live_rows()):
            while following is not None and order(key(following)) <= order(key(row)):
                yield from [(None, following)] * delta[following]
                following = next(coming, None)
            if delta.get(row, 0) < 0:
                delta[row] += 1
                yield row, None
            else:
                yield row, row
        while following is not None:
            yield from [(None, following)] * delta[following]
            following = next(coming, None)
        if self.prefer is None:
            self.overtaken += [row for row, count in delta.items() if count < 0]


def _either(pair: Pair) -> bytes:
    row = pair[0] if pair[0] is not None else pair[1]
    assert row is not None
    return row
