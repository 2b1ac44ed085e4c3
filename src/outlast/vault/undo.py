"""Before-images: what an applied plan took away and put in, kept so that it can be taken back.

An object holds the entries of any number of tenants, each sealed to its tenant's own key, and a signed index of them.
It is written before the plan's transaction writes its first row, so that one which was never committed may be there:
the index names the transaction. docs/FORMAT.md has the bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from outlast.core.errors import CorruptionError, OutlastError
from outlast.core.row import KeyKind
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.keys import Identity, seal
from outlast.vault.pack import TRAILER_BYTES, PackBuilder, parse_trailer
from outlast.vault.packs import decompress, get_pack
from outlast.vault.record import newer_format
from outlast.vault.signature import Signer, verify
from outlast.vault.store import AlreadyExistsError, Store
from outlast.vault.zstd import compress

FORMAT = 1
NAMESPACE_UNDO = "outlast-undo"
KINDS = ("insert", "delete", "before", "after")

_BOX_BYTES_MAX = 1024 * 1024
_OBJECT_BYTES_MAX = 16 * 1024 * 1024


def undo_folder(source: str, plan: str) -> str:
    return f"{source}/undo/{plan}"


@dataclass(frozen=True, slots=True)
class UndoTable:
    """What rows of one table mean."""

    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    key_kinds: tuple[KeyKind, ...]


@dataclass(frozen=True, slots=True)
class UndoRun:
    """Consecutive changed rows of one table, of one kind, where they lie. `part` "": the object itself.

    Without a box (both numbers 0) they stand behind the entry, in the same box.
    """

    table: str
    kind: str
    digest: bytes
    part: str
    box_offset: int
    box_length: int
    offset: int
    length: int

    def to_json(self) -> list[Any]:
        place = [self.box_offset, self.box_length, self.offset, self.length]
        return [self.table, self.kind, self.digest.hex(), self.part, *place]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> UndoRun:
        table, kind, digest, *place = data
        return cls(table, kind, bytes.fromhex(digest), *place)


@dataclass(frozen=True, slots=True)
class UndoEntry:
    """One tenant's part: its tables' columns, and its runs in the order they were written. `behind`: rows behind it."""

    tenant: Tenant
    tables: Mapping[str, UndoTable]
    runs: tuple[UndoRun, ...]
    behind: bytes = b""

    def to_bytes(self) -> bytes:
        data = {
            "format": FORMAT,
            "tenant": self.tenant.key,
            "label": self.tenant.label,
            "tables": {
                name: [list(table.columns), list(table.key), [kind.value for kind in table.key_kinds]]
                for name, table in sorted(self.tables.items())
            },
            "runs": [run.to_json() for run in self.runs],
        }
        line = json.dumps(data, separators=(",", ":"), ensure_ascii=True).encode("ascii")
        return line + b"\n" + self.behind if self.behind else line

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> UndoEntry:
        try:
            line, _, behind = data.partition(b"\n")
            fields = json.loads(line)
            if fields["format"] > FORMAT:
                raise newer_format(what, fields["format"])
            tables = {
                name: UndoTable(
                    tuple((column, kind) for column, kind in columns), tuple(key), tuple(KeyKind(one) for one in kinds)
                )
                for name, (columns, key, kinds) in fields["tables"].items()
            }
            runs = tuple(UndoRun.from_json(run) for run in fields["runs"])
            return cls(Tenant(TenantKey(fields["tenant"]), fields["label"]), tables, runs, behind)
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptionError(f"{what} cannot be read: it is no before-image", code="undo") from error


@dataclass(frozen=True, slots=True)
class UndoIndex:
    """What the object says in the clear: by tenant's folder the key that its entry is sealed to, where that lies, and
    the SHA-256 of its sealed bytes: the signature over the index proves the entry, and the entry its rows."""

    source: str
    plan: str
    database: str  # the cluster's identifier and the database's oid
    xid: str  # of the transaction that wrote, if it was committed
    entries: Mapping[str, tuple[str, int, int, str]]

    def to_bytes(self) -> bytes:
        data = {
            "format": FORMAT,
            "source": self.source,
            "plan": self.plan,
            "database": self.database,
            "xid": self.xid,
            "entries": {prefix: list(place) for prefix, place in sorted(self.entries.items())},
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=True).encode("ascii") + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> UndoIndex:
        try:
            fields = json.loads(data)
            if fields["format"] > FORMAT:
                raise newer_format(what, fields["format"])
            entries = {
                prefix: (str(recipient), int(offset), int(length), str(digest))
                for prefix, (recipient, offset, length, digest) in fields["entries"].items()
            }
            return cls(fields["source"], fields["plan"], fields["database"], fields["xid"], entries)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise CorruptionError(f"{what} cannot be read: it is no before-image", code="undo") from error


@dataclass(slots=True)
class UndoDraft:
    """One tenant's before-image while it is made. Rows are sealed as they come; memory is bounded by `put_part`."""

    tenant: Tenant
    prefix: str
    recipient: str
    put_part: Callable[[PackBuilder], str]  # puts an object of boxes alone, and gives its name
    tables: dict[str, UndoTable] = field(default_factory=dict)
    _open: list[tuple[str, str, bytes]] = field(default_factory=list)
    _open_bytes: int = 0
    _boxes: list[tuple[bytes, list[tuple[str, str, bytes, int, int]]]] = field(default_factory=list)
    _boxes_bytes: int = 0
    _runs: list[UndoRun] = field(default_factory=list)

    @property
    def empty(self) -> bool:
        return not (self._open or self._boxes or self._runs)

    def add(self, table: str, kind: str, data: bytes) -> None:
        """Rows in whole lines; per table and kind in key order."""
        self._open.append((table, kind, data))
        self._open_bytes += len(data)
        if self._open_bytes >= _BOX_BYTES_MAX:
            self._seal()
        if self._boxes_bytes >= _OBJECT_BYTES_MAX:
            builder = PackBuilder()
            runs = self._lay(builder)
            name = self.put_part(builder)
            self._runs += [_at(run, name) for run in runs]

    def finish(self, builder: PackBuilder) -> tuple[int, int, str]:
        """Lay what is left into the object, and the entry after it. Returns where the entry is, and its digest.

        The last rows, which of most tenants are all, share the entry's box: sealing is most of what a small one costs.
        """
        runs = [*self._runs, *self._lay(builder)]
        places, behind = self._taken()
        runs += [UndoRun(table, kind, digest, "", 0, 0, *place) for table, kind, digest, *place in places]
        entry = UndoEntry(self.tenant, self.tables, tuple(runs), behind)
        sealed = seal([self.recipient], compress(entry.to_bytes()))
        return builder.add_box(sealed), len(sealed), hashlib.sha256(sealed).hexdigest()

    def _seal(self) -> None:
        places, plain = self._taken()
        box = seal([self.recipient], compress(plain))
        self._boxes.append((box, places))
        self._boxes_bytes += len(box)

    def _taken(self) -> tuple[list[tuple[str, str, bytes, int, int]], bytes]:
        """The rows that no box has yet: where each run of them begins and how long it is, and their bytes."""
        places, offset = [], 0
        for table, kind, data in self._open:
            places.append((table, kind, hashlib.sha256(data).digest(), offset, len(data)))
            offset += len(data)
        plain = b"".join([data for _, _, data in self._open])
        self._open, self._open_bytes = [], 0
        return places, plain

    def _lay(self, builder: PackBuilder) -> list[UndoRun]:
        runs = []
        for box, places in self._boxes:
            at = builder.add_box(box)
            runs += [UndoRun(table, kind, digest, "", at, len(box), *place) for table, kind, digest, *place in places]
        self._boxes, self._boxes_bytes = [], 0
        return runs


