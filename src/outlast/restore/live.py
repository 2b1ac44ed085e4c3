"""A tenant's live rows, cut as a backup cuts them, so that live and stored state compare by their hashes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import psycopg

from outlast.core.table import Table
from outlast.core.tenant import ORPHAN, RESERVED, TenantKey
from outlast.restore.difference import Layout, Piece
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session, explain
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
        return root_of(self.pieces)


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


def read_run(
    connection: Session, catalog: Catalog, table: Table, tenant: TenantKey, *, keep_bytes_max: int = KEPT_BYTES_MAX
) -> LiveRun:
    """Read a tenant's rows of one table in the caller's transaction."""
    pieces: list[Piece] = []
    kept: list[bytes] | None = []
    size = 0
    for chunk in read_chunks(connection, catalog, table, tenant):
        pieces.append(Piece(chunk.digest, chunk.rows))
        size += len(chunk.data)
        if size > keep_bytes_max:
            kept = None
        if kept is not None:
            kept.append(chunk.data)
    return LiveRun(table, tuple(pieces), None if kept is None else tuple(kept))
