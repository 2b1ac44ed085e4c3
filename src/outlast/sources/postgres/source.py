"""A PostgreSQL database as a Source: one exported snapshot, that as many sessions as are wanted read at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

from outlast.core.moment import Moment
from outlast.core.row import KeyKind
from outlast.core.table import OwnershipKind, Table
from outlast.core.tenant import ORPHAN, Tenant, TenantKey
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.check import unreadable
from outlast.sources.postgres.dump import dump_schema
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.query import key_kind
from outlast.sources.postgres.schema import Catalog, Notice
from outlast.sources.postgres.session import Session, Target
from outlast.sources.postgres.slot_making import ExportedSlot
from outlast.sources.postgres.snapshot import (
    Snapshot,
    adopt_snapshot,
    await_flush,
    join_snapshot,
    open_snapshot,
    read_in_bulk,
)
from outlast.sources.postgres.sweep import count_rows, fingerprints, sample_tenants, sweep
from outlast.sources.postgres.tenants import read_tenants
from outlast.sources.slicing import slices
from outlast.sources.source import Basis, Block, Fingerprint, Slice, Watcher

_SAMPLED_BYTES = 8 * 1024 * 1024
_SAMPLED_TABLES = 3

_TENANT_BYTES = 40 * 1024
"""A tenant's keys, files and manifest take as long as so much of a table does to be read and sealed."""
_BULK_SHARE_MIN = 0.2


@dataclass(frozen=True, slots=True)
class PostgresSource:
    """A database, and whose each of its tables is. `slot`: read at the snapshot that this new slot exported."""

    target: Target
    settings: OwnershipSettings
    slot: ExportedSlot | None = None

    def __str__(self) -> str:
        return str(self.target)

    @contextmanager
    def read(self, watcher: Watcher) -> Iterator[PostgresReading]:
        """See Source.read."""
        del watcher  # it is at hand at once
        try:
            with ExitStack() as stack:
                snapshot = stack.enter_context(self._snapshot())
                catalog = read_catalog(snapshot.session, self.settings)
                yield PostgresReading(self.target, snapshot, catalog, stack)
        except psycopg.Error as error:  # the session was lost where nobody is asking it something in particular
            raise explain(error, f"back up {self.target}") from error

    def _snapshot(self) -> Any:
        if self.slot is None:
            return open_snapshot(self.target, "backup")
        return adopt_snapshot(self.target, "backup", self.slot.snapshot, self.slot.consistent)


