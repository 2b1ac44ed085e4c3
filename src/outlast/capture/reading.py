"""Under what a fingerprint holds: the same cluster, timeline and database, and not too many transactions since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from outlast.core.moment import Moment
from outlast.sources.postgres.schema import Catalog

TRANSACTIONS_MAX = 1 << 31
"""xmin has 32 bits: past this, a row version's number could be another's."""


@dataclass(frozen=True, slots=True)
class Reading:
    """Where and when a census was taken. `first` and `next_` are the snapshot's 64-bit xmin and xmax.

    Neither transactions nor the log may have gone back since: a volume that was put back to an earlier state hands out
    the same numbers again. One that went back, and then past where it was, cannot be told from inside: that takes
    `--full`.
    """

    cluster: str
    first: int
    next_: int
    position: int  # bytes of the log

    @classmethod
    def of(cls, catalog: Catalog, moment: Moment) -> Reading:
        first, next_, _ = moment.snapshot.split(":")
        cluster = f"{catalog.system_identifier}/{catalog.timeline}/{catalog.database_oid}"
        return cls(cluster, int(first), int(next_), moment.high.value)

    def to_json(self) -> dict[str, Any]:
        return {"cluster": self.cluster, "first": self.first, "next": self.next_, "position": self.position}

    def continues(self, about: Mapping[str, Any]) -> bool:
        """Whether what was seen then can be compared with what is seen now; never where it does not say enough."""
        return (
            about.keys() >= {"cluster", "first", "next", "position"}
            and about["cluster"] == self.cluster
            and about["next"] <= self.next_
            and about["position"] <= self.position
            and self.next_ - about["first"] < TRANSACTIONS_MAX
        )
