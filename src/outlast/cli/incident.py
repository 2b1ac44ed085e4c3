"""`outlast incident …`: open an incident, say what is known, and have it looked after until it is resolved.

Its longer commands are in incident_open.py and incident_said.py.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import incident_shown as shown
from outlast.cli.incident_given import Id
from outlast.cli.incident_open import open_
from outlast.cli.incident_said import approve, resolve, update
from outlast.cli.informing import conducting
from outlast.cli.opening import Invocation
from outlast.cli.render import table_of
from outlast.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rich.console import Console

commands = typer.Typer(name="incident", add_completion=False, rich_markup_mode=None, no_args_is_help=True)


class ReportFormat(StrEnum):
    MARKDOWN = "markdown"
    HTML = "html"


@commands.callback()
def incident() -> None:
    """Open incidents, tell customers early and often, and have the promises about it kept.

    Every public word says when the next one comes. `outlast serve`, or `outlast incident watch`, reminds and pages
    whoever owes one, writes to subscribers and affected tenants, and publishes the status page.
    """


commands.command("open")(open_)
commands.command()(update)
commands.command()(approve)
commands.command()(resolve)


@commands.command("list")
def list_(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
) -> ExitCode:
    """List the incidents that are open, the newest first. Exit code 4 where a promised word is late."""
    from outlast.incident.cadence import late

    invocation, now = Invocation.of(context), datetime.now(UTC)
    conduct = conducting(invocation)
    found = [one for one in reversed(conduct.journal.all()) if every or not one.over]
    overdue = [one for one in found if late(one, conduct.rules.promise, now)]

    def text(console: Console) -> None:
        if not found:
            console.print("No incident is open." if not every else "There was no incident yet.")
            return
        rows = [
            (one.id, one.severity.value, shown.state_of(one), shown.due_of(conduct, one, now), one.title)
            for one in found
        ]
        console.print(table_of(("incident", "severity", "status", "next word", "title"), rows))

    return invocation.output.finish(
        {"incidents": [shown.fields_of(conduct, one, now) for one in found]},
        text,
        exit_code=ExitCode.FOUND if overdue else ExitCode.DONE,
    )


@commands.command()
def show(context: typer.Context, name: Id) -> ExitCode:
    """Show one incident: what is affected, what was said, its drafts and its timeline."""
    from outlast.incident.report import make_report

    invocation, now = Invocation.of(context), datetime.now(UTC)
    conduct = conducting(invocation)
    found = conduct.journal.load(name)
    timeline = make_report(found, conduct.journal.events(name), conduct.rules.promise).marks
    fields = shown.fields_of(conduct, found, now)
    fields["timeline"] = [{"at": one.at.isoformat(), "lane": one.lane, "what": one.text} for one in timeline]
    return invocation.output.finish(fields, lambda console: shown.show(console, conduct, found, timeline, now))


@commands.command()
def report(
    context: typer.Context,
    name: Id,
    format_: Annotated[ReportFormat, typer.Option("--format", help="markdown or html, a single file.")] = (
        ReportFormat.MARKDOWN
    ),
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there instead of printing it.")] = None,
) -> ExitCode:
    """Write the post-incident review from the timeline. Causes and actions are left to people, with prompts."""
    from outlast.incident.report import make_report, markdown
    from outlast.incident.site import render_report

    invocation = Invocation.of(context)
    conduct = conducting(invocation)
    made = make_report(conduct.journal.load(name), conduct.journal.events(name), conduct.rules.promise)
    text = render_report(made).decode() if format_ is ReportFormat.HTML else markdown(made)
    if to is None:
        return invocation.output.finish({"incident": name, "report": text}, text)
    try:
        to.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"cannot write {to}: {error.strerror}", hint="Name another file with --to.") from error
    return invocation.output.finish({"incident": name, "file": str(to)}, f"Wrote {to}.")


@commands.command()
def watch(
    context: typer.Context,
    once: Annotated[
        bool, typer.Option("--once", help="Look after everything once, send what is due, and stop.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.2, metavar="SECONDS", help="How often it looks.")] = 1.0,
) -> ExitCode:
    """Look after incidents without `outlast serve`: remind, page, write to subscribers and tenants, publish."""
    from outlast.cli.watching import look_after

    return look_after(Invocation.of(context), once=once, every_s=every)
