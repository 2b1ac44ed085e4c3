"""A small writer of vaults, for tests of the vault alone: rows in, runs out, no database.

It uses the vault's own parts (packs, manifests, run records) as `outlast backup` does, and cuts every table into chunks
of a fixed number of rows, so that a test decides what is in which chunk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import zstandard

from outlast.core.document import COLUMNS
from outlast.core.moment import Lsn, Moment
from outlast.core.row import KeyKind
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.chunk import table_root, tenant_root
from outlast.vault.header import VaultPin, create_vault
from outlast.vault.keys import Identity, WriterKeys, generate_identity, key_path, seal
from outlast.vault.manifest import ChunkRef, Head, Manifest, TableManifest
from outlast.vault.pack import PackBuilder, pack_path
from outlast.vault.reader import Vault
from outlast.vault.run import RunDetails, RunRecord, commit_run, encode, load_index
from outlast.vault.store import AlreadyExistsError, Store, open_store

SOURCE = "main"
START = datetime(2026, 1, 1, 12, tzinfo=UTC)

Tables = Mapping[str, Sequence[bytes]]
"""Rows (whole COPY lines with their newlines) by table."""


@dataclass
class VaultWriter:
    """Backs up dictionaries. `clock` moves on by a day with every run."""

    store: Store
    keys: WriterKeys
    pin: VaultPin
    operator: Identity
    recovery: Identity
    rows_in_chunk: int = 3
    boxes_in_pack: int | None = None  # cut a pack after so many boxes; None: one pack a tenant and run
    chain_max: int = 4
    start: datetime = START
    labels: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, tuple[Head, Manifest]] = field(default_factory=dict)

    @classmethod
    def make(cls, store: Store) -> VaultWriter:
        recovery, recovery_recipient = generate_identity("recovery")
        operator, operator_recipient = generate_identity("operator")
        keys = WriterKeys.generate((recovery_recipient, operator_recipient))
        pin = create_vault(store, keys)
        return cls(
            store, keys, pin, Identity.from_text(operator, "operator.key"), Identity.from_text(recovery, "recovery.key")
        )

    def vault(self, *, identity: bool = True) -> Vault:
        return Vault.open(self.store, self.pin, self.operator if identity else None)

    def prefix(self, tenant: str) -> str:
        return self.keys.prefix(SOURCE, TenantKey(tenant))

    def back_up(self, tenants: Mapping[str, Tables], moment: Moment | None = None) -> int:
        """One run. Tenants whose rows are as before cost nothing. Returns its number."""
        index = load_index(self.store, SOURCE, self.pin.signers)
        run = index.run + 1
        moment = moment or moment_of(run, self.start)
        heads: dict[str, Head] = {}
        recipients: dict[str, str] = {}
        for key, tables in tenants.items():
            prefix = self.prefix(key)
            recipient = index.recipients.get(prefix)
            if recipient is None:  # new, or erased since: then nothing of before may be reused
                recipient = recipients[prefix] = self._new_key(key, prefix)
                self.manifests.pop(key, None)
            head = self._write_tenant(key, prefix, recipient, run, moment, tables)
            if head is not None:
                heads[prefix] = head
        full = run == 1 or run - index.full >= self.chain_max
        if full:
            heads, recipients = {**index.heads, **heads}, {**index.recipients, **recipients}
        named = tuple((self.prefix(key), key, self.labels.get(key)) for key in tenants)
        total = sum(len(rows) for one in tenants.values() for rows in one.values())
        details = RunDetails(named, total, 0, {"system_identifier": "7", "timeline": 1})
        record = RunRecord(
            source=SOURCE,
            run=run,
            previous=index.record,
            started=moment.time,
            finished=moment.time + timedelta(minutes=1),
            moment=moment,
            full=full,
            index_from=run if full else index.full,
            heads=heads,
            recipients=recipients,
            sealed=seal(self.keys.recipients, zstandard.ZstdCompressor().compress(details.to_bytes())),
            tool="outlast tests",
        )
        commit_run(self.store, SOURCE, run, encode(record, self.keys.signer))
        return run

    def _new_key(self, key: str, prefix: str) -> str:
        new = self.keys.new_key(Tenant(TenantKey(key), self.labels.get(key)))
        self.store.create(key_path(SOURCE, prefix, new.recipient), new.wrapped)
        return new.recipient

    def _write_tenant(
        self, key: str, prefix: str, recipient: str, run: int, moment: Moment, tables: Tables
    ) -> Head | None:
        before = self.manifests.get(key)
        known = (
            {ref.digest: ref for table in before[1].tables.values() for ref in table.chunks}
            if before is not None
            else {}
        )
        pack = _Packs(self, prefix, recipient)
        described = {
            name: _table(rows, self.rows_in_chunk, known, pack) for name, rows in sorted(tables.items()) if rows
        }
        root = tenant_root((name, bytes.fromhex(table.root)) for name, table in described.items()).hex()
        if before is not None and before[1].root == root:
            return None
        manifest = Manifest(SOURCE, key, self.labels.get(key), run, moment, root, before and before[0], described)
        head = pack.close(manifest, run)
        self.manifests[key] = (head, manifest.placed(head.pack))
        return head


class _Packs:
    """The packs of one tenant in one run."""

    def __init__(self, writer: VaultWriter, prefix: str, recipient: str) -> None:
        self.writer, self.prefix, self.recipient = writer, prefix, recipient
        self.builder, self.boxes = PackBuilder(), 0
        self.finished: dict[int, str] = {}

    def add(self, rows: bytes) -> tuple[int, int, int]:
        """The open pack's number, and where the box lies in it."""
        if self.writer.boxes_in_pack == self.boxes:
            self.finished[len(self.finished)] = self._put(None)
            self.builder, self.boxes = PackBuilder(), 0
        box = seal([self.recipient], zstandard.ZstdCompressor().compress(rows))
        self.boxes += 1
        return len(self.finished), self.builder.add_box(box), len(box)

    def close(self, manifest: Manifest, run: int) -> Head:
        named = {
            name: TableManifest(
                table.columns,
                table.key,
                table.key_kinds,
                table.shape,
                table.rows,
                table.root,
                tuple(self._named(ref) for ref in table.chunks),
            )
            for name, table in manifest.tables.items()
        }
        for name, table in named.items():
            manifest.tables[name] = table  # type: ignore[index]  # a dict here, and its packs are only known now
        sealed = seal([self.recipient], zstandard.ZstdCompressor().compress(manifest.to_bytes()))
        offset = self.builder.size
        return Head(run, self._put(sealed), offset, len(sealed))

    def _named(self, ref: ChunkRef) -> ChunkRef:
        if not ref.pack.startswith("open:"):
            return ref
        pack = self.finished.get(int(ref.pack[5:]), "")
        return ChunkRef(
            ref.first_key, ref.rows, ref.digest, pack, ref.box_offset, ref.box_length, ref.offset, ref.length
        )

    def _put(self, sealed: bytes | None) -> str:
        signature = None if sealed is None else self.writer.keys.sign_manifest(sealed)
        name, data = self.builder.finish(sealed, signature)
        with suppress(AlreadyExistsError):
            self.writer.store.create(pack_path(SOURCE, self.prefix, name), data)
        return name


