"""A tenant's own notice: what is known about *its* data, and nothing about anybody else's.

Pure. The notice is made anew from the incident each time it is looked at, so that a link sent early tells the newest.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from outlast.core.tenant import TenantKey
from outlast.incident.incident import AffectedTenant, Incident, TenantState, Update
from outlast.incident.words import Words, words


@dataclass(frozen=True, slots=True)
class Notice:
    """`lines` are about this tenant's data; `updates` are the public ones, the newest first."""

    title: str
    incident_title: str
    label: str
    state: TenantState
    state_word: str
    lines: tuple[str, ...]
    updates: tuple[Update, ...]
    next_at: datetime | None
    language: str


def notice(incident: Incident, tenant: TenantKey, service: str, language: str) -> Notice | None:
    """One tenant's notice; None where the incident does not know of it."""
    own = incident.tenants.get(tenant)
    if own is None:
        return None
    say = words(language)
    return Notice(
        title=say("notice.title", service=service),
        incident_title=incident.title,
        label=own.tenant.label or own.tenant.key,
        state=own.state,
        state_word=say(f"tenant.{own.state.value}"),
        lines=tuple(_lines(incident, own, say)),
        updates=tuple(reversed(incident.updates)) if incident.public else (),
        next_at=incident.next_at,
        language=language,
    )


def _lines(incident: Incident, own: AffectedTenant, say: Words) -> list[str]:
    if own.state is TenantState.RESTORED:
        assert own.restored_at is not None
        return [
            say("notice.restored", time=clock(own.restored_at), moment=own.moment or clock(incident.began_at)),
            *([say("notice.rows", own.rows_restored)] if own.rows_restored else []),
            _missing(own, say),
        ]
    if own.state is TenantState.QUEUED:
        return [say("notice.queued", place=place(incident, own), total=incident.counted(TenantState.QUEUED))]
    return [say(f"notice.{own.state.value}")]


def _missing(own: AffectedTenant, say: Words) -> str:
    if own.rows_missing is None:
        return say("notice.missing_unknown")
    return say("notice.missing", own.rows_missing) if own.rows_missing else say("notice.complete")


def place(incident: Incident, own: AffectedTenant) -> int:
    """Which one it is among those that still wait, counted from 1."""
    waiting = [
        one.place
        for one in incident.tenants.values()
        if one.state is TenantState.QUEUED and one.place is not None and own.place is not None
    ]
    return sum(other <= (own.place or 0) for other in waiting)


def clock(moment: datetime) -> str:
    """A time as customers read it: UTC, to the minute."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
