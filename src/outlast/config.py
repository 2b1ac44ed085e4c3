"""outlast.toml: what it may say, how it is found and read, and how `init` writes it for a person to read.

Only the file's own meaning is decided here. Whether its tables fit the database is asked in sources/postgres, whether
its keys open the vault in vault/keys. Relative paths are relative to the file; `${NAME}` in a URL, path or command is
taken from the environment. No secret belongs in the file, and one that is found in it is refused.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, ValidationError, field_validator

from outlast.core.errors import NotFoundError, OutlastError, UsageError
from outlast.settings import (
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
from outlast.settings import without_password as without_password
from outlast.tool_settings import ToolSettings, kind_of_source

FILE_NAME = "outlast.toml"
CONFIG_VARIABLE = "OUTLAST_CONFIG"
IDENTITY_VARIABLE = "OUTLAST_IDENTITY"


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


@dataclass(frozen=True, slots=True)
class Config:
    """outlast.toml as it was read, and where."""

    path: Path
    document: Document

    @property
    def vault(self) -> VaultSettings:
        return self.document.vault

    @property
    def vault_url(self) -> str:
        """The vault's URL; a folder is given as an absolute path."""
        url = self.vault.url
        return url if "://" in url else str(self.resolve(url))

    @property
    def key_dir(self) -> Path:
        return self.resolve(self.document.keys.dir)

    def resolve(self, path: str) -> Path:
        return (self.path.parent / Path(path).expanduser()).resolve()

    def source(self, name: str) -> SourceSettings:
        """A database's settings. Raises NotFoundError with the names there are, UsageError for a tool."""
        found = self.any_source(name)
        if isinstance(found, SourceSettings):
            return found
        raise UsageError(
            f"source {name!r} is a tool ({found.kind}), and this needs a database",
            hint="For a tool there are: check, status, backup, follow, tenants, history, show, diff, verify, search, "
            "export.",
            code="not-a-database",
        )

    def tool(self, name: str) -> ToolSettings | None:
        """A tool's settings; None where the source is a database."""
        found = self.any_source(name)
        return found if isinstance(found, ToolSettings) else None

    @property
    def tools(self) -> tuple[str, ...]:
        """The sources that are tools, by name."""
        return tuple(sorted(name for name, one in self.document.sources.items() if isinstance(one, ToolSettings)))

    def any_source(self, name: str) -> SourceSettings | ToolSettings:
        """The source's settings, whatever it is. Raises NotFoundError with the names there are."""
        try:
            return self.document.sources[name]
        except KeyError:
            names = ", ".join(sorted(self.document.sources))
            raise NotFoundError(f"there is no source {name!r} in {self.path}", hint=f"It has: {names}.") from None


def find(given: str | None, *, environ: Mapping[str, str] = os.environ, start: Path | None = None) -> Path:
    """The file to read: --config, OUTLAST_CONFIG, or the nearest outlast.toml upwards. Raises NotFoundError."""
    named = given or environ.get(CONFIG_VARIABLE)
    if named:
        path = Path(named).expanduser().absolute()
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            by = "--config" if given else CONFIG_VARIABLE
            raise NotFoundError(f"there is no file {path} (named by {by})", hint=_HOW_TO_START, code="no-config")
        return path
    here = (start or Path.cwd()).absolute()
    for folder in (here, *here.parents):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise NotFoundError(f"there is no {FILE_NAME} here or in a folder above", hint=_HOW_TO_START, code="no-config")


_HOW_TO_START = (
    "Go to the folder that has it, name it with --config, or begin with\n"
    "outlast init postgresql://USER@HOST/DATABASE --tenant-table TABLE"
)


