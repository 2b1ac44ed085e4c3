"""What must be read: the census held against what this host remembers. Pure, but for the records it is given."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from outlast.capture.census import Census, Seen
from outlast.capture.part import TenantTask
from outlast.capture.records import TenantRecord
from outlast.core.errors import NotFoundError, UsageError
from outlast.core.table import OwnershipKind, Table
from outlast.core.tenant import SCHEMA, Tenant, TenantKey


@dataclass(frozen=True, slots=True)
class Decision:
    """Tenants to read; tenants of whom only the label is new; tenants that an interrupted backup wrote already."""

    tasks: tuple[TenantTask, ...]
    relabelled: Mapping[TenantKey, str | None]
    resumed: frozenset[TenantKey]

    @property
    def rows(self) -> int:
        return sum(sum(task.read.values()) for task in self.tasks)


@dataclass(frozen=True, slots=True)
class Remembered:
    """What decides about one tenant, of the much more that its record holds."""

    prefix: str
    recipient: str
    label: str | None
    seen: Mapping[str, bytes]
    trusted: bool  # whether `seen` can be compared with a census of now

    def to_read(self, runs: Mapping[str, Seen]) -> dict[str, int]:
        """Rows to read by table: of the runs that are not as they were."""
        before = self.seen if self.trusted else {}
        return {name: run.rows for name, run in runs.items() if not run.is_as(before.get(name))}

    def is_as(self, runs: Mapping[str, Seen]) -> bool:
        return set(self.seen) == set(runs) and not self.to_read(runs)


def remember(records: Iterable[TenantRecord], erased: frozenset[str], *, trusted: bool) -> dict[TenantKey, Remembered]:
    """What is known of each tenant. One whose key was destroyed is not known: should it still be in the database, it
    is a new tenant, under a new key."""
    return {
        record.tenant.key: Remembered(record.prefix, record.recipient, record.tenant.label, record.seen, trusted)
        for record in records
        if record.tenant.key != SCHEMA and record.recipient not in erased
    }


def decide(
    census: Census,
    tenants: Mapping[TenantKey, Tenant],
    remembered: Mapping[TenantKey, Remembered],
    pending: Mapping[TenantKey, Remembered],
    *,
    prefix_of: Callable[[TenantKey], str],
    recipients: Mapping[str, str],
    complete: bool,
) -> Decision:
    """Hold the census against what is remembered, and against what an interrupted backup has left (`pending`).

    `complete` says that the census is of all tenants: those it does not have then have no rows any more.
    """
    tasks: list[TenantTask] = []
    relabelled: dict[TenantKey, str | None] = {}
    resumed: set[TenantKey] = set()
    gone = [key for key, one in remembered.items() if one.seen] if complete else []
    for key in dict.fromkeys((*census.tenants, *gone)):
        runs = {str(table.name): run for table, run in census.runs(key)}
        before = remembered.get(key)
        # A tenant whose root row is gone keeps its last label, since that is what people know it by.
        label = tenants[key].label if key in tenants else before.label if before else None
        if before is not None and before.is_as(runs):
            if label != before.label:
                relabelled[key] = label
            continue
        left = pending.get(key)
        if left is not None and left.is_as(runs) and left.label == label:
            resumed.add(key)
            continue
        prefix = before.prefix if before else prefix_of(key)
        tasks.append(
            TenantTask(
                Tenant(key, label),
                prefix,
                before.recipient if before else recipients.get(prefix),
                seen={name: run.digest for name, run in runs.items()},
                read=before.to_read(runs) if before else {name: run.rows for name, run in runs.items()},
                remembered=before is not None,
            )
        )
    return Decision(tuple(tasks), relabelled, frozenset(resumed))


def everyone(
    tenants: Mapping[TenantKey, Tenant],
    remembered: Mapping[TenantKey, Remembered],
    *,
    prefix_of: Callable[[TenantKey], str],
    recipients: Mapping[str, str],
) -> tuple[TenantTask, ...]:
    """Every tenant that is known before anything is counted: what the tenant table and this host have of each."""
    tasks: list[TenantTask] = []
    for key in dict.fromkeys((*tenants, *remembered)):
        before = remembered.get(key)
        tenant = tenants.get(key) or Tenant(key, before.label if before else None)
        prefix = before.prefix if before else prefix_of(key)
        recipient = before.recipient if before else recipients.get(prefix)
        tasks.append(TenantTask(tenant, prefix, recipient, seen={}, read={}, remembered=before is not None))
    return tuple(tasks)


def split(
    tasks: Sequence[TenantTask], tables: Sequence[Table], rows: Mapping[str, int], count: int
) -> list[list[TenantTask]]:
    """Tasks in `count` parts of about the same size in bytes; `rows` is each table's number of rows."""
    width = {str(table.name): table.size_bytes / max(1, rows.get(str(table.name), 0)) for table in tables}
    weights = {task.tenant.key: sum(number * width[name] for name, number in task.read.items()) for task in tasks}
    parts: list[list[TenantTask]] = [[] for _ in range(count)]
    filled = [0.0] * count
    for task in sorted(tasks, key=lambda one: -weights[one.tenant.key]):
        least = filled.index(min(filled))
        parts[least].append(task)
        filled[least] += weights[task.tenant.key] + 1
    return [part for part in parts if part]


def estimate_bytes(tasks: Sequence[TenantTask], tables: Sequence[Table], rows: Mapping[str, int]) -> int:
    """How much there is to read, by each table's mean width."""
    width = {str(table.name): table.size_bytes / max(1, rows.get(str(table.name), 0)) for table in tables}
    return int(sum(number * width[name] for task in tasks for name, number in task.read.items()))


def shares(part: Sequence[TenantTask], rows: Mapping[str, int], *, complete: bool) -> dict[str, float]:
    """By table, how much of it this part reads, from 0 to 1. Of a census of some tenants only, nothing is known: 0."""
    read: dict[str, int] = {}
    for task in part:
        for name, number in task.read.items():
            read[name] = read.get(name, 0) + number
    return {name: number / rows[name] if complete else 0.0 for name, number in read.items()}


def is_swept(table: Table) -> bool:
    return table.ownership.kind in (OwnershipKind.OWNED, OwnershipKind.SHARED)


def find_tenant(tenants: Mapping[TenantKey, Tenant], name: str) -> TenantKey:
    """The tenant of the source that a person named, by key or label."""
    if name in tenants:
        return TenantKey(name)
    found = [key for key, tenant in tenants.items() if tenant.label == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"{len(found)} tenants have the label {name!r}", hint=f"Use the key: {', '.join(found[:10])}.")
    close = difflib.get_close_matches(name, [tenant.label for tenant in tenants.values() if tenant.label], 3)
    raise NotFoundError(
        f"there is no tenant {name!r} in the source",
        hint=f"Did you mean {' or '.join(close)}?" if close else "The vault's tenants: outlast tenants",
        code="unknown-tenant",
    )
