"""`outlast erase TENANT`: destroy a tenant's key, so that nothing of theirs can be read again."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.cli import retaining
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.core.errors import ExitCode


def erase(
    context: typer.Context,
    tenant: Annotated[
        str | None,
        typer.Argument(metavar="TENANT", help="A tenant's key or label; without one, finish what was interrupted."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the erasures that are marked or done.")] = False,
    release: Annotated[
        int | None, typer.Option(metavar="MARK", help="Take an erasure back before it is done, by its mark's number.")
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it now instead of only showing it.")] = False,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Plan to destroy a tenant's key, so that nothing of theirs can be read again.

    Two steps. The first marks the tenant and destroys nothing; once the grace period ([retention] grace_days) is over
    the same command destroys every key of theirs in the vault. Nothing brings them back, not even the recovery key. The
    ledger of erasures keeps a restore from bringing erased rows back.

    Exit codes: 0 planned, done, or listed; 2 there is no such tenant; 3 refused: on hold, or still in its grace period.
    """
    from outlast.vault.marks import MarkKind
    from outlast.vault.retention import plan_erase, plan_release, plan_unfinished_erasures

    invocation = Invocation.of(context)
    vault = invocation.vault
    now = retaining.now()
    if list_:
        return retaining.list_marks(invocation, source, MarkKind.ERASE, MarkKind.DESTROY)
    if release is not None:
        plan = plan_release(vault, source, release, now=now)
    elif tenant is None:
        plan = plan_unfinished_erasures(vault, source, now=now)
    else:
        entry = vault.find_tenant(source, tenant)
        plan = plan_erase(vault, source, entry, now=now, grace=retaining.grace(invocation))
    return retaining.finish(invocation, plan, execute=execute)
