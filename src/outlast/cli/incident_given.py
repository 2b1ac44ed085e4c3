"""What a person typed after `outlast incident`: the options that several of its commands have, and what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.core.errors import UsageError

if TYPE_CHECKING:
    from outlast.cli.opening import Invocation
    from outlast.core.tenant import Tenant
    from outlast.incident.conduct import Saying
    from outlast.incident.incident import Component, Role, Status

Id = Annotated[str, typer.Argument(metavar="ID", help="The incident, as `outlast incident list` has it.")]
Next = Annotated[
    str | None,
    typer.Option("--next", metavar="TIME", help="When the next update comes: 20m, 1h, or a time of day in UTC."),
]
Message = Annotated[str | None, typer.Option("--message", "-m", metavar="TEXT", help="What customers read.")]
Translations = Annotated[
    list[str] | None, typer.Option("--in", metavar="LANGUAGE=TEXT", help="The same in another language of the page.")
]
Components = Annotated[
    list[str] | None,
    typer.Option("--component", metavar="NAME=STATE", help="operational, degraded_performance, partial_outage, …"),
]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who says so; otherwise who is logged in.")]
TenantsFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A file with one affected tenant's key or label a line.")
]
DamageSince = Annotated[
    str | None, typer.Option(metavar="MOMENT", help="Those who lost rows since then, as `damage` finds them.")
]


class SeverityWord(StrEnum):
    CRITICAL = "critical"
    MAJOR = "major"
    MINOR = "minor"


def saying_of(
    message: str | None,
    translations: Sequence[str] | None,
    *,
    facts: bool,
    now: datetime,
    next_: str | None = None,
    status: Status | None = None,
    scope: bool = False,
) -> Saying | None:
    """What is to be said; None where nothing is."""
    from outlast.incident.conduct import Saying

    bodies = dict(_pair(text, "--in", "LANGUAGE=TEXT") for text in translations or [])
    if message is None and not bodies and not facts:
        return None
    due = None if next_ is None else time_of(next_, now)
    return Saying(status, message, bodies, due, scope=True if scope else None)


def roles_of(commander: str | None, communications: str | None) -> Mapping[Role, str]:
    """Who does what, as far as it is said."""
    from outlast.incident.incident import Role

    people = {Role.COMMANDER: commander, Role.COMMUNICATIONS: communications}
    return {role: person for role, person in people.items() if person}


def components_of(given: Sequence[str] | None) -> Mapping[str, Component]:
    """Components of the page, each with its state."""
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


def time_of(text: str, now: datetime) -> datetime:
    """`20m` from now, a time of day today or tomorrow, or a whole timestamp; UTC where nothing else is said."""
    from outlast.config.settings import duration

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


def window_of(text: str | None) -> tuple[datetime, datetime] | None:
    """When planned work begins and ends."""
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


def affected_of(
    invocation: Invocation, names: Sequence[str] | None, file: Path | None, damage_since: str | None
) -> list[tuple[Tenant, int | None]]:
    """The tenants that are meant, with the rows each lost where the log knows. Reads the vault only where it must."""
    from outlast.cli.affected import damaged_tenants, named_tenants

    found = list(damaged_tenants(invocation, damage_since)) if damage_since is not None else []
    return found + [(tenant, None) for tenant in named_tenants(invocation, names or [], file)]


def _pair(text: str, option: str, form: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise UsageError(f"{option} {text!r} cannot be read", hint=f"Write {option} {form}.")
    return name.strip(), value.strip()
