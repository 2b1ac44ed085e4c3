"""PagerDuty: services, who is on call for them, and what happened. https://developer.pagerduty.com/api-reference

Layers of a schedule come in reverse order (the last is the base): they are kept as they come.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from outlast.sources.tools.connector import Changes, Connector, Credentials, Offset, Rate, Resource, Write

_LISTED = Offset(limit=100, more="more")
_HALF_YEAR = timedelta(days=175)
"""The vendor's windows are of at most six months."""

_AHEAD, _BACK = timedelta(days=90), timedelta(days=30)


def _window(since: datetime, until: datetime) -> dict[str, str | int]:
    """To a minute past the end: seconds are cut off, and the vendor's clock is not ours."""
    return {"since": f"{since:%Y-%m-%dT%H:%M:%SZ}", "until": f"{until + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"}


def _incidents(since: datetime, until: datetime) -> dict[str, str | int]:
    return {**_window(since, until), "sort_by": "created_at:asc"}


def _today(now: datetime) -> str:
    return f"{now:%Y-%m-%d}T00:00:00Z"


def _ahead(now: datetime) -> str:
    return f"{now + _AHEAD:%Y-%m-%d}T00:00:00Z"


def _back(now: datetime) -> str:
    return f"{now - _BACK:%Y-%m-%d}T00:00:00Z"


_SHOWN = {"since": _today, "until": _ahead}
_SHIFT_BASED = "shift-based schedules are not in every account"


def _of_v3(name: str, write: Write) -> Resource:
    """What belongs to a shift-based schedule; its rotations and their events are in the schedule itself."""
    return Resource(
        f"schedule_v3_{name}",
        f"/v3/schedules/{{id}}/{name}",
        name,
        parent="schedules_v3",
        paging=_LISTED,
        params={"since": _back, "until": _ahead, "overflow": "true"},
        optional=_SHIFT_BASED,
        write=write,
    )


