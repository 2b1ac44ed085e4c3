"""Slices of the order in which rows come, of about equal weight, and where a tenant stands in that order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

from outlast.core.row import KeyKind, OrderKey, escape, order_of
from outlast.core.tenant import TenantKey
from outlast.sources.source import Slice


def slices(weights: Mapping[TenantKey, float], kind: KeyKind, count: int) -> tuple[Slice, ...]:
    """At most `count` slices of about the same weight, which leave no tenant out, known or not."""
    place = place_of(kind)
    bounds: list[TenantKey | None] = []
    passed, total = 0.0, sum(weights.values())
    for tenant in sorted(weights, key=place):
        if passed and len(bounds) < count - 1 and passed + weights[tenant] / 2 >= total * (len(bounds) + 1) / count:
            bounds.append(tenant)
        passed += weights[tenant]
    return tuple(Slice(first, end) for first, end in pairwise([None, *bounds, None]))


def place_of(kind: KeyKind) -> Callable[[str], OrderKey]:
    """A function from a tenant's key to a value that sorts as rows come."""
    order = order_of((kind,))
    return lambda tenant: order(escape(tenant.encode("utf-8", "surrogateescape")))
