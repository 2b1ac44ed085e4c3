"""`outlast restore TENANT…`: plan to put tenants back, show it, and with --execute do it.

Also what `apply` shares with it: how a plan is shown, kept, and turned into an exit code.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.damaged import cannot_tell, check_options, damage_of, damaged_entries
from outlast.cli.informing import report_planned
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.recipes import Extent, recipe_of
from outlast.cli.render import count, effect_table, table_of
from outlast.cli.restoring import begin_ahead, opened_restorer, read_ahead, subjects_of, undo_signer
from outlast.cli.telling import Events, Herald
from outlast.core.effect import Effect, Operation
from outlast.core.errors import ExitCode, OutlastError, Refused, UsageError
from outlast.core.plan import Mode, Plan, TenantState, new_plan_id
from outlast.core.recipe import Prefer

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.core.plan import TenantPlan
    from outlast.jobs.job import Outcome
    from outlast.restore.ahead import ReadingAhead
    from outlast.vault.reader import TenantEntry

_CONFLICTS_SHOWN_MAX = 50
_TENANTS_SHOWN_MAX = 100
_HOOK_TIMEOUT_S = 600


def restore(
    context: typer.Context,
    tenants: Annotated[
        list[str] | None, typer.Argument(metavar="TENANT...", help="Keys or labels of the tenants.")
    ] = None,
    tenants_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with one tenant's key or label a line.")
    ] = None,
    at: Annotated[
        str, typer.Option(metavar="MOMENT", help="latest, a timestamp, run:7, an LSN, or before:TRANSACTION.")
    ] = "latest",
    mode: Annotated[
        Extent, typer.Option(help="missing: put back what is gone. rewind: make everything as it was.")
    ] = Extent.MISSING,
    delete_newer: Annotated[
        bool, typer.Option("--delete-newer", help="With --mode rewind: delete the rows that came since.")
    ] = False,
    table: Annotated[
        list[str] | None, typer.Option(metavar="TABLE", help="Only this table; may be given several times.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Only the row of --table with this key, and what was deleted along with it."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="With --mode rewind: the larger value of this column stays."),
    ] = None,
    on_conflict: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CONSTRAINT=POLICY", help="What to do where its value is taken: suffix, null, skip, remap, abort."
        ),
    ] = None,
    with_shared: Annotated[
        bool, typer.Option("--with-shared", help="Put back shared rows that the tenants' rows point at, too.")
    ] = False,
    damage_since: Annotated[
        str | None,
        typer.Option(metavar="MOMENT", help="Take back what was deleted since; without TENANT: everybody's."),
    ] = None,
    until: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="With --damage-since: and up to this moment.")
    ] = None,
    transaction: Annotated[
        list[int] | None,
        typer.Option(metavar="XID", help="With --damage-since: all that this transaction deleted or changed, only."),
    ] = None,
    prefer: Annotated[
        Prefer | None,
        typer.Option(help="With --damage-since, for rows changed again since: live leaves them, vault does not."),
    ] = None,
    without_undo: Annotated[
        bool, typer.Option("--without-undo", help="Keep nothing to take it back with: this host has no signing.key.")
    ] = False,
    into: Annotated[
        str | None, typer.Option(metavar="URL", help="Write into this database with the same tables instead.")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it now, as planned, instead of only showing it.")] = (
        False
    ),
    parallel: Annotated[
        int | None, typer.Option(min=1, max=32, metavar="N", help="Groups of tenants restored at once.")
    ] = None,
    job: Annotated[
        bool, typer.Option("--job", help="Make it a durable job, as a restore of very many tenants always is.")
    ] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Put the job into the queue and leave it to the workers there.")
    ] = False,
    events: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Append a JSON line for each tenant as it is finished; - is stdout."),
    ] = None,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Plan to put tenants back into the live tables, and with --execute do it.

    Each tenant is one transaction, which is committed only if what it reads back is exactly what was planned. Rows of
    other tenants are never touched, and with --mode missing no row that exists. What stands in the way is listed, and
    refused with exit code 3. What a restore changed can be taken back: outlast undo PLAN.
    """
    invocation = Invocation.of(context)
    names = _names(tenants or [], tenants_file, needed=damage_since is None)
    ahead = read_ahead(invocation, len(names)) if damage_since is None else None
    from outlast.restore.history import find_entries

    recipe = recipe_of(
        Mode(mode.value), table or [], where or [], keep or [], on_conflict or [], delete_newer=delete_newer
    )
    recipe = replace(recipe, with_shared=with_shared, without_undo=without_undo)
    check_options(recipe, at, until, damage_since)
    chosen = tuple(transaction or ())
    if damage_since is None and (chosen or prefer):
        raise UsageError(f"{'--transaction' if chosen else '--prefer'} goes with --damage-since")
    damage = None if damage_since is None else damage_of(invocation, source, damage_since, until, chosen)
    if damage is not None:
        since, end = damage.since.text, str(damage.end)
        recipe = replace(
            recipe, mode=Mode.REVERSE, damage_since=since, damage_until=end, transactions=chosen, prefer=prefer
        )
    moment = invocation.moment(source, at) if damage is None else damage.since
    now = datetime.now(UTC)
    plan = Plan(
        new_plan_id(now),
        "restore",
        source,
        recipe,
        moment.run.run,
        str(moment),
        now,
        (),
        into,
        at=moment.text,
    )
    if damage is not None:
        entries = damaged_entries(invocation, source, damage, names)
        unknown = cannot_tell(damage)
        if unknown is not None:
            raise unknown
    else:
        found = find_entries(invocation.vault, source, names, moment)
        entries = list({entry.prefix: entry for entry in found}.values())
        if ahead is not None:
            begin_ahead(invocation, ahead, source, moment, entries)
    return carry_out(invocation, plan, entries, Way(parallel, job, events, detach, ahead), executed=execute)


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
    return show(invocation, plan, outcome.errors)


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


