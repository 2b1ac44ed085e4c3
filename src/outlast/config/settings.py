"""What a section of outlast.toml is made of, and [tripwire], [jobs], [rehearsal], [serve] …

The others, and the whole, are in document.py.

`${NAME}` in a URL, path or command is taken from the environment.
"""

from __future__ import annotations

import os
import re
from datetime import date, timedelta
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from outlast.core.table import TableName

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|m|h|d|w)\s*")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_PASSWORD = re.compile(r"^[a-z]+://[^/@:]*:(?P<url>[^@/]+)@|(?:^|[?&\s])password\s*=\s*(?P<option>'[^']*'|[^&\s]+)")


def _expanded(value: object) -> object:
    if not isinstance(value, str):
        return value
    for name in _VARIABLE.findall(value):
        if name not in os.environ:
            raise ValueError(f"names the environment variable {name}, which is not set")
    return _VARIABLE.sub(lambda match: os.environ[match[1]], value)


def duration(text: object) -> object:
    """`90m`, `26h`, `2d` as a timedelta."""
    if not isinstance(text, str):
        return text
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError('must be a number and a unit: "90m", "26h" or "2d"')
    return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])


Expanded = Annotated[str, BeforeValidator(_expanded)]
Duration = Annotated[timedelta, BeforeValidator(duration)]


class Section(BaseModel):
    """A table of the file. What it does not know is an error, since a misspelt setting would be ignored in silence."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


def without_password(url: str) -> tuple[str, str | None]:
    """The database URL without its password, and whether there was one (the password itself, or None)."""
    match = _PASSWORD.search(url)
    if match is None:
        return url, None
    if match["url"] is not None:
        return url[: match.start("url") - 1] + url[match.end("url") :], match["url"]
    cleaned = url[: match.start()] + url[match.end() :]
    if "://" in url and match[0].startswith("?"):
        cleaned = url[: match.start()] + ("?" + url[match.end() + 1 :] if match.end() < len(url) else "")
    return cleaned.strip(), match["option"].strip("'")


def refuse_password(url: str | None) -> str | None:
    if url is not None and without_password(url)[1] is not None:
        raise ValueError("carries a password; take it out and give it by PGPASSWORD, ~/.pgpass or a command")
    return url


def _table(text: str) -> str:
    """A table's name as Outlast prints it: a bare one is in `public`."""
    return str(TableName.parse(text))


class TripwireSettings(Section):
    enabled: bool = Field(default=True, description="Whether `follow` holds what it reads against these rules.")
    window: Duration = Field(default=timedelta(minutes=10), description="How long a loss counts.")
    tenant_roots: int | None = Field(
        default=None,
        ge=0,
        description="Fires when this many tenants' root rows were deleted within the window, declared closings not "
        "counted; 0: never. Without a value 2, or 1 where `tombstone` is set.",
    )
    tenant_share: float = Field(
        default=0.5, ge=0, le=1, description="Fires when a tenant has lost this share of its rows; 0: never."
    )
    share_tenants: int | None = Field(
        default=None, ge=1, description="How many tenants have to. Without a value 2, or 1 where `tombstone` is set."
    )
    share_rows_min: int = Field(
        default=20, ge=1, description="A tenant that has lost fewer rows than this is not judged by its share."
    )
    tenants_a_minute: int = Field(
        default=20, ge=0, description="Fires when this many tenants lost a part of their rows in a minute; 0: never."
    )
    losing_share: float = Field(default=0.1, gt=0, le=1, description="How large a part that is.")
    truncate: bool = Field(default=True, description="Fires at TRUNCATE of a table that tenants own.")
    drop: bool = Field(default=True, description="Fires at DROP of a table that tenants own.")
    soft_deleted_roots: int = Field(
        default=0,
        ge=0,
        description="Tells when this many tenants' root rows were soft-deleted within the window, and halts nobody; "
        "0: never.",
    )
    quiet_tables: tuple[str, ...] = Field(
        default=(), description="Tables whose losses are ordinary (sessions, queues, caches) and never count."
    )
    tombstone: str | None = Field(
        default=None,
        description="A table that tenants own; a row inserted there declares that its tenant is being closed.",
    )
    tombstone_within: Duration = Field(
        default=timedelta(hours=24), description="How long after that the tenant's deletion is ordinary."
    )
    declared_max: int = Field(
        default=100, ge=0, description="Fires when this many declared closings came within the window; 0: never."
    )
    notify_command: Expanded | None = Field(
        default=None,
        description="A command that prints Apprise URLs, one a line, of those to tell. The environment's "
        "OUTLAST_NOTIFY wins over it.",
    )
    halt_roles: tuple[str, ...] = Field(
        default=(), description="Database roles to shut out when it fires; none: nobody. No other is ever touched."
    )
    halt_accept_outage: bool = Field(
        default=False, description="Halt them although the application itself seems to use one of them."
    )
    halt_url: Expanded | None = Field(
        default=None, description="The database as the role that halts (outlast_halt), where the source's role may not."
    )
    halt_password_command: Expanded | None = Field(
        default=None, description="A command that prints that role's password."
    )

    _no_password = field_validator("halt_url")(refuse_password)

    @field_validator("quiet_tables", "tombstone")
    @classmethod
    def _tables(cls, value: tuple[str, ...] | str | None) -> tuple[str, ...] | str | None:
        if isinstance(value, tuple):
            return tuple(_table(name) for name in value)
        return value if value is None else _table(value)

    @model_validator(mode="after")
    def _consistent(self) -> TripwireSettings:
        if self.tombstone in self.quiet_tables:
            raise ValueError(f"the tombstone table {self.tombstone} is among the quiet tables")
        return self


