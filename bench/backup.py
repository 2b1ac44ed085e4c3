"""A full backup against pg_dump -Fd -j2 of the same database, and a second one after 1% of the rows changed."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psycopg

from bench.commands import Done, outlast, run, side_by_side
from bench.figures import Figure
from outlast.sources.postgres.server import EmbeddedServer

TIMES = 3
FULL_MAX = 1.3
SECOND_MAX = 0.5
GROWTH_MAX = 0.05


def measure(server: EmbeddedServer, url: str, folder: Path) -> list[Figure]:
    """Leaves a project with a current backup in `folder`, which restore.measure goes on with."""
    project = folder / "project"
    dump = folder / "dump"

    def full() -> float:
        _set_aside(project)
        _init(project, url)
        return outlast(project, "backup").seconds

    def pg_dump() -> float:
        _set_aside(dump)
        return run([str(server.binaries / "pg_dump"), "-Fd", "-j2", "-f", str(dump), url], folder).seconds

    dumping, backing = side_by_side(TIMES, pg_dump, full)
    first_bytes, data_bytes = _size(project / "vault"), _data_bytes(url)
    changes = [_second(project, url, number) for number in range(TIMES)]
    second = median(change.done.seconds for change in changes)
    added = median(change.added_bytes for change in changes)
    change = changes[-1]
    again = [outlast(project, "backup") for _ in range(TIMES)]
    unchanged = median(done.seconds for done in again)
    return [
        Figure(
            "full backup / pg_dump -Fd -j2",
            f"{backing / dumping:.2f}",
            f"{FULL_MAX}",
            backing / dumping <= FULL_MAX,
            f"medians of {TIMES}, {data_bytes / 1e9:.2f} GB; each backup goes into a new vault, start-up, keys and "
            "schema included.",
        ),
        Figure(
            "second backup, 1% of the rows changed / first",
            f"{second / backing:.2f}",
            f"{SECOND_MAX}",
            second / backing < SECOND_MAX,
            f"medians of {TIMES}, each after rows of other tenants changed. Before the last {change.rows:,} rows were "
            "updated in the items of some of the tenants (about 1% of all rows of the database); "
            f"{change.done.output['rows_read']:,} rows read, {change.done.output['tenants_written']} tenants written.",
        ),
        Figure(
            "growth of the vault by that backup",
            f"{added / first_bytes:.1%}",
            f"{GROWTH_MAX:.0%}",
            added / first_bytes < GROWTH_MAX,
            f"{added / 1e6:.1f} MB on {first_bytes / 1e6:.1f} MB, the median of the same {TIMES}.",
        ),
        Figure(
            "backup of an unchanged database / first",
            f"{unchanged / backing:.2f}",
            f"{SECOND_MAX}",
            unchanged / backing < SECOND_MAX,
            f"medians of {TIMES}; {again[-1].output['rows_read']} rows read, {again[-1].output['objects']} object "
            "written by each.",
        ),
    ]


def _set_aside(output: Path) -> None:
    """Out of the way, but not deleted before all is measured: for minutes after thousands of files were deleted ext4
    passes over each of their inodes for every new one, which cost a backup 2 to 5 seconds that are not its own."""
    if output.exists():
        output.rename(output.with_name(f"{output.name}-{secrets.token_hex(4)}"))


def _init(project: Path, url: str) -> None:
    project.mkdir()
    outlast(project, "init", url, "--tenant-table", "accounts", "--tenant-label", "name")


@dataclass(frozen=True)
class _Change:
    rows: int
    added_bytes: int
    done: Done


def _second(project: Path, url: str, day: int) -> _Change:
    """A backup after a day's work."""
    before = _size(project / "vault")
    rows = _change(url, day)
    done = outlast(project, "backup")
    return _Change(rows, _size(project / "vault") - before, done)


def _change(url: str, day: int) -> int:
    """Work as it comes: 1% of all rows, in the tenants that were busy today, every other one of their items."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT sum(reltuples)::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ).fetchone()
        assert row is not None
        wanted = int(row[0]) // 100
        done = connection.execute(
            "UPDATE items SET state = 'done', updated_at = now() WHERE id IN (SELECT id FROM items WHERE id %% 2 = 0"
            " AND account_id IN (SELECT id FROM accounts WHERE id %% 37 = %s) ORDER BY account_id LIMIT %s)",
            [5 + day, wanted],
        )
        return done.rowcount


def _data_bytes(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert row is not None
    return int(row[0])


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
