"""The tripwire's rules, by an injected clock and facts made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from outlast.capture.rules import Rule, Rules
from outlast.capture.tripwire import Alarm, Fact, Tripwire
from outlast.core.effect import Operation
from outlast.core.moment import Lsn
from outlast.core.tenant import TenantKey

START = datetime(2022, 4, 5, 7, 38, tzinfo=UTC)
ROOT, CHILD, LOG, TOMB = "public.accounts", "public.users", "public.sessions", "public.account_closures"
RULES = Rules(root_table=ROOT, owned=frozenset({ROOT, CHILD, LOG, TOMB}), rows_min=20, quiet=frozenset({LOG}))
SIZE = 100


@dataclass
class Stream:
    """Feeds a tripwire. `rows` of the child table of each tenant are SIZE, its root row is one."""

    rules: Rules = RULES
    clock: Callable[[], float] = field(default=START.timestamp)
    now: datetime = START
    xid: int = 1000
    told: list[Alarm] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tripwire = Tripwire(
            self.rules,
            lambda _, table: {ROOT: 1, CHILD: SIZE}.get(table),
            lambda tenant: f"tenant-{tenant}",
            clock=self.clock,
        )

    def fact(self, tenant: str, table: str, rows: int, operation: Operation, *, provisional: bool = False) -> Fact:
        time, commit = (None, None) if provisional else (self.now, Lsn(self.xid * 8))
        return Fact(self.xid, time, commit, provisional, TenantKey(tenant), table, operation, rows)

    def lose(self, tenant: str, *, rows: int = SIZE, root: bool = True, **more: bool) -> Alarm | None:
        """One transaction that deletes a tenant's rows, a second after the one before."""
        self.now += timedelta(seconds=1)
        self.xid += 1
        facts = [self.fact(tenant, CHILD, rows, Operation.HARD_DELETE, **more)] if rows else []
        facts += [self.fact(tenant, ROOT, 1, Operation.HARD_DELETE, **more)] if root else []
        return self.tell(*facts)

    def tell(self, *facts: Fact, lag_s: float = 0.0) -> Alarm | None:
        alarm = self.tripwire.observe(facts, lag_s=lag_s)
        if alarm is not None:
            self.told.append(alarm)
        return alarm

    def declare(self, tenant: str) -> None:
        self.xid += 1
        assert self.tell(self.fact(tenant, TOMB, 1, Operation.INSERT)) is None


def test_one_closed_account_is_an_ordinary_day() -> None:
    """Below the threshold nothing fires, however large the customer, nor later when the window has moved on."""
    stream = Stream()
    for number in range(20):
        assert stream.lose(str(number)) is None
        stream.now += timedelta(minutes=10)


def test_the_second_root_in_the_window_fires_once() -> None:
    """The 2022 script, 38 tenants a minute: told at its second tenant, and not again at its 883rd."""
    stream = Stream()
    assert stream.lose("1") is None
    alarm = stream.lose("2")
    assert alarm is not None
    assert (alarm.notify, alarm.halt) == (True, True)
    assert alarm.incident.rules == {Rule.ROOTS: 2, Rule.SHARE: 2}
    for number in range(3, 884):
        stream.lose(str(number))
    assert len(stream.told) == 1
    assert alarm.incident.tenants == 883
    assert alarm.incident.rows == 883 * (SIZE + 1)
    assert next(alarm.incident.largest())[0].label == "tenant-1"
    assert alarm.incident.since == START + timedelta(seconds=1)
    first = alarm.incident.first()
    assert first is not None
    assert first.xid == 1001


def test_a_new_incident_needs_the_old_one_to_be_over() -> None:
    """Hysteresis: at half the threshold it is over, and only then the same can fire again."""
    stream = Stream(replace(RULES, roots=4, share=None, losing=None))
    for number in range(4):
        stream.lose(str(number))
    assert len(stream.told) == 1
    stream.now += timedelta(seconds=597)  # two of the four are still in the window
    stream.lose("a", rows=0)
    stream.lose("b", rows=0)
    assert len(stream.told) == 1
    stream.now += timedelta(seconds=700)
    for number in range(4):
        stream.lose(f"again-{number}")
    assert len(stream.told) == 2
    assert stream.told[0].incident.ended


