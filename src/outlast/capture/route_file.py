"""The route map's file: one SQLite database on this host, and what is kept in it beside the routes themselves.

That is the numbers of spaces, the tenants by number (numbering.py), and notes, which say among other things up to which
position of the log all of it holds. What of the routes counts, and when, is route_map.py's.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from outlast import disk
from outlast.capture.route_ids import SPACES_MAX, Route, Space, bounds
from outlast.core.errors import BugError, OutlastError
from outlast.state.local import HostKey

_ASKED_AT_ONCE = 400

_SCHEMA = """
CREATE TABLE IF NOT EXISTS route (id BLOB PRIMARY KEY, route NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dangling (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS space (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS tenant (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spilled (id BLOB PRIMARY KEY, route, gone) WITHOUT ROWID;
"""


class RouteFile:
    """The database file. Not safe for several threads."""

    def __init__(self, path: Path, host_key: HostKey) -> None:
        self._path = path
        self._host_key = host_key
        self._key = host_key.name("outlast routes")
        try:
            self._connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "cache_size = -32000"):
                self._connection.execute(f"PRAGMA {pragma}")
            self._connection.executescript(_SCHEMA)
            self._connection.execute("DELETE FROM spilled")
        except sqlite3.Error as error:
            raise self._unusable(error) from error
        path.chmod(0o600)

    def close(self) -> None:
        self._connection.close()

    def space(self, table: str, columns: Sequence[str]) -> Space:
        """The space of a table's columns, numbered when it is first asked for."""
        name = self._host_key.name(json.dumps([table, *columns]))
        row = self._one("SELECT number FROM space WHERE name = ?", name)
        if row is None:
            (last,) = self._one("SELECT coalesce(max(number), 0) FROM space") or (0,)
            if last >= SPACES_MAX:
                raise BugError("the route map has no number left for another key")
            self._run("INSERT INTO space VALUES (?, ?)", last + 1, name)
            row = (last + 1,)
        return Space(int(row[0]), self._key)

    # Notes -------------------------------------------------------------------------------------------------------

    def note(self, name: str) -> dict[str, Any]:
        """What was noted with the last commit; empty where nothing was."""
        row = self._one("SELECT sealed FROM note WHERE name = ?", name)
        if row is None:
            return {}
        found = json.loads(self._host_key.open(row[0], b"note " + name.encode()))
        assert isinstance(found, dict)
        return found

    def keep(self, notes: Mapping[str, Mapping[str, Any]]) -> None:
        """Set notes at once, before the next commit."""
        with self._transaction():
            self._put_notes(notes)

    def _put_notes(self, notes: Mapping[str, Mapping[str, Any]]) -> None:
        sealed = [
            (name, self._host_key.seal(json.dumps(note).encode(), b"note " + name.encode()))
            for name, note in notes.items()
        ]
        self._many("INSERT OR REPLACE INTO note VALUES (?, ?)", sealed)

    # Tenants -----------------------------------------------------------------------------------------------------

    def tenant_rows(self) -> Iterator[tuple[int, bytes]]:
        """Every tenant's number and sealed description; see numbering.py."""
        with closing(self._connection.execute("SELECT number, sealed FROM tenant ORDER BY number")) as rows:
            yield from rows

    def find_tenant(self, name: bytes) -> tuple[int, bytes] | None:
        row = self._one("SELECT number, sealed FROM tenant WHERE name = ?", name)
        return None if row is None else (int(row[0]), bytes(row[1]))

    def tenant_row(self, number: int) -> bytes | None:
        row = self._one("SELECT sealed FROM tenant WHERE number = ?", number)
        return None if row is None else row[0]

    def last_tenant(self) -> int:
        return int((self._one("SELECT coalesce(max(number), 2) FROM tenant") or (2,))[0])

    def put_tenants(self, rows: Sequence[tuple[int, bytes, bytes]]) -> None:
        """Number tenants. It may stand before the log does: a number that is not used does no harm."""
        with self._transaction():
            self._many("INSERT OR REPLACE INTO tenant VALUES (?, ?, ?)", rows)

    # Routes ------------------------------------------------------------------------------------------------------

    @property
    def size_bytes(self) -> int:
        return self._path.stat().st_size

    def _every_route(self) -> Iterator[tuple[bytes, Route]]:
        with closing(self._connection.execute("SELECT id, route FROM route")) as rows:
            yield from rows

    def stored(self, ids: Sequence[bytes]) -> dict[bytes, Route]:
        """What is on disk of these ids (sorted saves half of the work). A hook for who keeps routes elsewhere."""
        found: dict[bytes, Route] = {}
        for at in range(0, len(ids), _ASKED_AT_ONCE):
            part = ids[at : at + _ASKED_AT_ONCE]
            found.update(self._all(f"SELECT id, route FROM route WHERE id IN ({_marks(part)})", part))  # noqa: S608
        return found

    def _spilled_routes(self, ids: Sequence[bytes]) -> Iterator[dict[bytes, Route | None]]:
        for at in range(0, len(ids), _ASKED_AT_ONCE):
            part = ids[at : at + _ASKED_AT_ONCE]
            yield dict(self._all(f"SELECT id, route FROM spilled WHERE id IN ({_marks(part)})", part))  # noqa: S608

    def _replace(self, routes: Iterable[tuple[bytes, Route]]) -> None:
        self._many("INSERT OR REPLACE INTO route VALUES (?, ?)", routes)

    def _empty(self, table: str, number: int) -> None:
        """Delete what a space has in `route` or `spilled`."""
        self._run(f"DELETE FROM {table} WHERE id >= ? AND id < ?", *bounds(number))  # noqa: S608 - names of ours

    def _forget_everything(self) -> None:
        with self._transaction():
            for table in ("route", "dangling", "space", "tenant", "note", "spilled"):
                self._run(f"DELETE FROM {table}")  # noqa: S608 - names of ours

    # The connection ----------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._run("BEGIN IMMEDIATE")
        try:
            yield
            self._run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _one(self, query: str, *values: object) -> Any:
        return self._call(lambda: self._connection.execute(query, values).fetchone())

    def _all(self, query: str, values: Sequence[object]) -> list[Any]:
        return self._call(lambda: self._connection.execute(query, values).fetchall())  # type: ignore[no-any-return]

    def _run(self, query: str, *values: object) -> None:
        self._call(lambda: self._connection.execute(query, values))

    def _many(self, query: str, rows: Iterable[Sequence[object]]) -> None:
        self._call(lambda: self._connection.executemany(query, rows))

    def _call(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _unusable(self, error: sqlite3.Error) -> OutlastError:
        what, hint = disk.told(
            self._path, error, "It can be removed: `outlast follow` then begins anew, with a backup of everything."
        )
        return OutlastError(f"cannot use the route map {self._path}: {what}", hint=hint, code="state")


def _marks(values: Sequence[object]) -> str:
    return ",".join("?" * len(values))
