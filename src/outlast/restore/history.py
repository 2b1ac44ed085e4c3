"""A tenant's state at a moment, out of the vault: which tables it had, by what hashes, and their rows on demand."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from outlast.core.errors import Refused, UsageError
from outlast.core.table import TableName
from outlast.core.tenant import RESERVED, Tenant
from outlast.restore.difference import Layout, Piece
from outlast.restore.moments import At as At
from outlast.restore.moments import resolve as resolve
from outlast.vault.manifest import TableManifest
from outlast.vault.reader import TenantEntry, Vault
from outlast.vault.timeline import State


@dataclass(frozen=True, slots=True)
class PastTable:
    """One table of a tenant as it was stored. `root` is in hexadecimal."""

    name: TableName
    layout: Layout
    types: tuple[str, ...]
    pieces: tuple[Piece, ...]
    first_key: bytes
    root: str
    firsts: tuple[bytes, ...] = ()  # each piece's first key, where they are known

    def holding(self, key: bytes) -> Sequence[int]:
        """The numbers of the pieces that can have a row with this key (as COPY fields)."""
        if not self.layout.key or len(self.firsts) != len(self.pieces):
            return range(len(self.pieces))
        order = self.layout.order_of
        place = bisect_right([order(first) for first in self.firsts], order(key)) - 1
        return [max(0, place)] if self.pieces else []

    @property
    def rows(self) -> int:
        return sum(piece.rows for piece in self.pieces)


Reader = Callable[[PastTable, Sequence[int]], Iterator[bytes]]
"""Gives the rows of some chunks of a table, by their numbers, in order; each block is proven by its hash."""


@dataclass(frozen=True, slots=True)
class Past:
    """A tenant's stored state. `root` is that of its manifest, in hexadecimal. `notes` say where it is not exact."""

    tenant: Tenant
    run: int
    moment: str
    root: str
    tables: Mapping[TableName, PastTable]
    reader: Reader
    notes: tuple[str, ...] = ()

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
            tuple(chunk.first_key for chunk in table.chunks),
        )

    def read(table: PastTable, numbers: Sequence[int]) -> Iterator[bytes]:
        chunks = stored[table.name].chunks
        wanted = [chunks[number] for number in numbers]
        return (data for _, data in vault.chunks(source, entry, stored[table.name], wanted))

    return Past(entry.tenant, manifest.run, moment, manifest.root, tables, read)


def past_at(vault: Vault, source: str, entry: TenantEntry, at: At) -> Past:
    """A tenant's state at a moment (`entry` is of that moment, see find_entries).

    Raises Refused where the log missed something up to then, CorruptionError for wrong bytes, or a log that contradicts
    its base.
    """
    if at.position is None:
        return past_of(vault, source, entry, str(at))
    assert at.epoch is not None
    state = at.timeline.state(entry, at.epoch, at.position)
    tables = {name: _past_table(name, state) for name in state.tables}

    def read(table: PastTable, numbers: Sequence[int]) -> Iterator[bytes]:
        pieces = state.tables[table.name].pieces
        return state.shelf.read(table.name, [pieces[number] for number in numbers])

    notes = tuple(
        f"table {name}: updates and deletes are not in the log; they are those of run {state.base.record.run}"
        for name in state.partial
    )
    return Past(entry.tenant, state.base.record.run, str(at), state.root, tables, read, notes)


def _past_table(name: TableName, state: State) -> PastTable:
    table = state.tables[name]
    return PastTable(
        name,
        Layout(table.shape.names, table.shape.key, table.shape.key_kinds),
        tuple(kind for _, kind in table.shape.columns),
        tuple(Piece(piece.digest, piece.rows) for piece in table.pieces),
        table.pieces[0].first_key if table.pieces else b"",
        table.root,
        tuple(piece.first_key for piece in table.pieces),
    )


