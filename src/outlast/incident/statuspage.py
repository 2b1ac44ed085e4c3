"""The status page as JSON, in the shapes of Statuspage's `/api/v2`, so that what reads those pages reads ours.

Pure. The shapes are those that Statuspage's public pages answer with; fields that it has and we do not are null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from outlast.incident.incident import Component, Incident, Severity, Status, Update
from outlast.incident.page import ComponentView, IncidentView, StatusPage, groups, identifier
from outlast.incident.words import words

_INDICATORS = {None: "none", Severity.MAINTENANCE: "maintenance"}


def documents(page: StatusPage) -> Mapping[str, bytes]:
    """The files by their paths below the page."""
    head = _page(page)
    components = [*_groups(page), *(_component(page, view) for view in page.components)]
    current = [_incident(page, view) for view in page.current]
    planned = [_incident(page, view) for view in page.planned if not view.incident.over]
    past = [_incident(page, view) for view in page.past]
    done = [one for one in past if one["impact"] == "maintenance"]
    waiting = [one for one in planned if one["status"] == Status.SCHEDULED]
    at_work = [one for one in planned if one["status"] != Status.SCHEDULED]
    incidents = [*current, *(one for one in past if one["impact"] != "maintenance")]
    status = _status(page)
    summary = {
        "page": head,
        "components": components,
        "incidents": current,
        "scheduled_maintenances": planned,
        "status": status,
    }
    return {
        f"api/v2/{name}.json": json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        for name, document in {
            "summary": summary,
            "status": {"page": head, "status": status},
            "components": {"page": head, "components": components},
            "incidents": {"page": head, "incidents": incidents},
            "incidents/unresolved": {"page": head, "incidents": current},
            "scheduled-maintenances": {"page": head, "scheduled_maintenances": [*planned, *done]},
            "scheduled-maintenances/upcoming": {"page": head, "scheduled_maintenances": waiting},
            "scheduled-maintenances/active": {"page": head, "scheduled_maintenances": at_work},
        }.items()
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"


def _page(page: StatusPage) -> dict[str, Any]:
    return {
        "id": page.spec.id,
        "name": page.spec.name,
        "url": page.spec.url,
        "time_zone": "Etc/UTC",
        "updated_at": _time(page.at),
    }


def _status(page: StatusPage) -> dict[str, str]:
    indicator = page.indicator
    word = _INDICATORS.get(indicator) or (indicator.value if indicator else "none")
    return {"indicator": word, "description": words(page.spec.languages[0])(f"page.{word}")}


def _component(page: StatusPage, view: ComponentView) -> dict[str, Any]:
    group = view.spec.group
    return {
        "id": view.id,
        "name": view.spec.name,
        "status": view.state.value,
        "created_at": _time(view.updated_at),
        "updated_at": _time(view.updated_at),
        "position": page.components.index(view) + 1,
        "description": view.spec.description,
        "showcase": True,
        "start_date": view.spec.since.isoformat() if view.spec.since else None,
        "group_id": None if group is None else identifier(page.spec.id, "group", group),
        "page_id": page.spec.id,
        "group": False,
        "only_show_if_degraded": False,
    }


def _groups(page: StatusPage) -> list[dict[str, Any]]:
    return [
        {
            "id": identifier(page.spec.id, "group", name),
            "name": name,
            "status": max((view.state for view in views), key=lambda state: state.rank).value,
            "created_at": _time(min(view.updated_at for view in views)),
            "updated_at": _time(max(view.updated_at for view in views)),
            "position": position,
            "description": None,
            "showcase": False,
            "start_date": None,
            "group_id": None,
            "page_id": page.spec.id,
            "group": True,
            "only_show_if_degraded": False,
            "components": [view.id for view in views],
        }
        for position, (name, views) in enumerate(groups(page).items(), start=1)
        if name is not None
    ]


def _incident(page: StatusPage, view: IncidentView) -> dict[str, Any]:
    incident = view.incident
    updates = [_update(page, incident, update) for update in reversed(incident.updates)]
    affected = [one for one in page.components if one.spec.name in incident.components]
    monitoring = next((one.at for one in incident.updates if one.status is Status.MONITORING), None)
    fields = {
        "id": identifier(page.spec.id, incident.id),
        "name": incident.title,
        "status": incident.status.value,
        "created_at": _time(incident.opened_at),
        "updated_at": _time(incident.updates[-1].at if incident.updates else incident.opened_at),
        "monitoring_at": _time(monitoring),
        "resolved_at": _time(incident.resolved_at),
        "impact": incident.severity.value,
        "shortlink": f"{page.spec.url}/incidents/{incident.id}.html",
        "started_at": _time(incident.began_at),
        "page_id": page.spec.id,
        "incident_updates": updates,
        "components": [_component(page, one) for one in affected],
        "reminder_intervals": None,
    }
    if incident.planned:
        fields["scheduled_for"] = _time(incident.scheduled_for)
        fields["scheduled_until"] = _time(incident.scheduled_until)
    return fields


def _update(page: StatusPage, incident: Incident, update: Update) -> dict[str, Any]:
    return {
        "id": identifier(page.spec.id, incident.id, str(update.number)),
        "status": update.status.value,
        "body": update.body(page.spec.languages[0]),
        "incident_id": identifier(page.spec.id, incident.id),
        "created_at": _time(update.at),
        "updated_at": _time(update.at),
        "display_at": _time(update.at),
        "affected_components": [
            {
                "code": view.id,
                "name": view.spec.name,
                "old_status": Component.OPERATIONAL.value,
                "new_status": incident.components[view.spec.name].value,
            }
            for view in page.components
            if view.spec.name in incident.components
        ],
        "deliver_notifications": True,
        "custom_tweet": None,
        "tweet_id": None,
    }
