"""`outlast oncall`: who is on call, out of the local copy: without the vendor, the vault or any database."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import Invocation
from outlast.cli.render import age, count, table_of
from outlast.cli.render import time as shown
from outlast.core.errors import ExitCode, OutlastError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.library.copy import LocalCopy
    from outlast.oncall.roster import Difference, Now, Roster, Schedule
    from outlast.oncall.schedule import Override, Responder


class RosterDiffers(OutlastError):  # noqa: N818 - an outcome, and reads as one
    exit_code = ExitCode.FOUND
    default_code = "oncall-differs"


def oncall(
    context: typer.Context,
    schedule: Annotated[str | None, typer.Argument(help="A schedule's name, id or key; without it all.")] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Another time than now: 2026-03-08T09:00, with an offset or in UTC."),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare the vendor's own timeline with what its rules come to.")
    ] = False,
    ical: Annotated[
        bool, typer.Option("--ical", help="Print the schedule as iCalendar, two weeks back and eight ahead.")
    ] = False,
) -> ExitCode:
    """Say who is on call and who is next, from the local copy of the tools' documents.

    The vendor's own timeline, kept with each backup, is believed first; beyond it the vendor's rules are computed.
    Overrides set here while standing in win over both.

    Exit codes: 0 done; 2 no such schedule, or no copy yet; 4 --compare found a difference, or a schedule is unreadable.
    """
    from outlast.library.copy import FILE_NAME, LocalCopy
    from outlast.oncall.roster import read

    invocation = Invocation.of(context)
    moment = _moment(at)
    with LocalCopy.open(invocation.config.key_dir / FILE_NAME) as copy:
        roster = read(copy)
        chosen = [roster.find(schedule)] if schedule is not None else list(roster.schedules)
        overrides = _overrides(invocation)
        if ical:
            return _ical(invocation, roster, schedule, overrides, moment, copy)
        if compare:
            return _compared(invocation, chosen)
        return _told(invocation, chosen, overrides, moment, copy)


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--at {text!r} is no time", hint="Write it as 2026-03-08T09:00, 2026-03-08T09:00-05:00 or …Z."
        ) from None
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def _overrides(invocation: Invocation) -> dict[str, list[Override]]:
    """Those set here, by schedule. Where nobody has stood in yet there is no shared state, and none is made."""
    from outlast.cli.serving import DATABASE_FILE, opened_database
    from outlast.oncall.overrides import all_of, laid_by_schedule

    config = invocation.config
    if config.document.serve.database is None and not (config.key_dir / DATABASE_FILE).exists():
        return {}
    with opened_database(invocation) as database:
        return laid_by_schedule(all_of(database))


def _told(
    invocation: Invocation,
    schedules: list[Schedule],
    overrides: dict[str, list[Override]],
    moment: datetime,
    copy: LocalCopy,
) -> ExitCode:
    from outlast.oncall.roster import now

    found = [now(one, moment, overrides.get(one.key, ())) for one in schedules]
    copied = {one.source: one.moment for one in copy.sources()}
    problems = [f"{one.schedule.name}: {one.problem}" for one in found if one.problem]
    problem = None
    if problems:
        problem = RosterDiffers(
            f"{count(len(problems), 'schedule')} could not be read whole: {problems[0]}",
            hint="Ask somebody who knows it, and set an override for it at the desk.",
            code="oncall-unreadable",
        )
    fields = {
        "at": moment.isoformat(),
        "copied": {source: at.isoformat() for source, at in copied.items()},
        "schedules": [_fields(one) for one in found],
    }

    def text(console: Console) -> None:
        if not found:
            console.print("There is no schedule in the copy: it comes with a backup of Opsgenie or PagerDuty.")
            return
        oldest = min((copied[one.source] for one in schedules if one.source in copied), default=None)
        aged = f", as the vendors had it {age(datetime.now(UTC) - oldest)} ago" if oldest else ""
        console.print(f"On call at {shown(moment)}{aged}.\n")
        rows = [
            (
                one.schedule.name,
                _names(one.people),
                shown(one.until) if one.until else "",
                _names(one.next_people) if one.next_people else "",
                one.basis.value,
            )
            for one in found
        ]
        console.print(table_of(("schedule", "on call", "until", "next", "by"), rows))
        for told in problems:
            console.print(f"NOT READABLE  {told}")

    return invocation.output.finish(fields, text, problem=problem)


def _names(people: tuple[Responder, ...]) -> str:
    return ", ".join(str(one) for one in people) or "NOBODY"


def _fields(one: Now) -> dict[str, object]:
    return {
        "schedule": one.schedule.key,
        "name": one.schedule.name,
        "time_zone": one.schedule.zone_name,
        "people": [_person(person) for person in one.people],
        "until": one.until.isoformat() if one.until else None,
        "next": [_person(person) for person in one.next_people],
        "basis": one.basis.value,
        "problem": one.problem,
    }


def _person(person: Responder) -> dict[str, str]:
    return {"kind": person.kind, "id": person.id, "name": str(person)}


def _ical(
    invocation: Invocation,
    roster: Roster,
    name: str | None,
    overrides: dict[str, list[Override]],
    moment: datetime,
    copy: LocalCopy,
) -> ExitCode:
    from outlast.oncall.feed import calendar
    from outlast.oncall.feed import interval as reach
    from outlast.oncall.roster import answer

    if name is None:
        raise UsageError("--ical is of one schedule", hint="Name it: outlast oncall NAME --ical")
    one = roster.find(name)
    told = answer(one, reach(moment), overrides.get(one.key, ()))
    feed = calendar(told, at=moment, copied_at=copy.moment(one.source)).decode()
    return invocation.output.finish({"schedule": one.key, "ical": feed}, feed.rstrip("\r\n"))


def _compared(invocation: Invocation, schedules: list[Schedule]) -> ExitCode:
    from outlast.oncall.roster import compared

    found, unread = compared(schedules)
    with_timeline = [one for one in schedules if one.timeline]
    problem = None
    if found or unread:
        first = f"{found[0].schedule.name} differs" if found else f"{unread[0][0].name} cannot be read: {unread[0][1]}"
        problem = RosterDiffers(
            f"{count(len(found), 'difference')} between the vendors' timelines and their rules, and "
            f"{count(len(unread), 'schedule')} unreadable; {first}",
            hint="The vendor's own timeline is what counts, for as long as it reaches.",
        )
    fields = {
        "compared": len(with_timeline),
        "differences": [_difference(one) for one in found],
        "unreadable": [{"schedule": one.key, "problem": told} for one, told in unread],
    }

    def text(console: Console) -> None:
        rows = [
            (
                one.schedule.name,
                shown(one.interval.start),
                shown(one.interval.end),
                _names(one.vendor),
                _names(one.computed),
            )
            for one in found
        ]
        if rows:
            console.print(table_of(("schedule", "from", "to", "the vendor says", "its rules come to"), rows))
        for one, told in unread:
            console.print(f"NOT READABLE  {one.name}: {told}")
        console.print(f"{count(len(with_timeline), 'timeline')} compared, {count(len(found), 'difference')}.")

    return invocation.output.finish(fields, text, problem=problem)


def _difference(one: Difference) -> dict[str, object]:
    return {
        "schedule": one.schedule.key,
        "from": one.interval.start.isoformat(),
        "to": one.interval.end.isoformat(),
        "vendor": [_person(person) for person in one.vendor],
        "computed": [_person(person) for person in one.computed],
    }
