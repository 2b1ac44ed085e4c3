"""Which schedules there are in the copy of the tools' documents, and who is on call by them.

The vendor's own rendered timeline, kept with each backup, is believed first: it is what the vendor would do. Where it
says nothing (the backup is older than it reaches) the answer is computed by the vendor's rules, and both are compared
where both speak (`differences`). Overrides that were set here while standing in lie over either.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from outlast.core.document import Document
from outlast.core.errors import NotFoundError
from outlast.oncall import opsgenie, pagerduty, pagerduty_v3
from outlast.oncall.clock import ScheduleError, zone_of
from outlast.oncall.schedule import (
    Interval,
    Override,
    Responder,
    Shift,
    clipped,
    joined,
    on_call,
    overridden,
    people_by_time,
)

Timeline = tuple[Interval, tuple[Shift, ...]]
_LOOK_AHEAD = timedelta(days=35)
_AHEAD = (timedelta(days=1), timedelta(days=8), _LOOK_AHEAD)
_HANDED_OVER = timedelta(minutes=1)  # a difference shorter than this is a rounding and no disagreement


UNREADABLE = (ScheduleError, KeyError, TypeError, ValueError, AttributeError, OverflowError)
"""What a document raises that is not as its vendor writes them."""


class Documents(Protocol):
    """The copy of the tools' documents, as far as it is read here."""

    def documents(self, table: str, source: str | None = None) -> Iterable[Document]:
        """Every document of a table; nothing where there is no such table."""


class Basis(StrEnum):
    """What an answer rests on."""

    VENDOR = "vendor"  # its own timeline, kept with the backup
    COMPUTED = "computed"
    OVERRIDE = "override"  # set here


@dataclass(frozen=True, slots=True)
class Schedule:
    """One schedule of a tool, with what belongs to it. `compute` and `timeline` are its vendor's rules."""

    source: str
    vendor: str
    id: str
    name: str
    zone_name: str
    compute: Callable[[Interval], tuple[Shift, ...]] = field(repr=False, compare=False)
    timeline: Timeline | None = field(default=None, repr=False, compare=False)
    names: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)  # of users, by id
    problem: str | None = None  # why the vendor's own timeline cannot be read

    @property
    def key(self) -> str:
        return f"{self.source}/{self.id}"

    @property
    def zone(self) -> ZoneInfo:
        """The schedule's zone, or UTC where its name is not known: for showing, never for computing."""
        try:
            return zone_of(self.zone_name)
        except ScheduleError:
            return ZoneInfo("UTC")

    def named(self, person: Responder) -> Responder:
        """The responder by the name that the tool's users know them by."""
        name = self.names.get(person.id) if person.kind == "user" else None
        return replace(person, name=name) if name else person


@dataclass(frozen=True, slots=True)
class Answer:
    """Who is on call within an interval. `problem` is why a part of it could not be said."""

    schedule: Schedule
    interval: Interval
    shifts: tuple[Shift, ...]
    rendered: Interval | None  # where the vendor's own timeline was believed
    overrides: tuple[Override, ...] = ()
    problem: str | None = None

    def basis(self, moment: datetime) -> Basis:
        if any(one.interval.covers(moment) for one in self.overrides):
            return Basis.OVERRIDE
        return Basis.VENDOR if self.rendered and self.rendered.covers(moment) else Basis.COMPUTED


@dataclass(frozen=True, slots=True)
class Now:
    """Who is on call at a moment, until when that holds, and who is next."""

    schedule: Schedule
    moment: datetime
    people: tuple[Responder, ...]
    until: datetime | None  # None: for as long as was looked ahead
    next_people: tuple[Responder, ...]
    basis: Basis
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the vendor's timeline and ours disagree: a sign of a rule that is not understood, or of a stale copy."""

    schedule: Schedule
    interval: Interval
    vendor: tuple[Responder, ...]
    computed: tuple[Responder, ...]


def answer(schedule: Schedule, interval: Interval, overrides: Sequence[Override] = ()) -> Answer:
    """Who is on call within the interval. Never raises: what cannot be computed is told in `problem`."""
    rendered = schedule.timeline[0].cut(interval) if schedule.timeline else None
    shifts = clipped(schedule.timeline[1], rendered) if schedule.timeline and rendered else []
    problem = schedule.problem
    for part in _outside(interval, rendered):
        try:
            shifts += clipped(schedule.compute(part), part)
        except UNREADABLE as error:
            problem = told(schedule, error)
    laid = tuple(one for one in overrides if one.interval.cut(interval))
    final = joined(clipped(overridden(shifts, laid), interval))
    named = tuple(replace(one, person=schedule.named(one.person)) for one in final)
    return Answer(schedule, interval, named, rendered, laid, problem)


