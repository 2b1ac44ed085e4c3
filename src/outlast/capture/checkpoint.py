"""Where following stands: what the route map notes with every commit, and what it is held against after a start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from outlast.core.moment import Lsn
from outlast.core.table import TableName

NOTE, DOUBTS = "checkpoint", "doubts"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The route map is as of `position`, in the log of `epoch`. Of the vault's log, `segment` was the newest then."""

    epoch: int
    slot: str
    system: str
    timeline: int
    base_run: int
    position: Lsn
    segment: int
    digest: str

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "position": str(self.position)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self | None:
        if not data:
            return None
        return cls(**{**data, "position": Lsn.parse(data["position"])})


def doubts_to_json(doubts: Mapping[TableName | None, Lsn]) -> dict[str, Any]:
    """Tables of which something is not known (None: all), each from when on: who starts next has to mend them."""
    return {"tables": [[None if table is None else str(table), str(since)] for table, since in doubts.items()]}


def doubts_from_json(data: Mapping[str, Any]) -> dict[TableName | None, Lsn]:
    return {
        None if table is None else TableName.parse(table): Lsn.parse(since) for table, since in data.get("tables", ())
    }
