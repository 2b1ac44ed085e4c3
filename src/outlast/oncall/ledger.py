"""Paging's rows: pages, steps and notices read as values and written in the caller's transaction. No decision here."""

from __future__ import annotations

import secrets as randomness
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, func, insert, or_, select, update

from outlast.core.page import Page
from outlast.oncall.escalation import LEASE, Escalation, Notice, NoticeState, PlannedStep, State, StepState, wakes_at
from outlast.oncall.ledger_rows import moment as moment
from outlast.oncall.ledger_rows import notice_of, page_json, page_of, planned_of, step_json
from outlast.oncall.people import Person
from outlast.oncall.policy import Step
from outlast.oncall.schedule import Responder
from outlast.oncall.tables import notices, pages, secrets, steps

ASSIGNED = 1000
"""Numbers of steps from here on are no policy's: somebody was told because the alert was assigned to them."""


@dataclass(frozen=True, slots=True)
class Record:
    """A page as it is in the tables."""

    page: Page
    at: datetime  # when its escalation began, or began anew
    planned: bool
    first_round: int
    policy: str
    acknowledged_by: str | None
    escalation: Escalation
    names: Mapping[int, str]  # of people, by notice
    told: Mapping[int, str]  # outcomes, by notice


def known_key(connection: Connection) -> bytes | None:
    """The key of this installation's links, if a link was made yet."""
    found = connection.scalar(select(secrets.c.key).where(secrets.c.id == 1))
    return None if found is None else bytes.fromhex(found)


def signing_key(connection: Connection) -> bytes:
    """The key of this installation's links; made when it is first asked for, in a transaction that writes."""
    found = known_key(connection)
    if found is None:
        found = randomness.token_bytes(32)
        connection.execute(insert(secrets).values(id=1, key=found.hex()))
    return found


# Pages


def add(connection: Connection, page: Page, now: datetime) -> bool:
    """Begin a page. False where there is one already."""
    if connection.scalar(select(pages.c.alert_id).where(pages.c.alert_id == page.alert_id)) is not None:
        return False
    connection.execute(
        insert(pages).values(
            alert_id=page.alert_id,
            page=page_json(page),
            at=now.timestamp(),
            state=State.ESCALATING,
            planned=False,
            wake_at=now.timestamp(),
        )
    )
    return True


def begin_again(connection: Connection, alert_id: str, now: datetime) -> bool:
    """Escalate anew, from the first step, in rounds of their own. False where none ran."""
    newest = connection.scalar(select(func.max(steps.c.round)).where(steps.c.alert_id == alert_id))
    stop(connection, alert_id)
    values = {
        "state": State.ESCALATING,
        "planned": False,
        "at": now.timestamp(),
        "round": 0 if newest is None else newest + 1,
        "acknowledged_at": None,
        "acknowledged_by": None,
        "closed_at": None,
        "close_at": None,
        "shout_at": None,
        "shouted_at": None,
        "wake_at": now.timestamp(),
    }
    return bool(connection.execute(update(pages).where(pages.c.alert_id == alert_id).values(values)).rowcount)


def plan(
    connection: Connection, record: Record, name: str, planned: Sequence[PlannedStep], close: datetime | None
) -> bool:
    """Keep the plan of a page that has none. False where another process was first."""
    done = connection.execute(
        update(pages)
        .where(pages.c.alert_id == record.page.alert_id, pages.c.planned.is_(False))
        .values(planned=True, policy=name, close_at=close.timestamp() if close else None)
    )
    if not done.rowcount:
        return False
    for one in planned:
        add_step(connection, record.page.alert_id, one)
    return True


def add_step(connection: Connection, alert_id: str, one: PlannedStep) -> None:
    connection.execute(
        insert(steps).values(
            alert_id=alert_id,
            round=one.round,
            number=one.number,
            due_at=one.due.timestamp(),
            step=step_json(one.step),
            fresh_since=one.fresh_since.timestamp() if one.fresh_since else None,
            state=StepState.WAITING,
        )
    )


def assign(connection: Connection, alert_id: str, owner: str, now: datetime) -> None:
    """One more step, at once: tell the owner."""
    row = connection.execute(
        select(pages.c.round, pages.c.state).where(pages.c.alert_id == alert_id, pages.c.state != State.CLOSED)
    ).first()
    if row is None:
        return
    mine = and_(steps.c.alert_id == alert_id, steps.c.number >= ASSIGNED)
    newest = connection.scalar(select(func.max(steps.c.number)).where(mine))
    step = Step(timedelta(), "", Responder("user", owner, owner), unacknowledged=False)
    number = ASSIGNED if newest is None else newest + 1
    add_step(connection, alert_id, PlannedStep(row.round, number, now, step))
    wake(connection, alert_id, now)


