"""The tripwire's rules as a person sets them: what can trip, and at which number. Pure values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Rule(StrEnum):
    """What can trip. The values are the settings' names in outlast.toml where there is one."""

    ROOTS = "tenant_roots"
    SHARE = "tenant_share"
    LOSING = "tenants_a_minute"
    TRUNCATE = "truncate"
    DROP = "drop"
    DECLARED = "declared_max"
    SOFT = "soft_deleted_roots"


HALTING = frozenset(Rule) - {Rule.SOFT}
"""What is soft-deleted is still there: that is told, and halts nobody."""


@dataclass(frozen=True, slots=True)
class Rules:
    """The thresholds: a rule trips at this number or above; None turns it off. Tables are named `schema.table`."""

    root_table: str
    owned: frozenset[str]
    window_s: float = 600.0
    roots: int | None = 2
    share: float | None = 0.5
    share_tenants: int = 2
    rows_min: int = 20  # a tenant that lost fewer rows is not judged by its share
    losing: int | None = 20
    losing_share: float = 0.1
    truncate: bool = True
    drop: bool = True
    declared: int | None = 100
    soft: int | None = None
    tombstone: str | None = None
    tombstone_s: float = 86_400.0
    quiet: frozenset[str] = frozenset()  # tables whose losses are ordinary: sessions, queues, caches

    def thresholds(self) -> dict[Rule, int]:
        given = {
            Rule.ROOTS: self.roots,
            Rule.SHARE: self.share_tenants if self.share is not None else None,
            Rule.LOSING: self.losing,
            Rule.TRUNCATE: 1 if self.truncate else None,
            Rule.DROP: 1 if self.drop else None,
            Rule.DECLARED: self.declared,
            Rule.SOFT: self.soft,
        }
        return {rule: number for rule, number in given.items() if number is not None}
