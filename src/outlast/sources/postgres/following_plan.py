"""A plan of what following needs made, or taken away, in a database: steps with their SQL and locks. Pure values.

Which steps there are is decided in following.py and following_teardown.py; following_steps.py carries them out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

FORMAT = 1


class PlanKind(StrEnum):
    SETUP = "follow-setup"
    TEARDOWN = "follow-teardown"


@dataclass(frozen=True, slots=True)
class Step:
    """Statements that are run in one transaction. `lacks` says what this role cannot do: another has to run it."""

    key: str
    what: str
    sql: tuple[str, ...]
    locks: str
    cost: str = ""
    lacks: str | None = None
    optional: bool = False  # without it following works, weaker; `cost` says how
    last: bool = False  # only when every step before it was done

    def to_json(self) -> dict[str, object]:
        return {
            "step": self.key,
            "what": self.what,
            "sql": list(self.sql),
            "locks": self.locks,
            "cost": self.cost,
            "lacks": self.lacks,
            "optional": self.optional,
            "last": self.last,
        }


@dataclass(frozen=True, slots=True)
class Unprotected:
    """What of a table following will not keep, and why; sweeps keep it all the same unless `sweeps` is False."""

    table: str
    what: str
    reason: str
    hint: str | None = None

    def to_json(self) -> dict[str, object]:
        return {"table": self.table, "what": self.what, "reason": self.reason, "hint": self.hint}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why nothing of a plan may be carried out."""

    code: str
    message: str
    hint: str

    def to_json(self) -> dict[str, object]:
        return {"code": self.code, "message": self.message, "hint": self.hint}


@dataclass(frozen=True, slots=True)
class FollowingPlan:
    """What `follow --setup` or `--teardown` shows and `--execute` does. Without steps there is nothing to do."""

    id: str
    kind: PlanKind
    source: str
    database: str
    slot: str
    publications: tuple[str, ...]
    steps: tuple[Step, ...]
    unprotected: tuple[Unprotected, ...] = ()
    remarks: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    whole: int = 0  # tables of which every change will be published
    partial: int = 0  # those of which some will not
    settings: Mapping[str, object] = field(default_factory=dict)  # what it was planned with, for `apply`

    @property
    def is_empty(self) -> bool:
        return not self.steps

    def same_steps(self, other: FollowingPlan) -> bool:
        """Whether the other plan would do exactly the same: what was shown still holds."""
        return [(step.key, step.sql) for step in self.steps] == [(step.key, step.sql) for step in other.steps]

    def to_json(self) -> dict[str, object]:
        return {
            "plan": self.id,
            "kind": self.kind.value,
            "source": self.source,
            "database": self.database,
            "slot": self.slot,
            "publications": list(self.publications),
            "tables_whole": self.whole,
            "tables_partial": self.partial,
            "steps": [step.to_json() for step in self.steps],
            "unprotected": [one.to_json() for one in self.unprotected],
            "remarks": list(self.remarks),
            "refusals": [one.to_json() for one in self.refusals],
        }

    def to_bytes(self) -> bytes:
        return json.dumps({"format": FORMAT, **self.to_json(), "settings": dict(self.settings)}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> FollowingPlan:
        kept = json.loads(data)
        return cls(
            kept["plan"],
            PlanKind(kept["kind"]),
            kept["source"],
            kept["database"],
            kept["slot"],
            tuple(kept["publications"]),
            tuple(
                Step(
                    one["step"],
                    one["what"],
                    tuple(one["sql"]),
                    one["locks"],
                    one["cost"],
                    one["lacks"],
                    one["optional"],
                    one["last"],
                )
                for one in kept["steps"]
            ),
            settings=kept["settings"],
        )


def script(plan: FollowingPlan, lock_timeout_s: float) -> str:
    """The whole plan as SQL for psql, for whoever owns the tables. Each step is a transaction of its own."""
    lines = [
        f"-- Outlast: {plan.kind.value} of source {plan.source} in database {plan.database}.",
        "-- Read it, then run it with psql as the tables' owner or a superuser. A step that cannot get its lock ends",
        "-- with an error and changes nothing: run the script again, or plan anew for what is missing.",
        f"SET lock_timeout = '{int(lock_timeout_s * 1000)}ms';",
    ]
    for step in plan.steps:
        lines += ["", f"-- {step.what}", f"-- locks: {step.locks}"]
        if step.lacks:
            lines.append(f"-- {step.lacks}")
        lines += ["BEGIN;", *(f"{statement};" for statement in step.sql), "COMMIT;"]
    return "\n".join(lines) + "\n"
