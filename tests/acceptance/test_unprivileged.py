"""The day once more, as roles that have what `outlast init --print-grants` gave them and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from outlast.replay import world
from tests.commands import Outlast
from tests.servers import Server

SEED = 11


@pytest.fixture
def granted(database: str, server: Server, outlast: Outlast) -> Iterator[Outlast]:
    """A project whose source is reached as outlast_backup, and written to as outlast_restore."""
    world.build(database, tenants=8, seed=SEED)
    grants = outlast.done("init", database, "--tenant-table", "accounts", "--print-grants").stdout
    name = urlsplit(database).path.removeprefix("/")
    with psycopg.connect(database, autocommit=True) as owner:
        owner.execute(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")
        owner.execute(grants.encode())
        try:
            backup, restore = (server.url(name, role) for role in ("outlast_backup", "outlast_restore"))
            outlast.done("init", backup, "--tenant-table", "accounts", "--tenant-label", "slug")
            config = outlast.folder / "outlast.toml"
            config.write_text(
                config.read_text().replace("tenant_table =", f'restore_url = "{restore}"\ntenant_table =')
            )
            yield outlast
        finally:
            for role in ("outlast_backup", "outlast_follow", "outlast_restore", "outlast_halt"):
                owner.execute(f"DROP OWNED BY {role} CASCADE")


def test_the_day_as_least_privileged_roles(granted: Outlast, database: str) -> None:
    """Back up as a role that can only read, restore as one that owns nothing: everybody is as before."""
    before = world.fingerprint(database)
    assert "Backups can run" in granted.done("check").stdout
    granted.done("backup")
    doomed = world.choose(database, destroyed=3, seed=SEED)
    world.destroy(database, doomed)
    granted.done("restore", *[tenant.slug for tenant in doomed])
    restored = granted.done("--json", "restore", "--execute", *[tenant.slug for tenant in doomed]).json
    assert {one["state"] for one in restored["tenants"]} == {"done"}
    assert world.fingerprint(database) == before
    granted.done("verify", "--live")
    granted.done("diff", doomed[0].slug)


def test_the_backup_s_role_cannot_write(granted: Outlast, database: str, server: Server) -> None:
    """Whoever takes over the machine that backs up changes nothing in the database."""
    name = urlsplit(database).path.removeprefix("/")
    with psycopg.connect(server.url(name, "outlast_backup"), autocommit=True) as connection:
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM accounts")
