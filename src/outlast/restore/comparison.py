"""Two states of a tenant held against each other: two moments of the vault, or the vault and the live tables.

`diff` and `verify --live` are this. The effect is always what leads from the first state to the second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from outlast.core.effect import Effect, merge
from outlast.core.table import Table, TableName
from outlast.core.tenant import ORPHAN, SCHEMA, SHARED, Tenant, TenantKey
from outlast.restore.difference import Layout, Piece, Tally, pairs, regions, rows_of
from outlast.restore.history import Past, PastTable, past_of
from outlast.restore.live import LiveRun, layout_of, read_chunks, read_run, roots_of
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session
from outlast.vault.reader import TenantEntry, Vault

_BATCH_TENANTS = 250


@dataclass(frozen=True, slots=True)
class Side:
    """One table's run on one side: what is known of its chunks, and how to read some of them by number, in order."""

    layout: Layout
    pieces: Sequence[Piece]
    read: Callable[[Sequence[int]], Iterator[bytes]]


@dataclass(slots=True)
class Comparison:
    """What leads from the vault to the live tables. `absent` are live tenants that the vault does not have."""

    effect: Effect = field(default_factory=Effect)
    tenants: dict[TenantKey, Tenant] = field(default_factory=dict)
    absent: tuple[Tenant, ...] = ()

    @property
    def same(self) -> bool:
        return not self.effect and not self.absent


def compare_states(before: Past, after: Past) -> Effect:
    """What leads from one stored state of a tenant to another."""
    names = sorted(before.tables.keys() | after.tables.keys())
    effects = []
    for name in names:
        old, new = before.tables.get(name), after.tables.get(name)
        if old is None or new is None or (old.layout, old.root) != (new.layout, new.root):
            effects.append(_table_effect(after.tenant.key, name, _stored_side(before, old), _stored_side(after, new)))
    return merge(effects)


def compare_with_live(connection: Session, catalog: Catalog, past: Past) -> Effect:
    """What leads from a tenant's stored state to its live rows, in the caller's REPEATABLE READ transaction."""
    tables = {table.name: table for table in _tables(catalog, past.tenant.key)}
    effects = []
    for name in sorted(tables.keys() | past.tables.keys()):
        stored, table = past.tables.get(name), tables.get(name)
        live = None if table is None else read_run(connection, catalog, table, past.tenant.key)
        if (stored.root if stored else "") != (live.root if live else ""):
            effects.append(_with_live(connection, catalog, past, name, stored, live))
    return merge(effects)


def compare_live(
    connection: Session,
    catalog: Catalog,
    vault: Vault,
    source: str,
    run: int,
    live_tenants: Iterable[Tenant],
    chosen: Sequence[TenantEntry] | None = None,
    on_tenants: Callable[[int], None] = lambda _: None,
) -> Comparison:
    """Compare tenants (None: all, shared rows and orphans too) with the vault as of a run.

    `live_tenants` are those of the tenant table, for telling which the vault does not have. Runs in the caller's
    REPEATABLE READ transaction; `on_tenants` hears how many more were compared.
    """
    entries = [one for one in (vault.entries(source, run) if chosen is None else chosen) if one.tenant.key != SCHEMA]
    result = Comparison(tenants={entry.tenant.key: entry.tenant for entry in entries})
    if chosen is None:
        result.absent = tuple(one for one in live_tenants if one.key not in result.tenants)
    effects = []
    for start in range(0, len(entries), _BATCH_TENANTS):
        batch = entries[start : start + _BATCH_TENANTS]
        pasts = [past_of(vault, source, entry, f"run {run}") for entry in batch]
        effects += [compare_with_live(connection, catalog, past) for past in _changed(connection, catalog, pasts)]
        on_tenants(len(batch))
    result.effect = merge(effects)
    return result


