"""Scrubbing a source's log: every segment's bytes, their chain, and with a key the entries in every frame."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from outlast.core.entries import read_entries
from outlast.core.errors import CorruptionError, NotFoundError, OutlastError
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.keys import Identity
from outlast.vault.log import LogReader, SegmentObject, open_part
from outlast.vault.manifest import Head
from outlast.vault.marks import Ledger, mark_path
from outlast.vault.reader import TenantEntry, Vault
from outlast.vault.run import RunRecord
from outlast.vault.scrub_findings import Finding, Level
from outlast.vault.segment import Frame, SegmentHeader, segment_path

_NO_HEAD = Head(0, "", 0, 0)


@dataclass(frozen=True, slots=True)
class LogAnchor:
    """A segment that is known from outside the vault to have been written, and its header's hash."""

    segment: int
    digest: str | None = None


def scrub_log(
    vault: Vault,
    source: str,
    ledger: Ledger,
    folds: Mapping[int, RunRecord],
    anchor: LogAnchor | None,
    progress: Callable[[int], None],
    only: str | None = None,
) -> tuple[list[Finding], Sequence[SegmentHeader]]:
    """Everything that is wrong with a source's log, and the headers that can be trusted, ascending.

    `folds` are the runs that were folded from it, by number. With `only`, a folder, other tenants' frames are passed
    over.
    """
    scrub = _Scrub(vault, source, ledger, folds, anchor, progress, only)
    findings = list(scrub.run())
    return findings, sorted(scrub.headers.values(), key=lambda header: header.segment)


