"""A finding: one thing that keeps a script from running, and the words in which such things are told."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from outlast.core.effect import Operation
from outlast.core.intent import Expected
from outlast.core.tenant import TenantKey


class FindingKind(StrEnum):
    """What is wrong, for machines."""

    NO_INTENT = "no-intent"
    DRAFTED = "drafted"
    REFUSED = "refused"  # the script holds what Outlast does not run
    FAILED = "failed"  # the script ended with an error
    UNDECLARED = "undeclared"
    AMBIGUOUS = "ambiguous"  # a label that could be several tenants'
    TENANTS = "tenants"  # touched, and not listed
    TOO_MANY = "too-many"
    TOO_FEW = "too-few"
    UNTOUCHED = "untouched"  # tenants listed, and not touched
    COLUMNS = "columns"
    SCHEMA = "schema"
    SEQUENCE = "sequence"
    UNDO = "undo"  # what cannot be undone, and nobody waived that


class Weight(IntEnum):
    """How much a finding gives away, the most first."""

    SCRIPT = 0
    DESTROYED = 1
    UNDECLARED = 2
    OTHER = 3
    CARRIED = 4  # by a cascade or trigger: a consequence
    TENANTS = 5
    FEW = 6
    LAST = 7


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that keeps a script from running. `table` is empty where it is about none."""

    kind: FindingKind
    message: str
    table: str = ""
    operation: Operation | None = None
    rows: int = 0
    tenants: tuple[TenantKey, ...] = ()
    line: int = 0  # of the intent, where one line is contradicted
    weight: int = Weight.OTHER

    def to_json(self) -> dict[str, object]:
        return {
            "kind": self.kind.value,
            "message": self.message,
            "table": self.table or None,
            "operation": self.operation.value if self.operation else None,
            "rows": self.rows,
            "tenants": list(self.tenants),
            "line": self.line or None,
        }


def destroys(operation: Operation) -> bool:
    return operation in (Operation.HARD_DELETE, Operation.TRUNCATE)


_DONE = {
    Operation.INSERT: "inserted",
    Operation.UPDATE: "updated",
    Operation.SOFT_DELETE: "soft-deleted",
    Operation.HARD_DELETE: "deleted for good",
    Operation.TRUNCATE: "truncated",
    Operation.MOVE: "moved to another tenant",
}


def done(operation: Operation) -> str:
    return _DONE[operation]


def rows_text(number: int) -> str:
    return number_text(number, "row")


def number_text(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def range_text(line: Expected) -> str:
    return f"{line.low:,}" if line.low == line.high else f"{line.low:,} to {line.high:,}"


def some_text(names: Iterable[str], most: int = 5) -> str:
    listed = list(names)
    more = f" and {len(listed) - most:,} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def span_text(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