def test_a_reset_begins_anew() -> None:
    """What was seen by a person does not count towards the next incident."""
    stream = Stream()
    stream.lose("1")
    stream.lose("2")
    stream.tripwire.reset()
    assert stream.lose("3") is None
    assert stream.lose("4") is not None


def test_a_declared_closing_does_not_count() -> None:
    """A tombstone within a day before: the deletion of any one tenant, declared, is ordinary; others are not."""
    stream = Stream(replace(RULES, tombstone=TOMB, roots=1, share_tenants=1))
    for number in range(10):
        stream.declare(str(number))
        assert stream.lose(str(number)) is None
    assert stream.lose("11") is not None


def test_a_tombstone_is_too_old_or_comes_too_late() -> None:
    """It has to stand there before, and not for ever."""
    stream = Stream(replace(RULES, tombstone=TOMB, roots=1, share=None, losing=None))
    stream.declare("1")
    stream.now += timedelta(hours=25)
    assert stream.lose("1") is not None
    stream.tripwire.reset()
    alarm = stream.lose("2")
    stream.declare("2")
    assert alarm is not None


def test_declared_and_deleted_in_one_transaction() -> None:
    """In which order the facts of one transaction arrive does not matter."""
    stream = Stream(replace(RULES, tombstone=TOMB, roots=1))
    assert (
        stream.tell(
            stream.fact("1", ROOT, 1, Operation.HARD_DELETE),
            stream.fact("1", TOMB, 1, Operation.INSERT),
        )
        is None
    )


def test_a_script_that_declares_what_it_deletes_is_seen_all_the_same() -> None:
    """883 closings within the window are no ordinary day, whatever was declared."""
    stream = Stream(replace(RULES, tombstone=TOMB, declared=50))
    for number in range(49):
        stream.declare(str(number))
        assert stream.lose(str(number)) is None
    stream.declare("x")
    alarm = stream.lose("x")
    assert alarm is not None
    assert alarm.incident.rules == {Rule.DECLARED: 50}
    assert alarm.incident.tenants == 50


def test_the_share_of_a_tenants_rows() -> None:
    """Half of a tenant's rows, without its root row: two tenants by default, and few rows are not judged."""
    stream = Stream()
    assert stream.lose("1", rows=60, root=False) is None
    assert stream.lose("2", rows=30, root=False) is None
    alarm = stream.lose("2", rows=30, root=False)
    assert alarm is not None
    assert alarm.incident.rules == {Rule.SHARE: 2}
    small = Stream(replace(RULES, rows_min=1000, losing=None))
    for number in range(10):
        assert small.lose(str(number), root=False) is None


def test_tenants_losing_rows_a_minute() -> None:
    """A tenth of the rows of twenty tenants within one minute; slower than that is cleaning up."""
    stream = Stream(replace(RULES, share=None, rows_min=10))
    for number in range(19):
        assert stream.lose(str(number), rows=11, root=False) is None
    alarm = stream.lose("x", rows=11, root=False)
    assert alarm is not None
    assert alarm.incident.rules == {Rule.LOSING: 20}
    slow = Stream(replace(RULES, share=None, rows_min=10))
    for number in range(100):
        slow.now += timedelta(seconds=5)
        assert slow.lose(str(number), rows=11, root=False) is None


def test_truncate_and_drop_of_an_owned_table() -> None:
    """One is enough; of a table that is emptied as a matter of course, none."""
    stream = Stream()
    assert stream.tell(stream.fact("1", LOG, 1000, Operation.TRUNCATE)) is None
    assert stream.tripwire.dropped(LOG, 7, START) is None
    assert stream.tripwire.dropped("public.elsewhere", 7, START) is None
    alarm = stream.tell(
        stream.fact("1", CHILD, SIZE, Operation.TRUNCATE), stream.fact("2", CHILD, 5, Operation.TRUNCATE)
    )
    assert alarm is not None
    assert (alarm.incident.tables, alarm.incident.lost) == ({CHILD}, {"1": SIZE, "2": 5})
    other = Stream()
    alarm = other.tripwire.dropped(CHILD, 7, START)
    assert alarm is not None
    assert (alarm.incident.rules, alarm.incident.tables, alarm.halt) == ({Rule.DROP: 1}, {CHILD}, True)


