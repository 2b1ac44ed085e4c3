"""TRUNCATE: an entry of every tenant that may have had a row in what it emptied.

The server names every relation that one command emptied, one after the other; leaves of one table are taken together.
A table of which only some leaves were emptied is in doubt: whose rows those were is not known.
"""

from __future__ import annotations

from outlast.capture.known_ways import KnownWays
from outlast.capture.leaves import Leaves
from outlast.capture.numbering import Numbering
from outlast.capture.route_ids import SHARED_NUMBER
from outlast.capture.route_map import RouteMap
from outlast.capture.sink import Sink
from outlast.core.change import OP_TRUNCATE, Relation
from outlast.core.table import TableName


class Truncation:
    """Relations that were emptied and not routed yet: `add` them all, then `route`."""

    def __init__(self, leaves: Leaves, ways: KnownWays, map_: RouteMap, numbers: Numbering, sink: Sink) -> None:
        self._leaves = leaves
        self._ways = ways
        self._map = map_
        self._numbers = numbers
        self._sink = sink
        self._emptied: list[Relation] = []

    def __bool__(self) -> bool:
        return bool(self._emptied)

    def add(self, relation: Relation) -> None:
        self._emptied.append(relation)

    def route(self) -> None:
        emptied, self._emptied = self._emptied, []
        by_root: dict[TableName, list[Relation]] = {}
        for relation in emptied:
            by_root.setdefault(self._leaves.root_of(relation), []).append(relation)
        for root, relations in by_root.items():
            self._route(root, relations)

    def _route(self, root: TableName, relations: list[Relation]) -> None:
        known = self._ways.of(relations[0])
        if known is None:
            return
        if self._leaves.of(root) - {relation.oid for relation in relations}:
            self._sink.doubt(root, f"partition {relations[0].name} was truncated, and others were not")
            return
        if known.shared:
            self._sink.change(SHARED_NUMBER, OP_TRUNCATE, known.logged, None, None)
            return
        for tenant in self._numbers.everyone():
            self._sink.change(tenant, OP_TRUNCATE, known.logged, None, None)
        if known.row_space is None and not known.rooted:
            self._sink.doubt(root, "it was truncated, and rows of tenants that nothing names may have gone with it")
        ways = [self._ways.of(relation) for relation in relations]
        self._map.wipe([space for way in ways if way is not None for space in way.spaces])
