"""A moment: a position in a source's history."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

from outlast.core.errors import UsageError


@dataclass(frozen=True, slots=True, order=True)
class Lsn:
    """A position in PostgreSQL's write-ahead log, in bytes."""

    value: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `16/B374D848`. Raises ValueError for anything else."""
        high, slash, low = text.partition("/")
        if not slash or not (0 < len(high) <= 8 and 0 < len(low) <= 8):
            raise ValueError(f"not an LSN: {text!r}")
        return cls((int(high, 16) << 32) | int(low, 16))

    def __str__(self) -> str:
        return f"{self.value >> 32:X}/{self.value & 0xFFFFFFFF:X}"


@dataclass(frozen=True, slots=True)
class Moment:
    """Where a manifest stands in the source's history.

    A snapshot and an LSN are not the same point (docs/ARCHITECTURE.md, "Snapshot and LSN"): `snapshot` is the exact set
    of transactions seen, `low` and `high` bracket it in the log, and the moment serves requests from `high` on. `time`
    is the server's clock when the snapshot was taken, UTC. A tool has no log: its positions are 0, its snapshot empty.
    """

    time: datetime
    low: Lsn
    high: Lsn
    snapshot: str  # pg_snapshot: xmin:xmax:in-progress

    def __str__(self) -> str:
        time = f"{self.time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC"
        return f"{time} (LSN {self.high})" if self.high.value else time

    def to_json(self) -> dict[str, str]:
        return {
            "time": self.time.astimezone(UTC).isoformat(),
            "low": str(self.low),
            "high": str(self.high),
            "snapshot": self.snapshot,
        }

    @classmethod
    def from_json(cls, data: dict[str, str]) -> Self:
        return cls(
            datetime.fromisoformat(data["time"]), Lsn.parse(data["low"]), Lsn.parse(data["high"]), data["snapshot"]
        )


def parse_moment(text: str) -> Lsn | datetime:
    """An LSN, or a timestamp (UTC where it names no zone). Raises UsageError."""
    try:
        if "/" in text:
            return Lsn.parse(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a moment",
            hint="Write latest, run:7, a timestamp such as 2026-11-23T10:15:00Z, or an LSN such as 16/B374D848.",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
