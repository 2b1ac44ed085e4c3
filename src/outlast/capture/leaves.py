"""Which root table each relation of the stream belongs to: the stream tells leaves of partitioned tables."""

from __future__ import annotations

from collections.abc import Mapping

from outlast.core.change import Relation
from outlast.core.table import TableName


class Leaves:
    """Which root each relation of the stream belongs to, and which relations make up a root."""

    def __init__(self, root_of: Mapping[int, TableName]) -> None:
        self._root_of = dict(root_of)
        self._members: dict[TableName, set[int]] = {}
        for oid, root in root_of.items():
            self._members.setdefault(root, set()).add(oid)

    def root_of(self, relation: Relation) -> TableName:
        return self._root_of.get(relation.oid, relation.name)

    def attach(self, oid: int, root: TableName) -> None:
        """A new leaf, which had no row yet."""
        self._root_of[oid] = root
        self._members.setdefault(root, set()).add(oid)

    def of(self, root: TableName) -> set[int]:
        return self._members.get(root, set())