class JobSettings(Section):
    url: Expanded | None = Field(
        default=None,
        description="A PostgreSQL database for the queue of restores, which workers on many machines then share. "
        "Without it the queue is this host's alone, in its folder of local state.",
    )
    password_command: Expanded | None = Field(
        default=None, description="A command that prints that database's password."
    )
    from_tenants: int = Field(
        default=100,
        ge=1,
        description="A restore of more tenants than this is a job in the queue; so is one with --job.",
    )
    head_start: Duration = Field(
        default=timedelta(seconds=5),
        description="How long such a restore goes on in the command's own process before what is left becomes a job. "
        "Not where the queue holds unfinished work, or is shared by `url`. 0s: at once.",
    )
    parallel: int = Field(default=2, ge=1, le=32, description="How many groups of tenants a process restores at once.")
    patience: Duration = Field(
        default=timedelta(minutes=10), description="How long a job waits for a server or a vault that does not answer."
    )
    lag_max: Duration | None = Field(
        default=None, description="Wait with the next group while a standby is further behind than this."
    )
    active_max: int | None = Field(
        default=None, ge=1, description="Wait with the next group while more sessions than this are at work."
    )
    pause_max: Duration = Field(
        default=timedelta(minutes=1),
        description="The longest such wait; then one more group is restored all the same: no restore stands still.",
    )

    _no_password = field_validator("url")(refuse_password)


class RehearsalSettings(Section):
    receipt_max_age: Duration = Field(
        default=timedelta(hours=24), description="How long after its rehearsal a script may be run by its receipt."
    )
    approvers: dict[str, str] = Field(
        default_factory=dict,
        description="Who may approve a receipt: each person's name, and their OpenSSH public key (ssh-ed25519).",
    )
    approvals: int = Field(
        default=0,
        ge=0,
        le=9,
        description="How many of them have to, other than whoever rehearsed. 1 is the two-person rule.",
    )
    lock_timeout: Duration = Field(
        default=timedelta(seconds=5),
        description="How long a statement of `run` may wait for what somebody else has locked.",
    )
    statement_timeout: Duration = Field(
        default=timedelta(minutes=10), description="How long one statement of a script may take on production."
    )
    attempts: int = Field(
        default=3,
        ge=1,
        le=10,
        description="How often `run` tries where another transaction was in the way (40001, 40P01).",
    )

    @field_validator("approvers")
    @classmethod
    def _keys(cls, value: dict[str, str]) -> dict[str, str]:
        for name, key in value.items():
            if not key.startswith("ssh-ed25519 "):
                raise ValueError(f"the key of {name!r} is not of type ssh-ed25519")
        return {name: " ".join(key.split()[:2]) for name, key in value.items()}

    @model_validator(mode="after")
    def _enough(self) -> RehearsalSettings:
        if self.approvals > len(self.approvers):
            raise ValueError(f"approvals = {self.approvals}, and only {len(self.approvers)} approvers are named")
        return self


class ServeSettings(Section):
    bind: str = Field(
        default="127.0.0.1:8790",
        pattern=r"^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9.-]+):\d{1,5}$",
        description="HOST:PORT that `serve` listens on. Put a proxy with TLS before it to reach it from elsewhere.",
    )
    public_url: Expanded | None = Field(
        default=None,
        pattern=r"^https?://[^/\s]+$",
        description="How browsers and phones reach it (https://…): for links in pages, and for cookies.",
    )
    database: Expanded | None = Field(
        default=None,
        description="A PostgreSQL database for alerts, on-call and desk, which several instances then share. Without "
        "it SQLite in this host's folder.",
    )
    database_password_command: Expanded | None = Field(
        default=None, description="A command that prints that database's password."
    )
    session_length: Duration = Field(
        default=timedelta(hours=12), description="How long a login lasts that is not used."
    )
    alerts_a_second: int = Field(
        default=2000,
        ge=1,
        description="Requests a second that one integration may send; beyond that it is answered 429.",
    )
    trusted_proxies: tuple[str, ...] = Field(
        default=(), description="Addresses of proxies whose X-Forwarded-For is believed, for the limit on logins."
    )

    _no_password = field_validator("database")(refuse_password)


