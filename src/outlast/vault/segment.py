"""A segment: what one flush of the log wrote, as one object. Its bytes, and the values that they hold.

    frames, one a tenant | details | header record | trailer

A frame is age(zstd(entries)), sealed to its tenant. The details say which transactions there were, for those who hold
the vault's identity. The header is a record (JSON and signature) at the end, so that a reader needs the object's size
and two ranges. It names each part's hash, and the hash of the header before: all bytes of the log are in one chain.
Which objects there are, and what they amount to, is `log.py`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Self

from outlast.core.errors import CorruptionError, VaultError
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.vault.record import FORMAT, decode_record, digest
from outlast.vault.signature import NAMESPACE_LOG

TRAILER_BYTES = 64
_MAGIC = "OUTLASTLOG1"
Effects = Mapping[str, Mapping[str, Mapping[str, int]]]
"""Rows by folder, table and operation."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One tenant's entries in one segment: to whom they are sealed, where they lie, and what they are."""

    prefix: str
    recipient: str
    offset: int
    length: int
    size: int  # of the entries, when opened
    digest: str  # SHA-256 of the sealed bytes

    def to_json(self) -> list[str | int]:
        return [self.recipient, self.offset, self.length, self.size, self.digest]

    @classmethod
    def from_json(cls, prefix: str, data: Sequence[Any]) -> Self:
        recipient, offset, length, size, found = data
        return cls(prefix, str(recipient), int(offset), int(length), int(size), str(found))


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says in the clear.

    It takes the log from `start` to `position`: the end of the last transaction that is whole by now. `as_of` is the
    source's clock when that was all there was; `first_time` and `last_time` are the earliest and latest commit in it,
    `xid_min` and `xid_max` its transactions' numbers (None and 0 where it has none). An `epoch` is one unbroken log of
    one slot; `base_run` is the run that was swept from the slot's own snapshot. `mark` is the newest mark that the
    writer saw: its number and hash. `notable`: the details hold schema changes or gaps.
    """

    source: str
    first: int  # as `segment`, but in a merged one: it stands for the segments from `first` to `segment`
    segment: int
    previous: str | None
    epoch: int
    slot: str
    system: str
    timeline: int
    base_run: int | None
    start: Lsn
    position: Lsn
    as_of: datetime
    first_time: datetime | None
    last_time: datetime | None
    xid_min: int
    xid_max: int
    frames: Mapping[str, Frame]
    details: Frame
    notable: bool = False
    mark: tuple[int, str | None] | None = None
    parts: tuple[tuple[int, int, bool], ...] = ()  # commit, part, last: of transactions that span segments
    folded: int | None = None  # in a merged one: the run that has the frames, in each tenant's own packs
    replaces: str | None = None  # in a merged one: the hash of the last header that it stands for
    recalls: Lsn | None = None  # a gap in it began there, before it, and was found by looking
    digest: str = field(default="", compare=False)  # SHA-256 of the header record; not part of it

    @property
    def chained(self) -> str:
        """What the next segment's `previous` says of this one."""
        return self.replaces or self.digest

    @property
    def path(self) -> str:
        return segment_path(self.source, self.segment, None if self.folded is None else self.first)

    def with_digest(self, found: str) -> SegmentHeader:
        return replace(self, digest=found)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "source": self.source,
            "first": self.first,
            "segment": self.segment,
            "previous": self.previous,
            "epoch": self.epoch,
            "slot": self.slot,
            "system": self.system,
            "timeline": self.timeline,
            "base_run": self.base_run,
            "start": str(self.start),
            "position": str(self.position),
            "as_of": self.as_of.astimezone(UTC).isoformat(),
            "first_time": _iso(self.first_time),
            "last_time": _iso(self.last_time),
            "xid_min": self.xid_min,
            "xid_max": self.xid_max,
            "notable": self.notable,
            "mark": None if self.mark is None else list(self.mark),
            "parts": [list(part) for part in self.parts],
            "folded": self.folded,
            "replaces": self.replaces,
            "recalls": None if self.recalls is None else str(self.recalls),
            "details": self.details.to_json(),
            "frames": {prefix: self.frames[prefix].to_json() for prefix in sorted(self.frames)},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any], found: str) -> Self:
        mark = data["mark"]
        return cls(
            data["source"],
            data["first"],
            data["segment"],
            data["previous"],
            data["epoch"],
            data["slot"],
            data["system"],
            data["timeline"],
            data["base_run"],
            Lsn.parse(data["start"]),
            Lsn.parse(data["position"]),
            datetime.fromisoformat(data["as_of"]),
            _time(data["first_time"]),
            _time(data["last_time"]),
            data["xid_min"],
            data["xid_max"],
            {prefix: Frame.from_json(prefix, frame) for prefix, frame in data["frames"].items()},
            Frame.from_json("", data["details"]),
            data["notable"],
            None if mark is None else (mark[0], mark[1]),
            tuple((commit, part, last) for commit, part, last in data["parts"]),
            data["folded"],
            data["replaces"],
            None if data.get("recalls") is None else Lsn.parse(data["recalls"]),
            found,
        )