def acknowledge(connection: Connection, alert_id: str, by: str, now: datetime) -> bool:
    """Note who has it. False where nothing escalates."""
    done = connection.execute(
        update(pages)
        .where(pages.c.alert_id == alert_id, pages.c.state == State.ESCALATING)
        .values(
            state=State.ACKNOWLEDGED,
            acknowledged_at=now.timestamp(),
            acknowledged_by=by,
            shout_at=None,
            wake_at=now.timestamp(),
        )
    )
    if done.rowcount:
        cancel(connection, alert_id)
    return bool(done.rowcount)


def close(connection: Connection, alert_id: str, now: datetime) -> bool:
    done = connection.execute(
        update(pages)
        .where(pages.c.alert_id == alert_id, pages.c.state != State.CLOSED)
        .values(state=State.CLOSED, closed_at=now.timestamp(), wake_at=None, close_at=None, shout_at=None)
    )
    if done.rowcount:
        stop(connection, alert_id)
    return bool(done.rowcount)


def stop(connection: Connection, alert_id: str) -> None:
    """Nothing that still waits is done."""
    connection.execute(
        update(steps)
        .where(steps.c.alert_id == alert_id, steps.c.state == StepState.WAITING)
        .values(state=StepState.SKIPPED)
    )
    cancel(connection, alert_id)


def cancel(connection: Connection, alert_id: str) -> None:
    unsent = notices.c.state.in_([NoticeState.WAITING, NoticeState.SPARE])
    connection.execute(
        update(notices).where(notices.c.alert_id == alert_id, unsent).values(state=NoticeState.CANCELLED)
    )


def wake(connection: Connection, alert_id: str, at: datetime | None) -> None:
    open_page = and_(pages.c.alert_id == alert_id, pages.c.state != State.CLOSED)
    connection.execute(update(pages).where(open_page).values(wake_at=at.timestamp() if at else None))


def shouted(connection: Connection, alert_id: str, now: datetime, again: datetime | None) -> None:
    values = {"shout_at": again.timestamp()} if again else {"shout_at": None, "shouted_at": now.timestamp()}
    connection.execute(update(pages).where(pages.c.alert_id == alert_id).values(values))


# Steps and notices


def expand(
    connection: Connection,
    alert_id: str,
    step: PlannedStep,
    notified: Sequence[tuple[Person, Sequence[tuple[str, str, datetime, NoticeState]]]],
    now: datetime,
) -> bool:
    """A step is done: its people's contacts (method, address, when, waiting or spare) become notices, all or none.
    False where another process was first, or it no longer waits."""
    if not _finish(connection, alert_id, step, StepState.DONE, now, len(notified)):
        return False
    for person, contacts in notified:
        for method, address, due, state in contacts:
            connection.execute(
                insert(notices).values(
                    alert_id=alert_id,
                    round=step.round,
                    number=step.number,
                    person=person.key,
                    name=person.name,
                    method=method,
                    address=address,
                    due_at=due.timestamp(),
                    state=state,
                    doubtful=False,
                )
            )
    return True


def skip(connection: Connection, alert_id: str, step: PlannedStep, now: datetime) -> None:
    _finish(connection, alert_id, step, StepState.SKIPPED, now, 0)


def _finish(
    connection: Connection, alert_id: str, step: PlannedStep, state: StepState, now: datetime, people: int
) -> bool:
    this = and_(steps.c.alert_id == alert_id, steps.c.round == step.round, steps.c.number == step.number)
    done = connection.execute(
        update(steps)
        .where(this, steps.c.state == StepState.WAITING)
        .values(state=state, done_at=now.timestamp(), people=people)
    )
    return bool(done.rowcount)


def claim(connection: Connection, notice: int, now: datetime, *, doubtful: bool) -> bool:
    """Take a notice to send it. False where another has it, or it is no longer to be sent."""
    free = notices.c.state.in_([NoticeState.WAITING, NoticeState.SPARE])
    left = and_(notices.c.state == NoticeState.SENDING, notices.c.lease_until <= now.timestamp())
    done = connection.execute(
        update(notices)
        .where(notices.c.id == notice, or_(free, left))
        .values(
            state=NoticeState.SENDING,
            tries=notices.c.tries + 1,
            lease_until=(now + LEASE).timestamp(),
            **({"doubtful": True} if doubtful else {}),
        )
    )
    return bool(done.rowcount)


def companions(connection: Connection, one: Notice, now: datetime, limit: int) -> list[tuple[int, str]]:
    """Other alerts' notices (number, alert) that are due at the same contact, and were not tried yet."""
    same = and_(notices.c.address == one.address, notices.c.method == one.method, notices.c.id != one.id)
    fresh = and_(notices.c.state == NoticeState.WAITING, notices.c.tries == 0, notices.c.due_at <= now.timestamp())
    query = select(notices.c.id, notices.c.alert_id).where(same, fresh).order_by(notices.c.id).limit(limit)
    return [(row.id, row.alert_id) for row in connection.execute(query)]