def find_entry(vault: Vault, source: str, name: str, at: At) -> TenantEntry:
    """A tenant by key or label at a moment, whether a run has it or only the log."""
    return find_entries(vault, source, [name], at)[0]


def find_entries(vault: Vault, source: str, names: Sequence[str], at: At) -> list[TenantEntry]:
    """The same for many names, in their order. Raises NotFoundError that names all that are unknown."""
    if at.position is None or at.epoch is None:
        return vault.find_tenants(source, names, at.run.run)
    logged = _Logged(at.timeline.tenants(at.epoch, at.position))
    found = {name: prefix for name in names if (prefix := logged.find(name)) is not None}
    rest = [name for name in names if name not in found]
    entries = dict(zip(rest, vault.find_tenants(source, rest, at.run.run) if rest else (), strict=True))
    base = at.timeline.epochs.base_of
    for name, prefix in found.items():
        entries[name] = at.timeline.entry(prefix, at.epoch, base(at.epoch, prefix, at.position), at.position)
    return [entries[name] for name in names]


class _Logged:
    """Tenants that the log names, by key and by label."""

    def __init__(self, tenants: Mapping[str, Tenant]) -> None:
        self._by_key = {str(tenant.key): prefix for prefix, tenant in tenants.items()}
        self._by_label: dict[str, list[str]] = {}
        for prefix, tenant in tenants.items():
            if tenant.label is not None:
                self._by_label.setdefault(tenant.label, []).append(prefix)

    def find(self, name: str) -> str | None:
        labelled = self._by_label.get(name, [])
        if name not in self._by_key and len(labelled) > 1:
            raise UsageError(f"{len(labelled)} tenants have the label {name!r}", hint="Use the key: outlast tenants")
        return self._by_key.get(name) or next(iter(labelled), None)


def all_entries(vault: Vault, source: str, at: At) -> list[TenantEntry]:
    """Every tenant at a moment, the reserved ones apart."""
    entries = {entry.prefix: entry for entry in vault.tenants(source, at.run.run)}
    if at.position is not None and at.epoch is not None:
        for prefix, tenant in at.timeline.tenants(at.epoch, at.position).items():
            if prefix not in entries and tenant.key not in RESERVED:
                base = at.timeline.epochs.base_of(at.epoch, prefix, at.position)
                entries[prefix] = at.timeline.entry(prefix, at.epoch, base, at.position)
    return [entries[prefix] for prefix in sorted(entries)]


def restorable(vault: Vault, source: str, entry: TenantEntry, at: At | str) -> Past:
    """The state for a restore: Refused where the tenant had no row at all by then, naming where it had.

    `at` as text is how a run's moment is called, of which `entry` then is.

    After a deletion the next backup records that nothing is left. Restoring that would say "nothing to change" to
    somebody who has just lost a customer.
    """
    past = past_of(vault, source, entry, at) if isinstance(at, str) else past_at(vault, source, entry, at)
    if past.tables:
        return past
    raise Refused(
        f"tenant {entry.tenant} had no rows left at {at}: they were gone before",
        hint=_had(entry, at),
        code="nothing-left",
    )


def _had(entry: TenantEntry, at: At | str) -> str:
    """How to name a moment at which the tenant still had rows."""
    who = entry.tenant.label or entry.tenant.key
    if not isinstance(at, str) and at.epoch is not None and at.position is not None:
        for header in reversed(at.epoch.headers):
            if header.start >= at.position:
                continue
            for one in reversed(at.timeline.epochs.details(header).transactions):
                if one.end <= at.position and entry.prefix in one.effect:
                    again = f"outlast restore {who} --at before:{one.xid}"
                    return f"Take the moment before the transaction that last changed it: {again}"
    last = entry.head.run - 1  # an empty manifest is written by the first run that found nothing any more
    again = f"outlast restore {who} --at run:{last}"
    return f"Take the last run that has them: {again}" if last > 0 else f"See its moments: outlast history {who}"
