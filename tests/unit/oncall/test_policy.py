"""Escalation policies of both vendors, as steps; and whom a step reaches at its time."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from outlast.core.document import Document
from outlast.core.page import Page, Responder
from outlast.oncall import policy
from outlast.oncall.criteria import met
from outlast.oncall.policy import Directory, Policy
from outlast.oncall.roster import now
from outlast.oncall.schedule import Override
from outlast.oncall.schedule import Responder as Someone
from tests import rosters

MONDAY = datetime(2026, 3, 2, 15, tzinfo=UTC)  # ten in New York: Ann's
Tables = dict[str, dict[str, dict[str, Any]]]


class Copy:
    """Documents in memory, where a test needs no file."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def documents(self, table: str, source: str | None = None) -> Iterable[Document]:
        for key, document in sorted(self._tables.get(table, {}).items()):
            yield Document("main", "acme", table, key, None, document)


def directory(tables: Tables | None = None) -> Directory:
    return policy.read(Copy(tables or rosters.both()))


def page(*responders: tuple[str, str], **more: Any) -> Page:
    values: dict[str, Any] = {
        "alert_id": "a1",
        "event_id": "e1",
        "integration": "prometheus",
        "message": "disk full",
        "priority": "P1",
        "at": MONDAY,
        "reason": "the vendor is away",
        "responders": tuple(Responder(kind, name=name) for kind, name in responders),
    }
    return Page(**values | more)


def told(found: Policy | None, people: Directory, one: Page, **overrides: list[Override]) -> list[str]:
    """`0 min: ann, bob (closed)`: each step with whom it reaches at its time."""
    assert found is not None
    lines = []
    for step in found.steps:
        at = MONDAY + step.after
        names = ", ".join(person.id for person in people.people_of(step, one, at, overrides.get("overrides", {})))  # type: ignore[arg-type]
        unless = "" if step.unacknowledged else " (unless closed)"
        lines.append(f"{step.after // timedelta(minutes=1)} min: {names or 'nobody'}{unless}")
    return lines


@pytest.mark.parametrize(
    "responder",
    [("escalation", "web_escalation"), ("escalation", "x1"), ("team", "web-team"), ("team", "t1")],
)
def test_opsgenies_rules_count_from_the_alert(responder: tuple[str, str]) -> None:
    """By the escalation itself, or by way of a team's routing rules; named by id or by name."""
    people, one = directory(), page(responder)
    found = people.policy(one)
    assert told(found, people, one) == ["0 min: ann", "5 min: bob", "10 min: ann, bob, cid"]
    assert found is not None
    assert (found.repeats, found.round_length) == (1, timedelta(minutes=15))


def test_jiras_service_management_is_read_as_opsgenie() -> None:
    """Its schedules, escalations, teams and people have Opsgenie's shape under names of their own."""
    told = {name.replace("opsgenie.", "jsm."): table for name, table in rosters.opsgenie().items()}
    opsgenie, jsm = directory(rosters.opsgenie()), directory(told)
    assert [str(one) for one in now(jsm.roster.schedules[0], MONDAY).people] == ["Ann Example"]
    assert jsm.policy(page(("team", "web-team"))) == opsgenie.policy(page(("team", "web-team")))
    assert {one.name: one.contacts for one in jsm.people.by_key.values()} == {
        one.name: one.contacts for one in opsgenie.people.by_key.values()
    }


def test_pagerdutys_rules_each_last_before_the_next() -> None:
    """Found by the service that the integration belongs to."""
    people, one = directory(), page(service="Main database")
    found = people.policy(one)
    assert told(found, people, one) == ["0 min: eve", "10 min: fay"]
    assert found is not None
    assert (found.repeats, found.round_length) == (1, timedelta(minutes=25))
    assert told(people.policy(page(service="S1")), people, one) == ["0 min: eve", "10 min: fay"]


@pytest.mark.parametrize(
    ("responder", "expected"),
    [
        (("user", "cid@example.org"), ["0 min: cid"]),
        (("user", "CID@example.org"), ["0 min: cid"]),
        (("schedule", "web"), ["0 min: ann"]),
        (("schedule", "Database"), ["0 min: eve"]),
    ],
)
def test_a_user_or_a_schedule_alone_is_a_policy_of_one_step(responder: tuple[str, str], expected: list[str]) -> None:
    """Told at once, whoever that is now."""
    people, one = directory(), page(responder)
    assert told(people.policy(one), people, one) == expected


def test_several_responders_are_all_told() -> None:
    """Each by its own policy, in one."""
    people, one = directory(), page(("team", "web-team"), ("user", "fay@example.org"))
    assert told(people.policy(one), people, one)[:2] == ["0 min: ann", "0 min: fay"]