def _outside(interval: Interval, hole: Interval | None) -> list[Interval]:
    if hole is None:
        return [interval]
    parts = [Interval(interval.start, hole.start), Interval(hole.end, interval.end)]
    return [part for part in parts if part.start < part.end]


def now(schedule: Schedule, moment: datetime, overrides: Sequence[Override] = ()) -> Now:
    """Who is on call at a moment, and who takes over. Looks ahead only as far as it takes to see that."""
    for ahead in _AHEAD:
        found = answer(schedule, Interval(moment, moment + ahead), overrides)
        parts = people_by_time(found.shifts, found.interval)
        following = next((people for part, people in parts[1:] if people), frozenset())
        if following:
            break
    return Now(
        schedule,
        moment,
        tuple(shift.person for shift in on_call(found.shifts, moment)),
        parts[0][0].end if len(parts) > 1 else None,
        tuple(sorted(following, key=str)),
        found.basis(moment),
        found.problem,
    )


def previous_and_next(
    schedule: Schedule, moment: datetime, overrides: Sequence[Override] = ()
) -> tuple[tuple[Responder, ...], tuple[Responder, ...]]:
    """Who was on call before those that are at a moment, and who will be after them; hours of nobody do not count."""
    found = answer(schedule, Interval(moment - _LOOK_AHEAD, moment + _LOOK_AHEAD), overrides)
    parts = people_by_time(found.shifts, found.interval)
    current = next((people for part, people in parts if part.covers(moment)), frozenset())
    before = [people for part, people in parts if part.end <= moment and people - current]
    after = [people for part, people in parts if part.start > moment and people - current]
    return (
        tuple(sorted(before[-1] - current, key=str)) if before else (),
        tuple(sorted(after[0] - current, key=str)) if after else (),
    )


def differences(schedule: Schedule) -> list[Difference]:
    """Where the vendor's timeline, if it was kept, and the computed one disagree. Raises ScheduleError."""
    if schedule.timeline is None:
        return []
    interval, shifts = schedule.timeline
    computed = people_by_time(schedule.compute(interval), interval)
    found: list[Difference] = []
    for part, theirs in people_by_time(shifts, interval):
        for other, ours in computed:
            both = part.cut(other)
            if both is not None and ours != theirs and both.end - both.start >= _HANDED_OVER:
                found.append(Difference(schedule, both, _named(schedule, theirs), _named(schedule, ours)))
    return found


def compared(schedules: Iterable[Schedule]) -> tuple[list[Difference], list[tuple[Schedule, str]]]:
    """All differences, and the schedules that cannot be computed, each with why. For the daily comparison."""
    found: list[Difference] = []
    unread: list[tuple[Schedule, str]] = []
    for one in schedules:
        try:
            found += differences(one)
        except UNREADABLE as error:
            unread.append((one, told(one, error)))
        if one.problem:
            unread.append((one, one.problem))
    return found, unread


def told(schedule: Schedule, error: Exception) -> str:
    """Why a schedule cannot be computed, in words."""
    if isinstance(error, ScheduleError):
        return error.message
    return f"its document is not as {schedule.vendor} writes them ({type(error).__name__}: {error})"


def _named(schedule: Schedule, people: Iterable[Responder]) -> tuple[Responder, ...]:
    return tuple(sorted((schedule.named(one) for one in people), key=str))


@dataclass(frozen=True, slots=True)
class Roster:
    """Every schedule of every tool in the copy, by name."""

    schedules: tuple[Schedule, ...]

    def find(self, words: str) -> Schedule:
        """By key, id or name. Raises NotFoundError with the names there are."""
        exact = [one for one in self.schedules if words in (one.key, one.id)]
        named = exact or [one for one in self.schedules if one.name.casefold() == words.casefold()]
        if len(named) == 1:
            return named[0]
        if named:
            keys = ", ".join(one.key for one in named)
            raise NotFoundError(f"{len(named)} schedules are called {words!r}", hint=f"Name one by its key: {keys}.")
        names = ", ".join(one.name for one in self.schedules) or "none"
        raise NotFoundError(f"there is no schedule {words!r} in the copy", hint=f"It has: {names}.")


def read(copy: Documents) -> Roster:
    """The schedules in the copy, with their overrides, forwarding rules and timelines."""
    found = [*_opsgenie(copy, "opsgenie"), *_opsgenie(copy, "jsm"), *_pagerduty(copy), *_pagerduty_v3(copy)]
    return Roster(tuple(sorted(found, key=lambda one: (one.name.casefold(), one.key))))