@dataclass(frozen=True, slots=True)
class TransactionSummary:
    """One transaction, or the part of it that this segment has. `effect` counts rows of that part."""

    xid: int
    commit: Lsn
    end: Lsn
    time: datetime
    part: int = 0
    last: bool = True
    effect: Effects = field(default_factory=dict)

    def to_json(self) -> list[Any]:
        return [
            self.xid,
            self.commit.value,
            self.end.value,
            self.time.astimezone(UTC).isoformat(),
            self.part,
            self.last,
            self.effect,
        ]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Self:
        xid, commit, end, time, part, last, effect = data
        return cls(xid, Lsn(commit), Lsn(end), datetime.fromisoformat(time), part, last, effect)


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """A table's columns are others from the transaction that ends at `end` on.

    Each of `columns` is (name, type, the column's number before, or None for a new one, and the COPY field that rows of
    before have there). `renamed` is the table's new name; without columns it was dropped. What cannot be computed so is
    no SchemaChange but a Gap.
    """

    end: Lsn
    xid: int
    table: TableName
    columns: tuple[tuple[str, str, int | None, str], ...]
    key: tuple[str, ...]
    renamed: TableName | None = None
    note: str = ""

    def to_json(self) -> list[Any]:
        renamed = None if self.renamed is None else str(self.renamed)
        columns = [list(column) for column in self.columns]
        return [self.end.value, self.xid, str(self.table), columns, list(self.key), renamed, self.note]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Self:
        end, xid, table, columns, key, renamed, note = data
        return cls(
            Lsn(end),
            xid,
            TableName.parse(table),
            tuple((name, kind, origin, fill) for name, kind, origin, fill in columns),
            tuple(key),
            None if renamed is None else TableName.parse(renamed),
            note,
        )


@dataclass(frozen=True, slots=True)
class Gap:
    """Something happened at `since` that the stream does not carry: what is later is not known without a new base.

    `table` None: to any table. `prefixes` None: to any tenant's rows. `xid` where one transaction did it. `noticed`
    where it was found by looking: it happened somewhere between `since`, the look before, and there.
    """

    since: Lsn
    reason: str
    table: TableName | None = None
    prefixes: tuple[str, ...] | None = None
    xid: int | None = None
    noticed: Lsn | None = None

    def to_json(self) -> list[Any]:
        table = None if self.table is None else str(self.table)
        prefixes = None if self.prefixes is None else list(self.prefixes)
        noticed = [] if self.noticed is None else [self.noticed.value]
        return [self.since.value, self.reason, table, prefixes, self.xid, *noticed]

    @classmethod
    def from_json(cls, data: Sequence[Any]) -> Self:
        since, reason, table, prefixes, xid, *noticed = data
        return cls(
            Lsn(since),
            reason,
            None if table is None else TableName.parse(table),
            None if prefixes is None else tuple(prefixes),
            xid,
            Lsn(noticed[0]) if noticed else None,
        )