def _at(run: UndoRun, part: str) -> UndoRun:
    return UndoRun(run.table, run.kind, run.digest, part, run.box_offset, run.box_length, run.offset, run.length)


@dataclass(frozen=True, slots=True)
class UndoWriter:
    """Puts before-images of one plan. Safe to use from several threads."""

    store: Store
    source: str
    plan: str
    signer: Signer

    def draft(self, tenant: Tenant, prefix: str, recipient: str) -> UndoDraft:
        return UndoDraft(tenant, prefix, recipient, lambda builder: self._put(*builder.finish(None, None)))

    def write(self, drafts: Sequence[UndoDraft], xid: str, database: str) -> str:
        """Put the before-images of one transaction. Returns the object's name; it survives a power cut by then."""
        builder = PackBuilder()
        entries = {draft.prefix: (draft.recipient, *draft.finish(builder)) for draft in drafts}
        index = UndoIndex(self.source, self.plan, database, xid, entries).to_bytes()
        name, data = builder.finish(index, self.signer.sign(NAMESPACE_UNDO, index))
        self._put(name, data)  # durable when it is put, as store.py has it
        return name

    def _put(self, name: str, data: bytes) -> str:
        with suppress(AlreadyExistsError):  # named by its bytes: an answer that was lost
            self.store.create(f"{undo_folder(self.source, self.plan)}/{name}", data)
        return name


