"""Soft deletion: a marker column that goes from empty to a value, by which an application hides a row.

Owns which columns are markers, by name, and when a change sets one. What is then done about it is left to others.
"""

from __future__ import annotations

from dataclasses import dataclass

from outlast.core.change import Relation, Unchanged, copy_field, fields_at
from outlast.core.row import NULL

SOFT_DELETE_COLUMNS = frozenset({"deleted_at", "deleted_on", "date_deleted", "removed_at", "is_deleted", "deleted"})
"""Marker columns of soft deletion, known by name."""

NOT_DELETED = frozenset({NULL, b"f", b"0", b""})
"""COPY fields of a marker that say the row is there."""

_WHOLE = b"O"


@dataclass(frozen=True, slots=True)
class SoftDeleteMarkers:
    """Where a relation's marker columns stand in its tuples."""

    positions: tuple[int, ...]

    @classmethod
    def of(cls, relation: Relation, names: frozenset[str] = SOFT_DELETE_COLUMNS) -> SoftDeleteMarkers | None:
        """The relation's markers, or None where it has none: its updates need not be looked at."""
        found = tuple(number for number, (name, _) in enumerate(relation.columns) if name in names)
        return cls(found) if found else None

    def marks(self, old: bytes | None, new: bytes) -> bool:
        """Whether an update soft-deletes its row.

        REPLICA IDENTITY FULL alone sends the old value. Without it a marker that is set *now* counts, so that a later
        update of a row that was soft-deleted before counts too: too much is told rather than too little.
        """
        now = fields_at(new, self.positions)
        before = fields_at(old[1:], self.positions) if old is not None and old[:1] == _WHOLE else None
        for number, field in enumerate(now):
            if isinstance(field, Unchanged) or copy_field(field) in NOT_DELETED:
                continue
            if before is None or isinstance(was := before[number], Unchanged) or copy_field(was) in NOT_DELETED:
                return True
        return False
