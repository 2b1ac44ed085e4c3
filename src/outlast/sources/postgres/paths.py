"""Paths of foreign keys from a table to its tenant, and which of them are cheapest. Pure.

Which of several is taken is decided in ownership.py, by the schema, and in ties.py, by the data.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence

from outlast.core.table import OwnershipKind, Step, TableName
from outlast.sources.postgres.classification import Classification
from outlast.sources.postgres.graph import Graph
from outlast.sources.postgres.schema import ForeignKey

Cost = tuple[int, int]  # steps that may be broken, steps


def costs_of_paths(graph: Graph, roots: Iterable[TableName]) -> dict[TableName, Cost]:
    """The cheapest path from each table to one that has the tenant's key: first the fewest steps that may be broken."""
    incoming: dict[TableName, list[ForeignKey]] = {}
    for keys in graph.outgoing.values():
        for key in keys:
            incoming.setdefault(key.references, []).append(key)
    settled: dict[TableName, Cost] = {}
    queue: list[tuple[Cost, TableName]] = [((0, 0), root) for root in sorted(roots)]
    while queue:
        cost, table = heapq.heappop(queue)
        if table in settled:
            continue
        settled[table] = cost
        for key in incoming.get(table, ()):
            if key.table not in settled:
                heapq.heappush(queue, (_further(key, cost), key.table))
    return settled


def _further(key: ForeignKey, cost: Cost) -> Cost:
    return cost[0] + int(breakable(key)), cost[1] + 1


def breakable(key: ForeignKey) -> bool:
    return key.nullable or not key.enforced


def is_sure(key: ForeignKey) -> bool:
    """Whether every row of its table finds a row there."""
    return not breakable(key) and key.validated


def cost_of(key: ForeignKey, costs: Mapping[TableName, Cost]) -> Cost:
    return _further(key, costs[key.references]) if key.references in costs else (10**6, 10**6)


def cheapest(graph: Graph, table: TableName, costs: Mapping[TableName, Cost]) -> list[ForeignKey]:
    """The foreign keys that a table's cheapest paths begin with: several where the schema alone does not decide."""
    best = distinct([key for key in graph.keys_of(table) if cost_of(key, costs) == costs[table]])
    # A row whose whole primary key is its parent's is that parent's extension, whatever else it points at.
    primary = set(graph.subjects[table].primary_key)
    identifying = [key for key in best if primary and set(key.columns) == primary]
    return identifying if len(identifying) == 1 else best


def along(graph: Graph, key: ForeignKey) -> Step:
    """The step that a foreign key makes."""
    only = graph.subjects[key.references].only
    return Step(key.columns, key.references, key.referenced_columns, only, key.operators)


def through(graph: Graph, key: ForeignKey) -> Classification:
    """The entry by which a table is owned through a foreign key."""
    parents = {other.references for other in graph.keys_of(key.table) if set(other.columns) == set(key.columns)}
    to = key.references if len(parents) > 1 else None
    null = "; it may be NULL" if key.nullable else ""
    reason = f"{', '.join(key.columns)} leads to {key.references}{null}"
    return Classification(OwnershipKind.OWNED, key.columns, through=True, to=to, reason=reason)


def distinct(keys: Sequence[ForeignKey]) -> list[ForeignKey]:
    """Keys that can lead to different rows: one whose pairs contain another's to the same table adds nothing."""

    def pairs(key: ForeignKey) -> set[tuple[str, str]]:
        return set(zip(key.columns, key.referenced_columns, strict=True))

    kept: list[ForeignKey] = []
    for key in sorted(keys, key=lambda key: len(key.columns)):
        if not any(other.references == key.references and pairs(other) <= pairs(key) for other in kept):
            kept.append(key)
    return kept
