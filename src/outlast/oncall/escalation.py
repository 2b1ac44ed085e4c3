"""What an escalation is to do now: a pure decision from its state and the time. Nothing is sent or written here.

An escalation is a page, its steps (when whom to tell, on what condition) and its notices (one contact of one person
each). Every state that it can be in is one of these values, so a process that died is gone on with from its rows alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from outlast.oncall.policy import Policy, Step

TRIES_MAX = 4
_RETRY = (timedelta(seconds=5), timedelta(seconds=20), timedelta(seconds=60))
LEASE = timedelta(seconds=60)
"""How long a notice that is being sent belongs to the process that sends it. Longer than any service may take."""
SHOUT_AGAIN = timedelta(seconds=30)


class State(StrEnum):
    """Of a page."""

    ESCALATING = "escalating"
    ACKNOWLEDGED = "acknowledged"
    CLOSED = "closed"


class StepState(StrEnum):
    WAITING = "waiting"
    DONE = "done"  # its people's notices stand beside it, if it had any
    SKIPPED = "skipped"  # its condition did not hold


class NoticeState(StrEnum):
    WAITING = "waiting"
    SPARE = "spare"  # a contact that the person's rules do not name: for when all the others have failed
    SENDING = "sending"
    SENT = "sent"  # a service took it; whether a person has it only the person can say
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """A step of a round at its time. `fresh_since`: an acknowledgement from before that does not count."""

    round: int
    number: int
    due: datetime
    step: Step
    fresh_since: datetime | None = None
    state: StepState = StepState.WAITING
    people: int = 0  # how many it had told, once it is done


@dataclass(frozen=True, slots=True)
class Notice:
    id: int
    round: int
    number: int  # of its step
    person: str
    method: str
    address: str
    due: datetime
    state: NoticeState
    tries: int = 0
    lease: datetime | None = None


@dataclass(frozen=True, slots=True)
class Escalation:
    """Everything that is known of one page. `close_at`: when the alert is closed if nobody has closed it by then."""

    alert_id: str
    state: State
    acknowledged_at: datetime | None
    steps: tuple[PlannedStep, ...]
    notices: tuple[Notice, ...]
    close_at: datetime | None = None
    shout_at: datetime | None = None  # when shouting is due (again); None: nobody has to be shouted at
    shouted: bool = False


# What is to be done


@dataclass(frozen=True, slots=True)
class Expand:
    """Tell a step's people. `early`: before its time, because nobody before it could be reached."""

    step: PlannedStep
    early: bool = False


@dataclass(frozen=True, slots=True)
class Skip:
    step: PlannedStep


@dataclass(frozen=True, slots=True)
class Send:
    """Send a notice. `doubtful`: it may have been sent already, by a process that died."""

    notice: Notice
    doubtful: bool = False


@dataclass(frozen=True, slots=True)
class Shout:
    """Nobody could be reached: tell those of last resort."""


@dataclass(frozen=True, slots=True)
class CloseAlert:
    """All rounds are over, and the policy closes the alert."""


Action = Expand | Skip | Send | Shout | CloseAlert


def planned(policy: Policy, start: datetime, first_round: int = 0) -> tuple[PlannedStep, ...]:
    """All rounds of a policy that begins at `start`."""
    found: list[PlannedStep] = []
    for turn in range(policy.repeats + 1):
        begun = start + turn * policy.round_length
        found += [
            PlannedStep(first_round + turn, number, begun + step.after, step, begun if policy.reset and turn else None)
            for number, step in enumerate(policy.steps)
        ]
    return tuple(found)


def ends_at(policy: Policy, start: datetime) -> datetime | None:
    """When the alert is to be closed after all rounds; None where the policy does not."""
    return start + (policy.repeats + 1) * policy.round_length if policy.close else None


def due(escalation: Escalation, now: datetime) -> list[Action]:
    """What is to be done now, in order. Nothing twice: what was done is in the state."""
    if escalation.state is State.CLOSED:
        return []
    actions: list[Action] = [
        Expand(step) if holds(escalation, step) else Skip(step)
        for step in escalation.steps
        if step.state is StepState.WAITING and step.due <= now
    ]
    actions += _sending(escalation, now)
    if not any(_hopes(one) for one in actions):
        actions += _unreached(escalation, now)
    if escalation.close_at is not None and escalation.close_at <= now:
        actions.append(CloseAlert())
    return actions


