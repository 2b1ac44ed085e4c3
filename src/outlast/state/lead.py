"""Which of the processes on one shared state has a duty that only one may do. All answer requests.

The lead ends with the process or its connection, by the kernel's or the server's doing, so that nobody has to clean up.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from enum import StrEnum
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import Protocol

from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError

from outlast.state.database import Database


class Duty(StrEnum):
    """RELAY: passing on, and paging. INCIDENTS: cadence, and letters. FAILBACK: what was entered here goes back."""

    RELAY = "relay"
    INCIDENTS = "incidents"
    FAILBACK = "failback"


_LOCKS = {Duty.RELAY: 0x6C656164, Duty.INCIDENTS: 0x6F757474, Duty.FAILBACK: 0x6261636B}
"""Advisory locks of the shared database."""


class Lead(Protocol):
    """Not thread-safe: one thread asks at a time."""

    def take(self) -> bool:
        """Take the lead, if nobody has it. True as long as it is ours; to be asked again and again."""

    def leave(self) -> None:
        """Let another have it."""


def lead_of(database: Database, duty: Duty) -> Lead:
    return FileLead(database, duty) if database.is_sqlite else ServerLead(database, duty)


class FileLead:
    """By a lock on a file beside SQLite's."""

    def __init__(self, database: Database, duty: Duty) -> None:
        self._path = f"{database.engine.url.database}.{duty.value}.lock"
        self._descriptor: int | None = None

    def take(self) -> bool:
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def leave(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class ServerLead:
    """By an advisory lock of a session with PostgreSQL. Where the session ends, the lead does."""

    def __init__(self, database: Database, duty: Duty) -> None:
        self._database = database
        self._lock = _LOCKS[duty]
        self._connection: Connection | None = None

    def take(self) -> bool:
        try:
            if self._connection is not None:
                self._connection.execute(text("SELECT 1"))
                self._connection.rollback()
                return True
            return self._taken()
        except SQLAlchemyError:  # the server is away: whatever was ours is not any more
            self.leave()
            return False

    def _taken(self) -> bool:
        with ExitStack() as stack:
            connection = stack.enter_context(self._database.engine.connect())
            taken = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": self._lock}))
            connection.rollback()
            if taken:
                self._connection = connection
                stack.pop_all()
        return taken

    def leave(self) -> None:
        if self._connection is not None:
            # Out of the pool for good: given back to it, the session would go on and keep the lock.
            self._connection.invalidate()
            self._connection.close()
            self._connection = None
