"""The rows of a copy: every tenant's state at a moment, out of the vault and by COPY into the copy's tables.

Tenants are divided among worker processes, each with a connection of its own: opening, unpacking and proving what a
vault holds keeps Python busy. Rows pass through as the blocks that they are kept in; no row is looked at.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from outlast.capture.workers import prepare_for_rows
from outlast.core.errors import SourceError
from outlast.core.table import TableName
from outlast.core.tenant import SCHEMA, TenantKey
from outlast.restore.history import Past, past_at
from outlast.restore.moments import At, resolve
from outlast.sources.postgres.query import identifier
from outlast.sources.postgres.session import PINNED
from outlast.vault.keys import Identity
from outlast.vault.reader import TenantEntry, Vault, VaultPin
from outlast.vault.store import open_store

_BATCH_BYTES = 4 * 1024 * 1024
"""Rows of one table that are gathered before they are sent: small tenants share a COPY."""

_SLICES_A_WORKER = 8

RowCounts = dict[tuple[TenantKey, str], int]
"""Rows by tenant and table, as they stand in the copy."""


@dataclass(frozen=True, slots=True)
class VaultPlace:
    """All that a worker process needs to open the vault. Its repr shows no key; it travels over a pipe only."""

    url: str
    pin: VaultPin
    identity: Identity = field(repr=False)
    source: str
    moment: str  # At.text
    spool_directory: Path

    def open(self) -> tuple[Vault, At]:
        vault = Vault.open(open_store(self.url), self.pin, self.identity)
        return vault, resolve(vault, self.source, self.moment, self.spool_directory)


class Loader:
    """Puts tenants' rows into a copy. Open with `with`, before there is a copy: worker processes take a second to start
    and to prove the vault, and whatever comes before the rows needs one core only."""

    def __init__(self, place: VaultPlace, entries: Sequence[TenantEntry], *, jobs: int) -> None:
        self._place = place
        self._entries = entries
        self._jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self._jobs > 1 and len(self._entries) >= 2 * self._jobs:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._jobs, context, initializer=_begin, initargs=(self._place,))
            for _ in range(self._jobs):
                self._pool.submit(_open)  # what goes wrong, goes wrong again where somebody waits for it
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def load(self, url: str, lacking: Sequence[TableName]) -> RowCounts:
        """Put them into the copy at `url`, and count them. `lacking` are tables that it has not.

        Raises what reading the vault raises, and SourceError where a row does not fit its table.
        """
        if self._pool is None:
            vault, at = self._place.open()
            with psycopg.connect(url, autocommit=True) as connection:
                return _load(vault, at, connection, self._entries, frozenset(lacking))
        counts: Counter[tuple[TenantKey, str]] = Counter()
        parts = slices(self._entries, self._jobs * _SLICES_A_WORKER)
        for found in self._pool.map(_work, [_Part(url, part, frozenset(lacking)) for part in parts]):
            counts.update(found)
        self._pool.shutdown(wait=False)  # with it its sessions
        return dict(counts)


def slices(entries: Sequence[TenantEntry], number: int) -> list[list[TenantEntry]]:
    """Parts of about equal size: tenants dealt out in turn, the largest packs first."""
    ordered = sorted(entries, key=lambda entry: -entry.head.offset)
    return [part for first in range(number) if (part := ordered[first::number])]


@dataclass(frozen=True, slots=True)
class _Part:
    url: str
    entries: Sequence[TenantEntry]
    lacking: frozenset[TableName]


@dataclass
class _Worker:
    """A worker process's own."""

    place: VaultPlace
    opened: tuple[Vault, At] | None = None
    connection: psycopg.Connection[Any] | None = None

    def vault(self) -> tuple[Vault, At]:
        if self.opened is None:
            self.opened = self.place.open()
        return self.opened

    def session(self, url: str) -> psycopg.Connection[Any]:
        if self.connection is None:
            self.connection = psycopg.connect(url, autocommit=True)
        return self.connection


_worker: _Worker | None = None


def _begin(place: VaultPlace) -> None:
    global _worker  # set once, before the first part
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends us
    signal.signal(signal.SIGTERM, lambda *_: os._exit(1))
    threading.Thread(target=_die_with_parent, name="outlast parent", daemon=True).start()
    prepare_for_rows()
    _worker = _Worker(place)


