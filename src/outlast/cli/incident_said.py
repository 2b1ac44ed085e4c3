"""`outlast incident update`, `approve` and `resolve`: what is said while one is open."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.incident_given import (
    By,
    Components,
    DamageSince,
    Id,
    Message,
    Next,
    SeverityWord,
    TenantsFile,
    Translations,
    affected_of,
    components_of,
    roles_of,
    saying_of,
    time_of,
)
from outlast.cli.incident_shown import done
from outlast.cli.informing import conducting, me
from outlast.cli.opening import Invocation
from outlast.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from outlast.incident.incident import Incident


class StatusWord(StrEnum):
    INVESTIGATING = "investigating"
    IDENTIFIED = "identified"
    MONITORING = "monitoring"
    IN_PROGRESS = "in_progress"


_Facts = Annotated[
    bool, typer.Option("--facts", help="Say what is certain, made from the timeline: nobody has to compose it.")
]
_Status = Annotated[StatusWord | None, typer.Option(help="Where it stands; otherwise as the facts have it.")]
_Tenant = Annotated[
    list[str] | None, typer.Option("--tenant", metavar="TENANT", help="Who else is affected, by key or label.")
]
_Communications = Annotated[str | None, typer.Option(metavar="NAME", help="Who speaks to customers from now on.")]


def update(
    context: typer.Context,
    name: Id,
    message: Message = None,
    facts: _Facts = False,
    next_: Next = None,
    status: _Status = None,
    scope: Annotated[bool, typer.Option("--scope", help="This update says who is affected.")] = False,
    translations: Translations = None,
    draft: Annotated[bool, typer.Option("--draft", help="Only write it; somebody else publishes it.")] = False,
    component: Components = None,
    severity: Annotated[SeverityWord | None, typer.Option(help="From now on it is this severe.")] = None,
    tenant: _Tenant = None,
    tenants_file: TenantsFile = None,
    damage_since: DamageSince = None,
    commander: Annotated[str | None, typer.Option(metavar="NAME", help="Who leads from now on.")] = None,
    communications: _Communications = None,
    note: Annotated[str | None, typer.Option(metavar="TEXT", help="A note for the team; never public.")] = None,
    by: By = None,
) -> ExitCode:
    """Publish an update, or write down what was found out without a public word.

    A public word needs --message or --facts, and --next: when the next one comes. Without both only what the other
    options say is written down.
    """
    from outlast.incident.incident import Severity, Status

    invocation, now, who = Invocation.of(context), datetime.now(UTC), by or me()
    conduct = conducting(invocation)
    stands = None if status is None else Status(status.value)
    saying = saying_of(message, translations, facts=facts, now=now, next_=next_, status=stands, scope=scope)
    before = conduct.journal.load(name).length
    found = conduct.affect(
        name,
        who,
        now,
        tenants=affected_of(invocation, tenant, tenants_file, damage_since),
        components=components_of(component),
        severity=None if severity is None else Severity(severity.value),
        roles=roles_of(commander, communications),
        note=note,
        saying=saying,
        draft=draft,
    )
    if saying is None and found.length == before:
        raise UsageError(
            f"nothing is said of {found.id}, and nothing is to be written down",
            hint="Say --facts or --message TEXT, with --next; or --note, --tenant, --component, --severity.",
        )
    if saying is None:
        return done(invocation, conduct, found, f"Written into the timeline of {found.id}")
    drafted = draft or conduct.rules.approval
    return done(invocation, conduct, found, f"Draft {found.length} of {found.id} waits" if drafted else "Published")


def approve(
    context: typer.Context,
    name: Id,
    draft: Annotated[int, typer.Argument(metavar="DRAFT", help="The draft's number.")],
    next_: Next = None,
    reject: Annotated[bool, typer.Option("--reject", help="Give the draft up instead.")] = False,
    by: By = None,
) -> ExitCode:
    """Publish a draft that somebody else, or Outlast, has written."""
    invocation, now = Invocation.of(context), datetime.now(UTC)
    conduct = conducting(invocation)
    if reject:
        found = conduct.reject(name, draft, by or me(), now)
        return done(invocation, conduct, found, f"Draft {draft} was given up")
    due = None if next_ is None else time_of(next_, now)
    found = conduct.approve(name, draft, by or me(), now, next_at=due)
    return done(invocation, conduct, found, "Published")


def resolve(
    context: typer.Context, name: Id, message: Message = None, translations: Translations = None, by: By = None
) -> ExitCode:
    """Say the last word; without --message what the facts say. A draft that nobody saw ends in silence."""
    invocation, now = Invocation.of(context), datetime.now(UTC)
    conduct = conducting(invocation)
    saying = saying_of(message, translations, facts=True, now=now)
    assert saying is not None
    _warn_of_unproven(invocation, conduct.journal.load(name))
    found = conduct.resolve(name, saying, by or me(), now)
    said = f"Incident {found.id} is over" if found.over else f"Draft {found.length} of {found.id} waits"
    return done(invocation, conduct, found, said)


def _warn_of_unproven(invocation: Invocation, incident: Incident) -> None:
    """Whoever resolves may do so; that somebody's data is not proven to be back is not to be overlooked."""
    from outlast.incident.incident import TenantState

    left = [one.tenant for one in incident.tenants.values() if one.state is not TenantState.RESTORED]
    if left:
        names = ", ".join(str(one) for one in left[:3])
        more = f" and {len(left) - 3:,} more" if len(left) > 3 else ""
        invocation.output.warn(f"no restore is proven of {names}{more}: they are not told that their data is back")