def _names(tenants: Sequence[str], file: Path | None, *, needed: bool = True) -> list[str]:
    names = list(tenants)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"cannot read the tenants' file {file}: {reason}") from error
        names += [line.strip() for line in lines if line.strip()]
    if not names and needed:
        raise UsageError(
            "no tenant is named", hint="outlast restore TENANT…, or --tenants-file FILE; see outlast tenants"
        )
    return list(dict.fromkeys(names))


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


def show(invocation: Invocation, plan: Plan, errors: Sequence[OutlastError]) -> ExitCode:
    """Print a plan or what came of it: whole, also where it is refused."""
    return invocation.output.finish(
        plan.to_json(), lambda console: _print(console, plan), problem=_problem(plan, errors)
    )


def _problem(plan: Plan, errors: Sequence[OutlastError]) -> OutlastError | None:
    refused, failed = plan.count(TenantState.REFUSED), plan.count(TenantState.FAILED)
    if not refused + failed:
        return None
    done = plan.count(TenantState.DONE)
    what = f"plan {plan.id}" if len(plan.tenants) != 1 else f"tenant {plan.tenants[0].tenant}"
    if done:
        return OutlastError(
            f"{count(done, 'tenant')} restored, {refused + failed:,} not: see above",
            hint="Each one restored is whole and proven. Clear what stands in the way, and run the same command again.",
            code="partly",
        )
    if failed or (len(errors) == 1 and len(plan.tenants) == 1):
        return errors[0]
    return Refused(
        f"cannot restore {what}: {_reasons(plan)}; nothing was changed",
        hint=next((one.hint for one in plan.conflicts if one.hint), None)
        or next((error.hint for error in errors if error.hint), None),
        code="conflict" if plan.conflicts else "refused",
    )


def _reasons(plan: Plan) -> str:
    if len(plan.conflicts) == 1:
        return plan.conflicts[0].message
    return count(len(plan.conflicts), "conflict") if plan.conflicts else "no tenant of it could be restored"


def _print(console: Console, plan: Plan) -> None:
    if not plan.executed or plan.count(TenantState.DONE):
        tenants = {one.tenant.key: one.tenant for one in plan.tenants}
        effect_table(plan.effect, tenants, done=plan.executed, summarize=False)(console)
    if len(plan.tenants) <= _TENANTS_SHOWN_MAX:
        rows = [(str(one.tenant), one.state.value, one.root[:12], f"{one.seconds:.2f} s") for one in plan.tenants]
        console.print(table_of(("tenant", "state", "root", "time"), rows, right=(3,)))
    for note in dict.fromkeys(note for one in plan.tenants for note in one.notes):
        console.print(f"Note: {note}")
    for tenant in plan.tenants:
        if tenant.error:
            console.print(f"Tenant {tenant.tenant}: {tenant.error}")
    for conflict in plan.conflicts[:_CONFLICTS_SHOWN_MAX]:
        more = ", …" if conflict.rows > len(conflict.keys) else ""
        keys = f" (keys {', '.join(conflict.keys)}{more})" if conflict.keys else ""
        values = f" (values {'; '.join(conflict.values)}{more})" if conflict.values else ""
        console.print(f"Conflict, tenant {conflict.tenant}: {conflict.message}{keys}{values}")
    if len(plan.conflicts) > _CONFLICTS_SHOWN_MAX:
        console.print(
            f"… and {len(plan.conflicts) - _CONFLICTS_SHOWN_MAX:,} more conflicts (--json shows all of them)."
        )
    console.print(_last_line(plan))


def _last_line(plan: Plan) -> str:
    if plan.executed:
        done, right = plan.count(TenantState.DONE), plan.count(TenantState.RIGHT)
        rows = count(plan.effect.rows, "row")
        parts = [f"{rows} of {count(done, 'tenant')} {_reached(plan)}"] if done else []
        parts += [f"{count(right, 'tenant')} had nothing to change"] if right else []
        line = f"Plan {plan.id}: {', '.join(parts) or 'nothing was changed'}."
        undoable = done and not plan.recipe.without_undo
        return f"{line}\nTo take it back: outlast undo {plan.id}" if undoable else line
    effect = plan.effect
    line = (
        f"Plan {plan.id}: {effect.total(Operation.INSERT):,} to insert, {_changed(effect):,} to change,"
        f" {effect.total(Operation.HARD_DELETE):,} to delete, {_as_of(plan)}."
    )
    return f"{line}\nNext: outlast apply {plan.id}" if effect and plan.count(TenantState.PLANNED) else line


def _changed(effect: Effect) -> int:
    return effect.total(Operation.UPDATE) + effect.total(Operation.SOFT_DELETE)


def _reached(plan: Plan) -> str:
    if plan.recipe.undo_of:
        return f"as before plan {plan.recipe.undo_of}"
    if plan.recipe.damage_since:
        return f"as before the damage since {plan.recipe.damage_since}"
    return f"restored to {plan.moment} (run {plan.run})"


def _as_of(plan: Plan) -> str:
    if plan.recipe.damage_since:
        return f"taking back the damage since {plan.recipe.damage_since}"
    return f"taking back plan {plan.recipe.undo_of}" if plan.recipe.undo_of else f"as of {plan.moment} (run {plan.run})"