def test_what_nobody_knows_has_the_default_or_no_policy() -> None:
    """The default may be named by any name."""
    people, one = directory(), page(("team", "gone"))
    assert people.policy(one) is None
    assert told(people.policy(one, "web_escalation"), people, one)[0] == "0 min: ann"
    assert told(people.policy(page(), "Database policy"), people, one)[0] == "0 min: eve"


def changed(notify: str, kind: str = "team", one: str = "t1", **more: Any) -> Tables:
    tables = rosters.both()
    tables["opsgenie.escalations"]["x1"]["rules"] = [rosters.escalation_rule(0, notify, kind, one, **more)]
    return tables


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        (changed("admins"), "0 min: ann"),
        (changed("users"), "0 min: bob, cid"),
        (changed("all"), "0 min: ann, bob, cid"),
        (changed("random"), "0 min: cid"),  # always the same one for one alert, also after a crash
        (changed("next", "schedule", "s1"), "0 min: bob"),
        (changed("previous", "schedule", "s1"), "0 min: nobody"),  # nobody was before the rotation began
        (changed("default", "user", "cid"), "0 min: cid"),
        (changed("default", "user", "cid", condition="if-not-closed"), "0 min: cid (unless closed)"),
        (changed("default", "user", "gone"), "0 min: nobody"),
    ],
)
def test_notify_types_and_conditions(tables: Tables, expected: str) -> None:
    """Whom a rule tells."""
    people, one = directory(tables), page(("escalation", "x1"))
    assert told(people.policy(one), people, one) == [expected]


def test_previous_is_who_was_on_call_before() -> None:
    """A day later than the rotation's first."""
    people = directory(changed("previous", "schedule", "s1"))
    one = page(("escalation", "x1"))
    found = people.policy(one)
    assert found is not None
    reached = people.people_of(found.steps[0], one, MONDAY + timedelta(days=1), {})
    assert [person.id for person in reached] == ["ann"]


def test_an_override_set_here_is_who_is_told() -> None:
    """Steps are resolved when they are due, by what is set then."""
    people, one = directory(), page(("schedule", "web"))
    found = people.policy(one)
    assert found is not None
    laid = {"main/s1": [Override(Someone("user", "cid"), MONDAY, MONDAY + timedelta(hours=1))]}
    assert [person.id for person in people.people_of(found.steps[0], one, MONDAY, laid)] == ["cid"]


def test_routing_rules_go_by_criteria_and_hours_and_the_default_comes_last() -> None:
    """The first that applies, in their order."""
    tables = rosters.both()
    only = {
        "type": "match-all-conditions",
        "conditions": [{"field": "tags", "operation": "contains", "expectedValue": "db"}],
    }
    night = {"type": "time-of-day", "restriction": {"startHour": 22, "startMin": 0, "endHour": 6, "endMin": 0}}
    rule = {"isDefault": False, "timezone": rosters.NEW_YORK, "criteria": {"type": "match-all"}}
    tables["opsgenie.routing_rules"] |= {
        "t1/a": rule | {"id": "a", "order": 1, "criteria": only, "notify": {"type": "user", "id": "cid"}},
        "t1/b": rule | {"id": "b", "order": 2, "timeRestriction": night, "notify": {"type": "user", "id": "bob"}},
    }
    people = directory(tables)
    cases = [
        (page(("team", "t1"), tags=("db",)), "0 min: cid"),
        (page(("team", "t1"), at=MONDAY + timedelta(hours=14)), "0 min: bob"),
        (page(("team", "t1")), "0 min: ann"),
    ]
    assert [told(people.policy(one), people, one)[0] for one, _ in cases] == [expected for _, expected in cases]


def test_a_team_without_routing_is_everybody_in_it_and_circles_end() -> None:
    """Rather too many than nobody; an escalation that names its own team does not go on for ever."""
    tables = rosters.both() | {"opsgenie.routing_rules": {}}
    people, one = directory(tables), page(("team", "t1"))
    assert told(people.policy(one), people, one) == ["0 min: ann, bob, cid"]
    people = directory(changed("default", "team", "t1"))
    assert people.policy(one) == Policy("web-team", (), 1, timedelta(minutes=5))


def test_round_robin_tells_one_of_the_targets() -> None:
    """The same one for the same alert."""
    tables = rosters.both()
    rule = tables["pagerduty.escalation_policies"]["E1"]["escalation_rules"][0]
    rule["targets"] = [rosters.reference("user", "eve"), rosters.reference("user", "fay")]
    rule["escalation_rule_assignment_strategy"] = "round_robin"
    people = directory(tables)
    for alert, expected in (("a", "fay"), ("b", "eve")):
        one = page(service="S1", alert_id=alert)
        found = people.policy(one)
        assert found is not None
        reached = [p.id for step in found.steps[:2] for p in people.people_of(step, one, MONDAY, {})]
        assert reached == [expected]


