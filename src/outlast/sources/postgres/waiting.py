"""Changes that wait for their transaction to end: in memory while they are few, else in the spool."""

from __future__ import annotations

import marshal
from collections.abc import Iterator
from dataclasses import dataclass

from outlast.core.change import Change
from outlast.sources.postgres.transaction_spool import Extent, TransactionSpool

PART_BYTES = 1024 * 1024
CHANGE_OVERHEAD_BYTES = 200
"""What Python needs for a change's tuple and its two strings, beside the row's bytes."""

_MARSHAL_VERSION = 2  # later ones look every object up for a second use, which rows never have


@dataclass(slots=True)
class _Part:
    """Some changes in order: at hand, or in the spool; of those only the first `count` still hold."""

    count: int
    size_bytes: int
    changes: list[Change] | None
    ours: bool = False  # a list that nobody else holds
    extent: Extent | None = None


class WaitingChanges:
    """One transaction's changes, in order. What was put in first comes out first; the end can be cut off."""

    __slots__ = ("_parts", "_spool", "count", "memory_bytes")

    def __init__(self, spool: TransactionSpool) -> None:
        self.count = 0
        self.memory_bytes = 0
        self._spool = spool
        self._parts: list[_Part] = []

    def append(self, changes: list[Change], size_bytes: int) -> None:
        """Keep them. `changes` itself is never written to."""
        size = size_bytes + CHANGE_OVERHEAD_BYTES * len(changes)
        self.count += len(changes)
        self.memory_bytes += size
        last = self._parts[-1] if self._parts else None
        if last is None or last.changes is None or last.size_bytes >= PART_BYTES:
            self._parts.append(_Part(len(changes), size, changes))
            return
        if not last.ours:
            last.changes = list(last.changes)
            last.ours = True
        last.changes += changes
        last.count += len(changes)
        last.size_bytes += size

    def cut_off(self, count: int) -> None:
        """Forget all but the first `count` changes."""
        while self._parts and self.count > count:
            last = self._parts[-1]
            surplus = self.count - count
            if surplus >= last.count:
                self._parts.pop()
                self.count -= last.count
                self._forget(last)
                continue
            last.count -= surplus
            if last.changes is not None:
                last.changes = last.changes[: last.count]
                last.ours = True
            self.count = count

    def spill(self) -> None:
        """Everything into the spool."""
        for part in self._parts:
            if part.changes is not None:
                part.extent = self._spool.put(marshal.dumps(part.changes, _MARSHAL_VERSION))
                part.changes = None
        self.memory_bytes = 0

    def drain(self) -> Iterator[list[Change]]:
        """All of them in order, once, by lists. What was given out is given up."""
        parts, self._parts = self._parts, []
        parts.reverse()
        try:
            while parts:
                part = parts.pop()
                changes = part.changes
                if changes is None:
                    assert part.extent is not None
                    changes = marshal.loads(self._spool.get(part.extent))  # noqa: S302 - sealed under our own key
                    del changes[part.count :]
                self._forget(part)
                if changes:
                    yield changes
        finally:
            for part in parts:
                self._forget(part)

    def discard(self) -> None:
        for part in self._parts:
            self._forget(part)
        self._parts.clear()
        self.count = 0

    def _forget(self, part: _Part) -> None:
        if part.extent is not None:
            self._spool.free(part.extent)
        else:
            self.memory_bytes -= part.size_bytes
