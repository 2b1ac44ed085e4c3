"""Opsgenie, as its specification has it: lists under `data`, addresses of next pages under `paging.next`."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from tests.tools.fake import Answer, Asked, Document, Fake, Gone, Route

_DEEP = 20_000


class Opsgenie(Fake):
    scheme = "GenieKey "

    def __init__(self) -> None:
        super().__init__()
        self.deep_max = _DEEP
        self.requests: dict[str, Any] = {}  # what becomes of what was accepted: a text is why it failed
        self.asked_in_vain = 1  # so many questions before it says
        self.loses = ""  # why it does not do what it accepts
        one = r"([^/]+)"
        self.get(r"/v2/account", lambda _: _answer({"name": "acme", "userCount": 3}))
        self.get(r"/v2/users", lambda asked: self.paged(asked, "users"))
        below, listed = self.route_below, self.route_listed
        for name in ("contacts", "notification-rules"):
            self.get(rf"/v2/users/{one}/{name}", below(name, "users"))
        self.get(rf"/v2/users/{one}/notification-rules/{one}", self.rule)
        for name in ("forwarding-rules", "roles", "escalations"):
            self.get(rf"/v2/{name}", listed(name))
        self.get(r"/v2/teams", lambda _: self.listed("teams", ("id", "name")))
        self.get(rf"/v2/teams/{one}", lambda asked: self.single(asked, "teams"))
        for name in ("roles", "routing-rules"):
            self.get(rf"/v2/teams/{one}/{name}", below(f"team-{name}", "teams"))
        self.get(r"/v2/schedules", lambda _: self.listed("schedules"))
        for name in ("rotations", "overrides"):
            self.get(rf"/v2/schedules/{one}/{name}", below(name, "schedules"))
        self.get(rf"/v2/schedules/{one}/timeline", self.timeline)
        self.get(r"/v2/policies/alert", lambda asked: self.listed(f"alert-policies{asked.query.get('teamId', '')}"))
        self.get(
            r"/v2/policies/notification", lambda asked: self.listed(f"notification-policies{asked.query['teamId']}")
        )
        self.get(rf"/v2/policies/{one}", lambda asked: self.single(asked, "alert-policies"))
        self.get(r"/v2/integrations", lambda _: self.listed("integrations", ("id", "name", "type")))
        self.get(rf"/v2/integrations/{one}", lambda asked: self.single(asked, "integrations"))
        self.get(
            rf"/v2/integrations/{one}/actions",
            lambda asked: _answer({"_parent": {"id": asked.match[1]}, "create": []}),
        )
        self.get(r"/v2/heartbeats", lambda _: _answer({"heartbeats": self.all("heartbeats")}))
        self.get(r"/v1/maintenance", lambda _: self.listed("maintenance", ("id", "status")))
        self.get(rf"/v1/maintenance/{one}", lambda asked: self.single(asked, "maintenance"))
        self.get(
            r"/v1/services",
            lambda asked: self.listed("services") if asked.query.get("offset", "0") == "0" else {"data": []},
        )
        self.get(r"/v2/alerts", self.alerts)
        self.get(rf"/v2/alerts/{one}", lambda asked: self.single(asked, "alerts"))
        for name in ("notes", "logs"):
            self.get(rf"/v2/alerts/{one}/{name}", below(name, "alerts"))
        self.post(rf"/v2/alerts/{one}/notes", self.note)
        self.get(rf"/v2/alerts/requests/{one}", self.request)
        self.get(rf"/v2/schedules/{one}", lambda asked: self.single(asked, "schedules"))
        self.get(
            rf"/v2/schedules/{one}/overrides/{one}",
            lambda asked: _answer(self.table(f"overrides/{asked.match[1]}")[asked.match[2]]),
        )
        self.post(rf"/v2/schedules/{one}/overrides", self.override)
        self.get(r"/v1/incidents/", lambda asked: self.paged(asked, "incidents", key="createdAt"))
        self.get(rf"/v2/incident-timelines/{one}/entries", self.entries)

    def route_below(self, name: str, of: str) -> Route:
        return lambda asked: self.below(asked, name, of)

    def route_listed(self, name: str) -> Route:
        return lambda _: self.listed(name)

    def all(self, name: str) -> list[Document]:
        return list(self.table(name).values())

    def listed(self, name: str, only: tuple[str, ...] | None = None) -> Any:
        """A list; with `only` as short as this vendor's are, where one document says more."""
        found = [one if only is None else {k: one[k] for k in only if k in one} for one in self.all(name)]
        return _answer(found)

    def single(self, asked: Asked, name: str) -> Any:
        return _answer(self.table(name)[asked.match[1]])

    def below(self, asked: Asked, name: str, of: str) -> Any:
        if asked.match[1] not in self.table(of):
            raise Gone
        return self.listed(f"{name}/{asked.match[1]}")

    def note(self, asked: Asked) -> Any:
        if asked.match[1] not in self.table("alerts"):
            raise Gone
        request = f"req-{len(self.requests)}"
        self.requests[request] = [self.asked_in_vain, self.loses]
        if not self.loses:
            notes, now = self.table(f"notes/{asked.match[1]}"), _now()
            body = asked.body
            notes[request] = {"offset": request, "note": body["note"], "owner": body["user"], "createdAt": now}
            self.table("alerts")[asked.match[1]]["updatedAt"] = now
        return Answer({"result": "Request will be processed", "took": 0.1, "requestId": request}, 202)

    def request(self, asked: Asked) -> Any:
        state = self.requests[asked.match[1]]
        state[0] -= 1
        if state[0] >= 0:
            raise Gone
        told = {"action": "AddNote", "isSuccess": not state[1], "status": state[1] or "Added note"}
        return _answer({**told, "processedAt": _now()})

    def override(self, asked: Asked) -> Any:
        schedule, body = self.table("schedules")[asked.match[1]], asked.body
        if body["user"]["id"] not in self.table("users"):
            return Answer({"message": "User not found", "took": 0.01, "requestId": "r", "code": 40301}, 422)
        self.table(f"overrides/{schedule['id']}")[body["alias"]] = body
        return Answer(_answer({"alias": body["alias"]}), 201)

    def rule(self, asked: Asked) -> Any:
        return _answer(self.table(f"notification-rules/{asked.match[1]}")[asked.match[2]])

    def timeline(self, asked: Asked) -> Any:
        schedule = self.table("schedules")[asked.match[1]]
        return _answer({"_parent": {"id": schedule["id"]}, "startDate": asked.query["date"], "finalTimeline": {}})

    def entries(self, asked: Asked) -> Any:
        if asked.match[1] not in self.table("incidents"):
            raise Gone
        first = asked.query.get("offset", "0") == "0"
        return {"data": {"entries": self.all(f"entries/{asked.match[1]}") if first else []}}

    def alerts(self, asked: Asked) -> Any:
        found = re.search(r"updatedAt >= (\d+)", asked.query.get("query", ""))
        since = int(found[1]) if found else 0
        alerts = [one for one in self.all("alerts") if _millis(one["updatedAt"]) >= since]
        alerts.sort(key=lambda one: (_millis(one["updatedAt"]), one["id"]))
        short = [{k: v for k, v in one.items() if k not in ("description", "details")} for one in alerts]
        return self.page(asked, short)

    def paged(self, asked: Asked, name: str, key: str = "id") -> Any:
        return self.page(asked, sorted(self.all(name), key=lambda one: (one.get(key, ""), one["id"])))

    def page(self, asked: Asked, found: list[Document]) -> Any:
        offset = int(asked.query.get("offset", "0"))
        size = min(self.page_size, int(asked.query.get("limit", "100")))
        if offset + size > self.deep_max:
            return Answer({"message": f"Sum of offset and limit should be lower than {self.deep_max}."}, 422)
        paging = {}
        if offset + size < len(found):
            query = urlencode({**asked.query, "offset": offset + size})
            paging = {"paging": {"next": f"{asked.url}{asked.path}?{query}"}}
        return {**_answer(found[offset : offset + size]), **paging}


