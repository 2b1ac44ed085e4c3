"""`outlast incident …`: open an incident, say what is known, and have it looked after until it is resolved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import incident_shown as shown
from outlast.cli.informing import conduct_of, database_of, me
from outlast.cli.opening import Invocation
from outlast.cli.render import table_of
from outlast.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.core.tenant import Tenant
    from outlast.incident.conduct import Conduct, Saying
    from outlast.incident.incident import Component, Incident

commands = typer.Typer(name="incident", add_completion=False, rich_markup_mode=None, no_args_is_help=True)

_Id = Annotated[str, typer.Argument(metavar="ID", help="The incident, as `outlast incident list` has it.")]
_Next = Annotated[
    str | None,
    typer.Option("--next", metavar="TIME", help="When the next update comes: 20m, 1h, or a time of day in UTC."),
]
_Message = Annotated[str | None, typer.Option("--message", "-m", metavar="TEXT", help="What customers read.")]
_Translations = Annotated[
    list[str] | None, typer.Option("--in", metavar="LANGUAGE=TEXT", help="The same in another language of the page.")
]
_Component = Annotated[
    list[str] | None,
    typer.Option("--component", metavar="NAME=STATE", help="operational, degraded_performance, partial_outage, …"),
]
_By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who says so; otherwise who is logged in.")]


class SeverityWord(StrEnum):
    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"


class StatusWord(StrEnum):
    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    IN_PROGRESS = "in_progress"


class ReportFormat(StrEnum):
    MARKDOWN = "markdown"
    HTML = "html"


@commands.callback()
def incident() -> None:
    """Open incidents, tell customers early and often, and have the promises about it kept.

    Every public word says when the next one comes. `outlast serve`, or `outlast incident watch`, reminds and pages
    whoever owes one, writes to subscribers and affected tenants, and publishes the status page.
    """


@commands.command("open")
def open_(
    context: typer.Context,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What customers notice, in a few words.")],
    severity: Annotated[SeverityWord, typer.Option(help="How bad it is; it sets how often customers hear.")] = (
        SeverityWord.MAJOR
    ),
    publish: Annotated[
        bool, typer.Option("--publish", help="Say the first word now, from its template; otherwise it is a draft.")
    ] = False,
    component: _Component = None,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", metavar="TENANT", help="Who is affected, by key or label.")
    ] = None,
    tenants_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with one affected tenant's key or label a line.")
    ] = None,
    damage_since: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="Those who lost rows since then, as `damage` finds them.")
    ] = None,
    alert: Annotated[
        str | None,
        typer.Option(metavar="ALERT", help="The relay's alert that it came with: since when, which components, whose."),
    ] = None,
    commander: Annotated[str | None, typer.Option(metavar="NAME", help="Who leads.")] = None,
    communications: Annotated[str | None, typer.Option(metavar="NAME", help="Who speaks to customers.")] = None,
    began: Annotated[str | None, typer.Option(metavar="TIME", help="When it began, where that was earlier.")] = None,
    scheduled: Annotated[
        str | None, typer.Option(metavar="START/END", help="Planned work: announce it for this time, in UTC.")
    ] = None,
    by: _By = None,
) -> ExitCode:
    """Open an incident, as a draft or with its first public word."""
    from outlast.cli.affected import alerted
    from outlast.incident.conduct import Opening
    from outlast.incident.incident import Component, Role, Severity

    invocation, now = Invocation.of(context), datetime.now(UTC)
    conduct = _conduct(invocation)
    settings = invocation.config.document.incident
    people = {
        Role.COMMANDER: commander or settings.commander,
        Role.COMMUNICATIONS: communications or settings.communications,
    }
    window = _window(scheduled)
    told = None if alert is None else alerted(invocation, alert, conduct.rules.components)
    opening = Opening(
        title=title,
        severity=Severity.MAINTENANCE if window else Severity(severity.value),
        public=publish,
        began_at=_time(began, now) if began is not None else told.began_at if told else None,
        components={**dict.fromkeys(told.components if told else (), Component.MAJOR), **_components(component)},
        tenants=[
            *_affected(invocation, tenant or [], tenants_file, damage_since),
            *((one, None) for one in (told.tenants if told else ())),
        ],
        roles={role: person for role, person in people.items() if person},
        scheduled=window,
    )
    found, _ = conduct.open(opening, by or me(), now)
    if told is not None:
        found = conduct.affect(found.id, by or me(), now, note=told.note)
    return _done(invocation, conduct, found, f"Incident {found.id} is open")


@commands.command()
def update(
    context: typer.Context,
    name: _Id,
    message: _Message = None,
    facts: Annotated[
        bool, typer.Option("--facts", help="Say what is certain, made from the timeline: nobody has to compose it.")
    ] = False,
    next_: _Next = None,
    status: Annotated[StatusWord | None, typer.Option(help="Where it stands; otherwise as the facts have it.")] = None,
    scope: Annotated[bool, typer.Option("--scope", help="This update says who is affected.")] = False,
    translations: _Translations = None,
    draft: Annotated[bool, typer.Option("--draft", help="Only write it; somebody else publishes it.")] = False,
    component: _Component = None,
    severity: Annotated[SeverityWord | None, typer.Option(help="From now on it is this severe.")] = None,
    tenant: Annotated[
        list[str] | None, typer.Option("--tenant", metavar="TENANT", help="Who else is affected, by key or label.")
    ] = None,
    tenants_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A file with one affected tenant's key or label a line.")
    ] = None,
    damage_since: Annotated[
        str | None, typer.Option(metavar="MOMENT", help="Those who lost rows since then, as `damage` finds them.")
    ] = None,
    commander: Annotated[str | None, typer.Option(metavar="NAME", help="Who leads from now on.")] = None,
    communications: Annotated[
        str | None, typer.Option(metavar="NAME", help="Who speaks to customers from now on.")
    ] = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="A note for the team; never public.")] = None,
    by: _By = None,
) -> ExitCode:
    """Publish an update, or write down what was found out without a public word.

    A public word needs --message or --facts, and --next: when the next one comes. Without both only what the other
    options say is written down.
    """
    from outlast.incident.incident import Role, Severity, Status

    invocation, now, who = Invocation.of(context), datetime.now(UTC), by or me()
    conduct = _conduct(invocation)
    roles = {Role.COMMANDER: commander, Role.COMMUNICATIONS: communications}
    saying = _saying(message, translations, facts, now, next_, Status(status.value) if status else None, scope=scope)
    found = conduct.affect(
        name,
        who,
        now,
        tenants=_affected(invocation, tenant or [], tenants_file, damage_since),
        components=_components(component),
        severity=None if severity is None else Severity(severity.value),
        roles={role: person for role, person in roles.items() if person},
        note=note,
    )
    if saying is None:
        return _done(invocation, conduct, found, f"Written into the timeline of {found.id}")
    say = conduct.draft if draft else conduct.say
    found = say(found.id, saying, who, now)
    drafted = draft or conduct.rules.approval
    return _done(invocation, conduct, found, f"Draft {found.length} of {found.id} waits" if drafted else "Published")


@commands.command()
def approve(
    context: typer.Context,
    name: _Id,
    draft: Annotated[int, typer.Argument(metavar="DRAFT", help="The draft's number.")],
    next_: _Next = None,
    reject: Annotated[bool, typer.Option("--reject", help="Give the draft up instead.")] = False,
    by: _By = None,
) -> ExitCode:
    """Publish a draft that somebody else, or Outlast, has written."""
    invocation, now = Invocation.of(context), datetime.now(UTC)
    conduct = _conduct(invocation)
    if reject:
        found = conduct.reject(name, draft, by or me(), now)
        return _done(invocation, conduct, found, f"Draft {draft} was given up")
    due = None if next_ is None else _time(next_, now)
    found = conduct.approve(name, draft, by or me(), now, next_at=due)
    return _done(invocation, conduct, found, "Published")


@commands.command()
def resolve(
    context: typer.Context,
    name: _Id,
    message: _Message = None,
    translations: _Translations = None,
    by: _By = None,
) -> ExitCode:
    """Say the last word; without --message what the facts say. A draft that nobody saw ends in silence."""
    invocation, now = Invocation.of(context), datetime.now(UTC)
    conduct = _conduct(invocation)
    saying = _saying(message, translations, True, now, None, None)
    assert saying is not None
    found = conduct.resolve(name, saying, by or me(), now)
    said = f"Incident {found.id} is over" if found.over else f"Draft {found.length} of {found.id} waits"
    return _done(invocation, conduct, found, said)


@commands.command("list")
def list_(
    context: typer.Context,
    every: Annotated[bool, typer.Option("--all", help="Those that are over, too.")] = False,
) -> ExitCode:
    """List the incidents that are open, the newest first. Exit code 4 where a promised word is late."""
    from outlast.incident.cadence import late

    invocation, now = Invocation.of(context), datetime.now(UTC)
    conduct = _conduct(invocation)
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
def show(context: typer.Context, name: _Id) -> ExitCode:
    """Show one incident: what is affected, what was said, its drafts and its timeline."""
    from outlast.incident.report import make_report

    invocation, now = Invocation.of(context), datetime.now(UTC)
    conduct = _conduct(invocation)
    found = conduct.journal.load(name)
    timeline = make_report(found, conduct.journal.events(name), conduct.rules.promise).marks
    fields = shown.fields_of(conduct, found, now)
    fields["timeline"] = [{"at": one.at.isoformat(), "lane": one.lane, "what": one.text} for one in timeline]
    return invocation.output.finish(fields, lambda console: shown.show(console, conduct, found, timeline, now))


@commands.command()
def report(
    context: typer.Context,
    name: _Id,
    format_: Annotated[ReportFormat, typer.Option("--format", help="markdown or html, a single file.")] = (
        ReportFormat.MARKDOWN
    ),
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there instead of printing it.")] = None,
) -> ExitCode:
    """Write the post-incident review from the timeline. Causes and actions are left to people, with prompts."""
    from outlast.incident.report import make_report, markdown
    from outlast.incident.site import render_report

    invocation = Invocation.of(context)
    conduct = _conduct(invocation)
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


def _conduct(invocation: Invocation) -> Conduct:
    from outlast.incident.journal import Journal

    return conduct_of(invocation, Journal(database_of(invocation)))


def _saying(
    message: str | None,
    translations: Sequence[str] | None,
    facts: bool,
    now: datetime,
    next_: str | None,
    status: object,
    *,
    scope: bool = False,
) -> Saying | None:
    """What is to be said; None where nothing is."""
    from outlast.incident.conduct import Saying
    from outlast.incident.incident import Status

    bodies = dict(_pair(text, "--in", "LANGUAGE=TEXT") for text in translations or [])
    if message is None and not bodies and not facts:
        return None
    assert status is None or isinstance(status, Status)
    return Saying(status, message, bodies, None if next_ is None else _time(next_, now), scope=True if scope else None)


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UsageError(f"{option} {text!r} cannot be read", hint=f"Write {option} {form}.")
    return name.strip(), value.strip()


def _components(given: Sequence[str] | None) -> Mapping[str, Component]:
    from outlast.incident.incident import Component

    states = ", ".join(state.value for state in Component)
    found = {}
    for text in given or []:
        name, state = _pair(text, "--component", "NAME=STATE")
        try:
            found[name] = Component(state)
        except ValueError:
            raise UsageError(f"a component cannot be {state!r}", hint=f"It can be: {states}.") from None
    return found


def _time(text: str, now: datetime) -> datetime:
    """`20m` from now, a time of day today or tomorrow, or a whole timestamp; UTC where nothing else is said."""
    from outlast.settings import duration

    with suppress(ValueError):
        span = duration(text)
        assert isinstance(span, timedelta)
        return now + span
    try:
        if len(text) <= 5:
            hour, minute = (int(part) for part in text.split(":"))
            found = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            return found if found > now else found + timedelta(days=1)
        found = datetime.fromisoformat(text)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(f"{text!r} is no time", hint="Write 20m, 14:30, or 2026-11-25T14:30.") from None


def _window(text: str | None) -> tuple[datetime, datetime] | None:
    if text is None:
        return None
    try:
        first, last = (datetime.fromisoformat(part.strip()) for part in text.split("/"))
    except ValueError:
        raise UsageError(
            f"--scheduled {text!r} cannot be read", hint="Write START/END, such as 2026-12-01T22:00/2026-12-01T23:30."
        ) from None
    first, last = (one if one.tzinfo else one.replace(tzinfo=UTC) for one in (first, last))
    if last <= first:
        raise UsageError("planned work ends before it begins", hint="Write START/END in this order.")
    return first, last


def _affected(
    invocation: Invocation, names: Sequence[str], file: Path | None, damage_since: str | None
) -> list[tuple[Tenant, int | None]]:
    """The tenants that are meant, with the rows each lost where the log knows. Reads the vault only where it must."""
    from outlast.cli.affected import damaged_tenants, named_tenants

    found = list(damaged_tenants(invocation, damage_since)) if damage_since is not None else []
    return found + [(tenant, None) for tenant in named_tenants(invocation, names, file)]


def _done(invocation: Invocation, conduct: Conduct, found: Incident, told: str) -> ExitCode:
    now = datetime.now(UTC)
    return invocation.output.finish(
        shown.fields_of(conduct, found, now),
        f"{told}: {found.title} ({found.severity.value}, {shown.state_of(found)}).\n"
        + shown.next_step(conduct, found, now),
    )