@dataclass(frozen=True, slots=True)
class SegmentDetails:
    """The part of a segment that only the vault's identities open. `tenants` are (folder, key, label) of new ones."""

    transactions: tuple[TransactionSummary, ...] = ()
    tenants: tuple[tuple[str, str, str | None], ...] = ()
    schema: tuple[SchemaChange, ...] = ()
    gaps: tuple[Gap, ...] = ()
    partial: tuple[TableName, ...] = ()  # published for inserts alone: their updates and deletes are not in the log
    sequences: Mapping[str, int] = field(default_factory=dict)
    alarms: tuple[str, ...] = ()
    whole: tuple[tuple[TableName, Lsn], ...] = ()  # published in full again, from a position on

    @property
    def notable(self) -> bool:
        """Whether it says more than which transactions there were."""
        return bool(self.tenants or self.schema or self.gaps or self.partial or self.whole)

    def to_bytes(self) -> bytes:
        data = {
            "format": FORMAT,
            "transactions": [transaction.to_json() for transaction in self.transactions],
            "tenants": [list(tenant) for tenant in self.tenants],
            "schema": [change.to_json() for change in self.schema],
            "gaps": [gap.to_json() for gap in self.gaps],
            "partial": [str(table) for table in self.partial],
            "sequences": dict(self.sequences),
            "alarms": list(self.alarms),
            "whole": [[str(table), position.value] for table, position in self.whole],
        }
        return json.dumps(data, separators=(",", ":"), ensure_ascii=True).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes, what: str) -> Self:
        try:
            fields = json.loads(data)
            return cls(
                tuple(map(TransactionSummary.from_json, fields["transactions"])),
                tuple((prefix, key, label) for prefix, key, label in fields["tenants"]),
                tuple(map(SchemaChange.from_json, fields["schema"])),
                tuple(map(Gap.from_json, fields["gaps"])),
                tuple(map(TableName.parse, fields["partial"])),
                fields["sequences"],
                tuple(fields["alarms"]),
                tuple((TableName.parse(table), Lsn(position)) for table, position in fields["whole"]),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptionError(f"the details of {what} cannot be read", code="segment") from error


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def segment_path(source: str, segment: int, first: int | None = None) -> str:
    """Where a segment lies; with `first`, the merged one that a fold wrote for all from there on."""
    if first is None:
        return f"{source}/log/{segment:012d}"
    return f"{source}/log/{first:012d}-{segment:012d}"


def trailer(record: bytes) -> bytes:
    """The last TRAILER_BYTES of a segment: they find its header record, which ends where they begin."""
    return _trailer(len(record))


def _trailer(length: int) -> bytes:
    return f"{_MAGIC} {length}".ljust(TRAILER_BYTES - 1).encode("ascii") + b"\n"


def record_length(data: bytes, what: str) -> int:
    """How long the header record before a trailer is. Raises CorruptionError, VaultError for a newer format."""
    fields = data[-TRAILER_BYTES:].decode("ascii", "replace").split()
    if fields and fields[0].startswith("OUTLASTLOG") and fields[0] != _MAGIC:
        raise VaultError(f"{what} is of a newer format than this Outlast reads", hint="Upgrade Outlast.", code="format")
    if len(fields) == 2 and fields[0] == _MAGIC and fields[1].isdecimal():
        length = int(fields[1])
        if length and _trailer(length) == data[-TRAILER_BYTES:]:
            return length
    raise CorruptionError(f"{what} does not end in a trailer: it was cut or changed", code="trailer")


def decode_header(
    record: bytes, signers: Sequence[str], source: str, numbers: tuple[int | None, int], size_bytes: int
) -> SegmentHeader:
    """Verify the header record of a segment, and that its parts fill an object of `size_bytes`.

    `numbers` are as `segment_path` takes them. Raises CorruptionError.
    """
    first, segment = numbers
    what = f"log segment {segment_path(source, segment, first)}"
    fields = decode_record(record, NAMESPACE_LOG, signers, what)
    try:
        header = SegmentHeader.from_json(fields, digest(record))
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise CorruptionError(f"{what} cannot be read: it has no header", code="segment") from error
    said = (header.source, None if header.folded is None else header.first, header.segment)
    if said != (source, first, segment) or (first is None and header.first != segment):
        raise CorruptionError(f"{what} is another one, {header.segment} of {header.source}", code="segment")
    end = 0
    for frame in sorted([*header.frames.values(), header.details], key=lambda part: part.offset):
        if frame.offset != end or frame.length < 0:
            raise CorruptionError(f"{what} contradicts itself: its parts do not fit together", code="segment")
        end += frame.length
    if end + len(record) + TRAILER_BYTES != size_bytes:
        raise CorruptionError(f"{what} is not as long as it says: it was cut or changed", code="segment")
    return header
