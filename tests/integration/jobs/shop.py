"""A shop of many small tenants, backed up, all but a few of them destroyed: what jobs are tried on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.commands import Outlast

_SCHEMA = """
CREATE TABLE accounts (id int PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE items (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, code text UNIQUE NOT NULL);
CREATE TABLE comments (id int PRIMARY KEY, item_id int NOT NULL REFERENCES items, body text);
CREATE INDEX ON items (account_id);
CREATE INDEX ON comments (item_id);
"""

WAIT_S = 120.0


@dataclass(frozen=True)
class Shop:
    """`tenants` were destroyed, five rows each and more; three others live on."""

    outlast: Outlast
    url: str
    tenants: int
    whole: dict[str, list[tuple[Any, ...]]]

    @property
    def names(self) -> str:
        """A file for --tenants-file."""
        return str(self.outlast.folder / "tenants.txt")

    def rows(self) -> dict[str, list[tuple[Any, ...]]]:
        return rows_of(self.url)

    def check(self) -> None:
        """Every tenant is exactly what it was, and so is everybody else."""
        assert self.rows() == self.whole

    def check_no_halves(self) -> None:
        """Each tenant is whole or still gone."""
        now = {table: set(rows) for table, rows in self.rows().items()}
        for table, rows in self.whole.items():
            assert now[table] <= set(rows)
        there = {row[0] for row in now["accounts"]}
        assert now["items"] == {row for row in self.whole["items"] if row[1] in there}

    def restored(self) -> int:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT count(*) FROM accounts WHERE id <= %s", [self.tenants]).fetchone()
            assert row is not None
            return int(row[0])

    def destroy(self) -> None:
        destroy(self.url, self.tenants)

    def configure(self, text: str) -> None:
        with (self.outlast.folder / "outlast.toml").open("a") as file:
            file.write(f"\n{text}\n")

    def jobs(self) -> list[dict[str, Any]]:
        found = self.outlast.done("--json", "jobs").json["jobs"]
        assert isinstance(found, list)
        return found

    def shown(self, job: str) -> dict[str, Any]:
        return dict(json.loads(self.outlast("--json", "jobs", "show", job).stdout))


def make(outlast: Outlast, url: str, tenants: int) -> Shop:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_SCHEMA.encode())
        connection.execute(
            "INSERT INTO accounts SELECT n, 'tenant-' || n FROM generate_series(1, %s::int) n", [tenants + 3]
        )
        connection.execute(
            "INSERT INTO items SELECT a * 100 + k, a, 'code-' || (a * 100 + k)"
            " FROM generate_series(1, %s::int) a, generate_series(1, 3 + a %% 5) k",
            [tenants + 3],
        )
        connection.execute("INSERT INTO comments SELECT id, id, 'about ' || code FROM items WHERE id % 2 = 0")
        connection.execute("ANALYZE")
    outlast.done("init", url, "--tenant-table", "accounts", "--tenant-label", "name")
    outlast.done("backup")
    shop = Shop(outlast, url, tenants, rows_of(url))
    Path(shop.names).write_text("".join(f"tenant-{number}\n" for number in range(1, tenants + 1)))
    shop.destroy()
    return shop


def rows_of(url: str) -> dict[str, list[tuple[Any, ...]]]:
    with psycopg.connect(url) as connection:
        return {
            table: connection.execute(f"SELECT * FROM {table} ORDER BY 1".encode()).fetchall()
            for table in ("accounts", "items", "comments")
        }


def destroy(url: str, tenants: int) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM comments USING items i WHERE i.id = item_id AND i.account_id <= %s", [tenants])
        connection.execute("DELETE FROM items WHERE account_id <= %s", [tenants])
        connection.execute("DELETE FROM accounts WHERE id <= %s", [tenants])


@contextmanager
def held(url: str, tenant: int) -> Iterator[None]:
    """While this lasts a restore that comes to this tenant waits: somebody is inserting its row."""
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO accounts VALUES (%s, 'held')", [tenant])
        yield
        connection.rollback()


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {WAIT_S:.0f} s for {what}"
        time.sleep(0.02)


def is_waiting(url: str) -> bool:
    """Whether a restore waits for a lock."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'outlast restore'"
            " AND datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
        return row is not None and row[0] > 0
