"""A backup: one snapshot of a source, swept into the vault, and a run record that makes it count.

Write order: packs (each tenant's last one carries its manifest), then the run record that points to them. Whatever
interrupts it before the record leaves the vault as it was; what had been put is taken up by the next backup.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from outlast.capture import deciding
from outlast.capture.census import Census
from outlast.capture.deciding import Decision
from outlast.capture.packing import Packer, RunContext
from outlast.capture.part import PartSpec, Progress, Tally, capture_part
from outlast.capture.putting import Written, putting
from outlast.capture.recording import EncodedRun, RunSummary, encode_run
from outlast.capture.records import Records, recover
from outlast.capture.schema import pack_schema
from outlast.capture.spool import Spool
from outlast.capture.whole import check_counts, share_out, strays
from outlast.capture.workers import Workers
from outlast.core.errors import Refused
from outlast.core.moment import Moment
from outlast.core.table import Table
from outlast.core.tenant import ORPHAN, RESERVED, SCHEMA, SHARED, Tenant, TenantKey
from outlast.sources.postgres.source import PostgresSource
from outlast.sources.source import Basis, Notice, Reading, Source
from outlast.sources.source import Watcher as Watcher
from outlast.state.local import LocalState, WriterLock
from outlast.vault.keys import WriterKeys
from outlast.vault.record import digest
from outlast.vault.run import RunIndex, commit_run, load_index
from outlast.vault.store import Store

PARALLEL_BYTES_MIN = 64 * 1024 * 1024
"""Below this much to read, starting worker processes costs more than it saves."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a backup reads and writes. `signers` are those whose earlier records are believed, if not ours alone."""

    source: str
    origin: Source
    store: Store
    keys: WriterKeys
    state: LocalState
    signers: tuple[str, ...] = ()

    @property
    def database(self) -> PostgresSource:
        """The source as the database that it is: what reads its log goes by more than a Source has."""
        assert isinstance(self.origin, PostgresSource)
        return self.origin


@dataclass(frozen=True, slots=True)
class BackupOptions:
    jobs: int = 2
    full: bool = False  # read every row, whatever the fingerprints say
    tenants: tuple[str, ...] | None = None  # only these, by key or label, and shared data; None means all
    write_unchanged: bool = True  # False: where nothing changed, no run is written, and the newest one is given back


@dataclass(frozen=True, slots=True)
class BackupResult:
    """What a backup did. `written` counts tenants for which objects were put; `size_bytes` is what was put."""

    run: int
    moment: Moment
    tenants: int
    written: int
    rows: int
    rows_read: int
    orphan_rows: int
    objects: int
    size_bytes: int
    seconds: float
    notices: tuple[Notice, ...]


class Silent:
    """A watcher for those who do not look."""

    def stage(self, name: str, total: int | None) -> None:
        del name, total

    def advance(self, amount: int) -> None:
        del amount


def backup(place: Place, options: BackupOptions | None = None, watcher: Watcher | None = None) -> BackupResult:
    """Sweep a source into the vault.

    Raises Refused where a table is not classified or another writer is at work, SourceError and VaultError for what
    they name; in all cases the vault's earlier backups are whole.
    """
    with WriterLock(place.state.directory, place.source), ExitStack() as stack:
        return _Backup(place, options or BackupOptions(), watcher or Silent(), stack).run()


