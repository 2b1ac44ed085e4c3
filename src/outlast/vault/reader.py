"""Reading a vault: runs, tenants, manifests, rows. Everything that is used is verified first.

A run record by its signature and its chain, a manifest by its signature and by its pack's name standing in the chain, a
chunk by its hash. Wrong bytes are an error that names the object, never wrong rows.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import zstandard

from outlast.core.errors import CorruptionError, NotFoundError, UsageError, VaultError
from outlast.core.moment import Lsn
from outlast.core.tenant import RESERVED, Tenant, TenantKey
from outlast.vault.keys import Identity, WriterKeys, key_path, seal
from outlast.vault.manifest import ChunkRef, Head, Manifest, TableManifest
from outlast.vault.pack import TRAILER_BYTES, pack_path, parse_trailer
from outlast.vault.run import RunDetails, RunIndex, RunRecord, load_index, read_run, run_path, runs
from outlast.vault.signature import NAMESPACE_MANIFEST, armored_bytes, verify
from outlast.vault.store import AlreadyExistsError, ObjectMissingError, Store

FORMAT = 1
HEADER_PATH = "outlast.json"
NAMING_PATH = "naming.age"

_FETCHES_AT_ONCE = 4
_SIGNATURE_BYTES = armored_bytes(NAMESPACE_MANIFEST)


@dataclass(frozen=True, slots=True)
class VaultPin:
    """What outlast.toml says the vault must be. The vault's own header is not trusted."""

    id: str
    recipients: tuple[str, ...]
    signers: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "recipients", tuple(self.recipients))
        object.__setattr__(self, "signers", tuple(self.signers))


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
        self._keys: dict[tuple[str, str], Identity] = {}
        self._directories: dict[tuple[str, int], dict[str, Tenant]] = {}

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
    def identity(self) -> Identity:
        if self._identity is None:
            raise VaultError(
                "this needs a key that can open the vault, and none was given",
                hint="Set OUTLAST_IDENTITY to the operator's or the recovery key's file.",
                code="missing-key",
            )
        return self._identity

    # Runs

    def runs(self, source: str) -> list[RunRecord]:
        """Every run, ascending, each with a valid signature."""
        return [self.run(source, number) for number in runs(self.store, source)]

    def run(self, source: str, number: int) -> RunRecord:
        if (source, number) not in self._records:
            self._records[source, number] = read_run(self.store, source, number, self.pin.signers)[0]
        return self._records[source, number]

    def details(self, source: str, number: int) -> RunDetails:
        """What a run record says to those who can open it."""
        if (source, number) not in self._details:
            sealed = self.run(source, number).sealed
            what = f"run record {run_path(source, number)}"
            opened = _decompress(self.identity.open(sealed, what), what)
            self._details[source, number] = RunDetails.from_bytes(opened)
        return self._details[source, number]

    def index(self, source: str, number: int | None = None) -> RunIndex:
        """Every tenant's head as of a run; None is the newest, and run 0 where there is none yet."""
        if number is None or (source, number) not in self._indexes:
            index = load_index(self.store, source, self.pin.signers, number)
            self._indexes[source, index.run] = index
            return index
        return self._indexes[source, number]

    def resolve(self, source: str, at: str = "latest") -> RunRecord:
        """The newest run at or before a moment: `latest`, `run:7` or `7`, a timestamp, an LSN.

        Raises NotFoundError before the first backup, UsageError where the text is no moment.
        """
        numbers = runs(self.store, source)
        if not numbers:
            raise NotFoundError(f"source {source!r} has no backup yet", hint="Make one: outlast backup")
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
        wanted = _parse_moment(text)
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
        index = self.index(source, number)
        names = self.directory(source, index.run) if index.run else {}
        by_key = [prefix for prefix, tenant in names.items() if tenant.key == name and prefix in index.heads]
        found = by_key or [prefix for prefix, tenant in names.items() if tenant.label == name and prefix in index.heads]
        if len(found) == 1:
            return self._entry(source, found[0], names, index)
        if found:
            keys = ", ".join(sorted(names[prefix].key for prefix in found))
            raise UsageError(f"{len(found)} tenants have the label {name!r}", hint=f"Use the key: {keys}.")
        known = {text for tenant in names.values() for text in (tenant.key, tenant.label) if text} - RESERVED
        close = difflib.get_close_matches(name, known, 3)
        raise NotFoundError(
            f"there is no tenant {name!r} in the vault"
            + (f" at run {index.run}" if number is not None else f" of source {source!r}"),
            hint=f"Did you mean {' or '.join(close)}?" if close else "List them: outlast tenants",
            code="unknown-tenant",
        )

    def key(self, source: str, entry: TenantEntry) -> Identity:
        """The tenant's own identity. Raises NotFoundError where it was destroyed: that customer was erased."""
        return self._unwrap(source, entry.prefix, entry.recipient)[0]

    def _unwrap(self, source: str, prefix: str, recipient: str) -> tuple[Identity, str]:
        path = key_path(source, prefix, recipient)
        try:
            sealed = self.store.get(path)
        except ObjectMissingError as error:
            raise CorruptionError(
                f"the key of a tenant, {path}, is not in the vault: what was sealed to it cannot be opened",
                hint="If the customer was erased that is as it should be: outlast erase --list. Else restore that object.",
                code="missing-object",
            ) from error
        text = self.identity.open(sealed, path).decode("utf-8", "surrogateescape")
        identity = Identity.from_text(text, path)
        if recipient not in identity.recipients:
            raise CorruptionError(f"{path} holds the key of another recipient", code="wrong-key-object")
        self._keys[prefix, recipient] = identity
        return identity, text

    def _tenant_in_key(self, source: str, prefix: str, recipient: str) -> Tenant:
        _, text = self._unwrap(source, prefix, recipient)
        lines = dict(line[2:].partition(": ")[::2] for line in text.splitlines() if line.startswith("# "))
        return Tenant(TenantKey(lines.get("tenant", prefix)), lines.get("label") or None)

    # Manifests and rows

    def manifest(self, source: str, entry: TenantEntry, head: Head | None = None) -> Manifest:
        """The tenant's manifest at its head, or at an earlier one; its chunks all name their packs."""
        head = head or entry.head
        path = pack_path(source, entry.prefix, head.pack)
        what = f"the manifest of tenant {entry.tenant} in {path}"
        sealed, signature = self.sealed_manifest(source, entry.prefix, head)
        verify(self.pin.signers, NAMESPACE_MANIFEST, sealed, signature, what)
        opened = _decompress(self._open(source, entry, sealed, what), what)
        manifest = Manifest.from_bytes(opened, what).placed(head.pack)
        if (manifest.source, manifest.tenant, manifest.run) != (source, entry.tenant.key, head.run):
            raise CorruptionError(f"{what} is that of another tenant or run", code="manifest")
        manifest.check(what)
        return manifest

    def sealed_manifest(self, source: str, prefix: str, head: Head) -> tuple[bytes, bytes]:
        """A manifest's sealed bytes and their signature, by one request: both stand at the pack's end."""
        path = pack_path(source, prefix, head.pack)
        after = self.store.get_range(path, head.offset, head.length + _SIGNATURE_BYTES + TRAILER_BYTES)
        sealed, rest = after[: head.length], after[head.length :]
        size = head.offset + len(after)
        trailer = parse_trailer(rest[_SIGNATURE_BYTES:], size, path)
        if (trailer.manifest_offset, trailer.manifest_length) != (head.offset, head.length):
            raise CorruptionError(f"{path} has its manifest elsewhere than the run record says", code="trailer")
        return sealed, rest[:_SIGNATURE_BYTES]

    def _open(self, source: str, entry: TenantEntry, sealed: bytes, what: str) -> bytes:
        key = self._keys.get((entry.prefix, entry.recipient)) or self.key(source, entry)
        return key.open(sealed, what)

    def chunks(
        self, source: str, entry: TenantEntry, table: TableManifest, refs: Iterable[ChunkRef] | None = None
    ) -> Iterator[tuple[ChunkRef, bytes]]:
        """Rows of a table, chunk by chunk in order, each proven by its hash. A few boxes are fetched ahead."""
        self._keys.get((entry.prefix, entry.recipient)) or self.key(source, entry)
        wanted = table.chunks if refs is None else tuple(refs)
        boxes = [list(group) for _, group in groupby(wanted, key=lambda ref: (ref.pack, ref.box_offset))]
        if not boxes:
            return
        with ThreadPoolExecutor(_FETCHES_AT_ONCE, "fetch") as pool:
            ahead: list[tuple[list[ChunkRef], Future[bytes]]] = []
            try:
                for box in boxes:
                    ahead.append((box, pool.submit(self._box, source, entry, box[0])))
                    if len(ahead) >= _FETCHES_AT_ONCE:
                        yield from self._rows(source, entry, *ahead.pop(0))
                for group, future in ahead:
                    yield from self._rows(source, entry, group, future)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _rows(
        self, source: str, entry: TenantEntry, refs: Sequence[ChunkRef], box: Future[bytes]
    ) -> Iterator[tuple[ChunkRef, bytes]]:
        plain = box.result()
        for ref in refs:
            data = plain[ref.offset : ref.offset + ref.length]
            if len(data) != ref.length or hashlib.sha256(data).digest() != ref.digest:
                path = pack_path(source, entry.prefix, ref.pack)
                raise CorruptionError(
                    f"rows in {path} at {ref.box_offset} are not those that were written", code="chunk"
                )
            yield ref, data

    def _box(self, source: str, entry: TenantEntry, ref: ChunkRef) -> bytes:
        path = pack_path(source, entry.prefix, ref.pack)
        what = f"the box at {ref.box_offset} of {path}"
        sealed = self.store.get_range(path, ref.box_offset, ref.box_length)
        return _decompress(self._open(source, entry, sealed, what), what)


