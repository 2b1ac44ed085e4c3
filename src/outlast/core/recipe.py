"""A recipe: everything that decides what a restore does, beside the tenants and the moment. Part of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from outlast.core.conflict import Policy
from outlast.core.table import TableName


class Mode(StrEnum):
    """What a restore does to rows.

    MISSING puts back what is gone, and never touches a row that exists. REWIND makes the tenant equal to the moment.
    REVERSE takes back certain changes, row by row, and keeps what came after: undo, and the repair of a damage.
    """

    MISSING = "missing"
    REWIND = "rewind"
    REVERSE = "reverse"


class Prefer(StrEnum):
    """Whose row wins where what is to be reversed was changed again afterwards."""

    VAULT = "vault"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class Recipe:
    """`tables`, `excluded` and `where` narrow it down; `keep` names columns (`column` or `table.column`) whose larger
    value stays.

    `on_conflict` gives a policy by constraint, `*` for all others. `undo_of` is the plan that is taken back,
    `damage_since` the moment from which damage is.
    """

    mode: Mode = Mode.MISSING
    tables: tuple[str, ...] = ()  # --table; empty: all
    where: tuple[str, ...] = ()  # keys of rows of the one table
    keep: tuple[str, ...] = ()
    delete_newer: bool = False
    on_conflict: Mapping[str, Policy] = field(default_factory=dict)
    with_shared: bool = False
    prefer: Prefer | None = None
    undo_of: str | None = None
    damage_since: str | None = None
    damage_until: str | None = None
    transactions: tuple[int, ...] = ()  # of the damage: only these, and all that they did
    without_undo: bool = False  # keep no before-image: the host has no keys to write to the vault
    excluded: tuple[str, ...] = ()  # --exclude-table

    def policy(self, constraint: str) -> Policy:
        return self.on_conflict.get(constraint) or self.on_conflict.get("*", Policy.ABORT)

    @property
    def without(self) -> frozenset[TableName]:
        """The tables that it leaves as they are."""
        return frozenset(TableName.parse(name) for name in self.excluded)

    def to_json(self) -> dict[str, object]:
        return {
            "mode": self.mode.value,
            "tables": list(self.tables),
            "where": list(self.where),
            "keep": list(self.keep),
            "delete_newer": self.delete_newer,
            "on_conflict": {name: policy.value for name, policy in self.on_conflict.items()},
            "with_shared": self.with_shared,
            "prefer": self.prefer and self.prefer.value,
            "undo_of": self.undo_of,
            "damage_since": self.damage_since,
            "damage_until": self.damage_until,
            "transactions": list(self.transactions),
            "without_undo": self.without_undo,
            "excluded": list(self.excluded),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, object]) -> Self:
        tables, where, keep, settled = data["tables"], data["where"], data["keep"], data["on_conflict"]
        prefer, undo_of, since, until = (data[name] for name in ("prefer", "undo_of", "damage_since", "damage_until"))
        transactions, excluded = data["transactions"], data["excluded"]
        assert isinstance(excluded, list)
        assert isinstance(transactions, list)
        assert isinstance(tables, list)
        assert isinstance(where, list)
        assert isinstance(keep, list)
        assert isinstance(settled, dict)
        return cls(
            Mode(str(data["mode"])),
            tuple(tables),
            tuple(where),
            tuple(keep),
            bool(data["delete_newer"]),
            {str(name): Policy(str(policy)) for name, policy in settled.items()},
            bool(data["with_shared"]),
            None if prefer is None else Prefer(str(prefer)),
            None if undo_of is None else str(undo_of),
            None if since is None else str(since),
            None if until is None else str(until),
            tuple(transactions),
            bool(data["without_undo"]),
            tuple(excluded),
        )
