"""What a guarded run changed, by tenant and table, as a restore's before-images have it: `undo` reads both alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from outlast.core.table import Table
from outlast.core.tenant import TenantKey
from outlast.rehearsal.proving import Outcome
from outlast.rehearsal.receipt import KeyedTable
from outlast.restore.live import layout_of
from outlast.restore.undo import TenantImages


@dataclass(slots=True)
class Changed:
    """One tenant's rows of one table, for the before-image."""

    table: Table
    columns: tuple[str, ...]
    deleted: list[bytes] = field(default_factory=list)
    inserted: list[bytes] = field(default_factory=list)
    updated: list[tuple[bytes, bytes]] = field(default_factory=list)


def changes_by_tenant(outcomes: Sequence[Outcome]) -> dict[TenantKey, list[Changed]]:
    found: dict[tuple[TenantKey, int], Changed] = {}
    for place, outcome in enumerate(outcomes):
        keyed, table = outcome.taken.keyed, outcome.taken.table

        def of(tenant: TenantKey, at: int = place, live: Table = table, one: KeyedTable = keyed) -> Changed:
            return found.setdefault((tenant, at), Changed(live, one.columns))

        for tenant, row in outcome.deleted:
            of(tenant).deleted.append(row)
        for tenant, row in outcome.inserted:
            of(tenant).inserted.append(row)
        for row_ in keyed.rows:
            if row_.key in outcome.updated and outcome.updated[row_.key] != outcome.taken.rows[row_.key]:
                of(row_.tenant).updated.append((outcome.taken.rows[row_.key], outcome.updated[row_.key]))
    by_tenant: dict[TenantKey, list[Changed]] = {}
    for (tenant, _), changed in sorted(found.items(), key=lambda item: item[0]):
        by_tenant.setdefault(tenant, []).append(changed)
    return by_tenant


def fill(image: TenantImages, changed: Changed) -> None:
    """A table's rows as the before-image has them: in key order, with the table's stored columns alone."""
    table = changed.table
    layout = layout_of(table)
    key, order = layout.key_of, layout.order_of
    places = [changed.columns.index(name) for name in table.column_names]
    plain = places == list(range(len(changed.columns)))

    def stored(row: bytes) -> bytes:
        if plain:
            return row
        parts = row.split(b"\t")
        return b"\t".join([parts[place] for place in places])

    into = image.table(table)
    for kind, rows in (("delete", changed.deleted), ("insert", changed.inserted)):
        for row in sorted(map(stored, rows), key=lambda row: order(key(row))):
            into.add(kind, row + b"\n")
    pairs = sorted(((stored(was), stored(now)) for was, now in changed.updated), key=lambda pair: order(key(pair[0])))
    into.add("before", b"".join([was + b"\n" for was, _ in pairs])) if pairs else None
    into.add("after", b"".join([now + b"\n" for _, now in pairs])) if pairs else None
