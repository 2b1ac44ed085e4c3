"""`outlast prune`: what retention no longer keeps, in two steps."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer

from outlast.cli import retaining
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.core.errors import ExitCode


def prune(
    context: typer.Context,
    keep_days: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Keep every run younger than this; else [retention] keep_days."),
    ] = None,
    execute: Annotated[bool, typer.Option("--execute", help="Do it now instead of only showing it.")] = False,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Plan to remove what retention no longer keeps, in two steps.

    Marks the runs that are older than is kept, and deletes what an earlier mark gave up and whose grace period is over,
    as far as no run that is kept needs it; what interrupted backups left behind goes too. The newest run and what is on
    hold always stay. Made for cron, with --execute.

    Exit codes: 0 planned, or done; 1 a manifest that is kept could not be read, nothing was deleted; 3 refused.
    """
    from outlast.vault.retention import plan_prune

    invocation = Invocation.of(context)
    keep = timedelta(days=keep_days or invocation.config.document.retention.keep_days)
    plan = plan_prune(invocation.vault, source, now=retaining.now(), grace=retaining.grace(invocation), keep=keep)
    return retaining.finish(invocation, plan, execute=execute)
