"""`outlast tripwire`: show what it watches for, prove that it works, and let halted roles in again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from outlast.cli.check import notice_fields, notice_text
from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import count, table_of
from outlast.cli.tripwiring import halt_notices, halter_of, notifier_of, rules_of, settings_of
from outlast.core.errors import ExitCode, OutlastError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.sources.postgres.schema import Notice


class Action(StrEnum):
    SHOW = "show"
    TEST = "test"
    RESET = "reset"


class TripwireNotReady(OutlastError):  # noqa: N818 - an outcome, and reads as one
    exit_code = ExitCode.FOUND
    default_code = "tripwire-not-ready"


def tripwire(
    context: typer.Context,
    action: Annotated[
        Action,
        typer.Argument(help="show: rules and the last incident; test: prove it; reset: let halted roles in again."),
    ] = Action.SHOW,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Show what the tripwire watches for, prove that it works, and let halted roles in again.

    test sends a message that says it is a test, and takes LOGIN from each role of halt_roles in a transaction that is
    rolled back: what it may do is proven, and nobody notices. reset gives LOGIN back to those from which a halt took
    it, and to no other role; a running `follow` on this host then counts anew.

    Exit codes: 0 done; 1 the database could not be reached; 4 test found that something would not work.
    """
    invocation = Invocation.of(context)
    if action is Action.TEST:
        return _test(invocation, source)
    return _reset(invocation, source) if action is Action.RESET else _show(invocation, source)


def _show(invocation: Invocation, source: str) -> ExitCode:
    from outlast.capture.incident_book import IncidentBook

    settings = settings_of(invocation)
    with invocation.session("tripwire", source) as session:
        rules = rules_of(settings, invocation.catalog(session, source))
    thresholds = {rule.value: number for rule, number in rules.thresholds().items()} if settings.enabled else {}
    last = IncidentBook(invocation.state, source).last()
    fields = {
        "enabled": settings.enabled,
        "rules": thresholds,
        "window_seconds": rules.window_s,
        "halt_roles": list(settings.halt_roles),
        "incident": last,
    }

    def text(console: Console) -> None:
        console.print(table_of(("rule", "fires at"), [(name, str(number)) for name, number in thresholds.items()]))
        console.print(f"Within {rules.window_s / 60:g} min. Halts: {', '.join(settings.halt_roles) or 'nobody'}.")
        console.print(_incident_text(last) if last else "No incident is known on this host.")

    return invocation.output.finish(fields, text)


def _incident_text(last: dict[str, Any]) -> str:
    halted = last.get("halt")
    shut = f"; halted: {', '.join(halted['roles'])}" if halted and halted["roles"] else ""
    return (
        f"Last incident: since {last['since']}, {count(last['tenants'], 'tenant')}, {count(last['rows'], 'row')}, by "
        f"{', '.join(last['rules'])}{shut}."
    )


def _test(invocation: Invocation, source: str) -> ExitCode:
    settings = settings_of(invocation)
    with invocation.session("tripwire", source) as session:
        catalog = invocation.catalog(session, source)
    rules_of(settings, catalog)
    told, untold = _notified(invocation, source)
    notices: Sequence[Notice] = ()
    proven = False
    failures: tuple[str, ...] = ()
    halter = halter_of(invocation, source)
    if halter is not None:
        try:
            notices = halt_notices(invocation, source, halter, catalog)
            if not any(notice.level == "error" for notice in notices):
                failures = halter.prove()
                proven = not failures
        finally:
            halter.close()
    problems = [notice.message for notice in notices if notice.level == "error"] + list(failures)
    problems += [f"not notified: {', '.join(untold)}"] if untold else []
    problems += [] if told or untold else ["nobody is told: there is no OUTLAST_NOTIFY and no notify_command"]
    problem = None
    if problems:
        hint = next((notice.hint for notice in notices if notice.level == "error"), None)
        problem = TripwireNotReady(problems[0], hint=hint or "outlast tripwire test, when that is set right")
    fields = {
        "notified": told,
        "not_notified": list(untold),
        "halt_roles": list(settings.halt_roles),
        "halt_proven": proven,
        "through_functions": halter is not None and halter.through_functions,
        "problems": problems,
        "notices": [notice_fields(notice) for notice in notices],
    }

    def text(console: Console) -> None:
        for notice in notices:
            console.print(notice_text(notice, console.width))
        for one in problems:
            console.print(f"NOT READY  {one}")
        if told:
            console.print(f"{count(told, 'service')} took the message. Look whether a person has it.")
        if proven:
            how = "the functions in schema outlast" if fields["through_functions"] else "this role's own rights"
            console.print(f"{', '.join(settings.halt_roles)}: LOGIN was taken and rolled back, by {how}.")
        elif halter is None:
            console.print("Nobody is halted when it fires: there are no halt_roles in outlast.toml.")

    return invocation.output.finish(fields, text, problem=problem)


def _notified(invocation: Invocation, source: str) -> tuple[int, tuple[str, ...]]:
    from outlast.messages import Message

    notifier = notifier_of(invocation)
    untold = notifier.send(
        Message(
            "Outlast: this is a test of the tripwire",
            f"Nothing has happened to {source}. Somebody ran `outlast tripwire test` at "
            f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}Z. An incident would be told here, with who is losing data, in "
            "which transactions, and the command to run next.",
        )
    )
    return len(notifier) - len(untold), untold


def _reset(invocation: Invocation, source: str) -> ExitCode:
    from outlast.capture.incident_book import IncidentBook

    back: tuple[str, ...] = ()
    halter = halter_of(invocation, source)
    if halter is not None:
        try:
            halter.open()
            # A follow that still patrols would end their sessions again: it is told first
            IncidentBook(invocation.state, source).ask_reset(datetime.now(UTC))
            back = halter.let_in()
        finally:
            halter.close()
    else:
        IncidentBook(invocation.state, source).ask_reset(datetime.now(UTC))
    text = f"LOGIN was given back to {', '.join(back)}." if back else "No role was shut out by a halt."
    return invocation.output.finish({"let_in": list(back)}, f"{text} A `follow` that runs on this host counts anew.")
