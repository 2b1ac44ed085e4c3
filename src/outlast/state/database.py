"""The shared state of the rooms that stand in (relay, on call, paging, desk): one SQL database, by SQLAlchemy Core.

SQLite in a file of this host by default, PostgreSQL by URL where several instances share it. It owns the engine, its
transactions and each room's schema version. It knows no table: a room declares its own in a `Schema` and installs it.
What is kept here is not disposable, unlike state/local: alerts that were answered "accepted" live nowhere else.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, create_engine, event, insert, select, update
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from outlast import disk
from outlast.core.errors import OutlastError, Refused, TransientError, UsageError

BUSY_TIMEOUT_S = 10
_WRITES = "outlast_writes"
_INSTALL_LOCK = 0x6F75746C  # "outl": one instance at a time makes or migrates tables

_versions = Table(
    "outlast_schema", MetaData(), Column("room", Text, primary_key=True), Column("version", Integer, nullable=False)
)

Migration = Callable[[Connection], None]
"""Brings a room's tables from one version to the next, in the caller's transaction."""


@dataclass(frozen=True, slots=True)
class Schema:
    """A room's tables. `migrations[n]` goes from version n + 1 to n + 2; `metadata` is what the newest looks like."""

    room: str
    metadata: MetaData
    migrations: Sequence[Migration] = ()

    @property
    def version(self) -> int:
        return len(self.migrations) + 1


def adding(table: Table, *names: str) -> Migration:
    """A migration that gives an older table these columns of today's, all of them nullable."""

    def migrate(connection: Connection) -> None:
        for name in names:
            kind = table.c[name].type.compile(connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {name} {kind}")

    return migrate


class Database:
    """Outlast's shared state. Thread-safe; close it when done."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._writing = engine.execution_options(**{_WRITES: True})

    @classmethod
    def file(cls, path: Path) -> Self:
        """SQLite in a file, made where there is none, readable by its owner only."""
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made by us and not by SQLite, which would go by the umask; -wal and -shm take the file's mode over.
            # Never opened where it is there: a close would let go of all the locks that this process has on it, and
            # the next process to leave would take the log from under our other connections (sqlite.org/howtocorrupt).
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise OutlastError(
                f"cannot open the shared state {path}: {error.strerror}",
                hint="Run as a user who may write there, or name another folder under [keys] dir in outlast.toml.",
                code="state",
            ) from error
        path.chmod(0o600)
        engine = create_engine(URL.create("sqlite", database=str(path)), pool_size=8, max_overflow=16)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return cls(engine)

    @classmethod
    def server(cls, url: str, password: str | None = None) -> Self:
        """PostgreSQL, by a URL without a password. Connects when it is first used."""
        try:
            parsed = make_url(url)
        except ArgumentError as error:
            raise UsageError(
                "[serve] database is no URL", hint="Write it as postgresql://USER@HOST/DATABASE."
            ) from error
        if parsed.get_backend_name() != "postgresql":
            raise UsageError(
                f"[serve] database: {parsed.get_backend_name()} is not known",
                hint="Leave it out for SQLite, or write postgresql://USER@HOST/DATABASE.",
            )
        named = parsed.set(drivername="postgresql+psycopg", password=password or parsed.password)
        engine = create_engine(
            named,
            pool_size=8,
            max_overflow=16,
            pool_pre_ping=True,
            connect_args={"application_name": "outlast-serve", "connect_timeout": 5},
        )
        return cls(engine)

    @property
    def is_sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One consistent view. What is written in it is rolled back."""
        with _explained(self.engine), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is on disk when the block has ended, and leaves nothing where it raises.

        On SQLite it has the write lock from its start, so that what it read still holds when it writes.
        """
        with _explained(self.engine), self._writing.begin() as connection:
            yield connection

    def install(self, *schemas: Schema) -> None:
        """Make each room's tables, or bring them to the newest version. Refuses tables of a newer Outlast."""
        with self.write() as connection:
            if not self.is_sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_INSTALL_LOCK})")
            _versions.create(connection, checkfirst=True)
            for schema in schemas:
                _install(connection, schema)


def _install(connection: Connection, schema: Schema) -> None:
    found = connection.scalar(select(_versions.c.version).where(_versions.c.room == schema.room))
    if found is None:
        schema.metadata.create_all(connection)
        connection.execute(insert(_versions).values(room=schema.room, version=schema.version))
        return
    if found > schema.version:
        raise Refused(
            f"cannot use the shared state: its {schema.room} tables have version {found}, "
            f"this Outlast knows {schema.version}",
            hint="Run the newer Outlast that wrote them.",
            code="newer-state",
        )
    for migrate in schema.migrations[found - 1 :]:
        migrate(connection)
    connection.execute(update(_versions).where(_versions.c.room == schema.room).values(version=schema.version))


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # Transactions are begun by us: the driver's own begin is deferred, and may fail in the middle as "locked".
    connection.isolation_level = None
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",  # with NORMAL a commit may be lost when the power goes: it was answered "accepted"
        f"busy_timeout = {BUSY_TIMEOUT_S * 1000}",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def _explained(engine: Engine) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        # The driver's own words, never SQLAlchemy's: those carry the statement with its values.
        told = " ".join(str(getattr(error, "orig", None) or type(error).__name__).split())
        hint = "Check its disk, or that its server runs; what was not answered as accepted is to be sent again."
        if engine.dialect.name == "sqlite" and engine.url.database:
            path = Path(engine.url.database)
            where = str(path)
            told, hint = disk.told(path, ValueError(told), hint)
        else:
            where = engine.url.render_as_string(hide_password=True)
        raise TransientError(f"cannot use the shared state ({where}): {told}", hint=hint, code="state") from error
