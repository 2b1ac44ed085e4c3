"""A tenant's stored state held in memory, taken from the live database: a restore's tests need no vault for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from outlast.core.plan import TenantPlan
from outlast.core.recipe import Recipe
from outlast.core.table import TableName
from outlast.core.tenant import Tenant, TenantKey
from outlast.restore.difference import Piece
from outlast.restore.history import Past, PastTable
from outlast.restore.live import layout_of, read_chunks, root_of
from outlast.restore.planning import root_over
from outlast.restore.restoring import Restorer, Subject
from outlast.restore.sessions import Connect, Sessions
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session, Target, connect


def remember(url: str, settings: OwnershipSettings, keys: Sequence[str]) -> dict[str, Past]:
    """What a backup would hold of these tenants now."""
    with connect(Target(url), role="backup", autocommit=True) as connection:
        connection.execute(b"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        catalog = read_catalog(connection, settings)
        return {key: _past(connection, catalog, TenantKey(key)) for key in keys}


def _past(connection: Session, catalog: Catalog, key: TenantKey) -> Past:
    tables: dict[TableName, PastTable] = {}
    data: dict[TableName, list[bytes]] = {}
    for table in catalog.owned:
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
    **more: Any,
) -> Iterator[Restorer]:
    """`more` goes to the Restorer: keeper, rules, shared."""
    recipe = recipe or Recipe(tables=tuple(tables))
    with Sessions(Target(url), connect) as sessions:
        yield Restorer(sessions, lambda session: read_catalog(session, settings), recipe, pause=pause, **more)


def execute(url: str, settings: OwnershipSettings, pasts: dict[str, Past], **options: object) -> list[TenantPlan]:
    """Restore these tenants; raises the first error that ended one."""
    with restorer(url, settings, **options) as job:  # type: ignore[arg-type]
        outcomes = job.execute(subjects(pasts))
        if job.errors:
            raise job.errors[0]
        return list(outcomes)
