"""The whole of `outlast follow`, routed, sealed and written to a vault in a folder, against pg_recvlogical writing the
same stream to a file. Each drains what was committed since it last ran.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from pathlib import Path

import psycopg

from bench.commands import Done, outlast
from bench.database import forget
from bench.figures import Figure
from outlast.sources.postgres.server import EmbeddedServer

TIMES = 3
SLOWER_MAX = 1 / 0.7
PEAK_BYTES_MAX = 300_000_000
TENANTS = 1_000

_TABLES = f"""
CREATE TABLE accounts (id int PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE projects (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, name text);
CREATE TABLE items (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, title text, body text, state int);
CREATE TABLE comments (id int PRIMARY KEY, project_id int NOT NULL REFERENCES projects, body text);
INSERT INTO accounts SELECT n, 'tenant ' || n FROM generate_series(1, {TENANTS}) n;
INSERT INTO projects SELECT n, 1 + n % {TENANTS}, 'project' FROM generate_series(1, {TENANTS * 10}) n;
"""
_FILL = f"""
INSERT INTO items SELECT n, 1 + n % {TENANTS}, md5(n::text), repeat(md5(n::text), 3), 0
  FROM generate_series(1, {{rows}}) n;
INSERT INTO comments SELECT n, 1 + n % {TENANTS * 10}, repeat(md5(n::text), 3) FROM generate_series(1, {{rows}}) n;
"""


def measure(server: EmbeddedServer, folder: Path, share: float = 1.0) -> list[Figure]:
    """In a database and a project of their own."""
    rows = max(2_000, int(100_000 * share))
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE followed")
    url = server.url("followed")
    home = folder / "followed"
    home.mkdir()
    _run(url, _TABLES, _FILL.format(rows=rows))
    outlast(home, "init", url, "--tenant-table", "accounts", "--tenant-label", "name")
    outlast(home, "follow", "--setup", "--execute", "--accept-unbounded-wal")
    _run(url, "SELECT pg_create_logical_replication_slot('recvlogical', 'pgoutput')")
    outlast(home, "follow", "--until-current")
    theirs: list[float] = []
    ours: list[float] = []
    peak = changes = 0
    for number in range(TIMES):
        idle = outlast(home, "follow", "--until-current")
        changes = _write(url, rows, number)
        theirs.append(_recvlogical(server, url, folder))
        done: Done = outlast(home, "follow", "--until-current")
        assert done.output["changes"] == changes, done.output
        ours.append(done.seconds - idle.seconds)
        peak = max(peak, done.peak_bytes)
    forget(server, "followed")
    seconds, base = statistics.median(ours), statistics.median(theirs)
    return [
        Figure(
            "outlast follow / pg_recvlogical of the same stream",
            f"{seconds / base:.2f}",
            f"{SLOWER_MAX:.2f}",
            seconds / base <= SLOWER_MAX,
            f"medians of {TIMES}, the start of the command (an idle run) taken off; {changes:,} changes in "
            f"transactions of 1, of 50 and of all rows, of {TENANTS:,} tenants: {changes / seconds:,.0f} a second into "
            f"a vault in a folder, {changes / base:,.0f} by pg_recvlogical into a file.",
        ),
        Figure(
            "peak memory of outlast follow, in MB",
            f"{peak / 1e6:.0f}",
            f"{PEAK_BYTES_MAX / 1e6:.0f}",
            peak < PEAK_BYTES_MAX,
            "the process, as the kernel counts it, while it drained those changes as fast as it could.",
        ),
    ]


def _run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def _write(url: str, rows: int, number: int) -> int:
    """Updates of rows that carry their tenant and of rows that find it through another; one large transaction."""
    single = rows // 10
    _run(
        url,
        f"DO $$ BEGIN FOR i IN 1 .. {single} LOOP UPDATE items SET state = {number} WHERE id = i; COMMIT; END LOOP;"
        " END $$",
        f"DO $$ BEGIN FOR i IN 0 .. {rows // 50 - 1} LOOP UPDATE comments SET body = body || '.'"
        " WHERE id BETWEEN i * 50 + 1 AND (i + 1) * 50; COMMIT; END LOOP; END $$",
        f"UPDATE items SET title = 'round {number}'",
        "CHECKPOINT",
    )
    return single + 2 * rows


def _recvlogical(server: EmbeddedServer, url: str, folder: Path) -> float:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute("SELECT pg_current_wal_flush_lsn()::text").fetchone()
    assert row is not None
    file = folder / "recvlogical"
    options = ("proto_version=2", "publication_names=outlast_main,outlast_main_partial", "streaming=on")
    command = [str(server.binaries / "pg_recvlogical"), "-d", url, "--slot", "recvlogical", "--start", "--no-loop"]
    command += ["-E", row[0], "-f", str(file), *[word for option in options for word in ("-o", option)]]
    environment = {**os.environ, "PGOPTIONS": "-c logical_decoding_work_mem=64kB"}
    begun = time.monotonic()
    subprocess.run(command, check=True, env=environment)
    taken = time.monotonic() - begun
    file.unlink()
    return taken
