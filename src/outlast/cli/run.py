"""`outlast run SCRIPT --receipt ID`: run on production what was rehearsed, and nothing else."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.declaring import read_text, tenants_text
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, effect_table
from outlast.cli.running import (
    Held,
    RunKeeper,
    check_approvals,
    committed_runs,
    done_tenants,
    hold,
    opened_runner,
    whoever,
)
from outlast.core.effect import merge
from outlast.core.errors import ExitCode, OutlastError, Refused
from outlast.core.plan import Plan, TenantPlan, TenantState, new_plan_id
from outlast.core.recipe import Recipe
from outlast.core.tenant import RESERVED, Tenant, TenantKey

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.rehearsal.receipt import Receipt
    from outlast.rehearsal.run import Part, Ran
    from outlast.rehearsal.script import Script


def run(
    context: typer.Context,
    script: Annotated[Path, typer.Argument(metavar="SCRIPT", help="The .sql file that was rehearsed.")],
    receipt: Annotated[str, typer.Option(metavar="ID", help="What its rehearsal printed, or how that begins.")],
    execute: Annotated[
        bool, typer.Option("--execute", help="Do it now, instead of only showing what would be done.")
    ] = False,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who runs it; else this system's user.")] = None,
    accept_unguarded: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Run what cannot run in a transaction, without guard, in this name."),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="So many tenants a transaction, where the script takes :'tenants'."),
    ] = None,
    pause: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="Between two batches.")] = 1.0,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Run a rehearsed script on production, guarded.

    One transaction. The rehearsed rows are taken under lock first, each as it was; then the script runs; and only if it
    did exactly what was rehearsed is it committed. Otherwise all is rolled back, and what differed is shown (exit code
    3). Where the intent names canaries and the script takes its tenants as :'tenants', those come first, and running it
    again goes on with the rest. What was done can be taken back: outlast undo RUN.
    """
    invocation = Invocation.of(context)
    held = hold(invocation, source, receipt)
    found = _read(script, held.receipt)
    _check(invocation, held)
    if found.unguarded:
        return _unguarded(invocation, held, found, accept_unguarded, by or whoever(), execute=execute)
    parts = _parts(invocation, held, found, batch)
    if not execute:
        return _show(invocation, held, parts, script)
    return _execute(invocation, held, parts, by or whoever(), pause)


def _read(path: Path, receipt: Receipt) -> Script:
    from outlast.rehearsal.script import read_script

    text = read_text(path, "`run` takes the .sql file that was rehearsed.")
    script = read_script(text, path.name, dict(receipt.arguments))
    script.check()
    if script.digest != receipt.script:
        raise Refused(
            f"{path.name} is not the script that receipt {receipt.id} is for: its text was changed since",
            hint=f"Rehearse it as it is now: outlast rehearse {path}",
            code="other-script",
        )
    return script


def _check(invocation: Invocation, held: Held) -> None:
    receipt = held.receipt
    if receipt.expired(datetime.now(UTC)):
        raise Refused(
            f"receipt {receipt.id} expired at {receipt.expires:%Y-%m-%d %H:%M} UTC",
            hint="Rehearse again, on a newer copy.",
            code="expired",
        )
    check_approvals(invocation, held)


def _parts(invocation: Invocation, held: Held, script: Script, batch: int | None) -> list[Part]:
    """What is left to run, in order: of a receipt with canaries those alone, until they are done."""
    from outlast.rehearsal.run import Part
    from outlast.rehearsal.script import TENANTS_VARIABLE, read_script
    from outlast.rehearsal.variables import mentioned

    receipt = held.receipt
    committed = committed_runs(invocation, receipt.source, held.runs)
    done = done_tenants(held, committed)
    touched = receipt.effect.tenants
    if done is None or (done and done >= set(touched)):
        run = next(one.content["run"] for one in reversed(held.runs) if committed[one.path])
        raise Refused(
            f"receipt {receipt.id} was used already: it works once",
            hint=f"What was done can be taken back: outlast undo {run}. To run it again, rehearse again.",
            code="receipt-used",
        )
    by_tenant = TENANTS_VARIABLE in mentioned(script.text) and not set(touched) & RESERVED
    if not by_tenant and (batch or receipt.canary):
        what = "--batch" if batch else "a canary"
        raise Refused(
            f"{what} needs a script that takes its tenants as :'{TENANTS_VARIABLE}', and touches rows of nobody else",
            hint=f"For example: WHERE tenant_id = ANY (:'{TENANTS_VARIABLE}'::bigint[])",
            code="no-tenants",
        )
    canaries = [tenant for tenant in receipt.canary if tenant not in done]
    left = [tenant for tenant in touched if tenant not in done and tenant not in receipt.canary]
    if not canaries and not done and batch is None:
        return [Part(receipt, script)]
    groups = (
        [canaries]
        if canaries
        else [left[at : at + (batch or len(left))] for at in range(0, len(left), batch or len(left))]
    )

    def part(tenants: Sequence[TenantKey]) -> Part:
        given = {**dict(receipt.arguments), TENANTS_VARIABLE: tenants_text(tenants)}
        return Part(receipt, read_script(script.text, script.name, given), tuple(tenants))

    return [part(group) for group in groups]


