"""One snapshot that many sessions read, and the moment it stands for."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import IsolationLevel, sql

from outlast.core.errors import SourceError
from outlast.core.moment import Lsn, Moment
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session, Target, connect
from outlast.sources.postgres.statements import statement

_WORK_MEM, _HASH_MEM_MULTIPLIER = "16MB", "6"
"""What a sort has, and how many times that a hash table. A sort whose runs fit the processor's cache costs a tenth less
than one in 128 MB, merging included. A join's table is best held whole; but with more than this the planner holds the
wide rows that are read, where the narrow ones of their parents cost a quarter less."""
_FLUSH_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An exported snapshot. It lives as long as `session`'s transaction does."""

    session: Session
    name: str  # for SET TRANSACTION SNAPSHOT
    moment: Moment
    taken_at: float  # time.monotonic() when it was there


@contextmanager
def open_snapshot(target: Target, role: str) -> Iterator[Snapshot]:
    """A REPEATABLE READ transaction on a session of its own, its snapshot exported, closed at the end."""
    with closing(connect(target, role=role)) as session:  # closed, not committed: there is nothing to commit
        try:
            low = _text(session.execute(statement("log_position")).fetchone())
            session.commit()
            _begin(session)
            row = session.execute(statement("snapshot")).fetchone()
            assert row is not None
            name, seen, clock, high = row
            assert isinstance(clock, datetime)
        except psycopg.Error as error:
            raise explain(error, f"take a snapshot of {target}") from error
        moment = Moment(clock, Lsn.parse(low), Lsn.parse(str(high)), str(seen))
        yield Snapshot(session, str(name), moment, time.monotonic())


@contextmanager
def adopt_snapshot(target: Target, role: str, name: str, position: Lsn) -> Iterator[Snapshot]:
    """A session that sees the snapshot which a new replication slot exported: exactly what committed before `position`.

    It can be joined by others for as long as the session that made the slot holds it.
    """
    with join_snapshot(target, role, name) as session:
        try:
            row = session.execute(
                b"SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.clock_timestamp()"
            ).fetchone()
        except psycopg.Error as error:
            raise explain(error, f"read {target} at the snapshot of a new replication slot") from error
        assert row is not None
        yield Snapshot(session, name, Moment(row[1], position, position, str(row[0])), time.monotonic())


@contextmanager
def join_snapshot(target: Target, role: str, name: str) -> Iterator[Session]:
    """Another session that sees the snapshot exported as `name`."""
    with closing(connect(target, role=role)) as session:  # closed, not committed: there is nothing to commit
        try:
            _begin(session)
            session.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(name)))
            session.execute(sql.SQL("SET LOCAL work_mem = {}").format(sql.Literal(_WORK_MEM)))
            session.execute(sql.SQL("SET LOCAL hash_mem_multiplier = {}").format(sql.Literal(_HASH_MEM_MULTIPLIER)))
        except psycopg.errors.UndefinedObject as error:
            raise SourceError(
                f"cannot read {target}: the session that holds this backup's snapshot is gone",
                hint="Something ended it (an idle timeout, an administrator, a failover); run the same command again.",
            ) from error
        except psycopg.Error as error:
            raise explain(error, f"join the snapshot of {target}") from error
        yield session


def read_in_bulk(session: Session, *, bulk: bool) -> None:
    """Tell the planner whether most of a table is read: then sorting it beats fetching its rows by an index.

    Left alone it likes an index on the tenant, whose rows lie all over the table: 13 s instead of 5 s for 3 M rows.
    """
    setting = "off" if bulk else "on"
    for name in ("enable_indexscan", "enable_bitmapscan", "enable_incremental_sort"):
        session.execute(sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.SQL(setting)))


def _begin(session: Session) -> None:
    session.isolation_level = IsolationLevel.REPEATABLE_READ
    # Parallel workers would take the cores that the application needs; our own sessions are the parallelism.
    session.execute(b"SET LOCAL max_parallel_workers_per_gather = 0")


def await_flush(session: Session, position: Lsn, taken_at: float) -> None:
    """Return when nothing that a snapshot saw can be undone by a crash any more.

    A transaction with synchronous_commit off is visible before it is on disk, by at most three times wal_writer_delay.
    So either the log is on disk up to `position`, or that time has passed since `taken_at` (time.monotonic() when the
    snapshot was there). Waiting for the log alone would take 10 s on an idle server: what was logged without a commit
    is written when the next one comes.
    """
    while True:
        row = session.execute(statement("log_flushed"), [str(position)]).fetchone()
        assert row is not None
        if row[0] is True or time.monotonic() - taken_at > 3 * row[1] / 1000:
            return
        time.sleep(_FLUSH_POLL_S)


def _text(row: tuple[object, ...] | None) -> str:
    assert row is not None
    return str(row[0])
