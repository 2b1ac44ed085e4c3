"""A small shop in shared tables, and a place to back it up to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from outlast.capture.backup import BackupOptions, BackupResult, Place, backup
from outlast.core.tenant import TenantKey
from outlast.sources.postgres.catalog import OwnershipSettings
from outlast.sources.postgres.session import Target
from outlast.sources.postgres.source import PostgresSource
from outlast.state.local import LocalState
from outlast.vault.header import create_vault
from outlast.vault.keys import Identity, WriterKeys, generate_identity
from outlast.vault.reader import Vault
from outlast.vault.store import Store, open_store

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE plan (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL, plan_id int REFERENCES plan);
CREATE TABLE project (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, title text, mood mood);
CREATE TABLE task (id bigint PRIMARY KEY, project_id bigint REFERENCES project, body text);
INSERT INTO plan VALUES (1, 'free'), (2, 'paid');
INSERT INTO account SELECT n, 'tenant-' || n, 1 FROM generate_series(1, 6) n;
INSERT INTO project SELECT n, 1 + n % 6, 'project ' || n, 'ok' FROM generate_series(1, 60) n;
INSERT INTO task SELECT n, 1 + n % 60, repeat(md5(n::text), 20) FROM generate_series(1, 3000) n;
"""


@dataclass
class Shop:
    """The database, its vault, and what a host that backs it up has."""

    url: str
    folder: Path
    store: Store
    keys: WriterKeys
    operator: Identity
    vault_pin: object
    settings: OwnershipSettings = field(default_factory=lambda: OwnershipSettings("account", "name"))

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement)

    def place(self, state: LocalState, store: Store | None = None) -> Place:
        return Place("main", PostgresSource(Target(self.url), self.settings), store or self.store, self.keys, state)

    def back_up(self, options: BackupOptions | None = None, store: Store | None = None) -> BackupResult:
        with LocalState(self.folder / "state") as state:
            return backup(self.place(state, store), options)

    def vault(self) -> Vault:
        return Vault.open(self.store, self.vault_pin, self.operator)  # type: ignore[arg-type]

    def rows(self, tenant: str, table: str) -> list[bytes]:
        """What the newest run of the vault holds of a tenant's table."""
        vault = self.vault()
        entry = next(one for one in vault.entries("main") if one.tenant.key == TenantKey(tenant))
        described = vault.manifest("main", entry).tables.get(table)
        if described is None:
            return []
        return b"".join(data for _, data in vault.chunks("main", entry, described)).splitlines()

    def live(self, query: str) -> list[bytes]:
        """Lines of COPY (query) TO STDOUT."""
        with psycopg.connect(self.url) as connection, connection.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
            return b"".join(bytes(part) for part in copy).splitlines()


@pytest.fixture
def shop(database: str, tmp_path: Path) -> Shop:
    store = open_store(str(tmp_path / "vault"), make=True)
    text, recipient = generate_identity("operator")
    keys = WriterKeys.generate([recipient])
    shop = Shop(database, tmp_path, store, keys, Identity.from_text(text, "test"), create_vault(store, keys))
    shop.execute(SCHEMA)
    return shop
