"""Scrubbing one tenant's folder: its keys, its packs, and with a key what is inside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby

from outlast.core.entries import read_entries
from outlast.core.errors import CorruptionError, OutlastError
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.keys import Identity, key_path
from outlast.vault.lineage import Lineage, Span
from outlast.vault.manifest import ChunkRef, Head, LogBox, Manifest
from outlast.vault.marks import Ledger
from outlast.vault.pack import TRAILER_BYTES, Trailer, pack_path, parse_trailer
from outlast.vault.packs import decompress, get_pack
from outlast.vault.reader import TenantEntry, Vault
from outlast.vault.scrub_findings import Finding, Level
from outlast.vault.signature import NAMESPACE_MANIFEST, verify


@dataclass(frozen=True, slots=True)
class TenantFolder:
    """A tenant's folder as it was listed (`objects`: sizes by path), and the manifests that run records point to."""

    source: str
    prefix: str
    tenant: Tenant | None
    spans: tuple[Span, ...]
    objects: Mapping[str, int]

    def pack(self, name: str) -> str:
        return pack_path(self.source, self.prefix, name)

    @property
    def whose(self) -> str | None:
        return None if self.tenant is None else str(self.tenant)


def scrub_folder(
    vault: Vault, folder: TenantFolder, ledger: Ledger, lineage: Lineage, progress: Callable[[int], None]
) -> list[Finding]:
    """Everything that is wrong in a tenant's folder. Never raises for what is in it."""
    return list(_Scrub(vault, folder, ledger, lineage, progress).run())


