"""The outbox: letters that are to be sent, in the shared state, until each was sent or given up.

A letter is taken by a sender, sent, and written down as sent, one by one: whatever ends the process between two of
them loses none and doubles none. The one that was under way just then may have arrived: it is sent again, with the
same Message-ID, since nobody may be missed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from outlast.core.errors import TransientError
from outlast.incident import tables
from outlast.incident.letters import Letter
from outlast.incident.subscribers import Channel
from outlast.incident.timeline import stamp
from outlast.state.database import Database

_AT_ONCE = 500
PAUSES = tuple(timedelta(minutes=minutes) for minutes in (1, 5, 15, 60, 180, 360))
"""Between tries; after the last one a letter is given up."""


class LetterState(StrEnum):
    QUEUED = "queued"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"  # given up, or refused for good


@dataclass(frozen=True, slots=True)
class Taken:
    """A letter that a sender holds. `attempts` counts this one."""

    letter: Letter
    attempts: int


class Outbox:
    def __init__(self, database: Database) -> None:
        self.database = database

    def put(self, letters: Iterable[Letter], now: datetime) -> int:
        """Queue letters, those that are there already left away; gives how many are new."""
        pending, new = list(letters), 0
        for start in range(0, len(pending), _AT_ONCE):
            new += self._put(pending[start : start + _AT_ONCE], now)
        return new

    def _put(self, letters: list[Letter], now: datetime) -> int:
        table = tables.letters
        while True:
            try:
                with self.database.write() as connection:
                    ids = [letter.id for letter in letters]
                    known = set(connection.scalars(select(table.c.id).where(table.c.id.in_(ids))))
                    rows = {one.id: _row(one, now) for one in letters if one.id not in known}
                    if rows:
                        connection.execute(insert(table), list(rows.values()))
                    return len(rows)
            except TransientError as error:
                if not isinstance(error.__cause__, IntegrityError):  # else another instance put one just now
                    raise

    def take(self, channel: Channel, number: int, now: datetime) -> list[Taken]:
        """Letters that are due, those first that were not tried yet: a dead address holds up nobody else's."""
        table = tables.letters
        query = (
            select(table)
            .where(
                table.c.state == LetterState.QUEUED.value, table.c.channel == channel.value, table.c.due <= stamp(now)
            )
            .order_by(table.c.attempts, table.c.due, table.c.id)
            .limit(number)
            .with_for_update(skip_locked=True)
        )
        with self.database.write() as connection:
            rows = connection.execute(query).all()
            if rows:
                taken = update(table).where(table.c.id.in_([row.id for row in rows]))
                connection.execute(taken.values(state=LetterState.SENDING.value, attempts=table.c.attempts + 1))
        return [
            Taken(
                Letter(
                    row.id,
                    Channel(row.channel),
                    row.address,
                    row.subject,
                    row.body,
                    row.subscriber,
                    row.incident,
                    row.tenant,
                ),
                row.attempts + 1,
            )
            for row in rows
        ]

    def sent(self, letter: Letter, now: datetime) -> None:
        self._set(letter, state=LetterState.SENT.value, sent=stamp(now), problem=None)

    def later(self, taken: Taken, problem: str, now: datetime) -> None:
        """It could not be sent now: try again after a pause, or give it up."""
        if taken.attempts > len(PAUSES):
            self.refused(taken.letter, f"given up: {problem}")
            return
        due = stamp(now + PAUSES[taken.attempts - 1])
        self._set(taken.letter, state=LetterState.QUEUED.value, due=due, problem=problem)

    def refused(self, letter: Letter, problem: str) -> None:
        """Its address will never take it."""
        self._set(letter, state=LetterState.FAILED.value, problem=problem)

    def came_back(self, letter: str) -> str | None:
        """A letter that had left reached nobody; gives whose subscription it was, once."""
        table = tables.letters
        with self.database.write() as connection:
            row = connection.execute(
                select(table.c.subscriber).where(table.c.id == letter, table.c.state == LetterState.SENT.value)
            ).first()
            if row is None:
                return None
            values = {"state": LetterState.FAILED.value, "problem": "it came back"}
            connection.execute(update(table).where(table.c.id == letter).values(**values))
            return None if row.subscriber is None else str(row.subscriber)

    def recover(self) -> int:
        """Queue again what a sender that is gone had taken. Only for who knows that there is none (state.lead)."""
        table = tables.letters
        with self.database.write() as connection:
            stuck = update(table).where(table.c.state == LetterState.SENDING.value)
            return connection.execute(stuck.values(state=LetterState.QUEUED.value)).rowcount

    def due(self, channels: Iterable[Channel], now: datetime) -> int:
        """How many letters of these channels are to be sent now, or are being sent."""
        table = tables.letters
        waiting = (table.c.state == LetterState.QUEUED.value) & (table.c.due <= stamp(now))
        query = select(func.count()).where(
            table.c.channel.in_([channel.value for channel in channels]),
            waiting | (table.c.state == LetterState.SENDING.value),
        )
        with self.database.read() as connection:
            return connection.scalar(query) or 0

    def counts(self, incident: str | None = None) -> Mapping[LetterState, int]:
        """How many letters are in each state, of one incident or of all."""
        table = tables.letters
        query = select(table.c.state, func.count()).group_by(table.c.state)
        if incident is not None:
            query = query.where(table.c.incident == incident)
        with self.database.read() as connection:
            return {LetterState(state): number for state, number in connection.execute(query)}

    def _set(self, letter: Letter, **values: str | None) -> None:
        with self.database.write() as connection:
            connection.execute(update(tables.letters).where(tables.letters.c.id == letter.id).values(**values))


def _row(letter: Letter, now: datetime) -> dict[str, object]:
    return {
        "id": letter.id,
        "subscriber": letter.subscriber,
        "incident": letter.incident,
        "tenant": letter.tenant,
        "channel": letter.channel.value,
        "address": letter.address,
        "subject": letter.subject,
        "body": letter.body,
        "state": LetterState.QUEUED.value,
        "attempts": 0,
        "due": stamp(now),
    }
