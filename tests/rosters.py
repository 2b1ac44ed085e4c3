"""A small company's on-call documents, as Opsgenie and PagerDuty give them: who is on call is easy to say by heart.

Opsgenie's `web` has Ann and Bob in turns from Monday 2 March 2026, 09:00 New York, a day each; its escalation tells
whoever is on call, after five minutes the next, after ten everybody of the team, and begins again once. PagerDuty's
`Database` has Eve, and Fay as the second level.
"""

from __future__ import annotations

from typing import Any

Document = dict[str, Any]
Tables = dict[str, dict[str, Document]]
NEW_YORK = "America/New_York"


def contact(method: str, to: str) -> Document:
    return {"id": f"{method}-{to}", "method": method, "to": to, "status": {"enabled": True}}


def user(name: str) -> Document:
    return {
        "id": name,
        "username": f"{name}@example.org",
        "fullName": f"{name.capitalize()} Example",
        "role": {"id": "User", "name": "User"},
        "timeZone": NEW_YORK,
    }


def step(method: str, to: str, minutes: int) -> Document:
    return {
        "sendAfter": {"timeAmount": minutes, "timeUnit": "minutes"},
        "contact": {"method": method, "to": to},
        "enabled": True,
    }


def rule(name: str, *steps: Document, **more: Any) -> Document:
    return {
        "id": name,
        "name": name,
        "actionType": "create-alert",
        "order": 1,
        "enabled": True,
        "criteria": {"type": "match-all"},
        "steps": list(steps),
        **more,
    }


def escalation_rule(minutes: int, notify: str, kind: str, one: str, condition: str = "if-not-acked") -> Document:
    return {
        "condition": condition,
        "notifyType": notify,
        "delay": {"timeAmount": minutes, "timeUnit": "minutes"},
        "recipient": {"type": kind, "id": one, "name": one},
    }


def opsgenie() -> Tables:
    people = ("ann", "bob", "cid")
    return {
        "opsgenie.users": {name: user(name) for name in people},
        "opsgenie.contacts": {
            **{f"{name}/e": contact("email", f"{name}@example.org") for name in people},
            **{f"{name}/s": contact("sms", f"1-555000{number}") for number, name in enumerate(people)},
        },
        "opsgenie.notification_rules": {
            "ann/r1": rule("r1", step("email", "ann@example.org", 0), step("sms", "1-5550000", 2)),
        },
        "opsgenie.schedules": {
            "s1": {
                "id": "s1",
                "name": "web",
                "timezone": NEW_YORK,
                "enabled": True,
                "rotations": [
                    {
                        "id": "r1",
                        "name": "daily",
                        "startDate": "2026-03-02T14:00:00Z",
                        "type": "daily",
                        "length": 1,
                        "participants": [{"type": "user", "id": name} for name in ("ann", "bob")],
                    }
                ],
            }
        },
        "opsgenie.escalations": {
            "x1": {
                "id": "x1",
                "name": "web_escalation",
                "rules": [
                    escalation_rule(0, "default", "schedule", "s1"),
                    escalation_rule(5, "next", "schedule", "s1"),
                    escalation_rule(10, "all", "team", "t1"),
                ],
                "repeat": {"waitInterval": 5, "count": 1, "resetRecipientStates": False, "closeAlertAfterAll": False},
            }
        },
        "opsgenie.teams": {
            "t1": {
                "id": "t1",
                "name": "web-team",
                "members": [
                    {"user": {"id": "ann"}, "role": "admin"},
                    {"user": {"id": "bob"}, "role": "user"},
                    {"user": {"id": "cid"}, "role": "user"},
                ],
            }
        },
        "opsgenie.routing_rules": {
            "t1/default": {
                "id": "default",
                "isDefault": True,
                "order": 1,
                "criteria": {"type": "match-all"},
                "notify": {"type": "escalation", "id": "x1", "name": "web_escalation"},
            }
        },
    }


def reference(kind: str, one: str, summary: str = "") -> Document:
    return {"id": one, "type": f"{kind}_reference", "summary": summary or one}


def pagerduty() -> Tables:
    def person(name: str, *methods: Document, rules: list[Document]) -> Document:
        return {
            "id": name,
            "name": f"{name.capitalize()} Example",
            "email": f"{name}@example.org",
            "contact_methods": list(methods),
            "notification_rules": rules,
        }

    def email(name: str) -> Document:
        return {"id": f"{name}-e", "type": "email_contact_method", "address": f"{name}@example.org"}

    def rule_of(name: str, kind: str, minutes: int, urgency: str = "high") -> Document:
        return {
            "id": f"{name}-{kind}-{urgency}",
            "start_delay_in_minutes": minutes,
            "urgency": urgency,
            "contact_method": {"id": f"{name}-{kind}"},
        }

    phone = {"id": "eve-p", "type": "sms_contact_method", "country_code": 1, "address": "5551234"}
    return {
        "pagerduty.users": {
            "eve": person("eve", email("eve"), phone, rules=[rule_of("eve", "e", 0), rule_of("eve", "p", 3)]),
            "fay": person("fay", email("fay"), rules=[rule_of("fay", "e", 0), rule_of("fay", "e", 0, "low")]),
        },
        "pagerduty.schedules": {
            "P1": {
                "id": "P1",
                "name": "Database",
                "time_zone": "Eastern Time (US & Canada)",
                "schedule_layers": [
                    {
                        "id": "L1",
                        "name": "Layer 1",
                        "start": "2026-03-02T09:00:00-05:00",
                        "rotation_virtual_start": "2026-03-02T09:00:00-05:00",
                        "rotation_turn_length_seconds": 604800,
                        "users": [{"user": reference("user", "eve", "Eve Example")}],
                        "restrictions": [],
                    }
                ],
            }
        },
        "pagerduty.escalation_policies": {
            "E1": {
                "id": "E1",
                "name": "Database policy",
                "num_loops": 1,
                "escalation_rules": [
                    {
                        "id": "R1",
                        "escalation_delay_in_minutes": 10,
                        "targets": [reference("schedule", "P1", "Database")],
                    },
                    {"id": "R2", "escalation_delay_in_minutes": 15, "targets": [reference("user", "fay")]},
                ],
            }
        },
        "pagerduty.services": {
            "S1": {"id": "S1", "name": "Main database", "escalation_policy": reference("escalation_policy", "E1")}
        },
    }


def both() -> Tables:
    return opsgenie() | pagerduty()
