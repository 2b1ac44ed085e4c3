"""A census: which tenant has how many rows of which table, and which of these runs changed since they were last read.

It is taken by the server, table by table, without sending a row; what it finds decides what is read at all.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from outlast.core.table import Table
from outlast.core.tenant import TenantKey
from outlast.sources.source import Fingerprint

# A table's number, rows, digest, digest by count: compact, since there is one a tenant and table.
_ENTRY = struct.Struct(">HQ16s16s")
_NONE = bytes(16)


@dataclass(frozen=True, slots=True)
class Seen:
    """One run as the census saw it. Equal digests: the same row versions under the same reading.

    `counted` is what a backup without a census remembers of a run (`counted_digest`), given where no row of the run
    is newer than that backup's snapshot.
    """

    rows: int
    digest: bytes
    counted: bytes | None

    def is_as(self, before: bytes | None) -> bool:
        return before is not None and before in (self.digest, self.counted)


def counted_digest(table: Table, rows: int, reading: str) -> bytes:
    """What is remembered of a run that was read whole, and of which no fingerprint was taken.

    It says that nothing changed together with another fact only: that no row version of then or of its path is newer
    than the snapshot. Then the rows of now are among those of then, and as many rows are the same rows.
    """
    return _digest(f"counted {rows}", _reading(table, reading))


def _reading(table: Table, reading: str) -> bytes:
    return f"\0{table.name}\0{table.signature}\0{reading}".encode("utf-8", "surrogateescape")


def _digest(versions: str, reading: bytes) -> bytes:
    return hashlib.blake2b(versions.encode() + reading, digest_size=16).digest()


class Census:
    """Every tenant's runs. Memory is 42 bytes a run, so that 200,000 tenants fit."""

    def __init__(self, tables: Sequence[Table], reading: str) -> None:
        """`reading` names what the fingerprints hold under: the cluster, its timeline, the xid epoch."""
        self.tables = tuple(tables)
        self._reading = reading
        self._entries: dict[TenantKey, bytearray] = {}

    def add(self, number: int, found: Mapping[TenantKey, Fingerprint]) -> None:
        table = self.tables[number]
        reading = _reading(table, self._reading)
        for tenant, fingerprint in found.items():
            rows = fingerprint.rows
            digest = _digest(fingerprint.versions, reading)
            counted = _NONE if fingerprint.newer else counted_digest(table, rows, self._reading)
            self._entries.setdefault(tenant, bytearray()).extend(_ENTRY.pack(number, rows, digest, counted))

    @property
    def tenants(self) -> tuple[TenantKey, ...]:
        return tuple(self._entries)

    def runs(self, tenant: TenantKey) -> Iterator[tuple[Table, Seen]]:
        """The tables in which the tenant has rows."""
        for number, rows, digest, counted in _ENTRY.iter_unpack(self._entries.get(tenant, b"")):
            yield self.tables[number], Seen(rows, digest, None if counted == _NONE else counted)

    def rows_by_table(self) -> dict[str, int]:
        rows = [0] * len(self.tables)
        for entries in self._entries.values():
            for number, count, _, _ in _ENTRY.iter_unpack(entries):
                rows[number] += count
        return {str(table.name): count for table, count in zip(self.tables, rows, strict=True)}

    def rows(self, tenant: TenantKey) -> int:
        return sum(seen.rows for _, seen in self.runs(tenant))
