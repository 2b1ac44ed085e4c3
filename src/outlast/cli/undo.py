"""`outlast undo PLAN`: plan to take back what a plan did, show it, and with --execute do it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from outlast.cli.apply import find_plan
from outlast.cli.opening import Invocation
from outlast.cli.restore import Way, carry_out
from outlast.cli.restoring import entries_of
from outlast.core.errors import ExitCode, Refused
from outlast.core.plan import Plan, TenantState, new_plan_id
from outlast.core.recipe import Mode, Prefer, Recipe


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
    # One whose answer was lost stands as failed here: the vault and the server know better, and are asked
    keys = [one.tenant.key for one in undone.tenants if one.state in (TenantState.DONE, TenantState.FAILED)]
    if not keys:
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
    return carry_out(invocation, new, entries_of(invocation, new, keys), Way(parallel), executed=execute)
