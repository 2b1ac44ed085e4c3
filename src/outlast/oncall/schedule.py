"""What every vendor's schedule comes to: shifts of responders, cut at overrides, and who they leave on call.

Pure values and the arithmetic of intervals, in instants (UTC, half-open). How a vendor says who takes turns is in a
module a vendor; where a schedule's documents are from, and which answer counts, is in roster.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise


@dataclass(frozen=True, slots=True, order=True)
class Responder:
    """Who is on call, as the vendor names it. `kind` is user, team, escalation, schedule or none; an id is the
    vendor's, and `name` what a person reads: two names for one id are one responder."""

    kind: str
    id: str
    name: str = field(default="", compare=False)

    @property
    def nobody(self) -> bool:
        return self.kind == "none"

    def __str__(self) -> str:
        return "nobody" if self.nobody else self.name or self.id


NOBODY = Responder("none", "", "nobody")
OVERRIDE = "override"  # the origin of a shift that stands in no rotation


@dataclass(frozen=True, slots=True, order=True)
class Interval:
    start: datetime
    end: datetime

    def cut(self, other: Interval) -> Interval | None:
        """What both cover, or None."""
        start, end = max(self.start, other.start), min(self.end, other.end)
        return Interval(start, end) if start < end else None

    def covers(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


@dataclass(frozen=True, slots=True)
class Shift:
    """One responder on call from `start` until just before `end`, by a rotation, a layer or an override (`origin`)."""

    person: Responder
    start: datetime
    end: datetime
    origin: str = ""
    origin_name: str = ""

    @property
    def interval(self) -> Interval:
        return Interval(self.start, self.end)

    def within(self, interval: Interval) -> Shift | None:
        part = self.interval.cut(interval)
        return replace(self, start=part.start, end=part.end) if part else None


@dataclass(frozen=True, slots=True)
class Override:
    """Somebody takes over from `start` to `end`: in the rotations that `origins` names, or in all."""

    person: Responder
    start: datetime
    end: datetime
    origins: tuple[str, ...] = ()
    note: str = ""

    @property
    def interval(self) -> Interval:
        return Interval(self.start, self.end)


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What would reach `person` reaches `to` instead, from `start` to `end`."""

    person: Responder
    to: Responder
    start: datetime
    end: datetime


def ordered(shifts: Iterable[Shift]) -> tuple[Shift, ...]:
    return tuple(sorted(shifts, key=lambda shift: (shift.start, shift.end, shift.origin, shift.person)))


def clipped(shifts: Iterable[Shift], interval: Interval) -> list[Shift]:
    return [part for shift in shifts if (part := shift.within(interval))]


def without(shift: Shift, holes: Sequence[Interval]) -> Iterator[Shift]:
    """What is left of a shift outside the holes."""
    start = shift.start
    for hole in sorted(holes):
        if hole.end <= start or hole.start >= shift.end:
            continue
        if hole.start > start:
            yield replace(shift, start=start, end=hole.start)
        start = max(start, hole.end)
    if start < shift.end:
        yield replace(shift, start=start)


def joined(shifts: Iterable[Shift]) -> tuple[Shift, ...]:
    """Shifts that touch or overlap, of one responder by one origin, as one. Without those of nobody."""
    last: dict[tuple[Responder, str], Shift] = {}
    done: list[Shift] = []
    for shift in ordered(shifts):
        if shift.person.nobody or shift.start >= shift.end:
            continue
        key = shift.person, shift.origin
        before = last.get(key)
        if before is not None and shift.start <= before.end:
            last[key] = replace(before, end=max(before.end, shift.end))
            continue
        if before is not None:
            done.append(before)
        last[key] = shift
    return ordered([*done, *last.values()])


def stacked(layers: Sequence[Sequence[Shift]]) -> list[Shift]:
    """Layers of which the first given wins: of each later one only what all before it leave uncovered."""
    covered: list[Interval] = []
    kept: list[Shift] = []
    for layer in layers:
        kept += [part for shift in layer for part in without(shift, covered)]
        covered = union([*covered, *(shift.interval for shift in layer if not shift.person.nobody)])
    return kept


def union(intervals: Iterable[Interval]) -> list[Interval]:
    """The same cover, by intervals that neither touch nor overlap, in order."""
    merged: list[Interval] = []
    for interval in sorted(intervals):
        if interval.start >= interval.end:
            continue
        if merged and interval.start <= merged[-1].end:
            merged[-1] = Interval(merged[-1].start, max(merged[-1].end, interval.end))
        else:
            merged.append(interval)
    return merged


def overridden(shifts: Sequence[Shift], overrides: Sequence[Override]) -> list[Shift]:
    """Shifts with overrides laid over them. One of all rotations holds also where no rotation has anybody on call, and
    is one shift; one that names rotations takes their places. Of overlapping ones the later-begun wins, then the one
    given later."""
    result = list(shifts)
    for _, override in sorted(enumerate(overrides), key=lambda item: (item[1].start, item[0])):
        hole, origins = [override.interval], override.origins
        result = [
            part
            for shift in result
            for part in (without(shift, hole) if not origins or shift.origin in origins else (shift,))
        ]
        result += [
            Shift(override.person, override.start, override.end, origin, override.note)
            for origin in origins or (OVERRIDE,)
        ]
    return result


def forwarded(shifts: Sequence[Shift], forwardings: Sequence[Forwarding]) -> list[Shift]:
    """Shifts with forwarding applied: also of whom they are forwarded to, and never round in a circle."""
    return [part for shift in shifts for part in _forward(shift, forwardings, frozenset({shift.person.id}))]


def _forward(shift: Shift, forwardings: Sequence[Forwarding], seen: frozenset[str]) -> Iterator[Shift]:
    for rule in forwardings:
        if rule.person.id != shift.person.id or rule.to.id in seen:
            continue
        part = shift.within(Interval(rule.start, rule.end))
        if part is None:
            continue
        yield from _forward(replace(part, person=rule.to), forwardings, seen | {rule.to.id})
        for rest in without(shift, [part.interval]):
            yield from _forward(rest, forwardings, seen)
        return
    yield shift


def on_call(shifts: Iterable[Shift], moment: datetime) -> tuple[Shift, ...]:
    """The shifts that cover a moment, one a responder."""
    found: dict[Responder, Shift] = {}
    for shift in ordered(shifts):
        if shift.interval.covers(moment) and not shift.person.nobody:
            found.setdefault(shift.person, shift)
    return tuple(found.values())


def people_by_time(shifts: Iterable[Shift], interval: Interval) -> list[tuple[Interval, frozenset[Responder]]]:
    """The interval cut wherever who is on call changes; with whom (an empty set where nobody is)."""
    comes: dict[datetime, list[Responder]] = {}
    goes: dict[datetime, list[Responder]] = {}
    for shift in clipped(shifts, interval):
        if not shift.person.nobody:
            comes.setdefault(shift.start, []).append(shift.person)
            goes.setdefault(shift.end, []).append(shift.person)
    present: Counter[Responder] = Counter()
    parts: list[tuple[Interval, frozenset[Responder]]] = []
    for start, end in pairwise(sorted({interval.start, interval.end, *comes, *goes})):
        present.update(comes.get(start, ()))
        present.subtract(goes.get(start, ()))
        people = frozenset(person for person, count in present.items() if count > 0)
        if parts and parts[-1][1] == people:
            parts[-1] = Interval(parts[-1][0].start, end), people
        else:
            parts.append((Interval(start, end), people))
    return parts
