"""A tenant's state at any moment that the log covers: the newest base before it, and the entries since.

Owns which entries those are and where they are read: from the segments' frames, or, where segments were folded, from
the boxes that the fold left in the tenant's own packs. Reads nothing of other tenants, unless a row came from one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from outlast.core.change import OP_MOVE_OUT
from outlast.core.entries import Begin, Entry, LoggedChange, Move, read_entries
from outlast.core.errors import CorruptionError, NotFoundError, Refused
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.epochs import Base, Epoch, Epochs
from outlast.vault.manifest import ChunkRef, Head, LogBox, Manifest
from outlast.vault.pack import pack_path
from outlast.vault.packs import decompress
from outlast.vault.reader import TenantEntry, Vault
from outlast.vault.replay import Carried, Replay, Shelf, Spooling, TableState, root_of
from outlast.vault.run import RunIndex
from outlast.vault.segment import Gap, SegmentHeader

_NO_HEAD = Head(0, "", 0, 0)


@dataclass(frozen=True, slots=True)
class State:
    """What a tenant consisted of. `shelf` reads its rows; `partial` are tables of which only inserts are followed."""

    base: Base
    manifest: Manifest | None  # of the base; None where the tenant had none yet
    tables: Mapping[TableName, TableState]
    shelf: Shelf
    partial: tuple[TableName, ...] = ()

    @property
    def root(self) -> str:
        return root_of(self.tables)


class Timeline:
    """Reads states out of a vault, several at once if need be. `make_spool` is called for each.

    States are without the tables that are `excluded`, and known exactly whatever the log missed of those.
    """

    def __init__(
        self,
        vault: Vault,
        source: str,
        make_spool: Callable[[], Spooling],
        excluded: frozenset[TableName] = frozenset(),
    ) -> None:
        self.vault = vault
        self.source = source
        self.epochs = Epochs(vault, source, excluded)
        self.excluded = excluded
        self._make_spool = make_spool
        self.passes_erased = False
        """Whether entries that were sealed to a key which was destroyed since are passed over, and no error."""
        self._tenants: dict[tuple[int, Lsn], dict[str, Tenant]] = {}

    # Tenants

    def tenants(self, epoch: Epoch, until: Lsn) -> Mapping[str, Tenant]:
        """Tenants that the log names, by folder: those that came since the base."""
        place = (epoch.number, until)
        if place not in self._tenants:
            self._tenants[place] = {
                prefix: Tenant(TenantKey(key), label)
                for details in self.epochs.notable(epoch, until)
                for prefix, key, label in details.tenants
            }
        return self._tenants[place]

    def recipient(self, epoch: Epoch, prefix: str, until: Lsn) -> str | None:
        """The public half of the key that a tenant's newest entries are sealed to."""
        for header in reversed(epoch.headers):
            if header.start >= until:
                continue
            if prefix in header.frames:
                return header.frames[prefix].recipient
            if header.folded is not None:
                known = self.vault.index(self.source, header.folded).recipients.get(prefix)
                if known is not None:
                    return known
        return None

    def entry(self, prefix: str, epoch: Epoch, base: Base, until: Lsn) -> TenantEntry:
        """A tenant by its folder, whether a run has it already or only the log."""
        index = self.vault.index(self.source, base.record.run)
        recipient = index.recipients.get(prefix) or self.recipient(epoch, prefix, until)
        if recipient is None:
            raise NotFoundError(f"there is no tenant in the folder {prefix} at {until}", code="unknown-tenant")
        tenant = self.tenants(epoch, until).get(prefix) or self.vault.directory(self.source, index.run).get(prefix)
        return TenantEntry(tenant or Tenant(TenantKey(prefix)), prefix, recipient, index.heads.get(prefix, _NO_HEAD))

    # States

    def state(
        self,
        entry: TenantEntry,
        epoch: Epoch,
        until: Lsn,
        *,
        record_from: int | None = None,
        record: Callable[[Entry], None] = lambda _: None,
    ) -> State:
        """The tenant's state at a position. Raises Refused where the log missed something, NotFoundError for no base.

        `entry.head` is not looked at. `record` hears the entries of the segments from `record_from` on, also those that
        the base has already, as Replay says.
        """
        base = self.epochs.base_of(epoch, entry.prefix, until)
        gap = self.epochs.gap(epoch, base, until, entry.prefix)
        if gap is not None:
            raise self._refused(epoch, base, gap, until)
        moves = _Moves(self, epoch, base, self._make_spool())
        replay, manifest, shelf = self._replay(entry, epoch, base, until, moves)
        for header in epoch.headers:
            recorded = record_from is not None and header.segment >= record_from
            if header.start < until and (recorded or base.may_lack(header)):
                replay.flush()
                replay.record = record if recorded else _unheard
                replay.run(_wanted(self.entries_of(entry, epoch, header), base, until, also_had=recorded))
        tables = replay.finish(until)
        partial = self.epochs.partial(epoch, until) & tables.keys()
        return State(base, manifest, tables, shelf, tuple(sorted(partial)))

    def _replay(
        self,
        entry: TenantEntry,
        epoch: Epoch,
        base: Base,
        until: Lsn,
        moves: _Moves,
    ) -> tuple[Replay, Manifest | None, Shelf]:
        index = self.vault.index(self.source, base.record.run)
        entry = self._as_of(entry, index)
        head = index.heads.get(entry.prefix)
        manifest = None if head is None else self.vault.manifest(self.source, entry, head)
        stored = {} if manifest is None else {TableName.parse(name): table for name, table in manifest.tables.items()}

        def read(name: TableName, refs: Iterable[ChunkRef]) -> Iterator[bytes]:
            # A table that was renamed since is asked for by its old name: chunks know their packs, and need no more
            described = stored.get(name) or next(iter(stored.values()))
            return (data for _, data in self.vault.chunks(self.source, entry, described, refs))

        shelf = Shelf(read, moves.spool)
        schema = [
            change
            for details in self.epochs.notable(epoch, until)
            for change in details.schema
            if change.end <= until and not base.has(change.xid, change.end)
        ]
        tables = {name: TableState.stored(table) for name, table in stored.items() if name not in self.excluded}
        replay = Replay(tables, shelf, schema, moves.fetch, has=lambda begin: base.has(begin.xid, begin.end))
        return replay, manifest, shelf

    def _as_of(self, entry: TenantEntry, index: RunIndex) -> TenantEntry:
        """The tenant under the key that it had at a run. Where the log knew it first, that can be another."""
        return replace(entry, recipient=index.recipients.get(entry.prefix, entry.recipient))

    # Entries

    def gave_away(self, entry: TenantEntry) -> bool:
        """Whether rows left this tenant in segments that nobody folded: their receivers still need its log."""
        epoch = self.epochs.newest
        return epoch is not None and any(
            isinstance(one, Move) and one.operation == OP_MOVE_OUT
            for header in epoch.headers
            if entry.prefix in header.frames
            for one in self.entries_of(entry, epoch, header)
        )

    def entries(self, entry: TenantEntry, epoch: Epoch, base: Base, until: Lsn) -> Iterator[Entry]:
        """The entries of the transactions that a base lacks and that end at or before a position, in order."""
        for header in epoch.headers:
            if header.start >= until:
                return
            if base.may_lack(header):
                yield from _wanted(self.entries_of(entry, epoch, header), base, until)

    def entries_of(self, entry: TenantEntry, epoch: Epoch, header: SegmentHeader) -> Iterator[Entry]:
        """A tenant's entries in one segment, without those of a try that was given up."""
        wanted = False
        for data, what in self._stored_entries(entry, header):
            for one in read_entries(data, what):
                if isinstance(one, Begin):
                    restarted = epoch.valid_from.get(one.commit.value, 0) > header.segment
                    wanted = not restarted and one.end > header.start
                if wanted and not (isinstance(one, (LoggedChange, Move)) and one.table.name in self.excluded):
                    yield one

    def _stored_entries(self, entry: TenantEntry, header: SegmentHeader) -> Iterator[tuple[bytes, str]]:
        if header.folded is not None:
            yield from self._boxed(entry, header)
            return
        frame = header.frames.get(entry.prefix)
        if frame is not None and not (self.passes_erased and frame.recipient in self.vault.ledger(self.source).erased):
            sealed_to = TenantEntry(entry.tenant, entry.prefix, frame.recipient, entry.head)
            key = self.vault.key(self.source, sealed_to)
            data = self.epochs.reader.frame(header, entry.prefix, key)
            assert data is not None
            yield data, f"the log of tenant {entry.tenant} in {header.path}"

    def _boxed(self, entry: TenantEntry, header: SegmentHeader) -> Iterator[tuple[bytes, str]]:
        """The entries of folded segments: the fold's manifest of the tenant says where they are."""
        run = header.folded
        assert run is not None
        if run not in self.vault.numbers(self.source) or self.vault.ledger(self.source).forgotten(run, entry.prefix):
            raise NotFoundError(
                f"the log of tenant {entry.tenant} up to run {run} was forgotten with that run",
                hint=f"Name the moment of a run that is left: outlast history {entry.tenant.label or entry.tenant.key}",
                code="forgotten",
            )
        index = self.vault.index(self.source, run)
        head = index.heads.get(entry.prefix)
        if head is None or head.run != run:
            return  # the fold had nothing to do for this tenant
        entry = self._as_of(entry, index)
        manifest = self.vault.manifest(self.source, entry, head)
        for box in manifest.log:
            yield self.open_box(entry, box), f"the log of tenant {entry.tenant} in run {run}"

    def open_box(self, entry: TenantEntry, box: LogBox) -> bytes:
        """The entries in a box of the tenant's packs, proven by their hash."""
        path = pack_path(self.source, entry.prefix, box.pack)
        what = f"the log at {box.box_offset} of {path}"
        sealed = self.vault.store.get_range(path, box.box_offset, box.box_length)
        plain = decompress(self.vault.key(self.source, entry).open(sealed, what), what, box.size + 1)
        if len(plain) != box.size or hashlib.sha256(plain).digest() != box.digest:
            raise CorruptionError(f"{what} is not what was written", code="changed-bytes")
        return plain

    # Refusals

    def _refused(self, epoch: Epoch, base: Base, gap: Gap, until: Lsn) -> Refused:
        before = self.before(epoch, gap.since)
        where = f" of table {gap.table}" if gap.table else ""
        after = self.next_base(epoch, gap)
        nearest = [f"before it --at {before}" if before is not None else f"before it --at run:{base.record.run}"]
        if after is not None:
            nearest.append(f"after it --at run:{after.record.run}, and every later one")
        else:
            nearest.append("after it none yet: make a backup")
        others = f" All but that table, at this very moment: restore --exclude-table {gap.table}" if gap.table else ""
        return Refused(
            f"the moment {until} is not known exactly: the log does not have all changes{where} since {gap.since} "
            f"({gap.reason})",
            hint=f"The nearest exact moments: {'; '.join(nearest)}.{others}",
            code="inexact",
        )

    def before(self, epoch: Epoch, position: Lsn) -> Lsn | None:
        """The last position before the transaction that ends at `position`."""
        found: Lsn | None = None
        for header in epoch.headers:
            if header.start >= position:
                break
            found = header.start
            if header.position >= position:
                ends = [one.end for one in self.epochs.details(header).transactions if one.last and one.end < position]
                found = max([found, *ends])
                break
        return found

    def next_base(self, epoch: Epoch, gap: Gap) -> Base | None:
        """The oldest run that has what the log missed."""
        found = [base for base in self.epochs.bases(epoch, Lsn(2**64 - 1)) if base.has_gap(gap)]
        return found[-1] if found else None