class _Scrub:
    def __init__(
        self, vault: Vault, folder: TenantFolder, ledger: Ledger, lineage: Lineage, progress: Callable[[int], None]
    ) -> None:
        self._vault = vault
        self._folder = folder
        self._ledger = ledger
        self._swept = ledger.swept
        self._lineage = lineage
        self._progress = progress
        self._keys: dict[str, Identity] = {}

    def run(self) -> Iterator[Finding]:
        folder = self._folder
        yield from self._key_objects()
        refs: dict[str, set[ChunkRef]] = {}  # by the path of the pack
        self._logs: dict[str, set[LogBox]] = {}
        yield from self._manifests(refs)
        heads = {folder.pack(span.head.pack): span.head for span in folder.spans}
        for path in sorted(folder.objects):
            if "/packs/" in path:
                yield from self._pack(
                    path,
                    heads.get(path),
                    refs.get(path, set()),
                    known=path in heads or path in refs or path in self._logs,
                )

    def _finding(self, level: Level, code: str, path: str, message: str) -> Finding:
        return Finding(level, code, path, message, self._folder.whose)

    def _needed(self, span: Span) -> bool:
        """Whether a run that nobody forgot has this manifest, and its tenant was not erased."""
        if span.recipient in self._ledger.erased:
            return False
        return self._lineage.any_run(span, lambda run, prefix: self._ledger.forgotten(run, prefix) is None)

    def _absent(self, path: str, span: Span, what: str) -> Iterator[Finding]:
        """An object that a run needs and that is not there, unless retention took it away."""
        if path not in self._folder.objects and (self._needed(span) or path not in self._swept):
            yield self._finding(Level.DAMAGE, "missing-object", path, f"{path}, {what}, is gone")

    def _key_objects(self) -> Iterator[Finding]:
        folder = self._folder
        known = set()
        # A span without a recipient is of a delta whose full record is missing: that is a finding of its own.
        for span in {span.recipient: span for span in folder.spans if span.recipient}.values():
            path = key_path(folder.source, folder.prefix, span.recipient)
            known.add(path)
            yield from self._absent(path, span, "the key of a tenant")
            if path not in folder.objects:
                continue
            if span.recipient in self._ledger.erased:
                message = f"{path} is the key of a tenant that was erased: run the erase again"
                yield self._finding(Level.LEFTOVER, "erased-key", path, message)
            elif self._vault.has_identity:
                try:
                    entry = TenantEntry(Tenant(TenantKey(folder.prefix)), folder.prefix, span.recipient, span.head)
                    self._keys[span.recipient] = self._vault.key(folder.source, entry)
                except OutlastError as error:
                    yield Finding.of(error, path, folder.whose)
        for path in folder.objects:
            if "/keys/" in path and path not in known:
                yield self._finding(Level.LEFTOVER, "leftover", path, f"{path} belongs to no run")

    # Manifests

    def _manifests(self, refs: dict[str, set[ChunkRef]]) -> Iterator[Finding]:
        previous: Span | None = None
        for span in self._folder.spans:
            path = self._folder.pack(span.head.pack)
            yield from self._absent(path, span, "a pack that a run record points to")
            if path in self._folder.objects and span.recipient in self._keys:
                try:
                    manifest = self._manifest(path, span)
                except OutlastError as error:
                    yield Finding.of(error, path, self._folder.whose)
                else:
                    yield from self._chain(path, span, previous, manifest)
                    yield from self._note_refs(manifest, span, refs)
            previous = span

    def _manifest(self, path: str, span: Span) -> Manifest:
        """The bytes are proven when the whole pack is read; here they must open and not contradict themselves."""
        head = span.head
        sealed = self._vault.store.get_range(path, head.offset, head.length)
        what = f"the manifest in {path}"
        manifest = Manifest.from_bytes(decompress(self._keys[span.recipient].open(sealed, what), what), what)
        if (manifest.source, manifest.run) != (self._folder.source, head.run) or (
            self._folder.tenant is not None and manifest.tenant != self._folder.tenant.key
        ):
            raise CorruptionError(f"{what} is that of another tenant or run", code="manifest")
        manifest.check(what)
        return manifest.placed(head.pack)

    def _chain(self, path: str, span: Span, previous: Span | None, manifest: Manifest) -> Iterator[Finding]:
        """Each manifest names the one before, unless runs in between were swept or the host's state was made anew."""
        if previous is None or manifest.previous is None or span.first - 1 not in self._lineage.runs:
            return
        if manifest.previous != previous.head:
            yield self._finding(
                Level.DAMAGE, "chain", path, f"the manifest in {path} does not follow the one that run records name"
            )

    def _note_refs(self, manifest: Manifest, span: Span, refs: dict[str, set[ChunkRef]]) -> Iterator[Finding]:
        told = set()
        for table in manifest.tables.values():
            for ref in table.chunks:
                path = self._folder.pack(ref.pack)
                refs.setdefault(path, set()).add(ref)
                if path not in told:
                    told.add(path)
                    yield from self._absent(path, span, "a pack with rows")
        for box in manifest.log:
            path = self._folder.pack(box.pack)
            self._logs.setdefault(path, set()).add(box)
            if path not in told:
                told.add(path)
                yield from self._absent(path, span, "a pack with a log")

    # Packs

    def _pack(self, path: str, head: Head | None, refs: set[ChunkRef], *, known: bool) -> Iterator[Finding]:
        try:
            data = get_pack(self._vault.store, path)
            trailer = parse_trailer(data[-TRAILER_BYTES:], len(data), path)
            self._check_manifest(path, data, trailer, head)
        except OutlastError as error:
            yield Finding.of(error, path, self._folder.whose)
            return
        finally:
            self._progress(self._folder.objects[path])
        if not known and (self._vault.has_identity or trailer.manifest_length):
            yield self._finding(Level.LEFTOVER, "leftover", path, f"{path} belongs to no run: an interrupted backup's")
        for _, box in groupby(sorted(refs, key=_place), key=_place):
            try:
                self._check_box(path, data, list(box))
            except OutlastError as error:
                yield Finding.of(error, path, self._folder.whose)

        for log in sorted(self._logs.get(path, ()), key=lambda one: one.box_offset):
            try:
                self._check_log(path, data, log)
            except OutlastError as error:
                yield Finding.of(error, path, self._folder.whose)

    def _check_log(self, path: str, data: bytes, box: LogBox) -> None:
        what = f"the log at {box.box_offset} of {path}"
        sealed = data[box.box_offset : box.box_offset + box.box_length]
        plain = decompress(self._open(sealed, what), what, box.size + 1)
        if len(plain) != box.size or hashlib.sha256(plain).digest() != box.digest:
            raise CorruptionError(f"{what} is not what was written", code="log")
        for _ in read_entries(plain, what):
            pass

    def _check_manifest(self, path: str, data: bytes, trailer: Trailer, head: Head | None) -> None:
        if head is not None and (head.offset, head.length) != (trailer.manifest_offset, trailer.manifest_length):
            raise CorruptionError(f"{path} has its manifest elsewhere than the run record says", code="trailer")
        if trailer.manifest_length:
            end = trailer.manifest_offset + trailer.manifest_length
            what = f"the manifest in {path}"
            signature = data[end:-TRAILER_BYTES]
            verify(self._vault.pin.signers, NAMESPACE_MANIFEST, data[trailer.manifest_offset : end], signature, what)

    def _check_box(self, path: str, data: bytes, refs: list[ChunkRef]) -> None:
        first = refs[0]
        what = f"the box at {first.box_offset} of {path}"
        sealed = data[first.box_offset : first.box_offset + first.box_length]
        plain = decompress(self._open(sealed, what), what, max(ref.offset + ref.length for ref in refs))
        for ref in refs:
            rows = plain[ref.offset : ref.offset + ref.length]
            if hashlib.sha256(rows).digest() != ref.digest or rows.count(b"\n") != ref.rows:
                raise CorruptionError(f"rows in {what} are not those that were written", code="chunk")

    def _open(self, sealed: bytes, what: str) -> bytes:
        """By whichever of the tenant's keys it was sealed to: more than one only after an erasure."""
        if len(self._keys) == 1:
            return next(iter(self._keys.values())).open(sealed, what)
        return Identity.joined(list(self._keys.values())).open(sealed, what)


def _place(ref: ChunkRef) -> tuple[int, int]:
    return ref.box_offset, ref.box_length
