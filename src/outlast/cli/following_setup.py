"""`follow --setup` and `--teardown`: the plan is shown and kept, and carried out as it was shown or refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from outlast.cli.render import count
from outlast.core.errors import ExitCode, OutlastError, Refused

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.cli.opening import Invocation
    from outlast.sources.postgres.following_plan import FollowingPlan, Step, Unprotected
    from outlast.sources.postgres.following_steps import StepResult
    from outlast.sources.postgres.session import Session

_SPACE = "following-plan"
_SQL_LENGTH_MAX = 400


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options ask for."""

    execute: bool = False
    print_sql: bool = False
    lock_timeout_s: float | None = None
    accept_unbounded_wal: bool = False


def setup(invocation: Invocation, source: str, wanted: Wanted) -> ExitCode:
    """Plan what following needs in the source, and with --execute make it."""
    with closing(_session(invocation, source)) as session:
        plan = _plan(invocation, session, source, "follow-setup", accept_unbounded_wal=wanted.accept_unbounded_wal)
        return _finish(invocation, session, plan, wanted)


def teardown(invocation: Invocation, source: str, wanted: Wanted) -> ExitCode:
    """Plan to take it away again, and with --execute do it."""
    with closing(_session(invocation, source)) as session:
        plan = _plan(invocation, session, source, "follow-teardown")
        return _finish(invocation, session, plan, wanted)


def kept(invocation: Invocation, plan_id: str) -> FollowingPlan | None:
    """A plan of these commands, by its id."""
    from outlast.sources.postgres.following_plan import FollowingPlan

    value = invocation.state.get(_SPACE, plan_id)
    return None if value is None else FollowingPlan.from_bytes(value)


def apply(invocation: Invocation, shown: FollowingPlan) -> ExitCode:
    """Carry out a plan that was shown, if it would still come out the same."""
    accepted = bool(shown.settings.get("accept_unbounded_wal"))
    with closing(_session(invocation, shown.source)) as session:
        plan = _plan(invocation, session, shown.source, shown.kind.value, accept_unbounded_wal=accepted)
        if not plan.same_steps(shown):
            option = "--setup" if shown.kind.value == "follow-setup" else "--teardown"
            raise Refused(
                f"cannot apply plan {shown.id}: the database is not as it was when it was shown",
                hint=f"Plan again: outlast follow {option}",
                code="stale-plan",
            )
        return _finish(invocation, session, plan, Wanted(execute=True))


def _session(invocation: Invocation, source: str) -> Session:
    from outlast.sources.postgres.session import connect

    return connect(invocation.setup_target(source), role="setup", autocommit=True, read_only=False)


def _plan(
    invocation: Invocation, session: Session, source: str, kind: str, *, accept_unbounded_wal: bool = False
) -> FollowingPlan:
    from outlast.sources.postgres.setup import planned_setup, planned_teardown

    settings = invocation.following(source, accept_unbounded_wal=accept_unbounded_wal)
    with session.transaction():  # one snapshot for all that is read
        catalog = invocation.catalog(session, source)
        planned = planned_setup if kind == "follow-setup" else planned_teardown
        return planned(session, catalog, settings)


def _finish(invocation: Invocation, session: Session, plan: FollowingPlan, wanted: Wanted) -> ExitCode:
    from outlast.sources.postgres.following_plan import script
    from outlast.sources.postgres.following_steps import LOCK_TIMEOUT_S, Patience, carry_out

    problem = _refused(plan)
    patience = Patience(wanted.lock_timeout_s or LOCK_TIMEOUT_S)
    if wanted.print_sql:
        text = script(plan, patience.lock_timeout_s)
        return invocation.output.finish({**plan.to_json(), "executed": False, "script": text}, text, problem=problem)
    results: tuple[StepResult, ...] = ()
    executed = wanted.execute and problem is None
    if executed:
        results = carry_out(session, plan, patience, lambda result: _say(invocation, result))
        problem = _unfinished(plan, results)
    else:
        invocation.state.put(_SPACE, plan.id, plan.to_bytes())
    fields = {**plan.to_json(), "executed": executed, "results": [result.to_json() for result in results]}

    def text_of(console: Console) -> None:
        for line in _described(plan, results, console.width):
            console.print(line)
        if executed and problem is None:
            console.print("\nDone." + (" Next: outlast follow" if plan.kind.value == "follow-setup" else ""))
        elif problem is None and not plan.is_empty:
            console.print(f"\nNext: outlast apply {plan.id}")

    return invocation.output.finish(fields, text_of, problem=problem)


