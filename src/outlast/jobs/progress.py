"""How far a job is: tenants and rows done, the rate, the time left, failures by cause. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from outlast.core.plan import TenantPlan, TenantState
from outlast.core.tenant import Tenant

_CAUSES_TENANTS_MAX = 5


@dataclass(slots=True)
class Cause:
    """Tenants that were not restored for the same reason. `examples` are the first few."""

    tenants: int = 0
    message: str = ""
    examples: list[Tenant] = field(default_factory=list)


@dataclass(slots=True)
class Progress:
    """Counts what has come of a job's tenants so far. `total` is how many it has."""

    total: int
    done: int = 0
    right: int = 0
    rows: int = 0
    causes: dict[str, Cause] = field(default_factory=lambda: defaultdict(Cause))

    @property
    def finished(self) -> int:
        return self.done + self.right + self.failed

    @property
    def failed(self) -> int:
        return sum(cause.tenants for cause in self.causes.values())

    def add(self, outcomes: Iterable[TenantPlan]) -> None:
        for outcome in outcomes:
            if outcome.state is TenantState.DONE:
                self.done += 1
                self.rows += outcome.effect.rows
            elif outcome.state is TenantState.RIGHT:
                self.right += 1
            else:
                self._failed(outcome)

    def _failed(self, outcome: TenantPlan) -> None:
        conflict = next(iter(outcome.conflicts), None)
        kind = conflict.kind.value if conflict else outcome.state.value
        message = conflict.message if conflict else outcome.error or ""
        cause = self.causes[kind]
        cause.tenants += 1
        cause.message = cause.message or message
        if len(cause.examples) < _CAUSES_TENANTS_MAX:
            cause.examples.append(outcome.tenant)

    def told(self, elapsed_s: float) -> str:
        """One line for the person who waits: `300 of 883 tenants, 15,000 rows, 120 tenants/s, 5 s left, 2 failed`."""
        parts = [f"{self.finished:,} of {self.total:,} tenants", f"{self.rows:,} rows"]
        if self.finished and elapsed_s > 0:
            rate = self.finished / elapsed_s
            parts += [f"{rate:,.0f} tenants/s" if rate >= 1 else f"{rate * 60:,.1f} tenants/min"]
            if self.finished < self.total:
                parts.append(f"{_span((self.total - self.finished) / rate)} left")
        parts += [f"{self.failed:,} failed"] if self.failed else []
        return ", ".join(parts)

    def to_json(self) -> dict[str, object]:
        return {
            "tenants": self.total,
            "finished": self.finished,
            "restored": self.done,
            "nothing_missing": self.right,
            "failed": self.failed,
            "rows": self.rows,
            "causes": [
                {
                    "cause": kind,
                    "tenants": cause.tenants,
                    "message": cause.message,
                    "examples": [tenant.key for tenant in cause.examples],
                }
                for kind, cause in sorted(self.causes.items())
            ],
        }


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
