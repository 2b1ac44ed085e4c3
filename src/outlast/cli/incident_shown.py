"""How an incident is shown: for a person, with what to do next, and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from outlast.cli.informing import looked_after
from outlast.cli.render import count
from outlast.cli.render import time as shown_time
from outlast.core.errors import ExitCode

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.cli.opening import Invocation
    from outlast.incident.conduct import Conduct
    from outlast.incident.incident import Incident
    from outlast.incident.report import Mark


def done(invocation: Invocation, conduct: Conduct, incident: Incident, told: str) -> ExitCode:
    """What a command did to an incident, where that stands now, and what comes next."""
    now = datetime.now(UTC)
    if not looked_after(conduct.journal.database):
        invocation.output.warn(
            "nobody looks after incidents: no letter leaves, nobody is reminded. Start outlast serve, or outlast "
            "incident watch"
        )
    stands = f"{told}: {incident.title} ({incident.severity.value}, {state_of(incident)})."
    return invocation.output.finish(fields_of(conduct, incident, now), f"{stands}\n{next_step(conduct, incident, now)}")


def state_of(incident: Incident) -> str:
    return incident.status.value if incident.public or incident.over else "draft"


def due_of(conduct: Conduct, incident: Incident, now: datetime) -> str:
    from outlast.incident.cadence import dues

    due = next(iter(dues(incident, conduct.rules.promise)), None)
    if due is None:
        return ""
    return f"{due.word.value} {'LATE, was due' if due.late(now) else 'by'} {shown_time(due.at)}"


def next_step(conduct: Conduct, incident: Incident, now: datetime) -> str:
    """What comes next, for whoever reads this at 3 a.m."""
    if incident.over:
        return f"Write the review: outlast incident report {incident.id} --format html --to {incident.id}.html"
    lines = [f"Due: {when}." for when in [due_of(conduct, incident, now)] if when]
    interval = conduct.rules.promise.interval(incident.severity)
    words = "" if interval is None else f" --next {int(interval.total_seconds() // 60)}m"
    if incident.drafts:
        lines.append(f"Publish the draft: outlast incident approve {incident.id} {incident.drafts[-1].number}")
    else:
        lines.append(f"Next: outlast incident update {incident.id} --facts{words}")
    return "\n".join(lines)


def show(console: Console, conduct: Conduct, incident: Incident, timeline: Sequence[Mark], now: datetime) -> None:
    console.print(f"{incident.id}  {incident.title}  ({incident.severity.value}, {state_of(incident)})")
    for role, person in incident.roles.items():
        console.print(f"{role.value}: {person}")
    for name, state in incident.components.items():
        console.print(f"component {name}: {state.value}")
    if incident.tenants:
        states = [one.state.value for one in incident.tenants.values()]
        each = ", ".join(f"{states.count(state):,} {state}" for state in dict.fromkeys(states))
        console.print(f"{count(len(states), 'tenant')}: {each}")
    for draft in incident.drafts:
        console.print(f"Draft {draft.number} ({draft.status.value}, {draft.who}): {next(iter(draft.bodies.values()))}")
    for one in timeline:
        console.print(f"{shown_time(one.at)}  {one.lane:<13}  {one.text}", soft_wrap=True)
    console.print(next_step(conduct, incident, now))


def fields_of(conduct: Conduct, incident: Incident, now: datetime) -> dict[str, object]:
    from outlast.incident.cadence import dues

    return {
        "incident": incident.id,
        "title": incident.title,
        "severity": incident.severity.value,
        "status": incident.status.value,
        "public": incident.public,
        "opened_at": incident.opened_at.isoformat(),
        "resolved_at": None if incident.resolved_at is None else incident.resolved_at.isoformat(),
        "next_update_at": None if incident.next_at is None else incident.next_at.isoformat(),
        "due": [
            {"word": due.word.value, "at": due.at.isoformat(), "late": due.late(now)}
            for due in dues(incident, conduct.rules.promise)
        ],
        "roles": {role.value: person for role, person in incident.roles.items()},
        "components": {name: state.value for name, state in incident.components.items()},
        "tenants": [
            {"tenant": one.tenant.key, "label": one.tenant.label, "state": one.state.value, "rows_lost": one.rows_lost}
            for one in incident.tenants.values()
        ],
        "drafts": [
            {"draft": one.number, "who": one.who, "status": one.status.value, "bodies": dict(one.bodies)}
            for one in incident.drafts
        ],
        "updates": [
            {
                "update": one.number,
                "at": one.at.isoformat(),
                "who": one.who,
                "status": one.status.value,
                "bodies": dict(one.bodies),
                "next_at": None if one.next_at is None else one.next_at.isoformat(),
            }
            for one in incident.updates
        ],
    }
