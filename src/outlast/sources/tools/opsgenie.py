"""Opsgenie: who is on call, how people are reached, what was alerted. It is switched off on 5 April 2027.

https://docs.opsgenie.com/docs/api-overview. The EU has its own host: site = "https://api.eu.opsgenie.com".
"""

from __future__ import annotations

from datetime import datetime

from outlast.sources.tools.connector import (
    Changes,
    Connector,
    Credentials,
    NextLink,
    Offset,
    Rate,
    Resource,
    Write,
)

_NEXT = NextLink("paging.next")
_DEEP = 20_000  # offset + limit of a search


def _updated_since(since: datetime, until: datetime) -> dict[str, str | int]:
    del until
    return {"query": f"updatedAt >= {int(since.timestamp() * 1000)}", "sort": "updatedAt", "order": "asc"}


def _today(now: datetime) -> str:
    return now.strftime("%Y-%m-%dT00:00:00Z")


def _user(name: str, path: str, **more: object) -> Resource:
    return Resource(name, f"/v2/users/{{id}}/{path}", "data", parent="users", **more)  # type: ignore[arg-type]


def _plan(what: str) -> str:
    return f"{what} are not in every plan, or the key has no configuration access"


RESOURCES = (
    Resource("account", "/v2/account", "data", key="name", write=Write(lost=("plan", "number of users"))),
    Resource(
        "users",
        "/v2/users",
        "data",
        paging=_NEXT,
        write=Write(
            "POST /v2/users",
            1,
            ("username", "fullName", "role", "timeZone", "locale", "details", "tags"),
            ("password", "verified"),
        ),
    ),
    _user(
        "contacts",
        "contacts",
        write=Write("POST /v2/users/{id}/contacts", 2, ("method", "to"), ("that a number was confirmed",)),
    ),
    _user(
        "notification_rules",
        "notification-rules",
        detail="/v2/users/{parent.id}/notification-rules/{id}",
        detail_items="data",
        write=Write(
            "POST /v2/users/{id}/notification-rules",
            3,
            (
                "name",
                "actionType",
                "criteria",
                "notificationTime",
                "timeRestriction",
                "schedules",
                "steps",
                "order",
                "repeat",
                "enabled",
            ),
        ),
    ),
    Resource(
        "forwarding_rules",
        "/v2/forwarding-rules",
        "data",
        write=Write("POST /v2/forwarding-rules", 3, ("fromUser", "toUser", "startDate", "endDate", "alias")),
    ),
    Resource(
        "roles",
        "/v2/roles",
        "data",
        optional=_plan("custom roles"),
        write=Write("POST /v2/roles", 0, ("name", "extendedRole", "grantedRights", "disallowedRights")),
    ),
    Resource(
        "teams",
        "/v2/teams",
        "data",
        detail="/v2/teams/{id}",
        detail_items="data",
        write=Write("POST /v2/teams", 2, ("name", "description", "members")),
    ),
    Resource(
        "team_roles",
        "/v2/teams/{id}/roles",
        "data",
        parent="teams",
        optional=_plan("team roles"),
        write=Write("POST /v2/teams/{id}/roles", 3, ("name", "rights")),
    ),
    Resource(
        "routing_rules",
        "/v2/teams/{id}/routing-rules",
        "data",
        parent="teams",
        write=Write(
            "POST /v2/teams/{id}/routing-rules",
            6,
            ("name", "order", "criteria", "timezone", "timeRestriction", "notify"),
        ),
    ),
    Resource(
        "schedules",
        "/v2/schedules",
        "data",
        params={"expand": "rotation"},
        write=Write("POST /v2/schedules", 3, ("name", "description", "timezone", "enabled", "ownerTeam", "rotations")),
    ),
    Resource(
        "rotations",
        "/v2/schedules/{id}/rotations",
        "data",
        parent="schedules",
        write=Write(
            "POST /v2/schedules/{id}/rotations",
            4,
            ("name", "startDate", "endDate", "type", "length", "participants", "timeRestriction"),
        ),
    ),
    Resource(
        "overrides",
        "/v2/schedules/{id}/overrides",
        "data",
        key="alias",
        parent="schedules",
        write=Write("POST /v2/schedules/{id}/overrides", 5, ("alias", "user", "startDate", "endDate", "rotations")),
    ),
    Resource(
        "timelines",
        "/v2/schedules/{id}/timeline",
        "data",
        key="",  # a schedule has one
        parent="schedules",
        params={"interval": 3, "intervalUnit": "months", "date": _today, "expand": "base,forwarding,override"},
        write=Write(lost=("it is computed from the schedule",)),
    ),
    Resource(
        "escalations",
        "/v2/escalations",
        "data",
        write=Write("POST /v2/escalations", 5, ("name", "description", "rules", "ownerTeam", "repeat")),
    ),
    Resource(
        "alert_policies",
        "/v2/policies/alert",
        "data",
        detail="/v2/policies/{id}",
        detail_items="data",
        optional=_plan("alert policies"),
        write=Write("POST /v2/policies", 6, ("name", "enabled", "filter", "message", "responders", "tags")),
    ),
    Resource(
        "team_alert_policies",
        "/v2/policies/alert",
        "data",
        params={"teamId": "{id}"},
        parent="teams",
        optional=_plan("alert policies"),
        write=Write("POST /v2/policies?teamId={id}", 6, ("name", "enabled", "filter", "message")),
    ),
    Resource(
        "team_notification_policies",
        "/v2/policies/notification",
        "data",
        params={"teamId": "{id}"},
        parent="teams",
        optional=_plan("notification policies"),
        write=Write(
            "POST /v2/policies?teamId={id}",
            6,
            ("name", "enabled", "filter", "timeRestrictions", "autoCloseAction", "deDuplicationAction", "delayAction"),
        ),
    ),
    Resource(
        "integrations",
        "/v2/integrations",
        "data",
        detail="/v2/integrations/{id}",
        detail_items="data",
        write=Write("POST /v2/integrations", 4, ("name", "type", "ownerTeam"), ("its API key: a new one is made",)),
    ),
    Resource(
        "integration_actions",
        "/v2/integrations/{id}/actions",
        "data",
        key="",  # an integration has one list
        parent="integrations",
        optional="not every kind of integration has actions",
        write=Write("PUT /v2/integrations/{id}/actions", 5, ("create", "close", "acknowledge", "addNote", "ignore")),
    ),
    Resource(
        "heartbeats",
        "/v2/heartbeats",
        "data.heartbeats",
        key="name",
        write=Write(
            "POST /v2/heartbeats",
            4,
            (
                "name",
                "description",
                "interval",
                "intervalUnit",
                "enabled",
                "ownerTeam",
                "alertMessage",
                "alertTags",
                "alertPriority",
            ),
        ),
    ),
    Resource(
        "maintenance",
        "/v1/maintenance",
        "data",
        detail="/v1/maintenance/{id}",
        detail_items="data",
        params={"type": "all"},
        write=Write("POST /v1/maintenance", 7, ("description", "time", "rules")),
    ),
    Resource(
        "services",
        "/v1/services",
        "data",
        paging=Offset(limit=100),
        optional=_plan("services"),
        described=False,
        write=Write("POST /v1/services", 4, ("name", "teamId", "description", "tags", "visibility")),
    ),
    Resource(
        "alerts",
        "/v2/alerts",
        "data",
        paging=_NEXT,
        detail="/v2/alerts/{id}",
        detail_items="data",
        changes=Changes("updatedAt", _updated_since, deep_max=_DEEP),
        write=Write(
            "POST /v2/alerts",
            9,
            (
                "message",
                "alias",
                "description",
                "responders",
                "tags",
                "details",
                "entity",
                "source",
                "priority",
                "note",
            ),
            ("createdAt", "count", "who acknowledged"),
        ),
    ),
    Resource(
        "alert_notes",
        "/v2/alerts/{id}/notes",
        "data",
        key="offset",
        paging=_NEXT,
        parent="alerts",
        only_with_parent=True,
        write=Write("POST /v2/alerts/{id}/notes", 10, ("note", "user", "source"), ("createdAt",)),
    ),
    Resource(
        "alert_logs",
        "/v2/alerts/{id}/logs",
        "data",
        key="offset",
        paging=_NEXT,
        parent="alerts",
        only_with_parent=True,
        write=Write(lost=("a log cannot be written",)),
    ),
    Resource(
        "incidents",
        "/v1/incidents/",
        "data",
        paging=_NEXT,
        params={"query": "createdAt > 0", "sort": "createdAt", "order": "asc"},
        optional=_plan("incidents"),
        write=Write(
            "POST /v1/incidents/create",
            9,
            ("message", "description", "responders", "tags", "details", "priority", "impactedServices"),
            ("createdAt",),
        ),
    ),
    Resource(
        "incident_timelines",
        "/v2/incident-timelines/{id}/entries",
        "data.entries",
        parent="incidents",
        only_with_parent=True,
        paging=Offset(limit=100),
        optional=_plan("incidents"),
        described=False,
        write=Write(lost=("a timeline cannot be written",)),
    ),
)

CONNECTOR = Connector(
    kind="opsgenie",
    title="Opsgenie",
    base="https://api.opsgenie.com",
    credentials=Credentials(
        "GenieKey ",
        made_at="Settings > API key management",
        needs="an API key with read and configuration access",
    ),
    rate=Rate(
        per_minute=300,
        limit="X-RateLimit-Limit",
        remaining="X-RateLimit-Remaining",
        reset="X-RateLimit-Reset",
        state=("X-RateLimit-State", "THROTTLED"),
        period="X-RateLimit-Period-In-Sec",
    ),
    probe="/v2/account",
    resources=RESOURCES,
    cannot=(
        "API keys, and the secrets of integrations",
        "passwords, single sign-on and SCIM settings",
        "call routing numbers and their recordings",
        "reports and analytics; the audit log",
        "mobile devices that people log in with",
    ),
)
