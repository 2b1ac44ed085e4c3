"""Folding follows the change: four times the changes, of four times the tenants, in one and the same database."""

from __future__ import annotations

import statistics
from pathlib import Path

import psycopg

from bench.commands import outlast
from bench.database import forget
from bench.figures import Figure
from outlast.sources.postgres.server import EmbeddedServer

TIMES = 3
TENANTS = 1_000
FEW, MANY = 100, 400
MORE_MAX = 1.25

_TABLES = f"""
CREATE TABLE accounts (id int PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE items (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, title text, body text);
INSERT INTO accounts SELECT n, 'tenant ' || n FROM generate_series(1, {TENANTS}) n;
INSERT INTO items SELECT n, 1 + n % {TENANTS}, md5(n::text), repeat(md5(n::text), 3)
  FROM generate_series(1, {{rows}}) n;
"""


def measure(server: EmbeddedServer, folder: Path, share: float = 1.0) -> list[Figure]:
    """In a database and a project of their own."""
    rows = max(20_000, int(200_000 * share))
    home = folder / "folding"
    home.mkdir()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE folding")
    url = server.url("folding")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_TABLES.format(rows=rows).encode())
    outlast(home, "init", url, "--tenant-table", "accounts", "--tenant-label", "name")
    outlast(home, "follow", "--setup", "--execute", "--accept-unbounded-wal")
    outlast(home, "follow", "--until-current")
    seconds: dict[int, list[float]] = {FEW: [], MANY: []}
    idle: list[float] = []
    changes: dict[int, int] = {}
    for number in range(TIMES):
        for tenants in (FEW, MANY):
            with psycopg.connect(url, autocommit=True) as connection:
                done = connection.execute(
                    "UPDATE items SET title = %s WHERE account_id <= %s", [f"round {number}", tenants]
                )
                changes[tenants] = done.rowcount
            outlast(home, "follow", "--until-current")
            seconds[tenants].append(outlast(home, "fold").seconds)
            idle.append(outlast(home, "fold").seconds)
    forget(server, "folding")
    start = statistics.median(idle)
    few, many = (statistics.median(seconds[tenants]) - start for tenants in (FEW, MANY))
    ratio = many / few / (changes[MANY] / changes[FEW])
    return [
        Figure(
            "folding four times the changes / four times the time",
            f"{ratio:.2f}",
            f"{MORE_MAX:.2f}",
            ratio <= MORE_MAX,
            f"medians of {TIMES}, an idle fold ({start:.2f} s) taken off: {changes[FEW]:,} changes of {FEW} tenants "
            f"{few:.2f} s, {changes[MANY]:,} of {MANY} {many:.2f} s, of {rows:,} rows of {TENANTS:,} tenants.",
        )
    ]
