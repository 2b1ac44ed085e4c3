"""`outlast forget RUN…`: give up single runs."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.cli import retaining
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.core.errors import ExitCode, UsageError


def forget(
    context: typer.Context,
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN...", help="Runs: 3, or 2-5 for several.")] = None,
    tenant: Annotated[str | None, typer.Option(metavar="T", help="Only this tenant's part of them.")] = None,
    release: Annotated[
        int | None, typer.Option(metavar="MARK", help="Take an earlier forget back, by its mark's number.")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it now instead of only showing it.")] = False,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Plan to give up single runs of the vault.

    The first of two steps: it writes a mark, and deletes nothing. Once the grace period ([retention] grace_days) is
    over `outlast prune` deletes what only these runs need; until then --release takes it back. The newest run always
    stays. Without a run it lists what is marked.

    Exit codes: 0 planned, or done; 2 there is no such run; 3 refused: the newest run, or one on hold.
    """
    from outlast.vault.marks import MarkKind
    from outlast.vault.retention import plan_forget, plan_release

    invocation = Invocation.of(context)
    vault = invocation.vault
    now = retaining.now()
    if release is not None:
        return retaining.finish(invocation, plan_release(vault, source, release, now=now), execute=execute)
    if not runs:
        if execute or tenant:
            raise UsageError("no run is named", hint="outlast forget RUN…; see outlast history TENANT")
        return retaining.list_marks(invocation, source, MarkKind.FORGET)
    entry = vault.find_tenant(source, tenant) if tenant is not None else None
    numbers = retaining.runs_of(runs)
    plan = plan_forget(vault, source, numbers, now=now, grace=retaining.grace(invocation), entry=entry)
    return retaining.finish(invocation, plan, execute=execute)
