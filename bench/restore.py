"""One tenant back into live tables, against the raw COPY of the same rows into the same tables."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import psycopg

from bench.commands import Done, outlast
from bench.database import BIG_TENANT, SMALL_TENANT
from bench.figures import Figure

TIMES = 3
COPY_MAX = 1.6
SMALL_SECONDS_MAX = 2.0

ROWS = {
    "accounts": "SELECT * FROM accounts WHERE id = {0}",
    "projects": "SELECT * FROM projects WHERE account_id = {0}",
    "items": "SELECT * FROM items WHERE account_id = {0}",
    "comments": "SELECT c.* FROM comments c JOIN items i ON i.id = c.item_id WHERE i.account_id = {0}",
}


def measure(url: str, folder: Path) -> list[Figure]:
    """Goes on with the project that backup.measure left in `folder`."""
    project = folder / "project"
    kept = _rows(url, BIG_TENANT)
    rows = sum(data.count(b"\n") for data in kept.values())
    copies: list[float] = []
    big: list[Done] = []
    small: list[Done] = []
    for _ in range(TIMES):
        destroy(url, BIG_TENANT)
        copies.append(_copy(url, kept))
        destroy(url, BIG_TENANT)
        big.append(_restore(project, BIG_TENANT))
        destroy(url, SMALL_TENANT)
        small.append(_restore(project, SMALL_TENANT))
    assert _rows(url, BIG_TENANT) == kept, "the restored tenant is not what it was"
    started = [done.seconds for done in small]
    apart = statistics.median(done.seconds for done in big) - statistics.median(started)
    ratio = apart / statistics.median(copies)
    return [
        Figure(
            f"restore of a tenant of {rows:,} rows / raw COPY of them",
            f"{ratio:.2f}",
            f"{COPY_MAX}",
            ratio <= COPY_MAX,
            f"medians of {TIMES}, start-up apart (the whole restore of the small tenant, below, is taken off); "
            "the COPY goes into the same tables with their indexes and foreign keys, and commits.",
        ),
        Figure(
            "restore of a tenant of 100 rows, start-up included, in seconds",
            f"{statistics.median(started):.2f}",
            f"{SMALL_SECONDS_MAX}",
            statistics.median(started) < SMALL_SECONDS_MAX,
            f"wall time of the whole command, median of {TIMES}, in the same database.",
        ),
    ]


def _rows(url: str, tenant: int) -> dict[str, bytes]:
    with psycopg.connect(url) as connection:
        found = {}
        for table, query in ROWS.items():
            with connection.cursor().copy(f"COPY ({query.format(tenant)} ORDER BY 1) TO STDOUT") as copy:
                found[table] = b"".join(bytes(part) for part in copy)
        return found


def destroy(url: str, tenant: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "DELETE FROM comments WHERE item_id IN (SELECT id FROM items WHERE account_id = %s)", [tenant]
        )
        for table in ("items", "projects"):
            connection.execute(f"DELETE FROM {table} WHERE account_id = %s", [tenant])
        connection.execute("DELETE FROM accounts WHERE id = %s", [tenant])
        connection.execute("VACUUM comments, items, projects, accounts")
        connection.execute("CHECKPOINT")


def _copy(url: str, rows: dict[str, bytes]) -> float:
    with psycopg.connect(url) as connection:
        started = time.monotonic()
        for table, data in rows.items():
            with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                copy.write(data)
        connection.commit()
        return time.monotonic() - started


def _restore(project: Path, tenant: int) -> Done:
    done = outlast(project, "restore", str(tenant), "--execute")
    assert done.output["executed"], done.output
    return done
