"""Cadence: when customers must hear the next word, and who is told that it is due.

Pure: an incident and a clock go in, what is due comes out. A promise has three parts: the first word, the scope, and an
interval between updates by severity. Before a word is due the communications role is reminded; past due it is paged,
and when that did not help the commander; the page says by itself that the update is late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from outlast.core.errors import Refused
from outlast.incident.incident import Incident, Role, Severity, Status


class Word(StrEnum):
    """What is due."""

    FIRST = "first word"
    SCOPE = "scope"
    NEXT = "next update"


class Stage(StrEnum):
    REMIND = "remind"
    PAGE = "page"
    ESCALATE = "escalate"


@dataclass(frozen=True, slots=True)
class Promise:
    """How soon and how often customers hear. `remind_before` a word is due, the one responsible is reminded."""

    first_within: timedelta = timedelta(minutes=5)
    scope_within: timedelta = timedelta(minutes=10)
    every: Mapping[Severity, timedelta] = field(
        default_factory=lambda: {
            Severity.CRITICAL: timedelta(minutes=20),
            Severity.MAJOR: timedelta(minutes=30),
            Severity.MINOR: timedelta(minutes=60),
        }
    )
    remind_before: timedelta = timedelta(minutes=5)
    escalate_after: timedelta = timedelta(minutes=5)

    def interval(self, severity: Severity) -> timedelta | None:
        """None for planned work, whose times are told beforehand."""
        return self.every.get(severity)


@dataclass(frozen=True, slots=True)
class Due:
    """A word that customers were promised, and by when."""

    word: Word
    at: datetime

    def late(self, now: datetime) -> bool:
        return now >= self.at


@dataclass(frozen=True, slots=True)
class Nudge:
    """Somebody is to be told that a word is due. `key` is the same each time this is found, so that it happens once."""

    role: Role
    stage: Stage
    due: Due

    @property
    def key(self) -> str:
        return f"{self.stage.value} {self.role.value} {self.due.word.value} {self.due.at.isoformat()}"


def dues(incident: Incident, promise: Promise) -> tuple[Due, ...]:
    """The words that are outstanding, the earliest first. None once it is over, and none of planned work."""
    if incident.over or incident.planned:
        return ()
    found = []
    if not incident.updates:
        found.append(Due(Word.FIRST, incident.opened_at + promise.first_within))
    elif incident.next_at is not None:
        found.append(Due(Word.NEXT, incident.next_at))
    if not incident.scoped:
        found.append(Due(Word.SCOPE, incident.opened_at + promise.scope_within))
    return tuple(sorted(found, key=lambda due: due.at))


def late(incident: Incident, promise: Promise, now: datetime) -> Due | None:
    """The word that customers wait for in vain, the longest overdue."""
    return next((due for due in dues(incident, promise) if due.late(now)), None)


def nudges(incident: Incident, promise: Promise, now: datetime) -> tuple[Nudge, ...]:
    """Who is to be told now, those that went out already left away. Of a due only the latest stage that applies to each
    role: who comes to it late is paged at once, and not reminded first."""
    found = [nudge for due in dues(incident, promise) for nudge in _stages(due, promise, now)]
    return tuple(nudge for nudge in found if nudge.key not in incident.nudged)


def _stages(due: Due, promise: Promise, now: datetime) -> Iterator[Nudge]:
    if due.late(now):
        yield Nudge(Role.COMMUNICATIONS, Stage.PAGE, due)
        if now >= due.at + promise.escalate_after:
            yield Nudge(Role.COMMANDER, Stage.ESCALATE, due)
    elif now >= due.at - promise.remind_before:
        yield Nudge(Role.COMMUNICATIONS, Stage.REMIND, due)


def next_change(incident: Incident, promise: Promise, now: datetime) -> datetime | None:
    """When `nudges` will next give something new; None where nothing is outstanding."""
    times = [
        time
        for due in dues(incident, promise)
        for time in (due.at - promise.remind_before, due.at, due.at + promise.escalate_after)
        if time > now
    ]
    return min(times, default=None)


def check_next(incident: Incident, promise: Promise, status: Status, next_at: datetime | None, now: datetime) -> None:
    """Refuse an update that does not say when the next one comes, or puts it off beyond what was promised."""
    if status.over or incident.planned:
        return
    interval = promise.interval(incident.severity)
    assert interval is not None
    minutes = int(interval.total_seconds() // 60)
    if next_at is None:
        raise Refused(
            f"cannot publish this update of {incident.id}: it does not say when the next one comes",
            hint=f"Add --next {minutes}m (at most {minutes} minutes at severity {incident.severity}).",
            code="no-next-update",
        )
    if next_at <= now:
        raise Refused(
            f"cannot publish this update of {incident.id}: its next one would be in the past",
            hint=f"Add --next {minutes}m.",
            code="next-update-past",
        )
    if next_at > now + interval:
        raise Refused(
            f"cannot publish this update of {incident.id}: the next one would come later than {minutes} minutes from "
            f"now, which is what severity {incident.severity} promises",
            hint=f"Say --next {minutes}m or sooner, or lower the severity as well: "
            f"outlast incident update {incident.id} --severity minor …",
            code="next-update-late",
        )
