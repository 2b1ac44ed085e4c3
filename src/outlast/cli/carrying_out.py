"""Carrying out a plan to restore, whoever made it (`restore`, `apply`, `undo`): here or as a job, kept, and told."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from outlast.cli.informing import report_planned
from outlast.cli.opening import Invocation
from outlast.cli.plan_shown import show_plan
from outlast.cli.restoring import opened_restorer, subjects_of, undo_signer
from outlast.cli.telling import Events, Herald
from outlast.core.errors import ExitCode, UsageError
from outlast.core.plan import Plan, TenantState

if TYPE_CHECKING:
    from outlast.core.plan import TenantPlan
    from outlast.jobs.job import Outcome
    from outlast.restore.ahead import ReadingAhead
    from outlast.vault.reader import TenantEntry

_HOOK_TIMEOUT_S = 600


@dataclass(frozen=True, slots=True)
class Way:
    """How the work is done: transactions at once (None: as outlast.toml has it), as a job, and where events go.

    `detached`: as a job that this process does not wait for. `ahead` has what is stored of the tenants, or soon will.
    """

    parallel: int | None = None
    job: bool = False
    events: str | None = None
    detached: bool = False
    ahead: ReadingAhead | None = None


def carry_out(
    invocation: Invocation,
    plan: Plan,
    entries: Sequence[TenantEntry],
    way: Way,
    *,
    executed: bool,
    shown: Plan | None = None,
) -> ExitCode:
    """Plan or execute, keep the outcome, run the hook, and show it. With `shown` only what that plan showed is done."""
    from outlast.state.plans import put_plan

    if executed:
        if not plan.recipe.without_undo:
            undo_signer(invocation)  # refuse before anything is written
        put_plan(invocation.state, plan.id, plan.to_bytes())  # what is cut short can be undone, too
    if executed:
        report_planned(invocation, plan.id, [entry.tenant for entry in entries])
    if way.detached:
        from outlast.cli.queueing import leave_to_workers

        if not executed:
            raise UsageError("--detach leaves work to others, and a plan is none", hint="Add --execute.")
        return leave_to_workers(invocation, plan, entries, way)
    with Events(way.events, invocation.output) as events:
        outcome = _worked(invocation, plan, entries, way, events, executed=executed, shown=shown)
    outcomes = outcome.tenants
    reached = any(one.state in (TenantState.DONE, TenantState.RIGHT) for one in outcomes)
    applied = datetime.now(UTC) if executed and reached else None
    again = plan.executed and not any(one.state is TenantState.DONE for one in outcomes)
    plan = replace(plan, tenants=outcomes, shape=outcome.shape, applied=applied or plan.applied)
    if not again:  # applied a second time, with nothing left to do: the record of what it did stays
        put_plan(invocation.state, plan.id, plan.to_bytes())
    if executed:
        _run_hook(invocation, plan)
    return show_plan(invocation, plan, outcome.errors)


def _worked(
    invocation: Invocation,
    plan: Plan,
    entries: Sequence[TenantEntry],
    way: Way,
    events: Events,
    *,
    executed: bool,
    shown: Plan | None,
) -> Outcome:
    """By this process alone, or as a job; many tenants by this process first, and what is left then as a job."""
    from outlast.cli.queueing import is_idle, restore_as_job
    from outlast.jobs.job import joined

    settings = invocation.config.document.jobs
    if not executed or not (way.job or len(entries) > settings.from_tenants):
        return _restore_here(invocation, plan, entries, way, events, executed=executed, shown=shown)
    outcomes = []
    left = list(entries)
    if not way.job and settings.head_start and is_idle(invocation):
        outcomes.append(
            _restore_here(
                invocation,
                plan,
                left,
                way,
                events,
                executed=True,
                shown=shown,
                goes_on=_HeadStart(settings.head_start.total_seconds()).goes_on,
            )
        )
        left = _without(left, outcomes[-1])
    if left:
        outcomes.append(restore_as_job(invocation, plan, left, entries, way, events, shown=shown))
        left = _without(left, outcomes[-1])
    if left:  # a job that was there already, and that an earlier head start had left them out of
        outcomes.append(_restore_here(invocation, plan, left, way, events, executed=True, shown=shown))
    return joined(outcomes).ordered(entry.tenant.key for entry in entries)


@dataclass(slots=True)
class _HeadStart:
    """Some seconds from the first group on, which is always begun."""

    seconds: float
    ends: float | None = None

    def goes_on(self) -> bool:
        first = self.ends is None
        if self.ends is None:
            self.ends = time.monotonic() + self.seconds
        return first or time.monotonic() < self.ends


def _without(entries: Sequence[TenantEntry], outcome: Outcome) -> list[TenantEntry]:
    known = {tenant.tenant.key for tenant in outcome.tenants}
    return [entry for entry in entries if entry.tenant.key not in known]


def _restore_here(
    invocation: Invocation,
    plan: Plan,
    entries: Sequence[TenantEntry],
    way: Way,
    events: Events,
    *,
    executed: bool,
    shown: Plan | None,
    goes_on: Callable[[], bool] = lambda: True,
) -> Outcome:
    """In this process alone; of those that it came to before `goes_on` said no."""
    from outlast.jobs.job import Outcome

    doing = "Restoring" if executed else "Planning"
    with (
        invocation.output.progress(doing, len(entries)) as progress,
        Herald(invocation) as herald,
    ):

        def tell(tenant: TenantPlan) -> None:
            progress.advance()
            if executed:
                events.tell(plan.id, tenant)
                herald.tell(plan.id, tenant)

        with opened_restorer(invocation, plan, tell, lanes=way.parallel, say=invocation.output.note) as job:
            job.goes_on = goes_on
            subjects = subjects_of(invocation, plan, entries, way.ahead)
            if not executed:
                outcomes = job.plan(subjects)
            else:
                outcomes = job.execute(subjects) if shown is None else job.apply(shown, subjects)
            return Outcome(outcomes, tuple(job.errors), job.shape() if shown is None else shown.shape)


def _run_hook(invocation: Invocation, plan: Plan) -> None:
    """Tell the world outside the database (caches, search indices, files) which tenants are back."""
    command = invocation.config.document.hooks.after_restore
    keys = [tenant.tenant.key for tenant in plan.tenants if tenant.state is TenantState.DONE]
    if not command or not keys:
        return
    try:
        done = subprocess.run(  # noqa: S602 - the operator's own command out of their own outlast.toml
            command, shell=True, input="\n".join(keys) + "\n", text=True, timeout=_HOOK_TIMEOUT_S, check=False, stdout=2
        )
        failed = f"it ended with exit code {done.returncode}" if done.returncode else None
    except (OSError, subprocess.TimeoutExpired) as error:
        failed = type(error).__name__
    if failed:
        # The rows are committed and proven: that must not be reported as a failure, nor the hook's forgotten.
        invocation.output.warn(f"the after_restore hook failed ({failed}); the restore itself is done")
