"""When a word is due, who is told, and what may not be published."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.errors import Refused
from outlast.incident.cadence import Nudge, Promise, Stage, Word, check_next, dues, late, next_change, nudges
from outlast.incident.incident import Role, Severity, Status
from outlast.incident.timeline import Kind
from tests.unit.incident.stories import START, Story, at

PROMISE = Promise()


def told(story: Story, minutes: float) -> list[tuple[Role, Stage, Word]]:
    """Who is told what at that minute; what is told is written into the story, as the caller would."""
    found = nudges(story.incident, PROMISE, at(minutes))
    for nudge in found:
        story.add(minutes, Kind.NUDGED, nudge=nudge.key)
    return [(nudge.role, nudge.stage, nudge.due.word) for nudge in found]


def test_the_first_word_is_due_within_five_minutes_and_the_scope_within_ten() -> None:
    """Both count from the opening, and the earlier one comes first."""
    first, scope = dues(Story().incident, PROMISE)
    assert (first.word, first.at) == (Word.FIRST, at(5))
    assert (scope.word, scope.at) == (Word.SCOPE, at(10))


def test_a_communications_lead_who_does_nothing_is_reminded_then_paged_and_then_the_commander_is() -> None:
    """Each exactly once, in that order, for the first word and for the scope."""
    story = Story()
    assert told(story, 0) == [(Role.COMMUNICATIONS, Stage.REMIND, Word.FIRST)]
    assert told(story, 4.9) == []
    assert told(story, 5) == [
        (Role.COMMUNICATIONS, Stage.PAGE, Word.FIRST),
        (Role.COMMUNICATIONS, Stage.REMIND, Word.SCOPE),
    ]
    assert told(story, 9.9) == []
    assert told(story, 10) == [
        (Role.COMMANDER, Stage.ESCALATE, Word.FIRST),
        (Role.COMMUNICATIONS, Stage.PAGE, Word.SCOPE),
    ]
    assert told(story, 15) == [(Role.COMMANDER, Stage.ESCALATE, Word.SCOPE)]
    assert told(story, 60) == []


def test_each_update_starts_the_clock_of_the_next_one() -> None:
    """What was promised in the newest update counts, and a word that came is not asked for again."""
    story = Story().update(3, next_in=20, scope=True)
    assert told(story, 17.9) == []
    assert told(story, 18) == [(Role.COMMUNICATIONS, Stage.REMIND, Word.NEXT)]
    story.update(19, next_in=15)
    assert told(story, 23) == []
    assert told(story, 34) == [(Role.COMMUNICATIONS, Stage.PAGE, Word.NEXT)]
    assert told(story, 39) == [(Role.COMMANDER, Stage.ESCALATE, Word.NEXT)]


def test_who_comes_to_it_late_is_paged_at_once_and_not_reminded_first() -> None:
    """After an outage of ours the latest stages count, each once."""
    assert told(Story().update(1, next_in=20, scope=True), 120) == [
        (Role.COMMUNICATIONS, Stage.PAGE, Word.NEXT),
        (Role.COMMANDER, Stage.ESCALATE, Word.NEXT),
    ]


def test_the_page_says_that_a_word_is_late_from_the_moment_it_is() -> None:
    """Not before, and not once it came."""
    story = Story().update(1, next_in=20, scope=True)
    assert late(story.incident, PROMISE, at(20.9)) is None
    due = late(story.incident, PROMISE, at(21))
    assert due is not None
    assert due.word is Word.NEXT
    assert late(story.update(22).incident, PROMISE, at(22)) is None


@pytest.mark.parametrize("status", [Status.RESOLVED])
def test_nothing_is_due_once_it_is_resolved(status: Status) -> None:
    """Nobody is paged about what is over."""
    story = Story().update(1, next_in=None, status=status.value)
    assert dues(story.incident, PROMISE) == ()
    assert nudges(story.incident, PROMISE, at(500)) == ()


def test_planned_work_is_announced_and_has_no_cadence() -> None:
    """Its times are told beforehand."""
    assert dues(Story(severity="maintenance").incident, PROMISE) == ()


@pytest.mark.parametrize(("severity", "minutes"), [("critical", 20), ("major", 30), ("minor", 60)])
def test_an_update_without_the_time_of_the_next_one_is_refused(severity: str, minutes: int) -> None:
    """The refusal says what to add; so is one in the past, and one later than the severity promises."""
    incident = Story(severity=severity).incident
    with pytest.raises(Refused, match="does not say when the next one comes") as refused:
        check_next(incident, PROMISE, Status.IDENTIFIED, None, START)
    assert f"--next {minutes}m" in str(refused.value.hint)
    with pytest.raises(Refused, match="in the past"):
        check_next(incident, PROMISE, Status.IDENTIFIED, START, START)
    with pytest.raises(Refused, match=f"later than {minutes} minutes"):
        check_next(incident, PROMISE, Status.IDENTIFIED, at(minutes + 1), START)
    check_next(incident, PROMISE, Status.IDENTIFIED, at(minutes), START)
    check_next(incident, PROMISE, Status.RESOLVED, None, START)


@given(
    updates=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 60), st.booleans()), max_size=6),
    step=st.sampled_from([0.5, 1.0, 3.0, 7.0]),
    severity=st.sampled_from([Severity.CRITICAL, Severity.MAJOR, Severity.MINOR]),
)
def test_however_often_the_clock_is_looked_at_each_nudge_happens_once(
    updates: list[tuple[int, int, bool]], step: float, severity: Severity
) -> None:
    """And nobody is escalated past whom the one before was not paged first, or at the same look."""
    story = Story(severity=severity.value)
    seen: list[Nudge] = []
    coming = sorted(updates)
    minute = 0.0
    while minute < 120:
        while coming and coming[0][0] <= minute:
            _, next_in, scope = coming.pop(0)
            story.update(minute, next_in=next_in, scope=scope)
        found = nudges(story.incident, PROMISE, at(minute))
        for nudge in found:
            story.add(minute, Kind.NUDGED, nudge=nudge.key)
        seen += found
        minute += step
    keys = [nudge.key for nudge in seen]
    assert len(keys) == len(set(keys))
    paged = {nudge.due for nudge in seen if nudge.stage is Stage.PAGE}
    assert {nudge.due for nudge in seen if nudge.stage is Stage.ESCALATE} <= paged


def test_the_time_of_the_next_change_is_known_so_that_nobody_polls() -> None:
    """Between now and then `nudges` gives nothing new."""
    story = Story().update(1, next_in=20, scope=True)
    assert next_change(story.incident, PROMISE, at(2)) == at(16)
    assert next_change(story.incident, PROMISE, at(16)) == at(21)
    assert next_change(story.incident, PROMISE, at(21)) == at(26)
    assert next_change(story.incident, PROMISE, at(26)) is None
    assert PROMISE.remind_before == timedelta(minutes=5)
