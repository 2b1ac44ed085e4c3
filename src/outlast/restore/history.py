"""A tenant's state at a moment, out of the vault: which tables it had, by what hashes, and their rows on demand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from outlast.core.errors import Refused
from outlast.core.table import TableName
from outlast.core.tenant import Tenant
from outlast.restore.difference import Layout, Piece
from outlast.vault.manifest import TableManifest
from outlast.vault.reader import TenantEntry, Vault


@dataclass(frozen=True, slots=True)
class PastTable:
    """One table of a tenant as it was stored. `root` is in hexadecimal."""

    name: TableName
    layout: Layout
    types: tuple[str, ...]
    pieces: tuple[Piece, ...]
    first_key: bytes
    root: str

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)


Reader = Callable[[PastTable, Sequence[int]], Iterator[bytes]]
"""Gives the rows of some chunks of a table, by their numbers, in order; each block is proven by its hash."""


@dataclass(frozen=True, slots=True)
class Past:
    """A tenant's stored state. `root` is that of its manifest, in hexadecimal."""

    tenant: Tenant
    run: int
    moment: str
    root: str
    tables: Mapping[TableName, PastTable]
    reader: Reader

    def read(self, table: PastTable, numbers: Sequence[int] | None = None) -> Iterator[bytes]:
        """Rows of a table in blocks of whole lines: of the chunks with these numbers, or of all."""
        return self.reader(table, range(len(table.pieces)) if numbers is None else numbers)


def past_of(vault: Vault, source: str, entry: TenantEntry, moment: str) -> Past:
    """A tenant's state as of a run (`entry` is of that run). Reads its manifest now, and rows as they are asked for.

    Raises CorruptionError where the vault's bytes are not those that were written, VaultKeyError without its key.
    """
    manifest = vault.manifest(source, entry)
    tables = {}
    stored: dict[TableName, TableManifest] = {}
    for text, table in manifest.tables.items():
        name = TableName.parse(text)
        stored[name] = table
        tables[name] = PastTable(
            name,
            Layout(tuple(column for column, _ in table.columns), table.key, table.key_kinds),
            tuple(kind for _, kind in table.columns),
            tuple(Piece(chunk.digest, chunk.rows) for chunk in table.chunks),
            table.chunks[0].first_key if table.chunks else b"",
            table.root,
        )

    def read(table: PastTable, numbers: Sequence[int]) -> Iterator[bytes]:
        chunks = stored[table.name].chunks
        wanted = [chunks[number] for number in numbers]
        return (data for _, data in vault.chunks(source, entry, stored[table.name], wanted))

    return Past(entry.tenant, manifest.run, moment, manifest.root, tables, read)


def restorable(vault: Vault, source: str, entry: TenantEntry, moment: str) -> Past:
    """The same, for a restore: Refused where the tenant had no row at all by then, naming the run in which it had.

    After a deletion the next backup records that nothing is left. Restoring that would say "nothing to change" to
    somebody who has just lost a customer.
    """
    past = past_of(vault, source, entry, moment)
    if past.tables:
        return past
    last = past.run - 1  # an empty manifest is written by the first run that found nothing any more
    again = f"outlast restore {entry.tenant.label or entry.tenant.key} --at run:{last}"
    raise Refused(
        f"tenant {entry.tenant} had no rows left at {moment}: they were gone before run {past.run}",
        hint=f"Take the last run that has them: {again}" if last else "See its moments: outlast history",
        code="nothing-left",
    )
