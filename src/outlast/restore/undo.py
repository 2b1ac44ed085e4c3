"""Undo: the before-image of a plan while it is made, and read back as changes that are to be reversed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge

from outlast.core.errors import Refused
from outlast.core.row import OrderKey
from outlast.core.table import Table, TableName
from outlast.core.tenant import Tenant
from outlast.restore.changes import Image
from outlast.restore.difference import Layout, Pair, rows_of
from outlast.restore.reversal import Reversal, ReversedTable
from outlast.vault.keys import Identity
from outlast.vault.store import Store
from outlast.vault.undo import UndoDraft, UndoEntry, UndoObject, UndoTable, UndoWriter, read_entry, read_rows

_ROW_BYTES = 100  # a row's size, about


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tenant's before-images belong, and the public key that they are sealed to."""

    prefix: str
    recipient: str


@dataclass(frozen=True, slots=True)
class _TableImage:
    draft: UndoDraft
    table: str

    def add(self, kind: str, data: bytes) -> None:
        self.draft.add(self.table, kind, data)


@dataclass(frozen=True, slots=True)
class TenantImages:
    """Takes one tenant's before-image, table by table."""

    draft: UndoDraft

    def table(self, table: Table) -> Image:
        name = str(table.name)
        columns = tuple((column.name, column.type) for column in table.columns)
        self.draft.tables[name] = UndoTable(columns, table.key, table.key_kinds)
        return _TableImage(self.draft, name)


@dataclass(frozen=True, slots=True)
class UndoKeeper:
    """Keeps the before-images of one plan. Safe to use from several threads.

    `open` gives the writer, and raises an OutlastError where this host has no keys for it: before anything is written.
    """

    open: Callable[[], UndoWriter]

    def images(self, tenant: Tenant, place: Place) -> TenantImages:
        return TenantImages(self.open().draft(tenant, place.prefix, place.recipient))

    def write(self, images: Sequence[TenantImages], xid: str, database: str) -> str | None:
        """Make them durable in one object; returns its name. None where nothing changes."""
        drafts = [one.draft for one in images if not one.draft.empty]
        return self.open().write(drafts, xid, database) if drafts else None


def reversal_of(
    store: Store, objects: Sequence[UndoObject], prefix: str, plan: str, key: Identity, committed: Callable[[str], bool]
) -> Reversal:
    """What is to be taken back for one tenant: what the newest transaction of the plan that was committed wrote.

    `committed` tells of a transaction, by its number, whether it was. Raises Refused where there is nothing.
    """
    mine = [one for one in objects if prefix in one.index.entries]
    newest = max((one for one in mine if committed(one.index.xid)), key=lambda one: int(one.index.xid), default=None)
    if newest is None:
        raise Refused(
            f"plan {plan} wrote nothing for this tenant, or its before-image is gone from the vault",
            hint="See what was done: outlast plans",
            code="nothing-to-undo",
        )
    entry = read_entry(newest, prefix, key)
    tables = {TableName.parse(name): _reversed(store, newest, entry, name, key) for name in entry.tables}
    changed = {name: table for name, table in tables.items() if any(run.table == str(name) for run in entry.runs)}
    rows = sum(run.length for run in entry.runs) // _ROW_BYTES
    return Reversal(entry.tenant, f"plan {plan}", changed, rows)


def _reversed(store: Store, found: UndoObject, entry: UndoEntry, name: str, key: Identity) -> ReversedTable:
    described = entry.tables[name]
    layout = Layout(tuple(column for column, _ in described.columns), described.key, described.key_kinds)

    def rows(kind: str) -> Iterator[bytes]:
        runs = [run for run in entry.runs if (run.table, run.kind) == (name, kind)]
        return rows_of(read_rows(store, found, entry, run, key) for run in runs)

    def changes() -> Iterator[Pair]:
        order, key_of = layout.order_of, layout.key_of

        def place(pair: Pair) -> OrderKey:
            return order(key_of(pair[0] if pair[0] is not None else pair[1] or b""))

        inserted: Iterator[Pair] = ((None, row) for row in rows("insert"))
        deleted: Iterator[Pair] = ((row, None) for row in rows("delete"))
        updated: Iterator[Pair] = zip(rows("before"), rows("after"), strict=True)
        return merge(inserted, deleted, updated, key=place)

    return ReversedTable(TableName.parse(name), layout, tuple(kind for _, kind in described.columns), changes)
