"""A tenant's stored state held in memory, taken from the live database: a restore's tests need no vault for it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from outlast.core.plan import TenantPlan
from outlast.core.recipe import Recipe
from outlast.core.table import TableName
from outlast.core.tenant import SHARED, Tenant, TenantKey
from outlast.restore.attempt import transaction_status
from outlast.restore.difference import Piece
from outlast.restore.history import Past, PastTable
from outlast.restore.live import layout_of, read_chunks, root_of
from outlast.restore.planning import root_over
from outlast.restore.restoring import Restorer, Subject
from outlast.restore.reversal import Reversal
from outlast.restore.sessions import Connect, Sessions
from outlast.restore.undo import Place, UndoKeeper, reversal_of
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session, Target, connect
from outlast.vault.keys import Identity, generate_identity
from outlast.vault.signature import Signer
from outlast.vault.store import FolderStore
from outlast.vault.undo import UndoWriter, list_undo


def remember(url: str, settings: OwnershipSettings, keys: Sequence[str]) -> dict[str, Past]:
    """What a backup would hold of these tenants now."""
    with connect(Target(url), role="backup", autocommit=True) as connection:
        connection.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        catalog = read_catalog(connection, settings)
        return {key: _past(connection, catalog, TenantKey(key)) for key in keys}


def shared_past(url: str, settings: OwnershipSettings) -> Past:
    """What a backup would hold of the shared tables now."""
    with connect(Target(url), role="backup", autocommit=True) as connection:
        connection.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        return _past(connection, read_catalog(connection, settings), SHARED)


def _past(connection: Session, catalog: Catalog, key: TenantKey) -> Past:
    tables: dict[TableName, PastTable] = {}
    data: dict[TableName, list[bytes]] = {}
    for table in catalog.shared if key == SHARED else catalog.owned:
        chunks = list(read_chunks(connection, catalog, table, key))
        if not chunks:
            continue
        pieces = tuple(Piece(chunk.digest, chunk.rows) for chunk in chunks)
        types = tuple(column.type for column in table.columns)
        data[table.name] = [chunk.data for chunk in chunks]
        tables[table.name] = PastTable(
            table.name, layout_of(table), types, pieces, chunks[0].first_key, root_of(pieces)
        )

    def reader(table: PastTable, numbers: Sequence[int]) -> Iterator[bytes]:
        return (data[table.name][number] for number in numbers)

    root = root_over({str(name): table.root for name, table in tables.items()})
    return Past(Tenant(key), 1, "run 1", root, tables, reader)


def subjects(pasts: dict[str, Past]) -> list[Subject]:
    return [Subject(past.tenant, lambda past=past: past) for past in pasts.values()]  # type: ignore[misc]


@contextmanager
def restorer(
    url: str,
    settings: OwnershipSettings,
    *,
    tables: Sequence[str] = (),
    recipe: Recipe | None = None,
    connect: Connect = connect,
    pause: Callable[[float], None] = lambda _: None,
    lock_timeout_s: float | None = None,
    **more: Any,
) -> Iterator[Restorer]:
    """`more` goes to the Restorer: keeper, rules, shared."""
    recipe = recipe or Recipe(tables=tuple(tables))
    with Sessions(Target(url), connect, lock_timeout_s) as sessions:
        yield Restorer(sessions, lambda session: read_catalog(session, settings), recipe, pause=pause, **more)


@dataclass
class Keeping:
    """A folder for before-images, with a key for each tenant: what a vault would be for undo."""

    folder: Path
    keys: dict[str, Identity] = field(default_factory=dict)
    signer: Signer = field(default_factory=Signer.generate)

    def __post_init__(self) -> None:
        self.store = FolderStore(self.folder, make=True)

    def keeper(self, plan: str) -> UndoKeeper:
        writer = UndoWriter(self.store, "main", plan, self.signer)
        return UndoKeeper(lambda: writer)

    def place(self, tenant: str) -> Place:
        if tenant not in self.keys:
            self.keys[tenant] = Identity.from_text(generate_identity("a tenant")[0], "a tenant")
        return Place(hashlib.sha256(tenant.encode()).hexdigest()[:32], self.keys[tenant].recipients[0])

    def subjects(self, pasts: dict[str, Past]) -> list[Subject]:
        return [
            Subject(past.tenant, lambda past=past: past, self.place(past.tenant.key))  # type: ignore[misc]
            for past in pasts.values()
        ]

    def undoing(self, url: str, plan: str, tenants: Sequence[str]) -> list[Subject]:
        """What undoing a plan wants of these tenants."""
        objects = list_undo(self.store, "main", plan, (self.signer.public,))

        def read(tenant: str) -> Reversal:
            with connect(Target(url), role="test", autocommit=True) as session:
                place, key = self.place(tenant), self.keys[tenant]
                return reversal_of(
                    self.store,
                    objects,
                    place.prefix,
                    plan,
                    key,
                    lambda xid: transaction_status(session, xid) == "committed",
                )

        return [
            Subject(Tenant(TenantKey(one)), lambda one=one: read(one), self.place(one))  # type: ignore[misc]
            for one in tenants
        ]


def execute(url: str, settings: OwnershipSettings, pasts: dict[str, Past], **options: object) -> list[TenantPlan]:
    """Restore these tenants; raises the first error that ended one."""
    with restorer(url, settings, **options) as job:  # type: ignore[arg-type]
        outcomes = job.execute(subjects(pasts))
        if job.errors:
            raise job.errors[0]
        return list(outcomes)