class _Backup:
    def __init__(self, place: Place, options: BackupOptions, watcher: Watcher, stack: ExitStack) -> None:
        self._place = place
        self._options = options
        self._watcher = watcher
        self._stack = stack
        self._records = Records(place.state, place.source)
        self._about: Mapping[str, object] = {}  # what an interruption leaves as a note on what is pending
        self._tally = Tally()
        self._rows_read = self._objects = self._size_bytes = 0

    def run(self) -> BackupResult:
        began, started, place = time.monotonic(), datetime.now(UTC), self._place
        index = load_index(place.store, place.source, place.signers or place.keys.signers)
        vault = f"{place.store.url} {place.keys.signer.public}"
        recover(self._records, index.run, index.record, vault, started)
        reading = self._stack.enter_context(place.origin.read(self._watcher))
        refuse_errors(reading.notices)
        basis = reading.basis
        workers = self._start_workers(reading)
        dump = reading.schema()
        tenants = reading.tenants()
        context = RunContext(place.source, index.run + 1, reading.moment)
        since = self._comparable(basis)
        self._about = {
            "run": context.run,
            "base": index.record,
            "vault": vault,
            "started": started.isoformat(),
            "reading": basis.to_json(),
        }
        part = self._part(reading, context)
        if since is None and self._options.tenants is None and not reading.counts_for_nothing:
            found = self._read_all(workers, reading, part, tenants, index)
        else:
            census = self._take_census(reading, part, tenants, since)
            decision = self._decide(census, tenants, basis, index)
            if not (self._options.write_unchanged or decision.tasks or decision.relabelled or decision.resumed):
                return self._unchanged(index, reading, census, began)
            found = self._read_changed(workers, part, census, decision)
        with Spool(place.state.directory) as spool, putting(place.store) as create:
            packer = Packer(context, place.keys, spool, create)
            schema = pack_schema(dump(), packer, self._records.get(SCHEMA), index.recipients)
            create.settle()
            self._heard(create.written)
        self._records.add_pending(schema)
        self._watcher.stage("recording", None)
        reading.settle()
        rows = sum(found.rows.values())
        described, notices = reading.described, reading.notices
        summary = RunSummary(started, described, notices, rows, found.orphan_rows, self._scope(tenants))
        run = encode_run(context, index, self._records, summary, place.keys)
        self._commit(context, run, self._trusted(basis))
        return BackupResult(
            run=context.run,
            moment=context.moment,
            tenants=found.tenants,
            written=run.written,
            rows=rows,
            rows_read=self._rows_read,
            orphan_rows=found.orphan_rows,
            objects=self._objects,
            size_bytes=self._size_bytes,
            seconds=time.monotonic() - began,
            notices=notices,
        )

    def _unchanged(self, index: RunIndex, reading: Reading, census: Census, began: float) -> BackupResult:
        rows = sum(census.rows_by_table().values())
        tenants = len(set(census.tenants) - RESERVED)
        took = time.monotonic() - began
        return BackupResult(
            index.run, reading.moment, tenants, 0, rows, 0, census.rows(ORPHAN), 0, 0, took, reading.notices
        )

    def _comparable(self, basis: Basis) -> int | None:
        """The xmin of the oldest snapshot that something stands for which a census of now can be held against."""
        notes = [self._records.about("pending").get("reading", {})]
        if not self._options.full:
            notes.append(self._records.about("current"))
        return min((about["first"] for about in notes if basis.continues(about)), default=None)

    def _part(self, reading: Reading, context: RunContext) -> PartSpec:
        """What all parts have in common."""
        return PartSpec(
            rows=reading.rows,
            tables=tuple(table for table in reading.tables if deciding.is_swept(table)),
            tasks=(),
            shares={},
            within=None,
            reading=reading.basis.cluster,
            recipients={},
            context=context,
            keys=self._place.keys,
            vault_url=self._place.store.url,
            state_directory=self._place.state.directory,
        )

    def _trusted(self, basis: Basis) -> Mapping[str, object]:
        """Under what the next backup may compare with what is remembered now."""
        if self._options.tenants is None:
            return basis.to_json()
        before = self._records.about("current")  # the tenants that were not looked at are as old as this
        return {**basis.to_json(), "first": before["first"]} if basis.continues(before) else {}

    def _commit(self, context: RunContext, run: EncodedRun, reading: Mapping[str, object]) -> None:
        """Make the backup count: note what is about to be written, write it, move on. See records.recover."""
        about = {**self._records.about("pending"), "record": digest(run.data), **reading}
        self._records.set_pending(about)
        commit_run(self._place.store, context.source, context.run, run.data)
        self._heard(Written(1, len(run.data)))
        self._records.promote(about)

    def _start_workers(self, reading: Reading) -> Workers | None:
        """Start the worker processes early where it is plain that they will be needed: nothing was seen before."""
        if self._records.about("current") or not self._is_large(_size(reading.tables)):
            return None
        return self._workers()

    def _is_large(self, size_bytes: int) -> bool:
        return self._options.jobs > 1 and size_bytes >= PARALLEL_BYTES_MIN

    def _workers(self) -> Workers:
        workers = Workers(self._options.jobs)
        self._stack.callback(workers.close)
        return workers

    def _read_all(
        self,
        workers: Workers | None,
        reading: Reading,
        part: PartSpec,
        tenants: Mapping[TenantKey, Tenant],
        index: RunIndex,
    ) -> Tally:
        """Read every row, with no census before it."""
        if workers is None and self._is_large(_size(part.tables)):
            workers = self._workers()
        self._watcher.stage("counting", None)
        count = self._options.jobs if workers is not None else 1
        slices = reading.slices(part.tables, tenants, count)
        remembered = deciding.remember(self._records.all(), index.erased, trusted=False)
        tasks = deciding.everyone(tenants, remembered, prefix_of=self._prefix, recipients=index.recipients)
        others = dict(index.recipients)
        for task in tasks:
            others.pop(task.prefix, None)
        self._begin_pending(frozenset(), {})
        rows: dict[str, int] = {}

        def count_rows() -> None:
            rows.update(reading.count_rows(part.tables))
            self._watcher.stage("reading", sum(rows.values()))

        part = replace(part, recipients=others)
        parts = [replace(part, within=one, tasks=known) for one, known in share_out(tasks, slices, reading.tenant_kind)]
        self._capture(workers, parts, count_rows)
        left = strays(part, tasks, rows, self._tally) if len(slices) > 1 else None
        if left is not None:
            capture_part(left, self._heard, self._place.store)
        check_counts(rows, self._tally)
        return self._tally

    def _read_changed(self, workers: Workers | None, part: PartSpec, census: Census, decision: Decision) -> Tally:
        """Read what the census found not to be as it was, in worker processes where it is much."""
        self._begin_pending(decision.resumed, decision.relabelled)
        rows = census.rows_by_table()
        if workers is None and self._is_large(deciding.estimate_bytes(decision.tasks, part.tables, rows)):
            workers = self._workers()
        count = self._options.jobs if workers is not None else 1
        complete = self._options.tenants is None
        self._capture(
            workers,
            [
                replace(part, tasks=tuple(tasks), shares=deciding.shares(tasks, rows, complete=complete))
                for tasks in deciding.split(decision.tasks, part.tables, rows, count)
            ],
            lambda: self._watcher.stage("reading", decision.rows),
        )
        return Tally(len(set(census.tenants) - RESERVED), census.rows(ORPHAN), rows)

    def _take_census(
        self, reading: Reading, part: PartSpec, tenants: Mapping[TenantKey, Tenant], since: int | None
    ) -> Census:
        census = Census(part.tables, part.reading)
        self._watcher.stage("counting", len(census.tables))
        names = self._options.tenants
        wanted = None if names is None else [deciding.find_tenant(tenants, name) for name in names]
        found = reading.fingerprints(
            census.tables,
            tenants=wanted,
            since=since,
            sessions=self._options.jobs,
            advance=lambda _: self._watcher.advance(1),
        )
        for number, fingerprints in found:
            census.add(number, fingerprints)
        return census

    def _decide(self, census: Census, tenants: Mapping[TenantKey, Tenant], basis: Basis, index: RunIndex) -> Decision:
        trusted = not self._options.full and basis.continues(self._records.about("current"))
        resumable = basis.continues(self._records.about("pending").get("reading", {}))
        return deciding.decide(
            census,
            tenants,
            deciding.remember(self._records.all(), index.erased, trusted=trusted),
            deciding.remember(self._records.pending() if resumable else (), index.erased, trusted=True),
            prefix_of=self._prefix,
            recipients=index.recipients,
            complete=self._options.tenants is None,
        )

    def _prefix(self, tenant: TenantKey) -> str:
        return self._place.keys.prefix(self._place.source, tenant)

    def _begin_pending(self, resumed: frozenset[TenantKey], relabelled: Mapping[TenantKey, str | None]) -> None:
        self._records.drop_pending(
            [record.tenant.key for record in self._records.pending() if record.tenant.key not in resumed]
        )
        self._records.set_pending(self._about)
        self._records.add_pending(
            [
                replace(record, tenant=Tenant(key, label))
                for key, label in relabelled.items()
                if (record := self._records.get(key)) is not None
            ]
        )

    def _capture(self, workers: Workers | None, parts: Sequence[PartSpec], meanwhile: Callable[[], None]) -> None:
        if workers is not None and parts:
            workers.run(parts, self._heard, meanwhile)
            return
        meanwhile()
        for part in parts:
            capture_part(part, self._heard, self._place.store)

    def _heard(self, message: Progress | Written | Tally) -> None:
        if isinstance(message, Progress):
            self._rows_read += message.rows
            self._watcher.advance(message.rows)
        elif isinstance(message, Tally):
            self._tally += message
        else:
            self._objects += message.objects
            self._size_bytes += message.size_bytes

    def _scope(self, tenants: Mapping[TenantKey, Tenant]) -> tuple[str, ...] | None:
        if self._options.tenants is None:
            return None
        keys = [deciding.find_tenant(tenants, name) for name in self._options.tenants]
        return tuple(self._place.keys.prefix(self._place.source, key) for key in (*keys, SHARED, SCHEMA))


def refuse_errors(notices: Sequence[Notice]) -> None:
    """Raise Refused where the catalog has something that must be decided before rows can be kept."""
    errors = [notice for notice in notices if notice.level == "error"]
    if not errors:
        return
    first = errors[0]
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise Refused(
        f"cannot back up: {first.message}{more}",
        hint=first.hint if len(errors) == 1 and first.hint else "See all of it, and what to write: outlast check",
        code=first.code,
    )


def _size(tables: Sequence[Table]) -> int:
    return sum(table.size_bytes for table in tables if deciding.is_swept(table))
