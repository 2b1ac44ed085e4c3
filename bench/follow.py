"""The change stream, received and assembled, against pg_recvlogical writing the same stream to a file.

Of `follow` this is the part that the server feeds; what the rest of it costs is measured with the whole command.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from bench.figures import Figure
from outlast.core.moment import Lsn
from outlast.sources.postgres.server import EmbeddedServer
from outlast.sources.postgres.session import Target
from outlast.sources.postgres.stream import ChangeStream
from outlast.sources.postgres.transactions import Assembler, Transaction

TIMES = 3
SLOWER_MAX = 1 / 0.7
PUBLICATION = "stream"
_WORK_MEM = "64kB"  # as our own stream sets it

_SETUP = (
    "CREATE TABLE stream (id int PRIMARY KEY, tenant_id int, name text, amount numeric(12,2), at timestamptz, x text)",
    f"CREATE PUBLICATION {PUBLICATION} FOR TABLE stream",
    "SELECT pg_create_logical_replication_slot('stream_origin', 'pgoutput')",
)


def measure(server: EmbeddedServer, folder: Path, scale: float = 1.0) -> list[Figure]:
    """In a database of its own, dropped at the end."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute("CREATE DATABASE stream")
    url = server.url("stream")
    try:
        end, changes = _write(url, scale)
        ours: list[tuple[float, float]] = []
        theirs: list[tuple[float, float]] = []
        for _ in range(TIMES):
            theirs.append(_timed(url, lambda slot: _recvlogical(server, url, slot, end, folder)))
            ours.append(_timed(url, lambda slot: _follow(url, slot, end, changes)))
    finally:
        _clean(server)
    seconds, cpu = map(statistics.median, zip(*ours, strict=True))
    base, base_cpu = map(statistics.median, zip(*theirs, strict=True))
    return [
        Figure(
            "receiving and assembling changes / pg_recvlogical of the same stream",
            f"{seconds / base:.2f}",
            f"{SLOWER_MAX:.2f}",
            seconds / base <= SLOWER_MAX,
            f"medians of {TIMES}; {changes:,} changes in transactions of 1, of 100 and of all rows: "
            f"{changes / seconds:,.0f} a second; processor time, the kernel's included, {cpu / changes * 1e6:.1f} µs "
            f"a change (pg_recvlogical {base_cpu / changes * 1e6:.1f} µs).",
        )
    ]


def _write(url: str, scale: float) -> tuple[str, int]:
    """A mix: one large transaction of inserts, one of updates, many of a hundred updates, many more of one."""
    rows = max(1000, int(200_000 * scale))
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in _SETUP:
            connection.execute(statement.encode())
        connection.execute(
            "INSERT INTO stream SELECT n, n %% 100, md5(n::text), n / 7.0, now(), repeat('x', 60)"
            " FROM generate_series(1, %s) AS n",
            [rows],
        )
        for step in (100, 1):
            last = rows if step > 1 else rows // 10
            connection.execute(
                f"DO $$ BEGIN FOR i IN 0 .. {last // step - 1} LOOP UPDATE stream SET amount = amount + 1"
                f" WHERE id BETWEEN i * {step} + 1 AND (i + 1) * {step}; COMMIT; END LOOP; END $$".encode()
            )
        connection.execute("UPDATE stream SET at = now()")
        row = connection.execute("SELECT pg_current_wal_insert_lsn()::text").fetchone()
        assert row is not None
        connection.execute("CHECKPOINT")  # everything is on disk, and stays out of the measurement
    return row[0], 3 * rows + rows // 10


def _timed(url: str, read: Callable[[str], None]) -> tuple[float, float]:
    """Seconds of wall time and of processor time, on a fresh copy of the slot that nobody has read from."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SELECT pg_copy_logical_replication_slot('stream_origin', 'stream_copy')")
        cpu, begun = _cpu(), time.monotonic()
        read("stream_copy")
        taken = time.monotonic() - begun, _cpu() - cpu
        while connection.execute(
            "SELECT active FROM pg_replication_slots WHERE slot_name = 'stream_copy'"
        ).fetchone() == (True,):
            time.sleep(0.01)
        connection.execute("SELECT pg_drop_replication_slot('stream_copy')")
    return taken


def _cpu() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _recvlogical(server: EmbeddedServer, url: str, slot: str, end: str, folder: Path) -> None:
    file = folder / "recvlogical"
    options = ("proto_version=2", f"publication_names={PUBLICATION}", "streaming=on", "messages=true")
    command = [str(server.binaries / "pg_recvlogical"), "-d", url, "--slot", slot, "--start", "--no-loop"]
    command += ["-E", end, "-f", str(file), *[word for option in options for word in ("-o", option)]]
    environment = {**os.environ, "PGOPTIONS": f"-c logical_decoding_work_mem={_WORK_MEM}"}
    subprocess.run(command, check=True, env=environment)
    file.unlink()


def _follow(url: str, slot: str, end: str, changes: int) -> None:
    seen, last = 0, Lsn.parse(end).value
    with (
        tempfile.TemporaryDirectory() as folder,
        ChangeStream(Target(url), slot, [PUBLICATION], Lsn(0)) as stream,
        Assembler(Path(folder)) as assembler,
    ):
        while assembler.position < last and seen < changes:
            for one in assembler.feed(stream.receive(60)):
                if isinstance(one, Transaction):
                    seen += sum(len(block) for _, block in one.blocks())
    assert seen == changes, f"{seen} of {changes} changes came"


def _clean(server: EmbeddedServer) -> None:
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots"
            " WHERE database = 'stream' AND active_pid IS NOT NULL"
        )
        connection.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = 'stream'"
        )
        connection.execute("DROP DATABASE stream WITH (FORCE)")
