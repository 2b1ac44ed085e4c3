"""Restores of many tenants: planned, written where asked to, tried again after a passing fault, and accounted for.

One tenant's failure stops no other. Doing it again is how a restore resumes: a tenant that is right needs nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Self, TypeVar

from outlast.core.effect import Effect
from outlast.core.errors import NotFoundError, OutlastError, Refused, TransientError, UsageError
from outlast.core.plan import Plan, TenantPlan, TenantState, shape_hash
from outlast.core.recipe import Recipe
from outlast.core.table import TableName
from outlast.core.tenant import Tenant, TenantKey
from outlast.restore.attempt import Attempt
from outlast.restore.groups import Groups
from outlast.restore.history import Past
from outlast.restore.reversal import Reversal
from outlast.restore.scope import Scope, check_keep
from outlast.restore.sessions import Sessions
from outlast.restore.shared_rows import SharedRows
from outlast.restore.undo import Place, UndoKeeper
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_facts import TriggerFact, TriggerRules, read_facts

T = TypeVar("T")

ATTEMPTS_MAX = 6
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class Subject:
    """One tenant to restore, and how to get at its stored state, which may fail (a missing key, corruption).

    `place` is where its before-image belongs; None only where none is kept.
    """

    tenant: Tenant
    past: Callable[[], Past | Reversal]
    place: Place | None = None


@dataclass(slots=True)
class Restorer:
    """Restores tenants into one database. `read_catalog` reads the live catalog through a session of ours.

    `keeper` puts before-images into the vault: without one (in tests) nothing can be undone. `shared` gives the stored
    state of the shared tables, for --with-shared. `errors` collects what ended single tenants, in order.
    """

    sessions: Sessions
    read_catalog: Callable[[Session], Catalog]
    recipe: Recipe = field(default_factory=Recipe)
    keeper: UndoKeeper | None = None
    rules: TriggerRules = field(default_factory=TriggerRules)
    shared: Callable[[], Past] | None = None
    pause: Callable[[float], None] = time.sleep
    on_tenant: Callable[[TenantPlan], None] = lambda _: None
    errors: list[OutlastError] = field(default_factory=list)
    fetches_at_once: int = 1  # tenants read from the vault ahead; more than one pays where a request is a wait
    lanes: int = 1  # transactions under way at once
    before_group: Callable[[], None] = lambda: None  # may wait: a throttle
    goes_on: Callable[[], bool] = lambda: True  # whether another group is begun; who has no turn has no outcome
    _scope: Scope | None = None
    _telling: Lock = field(default_factory=Lock)

    @contextmanager
    def another(self) -> Iterator[Self]:
        """One like this with sessions of its own, for work beside it; what it meets is told here."""
        with self.sessions.another() as sessions:
            yield replace(self, sessions=sessions)

    def scope(self) -> Scope:
        """The live tables this restore is about. Read once; raises NotFoundError for a --table that does not exist."""
        if self._scope is None:
            self._scope = self.persist(self._read_scope)
        return self._scope

    def _read_scope(self) -> Scope:
        reader = self.sessions.reader()
        catalog = self.read_catalog(reader)
        chosen = frozenset(TableName.parse(name) for name in self.recipe.tables) or None
        _check_chosen(chosen, catalog)
        if self.recipe.excluded:
            chosen = frozenset(table.name for table in catalog.owned) - self.recipe.without
            _check_excluded(self.recipe.without, catalog)
        if self.recipe.where:
            chosen = None  # what hangs on the chosen rows may be in any table
        owned = [table for table in catalog.owned if chosen is None or table.name in chosen]
        facts = read_facts(reader, catalog, [*catalog.owned, *catalog.shared], self.rules)
        tables = tuple(sorted(owned, key=lambda table: table.name))
        check_keep(self.recipe, tables)
        # Undoing makes it as before the plan, which is no stored moment
        shared_rows = SharedRows(None if self.recipe.undo_of else self.shared, catalog)
        also = tuple(sorted(catalog.shared, key=lambda table: table.name)) if self.recipe.undo_of else ()
        return Scope(catalog, facts, tables, chosen, self.recipe, self.shared, shared_rows, also)

    def shape(self) -> str:
        """A hash of what a plan depends on in the live schema."""
        scope = self.scope()
        names = {table.name for table in scope.tables}
        described = [
            [[str(table.name), table.shape, repr(table.ownership)] for table in scope.tables],
            sorted(repr(key) for key in scope.catalog.foreign_keys if {key.table, key.references} & names),
            sorted(repr(index) for index in scope.catalog.unique_indexes if index.table in names),
            sorted(f"{table}: {found}" for table, found in _described(scope.facts.triggers) if table in names),
            sorted(f"{table}: {checks}" for table, checks in scope.facts.checks.items() if table in names),
        ]
        return shape_hash(described)

    def plan(self, subjects: Iterable[Subject]) -> tuple[TenantPlan, ...]:
        """Find out what each tenant needs, conflicts included. Changes nothing."""
        return self._all(subjects, {}, execute=False)

    def execute(self, subjects: Iterable[Subject]) -> tuple[TenantPlan, ...]:
        """Plan each tenant and put it back at once, from the same staged rows; those without a turn are left out."""
        return self._all(subjects, {}, execute=True)

    def apply(self, plan: Plan, subjects: Iterable[Subject]) -> tuple[TenantPlan, ...]:
        """Do what a plan showed. What no longer comes out as shown is refused, tenant by tenant."""
        if plan.shape != self.shape():
            raise Refused(
                f"cannot apply plan {plan.id}: the schema of its tables has changed since it was made",
                hint="Plan again with `outlast restore`, and look at the new plan.",
                code="stale",
            )
        shown = {tenant.tenant.key: tenant for tenant in plan.tenants}
        return self._all(subjects, shown, execute=True)

    def _all(
        self, subjects: Iterable[Subject], shown: Mapping[TenantKey, TenantPlan], *, execute: bool
    ) -> tuple[TenantPlan, ...]:
        return Groups(self, shown, execute, self.fetches_at_once, self.lanes).run(subjects)

    def alone(
        self,
        subject: Subject,
        shown: TenantPlan | None,
        past: Past | Reversal | None,
        *,
        execute: bool,
        written: tuple[str, TenantPlan] | None = None,
    ) -> TenantPlan:
        """One tenant in a transaction of its own, with all that may be in its way told. `past` where it was read."""
        started = time.monotonic()
        try:
            if shown is not None and shown.conflicts:
                outcome = replace(shown, state=TenantState.REFUSED)
            else:
                stored = past or self.persist(subject.past)
                scope = self.scope()
                attempt = Attempt(self.sessions, scope, stored, shown, self.keeper, subject.place, written)
                outcome = self.persist(attempt.execute if execute else attempt.plan)
        except OutlastError as error:
            return self.failed(subject, shown, error, time.monotonic() - started)
        finally:
            self.sessions.rest()
        return self.account(replace(outcome, seconds=time.monotonic() - started))

    def failed(
        self, subject: Subject, shown: TenantPlan | None, error: OutlastError, seconds: float = 0.0
    ) -> TenantPlan:
        """Account for a tenant that ended with an error."""
        error = _as_refusal(error)
        self.errors.append(error)
        state = TenantState.REFUSED if isinstance(error, Refused) else TenantState.FAILED
        # What was shown stays on record: the plan can be applied once the reason is gone
        known = shown or TenantPlan(subject.tenant, state, Effect())
        return self.account(replace(known, state=state, error=error.message, seconds=seconds))

    def account(self, outcome: TenantPlan) -> TenantPlan:
        """Tell what came of a tenant."""
        with self._telling:
            self.on_tenant(outcome)
        return outcome

    def persist(self, work: Callable[[], T]) -> T:
        """Do it, and again after a passing fault, a bounded number of times."""
        for number in range(1, ATTEMPTS_MAX):
            try:
                return work()
            except TransientError:
                # Two that blocked each other must not meet again: the pause is uneven
                self.pause(_PAUSE_S * 2**number * random.uniform(0.5, 1.5))  # noqa: S311 - no secret depends on it
        return work()


def _described(
    triggers: Mapping[TableName, Sequence[TriggerFact]],
) -> Iterable[tuple[TableName, list[tuple[str, list[str], str]]]]:
    for table, found in triggers.items():
        yield table, sorted((one.name, sorted(one.operations), one.enabled) for one in found)


def _as_refusal(error: OutlastError) -> OutlastError:
    """A policy that would hide rows is a setting of the database, and no fault: nothing was done, nor hidden."""
    if "row-level security" in error.message and not isinstance(error, Refused):
        return Refused(error.message, hint=error.hint, code="row-security")
    return error


def _check_chosen(chosen: frozenset[TableName] | None, catalog: Catalog) -> None:
    owned = {table.name for table in catalog.owned}
    for name in sorted((chosen or frozenset()) - owned):
        known = catalog.table(name)
        what = f"is {known.ownership.kind.value}, and belongs to no tenant" if known else "does not exist"
        raise NotFoundError(
            f"cannot restore table {name}: it {what}",
            hint=f"Tables that tenants own: {', '.join(str(one) for one in sorted(owned)[:20])}.",
        )


def _check_excluded(excluded: frozenset[TableName], catalog: Catalog) -> None:
    """Rows whose tenant is found through an excluded table: whose they were is known as little as it is."""
    for table in sorted(catalog.owned, key=lambda table: table.name):
        through = sorted(excluded & {step.to for step in table.ownership.path})
        if through and table.name not in excluded:
            raise UsageError(
                f"cannot leave out {through[0]} alone: rows of {table.name} find their tenant through it",
                hint=f"Leave both out: add --exclude-table {table.name}",
            )
