"""The whole of outlast.toml, section by section.

Only the file's own meaning is decided here. Whether its tables fit the database is asked in sources/postgres, whether
its keys open the vault in vault/keys. `${NAME}` in a URL, path or command is taken from the environment. No secret
belongs in the file, and one that is found in it is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator

from outlast.config.settings import (
    ComponentSettings,
    Duration,
    Expanded,
    IncidentSettings,
    JobSettings,
    MailSettings,
    PageSettings,
    PagingSettings,
    RehearsalSettings,
    Section,
    ServeSettings,
    TripwireSettings,
    UpstreamSettings,
    refuse_password,
)
from outlast.config.tool import ToolSettings, kind_of_source


class VaultSettings(Section):
    url: Expanded = Field(description="Where the vault is: a folder, or s3://…, gs://…, az://….")
    id: str = Field(description="The vault's id. A vault with another id at that place is refused.")
    recipients: tuple[str, ...] = Field(
        min_length=1, description="age recipients that every tenant's key is wrapped to: the recovery key's first."
    )
    signers: tuple[str, ...] = Field(min_length=1, description="OpenSSH public keys whose signatures are believed.")


class KeySettings(Section):
    dir: Expanded = Field(default=".outlast", description="Folder of this host's keys and local state.")
    operator: Expanded | None = Field(
        default=None,
        description="File of the age identity that opens the vault. The environment's OUTLAST_IDENTITY wins over it.",
    )
    operator_command: Expanded | None = Field(
        default=None, description="A command that prints that identity, instead of a file."
    )


class SourceSettings(Section):
    kind: Literal["postgresql"] = Field(default="postgresql", description="What the source is.")
    url: Expanded = Field(description="The database, without a password.")
    password_command: Expanded | None = Field(
        default=None, description="A command that prints the password. Otherwise PGPASSWORD or ~/.pgpass."
    )
    restore_url: Expanded | None = Field(
        default=None, description="The same database as the role that restores, where `url` may only read."
    )
    restore_password_command: Expanded | None = Field(
        default=None, description="A command that prints that role's password."
    )
    follow_url: Expanded | None = Field(
        default=None, description="The same database as the role that follows (REPLICATION), where `url` has not that."
    )
    follow_password_command: Expanded | None = Field(
        default=None, description="A command that prints that role's password."
    )
    setup_url: Expanded | None = Field(
        default=None,
        description="The same database as the tables' owner or a superuser: only for `follow --setup` and --teardown.",
    )
    setup_password_command: Expanded | None = Field(
        default=None, description="A command that prints that role's password."
    )
    script_url: Expanded | None = Field(
        default=None,
        description="The same database as the role that scripts run as (`rehearse`, `run`); else restore_url.",
    )
    script_password_command: Expanded | None = Field(
        default=None, description="A command that prints that role's password."
    )
    slot: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9_]{1,55}$",
        description="Name of its replication slot and publication; otherwise outlast_NAME.",
    )
    tenant_table: str = Field(description="The table that has one row a tenant.")
    tenant_key: str | None = Field(
        default=None, description="Its key column, where it has several keys; otherwise its primary key."
    )
    tenant_label: str | None = Field(default=None, description="Its column that people know a tenant by.")
    jobs: int = Field(default=2, ge=1, le=64, description="Connections that a backup reads over at once.")
    tables: dict[str, str] = Field(
        default_factory=dict,
        description='Whose each table is: "owned by COLUMN", "owned through COLUMN", "shared" or "ignored".',
    )

    _no_password = field_validator("url", "restore_url", "follow_url", "setup_url", "script_url")(refuse_password)


AnySource = Annotated[
    Annotated[SourceSettings, Tag("database")] | Annotated[ToolSettings, Tag("tool")], Discriminator(kind_of_source)
]


class FollowSettings(Section):
    identities: dict[str, Literal["full", "key", "partial"]] = Field(
        default_factory=dict,
        description='How the log names old rows, by table: "full" (whole rows: for a table without a key), "key" (the '
        'key, even where another identity was chosen before) or "partial" (leave it: inserts and truncates only).',
    )
    accept_unbounded_wal: bool = Field(
        default=False,
        description="Follow although max_slot_wal_keep_size is not set: while nobody reads the slot, the server keeps "
        "its log until its disk is full.",
    )
    flush_interval: Duration = Field(
        default=timedelta(seconds=2), description="How long a commit waits at most until it is written to the vault."
    )
    memory_mb: int = Field(
        default=16, ge=1, le=256, description="Changes held for one segment of the log before it is written, in MB."
    )
    vault_buffer_mb: int = Field(
        default=64,
        ge=1,
        le=1024,
        description="While the vault cannot be written, this much is held, in MB; then the stream is not read further.",
    )
    metrics: str | None = Field(
        default=None, description="HOST:PORT at which `follow` gives figures to Prometheus, under /metrics."
    )


class RetentionSettings(Section):
    grace_days: int = Field(default=7, ge=1, description="Days between marking something and deleting it.")
    keep_days: int = Field(
        default=30, ge=1, description="`prune` keeps every run younger than this, and always the newest."
    )


class StatusSettings(Section):
    max_age: Duration = Field(
        default=timedelta(hours=26), description="`status` ends with 4 where a newest restorable moment is older."
    )
    max_lag: Literal["off"] | Duration = Field(
        default=timedelta(minutes=15),
        description='And where the log of a source that is followed is behind by more; "off" after a teardown.',
    )


class RestoreSettings(Section):
    lock_timeout: Duration = Field(
        default=timedelta(seconds=10),
        description="How long a statement that writes may wait for a row that somebody else has locked.",
    )
    fire_triggers: tuple[str, ...] = Field(
        default=(),
        description='Triggers ("schema.table.trigger") that are to fire although rows could be written without.',
    )
    accept_triggers: tuple[str, ...] = Field(
        default=(),
        description="Triggers whose writes to other tables are shown, and are no reason to refuse a restore.",
    )


class HookSettings(Section):
    after_restore: Expanded | None = Field(
        default=None,
        description="A command run after tenants were restored, their keys on its standard input, one a line.",
    )
    tenant_restored: Expanded | None = Field(
        default=None,
        description="A command run for each tenant as soon as it is finished, one at a time, with one JSON object on "
        "its standard input: tenant, label, state, rows.",
    )


class Document(Section):
    vault: VaultSettings
    keys: KeySettings = KeySettings()
    sources: dict[str, AnySource] = Field(min_length=1)
    retention: RetentionSettings = RetentionSettings()
    status: StatusSettings = StatusSettings()
    hooks: HookSettings = HookSettings()
    restore: RestoreSettings = RestoreSettings()
    follow: FollowSettings = FollowSettings()
    tripwire: TripwireSettings = TripwireSettings()
    jobs: JobSettings = JobSettings()
    rehearsal: RehearsalSettings = RehearsalSettings()
    serve: ServeSettings = ServeSettings()
    paging: PagingSettings = PagingSettings()
    upstreams: dict[str, UpstreamSettings] = Field(default_factory=dict)
    incident: IncidentSettings = IncidentSettings()
    page: PageSettings = PageSettings()
    mail: MailSettings = MailSettings()

    @property
    def has_incidents(self) -> bool:
        """Whether alarms and restores are to be told to incidents: [incident] stands in the file, be it empty."""
        return "incident" in self.model_fields_set


SECTIONS: Mapping[str, type[Section]] = {
    "vault": VaultSettings,
    "keys": KeySettings,
    "sources.NAME": SourceSettings,
    "sources.NAME (a tool)": ToolSettings,
    "retention": RetentionSettings,
    "status": StatusSettings,
    "hooks": HookSettings,
    "restore": RestoreSettings,
    "follow": FollowSettings,
    "tripwire": TripwireSettings,
    "jobs": JobSettings,
    "rehearsal": RehearsalSettings,
    "serve": ServeSettings,
    "paging": PagingSettings,
    "upstreams.NAME": UpstreamSettings,
    "incident": IncidentSettings,
    "page": PageSettings,
    "page.components": ComponentSettings,
    "mail": MailSettings,
}
"""Every section by its heading; docs/REFERENCE.md is made from this and checked against it."""