def user_names(copy: Documents, vendor: str) -> dict[str, dict[str, str]]:
    """Of each source the users' names by id, and by e-mail address, which is all that some documents have."""
    found: dict[str, dict[str, str]] = {}
    for one in copy.documents(f"{vendor}.users"):
        name = one.document.get("fullName") or one.document.get("name") or one.document.get("displayName")
        for key in (one.key, one.document.get("username")):
            if key and name:
                found.setdefault(one.source, {})[key] = name
    return found


def _by_parent(copy: Documents, table: str) -> dict[tuple[str, str], list[dict[str, Any]]]:
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for one in copy.documents(table):
        found.setdefault((one.source, one.parent or one.key), []).append(one.document)
    return found


def _opsgenie(copy: Documents, vendor: str) -> Iterable[Schedule]:
    overrides = _by_parent(copy, f"{vendor}.overrides")
    rotations = _by_parent(copy, f"{vendor}.rotations")
    timelines = _by_parent(copy, f"{vendor}.timelines")
    names, forwardings = user_names(copy, vendor), dict[str, list[dict[str, Any]]]()
    for rule in copy.documents(f"{vendor}.forwarding_rules"):
        forwardings.setdefault(rule.source, []).append(rule.document)
    for one in copy.documents(f"{vendor}.schedules"):
        at, document = (one.source, one.key), dict(one.document)
        document["rotations"] = document.get("rotations") or rotations.get(at, [])
        given = overrides.get(at, [])
        sent = forwardings.get(one.source, [])

        def compute(
            interval: Interval,
            document: dict[str, Any] = document,
            given: list[dict[str, Any]] = given,
            sent: list[dict[str, Any]] = sent,
        ) -> tuple[Shift, ...]:
            return opsgenie.final_shifts(document, given, sent, interval)

        zone = document.get("timezone") or document.get("timeZone") or "UTC"
        timeline, problem = _timeline(opsgenie.rendered, [*timelines.get(at, []), document])
        name, known = document.get("name") or one.key, names.get(one.source, {})
        yield Schedule(one.source, vendor, one.key, name, zone, compute, timeline, known, problem)


def _pagerduty(copy: Documents) -> Iterable[Schedule]:
    names, overrides = user_names(copy, "pagerduty"), _by_parent(copy, "pagerduty.overrides")
    shown = _by_parent(copy, "pagerduty.rendered_schedules")
    for one in copy.documents("pagerduty.schedules"):
        document, given = one.document, overrides.get((one.source, one.key), [])

        def compute(
            interval: Interval,
            document: dict[str, Any] = document,
            given: list[dict[str, Any]] = given,
        ) -> tuple[Shift, ...]:
            return pagerduty.final_shifts(document, given, interval)

        timeline, problem = _timeline(pagerduty.rendered, [*shown.get((one.source, one.key), []), document])
        name, zone = document.get("name") or document.get("summary") or one.key, document.get("time_zone") or "UTC"
        known = names.get(one.source, {})
        yield Schedule(one.source, "pagerduty", one.key, name, zone, compute, timeline, known, problem)


def _pagerduty_v3(copy: Documents) -> Iterable[Schedule]:
    names, overrides = user_names(copy, "pagerduty"), _by_parent(copy, "pagerduty.schedule_v3_overrides")
    custom = _by_parent(copy, "pagerduty.schedule_v3_custom_shifts")
    for one in copy.documents("pagerduty.schedules_v3"):
        at, document = (one.source, one.key), one.document
        shifts, given = custom.get(at, []), overrides.get(at, [])

        def compute(
            interval: Interval,
            document: dict[str, Any] = document,
            shifts: list[dict[str, Any]] = shifts,
            given: list[dict[str, Any]] = given,
        ) -> tuple[Shift, ...]:
            return pagerduty_v3.final_shifts(document, shifts, given, interval)

        timeline, problem = _timeline(pagerduty_v3.rendered, [document])
        name, zone = document.get("name") or one.key, document.get("time_zone") or "UTC"
        known = names.get(one.source, {})
        yield Schedule(one.source, "pagerduty", one.key, name, zone, compute, timeline, known, problem)


def _timeline(
    read: Callable[[Mapping[str, Any]], Timeline | None], documents: Sequence[dict[str, Any]]
) -> tuple[Timeline | None, str | None]:
    """The first rendered timeline among the documents; and why one could not be read."""
    problem = None
    for document in documents:
        try:
            found = read(document)
        except UNREADABLE as error:
            problem = f"the vendor's own timeline cannot be read ({type(error).__name__}: {error})"
            continue
        if found is not None:
            return found, problem
    return None, problem