class _Moves:
    """What other tenants gave, computed by carrying them forward to just after they gave it."""

    def __init__(self, timeline: Timeline, epoch: Epoch, base: Base, spool: Spooling) -> None:
        self.spool = spool
        self._timeline = timeline
        self._epoch = epoch
        self._base = base
        self._whole: dict[tuple[str, Lsn], tuple[Carried, Shelf]] = {}
        self._underway: set[tuple[str, Lsn]] = set()

    def fetch(self, prefix: str, begin: Begin, number: int) -> tuple[Carried, Shelf]:
        """All that a tenant gave up to the end of a transaction.

        Two tenants that give to each other in one transaction each need the other's half: then only up to that move.
        """
        place = (prefix, begin.end)
        if place in self._underway:
            return self._given(prefix, begin, number)
        if place not in self._whole:
            self._underway.add(place)
            try:
                self._whole[place] = self._given(prefix, begin, None)
            finally:
                self._underway.discard(place)
        return self._whole[place]

    def _given(self, prefix: str, begin: Begin, number: int | None) -> tuple[Carried, Shelf]:
        timeline, epoch, until = self._timeline, self._epoch, begin.end
        base = next(
            (base for base in self._bases(until) if base.covers(prefix) and not base.has(begin.xid, begin.end)),
            self._base,
        )
        entry = timeline.entry(prefix, epoch, base, until)
        replay, _, shelf = timeline._replay(entry, epoch, base, until, self)
        replay.run(_until_move(timeline.entries(entry, epoch, base, until), begin, number))
        replay.finish(Lsn(0))
        return replay.carried, shelf

    def _bases(self, until: Lsn) -> Iterator[Base]:
        """The bases that do not have the transaction yet: that of the receiver, or an older one."""
        for base in self._timeline.epochs.bases(self._epoch, until):
            if base.record.run <= self._base.record.run:
                yield base


def _wanted(entries: Iterable[Entry], base: Base, until: Lsn, *, also_had: bool = False) -> Iterator[Entry]:
    """Those of transactions up to a position that the base lacks, or all of them."""
    wanted = False
    for one in entries:
        if isinstance(one, Begin):
            wanted = one.end <= until and (also_had or not base.has(one.xid, one.end))
        if wanted:
            yield one


def _unheard(_: Entry) -> None:
    """Nobody records it."""


def _until_move(entries: Iterable[Entry], begin: Begin, number: int | None) -> Iterator[Entry]:
    inside = False
    for one in entries:
        if isinstance(one, Begin):
            inside = one.end == begin.end
        if inside and number is not None and isinstance(one, Move) and one.number > number:
            return
        yield one
        if inside and isinstance(one, Move) and one.operation == OP_MOVE_OUT and one.number == number:
            return
