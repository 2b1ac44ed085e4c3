"""[sources.NAME] of a tool behind an API: which site, whose account, and how much of its limits may be used.

The token is never in the file: it comes from `token_command`, or from the environment's OUTLAST_NAME_TOKEN.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field, field_validator

from outlast.config.settings import Duration, Expanded, Section, refuse_password
from outlast.core.kinds import KINDS as KINDS


class ToolSettings(Section):
    kind: Literal["opsgenie", "pagerduty", "jira", "confluence", "statuspage"] = Field(
        description='What the tool is: "opsgenie", "pagerduty", "jira", "confluence" or "statuspage".'
    )
    site: Expanded | None = Field(
        default=None,
        description='Where its API is: "https://acme.atlassian.net" for Jira and Confluence. The others have one that '
        'is known; Opsgenie in the EU is at "https://api.eu.opsgenie.com".',
    )
    tenant: str | None = Field(
        default=None, description="What the account, site or page is called in the vault; otherwise the source's name."
    )
    page: Expanded | None = Field(default=None, description="The id of the status page (Statuspage only).")
    user: Expanded | None = Field(
        default=None, description="The e-mail address that the API token belongs to (Jira and Confluence)."
    )
    token_command: Expanded | None = Field(
        default=None,
        description="A command that prints the API token. Otherwise the environment's OUTLAST_NAME_TOKEN, with the "
        "source's name in capitals.",
    )
    write_token_command: Expanded | None = Field(
        default=None,
        description="A command that prints the API token that `failback` writes with: another one, so that backups can "
        "only read. Otherwise the environment's OUTLAST_NAME_WRITE_TOKEN.",
    )
    write_user: Expanded | None = Field(
        default=None,
        description="The e-mail address that that token belongs to (Jira, Confluence), or in whose name notes are "
        "written (PagerDuty); otherwise `user`.",
    )
    write_project: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z][A-Za-z0-9_]*$",
        description='The key of the Jira project that tickets taken here go to: "OPS".',
    )
    write_issue_type: str = Field(default="Task", min_length=1, description="What they are there.")
    skip: tuple[str, ...] = Field(
        default=(), description='Resources that are left out, such as "alert_logs"; `check` lists what there is.'
    )
    attachment_mb_max: int = Field(
        default=100, ge=0, le=4096, description="Files up to this size are kept, in MB; 0 keeps none."
    )
    history_days: int | None = Field(
        default=None,
        ge=1,
        description="How far back alerts, incidents and tickets are fetched at first; without it, all of them.",
    )
    share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="How much of the vendor's rate limit a backup may use; people need the rest.",
    )
    requests_per_minute: int | None = Field(
        default=None, ge=1, description="A fixed budget instead, whatever the vendor would allow."
    )
    patience: Duration = Field(
        default=timedelta(minutes=5), description="How long an outage of the vendor is waited for before giving up."
    )
    reconcile: Duration = Field(
        default=timedelta(days=1),
        description="How often everything is listed again, to notice deletions of what is otherwise asked for changes.",
    )
    poll: Duration = Field(default=timedelta(minutes=5), description="How often `follow` asks for changes.")
    sweep: Duration = Field(
        default=timedelta(hours=1),
        description="How often `follow` lists what cannot be asked for changes (schedules, users, rules).",
    )

    _no_password = field_validator("site")(refuse_password)


def kind_of_source(section: object) -> str:
    """Which of the two a source's section is."""
    kind = section.get("kind") if isinstance(section, dict) else getattr(section, "kind", None)
    return "tool" if kind in KINDS else "database"
