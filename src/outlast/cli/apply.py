"""`outlast apply PLAN`: do exactly what a plan showed, or refuse."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import following_setup, retaining
from outlast.cli.opening import Invocation
from outlast.cli.restore import carry_out
from outlast.core.errors import ExitCode, NotFoundError, Refused, UsageError
from outlast.core.plan import Plan

if TYPE_CHECKING:
    from outlast.core.plan import TenantPlan
    from outlast.restore.restoring import Restorer, Subject


def apply(
    context: typer.Context,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help="A plan's id, or how it begins.")],
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
    if shown.kind != "restore":
        raise Refused(f"cannot apply plan {shown.id}: it is a plan to {shown.kind}")
    keys = [tenant.tenant.key for tenant in shown.tenants]
    entries = invocation.vault.find_tenants(shown.source, keys, shown.run)

    def work(job: Restorer, subjects: Sequence[Subject]) -> tuple[tuple[TenantPlan, ...], str]:
        return job.apply(shown, subjects), shown.shape

    return carry_out(invocation, shown, entries, work, executed=True)


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
