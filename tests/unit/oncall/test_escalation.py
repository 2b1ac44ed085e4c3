"""What an escalation is to do, from its state and the time: each decision for itself."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.oncall.escalation import (
    LEASE,
    TRIES_MAX,
    CloseAlert,
    Escalation,
    Expand,
    Notice,
    NoticeState,
    PlannedStep,
    Send,
    Shout,
    Skip,
    State,
    StepState,
    after_failure,
    brought_forward,
    due,
    planned,
    wakes_at,
)
from outlast.oncall.policy import Policy, Step
from outlast.oncall.schedule import Responder

NOW = datetime(2026, 3, 2, 15, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TWO_STEPS = Policy(
    "web",
    (
        Step(timedelta(), "main", Responder("user", "ann")),
        Step(5 * MINUTE, "main", Responder("user", "bob")),
    ),
    repeats=1,
    round_length=15 * MINUTE,
)


def escalation(policy: Policy = TWO_STEPS, **more: Any) -> Escalation:
    return replace(Escalation("a1", State.ESCALATING, None, planned(policy, NOW), ()), **more)


def done(one: Escalation, *numbers: int) -> Escalation:
    steps = tuple(
        replace(step, state=StepState.DONE, people=1) if number in numbers else step
        for number, step in enumerate(one.steps)
    )
    return replace(one, steps=steps)


def notice(number: int, state: NoticeState, **more: Any) -> Notice:
    values: dict[str, Any] = {"person": "ann", "method": "email", "address": "a", "due": NOW, "lease": None}
    return Notice(id=number, round=0, number=0, state=state, **values | more)


def test_rounds_are_planned_at_once() -> None:
    """Each step of each round at its own time."""
    assert [(one.round, (one.due - NOW) // MINUTE) for one in planned(TWO_STEPS, NOW)] == [
        (0, 0),
        (0, 5),
        (1, 15),
        (1, 20),
    ]


def test_what_is_due_is_expanded_and_no_more() -> None:
    """The first step now, the second not before its time."""
    assert due(escalation(), NOW) == [Expand(escalation().steps[0])]
    reached = done(escalation(notices=(notice(1, NoticeState.SENT),)), 0)
    assert due(reached, NOW + 4 * MINUTE) == []
    assert wakes_at(reached, NOW) == NOW + 5 * MINUTE
    assert due(reached, NOW + 5 * MINUTE) == [Expand(reached.steps[1])]


def test_an_acknowledgement_skips_what_waits_for_none() -> None:
    """Unless the condition is another, or a new round does not count it."""
    acknowledged = done(escalation(state=State.ACKNOWLEDGED, acknowledged_at=NOW), 0)
    assert due(acknowledged, NOW + 5 * MINUTE) == [Skip(acknowledged.steps[1])]
    unless_closed = replace(TWO_STEPS, steps=(TWO_STEPS.steps[0], replace(TWO_STEPS.steps[1], unacknowledged=False)))
    other = done(escalation(unless_closed, state=State.ACKNOWLEDGED, acknowledged_at=NOW), 0)
    assert due(other, NOW + 5 * MINUTE) == [Expand(other.steps[1])]
    again = done(escalation(replace(TWO_STEPS, reset=True), state=State.ACKNOWLEDGED, acknowledged_at=NOW), 0)
    assert due(again, NOW + 15 * MINUTE) == [Skip(again.steps[1]), Expand(again.steps[2])]


def test_nothing_is_due_once_it_is_closed() -> None:
    """Whatever was."""
    closed = escalation(state=State.CLOSED, notices=(notice(1, NoticeState.WAITING),))
    assert due(closed, NOW + timedelta(days=1)) == []
    assert wakes_at(closed, NOW) is None


def test_where_nobody_was_reached_the_next_step_does_not_wait() -> None:
    """Then those of last resort are told, and again until they have it."""
    failed = done(escalation(notices=(notice(1, NoticeState.FAILED, tries=TRIES_MAX),)), 0)
    assert due(failed, NOW) == [Expand(failed.steps[1], early=True)]
    retried = done(escalation(notices=(notice(1, NoticeState.WAITING, tries=1, due=NOW + MINUTE),)), 0)
    assert due(retried, NOW) == [Expand(retried.steps[1], early=True)]  # a second try is not waited for
    nobody = done(escalation(), 0, 1)
    assert due(nobody, NOW) == [Shout()]
    assert due(replace(nobody, shouted=True), NOW) == []
    assert due(replace(nobody, shout_at=NOW + MINUTE), NOW) == []
    assert due(replace(nobody, shout_at=NOW), NOW) == [Shout()]


def test_without_a_policy_it_is_shouted_at_once_and_a_first_step_later_is_waited_for() -> None:
    """Nobody is shouted at before the policy's own time has come."""
    assert due(Escalation("a1", State.ESCALATING, None, (), ()), NOW) == [Shout()]
    later = Policy("later", (replace(TWO_STEPS.steps[1]),))
    assert due(escalation(later), NOW) == []


