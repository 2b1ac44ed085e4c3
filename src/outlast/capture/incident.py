"""An incident: one episode of loss that tripped the wire, from its first deletion until it is over or reset.

Owns the figures: who lost how much, in which transactions, and what was spared because a transaction came to nothing.
When one begins and ends is decided in tripwire.py, what is said of it in notify.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from outlast.core.moment import Lsn
from outlast.core.tenant import Tenant, TenantKey

COMMITTED, IN_PROGRESS, ROLLED_BACK = "committed", "in progress", "rolled back"

_TENANTS_OF_DEED_MAX = 1_000


@dataclass(slots=True)
class Deed:
    """A transaction that lost rows, as far as it was seen. `at` is when, in seconds since 1970."""

    xid: int
    at: float
    commit: Lsn | None = None
    rows: int = 0
    outcome: str = IN_PROGRESS
    tenants: set[TenantKey] = field(default_factory=set)  # at most _TENANTS_OF_DEED_MAX: enough to know it again
    tables: set[str] = field(default_factory=set)  # truncated or dropped

    def touch(self, tenant: TenantKey, rows: int) -> None:
        self.rows += rows
        if len(self.tenants) < _TENANTS_OF_DEED_MAX:
            self.tenants.add(tenant)

    @property
    def time(self) -> datetime:
        return datetime.fromtimestamp(self.at, UTC)


@dataclass(slots=True)
class Incident:
    """`rules` says by what number each tripped. `lost` holds rows by tenant, `spared` whose loss came to nothing."""

    since: datetime
    rules: dict[str, int] = field(default_factory=dict)
    lost: dict[TenantKey, int] = field(default_factory=dict)
    spared: dict[TenantKey, int] = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)  # truncated or dropped
    deeds: dict[int, Deed] = field(default_factory=dict)
    labels: dict[TenantKey, str | None] = field(default_factory=dict)
    halt_asked: bool = False
    ended: bool = False

    @property
    def tenants(self) -> int:
        """How many tenants have lost rows, those in progress included."""
        return len(self.lost)

    @property
    def rows(self) -> int:
        return sum(self.lost.values())

    @property
    def committed(self) -> bool:
        """Whether anything of it is final."""
        return any(deed.outcome == COMMITTED for deed in self.deeds.values())

    @property
    def in_progress(self) -> tuple[int, ...]:
        """The transactions that can still be ended before they commit."""
        return tuple(deed.xid for deed in self.deeds.values() if deed.outcome == IN_PROGRESS)

    def lose(self, tenant: TenantKey, rows: int) -> None:
        self.lost[tenant] = self.lost.get(tenant, 0) + rows

    def spare(self, tenant: TenantKey, rows: int) -> None:
        """What was counted as lost came to nothing."""
        if tenant not in self.lost:
            return
        taken = min(rows, self.lost[tenant])
        self.spared[tenant] = self.spared.get(tenant, 0) + taken
        self.lost[tenant] -= taken
        if not self.lost[tenant]:
            del self.lost[tenant]

    def largest(self) -> Iterator[tuple[Tenant, int]]:
        """Who lost most, first."""
        for tenant, rows in sorted(self.lost.items(), key=lambda item: (-item[1], item[0])):
            yield Tenant(tenant, self.labels.get(tenant)), rows

    def first(self) -> Deed | None:
        """The earliest transaction that is final, in the log's order, else the earliest there is."""
        final = [deed for deed in self.deeds.values() if deed.commit is not None]
        if final:
            return min(final, key=lambda deed: deed.commit or Lsn(0))
        return min(self.deeds.values(), key=lambda deed: deed.at, default=None)

    def to_json(self) -> dict[str, object]:
        """What this host keeps of it: figures and the largest few, never a row."""
        return {
            "since": self.since.isoformat(),
            "rules": dict(self.rules),
            "tenants": self.tenants,
            "rows": self.rows,
            "spared": len(self.spared),
            "tables": sorted(self.tables),
            "transactions": [
                {"xid": deed.xid, "time": deed.time.isoformat(), "rows": deed.rows, "outcome": deed.outcome}
                for deed in list(self.deeds.values())[:20]
            ],
            "largest": [[tenant.key, tenant.label, rows] for tenant, rows in list(self.largest())[:20]],
            "ended": self.ended,
        }
