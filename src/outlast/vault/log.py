"""The log of a source in the vault: segments under rising numbers, each naming the header before it.

Putting the next number, which fails where it is taken, is the lock against a second follower. Reading goes by headers:
the end of each object is fetched, a bounded number at once, and of the rest only the frames that are asked for. What
the entries mean for a tenant's state is `overlay.py`'s.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise

import zstandard

from outlast.core.errors import CorruptionError, Refused
from outlast.core.moment import Lsn
from outlast.vault.keys import Identity, WriterKeys, seal
from outlast.vault.marks import Ledger
from outlast.vault.record import digest, encode_record
from outlast.vault.segment import (
    TRAILER_BYTES,
    Frame,
    SegmentDetails,
    SegmentHeader,
    decode_header,
    record_length,
    segment_path,
    trailer,
)
from outlast.vault.signature import NAMESPACE_LOG
from outlast.vault.store import AlreadyExistsError, ObjectMissingError, Store

_FETCHES_AT_ONCE = 8
_TAIL_BYTES = 16 * 1024
"""Fetched from an object's end at first: the header of a segment with some eighty frames is in it."""

_ZSTD_LEVEL = 1
_NAME = re.compile(r"(\d{12})(?:-(\d{12}))?")


@dataclass(frozen=True, slots=True)
class SegmentDraft:
    """A segment to be written; see SegmentHeader for the fields. `frames` are (recipient, entries) by folder."""

    epoch: int
    slot: str
    system: str
    timeline: int
    base_run: int | None
    start: Lsn
    position: Lsn
    as_of: datetime
    frames: Mapping[str, tuple[str, bytes | bytearray]]
    details: SegmentDetails
    mark: tuple[int, str | None] | None = None
    folded: int | None = None


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where the log stands: its newest segment (0: none yet) and that header's hash. The next one continues it."""

    segment: int = 0
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Written:
    """What `SegmentWriter.write` put."""

    header: SegmentHeader
    size_bytes: int

    @property
    def end(self) -> LogEnd:
        return LogEnd(self.header.segment, self.header.digest)


Plain = tuple[tuple[str, ...], bytes | bytearray]
"""Whom a part of a segment is sealed to, and what it says."""

Sealed = tuple[bytes, str]
"""A part as it lies in the store, and its SHA-256."""


def seal_parts(parts: Sequence[Plain]) -> list[Sealed]:
    """Compress and seal: nearly all the work of writing a segment, and it takes public keys only."""
    compressor = zstandard.ZstdCompressor(level=_ZSTD_LEVEL)
    found: list[Sealed] = []
    for recipients, plain in parts:
        sealed = seal(recipients, compressor.compress(plain))
        found.append((sealed, hashlib.sha256(sealed).hexdigest()))
    return found


class SegmentWriter:
    """Seals drafts (`sealing` says where) and puts them under the next number. Holds public keys only."""

    def __init__(
        self,
        store: Store,
        keys: WriterKeys,
        source: str,
        sealing: Callable[[Sequence[Plain]], list[Sealed]] = seal_parts,
    ) -> None:
        self._store = store
        self._keys = keys
        self._source = source
        self._seal_parts = sealing
        self._tried: tuple[SegmentDraft, LogEnd, SegmentHeader, bytes] | None = None

    def write(self, draft: SegmentDraft, end: LogEnd) -> Written:
        """Put the segment after `end`; it is durable on return.

        After a passing fault call again with the very same draft object: the first try may have arrived.
        Raises Refused (code `log-taken`) where another follower wrote that number, VaultError for what the store does.
        """
        if self._tried is None or self._tried[0] is not draft or self._tried[1] != end:
            self._tried = (draft, end, *self.encode(draft, end.segment + 1, end.segment + 1, end.digest))
        header, data = self._tried[2:]
        self._put(header.path, data, header)
        self._tried = None
        return Written(header, len(data))

    def write_merged(self, draft: SegmentDraft, headers: Sequence[SegmentHeader]) -> Written:
        """One object without frames for segments that were folded: what is left of them is their details."""
        header, data = self.encode(draft, headers[0].first, headers[-1].segment, headers[0].previous, headers[-1])
        self._put(header.path, data, header)
        return Written(header, len(data))

    def encode(
        self, draft: SegmentDraft, first: int, segment: int, previous: str | None, last: SegmentHeader | None = None
    ) -> tuple[SegmentHeader, bytes]:
        """The header and the object's bytes."""
        plain: list[Plain] = [((recipient,), entries) for recipient, entries in draft.frames.values()]
        plain.append((self._keys.recipients, draft.details.to_bytes()))
        sealed = self._seal_parts(plain)
        frames, details = _laid_out(draft.frames, plain, sealed)
        transactions = draft.details.transactions
        times = [transaction.time for transaction in transactions]
        xids = [transaction.xid for transaction in transactions]
        header = SegmentHeader(
            source=self._source,
            first=first,
            segment=segment,
            previous=previous,
            epoch=draft.epoch,
            slot=draft.slot,
            system=draft.system,
            timeline=draft.timeline,
            base_run=draft.base_run,
            start=draft.start,
            position=draft.position,
            as_of=draft.as_of,
            first_time=min(times, default=None),
            last_time=max(times, default=None),
            xid_min=min(xids, default=0),
            xid_max=max(xids, default=0),
            frames=frames,
            details=details,
            notable=draft.details.notable,
            mark=draft.mark,
            parts=tuple((one.commit.value, one.part, one.last) for one in transactions if one.part or not one.last),
            folded=draft.folded,
            replaces=None if last is None else last.digest,
            recalls=min((gap.since for gap in draft.details.gaps if gap.noticed is not None), default=None),
        )
        record = encode_record(header.to_json(), NAMESPACE_LOG, self._keys.signer)
        return header.with_digest(digest(record)), b"".join([*(one for one, _ in sealed), record, trailer(record)])

    def _put(self, path: str, data: bytes, header: SegmentHeader) -> None:
        try:
            self._store.create(path, data)
        except AlreadyExistsError as error:
            try:  # an answer that was lost on the way: it had arrived
                ours = self._store.get(path) == data
            except ObjectMissingError:
                ours = False  # gone again
            if not ours:
                raise Refused(
                    f"cannot write segment {header.segment} of the log of {self._source!r}: it exists already",
                    hint="Another `outlast follow` of this source is or was at work. End it, then start this one: "
                    "it takes up where the log ends.",
                    code="log-taken",
                ) from error
        self._store.flush()


