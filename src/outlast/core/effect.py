"""An effect: what a set of changes does, counted by tenant, table and operation.

A rehearsal's blast radius, a restore plan, a damage report, a drill's difference and a failback are all this one type,
with one renderer (cli/render.py) and one JSON form.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from outlast.core.tenant import TenantKey

SAMPLES_MAX = 5


class Operation(StrEnum):
    INSERT = "insert"
    UPDATE = "update"
    SOFT_DELETE = "soft-delete"
    HARD_DELETE = "hard-delete"
    TRUNCATE = "truncate"
    MOVE = "move"


class Via(StrEnum):
    """How a row's change came about."""

    STATEMENT = "statement"
    CASCADE = "cascade"
    TRIGGER = "trigger"


@dataclass(frozen=True, slots=True)
class Count:
    """Rows of one tenant and table under one operation. `columns` are those an update touched.

    Of `rows`, so many are not the statement's own: a foreign key carried them on, or a trigger wrote them. Only a
    rehearsal can tell; elsewhere all rows count as the statement's.
    """

    rows: int
    columns: frozenset[str] = frozenset()
    samples: tuple[str, ...] = ()  # keys, at most SAMPLES_MAX
    cascaded: int = 0
    triggered: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.rows + other.rows,
            self.columns | other.columns,
            (self.samples + other.samples)[:SAMPLES_MAX],
            self.cascaded + other.cascaded,
            self.triggered + other.triggered,
        )

    def via(self, via: Via) -> int:
        """How many of the rows came about in this way."""
        if via is Via.STATEMENT:
            return self.rows - self.cascaded - self.triggered
        return self.cascaded if via is Via.CASCADE else self.triggered


@dataclass(frozen=True, slots=True)
class Effect:
    """Counts by (tenant, table, operation). Absent means zero; a count of zero is never stored."""

    counts: Mapping[tuple[TenantKey, str, Operation], Count] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.counts)

    @property
    def rows(self) -> int:
        return sum(count.rows for count in self.counts.values())

    def total(self, operation: Operation) -> int:
        """Rows under one operation, over all tenants and tables."""
        return sum(count.rows for (_, _, done), count in self.counts.items() if done is operation)

    @property
    def tenants(self) -> tuple[TenantKey, ...]:
        return tuple(sorted({tenant for tenant, _, _ in self.counts}))

    def of(self, tenant: TenantKey) -> Effect:
        """The part of the effect that falls on one tenant."""
        return Effect({key: count for key, count in self.counts.items() if key[0] == tenant})

    def to_json(self) -> dict[str, dict[str, int]]:
        """`{table: {operation: rows}}`, tables schema-qualified, over all tenants of this effect."""
        result: dict[str, dict[str, int]] = {}
        for (_, table, operation), count in sorted(self.counts.items()):
            by_operation = result.setdefault(table, {})
            by_operation[operation.value] = by_operation.get(operation.value, 0) + count.rows
        return result

    def to_record(self) -> list[list[object]]:
        """The lossless form that plans are kept in; `from_record` reads it back."""
        return [
            [
                *(tenant, table, operation.value, count.rows, sorted(count.columns), list(count.samples)),
                *((count.cascaded, count.triggered) if count.cascaded or count.triggered else ()),
            ]
            for (tenant, table, operation), count in sorted(self.counts.items())
        ]

    @classmethod
    def from_record(cls, record: Iterable[Iterable[object]]) -> Self:
        counts: dict[tuple[TenantKey, str, Operation], Count] = {}
        for tenant, table, operation, rows, columns, samples, *via in record:
            cascaded, triggered = via or (0, 0)
            assert isinstance(cascaded, int)
            assert isinstance(triggered, int)
            assert isinstance(rows, int)
            assert isinstance(columns, list)
            assert isinstance(samples, list)
            counts[TenantKey(str(tenant)), str(table), Operation(str(operation))] = Count(
                rows, frozenset(columns), tuple(samples), cascaded, triggered
            )
        return cls(counts)


def merge(effects: Iterable[Effect]) -> Effect:
    """One effect that counts all of them."""
    counts: dict[tuple[TenantKey, str, Operation], Count] = {}
    for effect in effects:
        for key, count in effect.counts.items():
            counts[key] = counts[key] + count if key in counts else count
    return Effect(counts)
