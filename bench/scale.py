"""883 of very many tenants, destroyed by one script and put back into the live tables, planned, undoable and proven.

Against the raw COPY of the same rows into the same indexed tables, against the way people do it today (restore
everything beside, copy the 883 over), and against the same 883 in a database ten times smaller.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from bench import crowd
from bench.commands import outlast, run
from bench.figures import Figure
from outlast.sources.postgres.server import EmbeddedServer

TIMES = 3
COPY_MAX = 2.5
SMALLER = 10
SMALLER_MIN = 0.7

_DESTROY = (
    "DELETE FROM comments USING items i WHERE i.id = item_id AND i.account_id = ANY(%s)",
    "DELETE FROM items WHERE account_id = ANY(%s)",
    "DELETE FROM projects WHERE account_id = ANY(%s)",
    "DELETE FROM users WHERE account_id = ANY(%s)",
    "DELETE FROM accounts WHERE id = ANY(%s)",
)


@dataclass(frozen=True)
class Crowd:
    """A database of very many tenants with a project that has backed it up. `kept` are the victims' rows, by table."""

    server: EmbeddedServer
    name: str
    folder: Path
    tenants: int
    rows: int
    kept: dict[str, bytes]

    @property
    def url(self) -> str:
        return self.server.url(self.name)

    @property
    def kept_rows(self) -> int:
        return sum(data.count(b"\n") for data in self.kept.values())

    def destroy(self) -> None:
        """What the script did. A checkpoint afterwards, so that nobody pays for it later."""
        with psycopg.connect(self.url) as connection:
            for statement in _DESTROY:
                connection.execute(statement.encode(), [crowd.victims()])
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    def copied(self) -> float:
        """Seconds of the raw COPY of what was destroyed."""
        with psycopg.connect(self.url) as connection:
            started = time.monotonic()
            _copy_in(connection, self.kept)
            connection.commit()
            return time.monotonic() - started

    def restored(self) -> float:
        """Seconds of the whole command."""
        done = outlast(self.folder, "restore", "--tenants-file", "victims.txt", "--execute")
        states = {one["state"] for one in done.output["tenants"]}
        assert states == {"done"}, states
        assert all(one["exact"] for one in done.output["tenants"])
        return done.seconds

    def fingerprint(self) -> list[object]:
        """Of all rows of everybody."""
        with psycopg.connect(self.url) as connection:
            return [
                connection.execute(
                    f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM {table} t".encode()
                ).fetchone()
                for table in crowd.TABLES
            ]


@contextmanager
def crowded(server: EmbeddedServer, folder: Path, tenants: int) -> Iterator[Crowd]:
    name = f"crowd_{tenants}"
    project = folder / name
    project.mkdir()
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    rows = crowd.build(server.url(name), tenants)
    (project / "victims.txt").write_text("".join(f"tenant-{number}\n" for number in crowd.victims()))
    outlast(project, "init", server.url(name), "--tenant-table", "accounts", "--tenant-label", "name")
    outlast(project, "backup")
    yield Crowd(server, name, project, tenants, rows, _copy_out(server.url(name)))
    with psycopg.connect(server.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name}".encode())


@dataclass(frozen=True)
class Taken:
    """Seconds of each of several runs, taken in turn: the raw COPY, the restore, and the restore in the small one."""

    copies: list[float]
    restores: list[float]
    smaller: list[float]


def measure(server: EmbeddedServer, folder: Path, tenants: int) -> list[Figure]:
    """`tenants` of the large database; at least 200,000 for a figure that counts."""
    with crowded(server, folder, tenants) as large, crowded(server, folder, max(20_000, tenants // SMALLER)) as small:
        before = large.fingerprint()
        taken = in_turn(large, small)
        assert large.fingerprint() == before, "somebody's rows are not what they were"
        return figures(large, small, taken, beside(large, folder))


def in_turn(large: Crowd, small: Crowd) -> Taken:
    taken = Taken([], [], [])
    for _ in range(TIMES):
        large.destroy()
        taken.copies.append(large.copied())
        large.destroy()
        taken.restores.append(large.restored())
        small.destroy()
        taken.smaller.append(small.restored())
    return taken


def figures(large: Crowd, small: Crowd, taken: Taken, today: float) -> list[Figure]:
    """`today` is what the way of today takes."""
    print(f"{taken}, today {today}", file=sys.stderr)
    ours, raw = statistics.median(taken.restores), statistics.median(taken.copies)
    less = statistics.median(taken.smaller)
    what = f"{crowd.VICTIMS} of {large.tenants:,} tenants ({large.kept_rows:,} of {large.rows:,} rows)"
    return [
        Figure(
            f"{what} restored / raw COPY of their rows",
            f"{ours / raw:.2f}",
            f"{COPY_MAX}",
            ours / raw <= COPY_MAX,
            f"medians of {TIMES}, taken in turn: {ours:.1f} s and {raw:.1f} s; the whole command, start-up, plans, "
            "before-images and proofs included; the COPY goes into the same indexed tables. The rows of everybody "
            "are the same afterwards.",
        ),
        Figure(
            f"the same {crowd.VICTIMS} in a database {large.tenants / small.tenants:.0f} times smaller",
            f"{less / ours:.2f}",
            f"at least {SMALLER_MIN}",
            less / ours >= SMALLER_MIN,
            f"{less:.1f} s of {ours:.1f} s, medians of {TIMES} taken in turn: time follows the tenants that are "
            "restored, not all of them.",
        ),
        Figure(
            f"{crowd.VICTIMS} restored / everything restored beside and copied over",
            f"{ours / today:.2f}",
            "1",
            ours < today,
            f"{ours:.1f} s of {today:.1f} s: pg_restore -j2 of a dump at hand into a new database, then COPY "
            f"of the {crowd.VICTIMS} from there; a single run.",
        ),
    ]


def beside(large: Crowd, folder: Path) -> float:
    """The way of today; the dump is made before the clock starts."""
    dump, beside = folder / "dump", f"{large.name}_beside"
    binaries = large.server.binaries
    run([str(binaries / "pg_dump"), "-Fd", "-j2", "-f", str(dump), large.url], folder)
    large.destroy()
    started = time.monotonic()
    with psycopg.connect(large.server.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {beside}".encode())
    run([str(binaries / "pg_restore"), "-j2", "-d", large.server.url(beside), str(dump)], folder)
    rows = _copy_out(large.server.url(beside))
    with psycopg.connect(large.url) as connection:
        _copy_in(connection, rows)
        connection.commit()
    seconds = time.monotonic() - started
    assert rows == large.kept
    with psycopg.connect(large.server.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {beside}".encode())
    return seconds


def _copy_out(url: str) -> dict[str, bytes]:
    keys = f"ARRAY{crowd.victims()}::bigint[]"
    found = {}
    with psycopg.connect(url) as connection:
        for table, query in crowd.ROWS.items():
            with connection.cursor().copy(f"COPY ({query.format(keys)} ORDER BY 1) TO STDOUT".encode()) as copy:
                found[table] = b"".join(bytes(part) for part in copy)
    return found


def _copy_in(connection: psycopg.Connection, rows: dict[str, bytes]) -> None:
    for table, data in rows.items():
        with connection.cursor().copy(f"COPY {table} FROM STDIN".encode()) as copy:
            copy.write(data)
