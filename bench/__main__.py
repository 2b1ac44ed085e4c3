"""Measure everything and write docs/BENCHMARKS.md. Takes about a quarter of an hour on two cores."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from bench import backup, follow, following, memory, restore, scale
from bench.database import Size, build
from bench.figures import Figure
from outlast.sources.postgres.server import EmbeddedServer, embedded

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "BENCHMARKS.md"

SETTINGS = {"shared_buffers": "1GB", "maintenance_work_mem": "512MB", "max_wal_size": "16GB", "autovacuum": "off"}

DURABLE = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
"""As a server that anybody restores into: what COPY and restore wait for is in both."""


@contextmanager
def measured_database(size: Size, big_items: int) -> Iterator[tuple[EmbeddedServer, str, Path]]:
    with embedded({**SETTINGS, **DURABLE}) as server, tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder:
        url = server.url()
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        url = server.url("shop")
        build(url, size, big_items=big_items)
        yield server, url, Path(folder)


def main() -> None:
    """`python -m bench [SCALE]`: at SCALE 0.05 it is a quick try, whose figures are not written anywhere.

    `python -m bench SCALE scale` measures bench/scale.py alone; at 1 its rows of the document are written anew.
    """
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    if sys.argv[2:] == ["scale"]:
        found = measured_crowd(share)
        print(*found, sep="\n")
        if share == 1.0:
            DOCUMENT.write_text(merged(DOCUMENT.read_text(encoding="utf-8"), found), encoding="utf-8")
        return
    size = Size(int(5000 * share), int(100_000 * share), int(3_000_000 * share), int(1_000_000 * share))
    figures: list[Figure] = []
    with measured_database(size, int(75_000 * share)) as (server, url, folder):
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
            assert row is not None
            database_bytes = row[0]
        figures += backup.measure(server, url, folder)
        figures += restore.measure(url, folder)
        figures += follow.measure(server, folder, share)
        figures += following.measure(server, folder, share)
    with measured_database(Size(50, 500, 5_000, 5_000), int(4_000_000 * share)) as (_, url, folder):
        figures += memory.measure(url, folder)
    figures += measured_crowd(share)
    text = document(figures, database_bytes)
    print(text)
    if share == 1.0:
        DOCUMENT.write_text(text, encoding="utf-8")
    if not all(figure.kept for figure in figures):
        sys.exit(4)


def measured_crowd(share: float) -> list[Figure]:
    with embedded({**SETTINGS, **DURABLE}) as server, tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder:
        return scale.measure(server, Path(folder), max(40_000, int(200_000 * share)))


def merged(text: str, figures: list[Figure]) -> str:
    """The document with these figures in place of those of the same name, or at the end of its lists."""
    lines = text.splitlines()
    for one in figures:
        for start, line in ((f"| {one.what} |", row_of(one)), (f"- *{one.what}*:", note_of(one, today=True))):
            old = [number for number, there in enumerate(lines) if there.startswith(start)]
            if old:
                lines[old[0]] = line
            else:
                last = max(number for number, there in enumerate(lines) if there.startswith(start[:3]))
                lines.insert(last + 1, line)
    return "\n".join([*lines, ""])


def row_of(figure: Figure) -> str:
    return f"| {figure.what} | **{figure.value}** | {figure.limit} | {'yes' if figure.kept else 'NO'} |"


def note_of(figure: Figure, *, today: bool = False) -> str:
    measured = f" Measured on {datetime.now(UTC):%Y-%m-%d}." if today else ""
    return f"- *{figure.what}*: {figure.how}{measured}"


def document(figures: list[Figure], database_bytes: int) -> str:
    rows = [row_of(one) for one in figures]
    notes = [note_of(one) for one in figures]
    cores = len(os.sched_getaffinity(0))
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `make bench`; no number here is typed. Each is a ratio of medians of whole commands, taken in",
            "turn on the same server in the same run, unless it says otherwise. Absolute times mean little: the",
            f"machine is small and shared ({cores} cores, {platform.machine()}, Python {platform.python_version()}).",
            "",
            f"Measured on {datetime.now(UTC):%Y-%m-%d}, embedded PostgreSQL 18, {database_bytes / 1e9:.2f} GB of data.",
            "",
            "| what | measured | at most | kept |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            "## How",
            "",
            *notes,
            "",
        ]
    )


if __name__ == "__main__":
    main()
