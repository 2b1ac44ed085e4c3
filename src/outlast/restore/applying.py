"""The one transaction that changes a tenant, or a group: keep the before-image, write, read back, commit if proven.

Everything runs on the snapshot that the plan was computed on: what holds is that snapshot + plan = planned root.
Commits of others that came since compose with it; a row that both touch makes the server refuse one of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from outlast.core.plan import TenantPlan
from outlast.core.table import Table, TableName
from outlast.core.tenant import TenantKey
from outlast.restore.live import roots_of
from outlast.restore.planning import Scope
from outlast.restore.sessions import Work
from outlast.restore.undo import TenantImages, UndoKeeper
from outlast.sources.postgres.write import Written, write_staged
from outlast.sources.postgres.write_counters import Counters, Surplus, read_counters, surplus
from outlast.sources.postgres.write_proof import differing_rows
from outlast.sources.postgres.write_sequences import raise_sequences
from outlast.sources.postgres.write_stage import DELETE


class NotExactError(Exception):
    """What was read back inside the transaction is not what was planned. `keys` are rows that differ, where known."""

    def __init__(self, table: TableName, keys: Sequence[str] = ()) -> None:
        super().__init__(str(table))
        self.table = table
        self.keys = tuple(keys)


class SurplusError(Exception):
    """The transaction's own row counters say that more was done than was planned. `firing` are the triggers at work."""

    def __init__(self, found: Sequence[Surplus], firing: Collection[str] = ()) -> None:
        super().__init__(", ".join(str(one) for one in found))
        self.found = tuple(found)
        self.firing = tuple(sorted(firing))


@dataclass(frozen=True, slots=True)
class Applied:
    """`kept` names the before-image's object; `notes` tell what triggers did besides."""

    kept: str | None
    notes: tuple[str, ...]


def apply_staged(
    work: Work,
    scope: Scope,
    plans: Sequence[TenantPlan],
    keeper: UndoKeeper | None = None,
    images: Sequence[TenantImages] = (),
) -> Applied:
    """Write the staged rows of all these tenants and commit, or raise: the caller's block then undoes it.

    Raises NotExactError, SurplusError, CountMismatchError, ReferenceGoneError, SwapRefusedError, an OutlastError of a
    read or of the vault, or psycopg's own error of a write.
    """
    kept = None
    if keeper is not None:
        catalog = scope.catalog
        # Before any row is locked: a slow store must not keep others waiting
        kept = keeper.write(images, work.number(), f"{catalog.system_identifier}/{catalog.database_oid}")
    work.number()
    before = read_counters(work.writer)
    written = write_staged(work.writer, scope.catalog, work.stage, scope.facts, [plan.tenant.key for plan in plans])
    raise_sequences(work.writer, scope.catalog, work.stage)
    _prove(work, scope, plans, written)
    notes = _witness(work, scope, before, written)
    work.commit()
    return Applied(kept, notes)


def _prove(work: Work, scope: Scope, plans: Sequence[TenantPlan], written: Written) -> None:
    """Each tenant reads back as planned, by the same query as a backup's."""
    staged = work.stage.counts.keys()
    # Where nothing fired, only the tables written can be other than they were on this very snapshot
    quiet = staged <= written.quiet and not any(scope.facts.firing(table, "iud", quiet=True) for table in staged)
    for table in scope.tables_of([plan.tenant.key for plan in plans]):
        if quiet and table.name not in staged:
            continue
        roots = _roots(work, scope, table, plans)
        if any(roots.get(plan.tenant.key, "") != plan.target.get(str(table.name), "") for plan in plans):
            raise NotExactError(table.name, differing_rows(work.writer, table, work.stage, scope.facts))


def _roots(work: Work, scope: Scope, table: Table, plans: Sequence[TenantPlan]) -> Mapping[TenantKey, str]:
    return dict(roots_of(work.writer, scope.catalog, table, [plan.tenant.key for plan in plans]))


def _witness(work: Work, scope: Scope, before: Counters | None, written: Written) -> tuple[str, ...]:
    """The server's own count of what this transaction did. Raises SurplusError where that is not what was planned."""
    after = read_counters(work.writer)
    if before is None or after is None:
        return ("the server does not count rows (track_counts is off): what triggers wrote elsewhere was not measured",)
    found = surplus(before, after, written.counts)
    kept = {table.name for table in (*scope.catalog.owned, *scope.catalog.shared)}
    # A row that came below a deleted one just now goes with it, unseen by this snapshot: that is nobody's trigger
    below = {
        key.table
        for key in scope.catalog.foreign_keys
        if key.on_delete in ("c", "n", "d") and work.stage.has(key.references, DELETE)
    }
    firing = {
        f"{table}.{trigger.name}"
        for table in work.stage.counts
        for trigger in scope.facts.triggers.get(table, ())
        if trigger.fires("iud", quiet=table in written.quiet)
    }
    accepted = bool(firing) and firing <= scope.facts.rules.accept

    def tolerated(one: Surplus) -> bool:
        if one.table in below:
            return False
        # A counter that a trigger keeps was read back as planned: it was only written more often than planned
        again = one.updated > 0 and not one.inserted and not one.deleted
        if one.table in written.counts:
            return accepted and again
        return accepted or one.table not in kept

    wrong = [one for one in found if not tolerated(one)]
    if wrong:
        raise SurplusError(wrong, firing)
    return tuple(f"triggers wrote besides: {one}" for one in found)
