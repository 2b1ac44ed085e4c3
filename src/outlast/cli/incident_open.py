"""`outlast incident open`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from outlast.cli.incident_given import (
    By,
    Components,
    DamageSince,
    SeverityWord,
    TenantsFile,
    affected_of,
    components_of,
    roles_of,
    time_of,
    window_of,
)
from outlast.cli.incident_shown import done
from outlast.cli.informing import conducting, me
from outlast.cli.opening import Invocation
from outlast.core.errors import ExitCode

_Publish = Annotated[
    bool, typer.Option("--publish", help="Say the first word now, from its template; otherwise it is a draft.")
]
_Tenant = Annotated[
    list[str] | None, typer.Option("--tenant", metavar="TENANT", help="Who is affected, by key or label.")
]
_Alert = Annotated[
    str | None,
    typer.Option(metavar="ALERT", help="The relay's alert that it came with: since when, which components, whose."),
]
_Scheduled = Annotated[
    str | None, typer.Option(metavar="START/END", help="Planned work: announce it for this time, in UTC.")
]


def open_(
    context: typer.Context,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What customers notice, in a few words.")],
    severity: Annotated[SeverityWord, typer.Option(help="How bad it is; it sets how often customers hear.")] = (
        SeverityWord.MAJOR
    ),
    publish: _Publish = False,
    component: Components = None,
    tenant: _Tenant = None,
    tenants_file: TenantsFile = None,
    damage_since: DamageSince = None,
    alert: _Alert = None,
    commander: Annotated[str | None, typer.Option(metavar="NAME", help="Who leads.")] = None,
    communications: Annotated[str | None, typer.Option(metavar="NAME", help="Who speaks to customers.")] = None,
    began: Annotated[str | None, typer.Option(metavar="TIME", help="When it began, where that was earlier.")] = None,
    scheduled: _Scheduled = None,
    by: By = None,
) -> ExitCode:
    """Open an incident, as a draft or with its first public word."""
    from outlast.cli.affected import alerted
    from outlast.incident.conduct import Opening
    from outlast.incident.incident import Component, Severity

    invocation, now = Invocation.of(context), datetime.now(UTC)
    conduct, settings = conducting(invocation), invocation.config.document.incident
    window = window_of(scheduled)
    told = None if alert is None else alerted(invocation, alert, conduct.rules.components)
    opening = Opening(
        title=title,
        severity=Severity.MAINTENANCE if window else Severity(severity.value),
        public=publish,
        began_at=time_of(began, now) if began is not None else told.began_at if told else None,
        components={**dict.fromkeys(told.components if told else (), Component.MAJOR), **components_of(component)},
        tenants=[
            *affected_of(invocation, tenant, tenants_file, damage_since),
            *((one, None) for one in (told.tenants if told else ())),
        ],
        roles=roles_of(commander or settings.commander, communications or settings.communications),
        scheduled=window,
    )
    found, _ = conduct.open(opening, by or me(), now)
    if told is not None:
        found = conduct.affect(found.id, by or me(), now, note=told.note)
    return done(invocation, conduct, found, f"Incident {found.id} is open")
