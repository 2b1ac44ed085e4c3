"""Reading a vault: runs, tenants, manifests, rows. Everything that is used is verified first.

A run record by its signature and its chain, a manifest by its signature and by its pack's name standing in the chain, a
chunk by its hash. Wrong bytes are an error that names the object, never wrong rows.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby

from outlast.core.errors import CorruptionError, NotFoundError, VaultError
from outlast.core.moment import Lsn, parse_moment
from outlast.core.tenant import RESERVED, Tenant, TenantKey
from outlast.vault.finding import find_tenants
from outlast.vault.header import HEADER_PATH as HEADER_PATH
from outlast.vault.header import NAMING_PATH as NAMING_PATH
from outlast.vault.header import VaultPin as VaultPin
from outlast.vault.header import create_vault as create_vault
from outlast.vault.header import read_header
from outlast.vault.keys import Identity, key_path
from outlast.vault.lineage import Span
from outlast.vault.manifest import ChunkRef, Head, Manifest, TableManifest
from outlast.vault.marks import Ledger, load_ledger
from outlast.vault.pack import pack_path
from outlast.vault.packs import decompress, get_pack, split_pack
from outlast.vault.recent import Recent
from outlast.vault.run import RunDetails, RunIndex, RunRecord, load_index, read_record, records_before, run_path, runs
from outlast.vault.signature import NAMESPACE_MANIFEST, armored_bytes, verify
from outlast.vault.store import ObjectMissingError, Store

_FETCHES_AT_ONCE = 4
_SIGNATURE_BYTES = armored_bytes(NAMESPACE_MANIFEST)
_BOX_BYTES_KEPT = 2 * 1024 * 1024
"""A box up to this size is kept after it was opened: the next table's rows are often in it too."""

_BOXES_BYTES_KEPT = 8 * 1024 * 1024
_PACKS_BYTES_KEPT = 24 * 1024 * 1024
"""Of the last packs and boxes so much is kept: those of a group of small tenants, or one pack of a large one."""


@dataclass(frozen=True, slots=True)
class TenantEntry:
    """A tenant in the vault as of one run: its folder, its key's public half, and where its newest manifest lies."""

    tenant: Tenant
    prefix: str
    recipient: str
    head: Head