def test_a_dead_process_s_notice_is_sent_again_as_doubtful() -> None:
    """Once its lease is over, and not before."""
    left = notice(1, NoticeState.SENDING, lease=NOW + LEASE, tries=1)
    one = done(escalation(notices=(left,)), 0)
    assert due(one, NOW) == []
    assert due(one, NOW + LEASE) == [Send(left, doubtful=True)]


def test_a_spare_contact_is_for_when_the_others_failed() -> None:
    """One at a time."""
    spares = (notice(2, NoticeState.SPARE), notice(3, NoticeState.SPARE))
    tried = done(escalation(notices=(notice(1, NoticeState.SENT), *spares)), 0)
    assert due(tried, NOW) == []
    failed = done(escalation(notices=(notice(1, NoticeState.FAILED), *spares)), 0)
    assert due(failed, NOW) == [Send(spares[0])]


def test_the_alert_is_closed_after_all_rounds() -> None:
    """Where the policy says so."""
    one = done(escalation(notices=(notice(1, NoticeState.SENT),), close_at=NOW + MINUTE), 0, 1, 2, 3)
    assert due(one, NOW) == []
    assert due(one, NOW + MINUTE) == [CloseAlert()]


@pytest.mark.parametrize(
    ("tries", "state", "after_s"), [(1, "waiting", 5), (2, "waiting", 20), (3, "waiting", 60), (4, "failed", 0)]
)
def test_a_failed_notice_is_tried_again_ever_later(tries: int, state: str, after_s: int) -> None:
    """And in the end given up."""
    assert after_failure(notice(1, NoticeState.SENDING, tries=tries), NOW) == (state, NOW + timedelta(seconds=after_s))


def test_the_same_person_s_next_contact_is_brought_forward() -> None:
    """Not another person's, and not one that was tried."""
    failed = notice(1, NoticeState.SENDING, tries=1)
    following = [
        notice(2, NoticeState.WAITING, person="bob"),
        notice(3, NoticeState.WAITING, due=NOW + 9 * MINUTE),
        notice(4, NoticeState.WAITING, due=NOW + 3 * MINUTE),
        notice(5, NoticeState.WAITING, due=NOW, tries=2),
    ]
    assert [one.id for one in brought_forward([failed, *following], failed)] == [4]


steps = st.builds(
    PlannedStep,
    st.integers(0, 1),
    st.integers(0, 3),
    st.integers(-30, 30).map(lambda minutes: NOW + minutes * MINUTE),
    st.sampled_from(TWO_STEPS.steps),
    st.none(),
    st.sampled_from(list(StepState)),
)
notices = st.builds(
    Notice,
    st.integers(1, 9),
    st.integers(0, 1),
    st.integers(0, 3),
    st.sampled_from(["ann", "bob"]),
    st.just("email"),
    st.just("a"),
    st.integers(-30, 30).map(lambda minutes: NOW + minutes * MINUTE),
    st.sampled_from(list(NoticeState)),
    st.integers(0, TRIES_MAX),
    st.just(NOW + LEASE),
)


@given(st.lists(steps, max_size=4), st.lists(notices, max_size=4), st.sampled_from(list(State)), st.booleans())
def test_nobody_sleeps_over_something_that_is_due(
    planned_steps: list[PlannedStep], told: list[Notice], state: State, shouted: bool
) -> None:
    """Whatever the state: what is due is due now, and what is not is woken for; an open alert that nobody can have
    reached is never left alone."""
    one = Escalation(
        "a1", state, NOW if state is State.ACKNOWLEDGED else None, tuple(planned_steps), tuple(told), shouted=shouted
    )
    actions, wake = due(one, NOW), wakes_at(one, NOW)
    if actions:
        assert wake == NOW
    later = wake or NOW + timedelta(days=1)
    assert due(one, later - timedelta(seconds=1)) == [] or later <= NOW + timedelta(seconds=1)
    hopeful = any(note.state in (NoticeState.SENT, NoticeState.SENDING, NoticeState.WAITING) for note in told)
    waiting = any(step.state is StepState.WAITING for step in planned_steps)
    if state is State.ESCALATING and not hopeful and not waiting and not shouted:
        assert actions
