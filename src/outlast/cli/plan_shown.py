"""A plan to restore, or what came of it, as a person reads it; and its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from outlast.cli.opening import Invocation
from outlast.cli.render import count, effect_table, table_of
from outlast.core.effect import Effect, Operation
from outlast.core.errors import ExitCode, OutlastError, Refused
from outlast.core.plan import Plan, TenantState

if TYPE_CHECKING:
    from rich.console import Console


_CONFLICTS_SHOWN_MAX = 50
_TENANTS_SHOWN_MAX = 100


def show_plan(invocation: Invocation, plan: Plan, errors: Sequence[OutlastError]) -> ExitCode:
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
        line = f"Plan {plan.id}: {', '.join(parts) or 'nothing was changed'}{_without(plan)}."
        undoable = done and not plan.recipe.without_undo
        return f"{line}\nTo take it back: outlast undo {plan.id}" if undoable else line
    effect = plan.effect
    line = (
        f"Plan {plan.id}: {effect.total(Operation.INSERT):,} to insert, {_changed(effect):,} to change,"
        f" {effect.total(Operation.HARD_DELETE):,} to delete, {_as_of(plan)}{_without(plan)}."
    )
    return f"{line}\nNext: outlast apply {plan.id}" if effect and plan.count(TenantState.PLANNED) else line


def _changed(effect: Effect) -> int:
    return effect.total(Operation.UPDATE) + effect.total(Operation.SOFT_DELETE)


def _without(plan: Plan) -> str:
    return f"; as it is stays {', '.join(plan.recipe.excluded)}" if plan.recipe.excluded else ""


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
