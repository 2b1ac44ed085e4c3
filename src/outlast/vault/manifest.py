"""A manifest: what one tenant consisted of at one moment, table by table, chunk by chunk."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from outlast.core.errors import CorruptionError, VaultError
from outlast.core.moment import Moment
from outlast.core.row import KeyKind
from outlast.vault.chunk import table_root, tenant_root

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Head:
    """Where a manifest lies: the run that wrote it, its pack, and its sealed bytes' place in that pack."""

    run: int
    pack: str
    offset: int
    length: int

    def to_json(self) -> list[int | str]:
        return [self.run, self.pack, self.offset, self.length]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Head:
        run, pack, offset, length = data
        return cls(int(run), str(pack), int(offset), int(length))


@dataclass(frozen=True, slots=True)
class ChunkRef:
    """A chunk and where it lies: `length` bytes at `offset` of what the box at `box_offset` of `pack` decompresses to.

    `pack` "" is the pack that the manifest itself stands in. `first_key` is the key of its first row, as COPY fields.
    """

    first_key: bytes
    rows: int
    digest: bytes  # SHA-256 of the rows
    pack: str
    box_offset: int
    box_length: int
    offset: int
    length: int

    def placed(self, pack: str) -> ChunkRef:
        """The same in a pack that is named. Not by dataclasses.replace, which takes ten times as long."""
        return ChunkRef(
            self.first_key,
            self.rows,
            self.digest,
            pack,
            self.box_offset,
            self.box_length,
            self.offset,
            self.length,
        )

    def to_json(self) -> list[int | str]:
        return [
            self.first_key.decode("utf-8", "surrogateescape"),
            self.rows,
            self.digest.hex(),
            self.pack,
            self.box_offset,
            self.box_length,
            self.offset,
            self.length,
        ]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> ChunkRef:
        first_key, rows, digest, *place = data
        return cls(first_key.encode("utf-8", "surrogateescape"), rows, bytes.fromhex(digest), *place)


@dataclass(frozen=True, slots=True)
class TableManifest:
    """One table of a tenant. `columns` are (name, type), in the order of a row's fields; `root` is hexadecimal."""

    columns: tuple[tuple[str, str], ...]
    key: tuple[str, ...]
    key_kinds: tuple[KeyKind, ...]
    shape: str
    rows: int
    root: str
    chunks: tuple[ChunkRef, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "columns": self.columns,
            "key": self.key,
            "key_kinds": self.key_kinds,
            "shape": self.shape,
            "rows": self.rows,
            "root": self.root,
            "chunks": [chunk.to_json() for chunk in self.chunks],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TableManifest:
        return cls(
            tuple((name, type_) for name, type_ in data["columns"]),
            tuple(data["key"]),
            tuple(KeyKind(kind) for kind in data["key_kinds"]),
            data["shape"],
            data["rows"],
            data["root"],
            tuple(ChunkRef.from_json(chunk) for chunk in data["chunks"]),
        )

    def check(self, what: str) -> None:
        """Raise CorruptionError unless root and rows are those of the chunks."""
        root = table_root((chunk.digest, chunk.rows) for chunk in self.chunks).hex()
        if root != self.root or sum(chunk.rows for chunk in self.chunks) != self.rows:
            raise CorruptionError(f"{what} contradicts itself: its chunks do not give its root", code="root")


@dataclass(frozen=True, slots=True)
class LogBox:
    """The tenant's entries of the segments `first` to `last`, and where they lie: one box, as chunks are in.

    A moment between this manifest and the one before is served from here, when the segments are gone.
    """

    first: int
    last: int
    pack: str
    box_offset: int
    box_length: int
    size: int  # of the entries, when opened
    digest: bytes  # SHA-256 of the entries

    def to_json(self) -> list[int | str]:
        return [
            self.first,
            self.last,
            self.pack,
            self.box_offset,
            self.box_length,
            self.size,
            self.digest.hex(),
        ]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> LogBox:
        first, last, pack, offset, length, size, digest = data
        return cls(first, last, pack, offset, length, size, bytes.fromhex(digest))


@dataclass(frozen=True, slots=True)
class Manifest:
    """One tenant at one moment. Equal content gives an equal `root` (hexadecimal), whatever packs it lies in.

    `log` is set by a fold: the entries that led here, in order.
    """

    source: str
    tenant: str
    label: str | None
    run: int
    moment: Moment
    root: str
    previous: Head | None
    tables: Mapping[str, TableManifest]
    log: tuple[LogBox, ...] = ()

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables.values())

    def to_bytes(self) -> bytes:
        """JSON, its keys in a fixed order, so that equal manifests are equal bytes."""
        data = {
            "format": FORMAT,
            "source": self.source,
            "tenant": self.tenant,
            "label": self.label,
            "run": self.run,
            "moment": self.moment.to_json(),
            "root": self.root,
            "previous": None if self.previous is None else self.previous.to_json(),
            "tables": {name: self.tables[name].to_json() for name in sorted(self.tables)},
            **({"log": [box.to_json() for box in self.log]} if self.log else {}),
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes, what: str = "a manifest") -> Manifest:
        """Raises VaultError for a newer format, CorruptionError for anything that is not a manifest."""
        try:
            fields: dict[str, Any] = json.loads(data)
            if fields["format"] > FORMAT:
                raise VaultError(
                    f"{what} is of format {fields['format']}, and this Outlast reads up to {FORMAT}",
                    hint="Upgrade Outlast.",
                    code="format",
                )
            return cls(
                fields["source"],
                fields["tenant"],
                fields["label"],
                fields["run"],
                Moment.from_json(fields["moment"]),
                fields["root"],
                None if fields["previous"] is None else Head.from_json(fields["previous"]),
                {name: TableManifest.from_json(table) for name, table in fields["tables"].items()},
                tuple(LogBox.from_json(box) for box in fields.get("log", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptionError(f"{what} cannot be read: it is not a manifest", code="manifest") from error

    def placed(self, pack: str) -> Manifest:
        """The same, with the chunks of its own pack naming it, so that it can be read and pointed to from elsewhere."""
        tables = {name: _placed(table, pack) for name, table in self.tables.items()}
        return replace(self, tables=tables, log=tuple(replace(box, pack=box.pack or pack) for box in self.log))

    def check(self, what: str) -> None:
        """Raise CorruptionError unless every root is what the chunks' digests give."""
        for name, table in self.tables.items():
            table.check(f"table {name} of {what}")
        root = tenant_root((name, bytes.fromhex(table.root)) for name, table in self.tables.items() if table.rows).hex()
        if root != self.root:
            raise CorruptionError(f"{what} contradicts itself: its tables do not give its root", code="root")


def _placed(table: TableManifest, pack: str) -> TableManifest:
    if all(chunk.pack for chunk in table.chunks):
        return table
    chunks = tuple([chunk if chunk.pack else chunk.placed(pack) for chunk in table.chunks])
    return TableManifest(table.columns, table.key, table.key_kinds, table.shape, table.rows, table.root, chunks)
