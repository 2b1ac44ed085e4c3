"""From outlast.toml to opened things: the vault, its keys, the database, this host's state. One `Invocation` a command.

Everything is opened on first use and imported there, so that a command pays only for what it needs. No decision is
made here, and nothing is printed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from outlast.cli.output import Output
from outlast.core.errors import OutlastError, UsageError

if TYPE_CHECKING:
    import typer

    from outlast.config.file import Config
    from outlast.core.table import TableName
    from outlast.restore.moments import At
    from outlast.sources.postgres.catalog import OwnershipSettings
    from outlast.sources.postgres.following import FollowingSettings
    from outlast.sources.postgres.schema import Catalog
    from outlast.sources.postgres.session import Session, Target
    from outlast.sources.source import Source
    from outlast.state.local import LocalState
    from outlast.vault.keys import Identity, WriterKeys
    from outlast.vault.reader import Vault, VaultPin
    from outlast.vault.store import Store

DEFAULT_SOURCE = "main"


@dataclass
class Invocation:
    """One run of one command: the global options, and what was opened under them. Closed by cli/main.py."""

    output: Output
    config_file: str | None = None  # --config
    closing: ExitStack = field(default_factory=ExitStack)

    @classmethod
    def of(cls, context: typer.Context) -> Invocation:
        found = context.find_root().obj
        assert isinstance(found, cls)
        return found

    @cached_property
    def config(self) -> Config:
        from outlast.config import file

        return file.load(file.find(self.config_file))

    @cached_property
    def state(self) -> LocalState:
        """This host's state. Made where there is none."""
        from outlast.state.local import LocalState

        return self.closing.enter_context(LocalState(self.config.key_dir))

    @cached_property
    def store(self) -> Store:
        from outlast.vault.store import open_store

        return open_store(self.config.vault_url)

    @cached_property
    def pin(self) -> VaultPin:
        """What outlast.toml says the vault must be; the vault's own header is not trusted."""
        from outlast.vault.reader import VaultPin

        vault = self.config.vault
        return VaultPin(vault.id, vault.recipients, vault.signers)

    @cached_property
    def identity(self) -> Identity:
        """The operator's (or recovery) age identity. Raises VaultKeyError where it is missing or unreadable."""
        from outlast.vault.keys import Identity

        keys = self.config.document.keys
        path = self.config.resolve(keys.operator) if keys.operator else self.config.key_dir / "operator.key"
        if not os.environ.get("OUTLAST_IDENTITY") and keys.operator_command:
            return Identity.from_command(keys.operator_command)
        return Identity.load(path)

    @cached_property
    def vault(self) -> Vault:
        """The vault, opened with the operator's identity: it can be read."""
        from outlast.vault.reader import Vault

        return Vault.open(self.store, self.pin, self.identity)

    def moment(self, source: str, text: str, *, excluded: frozenset[TableName] = frozenset()) -> At:
        """What a moment that somebody named comes to; said, where it is not plainly a run."""
        from outlast.restore.moments import resolve

        found = resolve(self.vault, source, text, self.config.key_dir, excluded=excluded)
        if found.position is not None:
            self.output.note(f"{text} is {found.told}.")
        return found

    @cached_property
    def sealed_vault(self) -> Vault:
        """The vault without any identity: what a host that only backs up, or only scrubs, can see."""
        from outlast.vault.reader import Vault

        return Vault.open(self.store, self.pin, None)

    @property
    def may_open(self) -> bool:
        """Whether an identity is at hand; where not, a command can offer what needs none."""
        try:
            return self.identity is not None
        except OutlastError:
            return False

    @cached_property
    def writer_keys(self) -> WriterKeys:
        """What a backup holds: the naming key, the signing key, the public recipients."""
        from outlast.vault.keys import WriterKeys

        return WriterKeys.load(self.config.key_dir, self.config.vault.recipients)

    def target(self, source: str = DEFAULT_SOURCE) -> Target:
        from outlast.sources.postgres.session import Target

        settings = self.config.source(source)
        return Target(settings.url, settings.password_command)

    def restore_target(self, source: str = DEFAULT_SOURCE) -> Target:
        """The source as the role that writes to it: `restore_url` where outlast.toml has one."""
        from outlast.sources.postgres.session import Target

        settings = self.config.source(source)
        if settings.restore_url is None:
            return self.target(source)
        return Target(settings.restore_url, settings.restore_password_command or settings.password_command)

    def script_target(self, source: str = DEFAULT_SOURCE) -> Target:
        """The source as the role that scripts run as: `script_url` where outlast.toml has one, else `restore_url`."""
        from outlast.sources.postgres.session import Target

        settings = self.config.source(source)
        if settings.script_url is None:
            return self.restore_target(source)
        return Target(settings.script_url, settings.script_password_command or settings.password_command)

    def follow_target(self, source: str = DEFAULT_SOURCE) -> Target:
        """The source as the role that reads its log: `follow_url` where outlast.toml has one."""
        from outlast.sources.postgres.session import Target

        settings = self.config.source(source)
        if settings.follow_url is None:
            return self.target(source)
        return Target(settings.follow_url, settings.follow_password_command or settings.password_command)

    def setup_target(self, source: str = DEFAULT_SOURCE) -> Target:
        """The source as the role that sets following up: `setup_url` where outlast.toml has one."""
        from outlast.sources.postgres.session import Target

        settings = self.config.source(source)
        if settings.setup_url is None:
            return self.target(source)
        return Target(settings.setup_url, settings.setup_password_command or settings.password_command)

    def following(self, source: str = DEFAULT_SOURCE, *, accept_unbounded_wal: bool = False) -> FollowingSettings:
        """What outlast.toml says about following a source."""
        from outlast.core.errors import UsageError
        from outlast.core.table import TableName
        from outlast.sources.postgres.following import FollowingSettings
        from outlast.sources.postgres.following_facts import Names
        from outlast.sources.postgres.identities import Wish

        follow = self.config.document.follow
        wishes = {}
        for name, wish in follow.identities.items():
            try:
                wishes[str(TableName.parse(name))] = Wish(wish)
            except ValueError:
                raise UsageError(
                    f"[follow] identities: {name!r} is no table name", hint="Write schema.table."
                ) from None
        return FollowingSettings(
            source,
            Names.of(source, self.config.source(source).slot),
            self.config.vault.id,
            wishes,
            accept_unbounded_wal or follow.accept_unbounded_wal,
        )

    def origin(self, source: str = DEFAULT_SOURCE) -> Source:
        """The source as a backup reads it, a database or a tool."""
        if self.config.tool(source) is not None:
            from outlast.cli.tooling import tool_source

            return tool_source(self, source)
        from outlast.sources.postgres.source import PostgresSource

        return PostgresSource(self.target(source), self.ownership(source))

    def ownership(self, source: str = DEFAULT_SOURCE) -> OwnershipSettings:
        from outlast.sources.postgres.catalog import OwnershipSettings

        settings = self.config.source(source)
        return OwnershipSettings(settings.tenant_table, settings.tenant_label, settings.tables, settings.tenant_key)

    @contextmanager
    def session(self, role: str, source: str = DEFAULT_SOURCE) -> Iterator[Session]:
        """A pinned read-only session with the source; `role` is the job's word in application_name."""
        from outlast.sources.postgres.session import connect

        with connect(self.target(source), role=role) as session:
            yield session

    def catalog(self, session: Session, source: str = DEFAULT_SOURCE) -> Catalog:
        """The source's catalog as outlast.toml classifies it."""
        from outlast.sources.postgres.catalog import read_catalog

        return read_catalog(session, self.ownership(source))


@dataclass(frozen=True)
class DefaultSource:
    """The source that is meant where none is named: the only one there is, else `main`. Asked only where it is needed,
    and shown as `main`. Raises UsageError where there are several and none is `main`."""

    invocation: Invocation

    def __call__(self) -> str:
        try:
            names = list(self.invocation.config.document.sources)
        except OutlastError:
            return DEFAULT_SOURCE  # what is wrong with outlast.toml is told by whoever needs it
        if len(names) > 1 and DEFAULT_SOURCE not in names:
            raise UsageError(
                f"{self.invocation.config.path} has several sources: {', '.join(names)}",
                hint="Say which one: backup and follow take its name, the other commands --source NAME.",
            )
        return names[0] if len(names) == 1 else DEFAULT_SOURCE

    def __str__(self) -> str:
        return DEFAULT_SOURCE