def sent_since(connection: Connection, one: Notice, since: datetime) -> list[datetime]:
    """When a contact was last sent something: one moment a message, however many alerts were in it."""
    same = and_(notices.c.address == one.address, notices.c.method == one.method)
    query = select(notices.c.sent_at).where(same, notices.c.sent_at > since.timestamp()).distinct()
    return sorted(moment(at) for at in connection.scalars(query))


def postpone(connection: Connection, notice: int, due: datetime) -> None:
    """A notice that waits is sent later, and counts as not tried."""
    connection.execute(
        update(notices)
        .where(notices.c.id == notice, notices.c.state == NoticeState.WAITING)
        .values(due_at=due.timestamp())
    )


def settle(
    connection: Connection, notice: int, state: NoticeState, told: str, now: datetime, due: datetime | None = None
) -> None:
    """How sending went. One that was acknowledged or closed meanwhile is tried no more."""
    values: dict[str, Any] = {"state": state, "told": told, "lease_until": None}
    if state is NoticeState.SENT:
        values["sent_at"] = now.timestamp()
    if due is not None:
        values["due_at"] = due.timestamp()
    connection.execute(
        update(notices).where(notices.c.id == notice, notices.c.state == NoticeState.SENDING).values(values)
    )


def bring_forward(connection: Connection, found: Sequence[Notice], now: datetime) -> None:
    for one in found:
        connection.execute(
            update(notices)
            .where(notices.c.id == one.id, notices.c.state == NoticeState.WAITING)
            .values(due_at=now.timestamp())
        )


def use_link(connection: Connection, notice: int, now: datetime) -> bool:
    """A notice's link is used. False where it was used already."""
    done = connection.execute(
        update(notices).where(notices.c.id == notice, notices.c.used_at.is_(None)).values(used_at=now.timestamp())
    )
    return bool(done.rowcount)


# Reading


def due_pages(connection: Connection, now: datetime, limit: int) -> list[str]:
    query = select(pages.c.alert_id).where(pages.c.wake_at <= now.timestamp()).order_by(pages.c.wake_at).limit(limit)
    return list(connection.scalars(query))


def next_wake(connection: Connection) -> datetime | None:
    at = connection.scalar(select(func.min(pages.c.wake_at)))
    return None if at is None else moment(at)


def recover(connection: Connection, now: datetime) -> None:
    """What a process of this host was sending when it died is nobody's now, and every open page is looked at."""
    connection.execute(
        update(notices).where(notices.c.state == NoticeState.SENDING).values(lease_until=now.timestamp())
    )
    connection.execute(update(pages).where(pages.c.state != State.CLOSED).values(wake_at=now.timestamp()))


def record(connection: Connection, alert_id: str) -> Record | None:
    row = connection.execute(select(pages).where(pages.c.alert_id == alert_id)).first()
    if row is None:
        return None
    one = row._mapping
    told = (
        connection.execute(select(notices).where(notices.c.alert_id == alert_id).order_by(notices.c.id))
        .mappings()
        .all()
    )
    planned = connection.execute(
        select(steps).where(steps.c.alert_id == alert_id).order_by(steps.c.round, steps.c.number)
    ).mappings()
    escalation = Escalation(
        alert_id,
        State(one["state"]),
        moment(one["acknowledged_at"]) if one["acknowledged_at"] else None,
        tuple(planned_of(step) for step in planned if step["round"] >= one["round"]),
        tuple(notice_of(notice) for notice in told if notice["round"] >= one["round"]),
        moment(one["close_at"]) if one["close_at"] else None,
        moment(one["shout_at"]) if one["shout_at"] else None,
        one["shouted_at"] is not None,
    )
    return Record(
        page_of(one["page"]),
        moment(one["at"]),
        one["planned"],
        one["round"],
        one["policy"],
        one["acknowledged_by"],
        escalation,
        {notice["id"]: notice["name"] for notice in told},
        {notice["id"]: notice["told"] for notice in told},
    )


def alert_of_notice(connection: Connection, notice: int) -> Mapping[str, Any] | None:
    """The row of a notice: its alert, whom it was for, whether its link was used."""
    row = connection.execute(select(notices).where(notices.c.id == notice)).mappings().first()
    return dict(row) if row is not None else None


def rewake(connection: Connection, alert_id: str, under_way: frozenset[int], now: datetime) -> None:
    """When to look at a page again: when the next thing is due that nobody is at."""
    found = record(connection, alert_id)
    if found is None:
        return
    wake(connection, alert_id, wakes_at(found.escalation, now, under_way))
