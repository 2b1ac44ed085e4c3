"""The journal: every incident's timeline, kept in the shared state. Whatever is written here is written once.

It owns numbers and uniqueness, and knows no rule: what may be said and when is conduct.py's. An event with a key that
the incident has already is passed over, so that whoever reports a thing twice, after a crash say, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select
from sqlalchemy.exc import IntegrityError

from outlast.core.errors import NotFoundError, TransientError
from outlast.core.link import LinkKey
from outlast.incident import tables
from outlast.incident.incident import Incident, IncidentId
from outlast.incident.timeline import Event, Kind, fold, moment, stamp
from outlast.state.database import Database

_TRIES = 20
"""Two instances on PostgreSQL that append at once take the same number; one of them tries again."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An event to be: the journal gives it its number."""

    kind: Kind
    facts: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None


class Journal:
    """Thread-safe, as the database is."""

    def __init__(self, database: Database) -> None:
        self.database = database
        database.install(tables.SCHEMA)

    def open(
        self, opened: Entry, who: str, now: datetime, more: Sequence[Entry] = (), *, source: str | None = None
    ) -> tuple[Incident, bool]:
        """A new incident and True; or, where `source` has one already, that and False."""
        for _ in range(_TRIES):
            try:
                with self.database.write() as connection:
                    if source is not None and (known := _of_source(connection, source)) is not None:
                        return _load(connection, known), False
                    incident = _new_id(connection, now)
                    if source is not None:
                        connection.execute(insert(tables.sources).values(source=source, incident=incident))
                    _append(connection, incident, [opened, *more], who, now)
                    return _load(connection, incident), True
            except TransientError as error:
                _raise_unless_taken(error)
        raise AssertionError("no number was free for a new incident")

    def append(self, incident: IncidentId, entries: Sequence[Entry], who: str, now: datetime) -> Incident:
        """Write what happened; gives what the incident is then. Raises NotFoundError where there is none."""
        for _ in range(_TRIES):
            try:
                with self.database.write() as connection:
                    if not _length(connection, incident):
                        raise _unknown(connection, incident)
                    _append(connection, incident, entries, who, now)
                    return _load(connection, incident)
            except TransientError as error:
                _raise_unless_taken(error)
        raise AssertionError("no number was free for an event")

    def load(self, incident: str) -> Incident:
        """Raises NotFoundError, with those that there are."""
        with self.database.read() as connection:
            return _load(connection, IncidentId(incident))

    def events(self, incident: str) -> list[Event]:
        """The whole timeline, in order."""
        with self.database.read() as connection:
            return list(_read(connection, incident=incident))

    def all(self) -> list[Incident]:
        """Every incident, the oldest first."""
        with self.database.read() as connection:
            found = [fold(events) for _, events in groupby(_read(connection), key=lambda event: event.incident)]
        return sorted((one for one in found if one is not None), key=lambda one: one.opened_at)

    def of_source(self, source: str) -> Incident | None:
        """The incident that something which Outlast saw belongs to."""
        with self.database.read() as connection:
            known = _of_source(connection, source)
            return None if known is None else _load(connection, known)

    def claim_source(self, source: str, incident: IncidentId) -> None:
        """Say that what comes from this source belongs to that incident. What belongs to another one stays there."""
        with self.database.write() as connection:
            if _of_source(connection, source) is None:
                connection.execute(insert(tables.sources).values(source=source, incident=incident))

    def link_key(self) -> LinkKey:
        """The key of signed links, made on first use; every instance that shares this state has the same."""
        with self.database.write() as connection:
            value = connection.scalar(select(tables.keys.c.value).where(tables.keys.c.name == "link"))
            if value is None:
                value = LinkKey.generate().hex()
                connection.execute(insert(tables.keys).values(name="link", value=value))
        return LinkKey(bytes.fromhex(value))


def _raise_unless_taken(error: TransientError) -> None:
    """Somebody else took the same number in the same moment: no error, try the next one."""
    if not isinstance(error.__cause__, IntegrityError):
        raise error


def _new_id(connection: Connection, now: datetime) -> IncidentId:
    """The day and a number within it: people say it aloud."""
    day = f"{now.astimezone(UTC):%Y%m%d}"
    events = tables.events
    names = connection.scalars(select(events.c.incident).where(events.c.incident.like(f"{day}-%")).distinct())
    return IncidentId(f"{day}-{max((int(name.partition('-')[2]) for name in names), default=0) + 1}")


def _of_source(connection: Connection, source: str) -> IncidentId | None:
    known = connection.scalar(select(tables.sources.c.incident).where(tables.sources.c.source == source))
    return None if known is None else IncidentId(known)


def _length(connection: Connection, incident: IncidentId) -> int:
    events = tables.events
    return connection.scalar(select(func.max(events.c.number)).where(events.c.incident == incident)) or 0


def _append(connection: Connection, incident: IncidentId, entries: Iterable[Entry], who: str, now: datetime) -> None:
    events, length = tables.events, _length(connection, incident)
    entries = list(entries)
    keys = [entry.key for entry in entries if entry.key is not None]
    known = set(
        connection.scalars(select(events.c.key).where(events.c.incident == incident, events.c.key.in_(keys)))
        if keys
        else ()
    )
    rows = []
    for entry in entries:
        if entry.key is not None:
            if entry.key in known:
                continue
            known.add(entry.key)
        length += 1
        rows.append(
            {
                "incident": incident,
                "number": length,
                "at": stamp(now),
                "kind": entry.kind.value,
                "who": who,
                "facts": json.dumps(entry.facts),
                "key": entry.key,
            }
        )
    if rows:
        connection.execute(insert(events), rows)


def _read(connection: Connection, incident: str | None = None) -> Iterator[Event]:
    events = tables.events
    query = select(events).order_by(events.c.incident, events.c.number)
    for row in connection.execute(query if incident is None else query.where(events.c.incident == incident)):
        yield _event(row)


def _event(row: Row[Any]) -> Event:
    at = moment(row.at)
    assert at is not None
    return Event(IncidentId(row.incident), row.number, at, Kind(row.kind), row.who, json.loads(row.facts), row.key)


def _load(connection: Connection, incident: IncidentId) -> Incident:
    found = fold(_read(connection, incident))
    if found is None:
        raise _unknown(connection, incident)
    return found


def _unknown(connection: Connection, incident: str) -> NotFoundError:
    names = connection.scalars(
        select(tables.events.c.incident).distinct().order_by(tables.events.c.incident.desc()).limit(5)
    ).all()
    known = f"The newest are: {', '.join(names)}." if names else "None was opened yet: outlast incident open TITLE"
    return NotFoundError(f"there is no incident {incident!r}", hint=known)
