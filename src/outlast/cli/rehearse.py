"""`outlast rehearse`: run a script on a copy rebuilt from the vault, and hold all it did against its intent."""

from __future__ import annotations

import getpass
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.declaring import declared, draft_path
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.core.errors import ExitCode, OutlastError, UsageError

if TYPE_CHECKING:
    from outlast.rehearsal.clone import CloneSupply
    from outlast.rehearsal.rehearse import Rehearsal, Request, Supplying
    from outlast.rehearsal.supply import Supply


def rehearse(
    context: typer.Context,
    words: Annotated[
        list[str], typer.Argument(metavar="SCRIPT | -- COMMAND…", help="A .sql file; or, after --, any command.")
    ],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A variable of the script, as psql's -v.")
    ] = None,
    intent: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="An intent.toml; else the script's header, or NAME.intent.toml beside it."),
    ] = None,
    draft: Annotated[
        bool,
        typer.Option(
            "--draft", help="Write an intent of what was seen beside the script, for another person to adopt."
        ),
    ] = False,
    twice: Annotated[
        bool, typer.Option("--twice", help="Run it on two equal copies: what differs is not repeatable.")
    ] = False,
    at: Annotated[str, typer.Option(metavar="MOMENT", help="The copy's moment.")] = "latest",
    role: Annotated[
        str | None, typer.Option(metavar="ROLE", help="The role to run as; else that of script_url, or of restore_url.")
    ] = None,
    tenants: Annotated[
        list[str] | None, typer.Option(metavar="TENANT", help="Only these tenants in the copy: never conclusive.")
    ] = None,
    server_bin: Annotated[
        str | None, typer.Option(metavar="DIR", help="PostgreSQL's programs for the copy; else those of its version.")
    ] = None,
    clone_url: Annotated[
        str | None, typer.Option(metavar="URL", help="Rehearse on this database instead, which is used up by it.")
    ] = None,
    clone_command: Annotated[
        str | None, typer.Option(metavar="COMMAND", help="The same, by a command that prints the URL of a fresh clone.")
    ] = None,
    html: Annotated[str | None, typer.Option(metavar="FILE", help="Write the report as a page as well.")] = None,
    by: Annotated[str | None, typer.Option(metavar="NAME", help="Who rehearses; else this system's user.")] = None,
    jobs: Annotated[int, typer.Option(min=1, metavar="N", help="Processes that fill the copy.")] = 2,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Run a script on a copy rebuilt from the vault, and show its exact effect.

    By tenant, table and operation, cascades and triggers included, held against what its author declared. Production is
    neither touched nor asked.

    Exit codes: 0 within the intent; 1 the copy could not tell; 3 blocked.
    """
    from outlast.cli.rehearsed import show
    from outlast.cli.running import receipt_for
    from outlast.rehearsal.rehearse import Request
    from outlast.rehearsal.rehearse import rehearse as carry_out

    invocation = Invocation.of(context)
    what = declared(words, set_ or [], intent, lambda names: _keys(invocation, source, at, names))
    settings = invocation.ownership(source)
    request = Request(
        source,
        settings,
        role or _role_of(invocation, source),
        what.script,
        what.command,
        what.intent,
        twice,
    )
    supply: Supplying
    if clone_url or clone_command:
        supply = _clone(invocation, source, clone_url, clone_command)
    else:
        supply = _supply(invocation, source, at, server_bin, tuple(tenants or ()), jobs)
    done = carry_out(supply, request)
    receipt = receipt_for(invocation, request, done, by)
    _report_blocked(invocation, request, done, by or getpass.getuser())
    return show(
        invocation.output,
        request,
        done,
        receipt=receipt,
        draft=draft_path(words) if draft else None,
        html=None if html is None else Path(html),
        by=by or getpass.getuser(),
        path=words[0],
    )


def _report_blocked(invocation: Invocation, request: Request, done: Rehearsal, by: str) -> None:
    """Incidents that are open hear of a script that was kept from production."""
    from outlast.cli.informing import report_meanwhile
    from outlast.cli.rehearsed import title_of
    from outlast.rehearsal.verdict import Outcome

    if done.verdict.outcome is Outcome.BLOCKED:
        why = done.verdict.findings[0].message if done.verdict.findings else "its effect is not what was declared"
        now = datetime.now(UTC)
        report_meanwhile(
            invocation, f"rehearsal of {title_of(request)} by {by} was blocked: {why}", f"rehearsal {now.isoformat()}"
        )


def _keys(invocation: Invocation, source: str, moment: str, names: Sequence[str]) -> list[str]:
    from outlast.restore.history import find_entries

    at = invocation.moment(source, moment)
    return [entry.tenant.key for entry in find_entries(invocation.vault, source, names, at)]


def _role_of(invocation: Invocation, source: str) -> str:
    user = invocation.script_target(source).parameters.get("user") or os.environ.get("PGUSER")
    if not user:
        raise UsageError(
            "nothing says which role the script runs as", hint="Name it: --role ROLE, or script_url in outlast.toml."
        )
    return user


def _supply(
    invocation: Invocation, source: str, moment: str, server_bin: str | None, only: tuple[str, ...], jobs: int
) -> Supply:
    from outlast.rehearsal.copy_data import VaultPlace
    from outlast.rehearsal.supply import Supply

    at = invocation.moment(source, moment)
    config = invocation.config
    place = VaultPlace(config.vault_url, invocation.pin, invocation.identity, source, at.text, config.key_dir)
    major = int(invocation.vault.details(source, at.run.run).database.get("server_version") or 0) // 10000
    return Supply(
        invocation.vault,
        at,
        place,
        invocation.ownership(source),
        _binaries(server_bin, major),
        config.key_dir / "copies",
        invocation.state.host_key,
        only,
        jobs,
        say=invocation.output.note,
    )


def _clone(invocation: Invocation, source: str, url: str | None, command: str | None) -> CloneSupply:
    from outlast.rehearsal.clone import CloneSupply

    production = (invocation.target(source), invocation.restore_target(source), invocation.script_target(source))
    return CloneSupply(
        tuple(dict.fromkeys(production)), invocation.ownership(source), url, command, say=invocation.output.note
    )


def _binaries(folder: str | None, major: int) -> Path:
    from outlast.sources.postgres.server import embedded_folder, find_program

    if folder is not None:
        return find_program("initdb", major, Path(folder)).parent
    try:
        return find_program("initdb", major).parent
    except OutlastError:
        embedded = embedded_folder()
        if embedded is None:
            raise
        return embedded  # of another version: the verdict says so