def _die_with_parent() -> None:
    """A pool's process would wait for work for ever after its parent was killed: it holds the other end itself."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _open() -> None:
    assert _worker is not None
    _worker.vault()


def _work(part: _Part) -> RowCounts:
    assert _worker is not None
    return _load(*_worker.vault(), _worker.session(part.url), part.entries, part.lacking)


def _load(
    vault: Vault,
    at: At,
    connection: psycopg.Connection[Any],
    entries: Iterable[TenantEntry],
    lacking: frozenset[TableName],
) -> RowCounts:
    pin(connection)
    counts: RowCounts = {}
    gathering = Gathering(connection)
    for entry in entries:
        if entry.tenant.key == SCHEMA:
            continue
        past = past_of_entry(vault, at, entry)
        for table in past.tables.values():
            if table.name not in lacking and table.pieces:
                counts[entry.tenant.key, str(table.name)] = table.rows
                for block in past.read(table):
                    gathering.add(table.name, table.layout.columns, block)
    gathering.finish()
    return counts


def past_of_entry(vault: Vault, at: At, entry: TenantEntry) -> Past:
    return past_at(vault, at.timeline.source, entry, at)


def pin(connection: psycopg.Connection[Any]) -> None:
    """The settings under which the rows' text was made: it is read back under the same. Triggers keep still."""
    wanted = {**PINNED, "session_replication_role": "replica", "lock_timeout": "0"}
    calls = ", ".join(["pg_catalog.set_config(%s, %s, false)"] * len(wanted))
    connection.execute(f"SELECT {calls}".encode(), [part for pair in wanted.items() for part in pair])


@contextmanager
def unlogged(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """No row of the copy goes to its server's log while the block lasts: after a crash the copy is thrown away anyway.

    The catalog is told, and not the tables: SET LOGGED would rewrite them. A clean shutdown writes all of their pages.
    """
    connection.execute(_PERSISTENCE, ["u", "p"])
    yield
    connection.execute(_PERSISTENCE, ["p", "u"])


_PERSISTENCE = """
WITH tables AS (
  SELECT c.oid, c.reltoastrelid
  FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
  WHERE c.relkind = 'r' AND n.nspname NOT LIKE 'pg\\_%%' AND n.nspname <> 'information_schema'
)
UPDATE pg_catalog.pg_class SET relpersistence = %s WHERE relpersistence = %s AND oid IN (
  SELECT oid FROM tables UNION ALL SELECT reltoastrelid FROM tables
  UNION ALL SELECT i.indexrelid FROM tables JOIN pg_catalog.pg_index AS i ON i.indrelid IN (oid, reltoastrelid))
"""


class Gathering:
    """Rows that wait to be copied, by table and columns."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._held: dict[tuple[TableName, tuple[str, ...]], list[bytes]] = {}
        self._sizes: Counter[tuple[TableName, tuple[str, ...]]] = Counter()

    def add(self, table: TableName, columns: tuple[str, ...], block: bytes) -> None:
        place = (table, columns)
        self._held.setdefault(place, []).append(block)
        self._sizes[place] += len(block)
        if self._sizes[place] >= _BATCH_BYTES:
            self._send(place)

    def finish(self) -> None:
        for place in list(self._held):
            self._send(place)

    def _send(self, place: tuple[TableName, tuple[str, ...]]) -> None:
        blocks = self._held.pop(place)
        del self._sizes[place]
        table, columns = place
        copy_rows(self._connection, table, columns, blocks)


def copy_rows(
    connection: psycopg.Connection[Any], table: TableName, columns: Sequence[str], blocks: Iterable[bytes]
) -> None:
    """COPY blocks of whole lines into a table. A row's text never stands in the error."""
    names = sql.SQL(", ").join([sql.Identifier(name) for name in columns])
    query = sql.SQL("COPY {} ({}) FROM STDIN").format(identifier(table), names)
    try:
        with connection.cursor().copy(query) as copy:
            for block in blocks:
                copy.write(block)
    except psycopg.Error as error:
        kind = type(error).__name__ if (error.sqlstate or "")[:2] in ("22", "23") else error.diag.message_primary
        raise SourceError(
            f"a row of table {table} does not go into the copy: {kind}",
            hint="The copy's schema is not that of the rows: make a backup after the last migration.",
            code="copy",
        ) from error


def section_texts(past: Past) -> Mapping[str, bytes]:
    """The schema's sections out of the tenant that holds them."""
    return {table.name.name: b"".join(past.read(table)) for table in past.tables.values()}
