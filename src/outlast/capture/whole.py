"""A backup that reads everything, because nothing is remembered that a census could be held against: the first one.

No census is taken then. Tenants are met as their rows come, in slices of the order in which rows come; what is
remembered of a run is the number of its rows (`census.counted_digest`). In place of the census's count a plain count of
each table proves that every row came.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

from outlast.capture.part import Tally, TenantTask
from outlast.core.errors import SourceError
from outlast.core.row import KeyKind
from outlast.core.tenant import RESERVED
from outlast.sources.slicing import place_of
from outlast.sources.source import Slice


def share_out(
    tasks: Sequence[TenantTask], parts: Sequence[Slice], kind: KeyKind
) -> list[tuple[Slice, tuple[TenantTask, ...]]]:
    """Each slice with the tenants that are known to stand in it; the reserved ones are the lowest's."""
    place = place_of(kind)
    bounds = [place(one.first) for one in parts if one.first is not None]
    shared: list[list[TenantTask]] = [[] for _ in parts]
    for task in tasks:
        key = task.tenant.key
        shared[0 if key in RESERVED else bisect_right(bounds, place(key))].append(task)
    return [(one, tuple(those)) for one, those in zip(parts, shared, strict=True)]


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
