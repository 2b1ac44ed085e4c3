"""Whether an upstream is to be believed: a circuit breaker with hysteresis. Pure; forwarding.py feeds it.

Closed: it is used. Open: nothing is sent but a probe, and alerts are paged for here at once, without waiting for a
timeout each. Half open: a probe was answered, and one event at a time is let through, until enough went well in a row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

FAILURES_TO_OPEN = 3
SUCCESSES_TO_CLOSE = 3
PAUSE_FIRST_S = 1.0
PAUSE_MAX_S = 10.0


class State(StrEnum):
    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Override(StrEnum):
    """A person's decision, which counts more than what the breaker saw."""

    STAND_IN = "stand-in"  # the vendor is not to be believed: page here, send nothing
    TRUST = "trust"  # the vendor is to be used whatever happens


@dataclass(frozen=True, slots=True)
class Breaker:
    state: State = State.CLOSED
    failures: int = 0  # in a row
    successes: int = 0  # in a row, since it is half open
    pause_s: float = PAUSE_FIRST_S
    since: float = 0.0  # when it came into this state
    probe_at: float = 0.0  # while open: when it is to be asked again
    why: str = ""

    def failed(self, now: float, why: str) -> Breaker:
        """After a request that was not answered as it should be."""
        failures = self.failures + 1
        if self.state is State.CLOSED and failures < FAILURES_TO_OPEN:
            return replace(self, failures=failures, why=why)
        again = self.state is not State.CLOSED
        pause = min(self.pause_s * 2, PAUSE_MAX_S) if again else PAUSE_FIRST_S
        since = self.since if self.state is State.OPEN else now
        return Breaker(State.OPEN, failures, 0, pause, since, now + pause, why)

    def succeeded(self, now: float) -> Breaker:
        """After a request that was answered."""
        if self.state is State.CLOSED:
            return self if not self.failures else replace(self, failures=0, why="")
        successes = self.successes + 1
        if successes >= SUCCESSES_TO_CLOSE:
            return Breaker(since=now)
        half_since = self.since if self.state is State.HALF_OPEN else now
        return replace(self, state=State.HALF_OPEN, failures=0, successes=successes, since=half_since)

    def may_send(self, override: Override | None, in_flight: int) -> bool:
        """Whether an event may be sent now, with so many under way."""
        if override is not None:
            return override is Override.TRUST
        if self.state is State.HALF_OPEN:
            return in_flight == 0
        return self.state is State.CLOSED

    def stands_in(self, override: Override | None) -> bool:
        """Whether alerts are to be paged for at once, the vendor not being asked."""
        if override is not None:
            return override is Override.STAND_IN
        return self.state is State.OPEN