@dataclass(frozen=True, slots=True)
class UndoObject:
    """A before-image as it lies in the vault, its bytes proven by its name and its index by its signature."""

    path: str
    data: bytes
    index: UndoIndex


def read_undo(store: Store, path: str, signers: Sequence[str]) -> UndoObject | None:
    """Read and verify one object; None for a part, which has no index of its own. Raises CorruptionError."""
    data = get_pack(store, path)
    trailer = parse_trailer(data[-TRAILER_BYTES:], len(data), path)
    if not trailer.manifest_length:
        return None
    end = trailer.manifest_offset + trailer.manifest_length
    line = data[trailer.manifest_offset : end]
    verify(tuple(signers), NAMESPACE_UNDO, line, data[end:-TRAILER_BYTES], path)
    index = UndoIndex.from_bytes(line, path)
    if path.rpartition("/")[0] != undo_folder(index.source, index.plan):
        raise CorruptionError(f"{path} is the before-image of another plan", code="undo")
    return UndoObject(path, data, index)


def list_undo(store: Store, source: str, plan: str, signers: Sequence[str]) -> list[UndoObject]:
    """Every before-image of a plan. There may be several: of groups, and of attempts that were not committed."""
    found = (read_undo(store, item.path, signers) for item in store.list(undo_folder(source, plan) + "/"))
    return [one for one in found if one is not None]


def read_entry(found: UndoObject, prefix: str, key: Identity) -> UndoEntry:
    """A tenant's entry, opened with the tenant's own key."""
    _, offset, length, digest = found.index.entries[prefix]
    what = f"the before-image in {found.path}"
    sealed = found.data[offset : offset + length]
    if hashlib.sha256(sealed).hexdigest() != digest:
        raise CorruptionError(f"{what} is not the one that its index names", code="undo")
    return UndoEntry.from_bytes(decompress(key.open(sealed, what), what), what)


def read_rows(store: Store, found: UndoObject, entry: UndoEntry, run: UndoRun, key: Identity) -> bytes:
    """The rows of one run of an entry, proven by their digest."""
    path = found.path if not run.part else f"{found.path.rpartition('/')[0]}/{run.part}"
    plain = _opened_box(store, found, path, run, key) if run.box_length else entry.behind
    rows = plain[run.offset : run.offset + run.length]
    if hashlib.sha256(rows).digest() != run.digest:
        raise CorruptionError(f"rows in {path} are not those that were written", code="undo")
    return rows


def _opened_box(store: Store, found: UndoObject, path: str, run: UndoRun, key: Identity) -> bytes:
    start, length = run.box_offset, run.box_length
    sealed = store.get_range(path, start, length) if run.part else found.data[start : start + length]
    return decompress(key.open(sealed, path), path, run.offset + run.length)


def scrub_undo(
    store: Store, paths: Sequence[str], signers: Sequence[str], key_of: Callable[[str, str, str], Identity] | None
) -> Iterator[tuple[str, OutlastError]]:
    """Read every byte of some before-images. `key_of` (source, prefix, recipient) opens entries; None: no key at hand.

    Gives what is damaged, by path.
    """
    for path in paths:
        try:
            found = read_undo(store, path, signers)
        except OutlastError as error:
            yield path, error
            continue
        if found is None or key_of is None:
            continue
        for prefix, (recipient, *_) in found.index.entries.items():
            try:
                key = key_of(found.index.source, prefix, recipient)
                entry = read_entry(found, prefix, key)
                for run in entry.runs:
                    read_rows(store, found, entry, run, key)
            except OutlastError as error:
                yield path, error
