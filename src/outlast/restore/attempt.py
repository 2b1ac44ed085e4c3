"""One tenant's restore, attempted until it is done, refused, or failed for good.

What the server says decides: a constraint that is broken is a conflict where something visible breaks it, and else the
work of a transaction that committed meanwhile, which another attempt will see.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import psycopg

from outlast.core.conflict import Conflict, ConflictKind, Resolution
from outlast.core.errors import TransientError
from outlast.core.plan import TenantPlan, TenantState
from outlast.restore.applying import Applied, NotExactError, SurplusError, apply_staged
from outlast.restore.history import Past
from outlast.restore.live import Live, TenantLive
from outlast.restore.planning import Scope, plan_tenant
from outlast.restore.resolving import left_out, resolve, with_shared
from outlast.restore.reversal import Reversal
from outlast.restore.sessions import Sessions, Work
from outlast.restore.staging import Staging
from outlast.restore.stale import stale
from outlast.restore.undo import Place, TenantImages, UndoKeeper
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write import CountMismatchError
from outlast.sources.postgres.write_conflicts import find_conflicts
from outlast.sources.postgres.write_proof import ReferenceGoneError
from outlast.sources.postgres.write_stage import Stage, ValueRefusedError
from outlast.sources.postgres.write_swaps import SwapRefusedError

_ROUNDS_MAX = 5
_REASONS = (
    ValueRefusedError,
    ReferenceGoneError,
    NotExactError,
    SurplusError,
    CountMismatchError,
    SwapRefusedError,
    psycopg.IntegrityError,
    psycopg.DataError,
)
"""What may be a conflict: the plan is made again and looked at more closely."""
_LOOKS_MAX = 100
_LOOK_S = 0.05


@dataclass(slots=True)
class Attempt:
    """Restores one tenant. `shown` is the plan that was approved, None where planning and writing are one command.

    `written` survives from one attempt to the next, with its transaction's number: where a connection was lost during
    COMMIT, the server tells afterwards whether it was done.
    """

    sessions: Sessions
    scope: Scope
    past: Past | Reversal
    shown: TenantPlan | None = None
    keeper: UndoKeeper | None = None
    place: Place | None = None
    written: tuple[str, TenantPlan] | None = None

    def plan(self) -> TenantPlan:
        """What the tenant needs, with every conflict that no policy settles. Changes nothing."""
        settled: tuple[Resolution, ...] = self.shown.resolutions if self.shown is not None else ()
        for _ in range(_ROUNDS_MAX):
            stage = self.sessions.stage()
            plan = self._planned(self.sessions.reader(), stage, settled)
            self.sessions.rest()
            writer = self.sessions.writer()
            plan = self._told(writer, stage, with_shared(writer, self.scope, stage, plan))
            more = resolve(writer, self.scope, stage, plan)
            if not more:
                break
            settled = (*settled, *more)
        return self._with_conflicts(plan, stage)

    def execute(self) -> TenantPlan:
        """Plan and write. Raises TransientError where another attempt may help, Refused where the plan is stale.

        Conflicts are looked for only when the server meets one: it checks every constraint itself.
        """
        done = self._done_before()
        if done is not None:
            return done
        settled = self.shown.resolutions if self.shown is not None else ()
        if self.shown is None and self.scope.recipe.on_conflict:
            planned = self.plan()
            if planned.conflicts:
                return planned
            settled = planned.resolutions
        problem: Exception | None = None
        with self.sessions.together() as work:
            try:
                plan, images = self._prepared(work, settled)
                if plan.state is TenantState.RIGHT:
                    return plan
                if self.shown is not None and not plan.agrees_with(self.shown):
                    raise stale(work.reader, self.scope, plan, self.shown)
                if not plan.conflicts:
                    return self._write(work, plan, images)
            except _REASONS as error:
                problem = error
            except psycopg.Error as error:
                raise explain(error, f"write the rows of tenant {self.past.tenant}") from error
        return self._explained(problem)

    def _prepared(self, work: Work, settled: tuple[Resolution, ...]) -> tuple[TenantPlan, list[TenantImages]]:
        images = []
        if self.keeper is not None and self.place is not None:
            images.append(self.keeper.images(self.past.tenant, self.place))
        plan = self._planned(work.reader, work.stage, settled, images[0] if images else None)
        self.sessions.rest()
        plan = with_shared(work.writer, self.scope, work.stage, plan)
        return self._told(work.writer, work.stage, plan), images

    def _planned(
        self, reader: Session, stage: Stage, settled: tuple[Resolution, ...], images: TenantImages | None = None
    ) -> TenantPlan:
        live = TenantLive(reader, self.scope.catalog, self.past.tenant.key)
        plan = plan_on(reader, live, stage, self.scope, self.past, images, settled)
        if self.scope.shared_rows is not None:
            self.scope.shared_rows.look(reader, stage.counts)
        return plan

    def _told(self, connection: Session, stage: Stage, plan: TenantPlan) -> TenantPlan:
        return replace(plan, notes=(*plan.notes, *notes_on_shared(connection, self.scope, stage)))

    def _write(self, work: Work, plan: TenantPlan, images: list[TenantImages]) -> TenantPlan:
        self.written = (work.number(), plan)
        applied = apply_on(work, self.scope, [plan], self.keeper, images)
        return replace(plan, state=TenantState.DONE, notes=(*plan.notes, *applied.notes), kept=applied.kept)

    def _done_before(self) -> TenantPlan | None:
        """What an earlier attempt committed although its answer was lost."""
        if self.written is None:
            return None
        xid, plan = self.written
        status = transaction_status(self.sessions.writer(), xid)
        self.written = None
        return replace(plan, state=TenantState.DONE) if status == "committed" else None

    def _explained(self, error: Exception | None) -> TenantPlan:
        """Why the server refused: the plan with its conflicts, or another transaction that came in between."""
        written, self.written = self.written, None
        plan = self.plan()
        if plan.conflicts:
            return plan
        if self.shown is not None and not plan.agrees_with(self.shown):
            raise stale(self.sessions.reader(), self.scope, plan, self.shown)
        if written is not None and plan.changes != written[1].changes:
            raise TransientError(f"rows of tenant {plan.tenant} changed while it was being restored")
        found = _found(plan, error, self.scope)
        if found is not None:
            return refused(plan, [found])
        if error is None or isinstance(error, ValueRefusedError):
            raise TransientError(f"rows of tenant {plan.tenant} changed while it was being restored")
        if isinstance(error, psycopg.IntegrityError | ReferenceGoneError) and not isinstance(
            error, psycopg.errors.CheckViolation | psycopg.errors.NotNullViolation | psycopg.errors.RaiseException
        ):
            constraint = error.key.name if isinstance(error, ReferenceGoneError) else error.diag.constraint_name
            told = f"another transaction got in the way of {constraint or 'a constraint'}"
            firing = _triggers(self.scope, plan)
            if not firing:
                raise TransientError(told) from error
            raise TransientError(
                f"{told}, or a trigger wrote there first{firing}",
                hint="With GRANT SET ON PARAMETER session_replication_role TO the restoring role, no trigger fires.",
            ) from error
        told = explain(error, "write rows").message if isinstance(error, psycopg.Error) else str(error)
        table = "" if not isinstance(error, psycopg.Error) else f"{error.diag.schema_name}.{error.diag.table_name}"
        constraint = error.diag.constraint_name if isinstance(error, psycopg.Error) else None
        return refused(plan, [Conflict(plan.tenant.key, table, ConflictKind.VALUE_REFUSED, told, constraint)])

    def _with_conflicts(self, plan: TenantPlan, stage: Stage) -> TenantPlan:
        catalog, facts = self.scope.catalog, self.scope.facts
        writer = self.sessions.writer()
        conflicts = find_conflicts(writer, catalog, stage, facts, plan.tenant.key)
        found = [*left_out(writer, self.scope, stage, plan, conflicts)]
        return refused(plan, found) if found or plan.conflicts else plan


def plan_on(
    reader: Session,
    live: Live,
    stage: Staging,
    scope: Scope,
    past: Past | Reversal,
    images: TenantImages | None = None,
    settled: Sequence[Resolution] = (),
) -> TenantPlan:
    """How one tenant is planned, alone or in a group (groups.py)."""
    return plan_tenant(reader, live, stage, scope, past, images, settled)


def notes_on_shared(connection: Session, scope: Scope, stage: Stage) -> tuple[str, ...]:
    """What to tell of shared rows that staged rows point at: they may have changed since the moment."""
    return () if scope.shared_rows is None else scope.shared_rows.notes(connection, stage, scope.facts)


def apply_on(
    work: Work,
    scope: Scope,
    plans: Sequence[TenantPlan],
    keeper: UndoKeeper | None = None,
    images: Sequence[TenantImages] = (),
) -> Applied:
    """How what is staged is written: one tenant, or a group."""
    return apply_staged(work, scope, plans, keeper, images)


def transaction_status(connection: Session, xid: str, pause: Callable[[float], None] = time.sleep) -> str | None:
    """`committed`, `aborted`, or None for one too old for the server to remember.

    A session whose client is gone ends soon, but not at once: TransientError where it does not.
    """
    for _ in range(_LOOKS_MAX):
        try:
            row = connection.execute(b"SELECT pg_catalog.pg_xact_status(%s::pg_catalog.xid8)", [xid]).fetchone()
        except psycopg.Error as error:
            raise explain(error, "ask what became of a transaction") from error
        if row is None or row[0] is None:
            return None
        if row[0] != "in progress":
            return str(row[0])
        pause(_LOOK_S)
    raise TransientError("the server has not ended an earlier transaction of this restore yet")


def refused(plan: TenantPlan, found: list[Conflict]) -> TenantPlan:
    return replace(plan, state=TenantState.REFUSED, conflicts=(*plan.conflicts, *found))


def _found(plan: TenantPlan, error: Exception | None, scope: Scope) -> Conflict | None:
    """What the transaction itself found out."""
    if isinstance(error, NotExactError):
        return _not_exact(plan, error, scope)
    if isinstance(error, CountMismatchError):
        return _not_exact(plan, NotExactError(error.table), scope)
    if isinstance(error, SurplusError):
        return _surplus(plan, error, scope)
    return _swap(plan, error) if isinstance(error, SwapRefusedError) else None


def _triggers(scope: Scope, plan: TenantPlan) -> str:
    triggers = [
        f"{trigger.name} on {table}"
        for table, found in scope.facts.triggers.items()
        for trigger in found
        if trigger.fires("iud", quiet=table not in scope.facts.loud)
    ]
    return f"; triggers that fired: {', '.join(sorted(triggers))}" if triggers else ""


def _not_exact(plan: TenantPlan, error: NotExactError, scope: Scope) -> Conflict:
    return Conflict(
        plan.tenant.key,
        str(error.table),
        ConflictKind.NOT_EXACT,
        f"{error.table} read back differently from what was planned, and was rolled back{_triggers(scope, plan)}",
        rows=len(error.keys),
        keys=error.keys,
        hint="A trigger or rule changes rows as they are written: a role that may SET session_replication_role "
        "restores without them (see `outlast init --print-grants`).",
    )


def _surplus(plan: TenantPlan, error: SurplusError, scope: Scope) -> Conflict:
    beyond = ", ".join(str(one) for one in error.found)
    return Conflict(
        plan.tenant.key,
        str(error.found[0].table),
        ConflictKind.NOT_EXACT,
        f"more was written than planned, and was rolled back: {beyond}{_triggers(scope, plan)}",
        hint=_acceptance(error.firing),
    )


def _acceptance(firing: Sequence[str]) -> str:
    if not firing:
        return "No trigger of the tables written is known to fire: look for rules, and for cascades that came late."
    names = ", ".join(f'"{one}"' for one in firing)
    return f"If that is what these triggers are for, write under [restore] in outlast.toml: accept_triggers = [{names}]"


def _swap(plan: TenantPlan, error: SwapRefusedError) -> Conflict:
    name = error.index.constraint or error.index.name
    return Conflict(
        plan.tenant.key,
        str(error.index.table),
        ConflictKind.VALUE_TAKEN,
        f"rows of {error.index.table} exchange values of {name} among each other, which this role cannot write",
        name,
        error.rows,
        holders=(plan.tenant.key,),
        hint="Restore as a role that may SET session_replication_role (see `outlast init --print-grants`).",
    )
