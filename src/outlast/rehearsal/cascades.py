"""Which changes a foreign key carried on, told from the log alone.

While a foreign key holds, nothing but the key itself can take a child away, or off, after its parent went: the parent's
change stands in the log first (POSTGRES.md, "Routing"). So a child that is deleted, or let go of its parent, after that
parent was deleted or got another key in the same transaction, went by cascade. No trigger has to be asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outlast.core.change import OP_DELETE, OP_UPDATE, Relation
from outlast.core.row import NULL
from outlast.core.table import TableName
from outlast.sources.postgres.schema import ForeignKey


@dataclass(frozen=True, slots=True)
class _End:
    """One end of a foreign key: where its columns stand in a relation's tuples. `number` is the key's."""

    number: int
    places: tuple[int, ...]
    deletes: bool  # the child is deleted with its parent

    def values(self, row: Sequence[bytes]) -> tuple[bytes, ...]:
        return tuple([row[place] for place in self.places])


class Cascades:
    """Remembers parents that went in the current transaction. One relation's ends are worked out once."""

    def __init__(self, keys: Sequence[ForeignKey]) -> None:
        self._keys = [key for key in keys if key.enforced]
        self._gone: set[tuple[int, tuple[bytes, ...]]] = set()
        self._ends: dict[int, tuple[Relation, list[_End], list[_End]]] = {}

    def begin(self) -> None:
        """A transaction begins."""
        self._gone.clear()

    def places(self, relation: Relation, root: TableName) -> frozenset[int]:
        """Where the columns at which foreign keys begin or end stand in this relation's tuples."""
        _, parents, children = self._of(relation, root)
        return frozenset(place for end in (*parents, *children) for place in end.places)

    def carried(
        self, relation: Relation, root: TableName, operation: int, was: Sequence[bytes], now: Sequence[bytes] | None
    ) -> bool:
        """Whether a foreign key made this change; and note what it makes others do. `was` is a whole row."""
        _, parents, children = self._of(relation, root)
        carried = False
        gone = self._gone
        if gone and children:
            for end in children:
                if operation == OP_DELETE and not end.deletes:
                    continue
                values = end.values(was)
                if (end.number, values) in gone and (
                    operation == OP_DELETE or (now is not None and end.values(now) != values)
                ):
                    carried = True
                    break
        for end in parents:
            values = end.values(was)
            went = operation == OP_DELETE or (operation == OP_UPDATE and now is not None and end.values(now) != values)
            if went and NULL not in values:  # at which no child points
                gone.add((end.number, values))
        return carried

    def _of(self, relation: Relation, root: TableName) -> tuple[Relation, list[_End], list[_End]]:
        known = self._ends.get(id(relation))
        if known is None:
            known = self._ends[id(relation)] = self._made(relation, root)
        return known

    def _made(self, relation: Relation, root: TableName) -> tuple[Relation, list[_End], list[_End]]:
        places = {name: place for place, (name, _) in enumerate(relation.columns)}
        parents: list[_End] = []
        children: list[_End] = []
        for number, key in enumerate(self._keys):
            for table, columns, ends in (
                (key.references, key.referenced_columns, parents),
                (key.table, key.columns, children),
            ):
                if table == root and all(column in places for column in columns):
                    ends.append(_End(number, tuple(places[column] for column in columns), key.on_delete == "c"))
        return relation, parents, children