def test_soft_deletion_is_told_apart_and_halts_nobody() -> None:
    """Off unless it is set; what is then deleted for good beside it fires anew, and halts."""
    stream = Stream()
    for number in range(100):
        assert stream.tell(stream.fact(str(number), ROOT, 1, Operation.SOFT_DELETE)) is None
    stream = Stream(replace(RULES, soft=3))
    for number in range(2):
        assert stream.tell(stream.fact(str(number), ROOT, 1, Operation.SOFT_DELETE)) is None
    alarm = stream.tell(stream.fact("2", ROOT, 1, Operation.SOFT_DELETE))
    assert alarm is not None
    assert (alarm.notify, alarm.halt, alarm.incident.rules) == (True, False, {Rule.SOFT: 3})
    stream.lose("7")
    alarm = stream.lose("8")
    assert alarm is not None
    assert (alarm.notify, alarm.halt) == (True, True)


def test_a_transaction_in_progress_counts_at_once() -> None:
    """Before its COMMIT it fires, and names itself as what can still be ended."""
    stream = Stream()
    stream.tell(*(stream.fact(str(n), ROOT, 1, Operation.HARD_DELETE, provisional=True) for n in range(883)))
    (alarm,) = stream.told
    assert alarm.incident.in_progress == (1000,)
    stream.tripwire.committed(1000, START, Lsn(5))
    assert alarm.incident.committed
    assert alarm.incident.tenants == 883
    assert not alarm.incident.in_progress


def test_what_is_rolled_back_is_taken_back() -> None:
    """Nothing is lost then, the incident is over, and what follows is counted from nothing."""
    stream = Stream()
    stream.lose("1", provisional=True)
    stream.tell(stream.fact("2", ROOT, 1, Operation.HARD_DELETE, provisional=True))
    (alarm,) = stream.told
    stream.tripwire.aborted(stream.xid)
    assert (alarm.incident.tenants, len(alarm.incident.spared), alarm.incident.ended) == (0, 2, True)
    assert stream.tripwire.incident is None
    assert stream.lose("3") is None


def test_a_savepoint_rolled_back() -> None:
    """A part of a transaction in progress is taken back, the rest stays."""
    stream = Stream(replace(RULES, roots=3, share=None, losing=None))
    first, second, third = (stream.fact(str(n), ROOT, 1, Operation.HARD_DELETE, provisional=True) for n in range(3))
    stream.tell(first, second)
    stream.tripwire.withdraw([second])
    assert stream.tell(third) is None
    assert stream.tell(second) is not None


def test_the_past_halts_nobody() -> None:
    """An hour read again after an outage is told; halted is only when the stream is near the present again."""
    stream = Stream()
    alarm = stream.tell(*(stream.fact(str(n), ROOT, 1, Operation.HARD_DELETE) for n in range(5)), lag_s=3600)
    assert alarm is not None
    assert (alarm.notify, alarm.halt) == (True, False)
    again = stream.tell(stream.fact("9", ROOT, 1, Operation.HARD_DELETE), lag_s=3)
    assert again is not None
    assert (again.notify, again.halt) == (False, True)


@pytest.mark.parametrize("jump", [timedelta(hours=-3), timedelta(hours=3), timedelta(seconds=-30)])
def test_a_clock_that_jumps(jump: timedelta) -> None:
    """Neither blinds the tripwire nor makes an hour of ordinary closings look like a minute."""
    stream = Stream()
    stream.lose("1")
    stream.now += timedelta(minutes=11)
    stream.lose("1", rows=1, root=False)
    stream.now += jump
    for number in range(5):
        stream.now += timedelta(minutes=11)
        assert stream.lose(f"slow-{number}") is None
    assert stream.lose("fast") is not None


def test_an_incident_ends_by_itself() -> None:
    """Where nothing happens any more, the clock alone ends it."""
    now = START.timestamp()
    stream = Stream(clock=lambda: now)
    stream.lose("1")
    stream.lose("2")
    for _ in range(650):
        now += 1
        stream.tripwire.tick()
    assert stream.tripwire.incident is None
    assert stream.told[0].incident.ended
