"""The status page: what everybody may know, as one value. How it looks is site.py's, statuspage.py's and feed.py's.

Pure. It is made from public incidents only; no tenant's name, no note, no draft and no role is ever part of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from outlast.incident.cadence import Due, Promise, late
from outlast.incident.incident import Component, Incident, Severity, Spell

UPTIME_DAYS = 90
PAST_DAYS = 14
_WEIGHTS = {Component.MAJOR: 1.0, Component.PARTIAL: 0.3}
"""How much of a spell counts as downtime; the weights of Statuspage."""


@dataclass(frozen=True, slots=True)
class ComponentSpec:
    """A component as outlast.toml names it. `group` gathers several under one heading."""

    name: str
    description: str | None = None
    group: str | None = None
    since: date | None = None  # before this there is no record, and no uptime is claimed


@dataclass(frozen=True, slots=True)
class PageSpec:
    """`url` is where the page will be read, without a slash at the end."""

    name: str
    url: str
    components: tuple[ComponentSpec, ...]
    languages: tuple[str, ...] = ("en",)
    contact: str | None = None  # where subscriptions are taken, if anywhere

    @property
    def id(self) -> str:
        return identifier("page", self.name)


@dataclass(frozen=True, slots=True)
class Day:
    """One component's day: the worst state, and the share of it that was up. `state` None: before any record."""

    day: date
    state: Component | None
    up: float


@dataclass(frozen=True, slots=True)
class ComponentView:
    spec: ComponentSpec
    id: str
    state: Component
    days: tuple[Day, ...]
    updated_at: datetime

    @property
    def uptime(self) -> float | None:
        """The share of the recorded days that it was up, from 0 to 1; None without a record."""
        known = [day.up for day in self.days if day.state is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True)
class IncidentView:
    """A public incident and the word that customers wait for in vain, if any."""

    incident: Incident
    late: Due | None


@dataclass(frozen=True, slots=True)
class StatusPage:
    spec: PageSpec
    at: datetime
    components: tuple[ComponentView, ...]
    current: tuple[IncidentView, ...]
    planned: tuple[IncidentView, ...]  # maintenance that is to come or going on
    past: tuple[IncidentView, ...]  # over, the newest first

    @property
    def indicator(self) -> Severity | None:
        """The worst that is going on; None when all is well."""
        going_on = [one.incident.severity for one in self.current]
        for severity in (Severity.CRITICAL, Severity.MAJOR, Severity.MINOR):
            if severity in going_on:
                return severity
        return Severity.MAINTENANCE if any(_under_way(one.incident, self.at) for one in self.planned) else None


def identifier(*parts: str) -> str:
    """Twelve letters and digits that stay the same for the same words, as Statuspage's ids look."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def make_page(spec: PageSpec, incidents: Iterable[Incident], promise: Promise, now: datetime) -> StatusPage:
    """What the page says at this moment."""
    public = sorted((one for one in incidents if one.public), key=lambda one: one.opened_at, reverse=True)
    views = [IncidentView(one, late(one, promise, now)) for one in public]
    return StatusPage(
        spec=spec,
        at=now,
        components=tuple(_component(spec, one, public, now) for one in spec.components),
        current=tuple(view for view in views if not view.incident.over and not view.incident.planned),
        planned=tuple(view for view in views if not view.incident.over and view.incident.planned),
        past=tuple(view for view in views if view.incident.over),
    )


def _component(spec: PageSpec, component: ComponentSpec, incidents: Sequence[Incident], now: datetime) -> ComponentView:
    spells = [spell for one in incidents for spell in one.spells if spell.component == component.name]
    states = [_state(incident, component.name, now) for incident in incidents if not incident.over]
    days = tuple(
        _day(component, spells, now.astimezone(UTC).date() - timedelta(days=back), now)
        for back in range(UPTIME_DAYS - 1, -1, -1)
    )
    return ComponentView(
        spec=component,
        id=identifier(spec.id, component.name),
        state=max(states, key=lambda state: state.rank, default=Component.OPERATIONAL),
        days=days,
        updated_at=max((spell.until or spell.since for spell in spells), default=now),
    )


def _state(incident: Incident, component: str, now: datetime) -> Component:
    state = incident.components.get(component, Component.OPERATIONAL)
    if incident.planned:  # announced work touches nothing before it begins
        return (
            Component.MAINTENANCE
            if component in incident.components and _under_way(incident, now)
            else (Component.OPERATIONAL)
        )
    return state


def _under_way(incident: Incident, now: datetime) -> bool:
    return incident.scheduled_for is not None and incident.scheduled_for <= now and not incident.over


def _day(component: ComponentSpec, spells: Sequence[Spell], day: date, now: datetime) -> Day:
    start = datetime.combine(day, time(), UTC)
    end = min(start + timedelta(days=1), now)
    if (component.since is not None and day < component.since) or end <= start:
        return Day(day, None, 1.0)
    touching = [spell for spell in spells if spell.since < end and (spell.until or now) > start]
    worst = max((spell.state for spell in touching), key=lambda state: state.rank, default=Component.OPERATIONAL)
    down = sum(
        (_WEIGHTS[spell.state] * (min(spell.until or now, end) - max(spell.since, start)) / (end - start))
        for spell in touching
        if spell.state in _WEIGHTS
    )
    return Day(day, worst, max(0.0, 1.0 - down))


def groups(page: StatusPage) -> Mapping[str | None, tuple[ComponentView, ...]]:
    """The components by group, in the order that outlast.toml has them; those without one under None."""
    found: dict[str | None, tuple[ComponentView, ...]] = {}
    for view in page.components:
        found[view.spec.group] = (*found.get(view.spec.group, ()), view)
    return found