class PostgresReading:
    """See Reading."""

    counts_for_nothing = False

    def __init__(self, target: Target, snapshot: Snapshot, catalog: Catalog, stack: ExitStack) -> None:
        self.catalog = catalog
        self._target = target
        self._snapshot = snapshot
        self._stack = stack

    @property
    def moment(self) -> Moment:
        return self._snapshot.moment

    @property
    def basis(self) -> Basis:
        first, next_, _ = self.moment.snapshot.split(":")
        cluster = f"{self.catalog.system_identifier}/{self.catalog.timeline}/{self.catalog.database_oid}"
        return Basis(cluster, int(first), int(next_), self.moment.high.value)

    @property
    def tables(self) -> tuple[Table, ...]:
        return self.catalog.tables

    @property
    def tenant_kind(self) -> KeyKind:
        return key_kind(self.catalog.tenant_key_type)

    @property
    def notices(self) -> tuple[Notice, ...]:
        return self.catalog.notices

    @property
    def described(self) -> Mapping[str, Any]:
        catalog = self.catalog
        return {
            "name": catalog.database,
            "server_version": catalog.server_version,
            "system_identifier": catalog.system_identifier,
            "timeline": catalog.timeline,
            "encoding": catalog.encoding,
            "tenant_table": str(catalog.tenant_table),
        }

    @property
    def rows(self) -> PostgresRows:
        return PostgresRows(self._target, self._snapshot.name, self.catalog)

    def tenants(self) -> Mapping[TenantKey, Tenant]:
        return read_tenants(self._snapshot.session, self.catalog)

    def fingerprints(
        self,
        tables: Sequence[Table],
        *,
        tenants: Sequence[TenantKey] | None,
        since: int | None,
        sessions: int,
        advance: Callable[[str], None],
    ) -> Iterator[tuple[int, Mapping[TenantKey, Fingerprint]]]:
        """Over several connections that share the snapshot, the largest tables first."""
        with ExitStack() as stack:
            free = [
                stack.enter_context(join_snapshot(self._target, "backup", self._snapshot.name))
                for _ in range(max(1, min(sessions, len(tables))))
            ]
            count = len(free)

            def take(number: int) -> tuple[int, dict[TenantKey, Fingerprint]]:
                connection = free.pop()
                try:
                    return number, fingerprints(connection, self.catalog, tables[number], tenants, since)
                finally:
                    free.append(connection)

            order = sorted(range(len(tables)), key=lambda number: -tables[number].size_bytes)
            with ThreadPoolExecutor(count, "census") as pool:
                for number, found in pool.map(take, order):
                    yield number, found
                    advance(str(tables[number].name))

    def slices(self, tables: Sequence[Table], tenants: Collection[TenantKey], count: int) -> tuple[Slice, ...]:
        """By a sample of the largest tables that have the tenant's column, and by the number of tenants."""
        if count == 1:
            return (Slice(),)
        direct = [one for one in tables if one.ownership.kind is OwnershipKind.OWNED and not one.ownership.path]
        weights: dict[TenantKey, float] = dict.fromkeys(tenants, _TENANT_BYTES)
        for table in sorted(direct, key=lambda one: -one.size_bytes)[:_SAMPLED_TABLES]:
            share = min(1.0, _SAMPLED_BYTES / max(1, table.size_bytes))
            met = sample_tenants(self._snapshot.session, table, 100 * share)
            width = table.size_bytes / max(1, sum(met.values()))  # of all that one row of the sample stands for
            for tenant, rows in met.items():
                weights[tenant] = weights.get(tenant, _TENANT_BYTES) + rows * width
        return slices(weights, self.tenant_kind, count)

    def count_rows(self, tables: Sequence[Table]) -> dict[str, int]:
        return {str(table.name): count_rows(self._snapshot.session, table) for table in tables}

    def schema(self) -> Callable[[], Mapping[str, bytes]]:
        """As pg_dump dumps it, without tables that this role may not read."""
        hidden = unreadable(self._snapshot.session, self.catalog.tables)
        pool = self._stack.enter_context(ThreadPoolExecutor(1, "schema"))
        return pool.submit(dump_schema, self._target, self._snapshot.name, hidden).result

    def settle(self) -> None:
        await_flush(self._snapshot.session, self.moment.high, self._snapshot.taken_at)


@dataclass(frozen=True, slots=True)
class PostgresRows:
    """See Rows. Secrets travel with it over a pipe, never by argv or disk."""

    target: Target
    snapshot: str
    catalog: Catalog

    @contextmanager
    def open(self) -> Iterator[PostgresRowReader]:
        try:
            with join_snapshot(self.target, "backup", self.snapshot) as session:
                yield PostgresRowReader(session, self.catalog)
        except psycopg.Error as error:
            raise explain(error, f"read {self.target}") from error


class PostgresRowReader:
    """See RowReader."""

    def __init__(self, session: Session, catalog: Catalog) -> None:
        self._session = session
        self._catalog = catalog

    def blocks(
        self, table: Table, tenants: Collection[TenantKey], *, share: float, within: Slice | None
    ) -> Iterator[Block]:
        owned = table.ownership.kind is OwnershipKind.OWNED
        if within is not None:
            read_in_bulk(self._session, bulk=True)
            return sweep(self._session, self._catalog, table, within) if owned or within.is_lowest else iter(())
        if not tenants:
            return iter(())
        if not owned:
            return sweep(self._session, self._catalog, table)
        read_in_bulk(self._session, bulk=share >= _BULK_SHARE_MIN)
        if share == 1:
            return sweep(self._session, self._catalog, table)
        named = [tenant for tenant in tenants if tenant != ORPHAN]
        return sweep(self._session, self._catalog, table, named, orphans=ORPHAN in tenants)

    def close(self) -> None:
        self._session.close()
