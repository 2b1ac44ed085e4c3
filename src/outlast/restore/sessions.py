"""The two sessions of a restore: one reads the live state on its own snapshot, the other stages and writes.

They are two because a session cannot send rows and receive rows at the same time, and a tenant may be larger than
memory. A session that was lost is opened again by whoever asks next; what it had staged is gone with it.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

import psycopg
from psycopg import pq

from outlast.sources.postgres.session import Session, Target, explain
from outlast.sources.postgres.session import connect as connect_session
from outlast.sources.postgres.write import Stage


class Connect(Protocol):
    def __call__(self, target: Target, *, role: str, autocommit: bool, read_only: bool) -> Session: ...


class Sessions:
    """Opens the sessions when they are first needed. A context manager that closes them."""

    def __init__(self, target: Target, connect: Connect = connect_session) -> None:
        self.target = target
        self._connect = connect
        self._reader: Session | None = None
        self._writer: Session | None = None
        self._stage: Stage | None = None

    def another(self) -> Self:
        """Sessions of the same kind with the same database."""
        return type(self)(self.target, self._connect)

    def reader(self) -> Session:
        """The reading session, in a new REPEATABLE READ transaction: what was read through it before is another one."""
        if self._reader is None or self._reader.closed:
            self._reader = self._connect(self.target, role="restore", autocommit=True, read_only=True)
        roll_back(self._reader)
        try:
            self._reader.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except psycopg.Error as error:
            raise explain(error, "begin to read the live state") from error
        return self._reader

    def writer(self) -> Session:
        """The writing session, in no transaction."""
        if self._writer is None or self._writer.closed:
            self._writer = self._connect(self.target, role="restore", autocommit=True, read_only=False)
            self._stage = None
        return self._writer

    def stage(self) -> Stage:
        """The writing session's staging tables, emptied."""
        writer = self.writer()
        if self._stage is None:
            self._stage = Stage(writer)
        self._stage.clear()
        return self._stage

    @property
    def lost(self) -> bool:
        """Whether a session's connection is gone."""
        return any(one is not None and one.closed for one in (self._reader, self._writer))

    def rest(self) -> None:
        """End the reading transaction: an old snapshot keeps the server from cleaning up after everyone else."""
        if self._reader is not None:
            roll_back(self._reader)

    def close(self) -> None:
        for connection in (self._reader, self._writer):
            if connection is not None:
                connection.close()
        self._reader = self._writer = self._stage = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def roll_back(connection: Session) -> None:
    """End a transaction that is not to be committed, whatever state the connection is in."""
    if connection.closed or connection.pgconn.transaction_status == pq.TransactionStatus.IDLE:
        return
    try:
        connection.execute(b"ROLLBACK")
    except psycopg.Error:
        # A lost connection has rolled back already; a broken one is opened anew by whoever asks next.
        connection.close()
