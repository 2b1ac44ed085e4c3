"""The post-incident review, written from the timeline: what is certain stands there, what needs people is asked.

Pure. Every figure comes from an event; causes and actions are left to people, with prompts. It is internal: unlike the
page it names tenants, people and what Outlast saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from outlast.incident.cadence import Promise
from outlast.incident.incident import Incident, Role, TenantState
from outlast.incident.notices import clock
from outlast.incident.timeline import Event, Kind

TENANTS_SHOWN_MAX = 50


@dataclass(frozen=True, slots=True)
class Kept:
    """One promise about words, and whether it was kept."""

    what: str
    promised: timedelta
    took: timedelta | None

    @property
    def ok(self) -> bool:
        return self.took is not None and self.took <= self.promised


@dataclass(frozen=True, slots=True)
class Mark:
    """A point of the timeline, for the picture and the list."""

    at: datetime
    lane: str  # detection, communication, recovery, people
    text: str


@dataclass(frozen=True, slots=True)
class Report:
    incident: Incident
    promises: tuple[Kept, ...]
    marks: tuple[Mark, ...]

    @property
    def detection(self) -> timedelta:
        return self.incident.opened_at - self.incident.began_at

    @property
    def duration(self) -> timedelta | None:
        return None if self.incident.resolved_at is None else self.incident.resolved_at - self.incident.began_at


def make_report(incident: Incident, events: Sequence[Event], promise: Promise) -> Report:
    return Report(incident, tuple(_promises(incident, promise)), tuple(_marks(incident, events)))


def _promises(incident: Incident, promise: Promise) -> Iterator[Kept]:
    if incident.planned:
        return
    updates = incident.updates
    first = updates[0].at - incident.opened_at if updates else None
    yield Kept("first word", promise.first_within, first)
    scoped = next((one.at - incident.opened_at for one in updates if one.scope), None)
    yield Kept("scope", promise.scope_within, scoped)
    for number, (one, after) in enumerate(pairwise(updates), start=2):
        assert one.next_at is not None
        yield Kept(f"update {number}", one.next_at - one.at, after.at - one.at)


_LANES = {
    Kind.OPENED: "detection",
    Kind.SEEN: "detection",
    Kind.TENANTS: "detection",
    Kind.UPDATED: "communication",
    Kind.NUDGED: "communication",
    Kind.SENT: "communication",
    Kind.QUEUED: "recovery",
    Kind.RESTORED: "recovery",
    Kind.FAILED: "recovery",
    Kind.RESOLVED: "recovery",
}


def _marks(incident: Incident, events: Sequence[Event]) -> Iterator[Mark]:
    restored = [event for event in events if event.kind is Kind.RESTORED]
    told = [event for event in events if event.kind is Kind.TOLD]
    for event in events:
        if event.kind is Kind.RESTORED and len(restored) > 3 and event not in (restored[0], restored[-1]):
            continue  # eight hundred of them are two points and a number
        if event.kind is Kind.TOLD and event is not told[-1]:
            continue
        yield Mark(event.at, _LANES.get(event.kind, "people"), _text(incident, event, restored, told))


def _text(incident: Incident, event: Event, restored: Sequence[Event], told: Sequence[Event]) -> str:
    facts = event.facts
    match event.kind:
        case Kind.OPENED:
            return f"opened by {event.who}: {facts['title']} ({facts['severity']})"
        case Kind.SEEN | Kind.MEANWHILE:
            return str(facts["what"])
        case Kind.TENANTS:
            return f"{_count(len(facts['tenants']), 'tenant')} found to be affected"
        case Kind.QUEUED:
            return f"restore of {_count(len(facts['tenants']), 'tenant')} planned ({facts.get('source', '')})"
        case Kind.RESTORED:
            so_far = {one.facts["tenant"] for one in restored[: restored.index(event) + 1]}
            place = f"{len(so_far):,} of {len(incident.tenants):,}"
            return f"{facts.get('label') or facts['tenant']} restored and proven ({place})"
        case Kind.FAILED:
            return f"{facts.get('label') or facts['tenant']} could not be restored"
        case Kind.TOLD:
            return f"{_count(sum(one.facts['letters'] for one in told), 'notice')} to tenants' contacts"
        case Kind.SENT:
            return f"update sent to {_count(facts['letters'], 'subscriber')}"
        case Kind.NUDGED:
            reached = "" if facts["reached"] else ", NOT reached"
            return f"{facts['role']} ({facts['person'] or 'nobody'}): {facts['stage']}, {facts['word']}{reached}"
        case Kind.UPDATED:
            body = next(iter(facts["bodies"].values()))
            by = f", approved by {facts['approved_by']}" if facts.get("approved_by") else ""
            return f"{facts['status']} ({event.who}{by}): {body}"
        case Kind.DRAFTED:
            return f"draft {event.number} ({facts['status']}) by {event.who}"
        case Kind.ROLE:
            return f"{facts['role']}: {facts['person']}"
        case Kind.NOTED:
            return f"{event.who}: {facts['text']}"
        case Kind.SEVERITY:
            return f"severity {facts['severity']} ({event.who})"
        case Kind.COMPONENTS:
            return "; ".join(f"{name}: {state}" for name, state in facts["components"].items())
        case _:
            return f"{event.kind.value} ({event.who})"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def span(length: timedelta | None) -> str:
    """`4 min 10 s`, `2 h 5 min`; a dash where it is not known."""
    if length is None:
        return "—"
    seconds = int(length.total_seconds())
    hours, minutes = divmod(seconds // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds % 60} s" if minutes else f"{seconds} s"


PROMPTS = {
    "Causes": (
        "What made it possible, technically and in how we work? Ask why until the answer is something we can change.",
        "Which guard should have stopped it, and why did it not? (rehearsal, tripwire, review, least rights)",
        "What made it larger, or longer, than it had to be?",
    ),
    "What went well": ("What kept it from being worse, and is it luck or design?",),
    "Actions": ("What will be different, who does it, and by when? One line each.",),
}


def markdown(report: Report) -> str:
    """The review as Markdown."""
    return "\n".join(_markdown(report)) + "\n"


def _markdown(report: Report) -> Iterator[str]:
    incident = report.incident
    yield f"# {_plain(incident.title)} ({incident.id})"
    yield ""
    yield f"Severity {incident.severity.value}, {incident.status.value}. Written from the timeline; times are UTC."
    yield ""
    for title, lines in sections(report):
        yield f"## {title}"
        yield ""
        yield from (f"- {_plain(line)}" for line in lines)
        yield ""
    yield "## Communication"
    yield ""
    yield "| word | promised within | took | kept |"
    yield "| --- | --- | --- | --- |"
    for one in report.promises:
        yield f"| {one.what} | {span(one.promised)} | {span(one.took)} | {'yes' if one.ok else 'NO'} |"
    yield ""
    yield "## Timeline"
    yield ""
    yield "| time | | what |"
    yield "| --- | --- | --- |"
    for mark in report.marks:
        yield f"| {mark.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} | {mark.lane} | {_plain(mark.text)} |"
    yield ""
    for title, prompts in PROMPTS.items():
        yield f"## {title}"
        yield ""
        yield from (f"_{prompt}_" for prompt in prompts)
        yield ""


def _plain(text: str) -> str:
    """One line that Markdown does not read: what people typed is never markup."""
    line = " ".join(text.split())
    return "".join(f"\\{one}" if one in "\\`*_{}[]<>#|!~" else one for one in line)


def sections(report: Report) -> list[tuple[str, list[str]]]:
    """What is certain, in sentences: scope, detection, response, recovery, data."""
    incident = report.incident
    return [
        ("What happened", [f"Began {clock(incident.began_at)}", f"Lasted {span(report.duration)}", incident.title]),
        ("Detection", [f"Found {span(report.detection)} after it began, by {incident.opened_by}"]),
        ("Scope", _scope(incident)),
        ("Response", [f"{role.value}: {incident.roles.get(role, 'nobody')}" for role in Role]),
        ("Recovery", _recovery(incident)),
        ("Data", _data(incident)),
    ]


def _scope(incident: Incident) -> list[str]:
    lines = [f"{_count(len(incident.tenants), 'tenant')} affected"]
    ranked = sorted(incident.tenants.values(), key=lambda one: (-(one.rows_lost or 0), one.tenant.key))
    for one in ranked[:TENANTS_SHOWN_MAX]:
        lost = "rows lost: not known" if one.rows_lost is None else f"{_count(one.rows_lost, 'row')} lost"
        lines.append(f"{one.tenant}: {lost}, {one.state.value}")
    if len(ranked) > TENANTS_SHOWN_MAX:
        lines.append(f"and {len(ranked) - TENANTS_SHOWN_MAX:,} more")
    return lines + [f"component {spell.component}: {spell.state.value}" for spell in incident.spells]


def _recovery(incident: Incident) -> list[str]:
    done = [one for one in incident.tenants.values() if one.state is TenantState.RESTORED]
    if not done:
        return ["no tenant was restored"]
    times = [one.restored_at for one in done if one.restored_at is not None]
    first, last = (span(one - incident.opened_at) for one in (min(times), max(times)))
    return [
        f"{len(done):,} of {_count(len(incident.tenants), 'tenant')} restored, each proven before commit",
        f"the first {first} after the opening, the last {last}",
        *(
            f"{one.tenant} could not be restored"
            for one in incident.tenants.values()
            if one.state is TenantState.FAILED
        ),
    ]


def _data(incident: Incident) -> list[str]:
    done = [one for one in incident.tenants.values() if one.state is TenantState.RESTORED]
    missing = [one for one in done if one.rows_missing]
    unknown = [one for one in done if one.rows_missing is None]
    lines = [f"{one.tenant}: {_count(one.rows_missing or 0, 'row')} missing for good" for one in missing]
    if unknown:
        lines.append(f"not known for {_count(len(unknown), 'tenant')} whether anything is missing")
    open_ones = len(incident.tenants) - len(done)
    if open_ones:
        lines.append(f"{_count(open_ones, 'tenant')} not restored")
    return lines or (["nothing was lost"] if done else ["no loss of data is known"])
