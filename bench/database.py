"""The databases that are measured: a shop in shared tables, its tenants of unequal size."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from outlast.sources.postgres.server import EmbeddedServer

BIG_TENANT = 1_000_001
SMALL_TENANT = 1_000_002

_TABLES = """
CREATE TABLE plans (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE accounts (
  id bigint PRIMARY KEY, name text UNIQUE NOT NULL, plan_id int NOT NULL REFERENCES plans, created_at timestamptz);
CREATE TABLE projects (
  id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, name text NOT NULL, settings jsonb);
CREATE TABLE items (
  id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts,
  project_id bigint NOT NULL REFERENCES projects, title text, body text, state text, price numeric(12,2),
  updated_at timestamptz);
CREATE TABLE comments (id bigint PRIMARY KEY, item_id bigint NOT NULL REFERENCES items, author text, body text);
INSERT INTO plans SELECT n, 'plan ' || n FROM generate_series(1, 5) n;
"""

_INDEXES = """
CREATE INDEX ON projects (account_id);
CREATE INDEX ON items (account_id);
CREATE INDEX ON items (project_id);
CREATE INDEX ON comments (item_id);
"""

_TEXT = (
    "(md5({0}::text) || ' ' || md5(({0} + 1)::text) || ' ' || md5(({0} + 2)::text) || ' the usual words of a ticket')"
)


@dataclass(frozen=True)
class Size:
    """Rows of the database; the two measured tenants come on top."""

    tenants: int = 5_000
    projects: int = 100_000
    items: int = 3_000_000
    comments: int = 1_000_000


def build(url: str, size: Size, *, big_items: int, small_items: int = 60) -> None:
    """Fill an empty database. Rows of a tenant lie all over its tables, as they do in one that has lived.

    BIG_TENANT gets `big_items` items and a third as many comments; SMALL_TENANT about 100 rows in all.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        execute = connection.execute
        execute(_TABLES)
        execute(
            "INSERT INTO accounts SELECT n, 'tenant-' || n, 1 + n %% 5, now() FROM generate_series(1, %s::int) n",
            [size.tenants],
        )
        execute(
            "INSERT INTO projects SELECT n, 1 + (power(random(), 3) * (%s - 1))::int, 'project ' || n,"
            " jsonb_build_object('key', n, 'value', md5(n::text)) FROM generate_series(1, %s::int) n",
            [size.tenants, size.projects],
        )
        for tenant, items, first in (
            (BIG_TENANT, big_items, size.items + 1),
            (SMALL_TENANT, small_items, size.items + big_items + 1),
        ):
            execute("INSERT INTO accounts VALUES (%s, %s, 1, now())", [tenant, f"tenant-{tenant}"])
            execute(
                "INSERT INTO projects SELECT %s + n, %s, 'project ' || n, '{}' FROM generate_series(1, 10) n",
                [tenant * 100, tenant],
            )
            _items(
                execute,
                f"SELECT n, {tenant}, {tenant * 100} + 1 + n % 10 FROM generate_series({first}, {first + items - 1}) n",
            )
        _items(
            execute,
            f"SELECT n, p.account_id, p.id FROM generate_series(1, {size.items}) n"
            f" JOIN projects p ON p.id = 1 + (n * 7919::bigint) % {size.projects}",
        )
        total = size.items + big_items + small_items
        text = _TEXT.format("n")
        execute(
            f"INSERT INTO comments SELECT n, 1 + (n * 104729::bigint) % {total}, 'user-' || n % 1000, {text}"
            f" FROM generate_series(1, {size.comments + big_items // 3}) n"
        )
        execute(_INDEXES)
        execute("VACUUM (FREEZE, ANALYZE)")


def forget(server: EmbeddedServer, database: str) -> None:
    """Drop a database that was followed, with its slots: their names are the cluster's."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s", [database]
        )
        connection.execute(f"DROP DATABASE {database} WITH (FORCE)".encode())


def _items(execute: object, select: str) -> None:
    text = _TEXT.format("o.n")
    statement = (
        f"INSERT INTO items SELECT o.n, o.account, o.project, 'item ' || o.n, {text}, 'open', (o.n % 10000) / 100.0,"
        f" now() - o.n * interval '1 second' FROM ({select}) AS o (n, account, project)"
    )
    execute(statement)  # type: ignore[operator]
