"""What a rehearsal says of itself, as JSON's own values, and by table: the figures of every form of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from outlast.core.effect import Count, Effect, Operation, Via
from outlast.core.tenant import Tenant, TenantKey
from outlast.rehearsal.observed import Observed
from outlast.rehearsal.verdict import Verdict

SEVERITY = (
    Operation.TRUNCATE,
    Operation.HARD_DELETE,
    Operation.MOVE,
    Operation.SOFT_DELETE,
    Operation.UPDATE,
    Operation.INSERT,
)
"""Operations, the worst first."""

_STRONG = frozenset({"AccessExclusiveLock", "ExclusiveLock", "ShareRowExclusiveLock", "ShareLock"})


@dataclass(frozen=True, slots=True)
class Line:
    """One table under one operation, over all tenants."""

    table: str
    operation: Operation
    count: Count
    tenants: int

    @property
    def via(self) -> str:
        """How the rows came about that the statement did not write itself."""
        parts = [(self.count.via(Via.CASCADE), "cascade"), (self.count.via(Via.TRIGGER), "trigger")]
        told = [(rows, word) for rows, word in parts if rows]
        if len(told) == 1 and told[0][0] == self.count.rows:
            return f"via {told[0][1]}"
        return ", ".join(f"{rows:,} via {word}" for rows, word in told)


def lines_of(effect: Effect) -> list[Line]:
    """By table and operation: the worst operation first, the most rows first."""
    counts: dict[tuple[str, Operation], Count] = {}
    tenants: dict[tuple[str, Operation], int] = {}
    for (_, table, operation), count in effect.counts.items():
        place = (table, operation)
        counts[place] = counts[place] + count if place in counts else count
        tenants[place] = tenants.get(place, 0) + 1
    found = [Line(table, operation, count, tenants[table, operation]) for (table, operation), count in counts.items()]
    return sorted(found, key=lambda line: (SEVERITY.index(line.operation), -line.count.rows, line.table))


@dataclass(frozen=True, slots=True)
class Hit:
    """What befell one tenant."""

    tenant: Tenant
    rows: int
    worst: Operation
    effect: Effect


def hits_of(observed: Observed) -> list[Hit]:
    """By tenant: the worst hit first."""
    parts: dict[TenantKey, dict[tuple[TenantKey, str, Operation], Count]] = {}
    for place, count in observed.effect.counts.items():
        parts.setdefault(place[0], {})[place] = count
    found = []
    for key, counts in parts.items():
        worst = min((operation for _, _, operation in counts), key=SEVERITY.index)
        rows = sum(count.rows for count in counts.values())
        found.append(Hit(observed.tenants.get(key, Tenant(key)), rows, worst, Effect(counts)))
    return sorted(found, key=lambda hit: (SEVERITY.index(hit.worst), -hit.rows, hit.tenant.key))


def strong_locks(observed: Observed) -> dict[str, list[str]]:
    """Tables by the lock that kept others from writing, or from reading, while the script's transaction lasted."""
    found: dict[str, list[str]] = {}
    for lock in observed.locks:
        if lock.mode in _STRONG:
            found.setdefault(lock.mode, []).append(lock.table)
    return found


def to_json(observed: Observed, verdict: Verdict, seconds: Mapping[str, float]) -> dict[str, object]:
    """Everything but rows: keys are those of the samples."""
    where = observed.circumstances
    return {
        **verdict.to_json(),
        "source": where.source,
        "moment": where.moment,
        "as_of": where.as_of.isoformat(),
        "age_seconds": round(where.age_s, 1),
        "copy": {"from": where.copy, "kept": where.cached, "server": where.server, "tenants": list(where.only) or None},
        "role": where.role,
        "settings": dict(where.settings),
        "command": list(where.command) or None,
        "isolated": where.isolated,
        "effect": observed.effect.to_json(),
        "lines": [_line_json(line) for line in lines_of(observed.effect)],
        "tenants": [
            {"tenant": hit.tenant.key, "label": hit.tenant.label, "effect": hit.effect.to_json()}
            for hit in hits_of(observed)
        ],
        "schema": [
            {
                "change": change.alteration.value,
                "kind": change.kind,
                "name": change.name,
                "before": change.before,
                "after": change.after,
                "irreversible": change.irreversible,
                "rows": sum(change.rows.values()),
                "tenants": len(change.rows),
            }
            for change in observed.schema
        ],
        "truncated": [
            {"table": one.table, "rows": {str(key): rows for key, rows in one.rows.items()}}
            for one in observed.truncated
        ],
        "rewritten": list(observed.rewritten),
        "locks": [{"table": lock.table, "mode": lock.mode} for lock in observed.locks],
        "sequences": [{"sequence": one.name, "before": one.before, "after": one.after} for one in observed.sequences],
        "large_objects": observed.large_objects,
        "notified": list(observed.notified),
        "attempts": [{"kind": one.kind, "what": one.what} for one in observed.attempts],
        "unguarded": list(observed.unguarded),
        "transactions": observed.transactions,
        "failed": observed.error,
        "wal_bytes": observed.wal_bytes,
        "script_seconds": round(observed.script_seconds, 3),
        "capture_seconds": round(observed.capture_seconds, 3),
        "seconds": {step: round(taken, 3) for step, taken in seconds.items()},
        "notes": list(observed.notes),
    }


def _line_json(line: Line) -> dict[str, object]:
    return {
        "table": line.table,
        "operation": line.operation.value,
        "rows": line.count.rows,
        "tenants": line.tenants,
        "columns": sorted(line.count.columns),
        "via": {via.value: line.count.via(via) for via in Via if line.count.via(via)},
        "keys": list(line.count.samples),
    }