def attempts(name: str, tables: Tables | None = None, **more: Any) -> list[str]:
    person = directory(tables).people.by_email[f"{name}@example.org"]
    return [
        f"{one.contact.method} {one.contact.address} {one.after // timedelta(minutes=1)}"
        for one in person.attempts(page(**more), MONDAY)
    ]


def test_a_persons_rules_say_which_contact_is_tried_when() -> None:
    """Of both vendors; telephone numbers in the form that every service takes."""
    assert attempts("ann") == ["email ann@example.org 0", "sms +15550000 2"]
    assert attempts("eve") == ["email eve@example.org 0", "sms +15551234 3"]


def test_who_has_no_rules_is_told_by_every_contact_at_once() -> None:
    """Nobody is left out because nothing was set."""
    assert attempts("bob") == ["email bob@example.org 0", "sms +15550001 0"]


def test_urgency_follows_priority() -> None:
    """PagerDuty's rules for low urgency hold from P4 on; who has none for it is written to once."""
    assert attempts("fay", priority="P5") == ["email fay@example.org 0"]
    assert attempts("eve", priority="P5") == ["email eve@example.org 0"]
    assert attempts("eve", priority="P3")[1] == "sms +15551234 3"


def rules(*given: dict[str, Any]) -> Tables:
    return rosters.both() | {"opsgenie.notification_rules": {f"ann/{one['id']}": one for one in given}}


def test_the_first_rule_that_applies_is_followed() -> None:
    """By order, criteria and hours; what is switched off is not there; a rule may go round."""
    sms, mail = rosters.step("sms", "1-5550000", 1), rosters.step("email", "ann@example.org", 0)
    only = {
        "type": "match-any-condition",
        "conditions": [{"field": "priority", "operation": "less-than", "expectedValue": "P3"}],
    }
    office = {"type": "time-of-day", "restriction": {"startHour": 12, "startMin": 0, "endHour": 18, "endMin": 0}}
    given = rules(
        rosters.rule("r0", sms, enabled=False, order=0),
        rosters.rule("r9", sms, actionType="closed-alert", order=0),
        rosters.rule("r1", sms, criteria=only, order=1),
        rosters.rule("r2", sms, timeRestriction=office, order=2),
        rosters.rule("r3", mail, sms | {"enabled": False}, order=3, repeat={"enabled": True, "loopAfter": 5}),
    )
    assert attempts("ann", given)[:3] == [f"email ann@example.org {minutes}" for minutes in (0, 5, 10)]
    assert attempts("ann", given, priority="P4") == ["sms +15550000 1"]


@pytest.mark.parametrize(
    ("condition", "held"),
    [
        ({"field": "message", "operation": "contains", "expectedValue": "disk"}, True),
        ({"field": "message", "operation": "starts-with", "expectedValue": "full"}, False),
        ({"field": "message", "operation": "ends-with", "expectedValue": "full"}, True),
        ({"field": "message", "operation": "equals", "expectedValue": "disk"}, False),
        ({"field": "message", "operation": "equals", "expectedValue": "disk", "not": True}, True),
        ({"field": "message", "operation": "equals-ignore-whitespace", "expectedValue": "diskfull"}, True),
        ({"field": "message", "operation": "matches", "expectedValue": "d.sk"}, True),
        ({"field": "message", "operation": "matches", "expectedValue": "("}, True),  # cannot be read: let through
        ({"field": "description", "operation": "is-empty"}, True),
        ({"field": "priority", "operation": "greater-than", "expectedValue": "P3"}, True),
        ({"field": "priority", "operation": "less-than", "expectedValue": "P3"}, False),
        ({"field": "extra-properties", "key": "region", "operation": "equals", "expectedValue": "eu"}, True),
        ({"field": "details", "operation": "contains-key", "expectedValue": "region"}, True),
        ({"field": "teams", "operation": "contains", "expectedValue": "web"}, True),
        ({"field": "moon", "operation": "contains", "expectedValue": "full"}, True),  # not known: let through
    ],
)
def test_conditions(condition: dict[str, Any], held: bool) -> None:
    """Each of Opsgenie's operations on an alert's fields."""
    one = page(("team", "web-team"), details={"region": "eu"})
    assert met({"type": "match-all-conditions", "conditions": [condition]}, one) is held
