"""A damage as changes that are to be taken back: each row as it was just before, and as the damage left it.

Without a choice of transactions it is what a damage report counts: rows deleted, hard or soft. With one it is all that
those transactions deleted or changed. Rows that they inserted stay: there is nothing to put back. A row that somebody
else changed between two of the transactions is in conflict, as one is that was changed after them: `--prefer vault`
makes it as it was before the first, `--prefer live` what that somebody had made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from heapq import merge

from outlast.core.errors import Refused
from outlast.core.row import OrderKey
from outlast.core.soft_delete import NOT_DELETED, SOFT_DELETE_COLUMNS
from outlast.core.table import TableName
from outlast.core.tenant import ALL
from outlast.restore.cuts import Between, Cut, around, cuts
from outlast.restore.damage import DamageReport, DamagingTransaction, is_transaction
from outlast.restore.difference import Layout, Pair, Piece, pairs, regions, rows_of
from outlast.restore.reversal import Reversal, ReversedTable, Straddled, Taken
from outlast.vault.overlay import Piece as StoredPiece
from outlast.vault.reader import TenantEntry

_Moved = tuple[OrderKey, int, Pair]


def damage_reversal(found: DamageReport, entry: TenantEntry, *, whole: bool) -> Reversal:
    """What a damage did to one tenant. `whole`: all that its transactions changed, and not only what they deleted.

    Raises Refused where the log cannot tell.
    """
    places = cuts(_damaging(found, entry.prefix))
    states = [around(found, entry, place) for place in places]
    names = {name for one in states for name in one.before.tables}
    tables = {}
    rows = 0
    for name in sorted(names):
        table = _Table(name, states, whole=whole)
        if table.differs:
            rows += table.rows
            tables[name] = table.reversed()
    return Reversal(entry.tenant, "the damage", tables, rows, (*_notes(places), *_unseen(found)))


def only(found: DamageReport, transactions: Sequence[int]) -> DamageReport:
    """The part of a report that some transactions did, given by their numbers or the last 32 bits of them."""
    wanted = {one.end for one in found.transactions if any(is_transaction(one.xid, xid) for xid in transactions)}
    by_tenant = {
        prefix: kept
        for prefix, several in found.by_tenant.items()
        if (kept := tuple(one for one in several if one.end in wanted))
    }
    return replace(
        found,
        tenants=tuple(one for one in found.tenants if one.prefix in by_tenant),
        transactions=tuple(one for one in found.transactions if one.end in wanted),
        by_tenant=by_tenant,
    )


def _damaging(found: DamageReport, prefix: str) -> tuple[DamagingTransaction, ...]:
    """The transactions that took something from the tenant; those that emptied a table for everybody as well."""
    everybody = next((one.prefix for one in found.tenants if one.tenant.key == ALL), "")
    known = {one.end: one for folder in (prefix, everybody) for one in found.by_tenant.get(folder, ())}
    return tuple(one for _, one in sorted(known.items()))


def _notes(places: Sequence[Cut]) -> tuple[str, ...]:
    return tuple(
        f"{place.transactions} damaging transactions between {place.before} and {place.after} are taken together: what"
        " others changed in between is taken back with them"
        for place in places
        if place.transactions > 1
    )


def _unseen(found: DamageReport) -> tuple[str, ...]:
    """What this cannot put back, because the log does not know what it was."""
    return tuple(f"{gap}: compare with outlast diff TENANT --at {found.begin} --to live" for gap in found.gaps) + tuple(
        f"table {name} is followed for inserts alone: this puts back no row that was deleted there;"
        f" restore --at {found.begin} --table {name} does"
        for name in found.unseen
    )


@dataclass(frozen=True, slots=True)
class _Table:
    name: TableName
    between: Sequence[Between]
    whole: bool

    @property
    def differs(self) -> bool:
        around = [one.pieces(self.name) for one in self.between]
        return any(_digests(ours) != _digests(theirs) for ours, theirs in around)

    @property
    def rows(self) -> int:
        """At most so many changes, for judging how large this is."""
        return sum(piece.rows for one in self.between for piece in one.pieces(self.name)[0])

    def reversed(self) -> ReversedTable:
        states = [state for one in self.between for state in (one.before, one.after) if state is not None]
        shapes = {state.tables[self.name].shape for state in states if self.name in state.tables}
        if len(shapes) > 1:
            raise Refused(
                f"cannot say what the damage did to {self.name}: its columns changed in that time",
                hint="Take the time before and after that apart (--until), or one transaction by itself.",
                code="columns-changed",
            )
        (shape,) = shapes
        layout = Layout(shape.names, shape.key, shape.key_kinds)
        kinds = tuple(kind for _, kind in shape.columns)
        return ReversedTable(self.name, layout, kinds, lambda: self._changes(layout))

    def _changes(self, layout: Layout) -> Iterator[Taken]:
        """By key, the first state before and the last one after; in between they have to meet."""
        wanted = self._wanted(layout)
        streams = [self._ranked(one, rank, layout, wanted) for rank, one in enumerate(self.between)]
        merged = merge(*streams, key=lambda one: one[:2])
        if not layout.key:
            yield from (pair for _, _, pair in merged)
            return
        current: tuple[OrderKey, Taken] | None = None
        for place, _, pair in merged:
            if current is not None and current[0] == place:
                current = place, _joined(current[1], pair)
                continue
            if current is not None:
                yield current[1]
            current = place, pair
        if current is not None:
            yield current[1]

    def _wanted(self, layout: Layout) -> Callable[[Pair], bool]:
        markers = [number for number, name in enumerate(layout.columns) if name in SOFT_DELETE_COLUMNS]

        def soft(was: bytes, became: bytes) -> bool:
            old, new = was.split(b"\t"), became.split(b"\t")
            return any(old[one] in NOT_DELETED and new[one] not in NOT_DELETED for one in markers)

        def wanted(pair: Pair) -> bool:
            was, became = pair
            if was is None or was == became:
                return False
            return became is None or self.whole or soft(was, became)

        return wanted

    def _ranked(self, between: Between, rank: int, layout: Layout, wanted: Callable[[Pair], bool]) -> Iterator[_Moved]:
        key, order = layout.key_of, layout.order_of
        for pair in self._pairs(between, layout):
            if wanted(pair):
                assert pair[0] is not None
                yield order(key(pair[0])), rank, pair

    def _pairs(self, between: Between, layout: Layout) -> Iterator[Pair]:
        ours, theirs = between.pieces(self.name)
        for region in regions(_digests(ours), _digests(theirs), keyed=bool(layout.key)):
            if region.equal:
                continue
            left = between.before.shelf.read(self.name, [ours[number] for number in region.before])
            kept = [theirs[number] for number in region.after]
            right = between.after.shelf.read(self.name, kept) if between.after is not None and kept else iter(())
            yield from pairs(rows_of(left), rows_of(right), layout)


def _joined(earlier: Taken, later: Pair) -> Taken:
    """Two changes of one row as one. Between them somebody may have changed it; as it was at first is no change."""
    first, left = earlier[:2]
    was, became = later
    if was == left and isinstance(earlier, Straddled):
        return Straddled(first, became, earlier.theirs)
    return (first, became) if was in (left, first) else Straddled(first, became, was)


def _digests(pieces: Sequence[StoredPiece]) -> list[Piece]:
    return [Piece(piece.digest, piece.rows) for piece in pieces]
