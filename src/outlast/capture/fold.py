"""A fold: the log's segments become a run, as a backup would have made it, without a look at the source.

Each tenant that the log names gets a manifest of its state where the log ends, of which only what changed is written,
and in its own packs the entries that led there: from then on its moments need the segments no more. A fold runs as the
operator, since it opens what it folds. It is proportional to change: other tenants are not looked at.

Write order: packs, the run record, the merged segment that stands in for those that were folded. Whatever interrupts it
before the record leaves the vault as it was; after it, the next fold writes the merged segment.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime

import zstandard

from outlast import __version__
from outlast.capture.folding import BoxWriter, LocalSegments, merged_details, table_of
from outlast.capture.packing import Packer, Piece, RunContext, TenantDraft
from outlast.capture.putting import Putter, putting
from outlast.capture.records import Records, TenantRecord, recover
from outlast.capture.spool import Spool
from outlast.core.moment import Moment
from outlast.core.tenant import ORPHAN
from outlast.state.local import LocalState, WriterLock
from outlast.vault.chunk import Chunk
from outlast.vault.epochs import Base, Epoch
from outlast.vault.keys import WriterKeys, seal
from outlast.vault.log import SegmentDraft, SegmentWriter
from outlast.vault.manifest import Manifest
from outlast.vault.marks import MarkKind
from outlast.vault.reader import TenantEntry, Vault
from outlast.vault.record import digest
from outlast.vault.run import CHAIN_MAX, Folded, RunDetails, RunIndex, RunRecord, commit_run, encode
from outlast.vault.segment import SegmentHeader
from outlast.vault.timeline import State, Timeline

_FETCHES_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class FoldResult:
    """What a fold did. `run` is None where there was nothing to fold; `waiting` then says for what.

    `earlier` counts segments of logs before the newest, which are not folded: what reads them is their runs, and both
    go together, by retention.
    """

    run: int | None = None
    moment: Moment | None = None
    segments: int = 0
    tenants: int = 0
    objects: int = 0
    size_bytes: int = 0
    seconds: float = 0.0
    waiting: str = ""
    earlier: int = 0


def fold(vault: Vault, source: str, keys: WriterKeys, state: LocalState) -> FoldResult:
    """Fold what the log has gained since the last fold.

    Raises Refused where a backup or another fold is at work, CorruptionError where the log contradicts its base; in all
    cases the vault's earlier runs are whole.
    """
    with WriterLock(state.directory, source), Spool(state.directory) as spool, putting(vault.store) as create:
        return _Fold(vault, source, keys, state, spool, create).run()


@dataclass(frozen=True, slots=True)
class _Stretch:
    """What is to be folded: whole segments of one epoch that end in a moment a run can stand for."""

    epoch: Epoch
    headers: tuple[SegmentHeader, ...]

    @property
    def first(self) -> int:
        return self.headers[0].first

    @property
    def last(self) -> int:
        return self.headers[-1].segment

    @property
    def moment(self) -> Moment:
        end = self.headers[-1]
        return Moment(end.as_of, end.position, end.position, "")


class _Fold:
    def __init__(
        self, vault: Vault, source: str, keys: WriterKeys, state: LocalState, spool: Spool, create: Putter
    ) -> None:
        vault.forget_cached(source)
        self._vault = vault
        self._source = source
        self._keys = keys
        self._records = Records(state, source)
        self._spool = spool
        self._create = create
        self._timeline = self._fresh_timeline()
        self._began, self._started = time.monotonic(), datetime.now(UTC)

    def _fresh_timeline(self) -> Timeline:
        timeline = Timeline(self._vault, self._source, lambda: self._spool)
        timeline.passes_erased = True
        return timeline

    def run(self) -> FoldResult:
        index = self._vault.index(self._source)
        place = f"{self._vault.store.url} {self._keys.signer.public}"
        recover(self._records, index.run, index.record, place, self._started)
        self._mend()
        found = self._stretch(index)
        earlier = sum(header.folded is None for epoch in self._timeline.epochs.all[:-1] for header in epoch.headers)
        if isinstance(found, str):
            return FoldResult(waiting=found, earlier=earlier)
        stretch = found
        segments = LocalSegments(self._vault.store, self._spool)
        self._timeline.epochs.reader.local = segments.part
        segments.fetch(stretch.headers)
        context = RunContext(self._source, index.run + 1, stretch.moment)
        written = [self._tenant(context, stretch, entry, index) for entry in self._touched(stretch, index)]
        self._create.settle()
        data = self._record(
            context, stretch, index, [record for record, _ in written], sum(rows for _, rows in written)
        )
        self._commit(context, index, place, data, [record for record, _ in written])
        self._merge(stretch, context.run)
        put = self._create.written
        return FoldResult(
            run=context.run,
            moment=context.moment,
            segments=len(stretch.headers),
            tenants=len(written),
            objects=put.objects + 2,
            size_bytes=put.size_bytes + len(data),
            seconds=time.monotonic() - self._began,
            earlier=earlier,
        )

    # What is folded

    def _stretch(self, index: RunIndex) -> _Stretch | str:
        """The segments to fold, or why there are none."""
        epoch = self._timeline.epochs.newest
        if epoch is None:
            return "there is no log: `outlast follow` writes it"
        if not index.run:
            return "the log has no base yet: its first backup is not complete"
        newest = self._vault.run(self._source, index.run)
        base = self._base(epoch)
        if base is None or self._timeline.epochs.base(epoch, newest.run) is None:
            return "the newest backup is not one that this log goes on from: `outlast follow` makes another"
        done = self._folded(epoch)
        headers = [header for header in epoch.headers if header.segment > done]
        gap = self._timeline.epochs.gap(epoch, base, epoch.position)
        if gap is not None:
            headers = [header for header in headers if header.position < gap.since]
        while headers and _is_cut(headers[-1]):
            headers.pop()
        if not headers or headers[-1].position <= newest.moment.high:
            if gap is not None:
                return f"the log does not have all changes since {gap.since} ({gap.reason}): `outlast backup` mends it"
            return "nothing was written since the newest run"
        return _Stretch(epoch, tuple(headers))

    def _base(self, epoch: Epoch) -> Base | None:
        """The newest base that looked at every tenant."""
        bases = self._timeline.epochs.bases(epoch, epoch.position)
        return next((base for base in bases if base.record.scope is None), None)

    def _folded(self, epoch: Epoch) -> int:
        """The last segment that a run was folded from; 0 for none of this epoch."""
        for number in reversed(self._vault.numbers(self._source)):
            folded = self._vault.run(self._source, number).folded
            if folded is not None:
                return folded.last if folded.epoch == epoch.number else 0
        return 0

    def _touched(self, stretch: _Stretch, index: RunIndex) -> list[TenantEntry]:
        """The tenants that the log names; all of them where a table's columns changed."""
        ledger, until = self._vault.ledger(self._source), stretch.moment.high
        prefixes = {prefix for header in stretch.headers for prefix in header.frames}
        details = [self._timeline.epochs.details(header) for header in stretch.headers if header.notable]
        if any(one.schema for one in details):
            prefixes |= index.heads.keys()
        prefixes |= self._unseen(stretch)
        # Of a tenant that was erased and came back, nothing is known until the next backup takes it in.
        erased = {mark.prefix for mark in ledger.standing(MarkKind.DESTROY)}
        entries = []
        for prefix in sorted(prefixes - (erased - index.heads.keys())):
            base = self._timeline.epochs.base_of(stretch.epoch, prefix, until)
            entry = self._timeline.entry(prefix, stretch.epoch, base, until)
            if entry.recipient not in ledger.erased:
                entries.append(entry)
        return entries

    def _unseen(self, stretch: _Stretch) -> set[str]:
        """Folders of tenants in transactions that were folded before, and that a backup since did not see: of a commit
        that waits for a standby."""
        epochs, found = self._timeline.epochs, set[str]()
        for base in epochs.bases(stretch.epoch, stretch.moment.high):
            if base.record.folded is not None:
                break
            for header in stretch.epoch.headers:
                if header.segment < stretch.first and base.may_lack(header):
                    for one in epochs.details(header).transactions:
                        if not base.has(one.xid, one.end):
                            found |= one.effect.keys()
        return found

    def _fetched(self, stretch: _Stretch, index: RunIndex) -> Iterator[TenantEntry]:
        """The same, each with its key and its newest manifest at hand: fetched ahead, since waiting is most of it."""
        entries = self._touched(stretch, index)
        if not self._vault.store.is_remote:
            yield from entries
            return
        with ThreadPoolExecutor(_FETCHES_AT_ONCE, "fold") as pool:
            ahead: deque[Future[None]] = deque()
            for number, entry in enumerate(entries):
                while number + len(ahead) < len(entries) and len(ahead) < 2 * _FETCHES_AT_ONCE:
                    ahead.append(pool.submit(self._warm, entries[number + len(ahead)], index))
                ahead.popleft().result()
                yield entry

    def _warm(self, entry: TenantEntry, index: RunIndex) -> None:
        self._vault.key(self._source, entry)
        head = index.heads.get(entry.prefix)
        if head is not None:
            self._vault.manifest(self._source, entry, head)

    # One tenant

    def _tenant(
        self, context: RunContext, stretch: _Stretch, entry: TenantEntry, index: RunIndex
    ) -> tuple[TenantRecord, int]:
        """Its new manifest, put into the vault, and by how many rows it grew."""
        packer = Packer(context, self._keys, self._spool, self._create)
        previous = self._previous(entry, index)
        draft = TenantDraft(entry.tenant, entry.prefix, entry.recipient, previous, {})
        log = BoxWriter(lambda entries: packer.take_log(draft, stretch.first, stretch.last, entries))
        until = stretch.moment.high
        state = self._timeline.state(entry, stretch.epoch, until, record_from=stretch.first, record=log.add)
        log.close()
        self._take(packer, draft, state)
        described = {str(name): table_of(name, table.shape) for name, table in state.tables.items()}
        before = previous.manifest if previous is not None else None
        seen = self._still_seen(entry, state, before)
        draft.seen = dict(seen)
        record = packer.finish(draft, described)
        rows = sum(table.rows for table in state.tables.values()) - (before.rows if before is not None else 0)
        return record, rows

    def _previous(self, entry: TenantEntry, index: RunIndex) -> TenantRecord | None:
        """The tenant as its newest manifest has it: chunks that lie there are not written again."""
        head = index.heads.get(entry.prefix)
        if head is None or index.recipients.get(entry.prefix) != entry.recipient:
            return None
        manifest = self._vault.manifest(self._source, entry, head)
        known = self._records.get(entry.tenant.key)
        seen = known.seen if known is not None and known.head == head else {}
        return TenantRecord(entry.tenant, entry.prefix, entry.recipient, head, manifest.to_bytes(), seen)

    def _take(self, packer: Packer, draft: TenantDraft, state: State) -> None:
        for name, table in state.tables.items():
            pieces = draft.tables.setdefault(str(name), [])
            for piece in table.pieces:
                if piece.ref is not None:
                    pieces.append(Piece(piece.first_key, piece.rows, piece.digest, piece.size, piece.ref))
                    continue
                (data,) = state.shelf.read(name, [piece])
                packer.take(draft, str(name), [Chunk(data, piece.rows, piece.digest, piece.first_key)])

    def _still_seen(self, entry: TenantEntry, state: State, before: Manifest | None) -> Mapping[str, bytes]:
        """What the last census saw of the tables that are as they were. The others get what no census gives: they are
        read by the next backup, which still knows that the tenant had rows in them."""
        record = self._records.get(entry.tenant.key)
        known = record.seen if record is not None and before is not None else {}
        stored = before.tables if before is not None else {}
        seen = {}
        for name, table in state.tables.items():
            same = str(name) in stored and stored[str(name)].root == table.root
            seen[str(name)] = known.get(str(name), b"") if same else b""
        return seen

    # The run

    def _record(
        self, context: RunContext, stretch: _Stretch, index: RunIndex, written: Sequence[TenantRecord], grown: int
    ) -> bytes:
        before = self._vault.details(self._source, index.run)
        heads = {record.prefix: record.head for record in written if record.head.run == context.run}
        recipients = {
            record.prefix: record.recipient
            for record in written
            if index.recipients.get(record.prefix) != record.recipient
        }
        known = self._vault.directory(self._source, index.run)
        names = {
            record.prefix: record.tenant
            for record in written
            if record.prefix in recipients or known.get(record.prefix) != record.tenant
        }
        full = context.run - index.full >= CHAIN_MAX or len(heads) >= len(index.heads) / 2
        if full:
            heads, recipients = {**index.heads, **heads}, {**index.recipients, **recipients}
            names = {prefix: tenant for prefix, tenant in {**known, **names}.items() if prefix in heads}
        orphans = sum(record.manifest.rows for record in written if record.tenant.key == ORPHAN)
        details = RunDetails(
            tuple((prefix, names[prefix].key, names[prefix].label) for prefix in sorted(names)),
            before.rows + grown,
            orphans or before.orphan_rows,
            before.database,
            before.notices,
        )
        sealed = seal(self._keys.recipients, zstandard.ZstdCompressor().compress(details.to_bytes()))
        run = RunRecord(
            source=self._source,
            run=context.run,
            previous=index.record,
            started=self._started,
            finished=datetime.now(UTC),
            moment=context.moment,
            full=full,
            index_from=context.run if full else index.full,
            heads=heads,
            recipients=recipients,
            sealed=sealed,
            tool=f"outlast {__version__} fold",
            folded=Folded(stretch.epoch.number, stretch.first, stretch.last),
            mark=index.mark,
        )
        return encode(run, self._keys.signer)

    def _commit(
        self, context: RunContext, index: RunIndex, place: str, data: bytes, written: Sequence[TenantRecord]
    ) -> None:
        """Make the fold count. What this host remembers of the last census goes along, so that the next backup is as
        small as it would have been; a host that remembers nothing has nothing to carry on."""
        current = self._records.about("current")
        about = {
            **current,
            "run": context.run,
            "base": index.record,
            "vault": place,
            "started": self._started.isoformat(),
            "record": digest(data),
        }
        self._records.drop_pending()
        if current:
            self._records.set_pending(about)
            self._records.add_pending(written)
        commit_run(self._vault.store, self._source, context.run, data)
        if current:
            self._records.promote(about)

    def _merge(self, stretch: _Stretch, run: int) -> None:
        """One object in place of the segments that were folded."""
        end = stretch.headers[-1]
        details = merged_details([self._timeline.epochs.details(header) for header in stretch.headers])
        draft = SegmentDraft(
            epoch=end.epoch,
            slot=end.slot,
            system=end.system,
            timeline=end.timeline,
            base_run=stretch.epoch.base_run,
            start=stretch.headers[0].start,
            position=end.position,
            as_of=end.as_of,
            frames={},
            details=details,
            mark=end.mark,
            folded=run,
        )
        SegmentWriter(self._vault.store, self._keys, self._source).write_merged(draft, stretch.headers)

    def _mend(self) -> None:
        """Write the merged segment of the newest fold, where that was interrupted before it could."""
        epochs = self._timeline.epochs
        for number in reversed(self._vault.numbers(self._source)):
            folded = self._vault.run(self._source, number).folded
            if folded is None:
                continue
            epoch = next((epoch for epoch in epochs.all if epoch.number == folded.epoch), None)
            if epoch is None:
                return
            headers = [one for one in epoch.headers if folded.first <= one.first and one.segment <= folded.last]
            if len(headers) > 1 or (headers and headers[0].folded is None):
                self._merge(_Stretch(epoch, tuple(headers)), number)
                self._timeline = self._fresh_timeline()
            return


def _is_cut(header: SegmentHeader) -> bool:
    """Whether a segment ends within a transaction: the rest of its parts is in the next."""
    return bool(header.parts) and not header.parts[-1][2]
