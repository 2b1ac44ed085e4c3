"""Measure everything and write docs/BENCHMARKS.md. Takes about a quarter of an hour on two cores."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bench import backup, folding, follow, following, latency, memory, rehearse, relay, restore, scale, tools
from bench.database import Size, build
from bench.document import DOCUMENT, document, merged
from bench.figures import Figure
from outlast.sources.postgres.server import EmbeddedServer, embedded

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

    `python -m bench SCALE PART` measures one part of PARTS alone; at SCALE 1 its rows of the document are written
    anew.
    """
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    if sys.argv[2:]:
        figures = PARTS[sys.argv[2]](share)
        print(*figures, sep="\n")
        text = merged(DOCUMENT.read_text(encoding="utf-8"), figures)
    else:
        figures, text = measured_whole(share)
        print(text)
    if share == 1.0:
        DOCUMENT.write_text(text, encoding="utf-8")
    if not all(figure.kept for figure in figures):
        sys.exit(4)


def measured_whole(share: float) -> tuple[list[Figure], str]:
    figures: list[Figure] = []
    for part in PARTS.values():
        figures += part(share)
    return figures, document(figures)


def measured_backup(share: float) -> list[Figure]:
    size = Size(int(5000 * share), int(100_000 * share), int(3_000_000 * share), int(1_000_000 * share))
    with measured_database(size, int(75_000 * share)) as (server, url, folder):
        return backup.measure(server, url, folder) + restore.measure(url, folder)


def measured_rehearsal(share: float) -> list[Figure]:
    size = Size(int(5000 * share), int(100_000 * share), int(3_000_000 * share), int(1_000_000 * share))
    with measured_database(size, int(75_000 * share)) as (server, url, folder):
        return rehearse.measure(server, url, folder)


def measured_memory(share: float) -> list[Figure]:
    with measured_database(Size(50, 500, 5_000, 5_000), int(4_000_000 * share)) as (_, url, folder):
        return memory.measure(url, folder)


def measured_crowd(share: float) -> list[Figure]:
    with embedded({**SETTINGS, **DURABLE}) as server, tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder:
        return scale.measure(server, Path(folder), max(40_000, int(200_000 * share)))


def measured_following(share: float) -> list[Figure]:
    with (
        embedded({**SETTINGS, **DURABLE}) as server,
        tempfile.TemporaryDirectory(prefix="outlast-bench-") as folder,
    ):
        place = Path(folder)
        figures = follow.measure(server, place, share)
        figures += following.measure(server, place, share)
        figures += folding.measure(server, place, share)
        return figures + latency.measure(server, place, share)


PARTS = {
    "backup": measured_backup,
    "memory": measured_memory,
    "follow": measured_following,
    "rehearse": measured_rehearsal,
    "scale": measured_crowd,
    "tools": tools.measure,
    "relay": relay.measure,
}


if __name__ == "__main__":
    main()
