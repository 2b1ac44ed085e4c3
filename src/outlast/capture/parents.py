"""Parents that the route map lacks, as of a place in a transaction, and what it means when one comes.

A row whose parent is not there is nobody's, and that is right where no key forbids it. Where an enforced and validated
foreign key says that the parent is there, the map is what is wrong: the row was told of the wrong tenant. That is a
*doubt* about its table, and about the parent's, whose routes are then read anew. It is decided when the transaction
ends, since with deferred keys a parent may come after its child. A parent that the source turned out to lack (its
keys were switched off) is doubted no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from outlast.capture.route_ids import ORPHAN_NUMBER, Route, plain
from outlast.capture.route_map import RouteMap
from outlast.capture.route_plan import RoutePlan
from outlast.capture.sink import Sink
from outlast.core.errors import BugError
from outlast.core.table import TableName

_DEPTH_MAX = 32
Coming = Callable[[], Mapping[bytes, Route]]
"""Routes of rows that the rest of the transaction, as far as it is at hand, writes."""


class Parents:
    """Finds tenants past the map; remembers which parents it missed until the transaction ends."""

    def __init__(self, plan: RoutePlan, map_: RouteMap, sink: Sink) -> None:
        self._plan = plan
        self._map = map_
        self._sink = sink
        self._missed: dict[bytes, set[TableName]] = {}

    def tenant(self, table: TableName, route: Route, coming: Coming) -> int:
        """The tenant of a row of `table` whose route the map could not follow to its end."""
        parent: TableName | None = table  # whose row's route this is
        for _ in range(_DEPTH_MAX):
            route = plain(route)
            if isinstance(route, int):
                return route
            pointer = None
            if parent is not None and (plan := self._plan.tables.get(parent)) is not None:
                pointer = plan.pointer
            parent = None if pointer is None else pointer.to
            found = self._led(route)
            if found is None:
                found = coming().get(route)
            if found is None:
                if pointer is not None and pointer.sure and not self._map.is_absent(route):
                    self._missed.setdefault(route, set()).update((table, pointer.to))
                self._map.await_parent(route)
                return ORPHAN_NUMBER
            route = found
        raise BugError("the route map leads in a circle")

    def arrived(self, table: TableName, id_: bytes, tenant: int) -> None:
        """A row of `table` is there now that others may have pointed at before it was. Then those are this tenant's
        from now on, and no change says so: their tables are read again."""
        origin = None
        if self._map.is_awaited(id_):
            origin = ORPHAN_NUMBER
            self._map.arrived(id_)
        elif (gone := self._map.gone(id_)) is not None:
            origin = self._map.tenant_of(gone)
        if origin is not None and origin != tenant:
            for below in self._below(table):
                self._sink.doubt(below, f"rows of it came to another tenant with a row of {table} that replaced one")

    def _below(self, table: TableName) -> list[TableName]:
        """The tables whose rows find their tenant through this one's, directly or not."""
        found = [table]
        for parent in found:
            found += [child for child, _, to, _ in self._plan.edges.edges if to == parent and child not in found]
        return found[1:]

    def end(self) -> None:
        """The transaction is over, and what it deleted not forgotten yet: which parents did not come?"""
        if not self._missed:
            return
        missed, self._missed = self._missed, {}
        for id_, tables in missed.items():
            if self._led(id_) is not None:
                continue
            for table in sorted(tables):
                self._sink.doubt(table, "a row points at another that is not known here, though its foreign key holds")

    def _led(self, id_: bytes) -> Route | None:
        found = self._map.get(id_)
        return self._map.gone(id_) if found is None else found