def _laid_out(
    tenants: Mapping[str, tuple[str, bytes | bytearray]], plain: Sequence[Plain], sealed: Sequence[Sealed]
) -> tuple[dict[str, Frame], Frame]:
    """The tenants' frames and, last, the details, end to end."""
    offset = 0
    found: list[Frame] = []
    names = [*((prefix, recipient) for prefix, (recipient, _) in tenants.items()), ("", "")]
    for (prefix, recipient), (_, entries), (data, digest_) in zip(names, plain, sealed, strict=True):
        found.append(Frame(prefix, recipient, offset, len(data), len(entries), digest_))
        offset += len(data)
    return {frame.prefix: frame for frame in found[:-1]}, found[-1]


@dataclass(frozen=True, slots=True)
class SegmentObject:
    """A segment as the store lists it: one that was written, or (`first` given) a merged one."""

    first: int | None
    segment: int
    size_bytes: int

    @property
    def begin(self) -> int:
        """The first segment that it is, or stands for."""
        return self.segment if self.first is None else self.first


@dataclass
class LogReader:
    """Reads a source's log. Whoever asks for frames or details brings the identity that opens them."""

    store: Store
    signers: Sequence[str]
    local: Callable[[str, int, int], bytes | None] = lambda *_: None
    """Gives a part of an object that was fetched as a whole before, or None."""
    _headers: dict[tuple[str, int | None, int], SegmentHeader] = field(default_factory=dict, repr=False)

    def objects(self, source: str) -> list[SegmentObject]:
        """All segments that are there, ascending; a merged one in place of what it stands for."""
        return without_replaced(self.every_object(source))

    def every_object(self, source: str) -> list[SegmentObject]:
        """All of them, also those that a merged one stands for and that are not swept yet."""
        found: list[SegmentObject] = []
        for item in self.store.list(f"{source}/log/"):
            match = _NAME.fullmatch(item.path.rpartition("/")[2])
            if match is not None:
                one, last = int(match[1]), match[2]
                found.append(
                    SegmentObject(None, one, item.size_bytes)
                    if last is None
                    else SegmentObject(one, int(last), item.size_bytes)
                )
        return found

    def newest(self, source: str) -> SegmentHeader | None:
        """The log's last header, or None where there is no log. Needs no identity."""
        found = self.objects(source)
        return self.header(source, found[-1]) if found else None

    def end(self, source: str) -> LogEnd:
        """Where a follower goes on."""
        newest = self.newest(source)
        return LogEnd() if newest is None else LogEnd(newest.segment, newest.chained)

    def headers(self, source: str, ledger: Ledger | None = None, first: int = 1) -> list[SegmentHeader]:
        """The headers from the one that has segment `first` on, each the one that its follower names.

        Raises CorruptionError where one is missing or was replaced, unless `ledger` says that it was swept.
        """
        listed = self.objects(source)
        wanted = [item for item in listed if item.segment >= first]
        _refuse_missing(source, listed, ledger)
        with ThreadPoolExecutor(_FETCHES_AT_ONCE, "headers") as pool:
            found = list(pool.map(lambda item: self.header(source, item), wanted))
        for before, after in pairwise(found):
            if after.previous != before.chained:
                raise CorruptionError(
                    f"log segment {before.path} is not the one that the next one followed",
                    hint="Somebody put another in its place; `outlast verify` says more.",
                    code="chain",
                )
        return found

    def header(self, source: str, item: SegmentObject) -> SegmentHeader:
        """One segment's verified header, by a range or two at its end."""
        place = (source, item.first, item.segment)
        if place not in self._headers:
            path = segment_path(source, item.segment, item.first)
            self._headers[place] = self._read_header(source, item, path)
        return self._headers[place]

    def _read_header(self, source: str, item: SegmentObject, path: str) -> SegmentHeader:
        what = f"log segment {path}"
        if item.size_bytes <= TRAILER_BYTES:
            raise CorruptionError(f"{what} does not end in a trailer: it was cut or changed", code="trailer")
        start = max(0, item.size_bytes - _TAIL_BYTES)
        tail = self.store.get_range(path, start, item.size_bytes - start)
        length = record_length(tail, what)
        begin = item.size_bytes - TRAILER_BYTES - length
        if begin < 0:
            raise CorruptionError(f"{what} is not as long as it says: it was cut or changed", code="segment")
        if begin < start:
            tail = self.store.get_range(path, begin, start - begin) + tail
            start = begin
        record = tail[begin - start : begin - start + length]
        return decode_header(record, self.signers, source, (item.first, item.segment), item.size_bytes)

    def frame(self, header: SegmentHeader, prefix: str, identity: Identity) -> bytes | None:
        """A tenant's entries in a segment, None where it has none. `identity` is the tenant's."""
        frame = header.frames.get(prefix)
        if frame is None:
            return None
        what = f"the frame of {prefix} in log segment {header.path}"
        return self._part(header, frame, identity, what)

    def details(self, header: SegmentHeader, identity: Identity) -> SegmentDetails:
        """What a segment says to those who hold the vault's `identity`."""
        what = f"log segment {header.path}"
        return SegmentDetails.from_bytes(self._part(header, header.details, identity, f"the details of {what}"), what)

    def _part(self, header: SegmentHeader, part: Frame, identity: Identity, what: str) -> bytes:
        path = header.path
        sealed = self.local(path, part.offset, part.length)
        if sealed is None:
            sealed = self.store.get_range(path, part.offset, part.length)
        return open_part(sealed, part, identity, what)


