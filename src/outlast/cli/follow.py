"""`outlast follow`: continuous capture; `--setup` and `--teardown` of what it needs in the source."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.core.errors import ExitCode, UsageError


def follow(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
    setup: Annotated[
        bool, typer.Option("--setup", help="Plan what following needs in the source: publications, identities, events.")
    ] = False,
    teardown: Annotated[
        bool, typer.Option("--teardown", help="Plan to take all of that away again, the slot too.")
    ] = False,
    execute: Annotated[
        bool, typer.Option("--execute", help="With --setup or --teardown: do it now instead of only showing it.")
    ] = False,
    print_sql: Annotated[
        bool, typer.Option("--print-sql", help="With --setup or --teardown: print the SQL for whoever owns the tables.")
    ] = False,
    accept_unbounded_wal: Annotated[
        bool,
        typer.Option(
            "--accept-unbounded-wal",
            help="With --setup: do without max_slot_wal_keep_size. A stopped follow may then fill the server's disk.",
        ),
    ] = False,
) -> ExitCode:
    """Capture every change as it is committed.

    --setup and --teardown show a plan with its SQL, its locks and what stays unprotected, and do nothing without
    --execute or `outlast apply PLAN`. They connect as `setup_url` of outlast.toml, if it has one.

    Exit codes: 0 shown or done; 1 a part could not be done, run it again; 3 refused, nothing was changed.
    """
    from outlast.cli import following_setup

    invocation = Invocation.of(context)
    if setup and teardown:
        raise UsageError("--setup and --teardown are opposites", hint="Name one of them.")
    if setup:
        return following_setup.setup(
            invocation, source, execute=execute, print_sql=print_sql, accept_unbounded_wal=accept_unbounded_wal
        )
    if teardown:
        return following_setup.teardown(invocation, source, execute=execute, print_sql=print_sql)
    raise UsageError("following itself is not in this release yet", hint="outlast follow --setup shows what it needs.")
