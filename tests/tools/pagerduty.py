"""PagerDuty, as its specification has it: offset and limit, `more`, windows of six months, ten thousand at most."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.tools.fake import Answer, Asked, Document, Fake, Gone, Route

RENDERED = {"type": "final_schedule", "rendered_coverage_percentage": 0, "computed_shift_assignments": []}
FINAL = {"name": "Final Schedule", "rendered_schedule_entries": []}


class PagerDuty(Fake):
    scheme = "Token token="

    def __init__(self) -> None:
        super().__init__()
        self.deep_max = 10_000
        one = r"([^/]+)"
        self.get(r"/abilities", lambda _: {"abilities": ["teams"]})
        self.get(r"/users", self.users)
        for name in ("teams", "escalation_policies", "services", "schedules", "business_services", "priorities"):
            self.get(rf"/{name}", self.route(name))
        for name in ("maintenance_windows", "extensions", "tags", "oncalls"):
            self.get(rf"/{name}", self.route(name))
        self.get(r"/event_orchestrations", self.route("orchestrations"))
        self.get(rf"/teams/{one}/members", lambda asked: self.below(asked, "members", "teams"))
        self.get(rf"/schedules/{one}", self.rendered)
        self.get(rf"/schedules/{one}/overrides", self.overrides)
        self.get(r"/v3/schedules", self.references)
        self.get(rf"/v3/schedules/{one}", self.shift_based)
        for name in ("custom_shifts", "overrides"):
            self.get(rf"/v3/schedules/{one}/{name}", self.of_shift_based(name))
        self.get(r"/incidents", lambda asked: self.windowed(asked, "incidents"))
        self.get(r"/log_entries", lambda asked: self.windowed(asked, "log_entries", newest_first=True))
        self.get(rf"/incidents/{one}", lambda asked: {"incident": self.table("incidents")[asked.match[1]]})
        self.get(rf"/incidents/{one}/alerts", lambda asked: self.below(asked, "alerts", "incidents"))
        self.get(rf"/incidents/{one}/notes", self.notes)
        self.post(rf"/incidents/{one}/notes", self.note)
        self.post(rf"/schedules/{one}/overrides", self.override)

    def route(self, name: str) -> Route:
        return lambda asked: self.page(asked, name, list(self.table(name).values()))

    def page(self, asked: Asked, name: str, found: list[Document]) -> Any:
        offset, limit = int(asked.query.get("offset", "0")), min(100, int(asked.query.get("limit", "25")))
        if offset + limit > self.deep_max:
            return Answer({"error": {"message": "Offset + limit must not be over 10000", "code": 2001}}, 400)
        return {
            name: found[offset : offset + limit],
            "offset": offset,
            "limit": limit,
            "more": offset + limit < len(found),
            "total": None,
        }

    def users(self, asked: Asked) -> Any:
        found = [
            {
                **user,
                "contact_methods": list(self.table(f"contact_methods/{key}").values()),
                "notification_rules": list(self.table(f"notification_rules/{key}").values()),
            }
            for key, user in self.table("users").items()
        ]
        return self.page(asked, "users", found)

    def below(self, asked: Asked, name: str, of: str) -> Any:
        if asked.match[1] not in self.table(of):
            raise Gone
        return self.page(asked, name, list(self.table(f"{name}/{asked.match[1]}").values()))

    def notes(self, asked: Asked) -> Any:
        if asked.match[1] not in self.table("incidents"):
            raise Gone
        return {"notes": list(self.table(f"notes/{asked.match[1]}").values())}

    def note(self, asked: Asked) -> Any:
        if asked.match[1] not in self.table("incidents"):
            raise Gone
        sender = asked.headers.get("from")
        if sender not in {one["email"] for one in self.table("users").values()}:
            return Answer(_refused("Requester User Not Found", sender or "no From"), 400)
        notes, now = self.table(f"notes/{asked.match[1]}"), _now()
        one = {"id": f"PNW{len(notes)}", "content": asked.body["note"]["content"], "created_at": now}
        notes[str(one["id"])] = one
        self.table("incidents")[asked.match[1]]["updated_at"] = now
        return {"note": one}

    def override(self, asked: Asked) -> Any:
        made = []
        for one in asked.body["overrides"]:
            if one["user"]["id"] not in self.table("users"):
                made.append({"status": 400, "errors": ["Override user not found"], "override": one})
                continue
            there = self.table(f"overrides/{self.table('schedules')[asked.match[1]]['id']}")
            kept = {**one, "id": f"POW{len(there)}"}
            there[kept["id"]] = kept
            made.append({"status": 201, "override": kept})
        return Answer(made, 201)

    def rendered(self, asked: Asked) -> Any:
        schedule = self.table("schedules")[asked.match[1]]
        return {"schedule": {**schedule, "final_schedule": FINAL}}

    def overrides(self, asked: Asked) -> Any:
        if asked.match[1] not in self.table("schedules"):
            raise Gone
        if "since" not in asked.query or "until" not in asked.query:
            return Answer({"error": {"message": "since and until are required"}}, 400)
        return {"overrides": list(self.table(f"overrides/{asked.match[1]}").values())}

    def references(self, asked: Asked) -> Any:
        """The list names them only."""
        found = [
            {"id": key, "type": "schedule_v3_reference", "summary": one["name"]}
            for key, one in self.table("schedules_v3").items()
        ]
        return self.page(asked, "schedules", found)

    def shift_based(self, asked: Asked) -> Any:
        schedule = self.table("schedules_v3")[asked.match[1]]
        shown = {"final_schedule": RENDERED}
        return {"schedule": {**schedule, **(shown if asked.query.get("include[]") == "final_schedule" else {})}}

    def of_shift_based(self, name: str) -> Route:
        def route(asked: Asked) -> Any:
            if asked.match[1] not in self.table("schedules_v3"):
                raise Gone
            if "since" not in asked.query or "until" not in asked.query:
                return Answer({"error": {"message": "since and until are required"}}, 400)
            return self.page(asked, name, list(self.table(f"v3/{name}/{asked.match[1]}").values()))

        return route

    def windowed(self, asked: Asked, name: str, *, newest_first: bool = False) -> Any:
        since = datetime.fromisoformat(asked.query["since"])
        until = datetime.fromisoformat(asked.query["until"])
        if until - since > timedelta(days=184):
            return Answer({"error": {"message": "The time range may be six months at most"}}, 400)
        found = [
            one for one in self.table(name).values() if since <= datetime.fromisoformat(one["created_at"]) <= until
        ]
        found.sort(key=lambda one: str(one["created_at"]), reverse=newest_first)
        return self.page(asked, name, found)


def _refused(message: str, why: str) -> Document:
    return {"error": {"message": message, "code": 2001, "errors": [why]}}


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _reference(kind: str, key: str) -> Document:
    return {"id": key, "type": f"{kind}_reference"}


_REQUIRED: dict[str, Document] = {
    "maintenance_windows": {
        "type": "maintenance_window", "start_time": "2026-01-01T00:00:00Z", "end_time": "2026-01-01T01:00:00Z",
        "services": [],
    },
    "extensions": {"extension_objects": [], "extension_schema": _reference("extension_schema", "PEX1")},
    "tags": {"type": "tag", "label": "on fire"},
}  # fmt: skip


def incident(number: int, created: str, status: str = "triggered") -> Document:
    return {
        "id": f"PINC{number:04}",
        "type": "incident",
        "incident_number": number,
        "title": f"Checkout is slow {number}",
        "status": status,
        "created_at": created,
        "updated_at": created,
        "urgency": "high",
    }


def fill(fake: PagerDuty, incidents: int = 6) -> None:
    """A small account with something of everything, and more users than one page holds."""
    for n in range(103):
        user = f"PUSR{n:03}"
        fake.table("users")[user] = {"id": user, "type": "user", "name": f"User {n}", "email": f"user{n}@example.com"}
        fake.table(f"contact_methods/{user}")["c"] = {
            "id": f"PCM{n:03}",
            "type": "email_contact_method",
            "address": "x",
        }
        fake.table(f"notification_rules/{user}")["r"] = {
            "id": f"PNR{n:03}",
            "type": "assignment_notification_rule",
            "urgency": "high",
        }
    fake.table("teams")["PT1"] = {"id": "PT1", "type": "team", "name": "Payments"}
    fake.table("members/PT1")["m"] = {"user": _reference("user", "PUSR001"), "role": "manager"}
    turns = {"start": "2026-01-01T00:00:00Z", "rotation_virtual_start": "2026-01-01T00:00:00Z", "users": []}
    layers = [{"id": f"PL{n}", "name": f"Layer {n}", "rotation_turn_length_seconds": 604_800, **turns} for n in (2, 1)]
    fake.table("schedules")["PS1"] = {
        "id": "PS1",
        "type": "schedule",
        "name": "Primary",
        "time_zone": "Europe/Berlin",
        "schedule_layers": layers,
    }
    fake.table("overrides/PS1")["o"] = {"id": "PO1", "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
    for n in range(2):
        member = {"type": "user_member", "user_id": "PUSR001"}
        other = {"type": "user_member", "user_id": "PUSR002"}
        hours = {"start_time": "2026-01-01T09:00:00Z", "end_time": "2026-01-01T17:00:00Z"}
        event = {
            "id": f"PEV{n}", "type": "schedule_event", "name": "Weekdays",
            "start_time": {"date_time": hours["start_time"], "time_zone": "America/New_York"},
            "end_time": {"date_time": hours["end_time"], "time_zone": "America/New_York"},
            "effective_since": "2026-01-01T00:00:00Z", "recurrence": ["RRULE:FREQ=WEEKLY;BYDAY=MO"],
            "assignment_strategy": {"type": "rotating_member_assignment_strategy", "shifts_per_member": 1,
                                    "members": [member]},
        }  # fmt: skip
        fake.table("schedules_v3")[f"PV3{n}"] = {
            "id": f"PV3{n}", "type": "schedule_v3", "name": f"Shifts {n}", "time_zone": "America/New_York",
            "rotations": [{"id": f"PRO{n}", "type": "schedule_rotation", "events": [event]}],
        }  # fmt: skip
        fake.table(f"v3/custom_shifts/PV3{n}")["c"] = {
            "id": f"PCS{n}", "type": "custom_shift", **hours,
            "assignments": [{"id": f"PAS{n}", "type": "shift_assignment", "member": member}],
        }  # fmt: skip
        fake.table(f"v3/overrides/PV3{n}")["o"] = {
            "id": f"POV{n}", "type": "override_shift", "rotation_id": f"PRO{n}", **hours,
            "overridden_member": member, "overriding_member": other,
        }  # fmt: skip
    fake.table("escalation_policies")["PE1"] = {
        "id": "PE1",
        "type": "escalation_policy",
        "name": "Default",
        "escalation_rules": [],
    }
    fake.table("oncalls")["x"] = {
        "escalation_policy": _reference("escalation_policy", "PE1"), "escalation_level": 1,
        "schedule": _reference("schedule", "PS1"), "user": _reference("user", "PUSR001"),
        "start": "2026-01-01T00:00:00Z", "end": "2026-02-01T00:00:00Z",
    }  # fmt: skip
    fake.table("oncalls")["y"] = {
        "escalation_policy": _reference("escalation_policy", "PE1"), "escalation_level": 2,
        "schedule": None, "user": _reference("user", "PUSR002"),
        "start": None,
    }  # fmt: skip
    fake.table("services")["PV1"] = {
        "id": "PV1", "name": "Checkout", "status": "active",
        "integrations": [{"id": "PI1", "type": "events_api_v2_inbound_integration", "service": {"id": "PV1"}}],
    }  # fmt: skip
    for name in ("business_services", "priorities", "maintenance_windows", "extensions", "tags", "orchestrations"):
        fake.table(name)[name] = {"id": name.upper(), "name": name, **_REQUIRED.get(name, {})}
    for n in range(incidents):
        add_incident(fake, n, f"2025-{1 + n:02}-05T10:00:00Z")


def add_incident(fake: PagerDuty, number: int, created: str) -> None:
    one = incident(number, created)
    fake.table("incidents")[one["id"]] = one
    fake.table(f"alerts/{one['id']}")["a"] = {"id": f"PA{number}", "type": "alert", "status": "triggered"}
    fake.table(f"notes/{one['id']}")["n"] = {"id": f"PN{number}", "content": f"looking into {number}"}
    log(fake, number, f"{number}-1", created)


def log(fake: PagerDuty, number: int, key: str, at: str) -> None:
    """An entry in the log of an incident: what says that it changed."""
    entry = {
        "id": f"PLOG{key}",
        "type": "trigger_log_entry",
        "created_at": at,
        "incident": _reference("incident", f"PINC{number:04}"),
    }
    fake.table("log_entries")[entry["id"]] = entry  # type: ignore[index]
