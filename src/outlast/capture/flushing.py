"""A flush: what was routed becomes a segment in the vault, then counts on this host, then is confirmed to the slot.

In that order and never otherwise. What interrupts it between two steps costs nothing but work: the server sends again
what was not confirmed, the vault's log says what it has, and the map is as of its own checkpoint. A transaction that
memory cannot hold is written in parts; the map's share of it waits aside until the last one.

The first step, sealing and putting, is on its way in a thread while routing goes on, one segment at a time (`begin`);
the others are done by whoever asks whether it has landed (`land`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from outlast.capture.checkpoint import NOTE, Checkpoint
from outlast.capture.frames import Contents, Frames
from outlast.capture.numbering import Numbering
from outlast.capture.route_ids import RESERVED_MAX
from outlast.capture.route_map import RouteMap
from outlast.core.moment import Lsn
from outlast.vault.log import LogEnd, SegmentDraft, SegmentWriter, Written
from outlast.vault.segment import SegmentDetails
from outlast.vault.store import Store


@dataclass(frozen=True, slots=True)
class Standing:
    """What a flush needs to know of the vault: who has which key, which keys were destroyed, the newest mark."""

    recipients: Callable[[str], str | None]
    erased: frozenset[str] = frozenset()
    mark: tuple[int, str | None] | None = None


@dataclass(frozen=True, slots=True)
class Flushed:
    """One segment that was put. `partial`: it ends in the middle of a transaction."""

    segment: int
    position: Lsn
    transactions: int
    changes: int
    tenants: int
    size_bytes: int
    seconds: float
    partial: bool


@dataclass(slots=True)
class _Underway:
    """A segment that is not in the vault yet, and what is to count on this host once it is."""

    draft: SegmentDraft
    contents: Contents
    position: Lsn
    notes: Mapping[str, Mapping[str, Any]]
    partial: bool
    began: float
    putting: Future[Written] | None = None


class Flusher:
    """Writes what `frames` holds. After a passing fault call again: it goes on with the same segment."""

    def __init__(
        self,
        store: Store,
        writer: SegmentWriter,
        frames: Frames,
        map_: RouteMap,
        numbers: Numbering,
        checkpoint: Checkpoint,
        end: LogEnd,
        in_vault: Lsn,
        standing: Standing,
    ) -> None:
        self.checkpoint = checkpoint
        self.standing = standing
        self.more_notes: Callable[[], Mapping[str, Mapping[str, Any]]] = dict
        """What else is noted with every checkpoint."""
        self.in_vault = in_vault
        """Up to where the vault's log goes."""
        self._store = store
        self._writer = writer
        self._frames = frames
        self._map = map_
        self._numbers = numbers
        self._end = end
        self._underway: _Underway | None = None
        self._landed: list[Flushed] = []
        self._sequences: dict[str, int] = {}
        self._thread = ThreadPoolExecutor(1, "outlast flush")

    @property
    def waiting(self) -> bool:
        """Whether a segment is not in the vault yet: on its way there, or it could not be put."""
        return self._underway is not None

    @property
    def busy(self) -> bool:
        """Whether one is on its way just now: asking whether it landed would be waiting."""
        one = self._underway
        return one is not None and one.putting is not None and not one.putting.done()

    def begin(
        self, position: Lsn, as_of: datetime, sequences: Mapping[str, int] | None = None, *, partial: bool = False
    ) -> None:
        """Send a segment on its way, when the one before has landed. Everything up to `position` was routed; where
        `partial`, that and a part of what follows.

        Raises TransientError and VaultError as the store does; the same call can be repeated then.
        """
        self.land()
        draft, contents = self._drafted(position, as_of, sequences or {})
        notes: Mapping[str, Mapping[str, Any]] = {}
        if partial:
            self._map.spill()
        else:
            notes = self.more_notes()
            self._map.freeze()
        self._underway = _Underway(draft, contents, position, notes, partial, time.monotonic())
        self._send(self._underway)

    def land(self) -> None:
        """Wait for what is on its way, put what could not be put again, and make it count.

        Raises as `begin`.
        """
        one = self._underway
        if one is None:
            return
        if one.putting is None:
            self._send(one)
            assert one.putting is not None
        try:
            written = one.putting.result()
        finally:
            one.putting = None
        self._end, self.in_vault = written.end, one.draft.position
        self._sequences.update(one.draft.details.sequences)
        self._underway = None
        self._landed.append(
            Flushed(
                self._end.segment,
                self.in_vault,
                sum(summary.last for summary in one.contents.transactions),
                one.contents.changes,
                len(one.contents.writers),
                written.size_bytes,
                time.monotonic() - one.began,
                one.partial,
            )
        )
        if not one.partial:
            self._count(one.position, one.notes)

    def take(self) -> list[Flushed]:
        """The segments that have landed since this was last asked."""
        landed, self._landed = self._landed, []
        return landed

    def close(self) -> None:
        """Let nothing be on its way any more, and forget what did not arrive: it was never confirmed."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._underway = None

    def settle(self, position: Lsn) -> None:
        """Nothing waits: what was routed counts on this host, up to `position`, of which the vault has everything that
        matters."""
        self._count(position, self.more_notes())

    def _send(self, one: _Underway) -> None:
        one.putting = self._thread.submit(self._writer.write, one.draft, self._end)

    def _count(self, position: Lsn, notes: Mapping[str, Mapping[str, Any]]) -> None:
        self.checkpoint = replace(
            self.checkpoint, position=position, segment=self._end.segment, digest=self._end.digest or ""
        )
        self._numbers.save()
        self._map.commit({NOTE: self.checkpoint.to_json(), **notes})

    def _drafted(self, position: Lsn, as_of: datetime, sequences: Mapping[str, int]) -> tuple[SegmentDraft, Contents]:
        frames: dict[str, tuple[str, bytes | bytearray]] = {}
        tenants: list[tuple[str, str, str | None]] = []
        nameless: set[int] = set()
        for number, writer in self._frames.contents.writers.items():
            tenant = self._numbers.with_key(number, self._store, self.standing.erased, self.standing.recipients)
            assert tenant.recipient is not None
            frames[tenant.prefix] = (tenant.recipient, writer.data)
            if self.standing.recipients(tenant.prefix) is None:
                nameless.add(number)  # by any run: and the segment that named it first may be swept before this one
        for number in sorted(self._numbers.take_named() | nameless):  # nothing can fail from here on
            one = self._numbers.of(number)
            if one.recipient is not None and number != RESERVED_MAX:
                tenants.append((one.prefix, one.tenant.key, one.tenant.label))
        contents = self._frames.take()
        changed = {name: value for name, value in sequences.items() if self._sequences.get(name) != value}
        checkpoint = self.checkpoint
        draft = SegmentDraft(
            epoch=checkpoint.epoch,
            slot=checkpoint.slot,
            system=checkpoint.system,
            timeline=checkpoint.timeline,
            base_run=checkpoint.base_run,
            start=self.in_vault,
            position=max(position, self.in_vault),
            as_of=as_of,
            frames=frames,
            details=SegmentDetails(
                transactions=tuple(contents.transactions),
                tenants=tuple(tenants),
                schema=tuple(contents.schema),
                gaps=tuple(contents.gaps),
                partial=tuple(contents.partial),
                sequences=changed,
                alarms=tuple(contents.alarms),
                whole=tuple(contents.whole),
            ),
            mark=self.standing.mark,
        )
        return draft, contents
