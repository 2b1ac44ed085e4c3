"""The ways of the relations that the stream has described so far, each made when it is first asked for.

A relation that nobody classified, or whose way cannot be made, is a doubt, told once for each of its descriptions.
"""

from __future__ import annotations

from outlast.capture.leaves import Leaves
from outlast.capture.route_map import RouteMap
from outlast.capture.route_plan import RoutePlan
from outlast.capture.sink import Sink
from outlast.capture.ways import Way, way_of
from outlast.core.change import Relation
from outlast.core.entries import LoggedTable


class KnownWays:
    """Ways by relation: an unaltered relation is the same object everywhere, and is kept here so that it stays so."""

    def __init__(self, plan: RoutePlan, leaves: Leaves, map_: RouteMap, sink: Sink) -> None:
        self._plan = plan
        self._leaves = leaves
        self._map = map_
        self._sink = sink
        self._ways: dict[int, tuple[Relation, Way | None]] = {}

    def of(self, relation: Relation) -> Way | None:
        """None where its changes cannot be routed, or are not to be."""
        known = self._ways.get(id(relation))
        return self._made(relation) if known is None else known[1]

    def _made(self, relation: Relation) -> Way | None:
        root = self._leaves.root_of(relation)
        table = self._plan.tables.get(root)
        way = None
        if table is None:
            if root not in self._plan.ignored:
                # A partition that is gone again looks like this too, and then its root is what is not known.
                reason = f"{root} is published, and outlast.toml does not say whose it is"
                self._sink.doubt(None, reason, lasting=True)
        else:
            try:
                way = way_of(relation, self._plan, table, self._map, LoggedTable.of(relation, table.table))
            except KeyError:
                reason = "the table lacks a column by which its rows find their tenant"
                self._sink.doubt(root, reason, lasting=True)
        self._ways[id(relation)] = (relation, way)
        return way
