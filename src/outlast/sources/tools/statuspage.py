"""Statuspage: what customers are told, and who is told. https://developer.statuspage.io

In 2022 the contact data of those who subscribe was lost together with the sites: it is in the vault like all else.
"""

from __future__ import annotations

from outlast.sources.tools.connector import Connector, Credentials, Pages, Rate, Resource, Write

_PAGE = "/pages/{page}"
_PAGES = Pages(limit=100)
_LIMITED = Pages(limit=100, size="limit")
_FROM_ZERO = Pages(limit=100, size="limit", first=0)
_HERE = "only on audience-specific pages"


def _create(what: str) -> str:
    return f"POST {_PAGE}/{what}"


RESOURCES = (
    Resource(
        "pages",
        _PAGE,
        write=Write(
            "PATCH " + _PAGE,
            0,
            ("name", "domain", "subdomain", "url", "branding", "css_body_background_color", "time_zone"),
            ("logos and images", "the plan"),
        ),
    ),
    Resource(
        "component_groups",
        f"{_PAGE}/component-groups",
        paging=_PAGES,
        write=Write(_create("component-groups"), 2, ("name", "components", "description")),
    ),
    Resource(
        "components",
        f"{_PAGE}/components",
        paging=_PAGES,
        write=Write(
            _create("components"),
            1,
            ("name", "description", "status", "only_show_if_degraded", "showcase", "start_date"),
            ("the history of its uptime", "automation_email"),
        ),
    ),
    Resource(
        "incidents",
        f"{_PAGE}/incidents",
        paging=_LIMITED,
        write=Write(
            _create("incidents"),
            4,
            ("name", "status", "impact_override", "body", "components", "backfilled", "backfill_date"),
            ("created_at of updates", "who was notified"),
        ),
    ),
    Resource(
        "postmortems",
        f"{_PAGE}/incidents/{{id}}/postmortem",
        key="",  # an incident has one
        parent="incidents",
        only_with_parent=True,
        loose=True,
        write=Write(f"PUT {_PAGE}/incidents/{{id}}/postmortem", 5, ("body_draft",)),
    ),
    Resource(
        "incident_subscribers",
        f"{_PAGE}/incidents/{{id}}/subscribers",
        parent="incidents",
        paging=_PAGES,
        only_with_parent=True,
        loose=True,
        write=Write(f"POST {_PAGE}/incidents/{{id}}/subscribers", 5, ("email", "phone_number", "phone_country")),
    ),
    Resource(
        "incident_templates",
        f"{_PAGE}/incident_templates",
        paging=_PAGES,
        write=Write(_create("incident_templates"), 3, ("name", "title", "body", "group_id", "update_status")),
    ),
    Resource(
        "metrics_providers",
        f"{_PAGE}/metrics_providers",
        write=Write(_create("metrics_providers"), 2, ("type", "metric_base_uri"), ("api_key", "api_token", "password")),
    ),
    Resource(
        "metrics",
        f"{_PAGE}/metrics",
        paging=_PAGES,
        write=Write(
            f"POST {_PAGE}/metrics_providers/{{metrics_provider_id}}/metrics",
            3,
            ("name", "metric_identifier", "y_axis_min", "y_axis_max", "suffix", "decimal_places"),
            ("what was measured",),
        ),
    ),
    Resource(
        "subscribers",
        f"{_PAGE}/subscribers",
        paging=_FROM_ZERO,
        params={"state": "all"},
        write=Write(
            _create("subscribers"),
            3,
            ("email", "endpoint", "phone_number", "phone_country", "component_ids", "skip_confirmation_notification"),
            ("Slack and Teams subscribers are made by those alone",),
        ),
    ),
    Resource(
        "unsubscribed",
        f"{_PAGE}/subscribers/unsubscribed",
        paging=_PAGES,
        write=Write(lost=("who unsubscribed must not be subscribed again",)),
    ),
    Resource(
        "page_access_users",
        f"{_PAGE}/page_access_users",
        paging=_PAGES,
        optional=_HERE,
        write=Write(_create("page_access_users"), 3, ("email", "external_login", "page_access_group_ids")),
    ),
    Resource(
        "page_access_groups",
        f"{_PAGE}/page_access_groups",
        paging=_PAGES,
        optional=_HERE,
        write=Write(_create("page_access_groups"), 2, ("name", "external_identifier", "component_ids", "metric_ids")),
    ),
    Resource(
        "status_embed_config",
        f"{_PAGE}/status_embed_config",
        key="page_id",
        write=Write(f"PATCH {_PAGE}/status_embed_config", 3, ("position", "incident_background_color")),
    ),
)

CONNECTOR = Connector(
    kind="statuspage",
    title="Statuspage",
    base="https://api.statuspage.io",
    under="/v1",
    credentials=Credentials("OAuth ", made_at="avatar > API info", needs="an API key of a team member of the page"),
    rate=Rate(per_minute=60),
    probe=_PAGE,
    resources=RESOURCES,
    cannot=(
        "logos, hero images and custom HTML files (the addresses of images are kept)",
        "the points of a metric: only what it is called and where it comes from",
        "team members' passwords and single sign-on",
        "Slack and Teams subscribers can be read, and be made again only by those who subscribed",
    ),
    needs=("page",),
)
