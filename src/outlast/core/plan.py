"""A plan: what is to be done to a source, the effect it will have, and a fingerprint of the state it was computed from.

A plan holds no rows. It is a deterministic recipe (these tenants, this moment of the vault, this mode) with the hashes
that say what the recipe gave: applying it works the recipe again, and refuses when anything came out differently.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from outlast.core.conflict import Conflict as Conflict
from outlast.core.conflict import ConflictKind as ConflictKind
from outlast.core.conflict import Policy as Policy
from outlast.core.conflict import Resolution as Resolution
from outlast.core.effect import Effect, merge
from outlast.core.errors import OutlastError
from outlast.core.recipe import Mode as Mode
from outlast.core.recipe import Recipe as Recipe
from outlast.core.tenant import Tenant, TenantKey

FORMAT = 2
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: nothing in it is mistaken for something else
_EPOCH = datetime(2025, 1, 1, tzinfo=UTC)


class TenantState(StrEnum):
    """Where one tenant of a plan stands."""

    PLANNED = "planned"
    RIGHT = "nothing-to-do"  # nothing was missing
    DONE = "done"  # written, read back, proven and committed
    REFUSED = "refused"  # conflicts, or a stale plan; nothing was changed
    FAILED = "failed"  # an error; nothing was changed


@dataclass(frozen=True, slots=True)
class TenantPlan:
    """One tenant's part. `base` and `target` are the roots, by table, of the live state before and after.

    Tables without rows are absent from both. `root` is over `target`. `changes` has a digest by table over every row
    that is inserted, deleted or changed, before and after: it is what a plan stands for. `snapshot` is what the plan
    was computed on. `resolutions` say how conflicts were settled. `kept` names the before-image, once it was written.
    """

    tenant: Tenant
    state: TenantState
    effect: Effect
    base: Mapping[str, str] = field(default_factory=dict)
    target: Mapping[str, str] = field(default_factory=dict)
    root: str = ""
    exact: bool = False  # whether `root` is the manifest's: the tenant is then exactly as it was backed up
    conflicts: tuple[Conflict, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    error: str | None = None
    changes: Mapping[str, str] = field(default_factory=dict)
    snapshot: str = ""
    resolutions: tuple[Resolution, ...] = ()
    kept: str | None = None

    def agrees_with(self, other: TenantPlan) -> bool:
        """Whether the recipe gave the same again: every row before and after, and how conflicts were settled.

        What else the tenant's own users wrote meanwhile does not matter: no row that the plan touches is among it.
        """
        return (self.changes, self.effect.to_json(), self.conflicts, self.resolutions) == (
            other.changes,
            other.effect.to_json(),
            other.conflicts,
            other.resolutions,
        )

    def to_json(self) -> dict[str, object]:
        """The shape that `--json` promises."""
        return {
            "tenant": self.tenant.key,
            "label": self.tenant.label,
            "state": self.state.value,
            "effect": self.effect.to_json(),
            "root": self.root,
            "exact": self.exact,
            "seconds": round(self.seconds, 3),
            "notes": list(self.notes),
            "error": self.error,
        }

    def to_record(self) -> dict[str, object]:
        return {
            **self.to_json(),
            "effect": self.effect.to_record(),
            "base": dict(self.base),
            "target": dict(self.target),
            "conflicts": [conflict.to_json() for conflict in self.conflicts],
            "changes": dict(self.changes),
            "snapshot": self.snapshot,
            "resolutions": [resolution.to_json() for resolution in self.resolutions],
            "kept": self.kept,
        }

    @classmethod
    def from_record(cls, data: dict[str, object]) -> Self:
        effect, conflicts, notes, seconds = data["effect"], data["conflicts"], data["notes"], data["seconds"]
        base, target, label, error = data["base"], data["target"], data["label"], data["error"]
        changes, resolutions, kept = data["changes"], data["resolutions"], data["kept"]
        assert isinstance(effect, list)
        assert isinstance(conflicts, list)
        assert isinstance(notes, list)
        assert isinstance(seconds, int | float)
        assert isinstance(base, dict)
        assert isinstance(target, dict)
        assert isinstance(changes, dict)
        assert isinstance(resolutions, list)
        return cls(
            Tenant(TenantKey(str(data["tenant"])), None if label is None else str(label)),
            TenantState(str(data["state"])),
            Effect.from_record(effect),
            base,
            target,
            str(data["root"]),
            bool(data["exact"]),
            tuple(Conflict.from_json(conflict) for conflict in conflicts),
            tuple(notes),
            seconds,
            None if error is None else str(error),
            changes,
            str(data["snapshot"]),
            tuple(Resolution.from_json(resolution) for resolution in resolutions),
            None if kept is None else str(kept),
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What `restore` and `undo` show and `apply` does. `target` is the URL written to, None for the source itself.

    A target's URL may carry a password: plans are kept encrypted, and `redacted` is what people are shown.
    """

    id: str
    kind: str
    source: str
    recipe: Recipe
    run: int
    moment: str
    created: datetime
    tenants: tuple[TenantPlan, ...]
    target: str | None = None
    shape: str = ""  # hash of the live catalog that was planned against
    applied: datetime | None = None
    at: str = ""  # how to name the very same moment again; empty: run:N

    @property
    def mode(self) -> Mode:
        return self.recipe.mode

    @property
    def tables(self) -> tuple[str, ...]:
        """Those asked for by --table; empty: all."""
        return self.recipe.tables

    @property
    def effect(self) -> Effect:
        return merge(tenant.effect for tenant in self.tenants)

    @property
    def conflicts(self) -> tuple[Conflict, ...]:
        return tuple(conflict for tenant in self.tenants for conflict in tenant.conflicts)

    @property
    def executed(self) -> bool:
        return self.applied is not None

    def count(self, state: TenantState) -> int:
        return sum(tenant.state is state for tenant in self.tenants)

    def with_tenants(self, tenants: tuple[TenantPlan, ...], applied: datetime | None) -> Plan:
        return replace(self, tenants=tenants, applied=applied)

    def to_json(self) -> dict[str, object]:
        """The fields that `restore`, `apply` and `undo` give under --json."""
        return {
            "plan": self.id,
            "executed": self.executed,
            "mode": self.mode.value,
            "run": self.run,
            "moment": self.moment,
            "tenants": [tenant.to_json() for tenant in self.tenants],
            "effect": self.effect.to_json(),
            "conflicts": [conflict.to_json() for conflict in self.conflicts],
        }

    def to_bytes(self) -> bytes:
        document = {
            "format": FORMAT,
            "id": self.id,
            "kind": self.kind,
            "source": self.source,
            "recipe": self.recipe.to_json(),
            "run": self.run,
            "moment": self.moment,
            "created": self.created.isoformat(),
            "target": self.target,
            "shape": self.shape,
            "applied": None if self.applied is None else self.applied.isoformat(),
            "at": self.at,
            "tenants": [tenant.to_record() for tenant in self.tenants],
        }
        return json.dumps(document, sort_keys=True).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        document = json.loads(data)
        if document.get("format") != FORMAT:
            raise OutlastError(
                "cannot read the plan: another version of Outlast made it",
                hint="Plan again with `outlast restore`.",
                code="plan-format",
            )
        return cls(
            document["id"],
            document["kind"],
            document["source"],
            Recipe.from_json(document["recipe"]),
            document["run"],
            document["moment"],
            datetime.fromisoformat(document["created"]),
            tuple(TenantPlan.from_record(tenant) for tenant in document["tenants"]),
            document["target"],
            document["shape"],
            None if document["applied"] is None else datetime.fromisoformat(document["applied"]),
            document["at"],
        )


def new_plan_id(now: datetime, entropy: bytes | None = None) -> str:
    """Nine characters that sort by time (to the second) and end in two random ones: short enough to type."""
    number = max(0, int((now - _EPOCH).total_seconds())) << 10
    number |= int.from_bytes(entropy or secrets.token_bytes(2), "big") & 0x3FF
    letters = ""
    for _ in range(9):
        number, digit = divmod(number, len(_ALPHABET))
        letters = _ALPHABET[digit] + letters
    return letters


def shape_hash(parts: object) -> str:
    """A hash over what a plan depends on in the catalog, given as plain lists and strings."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]
