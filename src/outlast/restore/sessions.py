"""The two sessions of a restore: one reads the live state, the other stages and writes, both on one snapshot.

They are two because a session cannot send rows and receive rows at the same time, and a tenant may be larger than
memory. They see the same: the reader exports its snapshot and the writer's transaction begins on it. So what is written
is exactly what was computed, and nothing has to be read again to make sure. A session that was lost is opened again by
whoever asks next; what it had staged is gone with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import psycopg
from psycopg import pq, sql

from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session, Target
from outlast.sources.postgres.session import connect as connect_session
from outlast.sources.postgres.write_stage import Stage

_FEW_ROWS = b"SET random_page_cost = 1.1"
"""What a restore reads is little of its tables. Left alone the planner takes the random reads of an index for four
times as slow as they are, and reads all of a child table of middling size to find some tenants' rows in it. Where there
is no index it still does that, once: switching joins off would have it done for every row."""


class Connect(Protocol):
    def __call__(self, target: Target, *, role: str, autocommit: bool, read_only: bool) -> Session: ...


@dataclass(slots=True)
class Work:
    """One writing transaction. `xid` is its 64-bit number, known once `number` was called."""

    reader: Session
    writer: Session
    stage: Stage
    xid: str | None = None
    committed: bool = False

    def number(self) -> str:
        """The transaction's number, which tells later whether it was committed."""
        if self.xid is None:
            row = self.writer.execute(b"SELECT pg_catalog.pg_current_xact_id()::pg_catalog.text").fetchone()
            assert row is not None
            self.xid = str(row[0])
        return self.xid

    def commit(self) -> None:
        """An error while this is under way leaves open whether it was done: `xid` tells."""
        self.writer.execute(b"COMMIT")
        self.committed = True
        self.stage.committed()


class Sessions:
    """Opens the sessions when they are first needed. A context manager that closes them. Not for several threads."""

    def __init__(self, target: Target, connect: Connect = connect_session, lock_timeout_s: float | None = None) -> None:
        self.target = target
        self._connect = connect
        self._lock_timeout_s = lock_timeout_s
        self._reader: Session | None = None
        self._writer: Session | None = None
        self._stage: Stage | None = None

    def another(self) -> Self:
        """Sessions of the same kind with the same database."""
        return type(self)(self.target, self._connect, self._lock_timeout_s)

    def reader(self) -> Session:
        """The reading session, in a new REPEATABLE READ transaction: what was read through it before is another one."""
        if self._reader is None or self._reader.closed:
            self._reader = self._opened(read_only=True)
        roll_back(self._reader)
        try:
            self._reader.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        except psycopg.Error as error:
            raise explain(error, "begin to read the live state") from error
        return self._reader

    def writer(self) -> Session:
        """The writing session, in no transaction."""
        if self._writer is None or self._writer.closed:
            self._writer = self._opened(read_only=False)
            self._stage = None
        return self._writer

    def _opened(self, *, read_only: bool) -> Session:
        session = self._connect(self.target, role="restore", autocommit=True, read_only=read_only)
        try:
            session.execute(_FEW_ROWS)
            if not read_only and self._lock_timeout_s is not None:
                limit = sql.Literal(f"{self._lock_timeout_s * 1000:.0f}ms")
                session.execute(sql.SQL("SET lock_timeout = {}").format(limit))
        except psycopg.Error as error:
            session.close()
            raise explain(error, "begin a session that restores") from error
        return session

    def stage(self) -> Stage:
        """The writing session's staging tables, emptied."""
        writer = self.writer()
        if self._stage is None:
            self._stage = Stage(writer)
        self._stage.clear()
        return self._stage

    @contextmanager
    def together(self) -> Iterator[Work]:
        """Both sessions in transactions on one snapshot, with nothing staged. Left without a commit, it is undone.

        Raises an OutlastError where it cannot begin.
        """
        stage, writer, reader = self.stage(), self.writer(), self.reader()
        try:
            row = reader.execute(b"SELECT pg_catalog.pg_export_snapshot()").fetchone()
            assert row is not None
            writer.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE")
            writer.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(row[0])))
        except psycopg.Error as error:
            roll_back(writer)
            raise explain(error, "begin to write on the snapshot that was read") from error
        work = Work(reader, writer, stage)
        try:
            yield work
        finally:
            roll_back(writer)
            if not work.committed:
                stage.rolled_back()
            self.rest()

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
