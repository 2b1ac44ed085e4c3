"""One tenant's restore, attempted until it is done, refused, or failed for good.

What the server says decides: a constraint that is broken is a conflict where something visible breaks it, and else the
work of a transaction that committed meanwhile, which another attempt will see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import psycopg

from outlast.core.errors import Refused, TransientError
from outlast.core.plan import Conflict, ConflictKind, TenantPlan, TenantState
from outlast.restore.applying import LiveChangedError, NotExactError, apply_staged
from outlast.restore.history import Past
from outlast.restore.live import Live, TenantLive
from outlast.restore.planning import Scope, plan_tenant
from outlast.restore.sessions import Sessions
from outlast.restore.staging import Staging
from outlast.sources.postgres.session import Session, explain
from outlast.sources.postgres.write import ReferenceGoneError, Stage
from outlast.sources.postgres.write_conflicts import find_conflicts


@dataclass(slots=True)
class Attempt:
    """Restores one tenant. `shown` is the plan that was approved, None where planning and writing are one command.

    `written` survives from one attempt to the next: where a connection was lost during COMMIT, finding nothing missing
    afterwards means that it was done.
    """

    sessions: Sessions
    scope: Scope
    past: Past
    shown: TenantPlan | None = None
    written: TenantPlan | None = None

    def plan(self) -> TenantPlan:
        """What the tenant needs, with every conflict. Changes nothing."""
        stage = self.sessions.stage()
        plan = self._planned(stage)
        return self._with_conflicts(plan, stage)

    def execute(self) -> TenantPlan:
        """Plan and write. Raises TransientError where another attempt may help, Refused where the plan is stale.

        Conflicts are looked for only when the server meets one: it checks every constraint itself.
        """
        stage = self.sessions.stage()
        plan = self._planned(stage)
        if plan.state is TenantState.RIGHT:
            return self._right(plan)
        if self.shown is not None and not plan.agrees_with(self.shown):
            raise _stale(plan)
        if plan.conflicts:
            return self._with_conflicts(plan, stage)
        self.written = plan
        return self._write(plan, stage)

    def _planned(self, stage: Stage) -> TenantPlan:
        reader = self.sessions.reader()
        live = TenantLive(reader, self.scope.catalog, self.past.tenant.key)
        plan = plan_on(reader, live, stage, self.scope, self.past)
        self.sessions.rest()
        return plan

    def _write(self, plan: TenantPlan, stage: Stage) -> TenantPlan:
        try:
            apply_on(self.sessions, stage, self.scope, [plan])
        except LiveChangedError as error:
            if self.shown is not None:
                raise _stale(plan) from error
            raise TransientError(f"rows of {error.table} changed while {plan.tenant} was being restored") from error
        except NotExactError as error:
            return _refused(plan, [_not_exact(plan, error, self.scope)])
        except ReferenceGoneError as error:
            return self._conflicting(plan, stage, error.key.name, error)
        except (psycopg.IntegrityError, psycopg.DataError) as error:
            return self._conflicting(plan, stage, error.diag.constraint_name, error)
        except psycopg.Error as error:
            raise explain(error, f"write the rows of tenant {plan.tenant}") from error
        return replace(plan, state=TenantState.DONE)

    def _right(self, plan: TenantPlan) -> TenantPlan:
        if self.written is not None and plan.root == self.written.root:
            return replace(self.written, state=TenantState.DONE)
        return plan

    def _conflicting(self, plan: TenantPlan, stage: Stage, constraint: str | None, error: Exception) -> TenantPlan:
        found = self._with_conflicts(plan, stage)
        if found.conflicts:
            return found
        if isinstance(error, psycopg.IntegrityError | ReferenceGoneError) and not isinstance(
            error, psycopg.errors.CheckViolation | psycopg.errors.NotNullViolation
        ):
            raise TransientError(f"another transaction got in the way of {constraint or 'a constraint'}") from error
        told = explain(error, "write rows").message if isinstance(error, psycopg.Error) else str(error)
        table = "" if not isinstance(error, psycopg.Error) else f"{error.diag.schema_name}.{error.diag.table_name}"
        conflict = Conflict(plan.tenant.key, table, ConflictKind.VALUE_REFUSED, told, constraint)
        return _refused(plan, [conflict])

    def _with_conflicts(self, plan: TenantPlan, stage: Stage) -> TenantPlan:
        catalog, facts = self.scope.catalog, self.scope.facts
        found = [*find_conflicts(self.sessions.writer(), catalog, stage, facts, plan.tenant.key)]
        return _refused(plan, found) if found or plan.conflicts else plan


def plan_on(reader: Session, live: Live, stage: Staging, scope: Scope, past: Past) -> TenantPlan:
    """How one tenant is planned, alone or in a group (groups.py)."""
    return plan_tenant(reader, live, stage, scope, past)


def apply_on(sessions: Sessions, stage: Stage, scope: Scope, plans: Sequence[TenantPlan]) -> None:
    """How what is staged is written: one tenant, or a group."""
    apply_staged(sessions.writer(), stage, scope, plans)


def _refused(plan: TenantPlan, found: list[Conflict]) -> TenantPlan:
    return replace(plan, state=TenantState.REFUSED, conflicts=(*plan.conflicts, *found))


def _stale(plan: TenantPlan) -> Refused:
    return Refused(
        f"the plan for tenant {plan.tenant} is stale: its live rows are not those that the plan was computed from",
        hint="Plan again with `outlast restore`, and look at the new plan.",
        code="stale",
    )


def _not_exact(plan: TenantPlan, error: NotExactError, scope: Scope) -> Conflict:
    triggers = [f"{trigger} on {table}" for table, names in scope.facts.triggers.items() for trigger in names]
    why = f"; triggers that fired: {', '.join(sorted(triggers))}" if triggers else ""
    return Conflict(
        plan.tenant.key,
        str(error.table),
        ConflictKind.NOT_EXACT,
        f"{error.table} read back differently from what was stored, and was rolled back{why}",
        hint="A trigger or rule changes rows as they are written: a role that may SET session_replication_role "
        "restores without them (see `outlast init --print-grants`).",
    )