def _hopes(action: Action) -> bool:
    """Whether it may reach somebody who was not tried yet."""
    return isinstance(action, Expand) or (isinstance(action, Send) and action.notice.tries == 0)


def holds(escalation: Escalation, step: PlannedStep) -> bool:
    """Whether a step's condition holds."""
    if escalation.state is State.CLOSED:
        return False
    if not step.step.unacknowledged or escalation.state is State.ESCALATING:
        return True
    at = escalation.acknowledged_at
    return step.fresh_since is not None and at is not None and at < step.fresh_since


def _sending(escalation: Escalation, now: datetime) -> Iterable[Send]:
    live = {(one.round, one.number, one.person) for one in escalation.notices if _hopeful(one)}
    spared: set[tuple[int, int, str]] = set()
    for one in escalation.notices:
        whose = (one.round, one.number, one.person)
        if one.state is NoticeState.WAITING and one.due <= now:
            yield Send(one)
        elif one.state is NoticeState.SENDING and one.lease is not None and one.lease <= now:
            yield Send(one, doubtful=True)
        elif one.state is NoticeState.SPARE and whose not in live | spared:
            spared.add(whose)
            yield Send(one)


def _hopeful(notice: Notice) -> bool:
    """Whether a notice has reached somebody or may, as far as is known. One that failed is tried again, but nobody
    waits for that: a service that is away stays away for longer than an alert may wait."""
    return notice.state in (NoticeState.SENT, NoticeState.SENDING) or (
        notice.state is NoticeState.WAITING and notice.tries == 0
    )


def _unreached(escalation: Escalation, now: datetime) -> Iterable[Action]:
    """Where nobody has been reached, and nobody is being tried: the next step at once, and after the last a shout."""
    if escalation.state is not State.ESCALATING or any(_hopeful(one) for one in escalation.notices):
        return
    waiting = [one for one in escalation.steps if one.state is StepState.WAITING]
    this_round = [one for one in waiting if one.round == min(other.round for other in waiting)]
    begun = any(one.state is StepState.DONE for one in escalation.steps)
    if this_round and begun and this_round[0].round == _round_of(escalation):
        yield Expand(min(this_round, key=lambda one: one.due), early=True)
        return
    first = escalation.shout_at is None and not escalation.shouted and (begun or not waiting)
    if first or (escalation.shout_at is not None and escalation.shout_at <= now):
        yield Shout()


def _round_of(escalation: Escalation) -> int:
    return max((one.round for one in escalation.steps if one.state is StepState.DONE), default=0)


def wakes_at(escalation: Escalation, now: datetime, under_way: frozenset[int] = frozenset()) -> datetime | None:
    """When something is due next; None: not before something happens. Notices that are under way in this process are
    not waited for: their end wakes it."""
    if escalation.state is State.CLOSED:
        return None
    if any(not (isinstance(one, Send) and one.notice.id in under_way) for one in due(escalation, now)):
        return now
    left = [one for one in escalation.notices if one.id not in under_way]
    times = [one.due for one in escalation.steps if one.state is StepState.WAITING]
    times += [one.due for one in left if one.state is NoticeState.WAITING]
    times += [one.lease for one in left if one.state is NoticeState.SENDING and one.lease]
    times += [one for one in (escalation.close_at, escalation.shout_at) if one]
    times += [now + LEASE] if under_way & {one.id for one in escalation.notices} else []
    return min(times, default=None)


def after_failure(notice: Notice, now: datetime) -> tuple[NoticeState, datetime]:
    """What becomes of a notice that no service took: another try, at that time, or none."""
    if notice.tries >= TRIES_MAX:
        return NoticeState.FAILED, now
    return NoticeState.WAITING, now + _RETRY[min(notice.tries, len(_RETRY)) - 1]


def brought_forward(notices: Sequence[Notice], failed: Notice) -> list[Notice]:
    """The same person's next contact, whose turn comes at once when one has failed."""
    waiting = [
        one
        for one in notices
        if (one.round, one.number, one.person) == (failed.round, failed.number, failed.person)
        and one.state is NoticeState.WAITING
        and one.id != failed.id
        and one.tries == 0
    ]
    return sorted(waiting, key=lambda one: (one.due, one.id))[:1]
