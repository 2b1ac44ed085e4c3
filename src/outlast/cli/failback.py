"""`outlast failback`: what was entered at the desk while a tool was away goes to the tool."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import Invocation
from outlast.cli.render import count
from outlast.core.errors import ExitCode, OutlastError, Refused, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.failback.carrying import Carrier
    from outlast.failback.item import Item
    from outlast.failback.plan import Failback, Step
    from outlast.state.database import Database


def failback(
    context: typer.Context,
    execute: Annotated[bool, typer.Option("--execute", help="Do it; without it the plan is shown.")] = False,
    plan: Annotated[
        str | None, typer.Option(metavar="ID", help="Only if the plan still is this one, as it was shown.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Of all that waits only this; several times for several.")
    ] = None,
    accept_changed: Annotated[
        bool,
        typer.Option("--accept-changed", help="Also what meets something that changed there meanwhile (a conflict)."),
    ] = False,
    by_hand: Annotated[
        list[str] | None, typer.Option(metavar="ID=KEY", help="Somebody wrote this there by hand: it is KEY there.")
    ] = None,
    leave: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="This is not needed there: it stays here only.")
    ] = None,
) -> ExitCode:
    """Bring what was entered here while a tool was away (tickets, comments, overrides) into the tool.

    Shows a plan, and with --execute does it. Each thing is looked for there first, by the mark that it carries, and is
    created once, with who entered it, when, and that it comes from Outlast. Interrupted, run it again: nothing is sent
    twice. It needs a token that may write: OUTLAST_NAME_WRITE_TOKEN, or write_token_command. Alerts and what was done
    with them go back by themselves, by the relay.

    Exit codes: 0 done, or a plan without conflicts; 1 a part did not arrive, or a tool does not answer; 2 wrong usage;
    3 conflicts, or no token that may write: nothing was changed.
    """
    from outlast.cli.serving import DATABASE_FILE, opened_database
    from outlast.state.lead import Duty, lead_of

    invocation = Invocation.of(context)
    config = invocation.config
    if config.document.serve.database is None and not (config.key_dir / DATABASE_FILE).exists():
        raise UsageError(
            f"nobody has stood in here: there is no {DATABASE_FILE} in {config.key_dir}",
            hint="Run it on the host and in the folder where `outlast serve` runs, or give [serve] database.",
            code="no-desk",
        )
    with opened_database(invocation) as database:
        lead = lead_of(database, Duty.FAILBACK)
        try:
            if (execute or by_hand or leave) and not lead.take():
                raise Refused(
                    "another `outlast failback` is at work", hint="Wait until it has ended, and look: outlast failback"
                )
            carrier = _carrier(invocation, database, lead, accepts=accept_changed)
            if by_hand or leave:
                return _settled(invocation, carrier, by_hand or [], leave or [])
            return _brought(invocation, carrier, only or [], plan, execute=execute)
        finally:
            lead.leave()


def _carrier(invocation: Invocation, database: Database, lead: object, *, accepts: bool) -> Carrier:
    from functools import partial

    from outlast.cli.writing import writer
    from outlast.failback.carrying import Carrier
    from outlast.state.lead import Lead

    config = invocation.config
    kinds = {name: settings.kind for name in config.tools if (settings := config.tool(name)) is not None}
    taken: Lead = lead  # type: ignore[assignment]
    carrier = Carrier(database, kinds, partial(writer, invocation), taken, invocation.output.note, accepts)
    invocation.closing.callback(carrier.close)
    return carrier


def _brought(
    invocation: Invocation, carrier: Carrier, only: list[str], expected: str | None, *, execute: bool
) -> ExitCode:
    from outlast.failback.item import named

    waiting = carrier.waiting()
    if only:
        chosen = {named(waiting, one).id for one in only}
        waiting = [one for one in waiting if one.id in chosen]
    plan = carrier.plan(waiting)
    if expected is not None and expected != plan.id:
        raise Refused(
            f"the plan is not {expected} any more: something changed here or there; nothing was sent",
            hint="Look at it again: outlast failback",
            code="stale-plan",
        )
    shown = carrier.execute(plan) if execute else plan
    chosen_by = [*(["--accept-changed"] if carrier.accepts else []), *(f"--only {one}" for one in only)]
    again = " ".join(["--execute", *chosen_by, f"--plan {plan.id}"])
    fields = {
        "plan": plan.id,
        "executed": execute,
        "items": [one.to_json() for one in shown.steps],
        "effect": shown.effect.to_json(),
        "conflicts": [one.to_json() for one in shown.conflicts],
        "alerts_waiting": _alerts_waiting(invocation, carrier.database),
        "notes": _notes(carrier),
    }
    return invocation.output.finish(
        fields, lambda console: _print(console, again, shown, fields), problem=_problem(shown)
    )


def _settled(invocation: Invocation, carrier: Carrier, by_hand: list[str], leave: list[str]) -> ExitCode:
    """Write down what people did or decided themselves."""
    from outlast.failback import item as journal

    waiting, told = carrier.waiting(), []
    given = [one.partition("=") for one in by_hand]
    settled: list[tuple[Item, str]] = [(journal.named(waiting, one), key) for one, _, key in given]
    for one, key in settled:
        if not key.strip():
            raise UsageError(
                "--by-hand says what it became there", hint=f"As: outlast failback --by-hand {one.short}=OPS-17"
            )
    left = [journal.named(waiting, one) for one in leave]
    with carrier.database.write() as connection:
        for one, key in settled:
            journal.by_hand(connection, one, key, datetime.now(UTC))
            told.append(f"{one.kind} {one.title} is {key.strip()} in {one.source or 'its tool'}, by hand.")
        for one in left:
            journal.leave(connection, one, datetime.now(UTC))
            told.append(f"{one.kind} {one.title} stays here only.")
    fields = {
        "by_hand": [{"id": one.id, "key": key.strip()} for one, key in settled],
        "left": [one.id for one in left],
    }
    return invocation.output.finish(fields, "\n".join(told))


def _alerts_waiting(invocation: Invocation, database: Database) -> dict[str, int]:
    """Events that the relay has still to pass on, by upstream."""
    from outlast.relay.queue import backlog

    with database.read() as connection:
        found = {name: backlog(connection, name).waiting for name in sorted(invocation.config.document.upstreams)}
    return {name: number for name, number in found.items() if number}


def _notes(carrier: Carrier) -> list[str]:
    """Overrides that went there, and were ended here after that: nothing of a tool's is taken back by us."""
    from outlast.oncall.overrides import ended_but_there

    with carrier.database.read() as connection:
        found = ended_but_there(connection, carrier.now())
    return [
        f"{one.person} on {one.schedule}: ended here by {one.ended_by}, and still set there as {one.taken_as}. "
        "End it there."
        for one in found
    ]