def _show(invocation: Invocation, held: Held, parts: Sequence[Part], path: Path) -> ExitCode:
    """What would be done, and whether production still is as it was rehearsed."""
    keeper = RunKeeper(held, invocation, "", "")
    problem: OutlastError | None = None
    try:
        with opened_runner(invocation, keeper) as runner:
            for part in parts:
                runner.look(part)
    except Refused as error:
        problem = error
    return _finish(invocation, held, _Told(parts, ()), problem, executed=False, path=path)


@dataclass(frozen=True)
class _Told:
    """What is to be shown: the parts planned, those done, and the run's id once there is one."""

    parts: Sequence[Part]
    done: Sequence[Ran]
    run: str | None = None


def _execute(invocation: Invocation, held: Held, parts: Sequence[Part], by: str, pause: float) -> ExitCode:
    from outlast.cli.restoring import undo_signer

    undo_signer(invocation)  # refuse before anything is locked
    keeper = RunKeeper(held, invocation, new_plan_id(datetime.now(UTC)), by)
    done: list[Ran] = []
    problem: OutlastError | None = None
    _keep_plan(invocation, held, keeper.run, done)  # what is cut short can be undone, too
    try:
        with opened_runner(invocation, keeper) as runner:
            for number, part in enumerate(parts):
                if number:
                    time.sleep(pause)
                keeper.tenants = part.tenants
                done.append(runner.run(part))
                _keep_plan(invocation, held, keeper.run, done)
                invocation.output.note(f"{number + 1} of {len(parts)}: {count(len(done[-1].tenants), 'tenant')} done.")
    except OutlastError as error:
        problem = error
    told = _Told(parts, done, keeper.run)
    _report(invocation, held, told, problem, by)
    return _finish(invocation, held, told, problem, executed=True)


def _report(invocation: Invocation, held: Held, told: _Told, problem: OutlastError | None, by: str) -> None:
    """Incidents that are open hear of what was run on production, or stopped there."""
    from outlast.cli.informing import report_meanwhile

    changed = sum(ran.effect.rows for ran in told.done)
    tenants = {key for ran in told.done for key in ran.tenants}
    what = f"{held.receipt.name} was run by {by}: {count(changed, 'row')} of {count(len(tenants), 'tenant')}"
    if problem is not None:
        what = f"{held.receipt.name}, run by {by}, was stopped before it changed anything more: {problem.message}"
    report_meanwhile(invocation, what, f"run {told.run}")


def _keep_plan(invocation: Invocation, held: Held, run: str, done: Sequence[Ran]) -> None:
    """The run as a plan of this host: `plans` lists it, and `undo` takes it back."""
    from outlast.state.plans import put_plan

    receipt = held.receipt
    tenants = [
        TenantPlan(receipt.tenants.get(key, Tenant(key)), TenantState.DONE, ran.effect.of(key), kept=ran.kept)
        for ran in done
        if ran.kept
        for key in ran.tenants
        if ran.effect.of(key)
    ]
    now = datetime.now(UTC)
    plan = Plan(
        *(run, "run", receipt.source, Recipe(), 0, f"before run {run}", now, tuple(tenants)),
        applied=now if done else None,
    )
    put_plan(invocation.state, run, plan.to_bytes())


