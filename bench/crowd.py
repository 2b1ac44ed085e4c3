"""A crowd: very many tenants of unequal size in shared tables, of whom 883 lie everywhere among the others.

A tenant's size follows from its number alone, so that the same 883 are the same in a database of any size. Rows lie in
the order in which they would have come over the years: a tenant's are all over its tables, and so are its ids.
"""

from __future__ import annotations

import psycopg

VICTIMS = 883
_EVERY = 22
"""Victims are the tenants 7, 29, 51 …: all of them among the first 20,000."""

TABLES = ("accounts", "users", "projects", "items", "comments")

ROWS = {
    "accounts": "SELECT t.* FROM accounts t WHERE t.id = ANY({0})",
    "users": "SELECT t.* FROM users t WHERE t.account_id = ANY({0})",
    "projects": "SELECT t.* FROM projects t WHERE t.account_id = ANY({0})",
    "items": "SELECT t.* FROM items t WHERE t.account_id = ANY({0})",
    "comments": "SELECT t.* FROM comments t JOIN items i ON i.id = t.item_id WHERE i.account_id = ANY({0})",
}
"""The rows of some tenants, table by table, referenced before referencing. {0}: an array of their keys."""

_SCHEMA = """
CREATE TABLE plans (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE accounts (id bigint PRIMARY KEY, name text NOT NULL, plan_id int NOT NULL, created_at timestamptz);
CREATE TABLE users (id bigint PRIMARY KEY, account_id bigint NOT NULL, email text NOT NULL, name text);
CREATE TABLE projects (id bigint PRIMARY KEY, account_id bigint NOT NULL, name text NOT NULL, settings jsonb);
CREATE TABLE items (
  id bigint PRIMARY KEY, account_id bigint NOT NULL, project_id bigint NOT NULL, title text, body text, state text,
  updated_at timestamptz);
CREATE TABLE comments (id bigint PRIMARY KEY, item_id bigint NOT NULL, author text, body text);
"""

# No primary key while rows come in: the indexes are built once, from sorted rows, at the end.
_KEYS = """
ALTER TABLE accounts ADD UNIQUE (name);
ALTER TABLE accounts ADD FOREIGN KEY (plan_id) REFERENCES plans;
ALTER TABLE users ADD UNIQUE (email);
ALTER TABLE users ADD FOREIGN KEY (account_id) REFERENCES accounts;
ALTER TABLE projects ADD FOREIGN KEY (account_id) REFERENCES accounts;
ALTER TABLE items ADD FOREIGN KEY (account_id) REFERENCES accounts, ADD FOREIGN KEY (project_id) REFERENCES projects;
ALTER TABLE comments ADD FOREIGN KEY (item_id) REFERENCES items;
CREATE INDEX ON users (account_id);
CREATE INDEX ON projects (account_id);
CREATE INDEX ON items (account_id);
CREATE INDEX ON items (project_id);
CREATE INDEX ON comments (item_id);
"""

# From 0 to some thousands, most of them below the mean: a share is a number between 0 and 1 that only `n` decides.
_SHARE = "((n * 7919::bigint) % 9973 / 9973.0)"
_ITEMS = f"(3 + 1.5 / (0.002 + power({_SHARE}, 1.6)))::int"

_FILL = (
    "INSERT INTO plans SELECT n, 'plan ' || n FROM generate_series(1, 5) n",
    "INSERT INTO accounts SELECT n, 'tenant-' || n, 1 + n % 5, '2026-01-01' FROM generate_series(1, {tenants}::int) n",
    (
        "INSERT INTO users SELECT n * 4::bigint + k, n, 'user' || k || '@tenant-' || n, 'User ' || k"
        " FROM generate_series(1, {tenants}::int) n, generate_series(1, 1 + n % 3) k ORDER BY k, n"
    ),
    (
        "INSERT INTO projects SELECT n * 4::bigint + k, n, 'project ' || k,"
        " jsonb_build_object('key', k, 'value', md5(n::text))"
        " FROM generate_series(1, {tenants}::int) n, generate_series(1, 1 + n % 4) k ORDER BY k, n"
    ),
    (
        "INSERT INTO items SELECT row_number() OVER (), o.n, o.n * 4 + 1 + o.k % (1 + o.n % 4), 'item ' || o.k,"
        " md5(o.k::text) || ' the usual words of a ticket, as many as people write when they are in a hurry ' || o.n,"
        " 'open', '2026-01-01'::timestamptz + o.k * interval '1 minute' FROM ("
        f"  SELECT n::bigint, k::bigint FROM generate_series(1, {{tenants}}::int) n, generate_series(1, {_ITEMS}) k"
        "   ORDER BY hashint8extended(k * 1000003::bigint + n, 0)) AS o"
    ),
    (
        "INSERT INTO comments SELECT row_number() OVER (), id, 'author ' || id % 7, body FROM items"
        " WHERE id % 5 < 2 ORDER BY id"
    ),
)


def victims() -> list[int]:
    return [7 + _EVERY * number for number in range(VICTIMS)]


def build(url: str, tenants: int) -> int:
    """Fill an empty database; the number of its rows. About 50 rows a tenant."""
    assert tenants >= victims()[-1], "the victims would not all be in it"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET work_mem = '512MB'; SET maintenance_work_mem = '512MB'; SET synchronous_commit = off")
        keyless = _SCHEMA.replace(" PRIMARY KEY", " NOT NULL")
        connection.execute(keyless.encode())
        for statement in _FILL:
            connection.execute(statement.format(tenants=tenants).encode())
        for table in ("plans", *TABLES):
            connection.execute(f"ALTER TABLE {table} ADD PRIMARY KEY (id)".encode())
        connection.execute(_KEYS.encode())
        connection.execute("VACUUM (FREEZE, ANALYZE)")
        row = connection.execute(
            "SELECT sum(n) FROM ("
            + " UNION ALL ".join(f"SELECT count(*) AS n FROM {table}" for table in TABLES)
            + ") AS c"
        ).fetchone()
        assert row is not None
        return int(row[0])
