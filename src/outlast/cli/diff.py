"""`outlast diff TENANT`: what happened to a tenant between two moments, or between a moment and now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import DEFAULT_SOURCE, Invocation
from outlast.cli.render import effect_table
from outlast.core.errors import ExitCode, OutlastError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.core.effect import Effect
    from outlast.restore.history import Past

LIVE = "live"


class DifferenceFoundError(OutlastError):
    """The two states are not equal."""

    exit_code = ExitCode.FOUND
    default_code = "difference"


def diff(
    context: typer.Context,
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="A tenant's key or label.")],
    at: Annotated[
        str, typer.Option(metavar="MOMENT", help="From: latest, run:7, a timestamp, an LSN, or before:TRANSACTION.")
    ] = "latest",
    to: Annotated[
        str, typer.Option(metavar="MOMENT", help="To: another moment, or live for the source itself.")
    ] = LIVE,
    source: Annotated[str, typer.Option(metavar="NAME", help="The source in outlast.toml.")] = DEFAULT_SOURCE,
) -> ExitCode:
    """Compare a tenant at two moments, or with the source itself.

    Shows what leads from the first state to the second, by table and operation. Ends with 4 where they differ, and with
    0 where they are equal to the last byte.
    """
    from outlast.restore.comparison import compare_states
    from outlast.restore.history import find_entry, past_at

    invocation = Invocation.of(context)
    vault = invocation.vault
    first = invocation.moment(source, at)
    before = past_at(vault, source, find_entry(vault, source, tenant, first), first)
    if to == LIVE:
        effect, until = _with_live(invocation, source, before), LIVE
    else:
        second = invocation.moment(source, to)
        entry = find_entry(vault, source, before.tenant.key, second)
        effect = compare_states(before, past_at(vault, source, entry, second))
        until = str(second)
    for note in before.notes:
        invocation.output.note(f"Note: {note}.")
    who = before.tenant

    def text(console: Console) -> None:
        if effect:
            effect_table(effect, {who.key: who}, done=True)(console)
        else:
            console.print(f"{who} is the same at {before.moment} and {until}.")

    problem = DifferenceFoundError(
        f"{who} is not the same at {before.moment} and {until}",
        hint=f"To put back what is gone: outlast restore {who.label or who.key} --at {at}"
        if to == LIVE and invocation.config.tool(source) is None
        else None,
    )
    fields = {
        "tenant": who.key,
        "label": who.label,
        "from": before.moment,
        "to": until,
        "same": not effect,
        "effect": effect.to_json(),
    }
    return invocation.output.finish(fields, text, problem=problem if effect else None)


def _with_live(invocation: Invocation, source: str, before: Past) -> Effect:
    if invocation.config.tool(source) is not None:
        from outlast.cli import tooling
        from outlast.restore.comparison import compare_states

        return compare_states(before, tooling.live_state(invocation, source))
    from psycopg import IsolationLevel

    from outlast.restore.comparison import compare_with_live

    with invocation.session("diff", source) as session:
        session.isolation_level = IsolationLevel.REPEATABLE_READ
        return compare_with_live(session, invocation.catalog(session, source), before)
