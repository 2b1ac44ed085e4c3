"""The circuit breaker: it opens after failures in a row, and closes only after it went well for a while."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from outlast.relay.breaker import FAILURES_TO_OPEN, PAUSE_MAX_S, SUCCESSES_TO_CLOSE, Breaker, Override, State


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(FAILURES_TO_OPEN):
        breaker = breaker.failed(now, "no answer")
    return breaker


def test_single_failures_open_nothing() -> None:
    """A failure between successes is one event's, and not the vendor's."""
    breaker = Breaker()
    for _ in range(10):
        breaker = breaker.failed(1.0, "x").failed(1.0, "x").succeeded(1.0)
    assert breaker.state is State.CLOSED


def test_failures_in_a_row_open_it() -> None:
    """From then on nothing is sent, and it is asked again after a pause."""
    breaker = opened()
    assert breaker.state is State.OPEN
    assert not breaker.may_send(None, 0)
    assert breaker.stands_in(None)
    assert breaker.probe_at > 100.0


def test_it_closes_with_hysteresis() -> None:
    """One good answer lets one event at a time through; one bad one opens it again, for longer."""
    half = opened().succeeded(110.0)
    assert half.state is State.HALF_OPEN
    assert half.may_send(None, 0)
    assert not half.may_send(None, 1)
    again = half.failed(111.0, "x")
    assert again.state is State.OPEN
    assert again.pause_s > opened().pause_s
    closed = half
    for _ in range(SUCCESSES_TO_CLOSE - 1):
        closed = closed.succeeded(112.0)
    assert closed.state is State.CLOSED


def test_a_person_wins_over_it() -> None:
    """Standing in although it answers, or using it although it does not."""
    assert Breaker().stands_in(Override.STAND_IN)
    assert not Breaker().may_send(Override.STAND_IN, 0)
    assert opened().may_send(Override.TRUST, 5)
    assert not opened().stands_in(Override.TRUST)


@given(st.lists(st.booleans(), max_size=60))
def test_any_history(answers: list[bool]) -> None:
    """Whatever happens: it is closed only after as many successes in a row as that takes, and is always asked again."""
    breaker, was_open, good = Breaker(), False, 0
    for number, answered in enumerate(answers):
        now = float(number)
        breaker = breaker.succeeded(now) if answered else breaker.failed(now, "x")
        good = good + 1 if answered else 0
        if breaker.state is State.CLOSED and was_open:
            assert good >= SUCCESSES_TO_CLOSE
        was_open = breaker.state is not State.CLOSED
        if breaker.state is State.OPEN:
            assert now < breaker.probe_at <= now + PAUSE_MAX_S
