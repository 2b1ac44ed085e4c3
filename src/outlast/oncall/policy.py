"""Escalation policies of both vendors as one thing: who is to be told how long after the alert, and on what condition.

An Opsgenie rule counts its delay from the alert; a PagerDuty rule says how long it lasts before the next. Both come to
steps at a time of their own. A step's recipient is resolved to people only when it is due: whoever is on call then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from outlast.core.page import Page
from outlast.core.page import Responder as Wanted
from outlast.oncall import opsgenie, pagerduty
from outlast.oncall.clock import ScheduleError, zone_of
from outlast.oncall.criteria import met
from outlast.oncall.people import People, Person, delay
from outlast.oncall.roster import Documents, Roster, now, previous_and_next
from outlast.oncall.schedule import Interval, Override, Responder
from outlast.oncall.turns import opened

Document = Mapping[str, Any]

_DEPTH_MAX = 5  # a team's escalation may name a team, whose escalation names …
REPEATS_MAX = 20


@dataclass(frozen=True, slots=True)
class Step:
    """Tell `recipient`, `after` the alert, unless it was acknowledged (`unacknowledged`) or closed by then. `notify` is
    default, next, previous, users, admins, all or random."""

    after: timedelta
    source: str
    recipient: Responder
    notify: str = "default"
    unacknowledged: bool = True


@dataclass(frozen=True, slots=True)
class Policy:
    """Steps, how often they are gone through again, and how long one round is. `reset`: an acknowledgement from before
    a new round does not count in it. `close`: the alert is closed when all rounds are over."""

    name: str
    steps: tuple[Step, ...]
    repeats: int = 0
    round_length: timedelta = timedelta()
    reset: bool = False
    close: bool = False


@dataclass(frozen=True, slots=True)
class Directory:
    """What paging looks up: people, schedules, policies, teams and services, as the copy has them."""

    people: People
    roster: Roster
    escalations: Mapping[tuple[str, str], Document] = field(default_factory=dict)
    policies: Mapping[tuple[str, str], Document] = field(default_factory=dict)  # PagerDuty's
    teams: Mapping[tuple[str, str], Document] = field(default_factory=dict)
    routing: Mapping[tuple[str, str], Sequence[Document]] = field(default_factory=dict)
    services: Mapping[tuple[str, str], Document] = field(default_factory=dict)

    # Which policy

    def policy(self, page: Page, default: str | None = None) -> Policy | None:
        """The policy for an alert: what its responders come to, else its service's, else the `default` that
        outlast.toml names. None where nothing of it is known."""
        found = [policy for one in page.responders for policy in self._wanted(one, page)]
        if not found and page.service:
            found = list(self._service(page.service))
        if not found and default:
            found = list(self._wanted(Wanted("", default, default), page))
        if not found:
            return None
        longest = max(found, key=lambda one: one.repeats)
        steps = sorted((step for one in found for step in one.steps), key=lambda step: step.after)
        length = max(one.round_length for one in found)
        name = ", ".join(dict.fromkeys(one.name for one in found))
        return replace(longest, name=name, steps=tuple(dict.fromkeys(steps)), round_length=length)

    def _wanted(self, wanted: Wanted, page: Page) -> Iterator[Policy]:
        names = [one for one in (wanted.id, wanted.name) if one]
        kinds = {"team": [self.teams], "escalation": [self.escalations, self.policies]}
        for table in kinds.get(wanted.type, [self.escalations, self.policies, self.teams] if not wanted.type else []):
            for (source, key), document in _found(table, names):
                kind = "team" if table is self.teams else "escalation"
                recipient = Responder(kind, key, document.get("name") or key)
                yield self._expanded(recipient.name, source, recipient, page)
                return
        for one in self.roster.schedules if wanted.type in ("schedule", "") else ():
            if one.id in names or one.name in names:
                yield Policy(one.name, (Step(timedelta(), one.source, Responder("schedule", one.id, one.name)),))
                return
        for name in names if wanted.type in ("user", "") else ():
            person = self.people.by_email.get(name.casefold()) or next(
                (one for one in self.people.by_key.values() if one.id == name), None
            )
            if person:
                yield Policy(
                    person.name, (Step(timedelta(), person.source, Responder("user", person.id, person.name)),)
                )
                return

    def _service(self, name: str) -> Iterator[Policy]:
        for (source, _), document in _found(self.services, [name]):
            reference = document.get("escalation_policy") or {}
            if (source, str(reference.get("id"))) in self.policies:
                yield self._pagerduty(source, str(reference["id"]))
            return

    def _expanded(self, name: str, source: str, recipient: Responder, page: Page) -> Policy:
        """A team or an escalation as steps, with those inside it unfolded."""
        if recipient.kind == "escalation" and (source, recipient.id) in self.policies:
            return self._pagerduty(source, recipient.id)
        steps = tuple(self._unfolded(Step(timedelta(), source, recipient), page, 0))
        routed = self._routed(source, recipient.id, page) if recipient.kind == "team" else recipient
        document = self.escalations.get((source, routed.id)) if routed and routed.kind == "escalation" else None
        repeat = (document or {}).get("repeat") or {}
        last = max((one.after for one in steps), default=timedelta())
        wait = timedelta(minutes=int(repeat.get("waitInterval") or 0))
        return Policy(
            name,
            steps,
            min(int(repeat.get("count") or 0), REPEATS_MAX) if wait else 0,
            last + wait,
            bool(repeat.get("resetRecipientStates")),
            bool(repeat.get("closeAlertAfterAll")),
        )

    def _unfolded(self, step: Step, page: Page, depth: int) -> Iterator[Step]:
        """A step as those that can be told: users and schedules, and members of teams."""
        recipient = step.recipient
        if depth > _DEPTH_MAX or recipient.nobody:
            return
        document = self.escalations.get((step.source, recipient.id)) if recipient.kind == "escalation" else None
        if document is not None:
            for rule in document.get("rules") or ():
                inner = Step(
                    step.after + delay(rule.get("delay")),
                    step.source,
                    opsgenie.responder(rule.get("recipient")),
                    str(rule.get("notifyType") or "default").lower(),
                    step.unacknowledged and rule.get("condition") != "if-not-closed",
                )
                yield from self._unfolded(inner, page, depth + 1)
            return
        if recipient.kind == "team" and step.notify == "default":
            routed = self._routed(step.source, recipient.id, page)
            if routed is None:  # a team without a rule that can be followed: everybody in it
                yield replace(step, notify="all")
            else:
                yield from self._unfolded(replace(step, recipient=routed), page, depth + 1)
            return
        yield step

    def _routed(self, source: str, team: str, page: Page) -> Responder | None:
        """Whom a team's routing rules lead an alert to; None where none applies."""
        rules = sorted(self.routing.get((source, team), ()), key=lambda one: bool(one.get("isDefault")))
        for rule in sorted(rules, key=lambda one: (bool(one.get("isDefault")), int(one.get("order") or 0))):
            if met(rule.get("criteria"), page) and _in_hours(rule, page.at):
                found = opsgenie.responder(rule.get("notify"))
                return None if found.kind == "team" else found
        return None

    def _pagerduty(self, source: str, key: str) -> Policy:
        document = self.policies[(source, key)]
        steps: list[Step] = []
        after = timedelta()
        for rule in document.get("escalation_rules") or ():
            targets = [pagerduty.responder(one) for one in rule.get("targets") or ()]
            strategy = rule.get("escalation_rule_assignment_strategy") or ""
            one_of = "round_robin" in str(strategy) and len(targets) > 1
            steps += [
                Step(after, source, target, f"turn {number} of {len(targets)}" if one_of else "default")
                for number, target in enumerate(targets)
            ]
            after += timedelta(minutes=int(rule.get("escalation_delay_in_minutes") or 0))
        repeats = min(int(document.get("num_loops") or 0), REPEATS_MAX) if after else 0
        return Policy(document.get("name") or key, tuple(steps), repeats, after)

    # Who that is

    def people_of(
        self, step: Step, page: Page, moment: datetime, overrides: Mapping[str, Sequence[Override]]
    ) -> list[Person]:
        """Whom a step reaches at a moment. Empty where nobody is on call, or nobody is known."""
        if step.notify.startswith("turn ") and not _has_turn(step.notify, page):
            return []
        found = self._of(step.source, step.recipient, step.notify, page, moment, overrides, 0)
        return list({person.key: person for person in found}.values())

    def _of(
        self,
        source: str,
        recipient: Responder,
        notify: str,
        page: Page,
        moment: datetime,
        overrides: Mapping[str, Sequence[Override]],
        depth: int,
    ) -> Iterator[Person]:
        if depth > _DEPTH_MAX:
            return
        if recipient.kind == "user":
            person = self.people.find(source, recipient.id) or self.people.find(source, recipient.name)
            if person:
                yield person
        elif recipient.kind == "schedule":
            for one in self._on_call(source, recipient.id, notify, moment, overrides):
                yield from self._of(source, one, "default", page, moment, overrides, depth + 1)
        elif recipient.kind == "team":
            yield from self._members(source, recipient.id, notify, page)
        elif recipient.kind == "escalation":  # on call by way of a schedule: whoever its first rule tells
            steps = list(self._unfolded(Step(timedelta(), source, recipient), page, depth))
            if (source, recipient.id) in self.policies:
                steps = list(self._pagerduty(source, recipient.id).steps)
            first = min((one.after for one in steps), default=None)
            for step in (one for one in steps if one.after == first):
                yield from self._of(source, step.recipient, step.notify, page, moment, overrides, depth + 1)
        elif recipient.kind == "all":
            yield from (one for one in self.people.by_key.values() if one.source == source)

    def _on_call(
        self, source: str, key: str, notify: str, moment: datetime, overrides: Mapping[str, Sequence[Override]]
    ) -> Sequence[Responder]:
        schedule = next((one for one in self.roster.schedules if (one.source, one.id) == (source, key)), None)
        if schedule is None:
            return ()
        laid = overrides.get(schedule.key, ())
        if notify in ("next", "previous"):
            before, after = previous_and_next(schedule, moment, laid)
            return after if notify == "next" else before
        return now(schedule, moment, laid).people

    def _members(self, source: str, key: str, notify: str, page: Page) -> Iterator[Person]:
        members = (self.teams.get((source, key)) or {}).get("members") or ()
        wanted = {"users": ("user",), "admins": ("admin",)}.get(notify)
        found = [
            person
            for one in members
            if wanted is None or str(one.get("role") or "user").lower() in wanted
            if (user := one.get("user") or one)
            and (person := self.people.find(source, str(user.get("id") or user.get("accountId") or "")))
        ]
        if notify == "random" and found:
            yield found[_chance(page, len(found))]
            return
        yield from found