class Vault:
    """A vault, opened for reading. Without an identity only what stands in the clear can be read."""

    def __init__(self, store: Store, pin: VaultPin, identity: Identity | None) -> None:
        self.store = store
        self.pin = pin
        self._identity = identity
        self._indexes: dict[tuple[str, int], RunIndex] = {}
        self._records: dict[tuple[str, int], RunRecord] = {}
        self._details: dict[tuple[str, int], RunDetails] = {}
        self._chains: dict[tuple[str, int], list[RunRecord]] = {}
        self._keys: dict[tuple[str, str], Identity] = {}
        self._directories: dict[tuple[str, int], dict[str, Tenant]] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._lock = threading.Lock()
        self._packs: Recent[str] = Recent(_PACKS_BYTES_KEPT)
        self._boxes: Recent[tuple[str, int]] = Recent(_BOXES_BYTES_KEPT)

    @classmethod
    def open(cls, store: Store, pin: VaultPin, identity: Identity | None) -> Vault:
        """Raises VaultError where there is no vault, another one, or one of a newer format."""
        header = read_header(store)
        if header.get("id") != pin.id:
            raise VaultError(
                f"the vault at {store.url} is not the one that outlast.toml names (its id is {header.get('id')})",
                hint="Correct [vault] url, or take [vault] id from the vault that you mean.",
                code="another-vault",
            )
        return cls(store, pin, identity)

    @property
    def has_identity(self) -> bool:
        return self._identity is not None

    @property
    def identity(self) -> Identity:
        if self._identity is None:
            raise VaultError(
                "this needs a key that can open the vault, and none was given",
                hint="Set OUTLAST_IDENTITY to the operator's or the recovery key's file.",
                code="missing-key",
            )
        return self._identity

    # Runs

    def ledger(self, source: str) -> Ledger:
        """What retention decided so far."""
        if source not in self._ledgers:
            self._ledgers[source] = load_ledger(self.store, source, self.pin.signers)
        return self._ledgers[source]

    def numbers(self, source: str) -> list[int]:
        """The runs that are not forgotten, ascending."""
        ledger = self.ledger(source)
        return [number for number in runs(self.store, source) if ledger.forgotten(number) is None]

    def runs(self, source: str) -> list[RunRecord]:
        """Every run that is not forgotten, ascending, each with a valid signature."""
        return [self.run(source, number) for number in self.numbers(source)]

    def run(self, source: str, number: int) -> RunRecord:
        if (source, number) not in self._records:
            self._records[source, number] = read_record(self.store, source, number, self.pin.signers)
        return self._records[source, number]

    def details(self, source: str, number: int) -> RunDetails:
        """What a run record says to those who can open it."""
        if (source, number) not in self._details:
            self._details[source, number] = self.details_of(self.run(source, number))
        return self._details[source, number]

    def details_of(self, record: RunRecord) -> RunDetails:
        what = f"run record {run_path(record.source, record.run)}"
        try:
            return RunDetails.from_bytes(self.opened_details(record))
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptionError(f"the sealed part of {what} cannot be read", code="run-record") from error

    def opened_details(self, record: RunRecord) -> bytes:
        what = f"run record {run_path(record.source, record.run)}"
        return decompress(self.identity.open(record.sealed, what), what)

    def chain(self, source: str, number: int | None = None) -> list[RunRecord]:
        """A run's record (None: the newest run's) and those that it builds on, newest first; none before a backup."""
        if number is None:
            numbers = self.numbers(source)
            if not numbers:
                return []
            number = numbers[-1]
        if (source, number) not in self._chains:
            newest = self.run(source, number)
            self._chains[source, number] = [newest, *records_before(self.store, newest, self.pin.signers)]
        return self._chains[source, number]

    def naming(self) -> bytes:
        """The naming key, out of the vault."""
        try:
            return bytes.fromhex(self.identity.open(self.store.get(NAMING_PATH), NAMING_PATH).decode().strip())
        except ValueError as error:
            raise CorruptionError(f"{NAMING_PATH} does not hold a naming key", code="naming") from error

    def index(self, source: str, number: int | None = None) -> RunIndex:
        """Every tenant's head as of a run, without what is forgotten or erased; None is the newest, or run 0."""
        if number is None or (source, number) not in self._indexes:
            ledger = self.ledger(source)
            index = load_index(self.store, source, self.pin.signers, number, ledger)
            heads = {prefix: head for prefix, head in index.heads.items() if not ledger.forgotten(index.run, prefix)}
            index = replace(index, heads=heads)
            self._indexes[source, index.run] = index
            return index
        return self._indexes[source, number]

    def resolve(self, source: str, at: str = "latest") -> RunRecord:
        """The newest run at or before a moment: `latest`, `run:7` or `7`, a timestamp, an LSN.

        Raises NotFoundError before the first backup, UsageError where the text is no moment.
        """
        numbers = self.numbers(source)
        if not numbers:
            raise NotFoundError(f"source {source!r} has no backup yet", hint=f"Make one: outlast backup {source}")
        text = at.strip()
        if text == "latest":
            return self.run(source, numbers[-1])
        number = text.removeprefix("run:")
        if number.isdigit():
            if int(number) not in numbers:
                raise NotFoundError(
                    f"source {source!r} has no run {int(number)}", hint=f"It has runs {numbers[0]} to {numbers[-1]}."
                )
            return self.run(source, int(number))
        return self._before(source, numbers, text)

    def _before(self, source: str, numbers: Sequence[int], text: str) -> RunRecord:
        wanted = parse_moment(text)
        for number in reversed(numbers):
            record = self.run(source, number)
            reached = record.moment.high <= wanted if isinstance(wanted, Lsn) else record.moment.time <= wanted
            if reached:
                return record
        first = self.run(source, numbers[0])
        raise NotFoundError(
            f"nothing was backed up at {text}: the first backup of source {source!r} is of {first.moment}",
            hint=f"Use --at run:{first.run}, or a later moment.",
        )

    # Tenants

    def directory(self, source: str, number: int) -> dict[str, Tenant]:
        """Who is who as of a run, by prefix. Labels are the newest known at that run."""
        if (source, number) not in self._directories:
            start = self.run(source, number).index_from
            found: dict[str, Tenant] = {}
            for one in range(start, number + 1):
                for prefix, key, label in self.details(source, one).tenants:
                    found[prefix] = Tenant(TenantKey(key), label)
            self._directories[source, number] = found
        return self._directories[source, number]

    def tenants(self, source: str, number: int | None = None) -> list[TenantEntry]:
        """Every tenant as of a run, the reserved ones apart."""
        return [entry for entry in self.entries(source, number) if entry.tenant.key not in RESERVED]

    def entries(self, source: str, number: int | None = None) -> list[TenantEntry]:
        """Every tenant as of a run, the reserved ones included."""
        index = self.index(source, number)
        names = self.directory(source, index.run) if index.run else {}
        return [self._entry(source, prefix, names, index) for prefix in sorted(index.heads)]

    def _entry(self, source: str, prefix: str, names: Mapping[str, Tenant], index: RunIndex) -> TenantEntry:
        recipient = index.recipients[prefix]
        tenant = names.get(prefix) or self._tenant_in_key(source, prefix, recipient)
        return TenantEntry(tenant, prefix, recipient, index.heads[prefix])

    def find_tenant(self, source: str, name: str, number: int | None = None) -> TenantEntry:
        """A tenant by key or label as of a run. Raises NotFoundError with close names, UsageError where several fit."""
        return find_tenants(self, source, [name], number)[0]

    def find_tenants(self, source: str, names: Sequence[str], number: int | None = None) -> list[TenantEntry]:
        """The same for many names, in one pass, in their order. The error names all that are unknown."""
        return find_tenants(self, source, names, number)

    def key(self, source: str, entry: TenantEntry) -> Identity:
        """The tenant's own identity. Raises NotFoundError where it was destroyed: that customer was erased."""
        known = self._keys.get((entry.prefix, entry.recipient))
        return known or self._unwrap(source, entry.prefix, entry.recipient)[0]

    def _unwrap(self, source: str, prefix: str, recipient: str) -> tuple[Identity, str]:
        path = key_path(source, prefix, recipient)
        if recipient in self.ledger(source).erased:
            raise NotFoundError(
                "this tenant was erased: its key was destroyed on purpose, and its backups with it",
                hint="Nothing brings it back. A tenant of that name that came later is backed up under a new key.",
                code="erased",
            )
        try:
            sealed = self.store.get(path)
        except ObjectMissingError as error:
            raise CorruptionError(
                f"the key of a tenant, {path}, is not in the vault: what was sealed to it cannot be opened",
                hint="Nothing says that it was erased. Bring that object back from a copy or an older version.",
                code="missing-object",
            ) from error
        text = self.identity.open(sealed, path).decode("utf-8", "surrogateescape")
        identity = Identity.from_text(text, path)
        if identity.recipients != (recipient,):
            raise CorruptionError(f"{path} holds another key than its name says", code="wrong-key-object")
        self._keys[prefix, recipient] = identity
        return identity, text

    def _tenant_in_key(self, source: str, prefix: str, recipient: str) -> Tenant:
        _, text = self._unwrap(source, prefix, recipient)
        lines = dict(line[2:].partition(": ")[::2] for line in text.splitlines() if line.startswith("# "))
        return Tenant(TenantKey(lines.get("tenant", prefix)), lines.get("label") or None)

    def forget_cached(self, source: str) -> None:
        """Read runs and marks anew: they have changed."""
        self._ledgers.pop(source, None)
        for cache in (self._indexes, self._records, self._details, self._chains, self._directories):
            for place in [place for place in cache if place[0] == source]:
                del cache[place]

    def read_run(self, source: str, number: int) -> RunRecord:
        """A run's record, not kept in memory."""
        return read_record(self.store, source, number, self.pin.signers)

    # Manifests and rows

    def manifest(self, source: str, entry: TenantEntry, head: Head | None = None) -> Manifest:
        """The tenant's manifest at its head, or at an earlier one; its chunks all name their packs."""
        head = head or entry.head
        path = pack_path(source, entry.prefix, head.pack)
        manifest = self._read_manifest(source, entry, head, *split_pack(self._whole_pack(path), head, path))
        if manifest.tenant != entry.tenant.key:
            raise CorruptionError(f"the manifest of tenant {entry.tenant} in {path} is another's", code="manifest")
        return manifest

    def manifest_of_span(self, source: str, span: Span) -> Manifest:
        """A manifest by what run records say of it, without the rest of its pack: retention reads all there are."""
        path = pack_path(source, span.prefix, span.head.pack)
        data = self.store.get_range(path, span.head.offset, span.head.length + _SIGNATURE_BYTES)
        entry = TenantEntry(Tenant(TenantKey(span.prefix)), span.prefix, span.recipient, span.head)
        return self._read_manifest(source, entry, span.head, data[: span.head.length], data[span.head.length :])

    def _read_manifest(self, source: str, entry: TenantEntry, head: Head, sealed: bytes, signature: bytes) -> Manifest:
        what = f"the manifest of tenant {entry.tenant} in {pack_path(source, entry.prefix, head.pack)}"
        verify(self.pin.signers, NAMESPACE_MANIFEST, sealed, signature, what)
        opened = decompress(self._open(source, entry, sealed, what), what)
        manifest = Manifest.from_bytes(opened, what).placed(head.pack)
        if (manifest.source, manifest.run) != (source, head.run):
            raise CorruptionError(f"{what} is that of another source or run", code="manifest")
        manifest.check(what)
        return manifest

    def _whole_pack(self, path: str) -> bytes:
        """A pack that holds a manifest, proven by its name; it is kept a while, since its boxes are read next.

        A part of it would not do: a signature alone cannot tell a manifest from that of another try at the same run.
        """
        with self._lock:
            known = self._packs.get(path)
        if known is not None:
            return known
        data = get_pack(self.store, path)
        with self._lock:
            self._packs.keep(path, data)
        return data

    def _open(self, source: str, entry: TenantEntry, sealed: bytes, what: str) -> bytes:
        return self.key(source, entry).open(sealed, what)

    def chunks(
        self, source: str, entry: TenantEntry, table: TableManifest, refs: Iterable[ChunkRef] | None = None
    ) -> Iterator[tuple[ChunkRef, bytes]]:
        """Rows of a table, chunk by chunk in order, each proven by its hash. A few boxes are fetched ahead."""
        self.key(source, entry)
        wanted = table.chunks if refs is None else tuple(refs)
        boxes = [list(group) for _, group in groupby(wanted, key=lambda ref: (ref.pack, ref.box_offset))]
        if len(boxes) <= 1:  # nothing to fetch ahead, and threads would cost more than the box
            for box in boxes:
                yield from _rows(source, entry, box, self._box(source, entry, box))
            return
        with ThreadPoolExecutor(_FETCHES_AT_ONCE, "fetch") as pool:
            ahead: list[tuple[list[ChunkRef], Future[bytes]]] = []
            try:
                for box in boxes:
                    ahead.append((box, pool.submit(self._box, source, entry, box)))
                    if len(ahead) >= _FETCHES_AT_ONCE:
                        group, future = ahead.pop(0)
                        yield from _rows(source, entry, group, future.result())
                for group, future in ahead:
                    yield from _rows(source, entry, group, future.result())
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _box(self, source: str, entry: TenantEntry, refs: Sequence[ChunkRef]) -> bytes:
        path = pack_path(source, entry.prefix, refs[0].pack)
        place = (path, refs[0].box_offset)
        needed = max(ref.offset + ref.length for ref in refs)
        with self._lock:
            known = self._boxes.get(place)
            pack = self._packs.get(path)
        if known is not None and len(known) >= needed:
            return known
        start, length = refs[0].box_offset, refs[0].box_length
        sealed = self.store.get_range(path, start, length) if pack is None else pack[start : start + length]
        what = f"the box at {start} of {path}"
        # Small tables of a tenant share a box and are read one after the other: the whole of it, if it is small.
        plain = decompress(self._open(source, entry, sealed, what), what, max(needed, _BOX_BYTES_KEPT))
        if len(plain) <= _BOX_BYTES_KEPT:
            with self._lock:
                self._boxes.keep(place, plain)
        return plain


def _rows(source: str, entry: TenantEntry, refs: Sequence[ChunkRef], plain: bytes) -> Iterator[tuple[ChunkRef, bytes]]:
    for ref in refs:
        data = plain[ref.offset : ref.offset + ref.length]
        if len(data) != ref.length or hashlib.sha256(data).digest() != ref.digest:
            path = pack_path(source, entry.prefix, ref.pack)
            raise CorruptionError(f"rows in {path} at {ref.box_offset} are not those that were written", code="chunk")
        yield ref, data
