"""A backup that reads everything, because nothing is remembered that a census could be held against: the first one.

No census is taken then. Tenants are met as their rows come, in slices of the order in which rows come; what is
remembered of a run is the number of its rows (`census.counted_digest`). In place of the census's count a plain count of
each table proves that every row came.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace

from outlast.capture.part import PartSpec, Tally, TenantTask
from outlast.core.errors import SourceError
from outlast.core.row import KeyKind
from outlast.core.tenant import ORPHAN, RESERVED
from outlast.sources.slicing import place_of
from outlast.sources.source import Slice


def share_out(
    tasks: Sequence[TenantTask], parts: Sequence[Slice], kind: KeyKind
) -> list[tuple[Slice, tuple[TenantTask, ...]]]:
    """Each slice with the tenants that are known to stand in it; of the reserved ones, the lowest has those that it
    reads."""
    place = place_of(kind)
    bounds = [place(one.first) for one in parts if one.first is not None]
    shared: list[list[TenantTask]] = [[] for _ in parts]
    for task in tasks:
        key = task.tenant.key
        if key != ORPHAN or not bounds:
            shared[0 if key in RESERVED else bisect_right(bounds, place(key))].append(task)
    return [(one, tuple(those)) for one, those in zip(parts, shared, strict=True)]


def strays(part: PartSpec, tasks: Sequence[TenantTask], expected: Mapping[str, int], tally: Tally) -> PartSpec | None:
    """What is left after several slices: of the tables of which rows are missing, those that have no tenant.

    None where every row came and no such row was there before.
    """
    known = tuple(task for task in tasks if task.tenant.key == ORPHAN)
    tables = tuple(one for one in part.tables if tally.rows.get(str(one.name), 0) != expected[str(one.name)])
    return replace(part, within=Slice(strays=True), tasks=known, tables=tables) if tables or known else None


def check_counts(expected: Mapping[str, int], tally: Tally) -> None:
    """Raise SourceError unless as many rows of each table came as it has."""
    for name, rows in expected.items():
        if tally.rows.get(name, 0) != rows:
            raise SourceError(
                f"cannot back up table {name}: it counted {rows} rows and gave {tally.rows.get(name, 0)}",
                hint="An index of that table or of one on its path to the tenant may be corrupt: check them with "
                "amcheck (bt_index_check), then REINDEX.",
                code="inconsistent-read",
            )
