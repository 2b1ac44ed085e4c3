"""`outlast restore TENANT…`: plan to put tenants back, show it, and with --execute do it.

Also what `apply` shares with it: how a plan is shown, kept, and turned into an exit code.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, effect_table, table_of
from outlast.core.effect import Operation
from outlast.core.errors import ExitCode, OutlastError, Refused, UsageError
from outlast.core.plan import Mode, Plan, TenantState, new_plan_id
from outlast.core.table import TableName

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.core.plan import TenantPlan
    from outlast.restore.restoring import Restorer, Subject
    from outlast.sources.postgres.session import Target
    from outlast.vault.reader import TenantEntry
    from outlast.vault.run import RunRecord

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
    at: Annotated[str, typer.Option(metavar="MOMENT", help="latest, a timestamp, run:7, or an LSN.")] = "latest",
    mode: Annotated[Mode, typer.Option(help="missing: put back what is gone; rows that exist stay.")] = Mode.MISSING,
    table: Annotated[
        list[str] | None, typer.Option(metavar="TABLE", help="Only this table; may be given several times.")
    ] = None,
    into: Annotated[
        str | None, typer.Option(metavar="URL", help="Write into this database with the same tables instead.")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it now, as planned, instead of only showing it.")] = (
        False
    ),
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Plan to put tenants back into the live tables, and with --execute do it.

    Each tenant is one transaction, which is committed only if what it reads back is exactly what was planned. Rows that
    exist, and rows of other tenants, are never touched. What stands in the way is listed, and refused with exit code 3.
    """
    invocation = Invocation.of(context)
    names = _names(tenants or [], tenants_file)
    chosen = _tables(table or [])
    run = invocation.vault.resolve(source, at)
    entries = _entries(invocation, source, names, run)
    now = datetime.now(UTC)
    plan = Plan(
        new_plan_id(now),
        "restore",
        source,
        mode,
        run.run,
        str(run.moment),
        now,
        (),
        tuple(str(name) for name in chosen),
        into,
    )

    def work(job: Restorer, subjects: Sequence[Subject]) -> tuple[tuple[TenantPlan, ...], str]:
        outcomes = job.execute(subjects) if execute else job.plan(subjects)
        return outcomes, job.shape()

    return carry_out(invocation, plan, entries, work, executed=execute)


def carry_out(
    invocation: Invocation,
    plan: Plan,
    entries: Sequence[TenantEntry],
    work: Callable[[Restorer, Sequence[Subject]], tuple[tuple[TenantPlan, ...], str]],
    *,
    executed: bool,
) -> ExitCode:
    """Plan or execute, keep the outcome, run the hook, and show it. `work` returns the outcomes and the live shape."""
    from outlast.restore.restoring import Restorer
    from outlast.restore.sessions import Sessions
    from outlast.state.plans import put_plan

    doing = "Restoring" if executed else "Planning"
    chosen = [TableName.parse(name) for name in plan.tables]
    with (
        invocation.output.progress(doing, len(entries)) as progress,
        Sessions(_target(invocation, plan)) as sessions,
    ):
        job = Restorer(
            sessions,
            lambda session: invocation.catalog(session, plan.source),
            chosen,
            on_tenant=lambda _: progress.advance(),
        )
        outcomes, shape = work(job, _subjects(invocation, plan, entries))
        errors = job.errors
    reached = any(one.state in (TenantState.DONE, TenantState.RIGHT) for one in outcomes)
    applied = datetime.now(UTC) if executed and reached else None
    again = plan.executed and not any(one.state is TenantState.DONE for one in outcomes)
    plan = replace(plan, tenants=outcomes, shape=shape, applied=applied or plan.applied)
    if not again:  # applied a second time, with nothing left to do: the record of what it did stays
        put_plan(invocation.state, plan.id, plan.to_bytes())
    if executed:
        _run_hook(invocation, plan)
    return show(invocation, plan, errors)


def _target(invocation: Invocation, plan: Plan) -> Target:
    from outlast.sources.postgres.session import Target

    return invocation.restore_target(plan.source) if plan.target is None else Target(plan.target)


def _names(tenants: Sequence[str], file: Path | None) -> list[str]:
    names = list(tenants)
    if file is not None:
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"cannot read the tenants' file {file}: {reason}") from error
        names += [line.strip() for line in lines if line.strip()]
    if not names:
        raise UsageError(
            "no tenant is named", hint="outlast restore TENANT…, or --tenants-file FILE; see outlast tenants"
        )
    return list(dict.fromkeys(names))


def _tables(names: Sequence[str]) -> list[TableName]:
    try:
        return sorted({TableName.parse(name) for name in names})
    except ValueError as error:
        raise UsageError(str(error), hint="Write --table schema.table.") from error


def _entries(invocation: Invocation, source: str, names: Sequence[str], run: RunRecord) -> list[TenantEntry]:
    found = invocation.vault.find_tenants(source, names, run.run)
    return list({entry.prefix: entry for entry in found}.values())


def _subjects(invocation: Invocation, plan: Plan, entries: Sequence[TenantEntry]) -> list[Subject]:
    from outlast.restore.history import restorable
    from outlast.restore.restoring import Subject

    vault = invocation.vault
    return [
        Subject(entry.tenant, lambda entry=entry: restorable(vault, plan.source, entry, plan.moment))  # type: ignore[misc]
        for entry in entries
    ]


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
        keys = f" (keys {', '.join(conflict.keys)}{', …' if conflict.rows > len(conflict.keys) else ''})"
        console.print(f"Conflict, tenant {conflict.tenant}: {conflict.message}{keys if conflict.keys else ''}")
    if len(plan.conflicts) > _CONFLICTS_SHOWN_MAX:
        console.print(
            f"… and {len(plan.conflicts) - _CONFLICTS_SHOWN_MAX:,} more conflicts (--json shows all of them)."
        )
    console.print(_last_line(plan))


def _last_line(plan: Plan) -> str:
    if plan.executed:
        done, right = plan.count(TenantState.DONE), plan.count(TenantState.RIGHT)
        rows = count(plan.effect.total(Operation.INSERT), "row")
        parts = [f"{rows} of {count(done, 'tenant')} restored to {plan.moment} (run {plan.run})"] if done else []
        parts += [f"{count(right, 'tenant')} had nothing missing"] if right else []
        return f"Plan {plan.id}: {', '.join(parts) or 'nothing was changed'}."
    effect = plan.effect
    line = (
        f"Plan {plan.id}: {effect.total(Operation.INSERT):,} to insert, {effect.total(Operation.UPDATE):,} to change,"
        f" {effect.total(Operation.HARD_DELETE):,} to delete, as of {plan.moment} (run {plan.run})."
    )
    return f"{line}\nNext: outlast apply {plan.id}" if effect and plan.count(TenantState.PLANNED) else line