def _unguarded(
    invocation: Invocation, held: Held, script: Script, name: str | None, by: str, *, execute: bool
) -> ExitCode:
    """What cannot run in a transaction: shown for what it is, and run by somebody's name."""
    from outlast.core.effect import Effect
    from outlast.rehearsal.performing import perform_unguarded
    from outlast.rehearsal.run import About
    from outlast.sources.postgres.session import connect

    kinds = ", ".join(dict.fromkeys(one.kind for one in script.unguarded))
    if name is None:
        raise Refused(
            f"{script.name} cannot run in a transaction ({kinds}): it is class unguarded, and nothing takes it back",
            hint="Whoever answers for it adds --accept-unguarded NAME.",
            code="unguarded",
        )
    if done_tenants(held, committed_runs(invocation, held.receipt.source, held.runs)) is None:
        raise Refused(f"receipt {held.receipt.id} was used already: it works once", code="receipt-used")
    if execute:
        keeper = RunKeeper(held, invocation, new_plan_id(datetime.now(UTC)), f"{by}, unguarded by {name}")
        target = invocation.script_target(held.receipt.source)
        with connect(target, role="run", autocommit=True, read_only=False) as session:
            keeper.record(About("", "", Effect(), None))
            perform_unguarded(session, script)
    fields = {"receipt": held.receipt.id, "executed": execute, "unguarded": [one.text for one in script.unguarded]}
    told = f"{script.name}: {kinds} {'was run' if execute else 'would be run'} without a guard, accepted by {name}."
    return invocation.output.finish(fields, told)


def _finish(
    invocation: Invocation,
    held: Held,
    told: _Told,
    problem: OutlastError | None,
    *,
    executed: bool,
    path: Path | None = None,
) -> ExitCode:
    receipt = held.receipt
    effect = merge([ran.effect for ran in told.done] if executed else [part.effect for part in told.parts])
    fields: Mapping[str, object] = {
        "receipt": receipt.id,
        "run": told.run if told.done else None,
        "executed": bool(told.done),
        "script": receipt.name,
        "rehearsed_by": receipt.by,
        "approved_by": list(held.approved_by),
        "tenants": len({key for key, _, _ in effect.counts}),
        "effect": effect.to_json(),
        "differences": [
            {"table": one.table or None, "message": one.message, "rows": one.rows, "mend": one.mend or None}
            for one in getattr(problem, "differences", ())
        ],
        "left": _left(held, told),
    }

    def show(console: Console) -> None:
        if effect:
            effect_table(effect, receipt.tenants, done=executed, summarize=False)(console)
        for one in getattr(problem, "differences", ()):
            console.print(f"Differs: {one.message}")
            if one.mend:
                console.print(f"ROLLBACK does not put that right. This does:\n{one.mend}", soft_wrap=True)
        for line in _lines(held, told, problem, executed=executed, path=path):
            console.print(line)

    return invocation.output.finish(fields, show, problem=problem)


def _left(held: Held, told: _Told) -> int:
    reached = {tenant for ran in told.done for tenant in ran.tenants}
    earlier = {tenant for run in held.runs for tenant in run.content["tenants"] or ()}
    return len(set(held.receipt.effect.tenants) - reached - earlier)


def _lines(held: Held, told: _Told, problem: OutlastError | None, *, executed: bool, path: Path | None) -> list[str]:
    receipt = held.receipt
    approved = f", approved by {', '.join(held.approved_by)}" if held.approved_by else ""
    if problem is not None and not told.done:
        return _untouched(problem)
    if not executed:
        hours = (receipt.expires - datetime.now(UTC)).total_seconds() / 3600
        lines = [
            f"Receipt {receipt.id}: {receipt.name}, rehearsed by {receipt.by}{approved}; it holds for {hours:.1f} h.",
            f"Production is as rehearsed, and untouched. {_steps(told)}",
        ]
        return [*lines, f"Next: outlast run {shlex.quote(str(path or receipt.name))} --receipt {receipt.id} --execute"]
    rows = sum(ran.effect.rows for ran in told.done)
    lines = [f"Run {told.run}: {count(rows, 'row')} as rehearsed{approved}, proven before commit."]
    lines.append(f"To take it back: outlast undo {told.run}")
    if left := _left(held, told):
        lines.append(f"{count(left, 'tenant')} left. Look at those done; then run the same command again to go on.")
    return lines


def _untouched(problem: OutlastError) -> list[str]:
    if not isinstance(problem, Refused):
        return []
    changed = any(one.mend for one in getattr(problem, "differences", ()))
    return ["Production's rows are untouched." if changed else "Production is untouched."]


def _steps(told: _Told) -> str:
    if len(told.parts) == 1 and told.parts[0].tenants is None:
        return "It would run as one transaction."
    first = told.parts[0].tenants or ()
    return f"It would run for {count(len(first), 'tenant')} first, of {count(len(told.parts), 'transaction')}."