def _answer(data: Any) -> Document:
    return {"data": data, "took": 0.01, "requestId": "r", "expandable": []}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _millis(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def alert(number: int, updated: str, message: str = "disk full") -> Document:
    return {
        "id": f"alert-{number:04}",
        "tinyId": str(number),
        "message": f"{message} on host {number}",
        "status": "open",
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": updated,
        "description": f"The description of alert {number}",
        "details": {"region": "eu", "nothing": None},
        "unknownField": [1, 2.5, None],
    }


def fill(fake: Opsgenie, alerts: int = 8) -> None:
    """A small account with something of everything."""
    for n in range(4):
        user = f"user-{n}"
        fake.table("users")[user] = {
            "id": user,
            "username": f"{user}@example.com",
            "fullName": f"User {n}",
            "createdAt": "2025-05-01T10:00:00.123Z",
        }
        fake.table(f"contacts/{user}")[f"c{n}"] = {
            "id": f"c{n}",
            "method": "sms",
            "to": f"1-555000{n}",
            "status": {"enabled": True},
        }
        fake.table(f"notification-rules/{user}")[f"r{n}"] = {
            "id": f"r{n}",
            "name": "New alert",
            "steps": [{"sendAfter": {"timeAmount": n}}],
        }
    fake.table("forwarding-rules")["f1"] = {"id": "f1", "alias": "away", "startDate": "2026-01-01T00:00:00Z"}
    fake.table("roles")["role-1"] = {"id": "role-1", "name": "custom"}
    for n in range(2):
        team, schedule = f"team-{n}", f"schedule-{n}"
        fake.table("teams")[team] = {
            "id": team,
            "name": f"Team {n}",
            "members": [{"user": {"id": "user-0"}, "role": "admin"}],
        }
        fake.table(f"team-roles/{team}")["tr"] = {"id": "tr", "name": "on call"}
        fake.table(f"team-routing-rules/{team}")["rr"] = {"id": "rr", "name": "Default"}
        fake.table(f"alert-policies{team}")["tp"] = {"id": "tp", "name": "team policy"}
        fake.table(f"notification-policies{team}")["np"] = {"id": "np", "name": "quiet nights"}
        fake.table("schedules")[schedule] = {
            "id": schedule,
            "name": f"Schedule {n}",
            "timezone": "Europe/Berlin",
            "enabled": True,
            "rotations": [],
        }
        fake.table(f"rotations/{schedule}")["ro"] = {
            "id": "ro",
            "name": "weekly",
            "type": "weekly",
            "startDate": "2026-01-05T08:00:00Z",
        }
        fake.table(f"overrides/{schedule}")["ov/1"] = {"alias": "ov/1", "startDate": "2026-02-01T00:00:00Z"}
    fake.table("escalations")["e1"] = {"id": "e1", "name": "Team 0_escalation", "rules": []}
    fake.table("alert-policies")["p1"] = {"id": "p1", "name": "global", "type": "alert"}
    fake.table("integrations")["i1"] = {
        "id": "i1",
        "name": "Prometheus",
        "type": "Prometheus",
        "enabled": True,
        "allowWriteAccess": True,
    }
    fake.table("heartbeats")["cron"] = {"name": "cron", "interval": 10, "enabled": True}
    fake.table("maintenance")["m1"] = {"id": "m1", "status": "past", "description": "upgrade", "rules": []}
    fake.table("services")["s1"] = {"id": "s1", "name": "Payments"}
    for n in range(alerts):
        one = alert(n, f"2026-01-{1 + n // 3:02}T00:00:0{n % 3}Z")
        fake.table("alerts")[one["id"]] = one
        fake.table(f"notes/{one['id']}")["1"] = {"offset": f"1-{n}", "note": f"looked into it {n}", "owner": "user-0"}
        fake.table(f"logs/{one['id']}")["1"] = {"offset": f"2-{n}", "log": "Alert created", "type": "system"}
    fake.table("incidents")["in1"] = {
        "id": "in1",
        "message": "Payments down",
        "createdAt": "2026-01-02T00:00:00Z",
        "updatedAt": "2026-01-02T01:00:00Z",
    }
    fake.table("entries/in1")["1"] = {"id": "en1", "type": "IncidentCreated"}
