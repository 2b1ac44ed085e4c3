"""`outlast follow`: continuous capture; `--setup` and `--teardown` of what it needs in the source."""

from __future__ import annotations

from typing import Annotated

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.core.errors import ExitCode, UsageError


def follow(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
    until_current: Annotated[
        bool, typer.Option("--until-current", help="Stop when everything that is committed by now is in the vault.")
    ] = False,
    flush_interval: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            max=600,
            metavar="SECONDS",
            help="How long a commit waits at most for the vault; else outlast.toml.",
        ),
    ] = None,
    metrics: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Give figures to Prometheus there, under /metrics; else outlast.toml."),
    ] = None,
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
    lock_timeout: Annotated[
        float | None,
        typer.Option(
            min=0.05,
            max=60,
            metavar="SECONDS",
            help="With --setup or --teardown: how long a step waits for its lock, each of four times (2).",
        ),
    ] = None,
    accept_unbounded_wal: Annotated[
        bool,
        typer.Option(
            "--accept-unbounded-wal",
            help="With --setup: do without max_slot_wal_keep_size. A stopped follow may then fill the server's disk.",
        ),
    ] = False,
) -> ExitCode:
    """Capture every change as it is committed.

    Runs until it is told to stop (SIGTERM, Ctrl-C), and flushes first. The first start makes a replication slot and a
    base backup at its very snapshot; after that it takes up where it was. A cut connection and a vault that is away are
    waited for; a lost slot, a failover and what the stream does not carry are told, and read again from the database.
    With --json it prints a line for each event and its figures every few seconds, and the result as the last line. Of a
    tool it asks for changes every [sources.NAME] poll, and writes a run where there are some, and one an hour. A tool's
    figures are given with --metrics alone.

    --setup and --teardown show a plan with its SQL, its locks and what stays unprotected, and do nothing without
    --execute or `outlast apply PLAN`. They connect as `setup_url` of outlast.toml, if it has one.

    Exit codes: 0 stopped as told, shown, or done; 1 it had to give up, the vault holds what was confirmed; 3 refused:
    not set up, a table is not classified, or another follower runs; 4 stopped while an alarm stood; 130 interrupted.
    """
    from outlast.cli import following_setup

    invocation = Invocation.of(context)
    if invocation.config.tool(source) is not None:
        from outlast.cli import polling

        if setup or teardown or execute or print_sql or accept_unbounded_wal or lock_timeout is not None:
            raise UsageError("a tool needs no setting up", hint=f"Follow it: outlast follow {source}")
        return polling.run(invocation, source, until_current=until_current, metrics=metrics)
    if setup and teardown:
        raise UsageError("--setup and --teardown are opposites", hint="Name one of them.")
    if setup:
        wanted = following_setup.Wanted(execute, print_sql, lock_timeout, accept_unbounded_wal)
        return following_setup.setup(invocation, source, wanted)
    if teardown:
        return following_setup.teardown(invocation, source, following_setup.Wanted(execute, print_sql, lock_timeout))
    if execute or print_sql or accept_unbounded_wal or lock_timeout is not None:
        raise UsageError(
            "--execute, --print-sql, --lock-timeout and --accept-unbounded-wal go with --setup or --teardown",
            hint="Name one of them, or leave these out.",
        )
    from outlast.cli import following

    return following.run(invocation, source, following.Wishes(until_current, flush_interval, metrics))
