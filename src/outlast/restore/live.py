"""A tenant's live rows, cut as a backup cuts them, so that live and stored state compare by their hashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import psycopg

from outlast.core.table import Table, TableName
from outlast.core.tenant import ORPHAN, RESERVED, TenantKey
from outlast.restore.difference import Layout, Piece
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.sweep import Block, sweep
from outlast.vault.chunk import Chunk, Chunker, table_root

KEPT_BYTES_MAX = 32 * 1024 * 1024
"""Rows of a run up to this size are kept while it is compared; a larger run is read a second time where it differs."""


@dataclass(frozen=True, slots=True)
class LiveRun:
    """One table of one tenant as it stands. `kept` has the chunks' rows; None where they are too large to hold."""

    table: Table
    pieces: tuple[Piece, ...]
    kept: tuple[bytes, ...] | None

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)

    @property
    def root(self) -> str:
        """In hexadecimal; empty where there are no rows."""
        return root_of(self.pieces) if self.pieces else ""


class Live(Protocol):
    """One tenant's live rows on one snapshot: how a restore reads them, whether alone or in a group (groups.py)."""

    def run(self, table: Table) -> LiveRun: ...

    def snapshot(self) -> str:
        """The pg_snapshot that is read."""

    def chunks(self, table: Table) -> Iterator[Chunk]:
        """The rows of one table as chunks: for a run whose rows are too large to keep."""


@dataclass(frozen=True, slots=True)
class TenantLive:
    """One tenant read by itself, in the session's transaction."""

    connection: Session
    catalog: Catalog
    tenant: TenantKey

    def run(self, table: Table) -> LiveRun:
        return read_run(self.connection, self.catalog, table, self.tenant)

    def chunks(self, table: Table) -> Iterator[Chunk]:
        return read_chunks(self.connection, self.catalog, table, self.tenant)

    def snapshot(self) -> str:
        return read_snapshot(self.connection)


def read_snapshot(connection: Session) -> str:
    """The pg_snapshot of the caller's transaction."""
    try:
        row = connection.execute(b"SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text").fetchone()
    except psycopg.Error as error:
        raise explain(error, "ask for the snapshot that is read") from error
    assert row is not None
    return str(row[0])


def layout_of(table: Table) -> Layout:
    return Layout(table.column_names, table.key, table.key_kinds)


def root_of(pieces: Iterable[Piece]) -> str:
    """The run's root in hexadecimal, as manifests have it; empty for a run without rows."""
    described = [(piece.digest, piece.rows) for piece in pieces]
    return table_root(described).hex() if described else ""


def read_chunks(connection: Session, catalog: Catalog, table: Table, tenant: TenantKey) -> Iterator[Chunk]:
    """The tenant's rows of one table as chunks, in the caller's transaction. Also for `@shared` and `@orphan`."""
    blocks = runs_of(connection, catalog, table, [tenant])
    return chunks_of(((block.data, block.rows) for block in blocks), table)


def runs_of(connection: Session, catalog: Catalog, table: Table, tenants: Sequence[TenantKey]) -> Iterator[Block]:
    """The rows of one table of several tenants, tenant by tenant, in the caller's transaction."""
    known = [tenant for tenant in tenants if tenant not in RESERVED]
    try:
        yield from sweep(connection, catalog, table, known, orphans=ORPHAN in tenants)
    except psycopg.Error as error:  # a connection that is lost while the COPY is being asked for
        raise explain(error, f"read table {table.name}") from error


def chunks_of(blocks: Iterable[tuple[bytes, int]], table: Table) -> Iterator[Chunk]:
    """Cut (rows, their number) into chunks as a backup of this table would."""
    chunker = Chunker(layout_of(table).key_of)
    for data, rows in blocks:
        yield from chunker.add(data, rows)
    yield from chunker.finish()


def roots_of(
    connection: Session, catalog: Catalog, table: Table, tenants: Sequence[TenantKey]
) -> Iterator[tuple[TenantKey, str]]:
    """The live root of each tenant's run of one table; tenants without rows are absent."""
    for tenant, blocks in groupby(runs_of(connection, catalog, table, tenants), key=lambda block: block.tenant):
        chunks = chunks_of(((block.data, block.rows) for block in blocks), table)
        yield tenant, root_of(Piece(chunk.digest, chunk.rows) for chunk in chunks)


def read_run(connection: Session, catalog: Catalog, table: Table, tenant: TenantKey) -> LiveRun:
    """Read a tenant's rows of one table in the caller's transaction."""
    return run_of(table, read_chunks(connection, catalog, table, tenant))


def group_runs(
    connection: Session, catalog: Catalog, tables: Sequence[Table], tenants: Sequence[TenantKey], keep_bytes_max: int
) -> dict[tuple[TenantKey, TableName], LiveRun]:
    """The runs of several small tenants, one statement a table. `keep_bytes_max` is for all their rows together."""
    runs: dict[tuple[TenantKey, TableName], LiveRun] = {}
    for table in tables:
        for tenant, blocks in groupby(runs_of(connection, catalog, table, tenants), key=lambda block: block.tenant):
            chunks = chunks_of(((block.data, block.rows) for block in blocks), table)
            run = run_of(table, chunks, keep_bytes_max)
            keep_bytes_max -= sum(map(len, run.kept or ()))
            runs[tenant, table.name] = run
    return runs


def run_of(table: Table, chunks: Iterable[Chunk], keep_bytes_max: int = KEPT_BYTES_MAX) -> LiveRun:
    """A run out of its chunks, with their rows where they are not too large."""
    pieces: list[Piece] = []
    kept: list[bytes] | None = []
    size = 0
    for chunk in chunks:
        pieces.append(Piece(chunk.digest, chunk.rows))
        size += len(chunk.data)
        if size > keep_bytes_max:
            kept = None
        if kept is not None:
            kept.append(chunk.data)
    return LiveRun(table, tuple(pieces), None if kept is None else tuple(kept))
