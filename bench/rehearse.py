"""A rehearsal: its copy against pg_restore -j2 of the same database, and what seeing the effect costs the script.

The anchor restores into a server as the copy's is while it is built, so that both pay for the same durability: none.
"""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from typing import Any

import psycopg

from bench.commands import outlast, run, side_by_side
from bench.figures import Figure
from outlast.rehearsal.copy import SERVING, building
from outlast.sources.postgres.server import EmbeddedServer, embedded, embedded_folder, serving, stop

TIMES = 3
COPY_MAX = 1.2
CAPTURE_MAX = 1.5
SECOND_MAX_S = 5.0
BUILDING_STEPS = ("server", "schema", "rows", "indexes", "instruments", "stop")

_HEADER = """\
-- outlast: why to see what seeing costs
-- outlast: tenants all
-- outlast: effect public.items update(state, updated_at) rows=1..1000000
-- outlast: effect public.comments hard-delete rows=1..1000000
-- outlast: effect public.comments insert rows=20000
-- outlast: undo waived by=bench reason=nobody misses it
"""
_STATEMENTS = """\
UPDATE items SET state = 'closed', updated_at = now() WHERE id % 20 = 3;
DELETE FROM comments WHERE id % 40 = 7;
INSERT INTO comments SELECT 1000000000 + n, 1 + n, 'script', 'moved' FROM generate_series(1, 20000) n;
"""


def measure(server: EmbeddedServer, url: str, folder: Path) -> list[Figure]:
    """`url` is a database that nobody has backed up yet; a project and a dump are made in `folder`."""
    project, dump = folder / "rehearsed", folder / "rehearsed-dump"
    project.mkdir()
    outlast(project, "init", url, "--tenant-table", "accounts", "--tenant-label", "name")
    outlast(project, "backup")
    run([str(server.binaries / "pg_dump"), "-Fd", "-j2", "-f", str(dump), url], folder)
    (project / "script.sql").write_text(_HEADER + _STATEMENTS)
    built: list[dict[str, float]] = []
    bare: list[float] = []

    def copied() -> float:
        for kept in (project / ".outlast" / "copies").glob("*"):
            kept.unlink()
        built.append(_rehearsed(project)["seconds"])
        return sum(built[-1][step] for step in BUILDING_STEPS)

    def restored() -> float:
        seconds, script = _restored_and_run(dump, project / "script.sql", folder)
        bare.append(script)
        return seconds

    ours, anchor = side_by_side(TIMES, copied, restored)
    again = [_rehearsed(project) for _ in range(TIMES)]
    return _figures(ours, anchor, built, bare, again)


def _rehearsed(project: Path) -> dict[str, Any]:
    return outlast(project, "rehearse", "script.sql").output


def _restored_and_run(dump: Path, script: Path, folder: Path) -> tuple[float, float]:
    """Seconds of pg_restore -j2 into a new server as the copy's is, and of the script on it, its log as the copy's."""
    binaries = embedded_folder()
    assert binaries is not None
    with embedded(building(binaries)) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
        command = [str(server.binaries / "pg_restore"), "-j2", "-d", server.url("shop"), str(dump)]
        seconds = run(command, folder).seconds
        stop(server)
        with (
            serving(server.binaries, server.folder, SERVING) as again,
            psycopg.connect(again.url("shop")) as connection,
        ):
            started = time.monotonic()
            connection.execute(script.read_bytes())
            connection.commit()
            return seconds, time.monotonic() - started


def _figures(
    ours: float,
    anchor: float,
    built: list[dict[str, float]],
    bare: list[float],
    again: list[dict[str, Any]],
) -> list[Figure]:
    steps = {step: median(one[step] for one in built) for step in (*BUILDING_STEPS, "keep")}
    alone, watched = median(bare), median(one["script_seconds"] for one in again)
    seen = median(one["script_seconds"] + one["capture_seconds"] for one in again) / alone
    second = median(one["seconds"]["before the script"] for one in again)
    changes = sum(line["rows"] for line in again[-1]["lines"])
    return [
        Figure(
            "building a rehearsal's copy / pg_restore -j2",
            f"{ours / anchor:.2f}",
            f"{COPY_MAX}",
            ours / anchor <= COPY_MAX,
            f"medians of {TIMES}, into equal servers; initdb and the instruments are in ours. Its steps, in seconds: "
            + ", ".join(f"{step} {taken:.1f}" for step, taken in steps.items())
            + f"; pg_restore {anchor:.1f}. `keep`, which seals the copy for the next rehearsal, is not in the ratio.",
        ),
        Figure(
            "a script while it is watched / the script alone",
            f"{watched / alone:.2f}",
            f"{CAPTURE_MAX}",
            watched / alone <= CAPTURE_MAX,
            f"medians of {TIMES}; an UPDATE, a DELETE and an INSERT of {changes:,} rows in all, on equal servers: "
            f"{watched:.1f} s and {alone:.1f} s. Its log has whole old rows, triggers tell who did what, and its "
            "changes are counted meanwhile on the same two cores.",
        ),
        Figure(
            "the same until its whole effect is known / the script alone",
            f"{seen:.2f}",
            f"{CAPTURE_MAX}",
            seen <= CAPTURE_MAX,
            f"known {median(one['capture_seconds'] for one in again):.1f} s after the script's end: whose each row is, "
            "how it came about, and a digest of it before and after.",
        ),
        Figure(
            "a second rehearsal, until its script begins, in seconds",
            f"{second:.2f}",
            f"{SECOND_MAX_S}",
            second < SECOND_MAX_S,
            f"median of {TIMES}, from the sealed copy that the first one left.",
        ),
    ]
