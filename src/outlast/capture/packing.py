"""From chunks to packs: what a tenant's backup becomes in the vault.

Chunks of a tenant arrive table by table, with other tenants' in between. Large ones are sealed at once, small ones are
compressed and wait in the spool, so that a small tenant costs one sealed box and one object. Known chunks are not
written again: the manifest points to where they lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import zstandard

from outlast.capture.records import TenantRecord
from outlast.capture.spool import Spool
from outlast.core.moment import Moment
from outlast.core.table import Table
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.chunk import Chunk, table_root, tenant_root
from outlast.vault.keys import WriterKeys, key_path, seal
from outlast.vault.manifest import ChunkRef, Head, LogBox, Manifest, TableManifest
from outlast.vault.pack import PackBuilder, pack_path

BOX_BYTES_MIN = 256 * 1024
"""A chunk at least this large is a box of its own; smaller ones share one. (An age file costs 60 µs and 300 bytes.)"""

BOX_BYTES_MAX = 1024 * 1024
"""Rows in a shared box: what must be opened to read a small chunk."""

PACK_BYTES_MAX = 16 * 1024 * 1024

ZSTD_LEVEL = 1
"""On chunks of rows it is a third faster than level 3, and its output no larger."""


@dataclass(slots=True)
class Piece:
    """A chunk on its way: it lies in an earlier pack (`known`), or in the spool, sealed or still to be boxed."""

    first_key: bytes
    rows: int
    digest: bytes
    size: int
    known: ChunkRef | None = None
    spooled: tuple[int, int] | None = None  # offset, length
    sealed: bool = False


@dataclass(frozen=True, slots=True)
class LogPiece:
    """Entries of the log on their way: of the segments `first` to `last`, compressed, in the spool."""

    first: int
    last: int
    size: int
    digest: bytes
    spooled: tuple[int, int]


@dataclass(slots=True)
class TenantDraft:
    """What is read of one tenant in this run: for each table that was read, its pieces in key order.

    `log`: what led there, where the run is folded from the log.
    """

    tenant: Tenant
    prefix: str
    recipient: str
    previous: TenantRecord | None
    seen: dict[str, bytes]
    tables: dict[str, list[Piece]] = field(default_factory=dict)
    log: list[LogPiece] = field(default_factory=list)
    _known: dict[str, dict[bytes, ChunkRef]] = field(default_factory=dict)
    _tables: Mapping[str, TableManifest] | None = None

    @property
    def before(self) -> Mapping[str, TableManifest]:
        """The tables as the newest manifest has them."""
        if self._tables is None:
            self._tables = self.previous.manifest.tables if self.previous else {}
        return self._tables

    def known(self, table: str, digest: bytes) -> ChunkRef | None:
        """Where the vault has a chunk of this table already."""
        if table not in self._known:
            described = self.before.get(table)
            self._known[table] = {ref.digest: ref for ref in described.chunks} if described else {}
        return self._known[table].get(digest)


@dataclass(frozen=True, slots=True)
class RunContext:
    """What every manifest of one run says."""

    source: str
    run: int
    moment: Moment


class Packer:
    """Turns drafts into objects. `create` puts one object into the vault, and may return before it stands there."""

    def __init__(
        self, context: RunContext, keys: WriterKeys, spool: Spool, create: Callable[[str, bytes], None]
    ) -> None:
        self._context = context
        self._keys = keys
        self._spool = spool
        self._create = create
        self._compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)

    def take(self, draft: TenantDraft, table: str, chunks: Iterable[Chunk]) -> None:
        """Keep the chunks of a run that is being read; what the vault has already is only noted."""
        pieces = draft.tables.setdefault(table, [])
        for chunk in chunks:
            piece = Piece(chunk.first_key, chunk.rows, chunk.digest, len(chunk.data))
            known = draft.known(table, chunk.digest)
            # The same rows, but perhaps under another key than when they were put.
            piece.known = known if known is None else replace(known, first_key=chunk.first_key)
            if piece.known is None:
                frame = self._compressor.compress(chunk.data)
                piece.sealed = len(chunk.data) >= BOX_BYTES_MIN
                kept = seal([draft.recipient], frame) if piece.sealed else self._spool.encrypt(frame)
                piece.spooled = self._spool.append(kept), len(kept)
            pieces.append(piece)

    def take_log(self, draft: TenantDraft, first: int, last: int, entries: bytes) -> None:
        """Keep entries of the log: they lie in the tenant's own packs once its segments are gone."""
        kept = self._spool.encrypt(self._compressor.compress(entries))
        place = self._spool.append(kept), len(kept)
        draft.log.append(LogPiece(first, last, len(entries), hashlib.sha256(entries).digest(), place))

    def finish(self, draft: TenantDraft, by_name: Mapping[str, Table]) -> TenantRecord:
        """Write the tenant's packs and manifest, unless its content is what its newest manifest says already."""
        previous = draft.previous
        read = {name: pieces for name, pieces in draft.tables.items() if pieces}
        if previous is not None and not draft.log and self._unchanged(draft, by_name):
            return replace(previous, tenant=draft.tenant, seen=draft.seen)
        writer = _PackWriter(self, draft)
        for name in sorted(read):
            writer.add(read[name])
        writer.add_log(draft.log)
        refs = writer.close_boxes()
        described = {
            name: _table_manifest(by_name[name], [refs[id(piece)] for piece in pieces]) for name, pieces in read.items()
        }
        if previous is not None:
            kept = draft.before
            described |= {name: kept[name] for name in kept if name in draft.seen and name not in draft.tables}
        stored = self._manifest(draft, described, writer.log_boxes()).to_bytes()
        head = writer.close(stored)
        return TenantRecord(draft.tenant, draft.prefix, draft.recipient, head, stored, draft.seen)

    def _unchanged(self, draft: TenantDraft, by_name: Mapping[str, Table]) -> bool:
        kept = draft.before
        if set(kept) - set(draft.seen):
            return False  # a table has no rows of this tenant any more
        for name, pieces in draft.tables.items():
            before = kept.get(name)
            if not pieces and before is None:
                continue
            if before is None or before.shape != by_name[name].shape or before.root != _root(pieces).hex():
                return False
        return True

    def _manifest(self, draft: TenantDraft, tables: dict[str, TableManifest], log: tuple[LogBox, ...]) -> Manifest:
        root = tenant_root([(name, bytes.fromhex(table.root)) for name, table in tables.items()]).hex()
        return Manifest(
            source=self._context.source,
            tenant=draft.tenant.key,
            label=draft.tenant.label,
            run=self._context.run,
            moment=self._context.moment,
            root=root,
            previous=None if draft.previous is None else draft.previous.head,
            tables=tables,
            log=log,
        )

    def put_pack(self, draft: TenantDraft, builder: PackBuilder, manifest: bytes | None) -> tuple[str, int]:
        """Finish a pack and put it. Returns its name and where its manifest begins."""
        signature = None if manifest is None else self._keys.sign_manifest(manifest)
        offset = builder.size
        name, data = builder.finish(manifest, signature)
        self._create(pack_path(self._context.source, draft.prefix, name), data)
        return name, offset

    def prefix(self, tenant: TenantKey) -> str:
        return self._keys.prefix(self._context.source, tenant)

    def new_key(self, tenant: Tenant, prefix: str) -> str:
        """Make a key for a tenant that has none, and put it into the vault. Returns its public half."""
        key = self._keys.new_key(tenant)
        self._create(key_path(self._context.source, prefix, key.recipient), key.wrapped)
        return key.recipient

    def seal_manifest(self, draft: TenantDraft, manifest: bytes) -> bytes:
        return seal([draft.recipient], self._compressor.compress(manifest))

    def box(self, draft: TenantDraft, pieces: Sequence[Piece]) -> bytes:
        """One sealed box: a large piece as it lies in the spool, or several small ones together."""
        stored = [self._spool.read(*piece.spooled) for piece in pieces if piece.spooled is not None]
        if pieces[0].sealed:
            return stored[0]
        return seal([draft.recipient], b"".join([self._spool.decrypt(frame) for frame in stored]))

    def log_box(self, draft: TenantDraft, piece: LogPiece) -> bytes:
        return seal([draft.recipient], self._spool.decrypt(self._spool.read(*piece.spooled)))

    @property
    def run(self) -> int:
        return self._context.run


