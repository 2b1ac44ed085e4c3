"""`outlast undo PLAN`: plan to take back what a plan did, show it, and with --execute do it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.apply import find_plan
from outlast.cli.carrying_out import Way, carry_out
from outlast.cli.opening import Invocation
from outlast.cli.restoring import committed_in, entries_of, target_of
from outlast.core.errors import ExitCode, NotFoundError, Refused, UsageError
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
    plan like any other: shown, proven, and undone by its own id. A plan that another host carried out is found in the
    vault, by its before-images.
    """
    invocation = Invocation.of(context)
    undone = _find(invocation, plan)
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


def _find(invocation: Invocation, given: str) -> Plan:
    """A plan of this host, or else one that another host carried out: its before-images in the vault are enough."""
    from outlast.restore.undone import find_undone

    try:
        return find_plan(invocation, given)
    except NotFoundError as error:
        found = find_undone(invocation.vault, sorted(invocation.config.document.sources), given)
        if len(found) > 1:
            raise UsageError(
                f"{len(found)} plans in the vault begin with {given!r}", hint="Give more of the id."
            ) from error
        if not found:
            raise NotFoundError(
                f"there is no plan {given!r} on this host, and no before-image of it in the vault",
                hint="List this host's plans: outlast plans",
            ) from error
    ((source, plan_id),) = found
    plan = Plan(plan_id, "restore", source, Recipe(), 0, f"before plan {plan_id}", datetime.now(UTC), ())
    _check_database(invocation, plan)
    invocation.output.note(
        f"Plan {plan_id} is not in this host's state; it is undone by its before-images in the vault."
    )
    return plan


def _check_database(invocation: Invocation, plan: Plan) -> None:
    """Where another host wrote --into another database, this one does not know its URL."""
    from outlast.sources.postgres.session import connect
    from outlast.sources.postgres.which_database import is_same_database, which_database
    from outlast.vault.undo import list_undo

    vault = invocation.vault
    kept = list_undo(vault.store, plan.source, plan.id, vault.pin.signers)
    with connect(target_of(invocation, plan), role="restore", autocommit=True) as session:
        here = which_database(session)
    if not all(is_same_database(one.index.database, here) for one in kept):
        raise Refused(
            f"plan {plan.id} was carried out in another database than source {plan.source!r} is now",
            hint="Undo it on the host that made the plan, which knows the URL; after a move to another server:"
            " outlast restore --mode rewind",
            code="other-database",
        )


def _changed(invocation: Invocation, plan: Plan) -> list[TenantEntry]:
    """The tenants that the plan changed. One that was cut short does not know: the vault has its before-images."""
    from outlast.restore.undone import undone_tenants

    if not plan.executed:
        committed = committed_in(target_of(invocation, plan))
        return undone_tenants(invocation.vault, plan.source, plan.id, counts=lambda one: committed(one.index.xid))
    keys = [one.tenant.key for one in plan.tenants if one.state is TenantState.DONE]
    found = undone_tenants(invocation.vault, plan.source, plan.id, keys)
    lost = set(keys) - {entry.tenant.key for entry in found}
    # Each of these is then refused by itself
    return [*found, *(entries_of(invocation, plan, sorted(lost)) if lost else ())]
