"""The row counters of the session's own transaction: a second witness to what was written, triggers included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from outlast.core.table import TableName
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.statements import statement

Counters = Mapping[TableName, Counter[str]]
"""Rows inserted (i), updated (u) and deleted (d), by table; partitions count for their root."""


def read_counters(connection: Session) -> Counters | None:
    """The counters as they stand; None where the server does not count (track_counts off). Only differences count."""
    row = connection.execute(b"SELECT pg_catalog.current_setting('track_counts')").fetchone()
    if row is None or row[0] != "on":
        return None
    found: dict[TableName, Counter[str]] = {}
    for schema, name, inserted, updated, deleted in connection.execute(statement("write_counters")):
        found[TableName(schema, name)] = Counter({"i": int(inserted), "u": int(updated), "d": int(deleted)})
    return found


@dataclass(frozen=True, slots=True)
class Surplus:
    """What was done to a table beyond the plan. A negative number: less than planned."""

    table: TableName
    inserted: int
    updated: int
    deleted: int

    def __str__(self) -> str:
        parts = [
            f"{number:+,} {word}"
            for number, word in ((self.inserted, "inserted"), (self.updated, "updated"), (self.deleted, "deleted"))
            if number
        ]
        return f"{self.table} ({', '.join(parts)})"


def surplus(before: Counters, after: Counters, planned: Counters) -> list[Surplus]:
    """Where the difference of two readings is not what was planned.

    A row that an update moves to another partition counts as deleted there and inserted here, so the sums are compared.
    """
    found = []
    for table in sorted(after.keys() | planned.keys()):
        now, then, wanted = (one.get(table, Counter()) for one in (after, before, planned))
        done = {one: now[one] - then[one] - wanted[one] for one in "iud"}
        if done["i"] + done["u"] or done["d"] + done["u"]:
            found.append(Surplus(table, done["i"], done["u"], done["d"]))
    return found
