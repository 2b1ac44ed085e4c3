"""A shop in shared tables, backed up once, on which scripts are rehearsed by the installed command.

shop          the project folder: `shop(...)` runs outlast in it; shop.script(text) writes a .sql file
debian_shop   the same on PostgreSQL 15 (system)
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.commands import Outlast, Result
from tests.servers import Server

SITES, APPS_A_SITE = 900, 2
"""Sites are the tenants: in 2022 a script was handed their ids instead of those of an application on each of them."""

DDL = f"""
CREATE ROLE app LOGIN;
CREATE ROLE deployer LOGIN;
CREATE TABLE sites (id int PRIMARY KEY, slug text NOT NULL UNIQUE, deleted_at timestamptz);
CREATE TABLE apps (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, name text NOT NULL,
  deleted_at timestamptz);
CREATE TABLE pages (id bigserial PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE,
  title text NOT NULL, body text, words int GENERATED ALWAYS AS (length(title)) STORED);
CREATE TABLE notes (id bigserial PRIMARY KEY, page_id bigint NOT NULL REFERENCES pages ON DELETE CASCADE, body text);
CREATE TABLE audit (id bigserial PRIMARY KEY, site_id int NOT NULL, what text NOT NULL);
CREATE TABLE plans (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE settings (site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, name text NOT NULL, value text,
  PRIMARY KEY (site_id, name)) PARTITION BY LIST (name);
CREATE TABLE settings_theme PARTITION OF settings FOR VALUES IN ('theme');
CREATE TABLE settings_rest PARTITION OF settings DEFAULT;
CREATE UNLOGGED TABLE presence (site_id int PRIMARY KEY REFERENCES sites ON DELETE CASCADE, seen int NOT NULL);
INSERT INTO sites SELECT n, 'site-' || n FROM generate_series(1, {SITES}) n;
INSERT INTO apps SELECT 1000 + n, 1 + n % {SITES}, 'app ' || n FROM generate_series(0, {SITES * APPS_A_SITE - 1}) n;
INSERT INTO pages (site_id, title, body) SELECT 1 + n % {SITES}, 'page ' || n, repeat('words ', 20)
  FROM generate_series(1, {SITES * 4}) n;
INSERT INTO notes (page_id, body) SELECT id, 'a note' FROM pages;
INSERT INTO plans VALUES (1, 'free'), (2, 'paid');
INSERT INTO settings SELECT n, 'theme', 'dark' FROM generate_series(1, 50) n;
INSERT INTO presence SELECT n, 0 FROM generate_series(1, 20) n;
CREATE INDEX ON apps (site_id);
CREATE INDEX ON pages (site_id);
CREATE INDEX ON notes (page_id);
CREATE FUNCTION log_app() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit (site_id, what) VALUES (coalesce(NEW.site_id, OLD.site_id), TG_OP);
  RETURN NULL;
END $$;
CREATE TRIGGER log_app AFTER UPDATE OR DELETE ON apps FOR EACH ROW EXECUTE FUNCTION log_app();
GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO app;
GRANT CREATE ON SCHEMA public TO app;
ALTER ROLE deployer NOINHERIT;
GRANT app TO deployer;
ALTER ROLE deployer SET work_mem = '6MB';
ALTER ROLE app IN DATABASE :database SET work_mem = '5MB';
"""
TABLES = {
    "public.sites": "owned by id",
    "public.apps": "owned by site_id",
    "public.pages": "owned by site_id",
    "public.notes": "owned through page_id",
    "public.audit": "owned by site_id",
    "public.plans": "shared",
    "public.settings": "owned by site_id",
    "public.presence": "owned by site_id",
}


@dataclass
class Shop:
    """A project, and the database that it protects."""

    outlast: Outlast
    url: str
    temporary: Path  # where copies lie while they are used

    def script(self, text: str, name: str = "script.sql") -> str:
        (self.outlast.folder / name).write_text(text, encoding="utf-8")
        return name

    def rehearse(self, *arguments: str, exit_code: int | None = None, role: str = "app") -> dict[str, Any]:
        """Rehearse, and give the JSON object."""
        done = self.run("--json", "rehearse", "--role", role, *arguments)
        assert exit_code is None or done.exit_code == exit_code, str(done)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def run(self, *arguments: str) -> Result:
        return self.outlast(*arguments)

    def query(self, text: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            cursor = connection.execute(text.encode())
            return cursor.fetchall() if cursor.description else []

    @property
    def state(self) -> list[tuple[Any, ...]]:
        """What must not change: production."""
        return self.query(
            "SELECT (SELECT count(*) FROM sites), (SELECT count(*) FROM apps), (SELECT count(*) FROM pages),"
            " (SELECT count(*) FROM audit), (SELECT sum(hashtext(slug)) FROM sites)"
        )

    @property
    def copies(self) -> Path:
        return self.outlast.folder / ".outlast" / "copies"


def made(folder: Path, temporary: Path, url: str) -> Shop:
    database = url.partition("@/")[2].partition("?")[0]
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS app")
        connection.execute("DROP ROLE IF EXISTS deployer")
        for statement in DDL.replace(":database", database).split(";\n\n"):
            connection.execute(statement.encode())
    outlast = Outlast(folder, {"TMPDIR": str(temporary)})
    outlast.done("init", url, "--tenant-table", "sites", "--tenant-label", "slug")
    text = (folder / "outlast.toml").read_text()
    head, _, tail = text.partition("[sources.main.tables]\n")
    rest = tail[tail.index("\n[") :]
    listed = "".join(f'"{name}" = "{words}"\n' for name, words in TABLES.items())
    (folder / "outlast.toml").write_text(f"{head}[sources.main.tables]\n{listed}{rest}")
    outlast.done("backup")
    return Shop(outlast, url, temporary)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """One that the account which servers run as can enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(prefix="outlast-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with temporary_folder() as temporary, server.new_database() as url:
        yield made(folder, temporary, url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP OWNED BY app, deployer")


@pytest.fixture(scope="module")
def debian_shop(debian_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop15")
    with temporary_folder() as temporary, debian_server.new_database() as url:
        yield made(folder, temporary, url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("DROP OWNED BY app, deployer")
