"""One part of a sweep: some of the tenants, all of their tables, from reading to packs in the vault.

A backup splits its tenants into parts, one a worker process; a part needs nothing from the others but the snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from outlast.capture.packing import Packer, Piece, RunContext, TenantDraft
from outlast.capture.putting import Written, putting
from outlast.capture.records import Records, TenantRecord
from outlast.capture.spool import Spool
from outlast.core.errors import BugError, SourceError
from outlast.core.row import key_of
from outlast.core.table import OwnershipKind, Table
from outlast.core.tenant import ORPHAN, Tenant, TenantKey
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session, Target, explain
from outlast.sources.postgres.snapshot import join_snapshot, read_in_bulk
from outlast.sources.postgres.sweep import Block, sweep
from outlast.state.local import LocalState
from outlast.vault.chunk import Chunker
from outlast.vault.keys import WriterKeys
from outlast.vault.store import Store, open_store

_RECORDS_AT_ONCE = 200
_PROGRESS_ROWS = 20_000
_BULK_SHARE_MIN = 0.2


@dataclass(frozen=True, slots=True)
class TenantTask:
    """A tenant to read: the rows that the census counted, by table, for the tables that must be read."""

    tenant: Tenant
    prefix: str
    recipient: str | None  # None for a tenant that has no key yet
    seen: dict[str, bytes]
    read: dict[str, int]
    remembered: bool  # whether this host has a record of it


@dataclass(frozen=True, slots=True)
class PartSpec:
    """Everything a worker process needs. Picklable; secrets travel over a pipe, never by argv or disk."""

    target: Target
    snapshot: str
    catalog: Catalog
    tables: tuple[Table, ...]
    tasks: tuple[TenantTask, ...]
    shares: Mapping[str, float]  # by table, how much of it this part reads: 1 is all of it
    context: RunContext
    keys: WriterKeys
    vault_url: str
    state_directory: Path


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows read since the last one was told."""

    rows: int


Report = Callable[[Progress | Written], None]


class _Batched:
    """Tells of progress now and then: a message a block would cost as much as reading it."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._rows = 0

    def add(self, rows: int) -> None:
        self._rows += rows
        if self._rows >= _PROGRESS_ROWS:
            self.send()

    def send(self) -> None:
        self._report(Progress(self._rows))
        self._rows = 0


def capture_part(spec: PartSpec, report: Report, store: Store | None = None) -> None:
    """Read the part's tenants and write what changed. Finished records are noted as pending, progress is reported.

    Raises an OutlastError; what was put by then lies in the vault unreferenced, and does no harm.
    """
    try:
        _capture(spec, report, store or open_store(spec.vault_url))
    except psycopg.Error as error:
        raise explain(error, f"read {spec.target}") from error


def _capture(spec: PartSpec, report: Report, store: Store) -> None:
    with (
        LocalState(spec.state_directory) as state,
        Spool(spec.state_directory) as spool,
        putting(store) as create,
        join_snapshot(spec.target, "backup", spec.snapshot) as session,
    ):
        records = Records(state, spec.context.source)
        packer = Packer(spec.context, spec.keys, spool, create)
        drafts = {task.tenant.key: _draft(task, records, packer) for task in spec.tasks}
        progress = _Batched(report)
        for table in spec.tables:
            _read_table(session, spec, table, drafts, packer, progress)
        progress.send()
        session.close()  # the snapshot is not held open while packs are put
        by_name = {str(table.name): table for table in spec.tables}
        done: list[TenantRecord] = []
        for task in spec.tasks:
            done.append(packer.finish(drafts.pop(task.tenant.key), by_name))
            if len(done) >= _RECORDS_AT_ONCE:
                create.settle()
                records.add_pending(done)
                done = []
        create.settle()
        records.add_pending(done)
        report(create.written)


def _draft(task: TenantTask, records: Records, packer: Packer) -> TenantDraft:
    recipient = task.recipient or packer.new_key(task.tenant, task.prefix)
    read: dict[str, list[Piece]] = {table: [] for table in task.read}
    previous = records.get(task.tenant.key) if task.remembered else None
    if previous is not None and previous.recipient != recipient:
        previous = None  # erased since: nothing that is sealed to the destroyed key may be pointed to
    return TenantDraft(task.tenant, task.prefix, recipient, previous, task.seen, read)


def _read_table(
    session: Session,
    spec: PartSpec,
    table: Table,
    drafts: dict[TenantKey, TenantDraft],
    packer: Packer,
    progress: _Batched,
) -> None:
    name = str(table.name)
    expected = {task.tenant.key: task.read[name] for task in spec.tasks if task.read.get(name)}
    if not expected:
        return
    chunker = Chunker(key_of(table.key_positions))
    current: TenantKey | None = None
    read: dict[TenantKey, int] = {}
    for block in _blocks(session, spec, table, expected):
        if block.tenant != current:
            if current is not None:
                packer.take(drafts[current], name, chunker.finish())
            current = block.tenant
            if current in read or current not in expected:
                raise BugError(f"table {table.name} gave rows of a tenant out of turn")
            read[current] = 0
        packer.take(drafts[current], name, chunker.add(block.data, block.rows))
        read[current] += block.rows
        progress.add(block.rows)
    if current is not None:
        packer.take(drafts[current], name, chunker.finish())
    if read != expected:
        raise SourceError(
            f"cannot back up table {table.name}: "
            f"it counted {sum(expected.values())} rows and gave {sum(read.values())}",
            hint="An index of that table may be corrupt: check it with amcheck (bt_index_check), then REINDEX.",
            code="inconsistent-read",
        )


def _blocks(session: Session, spec: PartSpec, table: Table, expected: dict[TenantKey, int]) -> Iterator[Block]:
    if table.ownership.kind is not OwnershipKind.OWNED:
        return sweep(session, spec.catalog, table)
    share = spec.shares[str(table.name)]
    read_in_bulk(session, bulk=share >= _BULK_SHARE_MIN)
    if share == 1:
        return sweep(session, spec.catalog, table)
    tenants = [tenant for tenant in expected if tenant != ORPHAN]
    return sweep(session, spec.catalog, table, tenants, orphans=ORPHAN in expected)
