"""`outlast undo PLAN`: plan to take back what a plan did, show it, and with --execute do it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.apply import find_plan
from outlast.cli.opening import Invocation
from outlast.cli.restore import Way, carry_out
from outlast.cli.restoring import entries_of
from outlast.core.errors import ExitCode, Refused
from outlast.core.plan import Plan, TenantState, new_plan_id
from outlast.core.recipe import Mode, Prefer, Recipe

if TYPE_CHECKING:
    from outlast.vault.reader import TenantEntry


def undo(
    context: typer.Context,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="The id of a plan that was applied, or how it begins.")],
    prefer: Annotated[
        Prefer | None,
        typer.Option(help="Rows changed again since: live leaves them, vault makes them as they were before the plan."),
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it now, as planned, instead of only showing it.")] = (
        False
    ),
    parallel: Annotated[
        int | None, typer.Option(min=1, max=32, metavar="N", help="Groups of tenants changed at once.")
    ] = None,
) -> ExitCode:
    """Plan to take back what a plan did, and with --execute do it.

    Row by row: what the plan inserted is deleted, what it deleted is inserted, what it changed becomes what it was. A
    row that was changed again since is a conflict (exit code 3), unless --prefer says whose it is to be. Undoing is a
    plan like any other: shown, proven, and undone by its own id.
    """
    invocation = Invocation.of(context)
    undone = find_plan(invocation, plan)
    if undone.recipe.without_undo:
        raise Refused(
            f"plan {undone.id} was carried out with --without-undo: nothing was kept to take it back with",
            hint="Look at what it changed: outlast plans; and at the tenant's moments: outlast history TENANT",
        )
    entries = _changed(invocation, undone)
    if not entries:
        raise Refused(
            f"plan {undone.id} changed nothing: there is nothing to undo", hint="See what was done: outlast plans"
        )
    now = datetime.now(UTC)
    new = Plan(
        new_plan_id(now),
        "undo",
        undone.source,
        Recipe(mode=Mode.REVERSE, prefer=prefer, undo_of=undone.id),
        undone.run,
        undone.moment,
        now,
        (),
        undone.target,
        at=undone.at,
    )
    return carry_out(invocation, new, entries, Way(parallel), executed=execute)


def _changed(invocation: Invocation, plan: Plan) -> list[TenantEntry]:
    """The tenants that the plan changed. One that was cut short does not know: the vault has its before-images."""
    if plan.executed:
        keys = [one.tenant.key for one in plan.tenants if one.state is TenantState.DONE]
        return entries_of(invocation, plan, keys) if keys else []
    from outlast.vault.undo import list_undo

    vault = invocation.vault
    kept = list_undo(vault.store, plan.source, plan.id, vault.pin.signers)
    prefixes = {prefix for one in kept for prefix in one.index.entries}
    return [entry for entry in vault.entries(plan.source, plan.run) if entry.prefix in prefixes]