def _decompress(data: bytes, what: str) -> bytes:
    try:
        with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
            return reader.read()
    except zstandard.ZstdError as error:
        raise CorruptionError(f"{what} cannot be decompressed", code="zstd") from error


def _parse_moment(text: str) -> Lsn | datetime:
    try:
        if "/" in text:
            return Lsn.parse(text)
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a moment",
            hint="Write latest, run:7, a timestamp such as 2026-11-23T10:15:00Z, or an LSN such as 16/B374D848.",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_header(store: Store) -> dict[str, Any]:
    """The vault's own header. Raises VaultError where there is none, or one of a newer format."""
    try:
        header = json.loads(store.get(HEADER_PATH))
        version = header["format"]
    except ObjectMissingError as error:
        raise VaultError(
            f"there is no vault at {store.url}",
            hint="Correct [vault] url in outlast.toml, or make a vault: outlast init",
            code="no-vault",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"the header {HEADER_PATH} of the vault cannot be read", code="header") from error
    if not isinstance(version, int) or version > FORMAT:
        raise VaultError(
            f"the vault at {store.url} is of format {version}, and this Outlast reads up to {FORMAT}",
            hint="Upgrade Outlast.",
            code="format",
        )
    assert isinstance(header, dict)
    return header


def create_vault(store: Store, keys: WriterKeys) -> VaultPin:
    """Make a vault: the naming key sealed to the recipients, then the header. Raises VaultError where one exists."""
    pin = VaultPin(str(uuid.uuid4()), keys.recipients, keys.signers)
    header = {
        "format": FORMAT,
        "id": pin.id,
        "created": datetime.now(UTC).isoformat(),
        "recipients": list(pin.recipients),
        "signers": list(pin.signers),
    }
    try:
        store.create(HEADER_PATH, json.dumps(header, indent=1).encode() + b"\n")
    except AlreadyExistsError as error:
        raise VaultError(
            f"there is a vault at {store.url} already",
            hint="Name another folder or prefix with --vault, or use the outlast.toml that goes with it.",
            code="vault-exists",
        ) from error
    store.create(NAMING_PATH, seal(keys.recipients, keys.naming.hex().encode() + b"\n"))
    store.flush()
    return pin