RESOURCES = (
    Resource(
        "users",
        "/users",
        "users",
        paging=_LISTED,
        params={"include[]": ("contact_methods", "notification_rules")},
        write=Write("POST /users", 1, ("name", "email", "role", "job_title", "time_zone", "color"), ("password",)),
    ),
    Resource(
        "contact_methods",
        "/users/{id}/contact_methods",
        "contact_methods",
        parent="users",
        only_with_parent=True,
        inline=("contact_methods", ""),
        write=Write("POST /users/{id}/contact_methods", 2, ("type", "address", "label", "country_code"), ("devices",)),
    ),
    Resource(
        "notification_rules",
        "/users/{id}/notification_rules",
        "notification_rules",
        parent="users",
        only_with_parent=True,
        inline=("notification_rules", ""),
        write=Write("POST /users/{id}/notification_rules", 3, ("contact_method", "urgency", "start_delay_in_minutes")),
    ),
    Resource("teams", "/teams", "teams", paging=_LISTED, write=Write("POST /teams", 1, ("name", "description"))),
    Resource(
        "team_members",
        "/teams/{id}/members",
        "members",
        key="user.id",
        parent="teams",
        paging=_LISTED,
        write=Write("PUT /teams/{id}/users/{user_id}", 2, ("role",)),
    ),
    Resource(
        "schedules",
        "/schedules",
        "schedules",
        paging=_LISTED,
        params={"include[]": ("schedule_layers", "overrides_subschedule")},
        write=Write("POST /schedules", 3, ("name", "time_zone", "description", "schedule_layers", "teams")),
    ),
    Resource(
        "rendered_schedules",
        "/schedules/{id}",
        "schedule",
        parent="schedules",
        params=_SHOWN,
        write=Write(lost=("it is computed from the schedule",)),
    ),
    Resource(
        "overrides",
        "/schedules/{id}/overrides",
        "overrides",
        parent="schedules",
        params={"since": _back, "until": _ahead},
        write=Write("POST /schedules/{id}/overrides", 4, ("start", "end", "user")),
    ),
    Resource(
        "schedules_v3",
        "/v3/schedules",
        "schedules",
        paging=_LISTED,
        detail="/v3/schedules/{id}",
        detail_items="schedule",
        detail_params={**_SHOWN, "include[]": ("final_schedule",)},
        optional=_SHIFT_BASED,
        write=Write("POST /v3/schedules", 3, ("name", "time_zone", "description", "teams", "rotations and events")),
    ),
    _of_v3(
        "custom_shifts",
        Write("POST /v3/schedules/{id}/custom_shifts", 4, ("start_time", "end_time", "assignments")),
    ),
    _of_v3(
        "overrides",
        Write(
            "POST /v3/schedules/{id}/overrides",
            5,
            ("rotation_id", "custom_shift_id", "start_time", "end_time", "overridden_member", "overriding_member"),
        ),
    ),
    Resource(
        "escalation_policies",
        "/escalation_policies",
        "escalation_policies",
        paging=_LISTED,
        write=Write("POST /escalation_policies", 4, ("name", "escalation_rules", "num_loops", "teams", "description")),
    ),
    Resource(
        "oncalls",
        "/oncalls",
        "oncalls",
        key="escalation_policy.id+escalation_level+schedule.id+user.id+start|"
        "escalation_policy.id+escalation_level+user.id",
        paging=_LISTED,
        params=_SHOWN,
        write=Write(lost=("it is computed from schedules and policies",)),
    ),
    Resource(
        "services",
        "/services",
        "services",
        paging=_LISTED,
        params={"include[]": ("integrations",)},
        write=Write(
            "POST /services",
            5,
            ("name", "escalation_policy", "alert_creation", "incident_urgency_rule", "auto_resolve_timeout"),
        ),
    ),
    Resource(
        "integrations",
        "/services/{service.id}/integrations/{id}",
        "integration",
        parent="services",
        only_with_parent=True,
        inline=("integrations", ""),
        write=Write("POST /services/{id}/integrations", 6, ("name", "type", "vendor"), ("integration_key",)),
    ),
    Resource(
        "business_services", "/business_services", "business_services", paging=_LISTED, optional="not in every plan"
    ),
    Resource("priorities", "/priorities", "priorities", paging=_LISTED, optional="not in every plan"),
    Resource("maintenance_windows", "/maintenance_windows", "maintenance_windows", paging=_LISTED),
    Resource(
        "event_orchestrations", "/event_orchestrations", "orchestrations", paging=_LISTED, optional="not in every plan"
    ),
    Resource("extensions", "/extensions", "extensions", paging=_LISTED),
    Resource("tags", "/tags", "tags", paging=_LISTED),
    Resource(
        "incidents",
        "/incidents",
        "incidents",
        paging=_LISTED,
        params={"time_zone": "UTC"},
        again="/incidents/{id}",
        again_items="incident",
        changes=Changes(
            "created_at", _incidents, window=_HALF_YEAR, deep_max=10_000, created_only=True, never_deleted=True
        ),
        write=Write(
            "POST /incidents", 9, ("title", "service", "urgency", "body", "priority"), ("created_at", "number")
        ),
    ),
    Resource(
        "log_entries",
        "/log_entries",
        "log_entries",
        key="incident.id+id|id",
        paging=_LISTED,
        params={"time_zone": "UTC"},
        changes=Changes(
            "created_at", _window, window=_HALF_YEAR, deep_max=10_000, created_only=True, never_deleted=True
        ),
        touches=("incidents", "incident.id"),
        write=Write(lost=("a log cannot be written",)),
    ),
    Resource(
        "incident_alerts",
        "/incidents/{id}/alerts",
        "alerts",
        parent="incidents",
        paging=_LISTED,
        only_with_parent=True,
        write=Write(lost=("alerts come by events alone",)),
    ),
    Resource(
        "incident_notes",
        "/incidents/{id}/notes",
        "notes",
        parent="incidents",
        only_with_parent=True,
        write=Write("POST /incidents/{id}/notes", 10, ("content",), ("created_at", "user")),
    ),
)

CONNECTOR = Connector(
    kind="pagerduty",
    title="PagerDuty",
    base="https://api.pagerduty.com",
    credentials=Credentials(
        "Token token=", made_at="Integrations > API Access Keys", needs="a read-only API access key of the account"
    ),
    rate=Rate(per_minute=900, limit="ratelimit-limit", remaining="ratelimit-remaining", reset="ratelimit-reset"),
    probe="/abilities",
    resources=RESOURCES,
    cannot=(
        "passwords, and devices that people log in with",
        "the keys of integrations that the token's role may not see",
        "analytics and billing; the audit trail needs another scope",
        "schedules later than 90 days ahead as they are rendered (their rules are kept)",
    ),
    headers={"Accept": "application/vnd.pagerduty+json;version=2", "Content-Type": "application/json"},
)