class _Scrub:
    def __init__(
        self,
        vault: Vault,
        source: str,
        ledger: Ledger,
        folds: Mapping[int, RunRecord],
        anchor: LogAnchor | None,
        progress: Callable[[int], None],
        only: str | None,
    ) -> None:
        self._only = only
        self._vault = vault
        self._source = source
        self._ledger = ledger
        self._folds = folds
        self._anchor = anchor
        self._progress = progress
        self._reader = LogReader(vault.store, vault.pin.signers)
        self._keys: dict[tuple[str, str], Identity | None] = {}
        self.headers: dict[tuple[int | None, int], SegmentHeader] = {}

    def run(self) -> Iterator[Finding]:
        every = sorted(self._reader.every_object(self._source), key=lambda item: (item.begin, item.segment))
        for item in every:
            yield from self._segment(item)
        listed = self._reader.objects(self._source)
        yield from self._missing(listed)
        yield from self._chain(listed)
        yield from self._merged(every)
        yield from self._newest(every)

    def _segment(self, item: SegmentObject) -> Iterator[Finding]:
        path = segment_path(self._source, item.segment, item.first)
        try:
            header = self._reader.header(self._source, item)
            self.headers[item.first, item.segment] = header
            data = self._vault.store.get(path)
        except OutlastError as error:
            yield Finding.of(error, path)
            return
        finally:
            self._progress(item.size_bytes)
        for part in (*header.frames.values(), header.details):
            if self._only is not None and part.prefix not in (self._only, ""):
                continue
            try:
                self._part(header, part, data[part.offset : part.offset + part.length])
            except OutlastError as error:
                yield Finding.of(error, path, self._whose(part))

    def _part(self, header: SegmentHeader, part: Frame, sealed: bytes) -> None:
        what = f"log segment {header.path}"
        if part.prefix:
            what = f"the frame of {part.prefix} in {what}"
        if hashlib.sha256(sealed).hexdigest() != part.digest:
            raise CorruptionError(f"the bytes of {what} are not those that were written", code="changed-bytes")
        if not self._vault.has_identity:
            return
        if not part.prefix:
            self._reader.details(header, self._vault.identity)
            return
        key = self._key(part)
        if key is not None:
            for _ in read_entries(open_part(sealed, part, key, what), what):
                pass

    def _key(self, part: Frame) -> Identity | None:
        """The tenant's key; None for one that was erased."""
        place = (part.prefix, part.recipient)
        if place not in self._keys:
            entry = TenantEntry(Tenant(TenantKey(part.prefix)), part.prefix, part.recipient, _NO_HEAD)
            try:
                self._keys[place] = self._vault.key(self._source, entry)
            except NotFoundError:
                self._keys[place] = None
        return self._keys[place]

    def _whose(self, part: Frame) -> str | None:
        return part.prefix or None

    def _missing(self, listed: list[SegmentObject]) -> Iterator[Finding]:
        """Segments are contiguous from the first on; before it everything was swept, merged ones included."""
        for before, after in pairwise(listed):
            for number in range(before.segment + 1, after.begin):
                yield self._gone(segment_path(self._source, number))
        first = listed[0].begin if listed else 1
        if first > 1:
            swept = any(path.endswith(f"-{first - 1:012d}") for path in self._ledger.swept)
            if not swept:
                yield self._gone(segment_path(self._source, first - 1))

    def _gone(self, path: str) -> Finding:
        return Finding(Level.DAMAGE, "missing-object", path, f"log segment {path} is gone")

    def _chain(self, listed: list[SegmentObject]) -> Iterator[Finding]:
        for before, after in pairwise(listed):
            ours = self.headers.get((before.first, before.segment))
            theirs = self.headers.get((after.first, after.segment))
            if ours is None or theirs is None or before.segment + 1 != after.begin:
                continue
            if theirs.previous != ours.chained:
                message = f"log segment {theirs.path} does not follow the one before it"
                yield Finding(Level.DAMAGE, "chain", theirs.path, message)
            elif theirs.epoch == ours.epoch and theirs.start != ours.position:
                message = f"log segment {theirs.path} does not begin where the one before it ends"
                yield Finding(Level.DAMAGE, "chain", theirs.path, message)

    def _merged(self, every: list[SegmentObject]) -> Iterator[Finding]:
        """A merged segment stands on the run that was folded from it, and says what those say that are still there."""
        for item in every:
            header = self.headers.get((item.first, item.segment))
            if header is None or header.folded is None:
                continue
            last = self.headers.get((None, header.segment))
            if last is not None and last.digest != header.replaces:
                message = f"log segment {header.path} stands for other segments than those that are there"
                yield Finding(Level.DAMAGE, "chain", header.path, message)
            fold = self._folds.get(header.folded)
            if fold is None or fold.folded is None:
                message = f"log segment {header.path} stands on run {header.folded}, which is gone"
                yield Finding(Level.NOTE, "no-fold", header.path, message)
            elif (fold.folded.first, fold.folded.last) != (header.first, header.segment):
                message = f"log segment {header.path} is not what run {header.folded} was folded from"
                yield Finding(Level.DAMAGE, "chain", header.path, message)

    def _newest(self, every: list[SegmentObject]) -> Iterator[Finding]:
        """What is known to have been there: by this host, by the runs that were folded, by marks that segments name."""
        newest = max((item.segment for item in every), default=0)
        folded = max((run.folded.last for run in self._folds.values() if run.folded is not None), default=0)
        known = max(folded, self._anchor.segment if self._anchor is not None else 0)
        if newest < known and not self._swept_up_to(known):
            path = segment_path(self._source, known)
            message = f"the newest log segment in the store is {newest}, but {known} had been seen: it was taken away"
            yield Finding(Level.DAMAGE, "rolled-back", path, message)
        if self._anchor is not None and self._anchor.digest is not None:
            seen = self.headers.get((None, self._anchor.segment))
            if seen is not None and seen.digest != self._anchor.digest:
                message = f"log segment {seen.path} is another one than had been seen"
                yield Finding(Level.DAMAGE, "replaced", seen.path, message)

    def _swept_up_to(self, segment: int) -> bool:
        return any(path.endswith(f"-{segment:012d}") for path in self._ledger.swept)


def check_marks(ledger: Ledger, named: Mapping[int, tuple[str | None, str]]) -> Iterator[Finding]:
    """Marks that runs and segments saw: by number, the mark's hash and who says so. Dropping the newest shows here."""
    digests = {mark.number - 1: mark.previous for mark in ledger.marks}
    newest = max((mark.number for mark in ledger.marks), default=0)
    digests[newest] = ledger.head
    for number, (expected, where) in sorted(named.items()):
        path = mark_path(ledger.source, number)
        if number > newest:
            message = f"mark {path} was taken away: {where} saw it"
            yield Finding(Level.DAMAGE, "rolled-back", path, message)
        elif expected is not None and digests.get(number) not in (None, expected):
            message = f"mark {path} is another one than {where} saw"
            yield Finding(Level.DAMAGE, "replaced", path, message)
