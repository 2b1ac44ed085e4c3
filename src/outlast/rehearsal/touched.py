"""Which rows a script touched, each by the net of all that was done to it: what `run` locks and holds production to.

Nothing of a row is kept but its key, digests of it, and the values that it was given.
"""

from __future__ import annotations

from collections.abc import Callable

from outlast.core.table import TableName
from outlast.core.tenant import TenantKey
from outlast.rehearsal.observed import TouchedRow, TouchedTable, row_digest
from outlast.rehearsal.shape import Shape, Texts, difference

TOUCHED_MAX = 2_000_000
"""Rows whose keys are kept. Past it there is no receipt: `run` could not lock them all."""

_Row = tuple[int, bytes | None, bytes | None, dict[int, bytes]]
"""(tenant, digest before, digest after, what changed): see TouchedRow."""


class Touched:
    """Tell it each change by `note`; then `tables`."""

    def __init__(self) -> None:
        self._rows: dict[TableName, dict[bytes, _Row]] = {}
        self._keyed: dict[TableName, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._count = 0

    @property
    def overflown(self) -> bool:
        return self._count > TOUCHED_MAX

    def know(self, shape: Shape) -> None:
        """The newest shape of a table says what its digests cover."""
        self._keyed[shape.root] = (shape.key_names, shape.columns)

    def note(
        self,
        tenant: int,
        shape: Shape,
        was: Texts | None,
        now: Texts | None,
        former: bytes | None,
        key: bytes | None,
        differing: tuple[int, ...] | None = None,
    ) -> None:
        """A row of this tenant was as `was` (None: it was not there) and is as `now` (None: it is gone), by these keys;
        `differing` are the places in which both differ, where that is known.

        An old row that is not known as a whole is given as None, and a new one likewise.
        """
        if self._count > TOUCHED_MAX:
            return
        rows = self._rows.get(shape.root)
        if rows is None:
            rows = self._rows[shape.root] = {}
        if not shape.plain:
            was = None if was is None else shape.covered(was)
            now = None if now is None else shape.covered(now)
        if was is not None and now is not None and key is not None and key == former and key not in rows:  # mostly
            self._count += 1
            if differing is None or not shape.plain:
                differing = difference(was, now)
            changed = {place: now[place] for place in differing}
            rows[key] = (tenant, row_digest(b"\t".join(was)), row_digest(b"\t".join(now)), changed)
            return
        if was is not None and former is not None:
            self._leave(rows, former, tenant, was)
        if now is not None and key is not None:
            self._arrive(rows, key, tenant, was if key == former else None, now)

    def empty(self, root: TableName) -> None:
        """All rows of a table go."""
        rows = self._rows.get(root, {})
        for key, (tenant, before, _, _) in rows.items():
            rows[key] = (tenant, before, None, {})

    def _leave(self, rows: dict[bytes, _Row], key: bytes, tenant: int, was: Texts) -> None:
        first = rows.get(key)
        if first is None:
            self._count += 1
            rows[key] = (tenant, row_digest(b"\t".join(was)), None, {})
        else:
            rows[key] = (first[0], first[1], None, first[3])

    def _arrive(self, rows: dict[bytes, _Row], key: bytes, tenant: int, was: Texts | None, now: Texts) -> None:
        """`was`: the same row before, None where it had another key or was not there."""
        first = rows.get(key)
        if first is None:
            self._count += 1
            first = (tenant, None, None, {})
        changed = {} if was is None else first[3]
        changed |= {place: text for place, text in enumerate(now) if was is None or was[place] != text}
        rows[key] = (first[0], first[1], row_digest(b"\t".join(now)), changed)

    def tables(self, tenant_of: Callable[[int], TenantKey]) -> tuple[TouchedTable, ...]:
        found = []
        for root, rows in sorted(self._rows.items()):
            key, columns = self._keyed[root]
            listed = tuple(
                TouchedRow(name, before, after, tenant_of(tenant), tuple(sorted(changed.items())) if after else ())
                for name, (tenant, before, after, changed) in sorted(rows.items())
                if before is not None or after is not None
            )
            if listed:
                found.append(TouchedTable(str(root), key, columns, listed))
        return tuple(found)
