"""Overrides that people set here while standing in: who takes over a schedule, from when until when.

They are kept in the shared state, are never deleted (an ended one keeps who ended it), and are what failback carries to
the recovered tool.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Column, Connection, Float, MetaData, Row, Table, Text, insert, select, update

from outlast.core.errors import NotFoundError, UsageError
from outlast.oncall.schedule import Interval, Override, Responder
from outlast.state.database import Database, Schema, adding

metadata = MetaData()

table = Table(
    "oncall_override",
    metadata,
    Column("id", Text, primary_key=True),
    Column("schedule", Text, nullable=False, index=True),  # its key: source/id
    Column("person_id", Text, nullable=False),
    Column("person_name", Text, nullable=False),
    Column("starts_at", Float, nullable=False),
    Column("ends_at", Float, nullable=False),
    Column("note", Text, nullable=False),
    Column("set_by", Text, nullable=False),
    Column("set_at", Float, nullable=False),
    Column("ended_by", Text),
    Column("ended_at", Float),
    Column("taken_at", Float),  # when it went to the tool
    Column("taken_as", Text),  # its key there
    Column("taken_url", Text),
    Column("attempted_at", Float),  # when it was sent to the tool, as long as it is not known to be there
)
"""Times are seconds since the epoch. An ended override counts until it was ended."""

SCHEMA = Schema("oncall", metadata, (adding(table, "taken_at", "taken_as", "taken_url", "attempted_at"),))


@dataclass(frozen=True, slots=True)
class LocalOverride:
    id: str
    schedule: str
    person: Responder
    interval: Interval
    note: str
    set_by: str
    set_at: datetime
    ended_by: str | None = None
    taken_at: float | None = None
    taken_as: str | None = None
    taken_url: str | None = None
    attempted_at: float | None = None

    def laid(self) -> Override:
        return Override(self.person, self.interval.start, self.interval.end, (), "set here")


def put(
    database: Database, schedule: str, person: Responder, interval: Interval, *, by: str, at: datetime, note: str = ""
) -> LocalOverride:
    """Set an override. Raises UsageError where it would be over already, or never begin."""
    if interval.end <= interval.start:
        raise UsageError("an override has to end after it begins", hint="Give an end that is later.")
    if interval.end <= at:
        raise UsageError("this override would be over already", hint="Give an end in the future.")
    one = LocalOverride(secrets.token_hex(8), schedule, person, interval, note.strip(), by, at)
    values = {
        "id": one.id,
        "schedule": schedule,
        "person_id": person.id,
        "person_name": person.name,
        "starts_at": interval.start.timestamp(),
        "ends_at": interval.end.timestamp(),
        "note": one.note,
        "set_by": by,
        "set_at": at.timestamp(),
    }
    with database.write() as connection:
        connection.execute(insert(table).values(values))
    return one


def end(database: Database, override: str, *, by: str, at: datetime) -> None:
    """End an override now. Raises NotFoundError where there is none, or it is over."""
    with database.write() as connection:
        ended = connection.execute(
            update(table)
            .where(table.c.id == override, table.c.ended_at.is_(None), table.c.ends_at > at.timestamp())
            .values(ended_by=by, ended_at=at.timestamp())
        )
        if not ended.rowcount:
            raise NotFoundError("there is no such override any more", hint="Look at the schedule again.")


def all_of(database: Database, schedule: str | None = None) -> list[LocalOverride]:
    """The overrides of a schedule, or of all, in the order in which they were set; ended ones as long as they held."""
    with database.read() as connection:
        return read(connection, schedule)


def read(connection: Connection, schedule: str | None = None) -> list[LocalOverride]:
    query = select(table).order_by(table.c.set_at, table.c.id)
    if schedule is not None:
        query = query.where(table.c.schedule == schedule)
    found = (_of(row) for row in connection.execute(query))
    return [one for one in found if one.interval.start < one.interval.end]


def untaken(connection: Connection, now: datetime) -> list[LocalOverride]:
    """Those that still count and that no tool has yet, in the order in which they were set."""
    query = select(table).where(table.c.taken_at.is_(None)).order_by(table.c.set_at, table.c.id)
    return [one for one in map(_of, connection.execute(query)) if max(one.interval.start, now) < one.interval.end]


def ended_but_there(connection: Connection, now: datetime) -> list[LocalOverride]:
    """Those that a tool has, and that were ended here after that while they go on there."""
    went_on = (table.c.taken_as != "", table.c.ended_at > table.c.taken_at, table.c.ends_at > now.timestamp())
    return [_of(row) for row in connection.execute(select(table).where(*went_on).order_by(table.c.set_at))]


def taken_keys(connection: Connection, schedule: str) -> frozenset[str]:
    """What those of a schedule that went are called in the tool."""
    went = select(table.c.taken_as).where(table.c.schedule == schedule, table.c.taken_as != "")
    return frozenset(connection.scalars(went))


def newest_taken(connection: Connection, limit: int) -> list[LocalOverride]:
    """Those that went, or were left here, the newest first."""
    went = select(table).where(table.c.taken_at.is_not(None)).order_by(table.c.taken_at.desc()).limit(limit)
    return [_of(row) for row in connection.execute(went)]


def attempted(connection: Connection, override: str, at: float | None) -> None:
    """It is being sent to the tool; None: it is known not to have come there."""
    connection.execute(update(table).where(table.c.id == override).values(attempted_at=at))


def taken(connection: Connection, override: str, at: float, key: str, url: str | None) -> None:
    """It is in the tool, under that key."""
    values = {"taken_at": at, "taken_as": key, "taken_url": url, "attempted_at": None}
    connection.execute(update(table).where(table.c.id == override).values(values))


def laid_by_schedule(overrides: Sequence[LocalOverride]) -> dict[str, list[Override]]:
    found: dict[str, list[Override]] = {}
    for one in overrides:
        found.setdefault(one.schedule, []).append(one.laid())
    return found


def _of(row: Row[tuple[object, ...]]) -> LocalOverride:
    one = row._mapping
    until = min(one["ends_at"], one["ended_at"] or one["ends_at"])
    return LocalOverride(
        one["id"],
        one["schedule"],
        Responder("user", one["person_id"], one["person_name"]),
        Interval(_moment(one["starts_at"]), _moment(until)),
        one["note"],
        one["set_by"],
        _moment(one["set_at"]),
        one["ended_by"],
        one["taken_at"],
        one["taken_as"],
        one["taken_url"],
        one["attempted_at"],
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