def _problem(plan: Failback) -> OutlastError | None:
    from outlast.failback.plan import Fate

    stands = plan.conflicts
    open_ = [one for one in plan.steps if one.fate in (Fate.UNASKED, Fate.UNCLEAR, Fate.FAILED)]
    if not stands and not open_:
        return None
    first = (open_ or stands)[0]
    moved = plan.count(Fate.DONE) + (plan.count(Fate.THERE) if plan.executed else 0)
    left = len(stands) + len(open_)
    if moved:
        return OutlastError(
            f"{count(moved, 'thing')} went back, {left:,} did not: {first.told}",
            hint=first.hint or "What went is not sent again. Clear what stands in the way, and run the command again.",
            code="partly",
        )
    if open_:
        what = "did not go back" if plan.executed else "cannot be planned"
        return OutlastError(f"{count(left, 'thing')} {what}: {first.told}", hint=first.hint, code=first.fate.code)
    what = count(len(stands), "thing")
    return Refused(f"{what} cannot go back as things stand: {first.told}", hint=first.hint, code="conflict")


def _print(console: Console, again: str, plan: Failback, fields: dict[str, object]) -> None:
    from outlast.failback.plan import Fate

    said = ""
    for one in plan.steps:
        _print_step(console, one, said)
        said = one.told or said
    notes, alerts = fields["notes"], fields["alerts_waiting"]
    assert isinstance(notes, list)
    assert isinstance(alerts, dict)
    for note in notes:
        console.print(f"Note: {note}")
    for name, number in alerts.items():
        console.print(f"Alerts: {count(number, 'event')} still to be passed on to {name}; `outlast serve` does it.")
    if not plan.steps:
        console.print("Nothing waits to go back.")
        return
    counted = [f"{plan.count(fate)} {fate.told}" for fate in Fate if plan.count(fate)]
    console.print(f"\n{'Done' if plan.executed else f'Plan {plan.id}'}: {', '.join(counted)}.")
    if not plan.executed and plan.count(Fate.BRING, Fate.THERE):
        console.print(f"Nothing was sent. Next: outlast failback {again}")


def _print_step(console: Console, step: Step, said: str) -> None:
    """One thing, who entered it, and what it meets; `said`: what the line before says, which is not said again."""
    item = step.item
    target = f" to {item.source}" if item.source else ""
    console.print(f"{step.fate.value.upper()}  {item.kind} {item.title} ({item.short})")
    again = bool(step.told) and step.told == said
    told = ": as above" if again else f": {step.told}" if step.told else ""
    console.print(f"    by {item.by}, {item.at:%Y-%m-%d %H:%MZ}{target}{told}")
    if step.place is not None and step.place.url:
        console.print(f"    {step.place.url}")
    if step.hint and not again:
        console.print(f"    {step.hint}")
