"""How fast a vendor is asked: never more than our share, and never before it says, whatever way it says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import formatdate

import pytest

from outlast.sources.tools.client import Budget, Clock
from outlast.sources.tools.connector import Rate

RATE = Rate(per_minute=600, limit="limit", remaining="remaining", reset="reset")
NOW = 1_800_000_000.0


@dataclass
class Hands:
    """A clock that nobody waits for."""

    at: float = 100.0
    slept: list[float] = field(default_factory=list)

    def clock(self) -> Clock:
        return Clock(lambda: self.at, lambda: NOW + self.at - 100.0, self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.at += seconds


def test_a_share_of_what_is_allowed_is_taken_evenly() -> None:
    """Half of 600 a minute is one in 0.2 s; time that passed by itself is not waited for again."""
    hands = Hands()
    budget = Budget(RATE, None, 0.5, hands.clock())
    for _ in range(3):
        budget.await_turn()
    assert hands.slept == [0.2, 0.2]
    hands.at += 5
    budget.await_turn()
    assert hands.slept == [0.2, 0.2]


def test_what_is_configured_goes_before_the_share() -> None:
    """30 a minute are 30 a minute, whatever the vendor allows."""
    hands = Hands()
    budget = Budget(RATE, 30, 0.5, hands.clock())
    budget.await_turn()
    budget.await_turn()
    assert hands.slept == [2.0]


@pytest.mark.parametrize(("remaining", "waited"), [("301", 0.2), ("300", 0.2), ("299", 12.0), ("0", 12.0)])
def test_the_others_share_is_left_to_them(remaining: str, waited: float) -> None:
    """Where less is left than the people who use the tool are to have, nothing is asked until it is new."""
    hands = Hands()
    budget = Budget(RATE, None, 0.5, hands.clock())
    budget.await_turn()
    budget.heard({"limit": "600", "remaining": remaining, "reset": "12"})
    budget.await_turn()
    assert hands.slept == [waited]


@pytest.mark.parametrize(
    "reset", ["7", str(NOW + 7), formatdate(NOW + 7, usegmt=True), "2027-01-15T08:00:07Z"], ids=str
)
def test_every_way_to_say_until_when(reset: str) -> None:
    """Seconds, seconds since 1970, an HTTP date, an ISO time."""
    budget = Budget(RATE, None, 0.5, Hands().clock())
    assert budget.throttled({"Retry-After": reset}, 1.0) == pytest.approx(7.0)


def test_where_nothing_is_said_our_own_pause_is_made() -> None:
    """And nonsense is nothing."""
    budget = Budget(RATE, None, 0.5, Hands().clock())
    assert budget.throttled({}, 3.5) == 3.5
    assert budget.throttled({"Retry-After": "soon"}, 3.5) == 3.5
    budget.heard({"limit": "many", "remaining": "some", "reset": "later"})


def test_a_vendor_that_says_throttled_in_words_is_left_alone() -> None:
    """Opsgenie's state and period, on an answer that was still given."""
    hands = Hands()
    rate = Rate(per_minute=600, state=("X-RateLimit-State", "THROTTLED"), period="X-RateLimit-Period-In-Sec")
    budget = Budget(rate, None, 1.0, hands.clock())
    budget.await_turn()
    budget.heard({"X-RateLimit-State": "OK", "X-RateLimit-Period-In-Sec": "60"})
    budget.await_turn()
    budget.heard({"X-RateLimit-State": "THROTTLED", "X-RateLimit-Period-In-Sec": "9"})
    budget.await_turn()
    assert hands.slept == [0.1, 9.0]
