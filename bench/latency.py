"""What following costs the source: pgbench at half of what it can do, once with a bare slot, once with `follow`.

The bare slot is read by pg_recvlogical into nothing: a slot that nobody reads decodes nothing, and costs only disk.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bench.commands import OUTLAST, outlast
from bench.database import forget
from bench.figures import Figure
from outlast.sources.postgres.server import EmbeddedServer

TIMES = 7
SLOWER_MAX = 1.1
CLIENTS = 4
SECONDS = 6


def measure(server: EmbeddedServer, folder: Path, share: float = 1.0) -> list[Figure]:
    """In a database and a project of their own."""
    home = folder / "latency"
    home.mkdir()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE latency")
    url = server.url("latency")
    _pgbench(server, url, "-i", "-q", "-s", str(max(2, int(10 * share))), "--foreign-keys")
    outlast(home, "init", url, "--tenant-table", "pgbench_branches")
    outlast(home, "follow", "--setup", "--execute", "--accept-unbounded-wal")
    outlast(home, "follow", "--until-current")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_create_logical_replication_slot('bare', 'pgoutput')")
    seconds = max(3, int(SECONDS * share))
    with _bare(server, url):
        rate = _tps(_pgbench(server, url, "-c", str(CLIENTS), "-T", str(seconds))) / 2
    bare: list[float] = []
    followed: list[float] = []
    for number in range(TIMES):
        with _bare(server, url):
            bare.append(_p95(server, url, rate, seconds, home, f"bare{number}"))
        with psycopg.connect(url, autocommit=True) as connection:  # follow reads what was written meanwhile apart
            connection.execute("SELECT pg_replication_slot_advance('bare', pg_current_wal_flush_lsn())")
        outlast(home, "follow", "--until-current")
        with _follow(home, url):
            followed.append(_p95(server, url, rate, seconds, home, f"follow{number}"))
    forget(server, "latency")
    base, ours = statistics.median(bare), statistics.median(followed)
    return [
        Figure(
            "p95 latency of pgbench at half its maximum, with follow / with a bare slot",
            f"{ours / base:.2f}",
            f"{SLOWER_MAX:.2f}",
            ours / base <= SLOWER_MAX,
            f"medians of {TIMES} runs of {seconds} s in turn, {CLIENTS} clients, {rate:,.0f} transactions a second of "
            f"three updates and an insert: {ours / 1000:.2f} ms, and {base / 1000:.2f} ms with pg_recvlogical at the "
            "slot. Server, pgbench and follow share the cores.",
        )
    ]


def _pgbench(server: EmbeddedServer, url: str, *arguments: str) -> str:
    done = subprocess.run(
        [str(server.binaries / "pgbench"), *arguments, url], check=True, capture_output=True, text=True
    )
    return done.stdout


def _tps(told: str) -> float:
    (line,) = [line for line in told.splitlines() if line.startswith("tps =")]
    return float(line.split()[2])


def _p95(server: EmbeddedServer, url: str, rate: float, seconds: int, home: Path, name: str) -> float:
    """Microseconds from when a transaction was due until it was committed."""
    prefix = home / name
    limits = ("-c", str(CLIENTS), "-T", str(seconds), "-R", f"{rate:.0f}")
    _pgbench(server, url, *limits, "-l", f"--log-prefix={prefix}")
    latencies: list[int] = []
    for file in home.glob(f"{name}.*"):
        latencies += [int(line.split()[2]) for line in file.read_text().splitlines()]
        file.unlink()
    return sorted(latencies)[int(len(latencies) * 0.95)]


@contextmanager
def _bare(server: EmbeddedServer, url: str) -> Iterator[None]:
    command = [str(server.binaries / "pg_recvlogical"), "-d", url, "--slot", "bare", "--start", "-f", os.devnull]
    for option in ("proto_version=2", "publication_names=outlast_main,outlast_main_partial", "streaming=on"):
        command += ["-o", option]
    with _beside(command, Path("/"), url, "bare"):
        yield


@contextmanager
def _follow(home: Path, url: str) -> Iterator[None]:
    with _beside([OUTLAST, "follow"], home, url, None):
        yield


@contextmanager
def _beside(command: list[str], home: Path, url: str, slot: str | None) -> Iterator[None]:
    """A reader of a slot (None: any but the bare one) that has begun to read, ended with the block."""
    process = subprocess.Popen(command, cwd=home, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with psycopg.connect(url, autocommit=True) as connection:
            query = "SELECT 1 FROM pg_replication_slots WHERE active AND (slot_name = 'bare') = %s"
            deadline = time.monotonic() + 60
            while connection.execute(query, [slot is not None]).fetchone() is None:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} did not begin to read")
                time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(60)
