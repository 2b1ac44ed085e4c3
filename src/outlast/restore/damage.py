"""A damage report: who lost what between two moments, by tenant, table, operation and transaction, from the log alone.

Read are the segments' summaries, and a tenant's own frames only where samples of keys are asked for. What counts as
damage are rows deleted, truncated or moved to another tenant; soft deletion is told apart, since those rows are there.
Where the log does not reach from one moment to the other the report is refused: half of the truth looks like all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from outlast.core.change import OP_DELETE, key_in
from outlast.core.effect import SAMPLES_MAX, Count, Effect, Operation, merge
from outlast.core.entries import Begin, LoggedChange
from outlast.core.errors import NotFoundError, Refused
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.core.tenant import ALL, Tenant, TenantKey
from outlast.restore.difference import shown_key
from outlast.restore.moments import At
from outlast.vault.epochs import Base, Epoch
from outlast.vault.keys import prefix_of
from outlast.vault.reader import Vault
from outlast.vault.segment import Effects, TransactionSummary

HARD = frozenset({Operation.HARD_DELETE, Operation.TRUNCATE, Operation.MOVE})
DROPPED = "the table was dropped"
"""The reason that follow gives a gap where a table is gone (capture/schema_watch.py)."""

_XID_BITS = 32
_WHOLE, _KEY = b"OK"


@dataclass(frozen=True, slots=True)
class DamagedTenant:
    """What one tenant lost. `@all` is TRUNCATE: every tenant that had rows in the table; those are not counted."""

    tenant: Tenant
    prefix: str
    hard: Effect
    soft: Effect


@dataclass(frozen=True, slots=True)
class DamagingTransaction:
    """One transaction, over all tenants that it touched. `lsn` is that of its commit."""

    xid: int
    lsn: Lsn
    end: Lsn
    time: datetime
    hard: Effect
    soft: Effect


@dataclass(frozen=True)
class DamageReport:
    """`tenants` and `transactions` that lost something: tenants largest first, transactions in the log's order.

    `dropped` are tables with the transaction that dropped them; `gaps` is what the log could not see. `unseen` are
    tables that are followed for inserts alone: what was deleted there is in no log.
    """

    since: At
    epoch: Epoch
    begin: Lsn
    end: Lsn
    tenants: tuple[DamagedTenant, ...]
    transactions: tuple[DamagingTransaction, ...]
    dropped: tuple[tuple[str, int], ...] = ()
    gaps: tuple[str, ...] = ()
    by_tenant: Mapping[str, tuple[DamagingTransaction, ...]] = field(default_factory=dict)
    unseen: tuple[TableName, ...] = ()

    @cached_property
    def hard(self) -> Effect:
        return merge(one.hard for one in self.tenants)

    @cached_property
    def soft(self) -> Effect:
        return merge(one.soft for one in self.tenants)

    @property
    def found(self) -> bool:
        return bool(self.hard or self.soft or self.dropped)


def report(
    vault: Vault, source: str, since: At, until: At | None = None, *, prefix: str | None = None, xid: int | None = None
) -> DamageReport:
    """What was lost after `since`, up to `until` (None: to the log's end). `prefix`: of one tenant; `xid`: by one
    transaction, whose number may be given by its last 32 bits. Raises Refused where the log has not all of it."""
    return _Reading(vault, source, since, until).report(prefix, xid)


class _Reading:
    def __init__(self, vault: Vault, source: str, since: At, until: At | None) -> None:
        self._vault, self._source, self._since = vault, source, since
        self._epochs = since.timeline.epochs
        self._epoch, self._begin, self._end = self._span(until)
        self._base: Base | None = None
        if since.position is None:  # a run's snapshot and its position are not the same point
            self._base = self._epochs.base(self._epoch, since.run.run)

    def _span(self, until: At | None) -> tuple[Epoch, Lsn, Lsn]:
        begin = _position(self._since)
        epochs = self._epochs.all
        epoch = self._since.epoch or self._epochs.holding(begin)
        if epoch is None:
            raise self._uncovered(begin)
        if until is None:
            newest = epochs[-1]
            if newest is not epoch:
                raise self._broken(epoch, newest)
            if begin >= epoch.position and self._since.moment.time >= epoch.as_of:
                raise self._behind(epoch)
            return epoch, begin, epoch.position
        end = _position(until)
        if end < begin:
            raise Refused(f"the damage would end at {end}, before it begins at {begin}", code="empty-span")
        if not epoch.holds(end):
            raise self._broken(epoch, next((one for one in epochs if one.holds(end)), epochs[-1]))
        return epoch, begin, end

    def _behind(self, epoch: Epoch) -> Refused:
        return Refused(
            f"nothing is known of the time after {epoch.as_of:%Y-%m-%d %H:%M:%S} UTC: the log ends there",
            hint="Look whether `outlast follow` runs, then ask again; it writes every few seconds.",
            code="log-behind",
        )

    def _uncovered(self, begin: Lsn) -> Refused:
        epochs = self._epochs.all
        if not epochs:
            return Refused(
                f"the vault has no log of {self._source!r}: only backups, which do not say who lost what when",
                hint="Compare with a backup: outlast diff TENANT --at run:N. To have one: outlast follow --setup",
                code="no-log",
            )
        later = next((one for one in epochs if one.start > begin), None)
        if later is None:
            return Refused(f"the log does not reach {begin} yet: it ends at {epochs[-1].position}", code="log-gap")
        return Refused(
            f"the log does not cover the time since {begin}: there is none between that and {later.start}",
            hint=f"The nearest moment that it covers: --since {later.start}",
            code="log-gap",
        )

    def _broken(self, epoch: Epoch, later: Epoch) -> Refused:
        return Refused(
            f"the log does not cover the whole time: it breaks off at {epoch.position} "
            f"({epoch.as_of:%Y-%m-%d %H:%M:%S} UTC) and begins anew at {later.start}",
            hint=f"Look at each part: --until {epoch.position}, and then --since {later.start}",
            code="log-gap",
        )

    def report(self, prefix: str | None, xid: int | None) -> DamageReport:
        names = self._names()
        tenants: dict[str, list[Effect]] = {}
        found: list[DamagingTransaction] = []
        by_tenant: dict[str, list[DamagingTransaction]] = {}
        known = False
        for one in self._transactions():
            if xid is not None and not is_transaction(one.xid, xid):
                continue
            known = True
            effects = {
                folder: _effect(names.get(folder, Tenant(TenantKey(folder))).key, one.effect[folder])
                for folder in one.effect
                if prefix is None or folder == prefix
            }
            damage = merge(effects.values())
            if not damage:
                continue
            told = DamagingTransaction(one.xid, one.commit, one.end, one.time, _part(damage, HARD), _soft(damage))
            found.append(told)
            for folder, effect in effects.items():
                if effect:
                    tenants.setdefault(folder, []).append(effect)
                    by_tenant.setdefault(folder, []).append(told)
        if xid is not None and not known:
            raise NotFoundError(
                f"the log has no transaction {xid} in that time",
                hint="Look without --transaction, or further back with --since.",
                code="unknown-transaction",
            )
        damaged = [self._damaged(folder, names, merge(effects)) for folder, effects in tenants.items()]
        return DamageReport(
            self._since,
            self._epoch,
            self._begin,
            self._end,
            tuple(sorted(damaged, key=lambda one: (-one.hard.rows, -one.soft.rows, one.tenant.key))),
            tuple(found),
            tuple(self._dropped(xid)) if prefix is None else (),
            tuple(self._gaps(prefix)),
            {folder: tuple(transactions) for folder, transactions in by_tenant.items()},
            unseen=self._unseen(),
        )

    def _damaged(self, prefix: str, names: Mapping[str, Tenant], effect: Effect) -> DamagedTenant:
        tenant = names.get(prefix, Tenant(TenantKey(prefix)))
        return DamagedTenant(tenant, prefix, _part(effect, HARD), _soft(effect))

    def _names(self) -> dict[str, Tenant]:
        names = dict(self._vault.directory(self._source, self._since.run.run))
        names |= self._since.timeline.tenants(self._epoch, self._end)
        names[prefix_of(self._vault.naming(), self._source, ALL)] = Tenant(ALL, "every tenant")
        return names

    def _transactions(self) -> Iterator[TransactionSummary]:
        """The whole transactions of the span, those written in parts put together."""
        parts: dict[int, dict[str, dict[str, dict[str, int]]]] = {}
        for header in self._epoch.headers:
            if header.start >= self._end:
                return
            if header.position <= self._begin and not header.parts:
                continue
            for one in self._epochs.details(header).transactions:
                if self._epoch.valid_from.get(one.commit.value, 0) > header.segment:
                    continue  # a try that was given up: it was sent again as a whole
                effect = _added(parts.pop(one.commit.value, {}) if one.part else {}, one.effect)
                if not one.last:
                    parts[one.commit.value] = effect
                elif self._begin < one.end <= self._end and not (self._base and self._base.has(one.xid, one.end)):
                    yield TransactionSummary(one.xid, one.commit, one.end, one.time, effect=effect)

    def _dropped(self, xid: int | None) -> Iterator[tuple[str, int]]:
        for details in self._epochs.notable(self._epoch, self._end):
            for change in details.schema:
                inside = self._begin < change.end <= self._end
                if (
                    inside
                    and not change.columns
                    and change.renamed is None
                    and (xid is None or is_transaction(change.xid, xid))
                ):
                    yield str(change.table), change.xid
            for gap in details.gaps:
                inside = self._begin < gap.since <= self._end
                if inside and gap.reason == DROPPED and (xid is None or is_transaction(gap.xid or 0, xid)):
                    yield str(gap.table), gap.xid or 0

    def _unseen(self) -> tuple[TableName, ...]:
        partial = [self._epochs.partial(self._epoch, at) for at in (self._begin, self._end)]
        return tuple(sorted(partial[0] | partial[1]))

    def _gaps(self, prefix: str | None) -> Iterator[str]:
        for details in self._epochs.notable(self._epoch, self._end):
            for gap in details.gaps:
                mine = prefix is None or gap.prefixes is None or prefix in gap.prefixes
                if self._begin < gap.since <= self._end and gap.reason != DROPPED and mine:
                    where = f" of {gap.table}" if gap.table else ""
                    yield f"what was lost{where} at {gap.since} is not in the log: {gap.reason}"


def samples(found: DamageReport, vault: Vault, source: str, damaged: DamagedTenant) -> Effect:
    """A tenant's hard damage with keys of rows that were deleted, out of its own frames (at most SAMPLES_MAX each)."""
    timeline = found.since.timeline
    keys: dict[str, list[str]] = {}
    wanted = {one.end for one in found.by_tenant.get(damaged.prefix, ())}
    base = timeline.epochs.base_of(found.epoch, damaged.prefix, found.begin)
    entry = timeline.entry(damaged.prefix, found.epoch, base, found.end)
    for header in found.epoch.headers:
        if header.start >= found.end or header.position <= found.begin:
            continue
        inside = False
        for one in timeline.entries_of(entry, found.epoch, header):
            if isinstance(one, Begin):
                inside = one.end in wanted
            elif inside and isinstance(one, LoggedChange) and one.operation == OP_DELETE:
                told = keys.setdefault(str(one.table.name), [])
                if len(told) < SAMPLES_MAX and (key := _deleted_key(one)) is not None:
                    told.append(key)
    return Effect(
        {
            place: Count(
                number.rows, samples=tuple(keys.get(place[1], ())) if place[2] is Operation.HARD_DELETE else ()
            )
            for place, number in damaged.hard.counts.items()
        }
    )


def _deleted_key(change: LoggedChange) -> str | None:
    """The key of a row that is gone, where the log has it: not under another identity than the key."""
    table, old = change.table, change.old
    if (
        old is None
        or not table.key
        or not (old[0] == _WHOLE or set(table.key_positions) <= set(table.identity_columns))
    ):
        return None
    return shown_key(key_in(old[1:], table.key_positions))


def _position(at: At) -> Lsn:
    return at.moment.high if at.position is None else at.position


def is_transaction(xid: int, wanted: int) -> bool:
    """Whether a number, whole or its last 32 bits, means that transaction."""
    return xid == wanted or (wanted >> _XID_BITS == 0 and xid & ((1 << _XID_BITS) - 1) == wanted)


def _added(before: dict[str, dict[str, dict[str, int]]], more: Effects) -> dict[str, dict[str, dict[str, int]]]:
    for folder, tables in more.items():
        for table, operations in tables.items():
            ours = before.setdefault(folder, {}).setdefault(table, {})
            for operation, rows in operations.items():
                ours[operation] = ours.get(operation, 0) + rows
    return before


def _effect(tenant: TenantKey, tables: Mapping[str, Mapping[str, int]]) -> Effect:
    """What of a transaction's effect on a tenant is damage, hard or soft."""
    counts = {}
    for table, operations in tables.items():
        for word, rows in operations.items():
            operation = Operation(word)
            if rows and (operation in HARD or operation is Operation.SOFT_DELETE):
                counts[tenant, table, operation] = Count(rows)
    return Effect(counts)


def _part(effect: Effect, operations: frozenset[Operation]) -> Effect:
    return Effect({place: number for place, number in effect.counts.items() if place[2] in operations})


def _soft(effect: Effect) -> Effect:
    return _part(effect, frozenset({Operation.SOFT_DELETE}))