def load(path: Path) -> Config:
    """Read the file. Raises UsageError that names the setting and what is wrong with it."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}", hint="Mend that line.") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text", hint="Save it as UTF-8.") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint="Check the file's permissions.") from None
    try:
        document = Document.model_validate(content)
    except ValidationError as error:
        raise _explained(path, error) from None
    return Config(path, document)


def _explained(path: Path, error: ValidationError) -> OutlastError:
    problem, *more = error.errors(include_url=False, include_input=False)
    place = [str(part) for part in problem["loc"] if part not in ("database", "tool")]
    rest = f" (and {len(more)} more)" if more else ""
    section, name = ".".join(place[:-1]), place[-1] if place else ""
    inside = f"[{section}]" if section else "the file"
    if problem["type"] == "extra_forbidden":
        tool = "tool" in problem["loc"]
        close = difflib.get_close_matches(name, names := sorted(_names(tuple(place[:-1]), tool=tool)), 1)
        hint = f"Did you mean {close[0]!r}?" if close else f"{inside} may have: {', '.join(names)}."
        return UsageError(f"{path}: {inside} has no setting {name!r}{rest}", hint=hint)
    if problem["type"] == "missing":
        return UsageError(
            f"{path}: {inside} lacks {name!r}{rest}", hint=f"It is described in docs/REFERENCE.md under {inside}."
        )
    told = problem["msg"].removeprefix("Value error, ")
    return UsageError(f"{path}: {name!r} in {inside}: {told}{rest}", hint="Settings are listed in docs/REFERENCE.md.")


def _names(place: tuple[str, ...], *, tool: bool) -> Iterator[str]:
    if not place:
        yield from Document.model_fields
        return
    heading = f"{place[0]}.NAME" if f"{place[0]}.NAME" in SECTIONS else place[0]
    section = SECTIONS.get(f"{heading} (a tool)" if tool else heading)
    if section is not None:
        yield from section.model_fields


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


@dataclass(frozen=True, slots=True)
class TableEntry:
    """One table of the proposal that `init` writes."""

    name: str
    words: str
    reason: str


def quoted(text: str) -> str:
    """A TOML basic string."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def written(
    *,
    url: str,
    tenant_table: str,
    tenant_key: str | None = None,
    tenant_label: str | None,
    vault: VaultSettings,
    recovery_file: str,
    tables: tuple[TableEntry, ...],
) -> str:
    """The text of a new outlast.toml."""
    width = max((len(quoted(table.name)) for table in tables), default=0)
    words = max((len(quoted(table.words)) for table in tables), default=0)
    lines = [
        f"{quoted(table.name):<{width}} = {quoted(table.words):<{words}}  # {_one_line(table.reason)}".rstrip(" #")
        for table in tables
    ]
    key = f"tenant_key = {quoted(tenant_key)}\n" if tenant_key else ""
    label = f"tenant_label = {quoted(tenant_label)}" if tenant_label else '# tenant_label = "slug"'
    return _TEXT.format(
        vault_url=quoted(vault.url),
        vault_id=quoted(vault.id),
        recipients="".join(f"  {quoted(recipient)},\n" for recipient in vault.recipients),
        signers="".join(f"  {quoted(signer)},\n" for signer in vault.signers),
        recovery_file=recovery_file,
        url=quoted(url),
        tenant_table=quoted(tenant_table),
        label=key + label,
        tables="\n".join(lines),
    )


def written_tool(*, kind: str, site: str | None, user: str | None, page: str | None) -> str:
    """The section of a tool."""
    given = {"site": site, "user": user, "page": page}
    lines = [f"{name} = {quoted(value)}" for name, value in given.items() if value is not None]
    return _TOOL_TEXT.format(kind=kind, name=kind.upper(), lines="\n".join(lines) + ("\n" if lines else ""))


def written_for_tools(*, vault: VaultSettings, recovery_file: str, section: str) -> str:
    """The text of a new outlast.toml that has a tool and no database."""
    head = _TEXT[: _TEXT.index("[sources.main]")].format(
        vault_url=quoted(vault.url),
        vault_id=quoted(vault.id),
        recipients="".join(f"  {quoted(recipient)},\n" for recipient in vault.recipients),
        signers="".join(f"  {quoted(signer)},\n" for signer in vault.signers),
        recovery_file=recovery_file,
    )
    tail = _TEXT[_TEXT.index("[retention]") : _TEXT.index("# While `outlast follow` runs")]
    return head + section + "\n" + tail.rstrip() + "\n"


def _one_line(text: str) -> str:
    return " ".join(text.split())


_TOOL_TEXT = """\
[sources.{kind}]
kind = "{kind}"
{lines}# token_command = "pass show {kind}"  # or OUTLAST_{name}_TOKEN in the environment; never the token itself
# share = 0.5             # of the vendor's rate limit: people need the rest
# attachment_mb_max = 100
"""

_TEXT = """\
# Outlast's configuration, written by `outlast init`. No secret stands here: it can go into version control.
# Every setting is described in docs/REFERENCE.md. After a change: `outlast check`.

[vault]
url = {vault_url}
id = {vault_id}
# Who can open the vault: the recovery key ({recovery_file}; keep it offline), and this host's operator.
recipients = [
{recipients}]
# Whose signatures are believed.
signers = [
{signers}]

[keys]
dir = ".outlast"  # this host's keys and local state: never into version control

[sources.main]
kind = "postgresql"
url = {url}
# password_command = "pass show database"  # or PGPASSWORD, or ~/.pgpass
# restore_url = "postgresql://outlast_restore@…"  # where the role above may only read
tenant_table = {tenant_table}
{label}

# Whose each table is. Read this list once, line by line: it decides what a customer gets back.
#   "owned by COLUMN"       COLUMN holds the tenant's key
#   "owned through COLUMN"  COLUMN references a table whose rows have a tenant
#   "shared"                reference data of all tenants: kept, and never changed by a tenant's restore
#   "ignored"               not kept
#   "undecided"             stops every backup until one of the others stands there
[sources.main.tables]
{tables}

[retention]
grace_days = 7   # between marking something and deleting it
keep_days = 30   # `outlast prune` keeps every run younger than this

[status]
max_age = "26h"  # `outlast status` ends with 4 where a tenant's newest restorable moment is older

# While `outlast follow` runs: whose deletion is ordinary, and who is shut out when customers vanish. Who is told
# stands in the environment's OUTLAST_NOTIFY. Prove it: outlast tripwire test
# [tripwire]
# tombstone = "account_closures"  # a row there declares that its tenant is being closed
# halt_roles = ["maintenance"]    # what scripts log in as; never the application's own role

[hooks]
# after_restore = "/usr/local/bin/reindex"  # gets the restored tenants' keys on its standard input, one a line
"""
