"""How much one sender may send: a token bucket each, in memory. Pure but for the clock that it is given."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable


class Rates:
    """`allow(name)` is true `a_second` times a second, and for up to `burst` at once after a pause.

    Only the `names_max` latest senders are remembered: a name that comes back later begins with a full bucket.
    """

    def __init__(
        self, a_second: float, burst: float, *, names_max: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._a_second = a_second
        self._burst = burst
        self._names_max = names_max
        self._clock = clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def give_back(self, name: str, amount: float = 1.0) -> None:
        """What was allowed is not to count: a login that was right."""
        if name in self._buckets:
            level, at = self._buckets[name]
            self._buckets[name] = (min(self._burst, level + amount), at)

    def allow(self, name: str, amount: float = 1.0) -> bool:
        now = self._clock()
        level, at = self._buckets.pop(name, (self._burst, now))
        level = min(self._burst, level + (now - at) * self._a_second)
        allowed = level >= amount
        self._buckets[name] = (level - amount if allowed else level, now)
        if len(self._buckets) > self._names_max:
            self._buckets.popitem(last=False)
        return allowed
