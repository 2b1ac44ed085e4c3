"""Transactions that run in a server and hold others up: who they are, for how long, and how each is ended.

Never what they do: a statement may hold a customer's data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement

SHOWN_MAX = 5
LEAST_S = 2.0
"""What began less than this before is everyday traffic."""


@dataclass(frozen=True, slots=True)
class Running:
    """A session's transaction (`pid`), or a prepared one (`gid`). None is what this role may not see."""

    pid: int | None
    gid: str | None
    role: str | None
    database: str | None
    state: str | None
    seconds: float | None
    awaited: bool = False  # it is the one that is waited for at this moment

    def __str__(self) -> str:
        who = f"process {self.pid}" if self.gid is None else f"the prepared transaction {_quoted(self.gid)}"
        of = f" of {self.role}" if self.role else ""
        where = f" in {self.database}" if self.database else ""
        state = f" ({self.state})" if self.state else ""
        return f"{who}{of}{where}{state}" + ("" if self.seconds is None else f", {lasting(self.seconds)} old")

    @property
    def ending(self) -> str:
        """The statement that ends it."""
        if self.gid is not None:
            here = f" (connected to {self.database})" if self.database else ""
            return f"COMMIT PREPARED {_quoted(self.gid)} or ROLLBACK PREPARED {_quoted(self.gid)}{here}"
        return f"SELECT pg_terminate_backend({self.pid})"


@dataclass(frozen=True, slots=True)
class RunningTransactions:
    """The oldest of them, and how many there are in all."""

    oldest: tuple[Running, ...] = ()
    count: int = 0

    @classmethod
    def read(cls, session: Session, waiting_pid: int = 0, *, least_s: float = LEAST_S) -> RunningTransactions:
        """What has run for `least_s` seconds; `waiting_pid` is the process that waits. Raises psycopg.Error."""
        given = {"pid": waiting_pid, "least_s": least_s, "most": SHOWN_MAX}
        rows = session.execute(statement("running_transactions"), given).fetchall()
        return cls(tuple(Running(*row[:7]) for row in rows), int(rows[0][7]) if rows else 0)

    def __str__(self) -> str:
        more = self.count - len(self.oldest)
        return "; ".join(map(str, self.oldest)) + (f"; and {more:,} more" if more > 0 else "")

    @property
    def ending(self) -> str:
        """How the one is ended that is waited for now, else the oldest."""
        return next((one.ending for one in self.oldest if one.awaited), self.oldest[0].ending if self.oldest else "")


def lasting(seconds: float) -> str:
    """`12 s`, `5 min`, `3 h 10 min`, `2 d 4 h`."""
    whole = max(0, int(seconds))
    for unit_s, unit, lower_s, lower in _UNITS:
        if whole >= unit_s:
            rest = whole % unit_s // lower_s if lower_s else 0
            return f"{whole // unit_s} {unit}" + (f" {rest} {lower}" if rest else "")
    return f"{whole} s"


_UNITS: Sequence[tuple[int, str, int, str]] = (
    (86400, "d", 3600, "h"),
    (3600, "h", 60, "min"),
    (60, "min", 0, ""),
)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
