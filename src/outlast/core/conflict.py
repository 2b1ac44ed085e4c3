"""A conflict: why a tenant cannot be restored as things stand, or how a policy settled it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from outlast.core.tenant import TenantKey


class ConflictKind(StrEnum):
    KEY_TAKEN = "key-taken"  # the primary key belongs to another row now
    VALUE_TAKEN = "value-taken"  # another unique value, or an exclusion constraint
    PARENT_GONE = "parent-gone"
    VALUE_REFUSED = "value-refused"  # NOT NULL, CHECK, or the column's type
    TABLE_CHANGED = "table-changed"  # table or column dropped, key changed, column added without a usable default
    ERASED = "erased"
    PARTITION_GONE = "partition-gone"
    NEWER_ROWS = "newer-rows"  # a rewind would delete rows that came since, and --delete-newer was not given
    REFERENCED = "referenced"  # a row that would be deleted is pointed at from outside the plan
    CHANGED_SINCE = "changed-since"  # what is to be reversed was changed again afterwards
    NOT_EXACT = "not-exact"  # what was read back is not what was planned: a trigger, a rule, another type


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why a tenant cannot be restored as things stand.

    `keys` are samples: of the tenant's own rows, or, for PARENT_GONE, of the rows they point at. `values` are what
    those rows need and somebody else has. `holders` are the tenants that hold it. No more of another tenant is told.
    """

    tenant: TenantKey
    table: str
    kind: ConflictKind
    message: str
    constraint: str | None = None
    rows: int = 0
    keys: tuple[str, ...] = ()
    holders: tuple[str, ...] = ()
    hint: str | None = None
    values: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "tenant": self.tenant,
            "table": self.table,
            "kind": self.kind.value,
            "constraint": self.constraint,
            "rows": self.rows,
            "keys": list(self.keys),
            "values": list(self.values),
            "holders": list(self.holders),
            "message": self.message,
            "hint": self.hint,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        keys, holders, rows, values = data["keys"], data["holders"], data["rows"], data["values"]
        assert isinstance(values, list)
        assert isinstance(keys, list)
        assert isinstance(holders, list)
        assert isinstance(rows, int)
        constraint, hint = data["constraint"], data["hint"]
        return cls(
            TenantKey(str(data["tenant"])),
            str(data["table"]),
            ConflictKind(str(data["kind"])),
            str(data["message"]),
            None if constraint is None else str(constraint),
            rows,
            tuple(keys),
            tuple(holders),
            None if hint is None else str(hint),
            tuple(values),
        )


class Policy(StrEnum):
    """What settles a conflict over a unique value or a key (`--on-conflict CONSTRAINT=POLICY`)."""

    ABORT = "abort"
    SUFFIX = "suffix"  # the restored row's text value gets an ending that nobody has
    NULL = "null"  # the restored row's value is left empty
    SKIP = "skip"  # the row is not restored
    REMAP = "remap"  # the row gets a new key, and so does everything of the tenant that points at it


@dataclass(frozen=True, slots=True)
class Resolution:
    """How a policy settled one row's conflict: part of the plan, so that applying it does the same.

    `key` is the stored row's key as COPY fields joined by tabs. `values` are the COPY fields that it gets instead of
    those stored, by column; with SKIP there are none.
    """

    table: str
    key: str
    constraint: str
    policy: Policy
    values: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        return {
            "table": self.table,
            "key": self.key,
            "constraint": self.constraint,
            "policy": self.policy.value,
            "values": dict(self.values),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        values = data["values"]
        assert isinstance(values, dict)
        return cls(
            str(data["table"]), str(data["key"]), str(data["constraint"]), Policy(str(data["policy"])), dict(values)
        )