class PagingSettings(Section):
    command: Expanded | None = Field(
        default=None,
        description="A command that prints by which services people are reached: lines `METHOD URL`, where METHOD is "
        "email, sms, voice, push or whatsapp and URL one of Apprise's with {address} in it; `fallback URL` is for "
        "where nobody can be reached. The environment's OUTLAST_PAGING wins over it.",
    )
    default_policy: str | None = Field(
        default=None,
        description="The escalation, team, schedule or person (by name) for alerts that name no responder we know.",
    )


class UpstreamSettings(Section):
    kind: Literal["opsgenie", "pagerduty"] = Field(description="Whose API it speaks.")
    url: Expanded | None = Field(
        default=None,
        pattern=r"^https?://[^\s]+$",
        description="Its base URL; otherwise https://api.opsgenie.com or https://events.pagerduty.com.",
    )
    key_command: Expanded = Field(description="A command that prints its API or routing key.")
    timeout: Duration = Field(
        default=timedelta(seconds=3), description="How long one request to it may take before Outlast pages by itself."
    )
    confirm_within: Duration = Field(
        default=timedelta(seconds=6),
        description="How long after an alert came its request status may stay open before Outlast pages by itself.",
    )
    heartbeat: Duration = Field(default=timedelta(seconds=15), description="How often it is asked whether it is there.")


class IncidentSettings(Section):
    automatic: bool = Field(
        default=False,
        description="Where [incident] stands in the file, be it empty, alarms and restores are told to incidents. With "
        "this customers hear of it by itself: an alarm opens a public incident, a restore updates it, the last proof "
        "resolves it. Otherwise drafts are written for a person.",
    )
    title: str = Field(
        default="Some customers' data is missing", description="The title of an incident that an alarm opens."
    )
    severity: Literal["critical", "major", "minor"] = Field(
        default="critical", description="The severity of an incident that an alarm opens."
    )
    components: dict[str, Literal["degraded_performance", "partial_outage", "major_outage"]] = Field(
        default_factory=dict, description="The components of [page] that such an incident affects, each with its state."
    )
    commander: str | None = Field(default=None, description="Who leads such an incident, until somebody takes over.")
    communications: str | None = Field(default=None, description="Who speaks to customers in it.")
    approval: bool = Field(
        default=False, description="Whether an update is published only when a second person has approved it."
    )
    first_within: Duration = Field(
        default=timedelta(minutes=5), description="The first public word comes within this of the opening."
    )
    scope_within: Duration = Field(default=timedelta(minutes=10), description="And who is affected within this.")
    every_critical: Duration = Field(
        default=timedelta(minutes=20), description="At severity critical there is an update at least this often."
    )
    every_major: Duration = Field(default=timedelta(minutes=30), description="At severity major.")
    every_minor: Duration = Field(default=timedelta(minutes=60), description="At severity minor.")
    remind_before: Duration = Field(
        default=timedelta(minutes=5), description="So long before a word is due who speaks is reminded."
    )
    escalate_after: Duration = Field(
        default=timedelta(minutes=5), description="So long after it was due the commander is paged."
    )
    contacts: str | None = Field(
        default=None,
        pattern=r"^[^\s.]+\.[^\s.]+\.[^\s.]+$",
        description="Where a tenant's own e-mail addresses are, as SCHEMA.TABLE.COLUMN of the source; they are read "
        "from the vault.",
    )
    contacts_source: str = Field(default="main", description="The source of that table.")
    inside: tuple[str, ...] = Field(
        default=(),
        description="Hosts of your own network that subscribers' web hooks may call. Others are called only at public "
        "addresses.",
    )
    people: dict[str, str] = Field(
        default_factory=dict,
        description="How people of the team are reached: a name, and the environment variable that holds its Apprise "
        "URLs.",
    )


class ComponentSettings(Section):
    name: str = Field(description="What customers know it by.")
    description: str | None = Field(default=None, description="What it is, in a few words.")
    group: str | None = Field(default=None, description="A heading that several components stand under.")
    since: date | None = Field(default=None, description="Since when it is watched; no uptime is claimed before.")


class PageSettings(Section):
    name: str = Field(default="Status", description="The page's name, and the sender's in letters.")
    url: Expanded | None = Field(
        default=None,
        pattern=r"^https?://[^\s]*[^/\s]$",
        description="Where the page is read, without a slash at the end.",
    )
    to: Expanded | None = Field(
        default=None,
        description="Where `publish` writes it: a folder, or s3://…, gs://…, az://…. It should share nothing with what "
        "it reports on.",
    )
    languages: tuple[str, ...] = Field(default=("en",), min_length=1, description="Its languages, the first one first.")
    components: tuple[ComponentSettings, ...] = Field(default=(), description="What it shows the state of.")


class MailSettings(Section):
    url: Expanded | None = Field(
        default=None, description="The mail server: smtp://USER@HOST:587 (STARTTLS where offered) or smtps://USER@HOST."
    )
    password_command: Expanded | None = Field(
        default=None, description="A command that prints its password. Otherwise OUTLAST_MAIL_PASSWORD."
    )
    sender: str | None = Field(default=None, description="Who letters come from: Acme Status <status@acme.example>.")
    a_minute: int | None = Field(default=None, ge=1, description="At most so many letters a minute.")