def _has_turn(notify: str, page: Page) -> bool:
    number, count = (int(part) for part in notify.removeprefix("turn ").split(" of "))
    return _chance(page, count) == number


def _chance(page: Page, count: int) -> int:
    """A number below `count`, as good as by chance, and the same again after a crash."""
    return sum(page.alert_id.encode()) % count


def _found(
    table: Mapping[tuple[str, str], Document], names: Sequence[str]
) -> Iterator[tuple[tuple[str, str], Document]]:
    yield from ((at, one) for at, one in table.items() if at[1] in names)
    yield from ((at, one) for at, one in table.items() if one.get("name") in names)


def _in_hours(rule: Document, moment: datetime) -> bool:
    try:
        zone = zone_of(rule.get("timezone") or "UTC")
        instant = Interval(moment, moment + timedelta(seconds=1))
        return bool(opened(opsgenie.windows(rule.get("timeRestriction")), zone, instant))
    except (ScheduleError, KeyError, TypeError, ValueError):
        return True


def read(copy: Documents) -> Directory:
    """Everything that paging looks up, out of the copy."""
    from outlast.oncall import people, roster

    def by_key(*tables: str) -> dict[tuple[str, str], Document]:
        return {(one.source, one.key): one.document for table in tables for one in copy.documents(table)}

    routing: dict[tuple[str, str], list[Document]] = {}
    for one in _both(copy, "routing_rules"):
        routing.setdefault((one.source, one.parent or ""), []).append(one.document)
    return Directory(
        people.read(copy),
        roster.read(copy),
        by_key("opsgenie.escalations", "jsm.escalations"),
        by_key("pagerduty.escalation_policies"),
        by_key("opsgenie.teams", "jsm.teams"),
        routing,
        by_key("pagerduty.services"),
    )


def _both(copy: Documents, name: str) -> Iterable[Any]:
    yield from copy.documents(f"opsgenie.{name}")
    yield from copy.documents(f"jsm.{name}")
