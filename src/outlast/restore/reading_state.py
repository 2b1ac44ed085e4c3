"""A source's state as it is read now, in the shape of a stored one, so that the two can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from outlast.core.row import key_of
from outlast.core.table import Table
from outlast.core.tenant import Tenant
from outlast.restore.difference import Layout, Piece
from outlast.restore.history import Past, PastTable
from outlast.sources.source import Reading
from outlast.vault.chunk import Chunk, Chunker, table_root


def past_of_reading(reading: Reading, tenant: Tenant) -> Past:
    """One tenant of a reading. Its rows are read once for their hashes, and again where they are asked for."""
    tables = {}
    by_name = {table.name: table for table in reading.tables}
    for name, table in by_name.items():
        pieces = [(Piece(chunk.digest, chunk.rows), chunk.first_key) for chunk in _chunks(reading, tenant, table)]
        if pieces:
            root = table_root((piece.digest, piece.rows) for piece, _ in pieces).hex()
            tables[name] = PastTable(
                name,
                Layout(table.column_names, table.key, table.key_kinds),
                tuple(column.type for column in table.columns),
                tuple(piece for piece, _ in pieces),
                pieces[0][1],
                root,
                tuple(first for _, first in pieces),
            )

    def read(table: PastTable, numbers: Sequence[int]) -> Iterator[bytes]:
        wanted = frozenset(numbers)
        chunks = _chunks(reading, tenant, by_name[table.name])
        return (chunk.data for number, chunk in enumerate(chunks) if number in wanted)

    return Past(tenant, 0, str(reading.moment), "", tables, read)


def _chunks(reading: Reading, tenant: Tenant, table: Table) -> Iterator[Chunk]:
    chunker = Chunker(key_of(table.key_positions))
    with reading.rows.open() as reader:
        for block in reader.blocks(table, [tenant.key], share=1.0, within=None):
            yield from chunker.add(block.data, block.rows)
    yield from chunker.finish()
