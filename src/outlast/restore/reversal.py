"""Changes that are to be taken back, row by row: those of an applied plan, or of the transactions that did a damage.

A row that is still what the change left becomes again what it was before. A row that was changed once more since is in
conflict: `--prefer` says whose it is to be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from outlast.core.recipe import Prefer
from outlast.core.table import TableName
from outlast.core.tenant import Tenant
from outlast.restore.changes import Part, blocks_of
from outlast.restore.difference import Layout, Pair, rows_of
from outlast.restore.live import LiveRun, layout_of


class Straddled(NamedTuple):
    """Two changes of one row with another's change between them: `theirs` is what that one had made of it.

    Which is right, the row before the first or `theirs`, is for a person to say: `--prefer`.
    """

    was: bytes | None
    became: bytes | None
    theirs: bytes | None


Taken = Pair | Straddled
"""One row before and after what is to be taken back."""


@dataclass(frozen=True, slots=True)
class ReversedTable:
    """One table's changes. `changes()` gives each row before and after, by key, in order; never both None.

    `Straddled` ones come only where there is a key.
    """

    name: TableName
    layout: Layout
    types: tuple[str, ...]
    changes: Callable[[], Iterator[Taken]]


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

    def _settled(self, row: bytes | None, change: Taken, key: Callable[[bytes], bytes]) -> bytes | None:
        was, became = change[:2]
        if row == was:
            return row
        if row == became and not isinstance(change, Straddled):
            return was
        if self.prefer is None:
            self.overtaken.append(key(_either(change)))
        if self.prefer is Prefer.VAULT:
            return was
        # What they had last; where they changed it after the second change as well, that stays
        return change.theirs if isinstance(change, Straddled) and self.prefer and row == became else row

    def _whole_rows(self, layout: Layout) -> Iterator[Pair]:
        """Without a key rows are counted: as many of each content go as came, and come back as went."""
        delta: dict[bytes, int] = defaultdict(int)
        for was, became, *_ in self.reversed.changes():
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


def _either(change: Taken) -> bytes:
    row = change[0] if change[0] is not None else change[1]
    assert row is not None
    return row