def _table(rows: Sequence[bytes], rows_in_chunk: int, known: Mapping[bytes, ChunkRef], packs: _Packs) -> TableManifest:
    refs = []
    for start in range(0, len(rows), rows_in_chunk):
        part = rows[start : start + rows_in_chunk]
        data = b"".join(part)
        digest = sha256(data).digest()
        ref = known.get(digest)
        if ref is None:
            number, offset, length = packs.add(data)
            first = part[0].rstrip(b"\n").split(b"\t")[0]
            ref = ChunkRef(first, len(part), digest, f"open:{number}", offset, length, 0, len(data))
        refs.append(ref)
    documents = rows[0].count(b"\t") == len(COLUMNS) - 1  # as a tool's: core/document.py
    return TableManifest(
        columns=tuple((one.name, one.type) for one in COLUMNS) if documents else (("id", "bigint"), ("name", "text")),
        key=("key",) if documents else ("id",),
        key_kinds=(KeyKind.TEXT,) if documents else (KeyKind.INTEGER,),
        shape="0" * 16,
        rows=len(rows),
        root=table_root((ref.digest, ref.rows) for ref in refs).hex(),
        chunks=tuple(refs),
    )


def moment_of(run: int, start: datetime = START) -> Moment:
    return Moment(start + timedelta(days=run - 1), Lsn(run * 256), Lsn(run * 256 + 8), f"{run}:{run}:")


def rows(first: int, last: int, word: str = "row") -> list[bytes]:
    """Rows of (id bigint, name text), ids from `first` to `last`."""
    return [f"{number}\t{word} {number}\n".encode() for number in range(first, last + 1)]


def read_back(vault: Vault, tenant: str, at: int | None = None) -> dict[str, bytes]:
    """A tenant's rows out of the vault, by table."""
    entry = vault.find_tenant(SOURCE, tenant, at)
    manifest = vault.manifest(SOURCE, entry)
    return {
        name: b"".join(data for _, data in vault.chunks(SOURCE, entry, table))
        for name, table in manifest.tables.items()
    }


def folder_vault(folder: Path) -> VaultWriter:
    return VaultWriter.make(open_store(str(folder), make=True))
