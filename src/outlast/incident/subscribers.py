"""Subscribers: who asked to hear, of what, by which channel; kept in the shared state.

An e-mail address counts only once its owner confirmed it by a signed link; a bounce is counted, and an address that
bounced too often is written to no more. Ending a subscription needs one click and no login.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from outlast.core.errors import NotFoundError, UsageError
from outlast.incident import tables
from outlast.incident.incident import Incident
from outlast.incident.timeline import stamp
from outlast.state.database import Database

BOUNCES_MAX = 3
_EMAIL = re.compile(r"[^\s@<>,;\"]{1,64}@[^\s@<>,;\"]{1,253}")
_WEBHOOK = re.compile(r"https?://[^\s]{1,2000}")
_APPRISE = re.compile(r"[a-z][a-z0-9]{1,30}://[^\s]{1,2000}")


class Channel(StrEnum):
    EMAIL = "email"
    WEBHOOK = "webhook"
    APPRISE = "apprise"  # Slack, Teams and the others that Apprise knows by a URL


class State(StrEnum):
    UNCONFIRMED = "unconfirmed"
    ACTIVE = "active"
    ENDED = "ended"
    BOUNCED = "bounced"


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody asks to hear of: everything, one component, or one tenant."""

    channel: Channel
    address: str
    language: str = "en"
    component: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class Subscriber:
    id: str
    wish: Wish
    state: State
    bounces: int
    secret: str | None

    def wants(self, incident: Incident) -> bool:
        """Whether an incident is what was asked for. One without components concerns everybody."""
        if self.wish.tenant is not None:
            return any(key == self.wish.tenant for key in incident.tenants)
        return self.wish.component is None or not incident.components or self.wish.component in incident.components


class Subscribers:
    def __init__(self, database: Database) -> None:
        self.database = database
        database.install(tables.SCHEMA)

    def add(self, wish: Wish, now: datetime, *, confirmed: bool = False) -> Subscriber:
        """Take a wish down; the same wish again changes nothing, but for one that had ended."""
        return self.add_all([wish], now, confirmed=confirmed)[0]

    def add_all(self, wishes: Iterable[Wish], now: datetime, *, confirmed: bool = False) -> list[Subscriber]:
        wishes = [_checked(wish) for wish in wishes]
        with self.database.write() as connection:
            known = {one.id: one for one in _find(connection, [_id(wish) for wish in wishes])}
            fresh = {_id(wish): _row(wish, now, confirmed) for wish in wishes if _id(wish) not in known}
            if fresh:
                connection.execute(insert(tables.subscribers), list(fresh.values()))
            for wish in wishes:
                before = known.get(_id(wish))
                if before is not None and before.state is not State.ACTIVE:
                    _set(connection, before.id, state=_first_state(wish, confirmed).value, bounces=0)
            found = {one.id: one for one in _find(connection, [_id(wish) for wish in wishes])}
        return [found[_id(wish)] for wish in wishes]

    def confirm(self, id_: str) -> Subscriber:
        """Raises NotFoundError where there is none, or it ended meanwhile."""
        return self._turn(id_, State.ACTIVE, {State.UNCONFIRMED, State.ACTIVE})

    def end(self, id_: str) -> Subscriber:
        """At once, whatever state it was in. Ended twice is ended."""
        return self._turn(id_, State.ENDED, set(State))

    def _turn(self, id_: str, state: State, allowed: set[State]) -> Subscriber:
        with self.database.write() as connection:
            found = _find(connection, [id_])
            if not found or found[0].state not in allowed:
                raise NotFoundError("there is no such subscription, or not any more", hint="Subscribe again.")
            _set(connection, id_, state=state.value)
            return _find(connection, [id_])[0]

    def get(self, id_: str) -> Subscriber | None:
        with self.database.read() as connection:
            return next(iter(_find(connection, [id_])), None)

    def all(self, *states: State) -> list[Subscriber]:
        """Those in these states, or all of them."""
        query = select(tables.subscribers).order_by(tables.subscribers.c.since, tables.subscribers.c.id)
        if states:
            query = query.where(tables.subscribers.c.state.in_([state.value for state in states]))
        with self.database.read() as connection:
            return [_subscriber(row) for row in connection.execute(query)]

    def bounced(self, id_: str) -> None:
        """Count a letter that its address refused for good."""
        with self.database.write() as connection:
            for one in _find(connection, [id_]):
                gone = one.bounces + 1 >= BOUNCES_MAX and one.state is State.ACTIVE
                _set(connection, id_, bounces=one.bounces + 1, state=(State.BOUNCED if gone else one.state).value)


def _checked(wish: Wish) -> Wish:
    pattern = {Channel.EMAIL: _EMAIL, Channel.WEBHOOK: _WEBHOOK, Channel.APPRISE: _APPRISE}[wish.channel]
    address = wish.address.strip()
    if not pattern.fullmatch(address):
        # The address itself is not repeated: it is a person's, or holds a web hook's password.
        raise UsageError(f"that is no {wish.channel.value} address", hint="Write it without a name or brackets.")
    if wish.channel is Channel.EMAIL:
        local, _, domain = address.rpartition("@")
        address = f"{local}@{domain.lower()}"
    return Wish(wish.channel, address, wish.language, wish.component, wish.tenant)


def _id(wish: Wish) -> str:
    parts = (wish.channel.value, wish.address, wish.component or "", wish.tenant or "")
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


def _first_state(wish: Wish, confirmed: bool) -> State:
    return State.ACTIVE if confirmed or wish.channel is not Channel.EMAIL else State.UNCONFIRMED


def _row(wish: Wish, now: datetime, confirmed: bool) -> dict[str, Any]:
    return {
        "id": _id(wish),
        "channel": wish.channel.value,
        "address": wish.address,
        "language": wish.language,
        "component": wish.component or "",
        "tenant": wish.tenant or "",
        "state": _first_state(wish, confirmed).value,
        "since": stamp(now),
        "bounces": 0,
        "secret": secrets.token_urlsafe(24) if wish.channel is Channel.WEBHOOK else None,
    }


def _set(connection: Connection, id_: str, **values: Any) -> None:
    connection.execute(update(tables.subscribers).where(tables.subscribers.c.id == id_).values(**values))


_AT_ONCE = 500  # names in one statement: SQLite takes no more than some thousands


def _find(connection: Connection, ids: Sequence[str]) -> list[Subscriber]:
    found: list[Subscriber] = []
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        query = select(tables.subscribers).where(tables.subscribers.c.id.in_(some))
        found += [_subscriber(row) for row in connection.execute(query)]
    return found


def _subscriber(row: Row[Any]) -> Subscriber:
    wish = Wish(Channel(row.channel), row.address, row.language, row.component or None, row.tenant or None)
    return Subscriber(row.id, wish, State(row.state), row.bounces, row.secret)