class _PackWriter:
    """Lays one tenant's boxes end to end, into as many packs as it takes."""

    def __init__(self, packer: Packer, draft: TenantDraft) -> None:
        self._packer = packer
        self._draft = draft
        self._builder = PackBuilder()
        self._packs: list[str] = []  # names of the packs that are finished
        self._placed: list[tuple[Piece, int, int, int, int]] = []  # piece, pack's number, box offset, length, offset
        self._known: list[Piece] = []
        self._small: list[Piece] = []
        self._small_bytes = 0
        self._log: list[tuple[LogPiece, int, int, int]] = []  # piece, pack's number, box offset, length

    def add(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if piece.known is not None:
                self._known.append(piece)
            elif piece.sealed:
                self._place([piece])
            else:
                self._small.append(piece)
                self._small_bytes += piece.size
                if self._small_bytes >= BOX_BYTES_MAX:
                    self._place_small()

    def _place_small(self) -> None:
        if self._small:
            self._place(self._small)
            self._small, self._small_bytes = [], 0

    def add_log(self, pieces: Iterable[LogPiece]) -> None:
        for piece in pieces:
            offset, length = self._place_box(self._packer.log_box(self._draft, piece))
            self._log.append((piece, len(self._packs), offset, length))

    def log_boxes(self) -> tuple[LogBox, ...]:
        names = [*self._packs, ""]
        return tuple(
            LogBox(piece.first, piece.last, names[pack], offset, length, piece.size, piece.digest)
            for piece, pack, offset, length in self._log
        )

    def _place(self, pieces: Sequence[Piece]) -> None:
        offset, length = self._place_box(self._packer.box(self._draft, pieces))
        within = 0
        for piece in pieces:
            self._placed.append((piece, len(self._packs), offset, length, within))
            within += piece.size

    def _place_box(self, box: bytes) -> tuple[int, int]:
        if self._builder.size and self._builder.size + len(box) > PACK_BYTES_MAX:
            name, _ = self._packer.put_pack(self._draft, self._builder, None)
            self._packs.append(name)
            self._builder = PackBuilder()
        return self._builder.add_box(box), len(box)

    def close_boxes(self) -> dict[int, ChunkRef]:
        """Place what is left. Returns each piece's reference, by the piece's id; "" is the pack still open."""
        self._place_small()
        refs = {id(piece): piece.known for piece in self._known if piece.known is not None}
        names = [*self._packs, ""]
        for piece, pack, box_offset, box_length, offset in self._placed:
            refs[id(piece)] = ChunkRef(
                piece.first_key, piece.rows, piece.digest, names[pack], box_offset, box_length, offset, piece.size
            )
        return refs

    def close(self, manifest: bytes) -> Head:
        sealed = self._packer.seal_manifest(self._draft, manifest)
        name, offset = self._packer.put_pack(self._draft, self._builder, sealed)
        return Head(self._packer.run, name, offset, len(sealed))


def _root(pieces: Iterable[Piece]) -> bytes:
    return table_root([(piece.digest, piece.rows) for piece in pieces])


def _table_manifest(table: Table, refs: Sequence[ChunkRef]) -> TableManifest:
    return TableManifest(
        columns=tuple((column.name, column.type) for column in table.columns),
        key=table.key,
        key_kinds=table.key_kinds,
        shape=table.shape,
        rows=sum(ref.rows for ref in refs),
        root=table_root([(ref.digest, ref.rows) for ref in refs]).hex(),
        chunks=tuple(refs),
    )
