"""The outbox: letters that are to be sent, in the shared state, until each was sent or given up.

A sender holds a few letters at a time and sends them one by one: that one has left and the next one leaves is one
transaction. Whatever ends the process between two of them loses none and doubles none. The one that was under way just
then may have arrived: since nobody may be missed it is sent again, with the same Message-ID, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, case, func, insert, select, update
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
    UNCLEAR = "unclear"  # queued again: it may have arrived
    HELD = "held"  # a sender has it, and sends others before it
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"  # given up, or refused for good


_WAITING = (LetterState.QUEUED.value, LetterState.UNCLEAR.value)
_AGAIN = "it may have arrived already"


@dataclass(frozen=True, slots=True)
class Taken:
    """A letter that a sender holds. `attempts` counts this one. `again`: it may have arrived already."""

    letter: Letter
    attempts: int
    again: bool = False


class Outbox:
    def __init__(self, database: Database) -> None:
        self.database = database
        database.install(tables.SCHEMA)

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
        """Letters that are due, those first that were not tried yet: a dead address holds up nobody else's.

        The first of them is on its way with this; another one is as soon as `then` names it.
        """
        table = tables.letters
        query = (
            select(table)
            .where(table.c.state.in_(_WAITING), table.c.channel == channel.value, table.c.due <= stamp(now))
            .order_by(table.c.attempts, table.c.due, table.c.id)
            .limit(number)
            .with_for_update(skip_locked=True)
        )
        with self.database.write() as connection:
            rows = connection.execute(query).all()
            for row in rows:
                again = row.state == LetterState.UNCLEAR.value
                state = LetterState.HELD if row is not rows[0] else LetterState.SENDING
                held = update(table).where(table.c.id == row.id)
                problem = _AGAIN if again else None
                connection.execute(held.values(state=state.value, attempts=row.attempts + 1, problem=problem))
        return [Taken(_letter(row), row.attempts + 1, row.state == LetterState.UNCLEAR.value) for row in rows]

    def put_back(self, taken: Iterable[Taken]) -> None:
        """These were not sent: as if they had not been taken."""
        table = tables.letters
        with self.database.write() as connection:
            for one in taken:
                state = LetterState.UNCLEAR if one.again else LetterState.QUEUED
                back = update(table).where(table.c.id == one.letter.id)
                connection.execute(back.values(state=state.value, attempts=one.attempts - 1))

    def sent(self, letter: Letter, now: datetime, then: Taken | None = None) -> None:
        self._set(letter, then, state=LetterState.SENT.value, sent=stamp(now), problem=None)

    def later(
        self, taken: Taken, problem: str, now: datetime, then: Taken | None = None, *, unclear: bool = False
    ) -> None:
        """It could not be sent now (or, `unclear`, nobody knows): try again after a pause, or give it up."""
        if taken.attempts > len(PAUSES):
            self.refused(taken.letter, f"given up: {problem}", then)
            return
        state = LetterState.UNCLEAR if unclear or taken.again else LetterState.QUEUED
        self._set(taken.letter, then, state=state.value, due=stamp(now + PAUSES[taken.attempts - 1]), problem=problem)

    def refused(self, letter: Letter, problem: str, then: Taken | None = None) -> None:
        """Its address will never take it."""
        self._set(letter, then, state=LetterState.FAILED.value, problem=problem)

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
            held = update(table).where(table.c.state == LetterState.HELD.value)
            back = case((table.c.problem == _AGAIN, LetterState.UNCLEAR.value), else_=LetterState.QUEUED.value)
            number = connection.execute(held.values(state=back, attempts=table.c.attempts - 1)).rowcount
            under_way = update(table).where(table.c.state == LetterState.SENDING.value)
            return number + connection.execute(under_way.values(state=LetterState.UNCLEAR.value)).rowcount

    def due(self, channels: Iterable[Channel], now: datetime) -> int:
        """How many letters of these channels are to be sent now, or are being sent."""
        table = tables.letters
        waiting = table.c.state.in_(_WAITING) & (table.c.due <= stamp(now))
        held = table.c.state.in_((LetterState.HELD.value, LetterState.SENDING.value))
        query = select(func.count()).where(
            table.c.channel.in_([channel.value for channel in channels]),
            waiting | held,
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

    def _set(self, letter: Letter, then: Taken | None, **values: str | None) -> None:
        table = tables.letters
        with self.database.write() as connection:
            connection.execute(update(table).where(table.c.id == letter.id).values(**values))
            if then is not None:
                under_way = update(table).where(table.c.id == then.letter.id)
                connection.execute(under_way.values(state=LetterState.SENDING.value))


def _letter(row: Row[Any]) -> Letter:
    return Letter(
        row.id,
        Channel(row.channel),
        row.address,
        row.subject,
        row.body,
        row.subscriber,
        row.incident,
        row.tenant,
    )


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
