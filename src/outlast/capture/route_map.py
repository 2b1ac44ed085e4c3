"""The route map: by which tenant, or by which other row, every row finds its owner.

A DELETE carries a key and nothing else, so what it belongs to has to be known; route_ids.py says what ids and routes
are, route_file.py keeps them on this host. The map changes in memory (`put`, `remove`), and on disk in `commit` only,
together with the checkpoint that says up to which position of the log it holds. `freeze` parts what the next commit
takes from what comes after it, so that routing goes on while a segment is on its way into the vault. What memory cannot
hold of one transaction is spilled aside and thrown away after a crash. How changes find their ids is routing.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from outlast.capture.route_file import RouteFile
from outlast.capture.route_ids import ID_BYTES, ORPHAN_NUMBER, Route, Space, parent_of, plain, space_number
from outlast.capture.route_pairs import Pairs
from outlast.core.errors import BugError
from outlast.state.local import HostKey

_CACHE_MAX = 60_000
_DEPTH_MAX = 32
_ENTRY_BYTES = 40
"""A route in the file, about."""
_WARM_BYTES_MAX = 128 * 1024 * 1024
"""A file of some three million routes: read in two seconds."""


_ABSENT = b"!"
"""Behind an id among those that are waited for."""


class _Missing:
    """Not in memory; None there means: known to be absent."""


_MISSING = _Missing()
_Known = Route | None | _Missing


class _Layer:
    """What is to count with one commit."""

    __slots__ = ("dangling", "dirty", "spilled", "wiped")

    def __init__(self) -> None:
        self.dirty: dict[bytes, Route | None] = {}
        self.dangling: dict[bytes, bool] = {}
        self.wiped: set[int] = set()
        self.spilled = False


class RouteMap(RouteFile):
    """Routes by id. Not safe for several threads."""

    def __init__(self, path: Path, host_key: HostKey) -> None:
        super().__init__(path, host_key)
        self.pairs = Pairs()
        """What is known to be in the map as it is now."""
        self._young: dict[bytes, Route | None] = {}
        self._old: dict[bytes, Route | None] = {}
        self._now = _Layer()
        self._frozen: _Layer | None = None
        self._gone: dict[bytes, Route] = {}
        self.ends: dict[bytes, int] = {}
        """The tenant at the end of a path, by every id on it, while that path holds. For looking."""
        self._waiting: set[bytes] = {row[0] for row in self._all("SELECT id FROM dangling", ())}

    @property
    def unsaved(self) -> int:
        """How many changes wait in memory for `freeze`, `commit` or `spill`."""
        return len(self._now.dirty) + len(self._gone)

    def warm(self) -> None:
        """Know from the start what the map holds, where that is not too much to read."""
        size_bytes = self.size_bytes
        self.pairs = Pairs.for_rows(size_bytes // _ENTRY_BYTES)
        if size_bytes > _WARM_BYTES_MAX:
            return
        note = self.pairs.note
        for id_, route in self._every_route():
            note(id_, route)

    def get(self, id_: bytes) -> Route | None:
        """The route of a row that is there, or None."""
        found: _Known = self._young.get(id_, _MISSING)
        if not isinstance(found, _Missing):
            return found
        found = self._old.get(id_, _MISSING)
        if isinstance(found, _Missing):
            self._load([id_])
            return self._young.get(id_)
        self._young[id_] = found
        return found

    def tenant_of(self, route: Route) -> int:
        """The number of the tenant at the end of a route. A parent that was deleted counts to the end of its
        transaction; one that is not there at all makes the row an orphan."""
        if isinstance(route, int):
            return route
        known = self.ends.get(route)
        if known is not None:
            return known
        path: list[bytes] = []
        for _ in range(_DEPTH_MAX):
            route = plain(route)
            if isinstance(route, int):
                if route != ORPHAN_NUMBER:
                    self.ends.update(dict.fromkeys(path, route))
                return route
            id_ = route
            path.append(id_)
            found = self.get(id_)
            if found is None:
                found = self.gone(id_)
            if found is None:
                return ORPHAN_NUMBER
            route = found
        raise BugError("the route map leads in a circle")

    def put(self, id_: bytes, route: Route) -> None:
        self._now.dirty[id_] = route
        self._young[id_] = route
        self.pairs.change(id_, route)
        if id_ in self.ends:
            self.ends.clear()

    def remove(self, id_: bytes, *, leads: Route | None = None) -> None:
        """The row is gone. What points at it still finds its tenant (by `leads`) until the transaction ends."""
        self._now.dirty[id_] = None
        self._young[id_] = None
        self.pairs.forget(id_)
        if id_ in self.ends:
            self.ends.clear()
        if leads is not None:
            self._gone[id_] = leads

    def gone(self, id_: bytes) -> Route | None:
        """Where a row led that this transaction deleted."""
        found = self._gone.get(id_)
        if found is None and self._now.spilled:
            row = self._one("SELECT gone FROM spilled WHERE id = ?", id_)
            return None if row is None else row[0]
        return found

    def wipe(self, spaces: Iterable[Space]) -> None:
        """Every row of these spaces is gone (TRUNCATE)."""
        for space in spaces:
            self._now.wiped.add(space.number)
            self._drop_from_memory({space.number})
            if self._now.spilled:
                self._empty("spilled", space.number)

    def await_parent(self, id_: bytes) -> None:
        """A row points at this id, and there is no such row yet: it is an orphan until there is."""
        if id_ not in self._waiting:
            self._waiting.add(id_)
            self._now.dangling[id_] = True

    def is_awaited(self, id_: bytes) -> bool:
        return bool(self._waiting) and id_ in self._waiting

    def is_absent(self, id_: bytes) -> bool:
        """Whether this awaited parent was looked for in the source itself, and was not there."""
        return self.is_awaited(id_ + _ABSENT)

    def arrived(self, id_: bytes) -> None:
        for one in (id_, id_ + _ABSENT):
            if one in self._waiting:
                self._waiting.discard(one)
                self._now.dangling[one] = False

    def fetch(self, ids: Iterable[bytes]) -> None:
        """Load these routes, and what they lead to, in a few statements."""
        wanted = self._not_at_hand(ids)
        for _ in range(_DEPTH_MAX):
            if not wanted:
                return
            self._load(sorted(wanted))
            young = self._young
            wanted = self._not_at_hand(parent for id_ in wanted if (parent := parent_of(young.get(id_))) is not None)

    def end_transaction(self) -> None:
        """Deleted parents count no longer."""
        if self._gone or self._now.spilled or len(self.ends) > _CACHE_MAX:
            self.ends.clear()
            self._gone.clear()
        if len(self._young) >= _CACHE_MAX:
            self._old, self._young = self._young, {}

    def spill(self) -> None:
        """Take what a long transaction changed out of memory, without making it count.

        What was frozen must have been committed: there is room for what one commit takes only.
        """
        if self._frozen is not None and self._frozen.spilled:
            raise BugError("routes were spilled over others that wait for their commit")
        layer = self._now
        rows: dict[bytes, tuple[Route | None, Route | None]] = {
            id_: (route, None) for id_, route in layer.dirty.items()
        }
        for id_, route in self._gone.items():
            rows[id_] = (layer.dirty.get(id_), route)
        with self._transaction():
            self._many("INSERT OR REPLACE INTO spilled VALUES (?, ?, ?)", [(id_, *rows[id_]) for id_ in sorted(rows)])
        layer.spilled = True
        layer.dirty.clear()
        self.ends.clear()
        self._gone.clear()
        self._old, self._young = {}, {}

    def freeze(self) -> None:
        """The next `commit` takes what changed up to here, and no more. One at a time."""
        if self._frozen is not None:
            raise BugError("the route map was frozen twice")
        self._frozen, self._now = self._now, _Layer()

    def commit(self, notes: Mapping[str, Mapping[str, Any]]) -> None:
        """Make what was frozen (or all, where nothing was) count, and set the notes with it, in one transaction."""
        layer = self._now if self._frozen is None else self._frozen
        with self._transaction():
            for number in sorted(layer.wiped):
                self._empty("route", number)
            if layer.spilled:
                self._run(
                    "INSERT OR REPLACE INTO route SELECT id, route FROM spilled WHERE route IS NOT NULL ORDER BY id"
                )
                self._run("DELETE FROM route WHERE id IN (SELECT id FROM spilled WHERE route IS NULL)")
                self._run("DELETE FROM spilled")
            self._replace(sorted((id_, route) for id_, route in layer.dirty.items() if route is not None))
            removed = sorted((id_,) for id_, route in layer.dirty.items() if route is None)
            self._many("DELETE FROM route WHERE id = ?", removed)
            added = [(id_,) for id_, waits in layer.dangling.items() if waits]
            self._many("INSERT OR REPLACE INTO dangling VALUES (?)", added)
            arrived = [(id_,) for id_, waits in layer.dangling.items() if not waits]
            self._many("DELETE FROM dangling WHERE id = ?", arrived)
            self._put_notes(notes)
        if layer.spilled:
            self.ends.clear()
        if self._frozen is None:
            self._now = _Layer()
        self._frozen = None

    def clear(self) -> None:
        """Forget every route, tenant and note: another epoch begins."""
        self._forget_everything()
        for held in (self._young, self._old, self._gone, self.ends):
            held.clear()
        self._now, self._frozen = _Layer(), None
        self._waiting.clear()
        self.pairs.clear()

    def seed(self, spaces: Iterable[Space], parts: Iterable[Iterable[tuple[bytes, Route]]]) -> None:
        """Replace all routes of these spaces. `parts` come in id order, so that the tree on disk is appended to.

        Nothing may be frozen: it would come over what is written here.
        """
        if self._frozen is not None:
            raise BugError("routes were read anew while others wait for their commit")
        numbers = {space.number for space in spaces}
        with self._transaction():
            for number in sorted(numbers):
                self._empty("route", number)
                self._empty("spilled", number)
            for part in parts:
                self._replace(part)
        self._now.wiped -= numbers  # by a TRUNCATE that the new routes are later than
        self._drop_from_memory(numbers)
        waiting = sorted({id_[:ID_BYTES] for id_ in self._waiting if space_number(id_) in numbers})
        found = self.stored(waiting)
        for id_ in waiting:
            if id_ in found:
                self.arrived(id_)
            else:
                self.await_parent(id_ + _ABSENT)

    def _drop_from_memory(self, numbers: set[int]) -> None:
        """What is remembered of these spaces no longer holds."""
        self.ends.clear()
        self.pairs.clear()
        for held in (self._young, self._old, self._now.dirty):
            for id_ in [id_ for id_ in held if space_number(id_) in numbers]:
                del held[id_]

    def _not_at_hand(self, ids: Iterable[bytes]) -> set[bytes]:
        return set(ids).difference(self._young).difference(self._old)

    def _load(self, ids: Sequence[bytes]) -> None:
        """Bring these to hand: what is stored, and over it what waits for the commit before, and for the next."""
        layers = [self._now] if self._frozen is None else [self._frozen, self._now]
        wiped = {number for layer in layers for number in layer.wiped}
        found: dict[bytes, Route | None] = dict.fromkeys(ids)
        found.update(self.stored([id_ for id_ in ids if space_number(id_) not in wiped] if wiped else ids))
        for layer in layers:
            if layer.wiped:
                found.update(dict.fromkeys(id_ for id_ in ids if space_number(id_) in layer.wiped))
            if layer.spilled:
                for spilled in self._spilled_routes(ids):
                    found.update(spilled)
            if layer.dirty:
                found.update({id_: layer.dirty[id_] for id_ in ids if id_ in layer.dirty})
        self._young.update(found)
        note = self.pairs.note
        for id_, route in found.items():
            if route is not None:
                note(id_, route)
