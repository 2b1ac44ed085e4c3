"""Where a damage is looked at: a tenant's state just before the transactions that did it, and just after them.

So each row is seen as it was last, whatever its tenant did until then, and a key that the log does not carry (under
another identity, or after TRUNCATE) is not needed. What is made of the two states is damage_reversal.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from outlast.core.effect import Operation
from outlast.core.errors import Refused
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.core.tenant import TenantKey
from outlast.restore.damage import DamageReport, DamagingTransaction
from outlast.vault.overlay import Piece
from outlast.vault.reader import TenantEntry
from outlast.vault.timeline import State

CUTS_MAX = 16
"""So many damaging transactions of one tenant are looked at one by one; of more, neighbours are taken together."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Just before a transaction that deleted, and just after it (or after the last of several)."""

    before: Lsn
    after: Lsn
    several: tuple[DamagingTransaction, ...]

    @property
    def transactions(self) -> int:
        return len(self.several)

    def emptied(self, tenant: TenantKey) -> frozenset[TableName] | None:
        """The tables that it truncated, if it deleted nothing of the tenant's elsewhere."""
        kinds = [(key, table, operation) for one in self.several for key, table, operation in one.hard.counts]
        if any(operation is Operation.HARD_DELETE and key == tenant for key, _, operation in kinds):
            return None
        return frozenset(TableName.parse(table) for _, table, operation in kinds if operation is Operation.TRUNCATE)


def cuts(transactions: Sequence[DamagingTransaction], most: int = CUTS_MAX) -> tuple[Cut, ...]:
    """The largest ones by themselves, and the others between them together."""
    alone = {one.end for one in sorted(transactions, key=lambda one: -one.hard.rows)[: max(1, most // 2)]}
    if len(transactions) <= most:
        alone = {one.end for one in transactions}
    made: list[Cut] = []
    for single, group in groupby(transactions, key=lambda one: one.end if one.end in alone else None):
        several = list(group)
        assert single is None or len(several) == 1
        made.append(Cut(several[0].lsn, several[-1].end, tuple(several)))
    return tuple(made)


@dataclass(frozen=True, slots=True)
class Between:
    """The states around a deletion. `after` is None where the log cannot give it, since `emptied` were truncated."""

    before: State
    after: State | None
    emptied: frozenset[TableName] = frozenset()

    def pieces(self, name: TableName) -> tuple[list[Piece], list[Piece]]:
        before = self.before.tables.get(name)
        ours = [] if before is None else before.pieces
        if self.after is None:
            return ours, [] if name in self.emptied else ours
        after = self.after.tables.get(name)
        return ours, [] if after is None else after.pieces


def around(found: DamageReport, entry: TenantEntry, place: Cut) -> Between:
    """Read both states. Raises Refused where the log cannot give them, but for tables that were just truncated."""
    timeline, epoch = found.since.timeline, found.epoch
    before = timeline.state(entry, epoch, place.before)
    try:
        return Between(before, timeline.state(entry, epoch, place.after))
    except Refused:
        emptied = place.emptied(entry.tenant.key)
        if not emptied:
            raise
        return Between(before, None, emptied)
