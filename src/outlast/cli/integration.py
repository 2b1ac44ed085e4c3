"""`outlast integration`: who may send alerts, each with a key of its own."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import render
from outlast.cli.opening import Invocation
from outlast.core.errors import ExitCode, NotFoundError, UsageError

if TYPE_CHECKING:
    from outlast.relay.integration import Integration
    from outlast.state.database import Database


class Action(StrEnum):
    ADD = "add"
    LIST = "list"
    RENEW = "renew"
    REVOKE = "revoke"


class Kind(StrEnum):
    OPSGENIE = "opsgenie"
    PAGERDUTY = "pagerduty"
    ALERTMANAGER = "alertmanager"


def integration(
    context: typer.Context,
    action: Annotated[
        Action, typer.Argument(help="add: print its key; list; renew: a new key; revoke: take the key back.")
    ] = Action.LIST,
    name: Annotated[str | None, typer.Argument(help="Its name.")] = None,
    kind: Annotated[Kind, typer.Option(help="Whose API it speaks.")] = Kind.OPSGENIE,
    upstream: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Pass its events on to this upstream; several times for several. All else."),
    ] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Pass its events on to nobody: Outlast alone pages.")] = False,
    service: Annotated[
        str | None, typer.Option(metavar="ID", help="The PagerDuty service whose escalation policy counts.")
    ] = None,
) -> ExitCode:
    """Say who may send alerts: each with a key of its own, which is printed once.

    Point monitoring at `serve` with that key: Opsgenie's API URL, PagerDuty's events URL, or Alertmanager's webhook.
    """
    from outlast.cli.serving import opened_database
    from outlast.relay import integration as room

    invocation = Invocation.of(context)
    output = invocation.output
    with opened_database(invocation) as database:
        if action is Action.LIST:
            return _list(invocation, database)
        if name is None:
            raise UsageError(
                f"`outlast integration {action.value}` needs a name", hint="See: outlast integration --help"
            )
        targets = () if alone else upstream
        known = invocation.config.document.upstreams
        for one in targets or ():
            if one not in known:
                raise NotFoundError(
                    f"there is no upstream {one!r} in outlast.toml", hint=f"It has: {', '.join(sorted(known))}."
                )
        with database.write() as connection:
            if action is Action.REVOKE:
                room.revoke(connection, name)
                return output.finish({"name": name}, f"The key of {name} is worth nothing any more.")
            if action is Action.ADD:
                key = room.add(connection, name, kind.value, targets, service)
            else:
                key = room.renew(connection, name)
    output.note("It is shown this once.")
    return output.finish({"name": name, "key": key}, key)


def _list(invocation: Invocation, database: Database) -> ExitCode:
    from outlast.relay import integration as room

    with database.read() as connection:
        found = room.listed(connection)
    rows = [(one.name, one.kind, _upstreams(one), _state(one)) for one in found]
    fields = {
        "integrations": [
            {"name": one.name, "kind": one.kind, "upstreams": one.upstreams, "revoked": one.revoked_at is not None}
            for one in found
        ]
    }
    head = ("integration", "kind", "passed on to", "key")
    none = "Nobody may send alerts yet. Next: outlast integration add NAME"
    return invocation.output.finish(
        fields, lambda console: console.print(render.table_of(head, rows) if rows else none)
    )


def _upstreams(one: Integration) -> str:
    return "every upstream" if one.upstreams is None else ", ".join(one.upstreams) or "nobody"


def _state(one: Integration) -> str:
    if one.revoked_at is not None:
        return f"revoked {render.time(datetime.fromtimestamp(one.revoked_at, UTC))}"
    return f"since {render.time(datetime.fromtimestamp(one.created_at, UTC))}"
