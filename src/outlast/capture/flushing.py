"""A flush: what was routed becomes a segment in the vault, then counts on this host, then is confirmed to the slot.

In that order and never otherwise. What interrupts it between two steps costs nothing but work: the server sends again
what was not confirmed, the vault's log says what it has, and the map is as of its own checkpoint. A transaction that
memory cannot hold is written in parts; the map's share of it waits aside until the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from outlast.capture.checkpoint import NOTE, Checkpoint
from outlast.capture.frames import Contents, Frames
from outlast.capture.numbering import Numbering
from outlast.capture.route_ids import RESERVED_MAX
from outlast.capture.route_map import RouteMap
from outlast.core.moment import Lsn
from outlast.vault.log import LogEnd, SegmentDraft, SegmentWriter
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


class Flusher:
    """Writes what `frames` holds. After a passing fault call `flush` again: it goes on with the same segment."""

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
        self._draft: tuple[SegmentDraft, Contents] | None = None
        self._sequences: dict[str, int] = {}

    @property
    def waiting(self) -> bool:
        """Whether a segment could not be put, and is waiting to be."""
        return self._draft is not None

    def flush(
        self, position: Lsn, as_of: datetime, sequences: Mapping[str, int] | None = None, *, partial: bool = False
    ) -> Flushed:
        """Put a segment. Everything up to `position` was routed; where `partial`, that and a part of what follows.

        A segment that could not be put before is put first, as it was.

        Raises TransientError and VaultError as the store does; nothing counts then, and the same call can be repeated.
        """
        began = time.monotonic()
        if self._draft is not None:
            self._put(self._draft)
        self._draft = self._drafted(position, as_of, sequences or {})
        contents, size_bytes = self._put(self._draft)
        if partial:
            self._map.spill()
        else:
            self.settle(position)
        return Flushed(
            self._end.segment,
            self.in_vault,
            sum(summary.last for summary in contents.transactions),
            contents.changes,
            len(contents.writers),
            size_bytes,
            time.monotonic() - began,
            partial,
        )

    def _put(self, drafted: tuple[SegmentDraft, Contents]) -> tuple[Contents, int]:
        draft, contents = drafted
        written = self._writer.write(draft, self._end)
        self._draft = None
        self._end = written.end
        self.in_vault = draft.position
        self._sequences.update(draft.details.sequences)
        return contents, written.size_bytes

    def settle(self, position: Lsn) -> None:
        """Make what was routed count on this host, up to `position`, of which the vault has everything that matters."""
        self.checkpoint = replace(
            self.checkpoint, position=position, segment=self._end.segment, digest=self._end.digest or ""
        )
        self._numbers.save()
        self._map.commit({NOTE: self.checkpoint.to_json(), **self.more_notes()})

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
            ),
            mark=self.standing.mark,
        )
        return draft, contents
