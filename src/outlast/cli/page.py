"""`outlast page`: who would be paged, and whether it would reach them, tried on a quiet day."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import Invocation
from outlast.cli.render import count, table_of
from outlast.core.errors import ExitCode, NotFoundError, OutlastError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.core.page import Page
    from outlast.oncall.channels import AppriseChannels, Sent
    from outlast.oncall.people import Person
    from outlast.oncall.policy import Directory, Policy

_MARK = "THIS IS A TEST of Outlast's paging: nothing has happened"


class Action(StrEnum):
    TEST = "test"
    SHOW = "show"


class Unreached(OutlastError):  # noqa: N818 - an outcome, and reads as one
    exit_code = ExitCode.FOUND
    default_code = "unreached"


def page(
    context: typer.Context,
    action: Annotated[Action, typer.Argument(help="show: who would be paged, and when; test: send them a test.")],
    who: Annotated[
        str | None,
        typer.Argument(help="A team, escalation, schedule or person; without it [paging] default_policy."),
    ] = None,
    last_resort: Annotated[
        bool, typer.Option("--last-resort", help="Test those of last resort too, who get what reaches nobody else.")
    ] = False,
) -> ExitCode:
    """Show who would be paged and when, or send them a test by every contact that they have.

    A test goes to the people whom the first step reaches now, says that it is one, and asks for nothing. It needs the
    local copy and the services of OUTLAST_PAGING or [paging] command, and no `outlast serve`.

    Exit codes: 0 every contact's service took it; 2 nobody of that name; 4 somebody could not be reached.
    """
    from outlast.cli.paging import channels_of, lookup_of

    invocation = Invocation.of(context)
    lookup = lookup_of(invocation)
    directory = lookup.directory()
    if directory is None:
        raise NotFoundError(
            "there is no local copy of anybody's contacts yet",
            hint="It is made after a backup of Opsgenie or PagerDuty, and by: outlast search WORDS",
            code="no-copy",
        )
    found, example = _policy(invocation, directory, who)
    steps = _steps(directory, found, example)
    if action is Action.SHOW:
        return _shown(invocation, found, steps)
    first = [person for after, _, people in steps if after == steps[0][0] for person in people] if steps else []
    people = list({one.key: one for one in first}.values())
    return _tested(invocation, channels_of(invocation), found, people, last_resort)


def _policy(invocation: Invocation, directory: Directory, who: str | None) -> tuple[Policy, Page]:
    from outlast.core.page import Page

    default = who or invocation.config.document.paging.default_policy
    example = Page("test", "test", "outlast page", _MARK, "P1", datetime.now(UTC), "somebody tries whether it works")
    if default is None:
        raise UsageError(
            "nobody is named, and [paging] in outlast.toml has no default_policy",
            hint="Name a team, an escalation, a schedule or a person: outlast page show NAME",
        )
    found = directory.policy(example, default)
    if found is None:
        tables = (directory.escalations, directory.policies, directory.teams)
        known = sorted(str(one.get("name")) for table in tables for one in table.values())
        raise NotFoundError(
            f"there is no team, escalation, schedule or person {default!r} in the copy",
            hint=f"It has: {', '.join(known[:20]) or 'none'}.",
        )
    return found, example


def _steps(directory: Directory, found: Policy, example: Page) -> list[tuple[timedelta, str, list[Person]]]:
    now = datetime.now(UTC)
    return [
        (one.after, f"{one.recipient} ({one.notify})", directory.people_of(one, example, now + one.after, {}))
        for one in found.steps
    ]


def _shown(invocation: Invocation, found: Policy, steps: list[tuple[timedelta, str, list[Person]]]) -> ExitCode:
    fields = {
        "policy": found.name,
        "repeats": found.repeats,
        "steps": [
            {"after_seconds": after.total_seconds(), "recipient": recipient, "people": [_person(one) for one in people]}
            for after, recipient, people in steps
        ],
    }

    def text(console: Console) -> None:
        rows = [
            (f"{after / timedelta(minutes=1):g} min", recipient, ", ".join(one.name for one in people) or "NOBODY")
            for after, recipient, people in steps
        ]
        console.print(f"{found.name}, if it were now and nobody acknowledged:\n")
        console.print(table_of(("after", "recipient", "who that is"), rows))
        if found.repeats:
            length = found.round_length / timedelta(minutes=1)
            console.print(f"And again {count(found.repeats, 'time')}, {length:g} min after it began.")

    problem = None
    if not any(people for _, _, people in steps):
        problem = Unreached(f"{found.name} would reach nobody", hint="See: outlast oncall")
    return invocation.output.finish(fields, text, problem=problem)


def _person(one: Person) -> dict[str, object]:
    return {"id": one.key, "name": one.name, "contacts": [contact.method for contact in one.contacts]}


def _tested(
    invocation: Invocation, channels: AppriseChannels, found: Policy, people: list[Person], last_resort: bool
) -> ExitCode:
    from outlast.messages import Message

    message = Message(f"Outlast: {_MARK}", f"{_MARK}. A page for {found.name} would reach you like this.")
    results: list[tuple[str, str, Sent]] = [
        (person.name, contact.method, channels.send(contact.method, contact.address, message))
        for person in people
        for contact in person.contacts
    ]
    if last_resort:
        results.append(("last resort", "", channels.shout(message)))
    failed = [f"{name} by {method}".removesuffix(" by ") for name, method, sent in results if not sent.ok]
    problem = None
    if not people:
        problem = Unreached(f"{found.name} reaches nobody now", hint="See: outlast oncall")
    elif failed:
        problem = Unreached(
            f"not told: {', '.join(failed)}",
            hint="Set a service for that method (OUTLAST_PAGING or [paging] command), or mend the contact there.",
        )
    fields = {
        "policy": found.name,
        "results": [
            {"name": name, "method": method, "taken": sent.ok, "told": sent.told} for name, method, sent in results
        ],
    }

    def text(console: Console) -> None:
        rows = [(name, method, sent.told) for name, method, sent in results]
        if rows:
            console.print(table_of(("who", "by", "outcome"), rows))
        if results and not failed:
            console.print("Every service took it. Ask whether the people have it.")

    return invocation.output.finish(fields, text, problem=problem)
