"""One part of a sweep: some of the tenants, all of their tables, from reading to packs in the vault.

A backup splits its tenants into parts, one a worker process; a part needs nothing from the others but the snapshot. It
reads the tenants that it is told, or, where nobody counted them before, all that stand in a slice of the rows' order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from outlast.capture.census import counted_digest
from outlast.capture.packing import Packer, Piece, RunContext, TenantDraft
from outlast.capture.putting import Written, putting
from outlast.capture.records import Records, TenantRecord
from outlast.capture.spool import Spool
from outlast.core.errors import BugError, SourceError
from outlast.core.row import key_of
from outlast.core.table import Table
from outlast.core.tenant import ORPHAN, RESERVED, Tenant, TenantKey
from outlast.sources.source import RowReader, Rows, Slice
from outlast.state.local import LocalState
from outlast.vault.chunk import Chunker
from outlast.vault.keys import WriterKeys
from outlast.vault.store import Store, open_store

_RECORDS_AT_ONCE = 200
_PROGRESS_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class TenantTask:
    """A tenant that is known before it is read, and what of it must be read.

    `read` are the rows that the census counted, by table, and `seen` its digests; without a census both are empty.
    """

    tenant: Tenant
    prefix: str
    recipient: str | None  # None for a tenant that has no key yet
    seen: dict[str, bytes]
    read: dict[str, int]
    remembered: bool  # whether this host has a record of it


@dataclass(frozen=True, slots=True)
class PartSpec:
    """Everything a worker process needs. Picklable; secrets travel over a pipe, never by argv or disk."""

    rows: Rows
    tables: tuple[Table, ...]
    tasks: tuple[TenantTask, ...]
    shares: Mapping[str, float]  # by table, how much of it this part reads: 1 is all of it
    within: Slice | None  # all tenants of this slice are read, known or not; None: those of the tasks
    reading: str  # what digests hold under (census.py)
    recipients: Mapping[str, str]  # by folder, for a tenant that no task knows and the vault does
    context: RunContext
    keys: WriterKeys
    vault_url: str
    state_directory: Path


@dataclass(frozen=True, slots=True)
class Progress:
    """Rows read since the last one was told."""

    rows: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What a part, or several, found where no census had counted it."""

    tenants: int = 0
    orphan_rows: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)  # by table

    def __add__(self, other: Tally) -> Tally:
        rows = {name: self.rows.get(name, 0) + other.rows.get(name, 0) for name in {**self.rows, **other.rows}}
        return Tally(self.tenants + other.tenants, self.orphan_rows + other.orphan_rows, rows)


Report = Callable[[Progress | Written | Tally], None]


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
    with (
        LocalState(spec.state_directory, later=True) as state,  # who commits the run commits what is noted here
        Spool(spec.state_directory) as spool,
        putting(store or open_store(spec.vault_url)) as create,
        spec.rows.open() as reader,
    ):
        records = Records(state, spec.context.source)
        packer = Packer(spec.context, spec.keys, spool, create)
        drafts = _Drafts(spec, records, packer)
        progress = _Batched(report)
        for table in spec.tables:
            _read_table(reader, spec, table, drafts, packer, progress)
        progress.send()
        reader.close()  # the snapshot is not held open while packs are put
        if spec.within is not None:
            report(drafts.tally())
        by_name = {str(table.name): table for table in spec.tables}
        done: list[TenantRecord] = []
        for draft in drafts.taken():
            done.append(packer.finish(draft, by_name))
            if len(done) >= _RECORDS_AT_ONCE:
                create.settle()
                records.add_pending(done)
                done = []
        create.settle()
        records.add_pending(done)
        report(create.written)


class _Drafts:
    """What is read of each tenant, begun when its first row comes."""

    def __init__(self, spec: PartSpec, records: Records, packer: Packer) -> None:
        self._spec = spec
        self._records = records
        self._packer = packer
        self._tasks = {task.tenant.key: task for task in spec.tasks}
        self._drafts: dict[TenantKey, TenantDraft] = {}

    def of(self, tenant: TenantKey) -> TenantDraft:
        draft = self._drafts.get(tenant)
        if draft is None:
            draft = self._drafts[tenant] = self._begin(self._tasks.get(tenant) or self._met(tenant))
        return draft

    def _met(self, tenant: TenantKey) -> TenantTask:
        """One that neither the tenant table nor this host knows: its root row is gone, its rows are not."""
        prefix = self._packer.prefix(tenant)
        return TenantTask(Tenant(tenant), prefix, self._spec.recipients.get(prefix), {}, {}, remembered=False)

    def _begin(self, task: TenantTask) -> TenantDraft:
        recipient = task.recipient or self._packer.new_key(task.tenant, task.prefix)
        read: dict[str, list[Piece]] = {table: [] for table in task.read}
        previous = self._records.get(task.tenant.key) if task.remembered else None
        if previous is not None and previous.recipient != recipient:
            previous = None  # erased since: nothing that is sealed to the destroyed key may be pointed to
        return TenantDraft(task.tenant, task.prefix, recipient, previous, dict(task.seen), read)

    def taken(self) -> Iterator[TenantDraft]:
        """All of them, each given up as it is handed out; and those of remembered tenants that have no rows now."""
        tables = {str(table.name): table for table in self._spec.tables}
        gone = [task for key, task in self._tasks.items() if task.remembered and key not in self._drafts]
        while self._drafts:
            _, draft = self._drafts.popitem()
            if self._spec.within is not None:
                for name, pieces in draft.tables.items():
                    draft.seen[name] = counted_digest(tables[name], _rows(pieces), self._spec.reading)
            yield draft
        yield from map(self._begin, gone)

    def tally(self) -> Tally:
        rows: dict[str, int] = {}
        for draft in self._drafts.values():
            for name, pieces in draft.tables.items():
                rows[name] = rows.get(name, 0) + _rows(pieces)
        orphans = self._drafts.get(ORPHAN)
        orphan_rows = sum(map(_rows, orphans.tables.values())) if orphans else 0
        return Tally(len(set(self._drafts) - RESERVED), orphan_rows, rows)


def _rows(pieces: list[Piece]) -> int:
    return sum(piece.rows for piece in pieces)


def _read_table(
    reader: RowReader, spec: PartSpec, table: Table, drafts: _Drafts, packer: Packer, progress: _Batched
) -> None:
    name = str(table.name)
    chunker = Chunker(key_of(table.key_positions))
    current: TenantKey | None = None
    expected = {task.tenant.key: task.read[name] for task in spec.tasks if task.read.get(name)}
    read: dict[TenantKey, int] = {}
    for block in reader.blocks(table, expected, share=spec.shares.get(name, 0.0), within=spec.within):
        if block.tenant != current:
            if current is not None:
                packer.take(drafts.of(current), name, chunker.finish())
            current = block.tenant
            if current in read or (spec.within is None and current not in expected):
                raise BugError(f"table {table.name} gave rows of a tenant out of turn")
            read[current] = 0
        packer.take(drafts.of(current), name, chunker.add(block.data, block.rows))
        read[current] += block.rows
        progress.add(block.rows)
    if current is not None:
        packer.take(drafts.of(current), name, chunker.finish())
    if spec.within is None and read != expected:
        raise SourceError(
            f"cannot back up table {table.name}: "
            f"it counted {sum(expected.values())} rows and gave {sum(read.values())}",
            hint="An index of that table may be corrupt: check it with amcheck (bt_index_check), then REINDEX.",
            code="inconsistent-read",
        )