def open_part(sealed: bytes, part: Frame, identity: Identity, what: str) -> bytes:
    """What a sealed part of a segment holds, never more than its header says. Raises CorruptionError."""
    if hashlib.sha256(sealed).hexdigest() != part.digest:
        raise CorruptionError(
            f"the bytes of {what} are not those that were written",
            hint="`outlast verify` lists all damage; a copy or an older version of the object may still be whole.",
            code="changed-bytes",
        )
    try:
        with zstandard.ZstdDecompressor().stream_reader(identity.open(sealed, what)) as reader:
            plain = reader.read(part.size + 1)
    except zstandard.ZstdError as error:
        raise CorruptionError(f"{what} cannot be decompressed", code="zstd") from error
    if len(plain) != part.size:
        raise CorruptionError(f"{what} does not hold what its header says", code="segment")
    return plain


def without_replaced(found: Iterable[SegmentObject]) -> list[SegmentObject]:
    """Ascending, without those that a merged one stands for. (They are there until `prune` sweeps them.)"""
    kept: list[SegmentObject] = []
    for item in sorted(found, key=lambda item: (item.begin, -item.segment, item.first is None)):
        if not kept or item.begin > kept[-1].segment:
            kept.append(item)
    return kept


def _refuse_missing(source: str, listed: Sequence[SegmentObject], ledger: Ledger | None) -> None:
    """Segments are contiguous. Those before the first were merged, and the merged one was swept: a mark says so."""
    missing = next((after.begin - 1 for before, after in pairwise(listed) if after.begin != before.segment + 1), None)
    if missing is None and listed and listed[0].begin != 1:
        missing = listed[0].begin - 1
        ending = f"-{missing:012d}"
        if ledger is not None and any(path.endswith(ending) for path in ledger.swept):
            return
    if missing is not None:
        raise CorruptionError(
            f"log segment {segment_path(source, missing)} is gone",
            hint="`outlast verify` lists all damage; a copy or an older version of the object may still be there.",
            code="missing-object",
        )
