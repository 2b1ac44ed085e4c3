"""Holding a restore back while the server has enough to do: bounded, so that no customer waits for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from outlast.core.errors import OutlastError
from outlast.sources.postgres.load import Load

_POLL_S = 1.0


@dataclass(slots=True)
class Throttle:
    """`hold` returns when the load is below the limits, or after `pause_max_s`. Several lanes may ask at once."""

    read: Callable[[], Load]
    lag_max_s: float | None = None
    active_max: int | None = None
    pause_max_s: float = 60.0
    say: Callable[[str], None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _lock: Lock = field(default_factory=Lock)

    def hold(self) -> None:
        if self.lag_max_s is None and self.active_max is None:
            return
        started = self.clock()
        told = False
        while (why := self._reason()) is not None and self.clock() - started < self.pause_max_s:
            if not told:
                self.say(f"waiting: {why}")
                told = True
            self.sleep(min(_POLL_S, self.pause_max_s))

    def _reason(self) -> str | None:
        try:
            with self._lock:
                load = self.read()
        except OutlastError:
            return None  # a server that does not answer is told where it is written to
        if self.lag_max_s is not None and load.lag_s is not None and load.lag_s > self.lag_max_s:
            return f"a standby is {load.lag_s:.0f} s behind"
        if self.active_max is not None and load.active > self.active_max:
            return f"{load.active} sessions are at work"
        return None
