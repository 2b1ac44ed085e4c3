"""`outlast hold`: keep a tenant or a run whatever retention says."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.cli import retaining
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.core.errors import ExitCode, UsageError


def hold(
    context: typer.Context,
    tenant: Annotated[
        str | None, typer.Argument(metavar="TENANT", help="A tenant's key or label; without anything, list the holds.")
    ] = None,
    run: Annotated[
        list[str] | None, typer.Option(metavar="RUN", help="Only these runs: 3, or 2-5. May be repeated.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Keep everything of the source.")] = False,
    release: Annotated[int | None, typer.Option(metavar="MARK", help="Take a hold back, by its mark's number.")] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it now instead of only showing it.")] = False,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Keep a tenant or a run whatever retention says.

    A hold wins over forget, prune and erase until it is released: for a customer who is in dispute, or the runs from
    before an incident.

    Exit codes: 0 planned, done, or listed; 2 there is no such tenant, run or hold.
    """
    from outlast.vault.marks import MarkKind
    from outlast.vault.retention import plan_hold, plan_release

    invocation = Invocation.of(context)
    vault = invocation.vault
    now = retaining.now()
    if release is not None:
        return retaining.finish(invocation, plan_release(vault, source, release, now=now), execute=execute)
    if everything and (tenant or run):
        raise UsageError("--all holds everything, and a tenant or run is named besides", hint="Leave one of both out.")
    if not (tenant or run or everything):
        return retaining.list_marks(invocation, source, MarkKind.HOLD)
    entry = vault.find_tenant(source, tenant) if tenant is not None else None
    plan = plan_hold(vault, source, now=now, entry=entry, numbers=retaining.runs_of(run or []))
    return retaining.finish(invocation, plan, execute=execute)
