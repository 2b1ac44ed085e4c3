"""`outlast apply PLAN`: do exactly what a plan showed, or refuse."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.cli import following_setup, retaining
from outlast.cli.carrying_out import Way, carry_out
from outlast.cli.opening import Invocation
from outlast.cli.restoring import entries_of
from outlast.core.errors import ExitCode, NotFoundError, Refused, UsageError
from outlast.core.plan import Plan


def apply(
    context: typer.Context,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="A plan's id, or how it begins.")],
    parallel: Annotated[
        int | None, typer.Option(min=1, max=32, metavar="N", help="Groups of tenants restored at once.")
    ] = None,
    job: Annotated[
        bool, typer.Option("--job", help="Make it a durable job, as a restore of very many tenants always is.")
    ] = False,
    events: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Append a JSON line for each tenant as it is finished; - is stdout."),
    ] = None,
) -> ExitCode:
    """Carry out a plan exactly as it was shown.

    The plan is worked out again from the vault and the live tables. Where anything comes out differently than it was
    shown, that tenant is refused (exit code 3) and nothing of it is changed.
    """
    invocation = Invocation.of(context)
    retention = retaining.kept(invocation, plan)
    if retention is not None:
        return retaining.finish(invocation, retention, execute=True)
    following = following_setup.kept(invocation, plan)
    if following is not None:
        return following_setup.apply(invocation, following)
    shown = find_plan(invocation, plan)
    if shown.kind not in ("restore", "undo"):
        raise Refused(f"cannot apply plan {shown.id}: it is a plan to {shown.kind}")
    keys = [tenant.tenant.key for tenant in shown.tenants]
    if not keys:
        raise Refused(
            f"cannot apply plan {shown.id}: it was carried out as it was made, and was cut short",
            hint=f"Run the same restore again, and it goes on; or take back what was done: outlast undo {shown.id}",
        )
    entries = entries_of(invocation, shown, keys)

    return carry_out(invocation, shown, entries, Way(parallel, job, events), executed=True, shown=shown)


def find_plan(invocation: Invocation, given: str) -> Plan:
    """A plan by its id or the beginning of it."""
    from outlast.state.plans import list_plans

    kept = list_plans(invocation.state)
    found = [data for name, data in kept if name == given] or [data for name, data in kept if name.startswith(given)]
    if not found:
        raise NotFoundError(f"there is no plan {given!r} on this host", hint="List them: outlast plans")
    if len(found) > 1:
        raise UsageError(f"{len(found)} plans begin with {given!r}", hint="List them: outlast plans")
    return Plan.from_bytes(found[0])
