"""The route map: by which tenant, or by which other row, every row finds its owner. One SQLite file on this host.

A DELETE carries a key and nothing else, so what it belongs to has to be known. An *id* is 16 bytes: the number of a
*space* (a table and some of its columns) and a BLAKE2b hash, under the host key, of the values in them; no key stands
in the clear. A *route* is what an id leads to: a tenant's number, or the id of a parent row, so that a parent that
moves takes its subtree along without a change here.

The map changes in memory (`put`, `remove`), and on disk in `commit` only, together with the checkpoint that says up to
which position of the log it holds. What memory cannot hold of one transaction is spilled aside and thrown away after a
crash. How changes find their ids is routing.py's.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from outlast.core.errors import BugError, OutlastError
from outlast.state.local import HostKey

Route = int | bytes
"""A tenant's number, or bytes: a parent's id, or a route that `aliased` made, with ids of the same row behind it."""

ORPHAN_NUMBER, SHARED_NUMBER, RESERVED_MAX = 0, 1, 2

ID_BYTES = 16
_HASH_BYTES = 14
_SPACES_MAX = 0xFFFE
_NUMBER = b"\xff\xff"  # where a space's number would stand in an aliased route: a tenant's number follows

_CACHE_MAX = 120_000
_FETCH = 400
_DEPTH_MAX = 32

_SCHEMA = """
CREATE TABLE IF NOT EXISTS route (id BLOB PRIMARY KEY, route NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dangling (id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS space (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS tenant (number INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE, sealed BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS note (name TEXT PRIMARY KEY, sealed BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spilled (id BLOB PRIMARY KEY, route, gone) WITHOUT ROWID;
"""


class _Missing:
    """Not in memory; None there means: known to be absent."""


_MISSING = _Missing()
_Known = Route | None | _Missing


def aliased(route: Route, aliases: Sequence[bytes]) -> bytes:
    """A route that remembers the row's other ids, which a DELETE by key could not tell."""
    head = route[:ID_BYTES] if isinstance(route, bytes) else _NUMBER + route.to_bytes(_HASH_BYTES, "big")
    return head + b"".join(aliases)


def aliases_of(route: Route) -> list[bytes]:
    if isinstance(route, int):
        return []
    return [route[at : at + ID_BYTES] for at in range(ID_BYTES, len(route), ID_BYTES)]


def plain(route: Route) -> Route:
    """The route without the row's other ids."""
    if isinstance(route, int):
        return route
    return int.from_bytes(route[2:ID_BYTES], "big") if route.startswith(_NUMBER) else route[:ID_BYTES]


class Space:
    """A table and some of its columns. `id_of` makes the id of one row's values in them."""

    __slots__ = ("_base", "_head", "number")

    def __init__(self, number: int, key: bytes) -> None:
        self.number = number
        self._head = number.to_bytes(2, "big")
        self._base = hashlib.blake2b(self._head, key=key, digest_size=_HASH_BYTES)

    def id_of(self, values: Sequence[bytes]) -> bytes:
        if len(values) == 1:
            return self.id_of_one(values[0])
        return self.id_of_one(b"".join([len(value).to_bytes(4, "big") + value for value in values]))

    def id_of_one(self, value: bytes) -> bytes:
        hashed = self._base.copy()
        hashed.update(value)
        return self._head + hashed.digest()


class RouteMap:
    """Routes by id. Not safe for several threads."""

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
        self._young: dict[bytes, Route | None] = {}
        self._old: dict[bytes, Route | None] = {}
        self._dirty: dict[bytes, Route | None] = {}
        self._gone: dict[bytes, Route] = {}
        self._dangling: dict[bytes, bool] = {}
        self._ends: dict[bytes, int] = {}  # the tenant at the end of a path, by every id on it, while that path holds
        self._wiped: set[int] = set()
        self._spilled = False
        self._waiting = self._ids("SELECT id FROM dangling")

    def close(self) -> None:
        self._connection.close()

    @property
    def unsaved(self) -> int:
        """How many changes wait in memory for `commit` or `spill`."""
        return len(self._dirty) + len(self._gone)

    def space(self, table: str, columns: Sequence[str]) -> Space:
        """The space of a table's columns, numbered when it is first asked for."""
        name = self._host_key.name(json.dumps([table, *columns]))
        row = self._one("SELECT number FROM space WHERE name = ?", name)
        if row is None:
            (last,) = self._one("SELECT coalesce(max(number), 0) FROM space") or (0,)
            if last >= _SPACES_MAX:
                raise BugError("the route map has no number left for another key")
            self._run("INSERT INTO space VALUES (?, ?)", last + 1, name)
            row = (last + 1,)
        return Space(int(row[0]), self._key)

    def get(self, id_: bytes) -> Route | None:
        """The route of a row that is there, or None."""
        found: _Known = self._young.get(id_, _MISSING)
        if not isinstance(found, _Missing):
            return found
        found = self._old.get(id_, _MISSING)
        if isinstance(found, _Missing):
            found = self._dirty.get(id_, _MISSING)
        if isinstance(found, _Missing):
            self._load([id_])
            return self._young.get(id_)
        self._remember(id_, found)
        return found

    def tenant_of(self, route: Route) -> int:
        """The number of the tenant at the end of a route. A parent that was deleted counts to the end of its
        transaction; one that is not there at all makes the row an orphan."""
        if isinstance(route, int):
            return route
        known = self._ends.get(route)
        if known is not None:
            return known
        path: list[bytes] = []
        for _ in range(_DEPTH_MAX):
            route = plain(route)
            if isinstance(route, int):
                if route != ORPHAN_NUMBER:
                    self._ends.update(dict.fromkeys(path, route))
                return route
            id_ = route
            path.append(id_)
            found = self.get(id_)
            if found is None:
                found = self._gone_route(id_)
            if found is None:
                return ORPHAN_NUMBER
            route = found
        raise BugError("the route map leads in a circle")

    def put(self, id_: bytes, route: Route) -> None:
        self._dirty[id_] = route
        self._young[id_] = route
        if id_ in self._ends:
            self._ends.clear()

    def remove(self, id_: bytes, *, leads: Route | None = None) -> None:
        """The row is gone. What points at it still finds its tenant (by `leads`) until the transaction ends."""
        self._dirty[id_] = None
        self._young[id_] = None
        if id_ in self._ends:
            self._ends.clear()
        if leads is not None:
            self._gone[id_] = leads

    def gone(self, id_: bytes) -> Route | None:
        """Where a row led that this transaction deleted."""
        return self._gone_route(id_)

    def wipe(self, spaces: Iterable[Space]) -> None:
        """Every row of these spaces is gone (TRUNCATE)."""
        self._ends.clear()
        for space in spaces:
            head = space.number.to_bytes(2, "big")
            self._wiped.add(space.number)
            for held in (self._young, self._old, self._dirty):
                for id_ in [id_ for id_ in held if id_.startswith(head)]:
                    del held[id_]
            if self._spilled:
                self._run("DELETE FROM spilled WHERE id >= ? AND id < ?", *_range(space.number))

    def await_parent(self, id_: bytes) -> None:
        """A row points at this id, and there is no such row yet: it is an orphan until there is."""
        if id_ not in self._waiting:
            self._waiting.add(id_)
            self._dangling[id_] = True

    def is_awaited(self, id_: bytes) -> bool:
        return bool(self._waiting) and id_ in self._waiting

    def arrived(self, id_: bytes) -> None:
        self._waiting.discard(id_)
        self._dangling[id_] = False

    def fetch(self, ids: Iterable[bytes]) -> None:
        """Load these routes, and what they lead to, in a few statements."""
        wanted = set(ids).difference(self._young).difference(self._old).difference(self._dirty)
        for _ in range(_DEPTH_MAX):
            if not wanted:
                return
            self._load(sorted(wanted))
            parents = {
                route[:ID_BYTES]
                for id_ in wanted
                if isinstance(route := self._young.get(id_), bytes) and not route.startswith(_NUMBER)
            }
            wanted = parents.difference(self._young).difference(self._old).difference(self._dirty)

    def end_transaction(self) -> None:
        """Deleted parents count no longer."""
        if self._gone or self._spilled or len(self._ends) > _CACHE_MAX:
            self._ends.clear()
            self._gone.clear()
        if len(self._young) >= _CACHE_MAX:
            self._old, self._young = self._young, {}

    def spill(self) -> None:
        """Take what a long transaction changed out of memory, without making it count."""
        rows: dict[bytes, tuple[Route | None, Route | None]] = {
            id_: (route, None) for id_, route in self._dirty.items()
        }
        for id_, route in self._gone.items():
            rows[id_] = (self._dirty.get(id_), route)
        self._begin()
        self._many("INSERT OR REPLACE INTO spilled VALUES (?, ?, ?)", [(id_, *rows[id_]) for id_ in sorted(rows)])
        self._run("COMMIT")
        self._spilled = True
        self._ends.clear()
        self._dirty.clear()
        self._gone.clear()
        self._old, self._young = {}, {}

    def commit(self, notes: Mapping[str, Mapping[str, Any]]) -> None:
        """Make everything since the last commit count, and set the notes with it, in one transaction on disk."""
        self._begin()
        try:
            for number in sorted(self._wiped):
                self._run("DELETE FROM route WHERE id >= ? AND id < ?", *_range(number))
            if self._spilled:
                self._run(
                    "INSERT OR REPLACE INTO route SELECT id, route FROM spilled WHERE route IS NOT NULL ORDER BY id"
                )
                self._run("DELETE FROM route WHERE id IN (SELECT id FROM spilled WHERE route IS NULL)")
                self._run("DELETE FROM spilled")
            changed = sorted((id_, route) for id_, route in self._dirty.items() if route is not None)
            self._many("INSERT OR REPLACE INTO route VALUES (?, ?)", changed)
            self._many("DELETE FROM route WHERE id = ?", sorted((id_,) for id_, r in self._dirty.items() if r is None))
            added = [(id_,) for id_, waits in self._dangling.items() if waits]
            self._many("INSERT OR REPLACE INTO dangling VALUES (?)", added)
            self._many("DELETE FROM dangling WHERE id = ?", [(i,) for i, waits in self._dangling.items() if not waits])
            self._put_notes(notes)
            self._run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        if self._spilled:
            self._ends.clear()
        self._dirty.clear()
        self._dangling.clear()
        self._wiped.clear()
        self._spilled = False

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
        self._begin()
        self._put_notes(notes)
        self._run("COMMIT")

    def clear(self) -> None:
        """Forget every route, tenant and note: another epoch begins."""
        self._begin()
        for table in ("route", "dangling", "space", "tenant", "note", "spilled"):
            self._run(f"DELETE FROM {table}")  # noqa: S608 - names of ours
        self._run("COMMIT")
        for held in (self._young, self._old, self._dirty, self._gone, self._dangling, self._ends):
            held.clear()
        self._wiped.clear()
        self._waiting.clear()
        self._spilled = False

    def seed(self, spaces: Iterable[Space], parts: Iterable[Iterable[tuple[bytes, Route]]]) -> None:
        """Replace all routes of these spaces. `parts` come in id order, so that the tree on disk is appended to."""
        spaces = list(spaces)
        self._ends.clear()
        self._begin()
        try:
            for space in spaces:
                self._run("DELETE FROM route WHERE id >= ? AND id < ?", *_range(space.number))
                self._run("DELETE FROM spilled WHERE id >= ? AND id < ?", *_range(space.number))
            for part in parts:
                self._many("INSERT OR REPLACE INTO route VALUES (?, ?)", part)
            self._run("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        numbers = {space.number for space in spaces}
        self._wiped -= numbers  # by a TRUNCATE that the new routes are later than
        for held in (self._young, self._old, self._dirty):
            for id_ in [id_ for id_ in held if int.from_bytes(id_[:2], "big") in numbers]:
                del held[id_]

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
        self._begin()
        self._many("INSERT OR REPLACE INTO tenant VALUES (?, ?, ?)", rows)
        self._run("COMMIT")

    def _put_notes(self, notes: Mapping[str, Mapping[str, Any]]) -> None:
        sealed = [
            (name, self._host_key.seal(json.dumps(note).encode(), b"note " + name.encode()))
            for name, note in notes.items()
        ]
        self._many("INSERT OR REPLACE INTO note VALUES (?, ?)", sealed)

    def _gone_route(self, id_: bytes) -> Route | None:
        found = self._gone.get(id_)
        if found is None and self._spilled:
            row = self._one("SELECT gone FROM spilled WHERE id = ?", id_)
            return None if row is None else row[0]
        return found

    def _remember(self, id_: bytes, route: Route | None) -> None:
        self._young[id_] = route

    def _load(self, ids: Sequence[bytes]) -> None:
        young, dirty = self._young, self._dirty
        for at in range(0, len(ids), _FETCH):
            part = ids[at : at + _FETCH]
            marks = ",".join("?" * len(part))
            found = dict(self._all(f"SELECT id, route FROM route WHERE id IN ({marks})", part))  # noqa: S608
            if self._wiped:
                found = {i: route for i, route in found.items() if int.from_bytes(i[:2], "big") not in self._wiped}
            if self._spilled:
                found |= dict(self._all(f"SELECT id, route FROM spilled WHERE id IN ({marks})", part))  # noqa: S608
            young.update(dict.fromkeys(part))
            young.update(found)
            if dirty:
                young.update({id_: dirty[id_] for id_ in part if id_ in dirty})

    def _ids(self, query: str) -> set[bytes]:
        return {row[0] for row in self._all(query, ())}

    def _begin(self) -> None:
        self._run("BEGIN IMMEDIATE")

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
        return OutlastError(
            f"cannot use the route map {self._path}: {error}",
            hint="It can be removed: `outlast follow` then begins anew, with a backup of everything.",
            code="state",
        )


def _range(number: int) -> tuple[bytes, bytes]:
    return number.to_bytes(2, "big"), (number + 1).to_bytes(2, "big")
