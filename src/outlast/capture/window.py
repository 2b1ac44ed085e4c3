"""Sums over a sliding window of the stream's own time, by key. Pure: time comes with what is added.

Commit times are not monotonic, and a server's clock may jump: `StreamTime` makes one time of them that never goes back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")

JUMP_S = 60.0
"""Commit times of one stream differ by less than this from the newest; more is a clock that was set back."""


class StreamTime:
    """Seconds that never decrease, out of commit times that do.

    A clock that is set back would otherwise keep the window where it was for as long as the jump was wide, and all of
    that time's deletions would count as one window's. A jump forward empties it: what follows fills it again.
    """

    def __init__(self) -> None:
        self._newest: float | None = None
        self._offset = 0.0

    @property
    def now(self) -> float:
        return 0.0 if self._newest is None else self._newest + self._offset

    def at(self, time: float) -> float:
        """The stream's time once a transaction of this commit time (seconds since 1970) was seen."""
        if self._newest is None:
            self._newest = time
        elif time < self._newest - JUMP_S:
            self._offset += self._newest - time
            self._newest = time
        else:
            self._newest = max(self._newest, time)
        return self.now

    def pass_by(self, elapsed_s: float) -> None:
        """Time goes on by our own clock while the stream says nothing."""
        if self._newest is not None:
            self._newest += elapsed_s


class Window(Generic[K]):
    """By key: how much was added within the last `span_s`, to the second. What falls out is forgotten."""

    def __init__(self, span_s: float) -> None:
        self.span_s = span_s
        self._totals: dict[K, int] = {}
        self._buckets: deque[tuple[int, dict[K, int]]] = deque()

    def __len__(self) -> int:
        return len(self._totals)

    def __iter__(self) -> Iterator[K]:
        return iter(self._totals)

    def __getitem__(self, key: K) -> int:
        return self._totals.get(key, 0)

    def add(self, key: K, amount: int, now: float) -> int:
        """Count `amount` at `now`, which never decreases, and give the second under which it can be taken back."""
        self.expire(now)
        second = int(now)
        if not self._buckets or self._buckets[-1][0] != second:
            self._buckets.append((second, {}))
        bucket = self._buckets[-1][1]
        bucket[key] = bucket.get(key, 0) + amount
        self._totals[key] = self._totals.get(key, 0) + amount
        return second

    def take_back(self, key: K, amount: int, second: int) -> None:
        """Undo an `add`, if it has not fallen out of the window by itself."""
        for start, bucket in reversed(self._buckets):
            if start == second and key in bucket:
                bucket[key] -= amount
                self._lower(key, amount)
                return
            if start < second:
                return

    def expire(self, now: float) -> None:
        while self._buckets and self._buckets[0][0] <= now - self.span_s:
            _, bucket = self._buckets.popleft()
            for key, amount in bucket.items():
                self._lower(key, amount)

    def clear(self) -> None:
        self._totals.clear()
        self._buckets.clear()

    def _lower(self, key: K, amount: int) -> None:
        left = self._totals.get(key, 0) - amount
        if left > 0:
            self._totals[key] = left
        else:
            self._totals.pop(key, None)