def _say(invocation: Invocation, result: StepResult) -> None:
    told = f": {result.error}" if result.error else ""
    invocation.output.note(f"{result.state.value}  {result.step.what}{told}")


def _refused(plan: FollowingPlan) -> OutlastError | None:
    if not plan.refusals:
        return None
    first = plan.refusals[0]
    more = f" (and {len(plan.refusals) - 1} more)" if len(plan.refusals) > 1 else ""
    doing = "set up" if plan.kind.value == "follow-setup" else "take away"
    return Refused(
        f"cannot {doing} following of {plan.source}: {first.message}{more}", hint=first.hint, code=first.code
    )


def _unfinished(plan: FollowingPlan, results: Sequence[StepResult]) -> OutlastError | None:
    """What was not done. Steps that only make following better do not fail the command."""
    from outlast.sources.postgres.following_steps import StepState
    from outlast.sources.postgres.setup import undone

    left = undone(tuple(results))
    if not left:
        return None
    again = "--setup" if plan.kind.value == "follow-setup" else "--teardown"
    worst = next((result for result in left if result.state is not StepState.LACKING), left[0])
    hint = {
        StepState.LACKING: f"Have the SQL run by one who may: outlast follow {again} --print-sql",
        StepState.BUSY: f"Find who holds it in pg_locks, or wait; then: outlast follow {again} --execute",
    }.get(worst.state, f"What was done stands. Then: outlast follow {again} --execute")
    return OutlastError(
        f"{count(len(left), 'step')} of {len(plan.steps)} not done: {worst.step.what}: {worst.error}",
        hint=hint,
        code=f"setup-{worst.state.value}",
    )


# Text ------------------------------------------------------------------------------------------------------------


def _described(plan: FollowingPlan, results: Sequence[StepResult], width: int) -> list[str]:
    states = {result.step.key: result for result in results}
    is_setup = plan.kind.value == "follow-setup"
    lines = [f"Plan {plan.id}: {'set up' if is_setup else 'take away'} following of {plan.source} ({plan.database})"]
    if is_setup:
        lines.append(
            f"Slot {plan.slot}; publications {' and '.join(plan.publications)}: {count(plan.whole, 'table')} with "
            f"every change, {plan.partial} with less"
        )
    if plan.is_empty:
        lines.append("Nothing is missing." if is_setup else "There is nothing to take away.")
    for step in plan.steps:
        lines += _step(step, states.get(step.key), width)
    if plan.unprotected:
        lines += ["", f"Not kept by following ({_totals(plan.unprotected)}); every backup keeps it:"]
        for one in plan.unprotected:
            lines += wrap(f"  {one.table}: {one.what}, because {one.reason}", width, subsequent_indent="    ")
            if one.hint:
                lines += wrap(f"    {one.hint}", width, subsequent_indent="    ")
    if plan.remarks:
        lines.append("")
        for remark in plan.remarks:
            lines += wrap(f"  {remark}", width, subsequent_indent="    ")
    for refusal in plan.refusals:
        lines += wrap(f"Refused: {refusal.message}", width, subsequent_indent="  ")
        lines += wrap(f"  {refusal.hint}", width, subsequent_indent="  ")
    return lines


def _step(step: Step, result: StepResult | None, width: int) -> list[str]:
    mark = f" [{result.state.value}]" if result else ""
    lines = wrap(f"+ {step.what}{mark}", width, subsequent_indent="  ")
    if result is not None:
        return [*lines, *wrap(f"    {result.error}", width, subsequent_indent="    ")] if result.error else lines
    lines = ["", *lines]
    shown = [one for one in step.sql if len(one) <= _SQL_LENGTH_MAX]
    lines += [f"    {statement};" for statement in shown]
    if len(shown) < len(step.sql):
        lines.append(f"    … and {count(len(step.sql) - len(shown), 'longer statement')} (--print-sql shows all)")
    lines += wrap(f"    locks: {step.locks}", width, subsequent_indent="      ")
    if step.cost:
        lines += wrap(f"    costs: {step.cost}", width, subsequent_indent="      ")
    if step.lacks:
        lines += wrap(f"    NOT POSSIBLE for this role: {step.lacks}", width, subsequent_indent="      ")
    return lines


def _totals(unprotected: Sequence[Unprotected]) -> str:
    kinds = Counter(one.what for one in unprotected)
    return ", ".join(f"{what} of {count(number, 'table')}" for what, number in kinds.items())
