"""A backup that reads everything, because nothing is remembered that a census could be held against: the first one.

No census is taken then. Tenants are met as their rows come, in slices of the order in which rows come; what is
remembered of a run is the number of its rows (`census.counted_digest`). In place of the census's count a plain count of
each table proves that every row came.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from outlast.capture.part import Tally, TenantTask
from outlast.core.errors import SourceError
from outlast.core.row import KeyKind, OrderKey, escape, order_of
from outlast.core.table import OwnershipKind, Table
from outlast.core.tenant import RESERVED, TenantKey
from outlast.sources.postgres.query import Slice, key_kind
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.sweep import count_rows, sample_tenants

_SAMPLED_BYTES = 8 * 1024 * 1024
_SAMPLED_TABLES = 3


def sample(session: Session, catalog: Catalog, tables: Sequence[Table], count: int) -> tuple[Slice, ...]:
    """`count` slices of about equal size, by a sample of the largest tables that have the tenant's column."""
    if count == 1:
        return (Slice(),)
    direct = [one for one in tables if one.ownership.kind is OwnershipKind.OWNED and not one.ownership.path]
    weights: dict[TenantKey, float] = {}
    for table in sorted(direct, key=lambda one: -one.size_bytes)[:_SAMPLED_TABLES]:
        share = min(1.0, _SAMPLED_BYTES / max(1, table.size_bytes))
        met = sample_tenants(session, table, 100 * share)
        width = table.size_bytes / max(1, sum(met.values()))  # of all that one row of the sample stands for
        for tenant, rows in met.items():
            weights[tenant] = weights.get(tenant, 0) + rows * width
    return slices(weights, key_kind(catalog.tenant_key_type), count)


def count_tables(session: Session, tables: Sequence[Table]) -> dict[str, int]:
    """Every table's rows, by its name."""
    return {str(table.name): count_rows(session, table) for table in tables}


def slices(weights: Mapping[TenantKey, float], kind: KeyKind, count: int) -> tuple[Slice, ...]:
    """At most `count` slices of about the same weight, which leave no tenant out, known or not."""
    place = _place(kind)
    bounds: list[TenantKey | None] = []
    passed, total = 0.0, sum(weights.values())
    for tenant in sorted(weights, key=place):
        if passed and len(bounds) < count - 1 and passed + weights[tenant] / 2 >= total * (len(bounds) + 1) / count:
            bounds.append(tenant)
        passed += weights[tenant]
    return tuple(Slice(first, end) for first, end in pairwise([None, *bounds, None]))


def share_out(
    tasks: Sequence[TenantTask], parts: Sequence[Slice], catalog: Catalog
) -> list[tuple[Slice, tuple[TenantTask, ...]]]:
    """Each slice with the tenants that are known to stand in it; the reserved ones are the lowest's."""
    place = _place(key_kind(catalog.tenant_key_type))
    bounds = [place(one.first) for one in parts if one.first is not None]
    shared: list[list[TenantTask]] = [[] for _ in parts]
    for task in tasks:
        key = task.tenant.key
        shared[0 if key in RESERVED else bisect_right(bounds, place(key))].append(task)
    return [(one, tuple(those)) for one, those in zip(parts, shared, strict=True)]


def _place(kind: KeyKind) -> Callable[[str], OrderKey]:
    order = order_of((kind,))
    return lambda tenant: order(escape(tenant.encode("utf-8", "surrogateescape")))


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
