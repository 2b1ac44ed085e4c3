"""Any command rehearsed on a copy: it finds its database by DATABASE_URL and PG*, and all its transactions are seen."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from outlast.sources.postgres.isolation import may_hide
from tests.integration.rehearsal.conftest import Shop

ENV_PY = """
import os
from alembic import context
from sqlalchemy import create_engine
url = os.environ["DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://", 1)
with create_engine(url).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
"""
FIRST = """
import sqlalchemy as sa
from alembic import op
revision, down_revision = "1", None
def upgrade():
    op.add_column("pages", sa.Column("lang", sa.Text(), nullable=True))
    op.execute("UPDATE pages SET lang = 'en' WHERE site_id <= 10")
"""
SECOND = """
from alembic import op
revision, down_revision = "2", "1"
def upgrade():
    op.drop_column("pages", "body")
    with op.get_context().autocommit_block():
        op.create_index("pages_title", "pages", ["title"], postgresql_concurrently=True)
"""


@pytest.fixture
def alembic(shop: Shop) -> tuple[str, ...]:
    folder = shop.outlast.folder / "migrations"
    (folder / "versions").mkdir(parents=True, exist_ok=True)
    (folder / "env.py").write_text(ENV_PY)
    (folder / "versions" / "first.py").write_text(FIRST)
    (folder / "versions" / "second.py").write_text(SECOND)
    (shop.outlast.folder / "alembic.ini").write_text("[alembic]\nscript_location = migrations\n")
    return (str(Path(sys.executable).parent / "alembic"), "upgrade", "head")


def test_a_migration_by_alembic(shop: Shop, alembic: tuple[str, ...]) -> None:
    """All of its transactions count, what ran outside of one too, and the report says that nothing guards it."""
    before = shop.state
    found = shop.rehearse("--", *alembic, role="postgres", exit_code=3)
    assert found["failed"] is None
    assert found["command"] == list(alembic)
    assert found["effect"]["public.pages"] == {"update": 40}
    changes = {(one["change"], one["kind"], one["name"]) for one in found["schema"]}
    assert ("added", "column", "public.pages.lang") in changes
    assert ("dropped", "column", "public.pages.body") in changes
    assert ("added", "index", "public.pages_title") in changes
    assert ("added", "table", "public.alembic_version") in changes
    assert found["transactions"] >= 2
    assert any("CREATE INDEX CONCURRENTLY" in one for one in found["unguarded"])
    assert shop.state == before


def test_a_script_by_psql(shop: Shop) -> None:
    """psql is told where to go, and what it cannot do ends the rehearsal with its exit code."""
    psql = str(next(Path(sys.prefix).rglob("pginstall/bin/psql")))
    command = (psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", "DELETE FROM plans WHERE id = 2", "-c", "SELECT 1")
    found = shop.rehearse("--", *command, exit_code=3)
    assert found["effect"] == {"public.plans": {"hard-delete": 1}}
    failed = shop.rehearse("--", psql, "-X", "-v", "ON_ERROR_STOP=1", "-c", "SELECT 1/0", exit_code=3)
    assert "exit code 1" in failed["failed"]


def test_a_command_gets_neither_keys_nor_the_network(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The vault's key does not reach it, nor does it reach anything where the system gives it a network of its own."""
    monkeypatch.setenv("OUTLAST_IDENTITY", "secret")
    code = (
        "import os, socket, sys\n"
        "assert not [name for name in os.environ if name.startswith('OUTLAST')]\n"
        "assert os.environ['PGUSER'] == 'app'\n"
        "interfaces = [name for _, name in socket.if_nameindex()]\n"
        "sys.exit(0 if interfaces == ['lo'] else 7)\n"
    )
    shop.outlast.environment["OUTLAST_SOMETHING"] = "secret"
    try:
        found = shop.rehearse("--", sys.executable, "-c", code)
    finally:
        del shop.outlast.environment["OUTLAST_SOMETHING"]
    assert found["failed"] is None if found["isolated"] else "exit code 7" in found["failed"]
    if os.geteuid() == 0:
        assert found["isolated"]


@pytest.mark.skipif(not may_hide(), reason="this system lets nobody hide a socket")
@pytest.mark.parametrize("way", ["command", "dblink"])
def test_productions_socket_is_not_reached(shop: Shop, way: str) -> None:
    """It is a file, which a network namespace does not part: neither a command nor the copy's own server gets there."""
    update = "UPDATE pages SET title = 'hit' WHERE site_id = 7"
    if way == "command":
        code = f"import psycopg; psycopg.connect({shop.url!r}, autocommit=True).execute({update!r})"
        found = shop.rehearse("--", sys.executable, "-c", code, role="postgres")
    else:
        where, quoted = make_conninfo(shop.url), update.replace("'", "''")
        script = f"CREATE EXTENSION dblink; SELECT dblink_exec('{where}', '{quoted}');\n"
        found = shop.rehearse(shop.script(script, "dblink.sql"), role="postgres")
    assert found["failed"]
    assert shop.query("SELECT count(*) FROM pages WHERE title = 'hit'") == [(0,)]