def _changed(connection: Session, catalog: Catalog, pasts: Sequence[Past]) -> Iterator[Past]:
    """Those whose live roots differ from the stored ones. Ordinary tenants are read many at a time."""
    ordinary = {past.tenant.key: past for past in pasts if past.tenant.key not in (SHARED, ORPHAN)}
    yield from [past for past in pasts if past.tenant.key not in ordinary]
    roots: dict[tuple[TenantKey, TableName], str] = {}
    for table in catalog.owned:
        for tenant, root in roots_of(connection, catalog, table, list(ordinary)):
            roots[tenant, table.name] = root
    for key, past in ordinary.items():
        stored = {(key, name): table.root for name, table in past.tables.items()}
        if stored != {place: root for place, root in roots.items() if place[0] == key}:
            yield past


def _tables(catalog: Catalog, tenant: TenantKey) -> tuple[Table, ...]:
    return catalog.shared if tenant == SHARED else catalog.owned


def _stored_side(past: Past, table: PastTable | None) -> Side | None:
    if table is None:
        return None
    return Side(table.layout, table.pieces, lambda numbers: past.read(table, numbers))


def _with_live(
    connection: Session, catalog: Catalog, past: Past, name: TableName, stored: PastTable | None, live: LiveRun | None
) -> Effect:
    def read(numbers: Sequence[int]) -> Iterator[bytes]:
        assert live is not None
        if live.kept is not None:
            return (live.kept[number] for number in numbers)
        wanted = frozenset(numbers)
        chunks = read_chunks(connection, catalog, live.table, past.tenant.key)
        return (chunk.data for number, chunk in enumerate(chunks) if number in wanted)

    after = None if live is None else Side(layout_of(live.table), live.pieces, read)
    return _table_effect(past.tenant.key, name, _stored_side(past, stored), after)


def _table_effect(tenant: TenantKey, name: TableName, before: Side | None, after: Side | None) -> Effect:
    ours: Callable[[bytes], bytes]
    theirs: Callable[[bytes], bytes]
    known = after or before
    assert known is not None
    old = before or Side(known.layout, (), lambda _: iter(()))
    new = after or Side(known.layout, (), lambda _: iter(()))
    if old.layout == new.layout:
        cut = list(regions(old.pieces, new.pieces, keyed=bool(new.layout.key)))
        layout = new.layout
        ours = theirs = _untouched
    else:  # compared by the columns that both have; the hashes are of rows that cannot be equal
        layout = _common(old.layout, new.layout)
        cut = list(regions([Piece(b"old", 0)] * len(old.pieces), [Piece(b"new", 0)] * len(new.pieces)))
        ours = _picking(old.layout, layout)
        theirs = _picking(new.layout, layout)
    tally = Tally(layout)
    differing = [region for region in cut if not region.equal]
    old_rows = old.read([number for region in differing for number in region.before])
    new_rows = new.read([number for region in differing for number in region.after])
    for region in differing:
        left = map(ours, rows_of(islice(old_rows, len(region.before))))
        right = map(theirs, rows_of(islice(new_rows, len(region.after))))
        for pair in pairs(left, right, layout):
            tally.add(*pair)
    return tally.effect(tenant, str(name))


def _untouched(row: bytes) -> bytes:
    return row


def _common(before: Layout, after: Layout) -> Layout:
    """The columns of both, in the order of the later one. Without a key in common the whole row identifies itself."""
    columns = tuple(name for name in after.columns if name in before.columns)
    same_key = (before.key, before.key_kinds) == (after.key, after.key_kinds) and set(after.key) <= set(columns)
    return Layout(columns, after.key, after.key_kinds) if same_key else Layout(columns, (), ())


def _picking(layout: Layout, wanted: Layout) -> Callable[[bytes], bytes]:
    positions = [layout.columns.index(name) for name in wanted.columns]

    def pick(row: bytes) -> bytes:
        fields = row.split(b"\t")
        return b"\t".join([fields[position] for position in positions])

    return pick
