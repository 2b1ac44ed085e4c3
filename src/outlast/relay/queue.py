"""What each upstream is still to be told: which deliveries are due, and what became of them.

In order: of one alert's events only the oldest that is open is due, so an alert is never closed there before it was
created. Different alerts do not wait for each other.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, bindparam, delete, func, insert, or_, select, update

from outlast.relay.alert import Alert
from outlast.relay.breaker import Override
from outlast.relay.event import Action, Event, Naming, Vendor, new_id
from outlast.relay.journal import ACCEPTED, DONE, REFUSED, WAITING, alert_of, take, update_alerts
from outlast.relay.judging import begin_page, paged_line, to_page
from outlast.relay.tables import alerts, deliveries, events, lines, overrides
from outlast.relay.upstream import Answer, Verdict
from outlast.state.paging import Pager

WINDOW = 1000
_OPEN = (WAITING, ACCEPTED)
_ASK_FIRST_S, _ASK_MAX_S = 0.4, 5.0
_LOST_AFTER_S = 12.0  # what was accepted, and is unknown for so long, is sent again
_AGAIN_FIRST_S, _AGAIN_MAX_S = 1.0, 60.0


@dataclass(frozen=True, slots=True)
class Parcel:
    """One delivery that is due."""

    seq: int
    upstream: str
    state: str
    attempts: int
    reference: str | None
    at: float
    event: Event
    alert: Alert


@dataclass(frozen=True, slots=True)
class Backlog:
    """How much an upstream has not been told yet."""

    waiting: int
    oldest_at: float | None


@dataclass(frozen=True, slots=True)
class Failed:
    """An event that opens an alert, and that its vendor has not taken, or not in time."""

    seq: int
    upstream: str
    alert_id: str
    reason: str
    doubtful: bool  # the vendor may have it all the same

    @property
    def told(self) -> str:
        return f"{self.upstream}: {self.reason}"


def due(connection: Connection, upstream: str, now: float, busy: Collection[str], limit: int) -> list[Parcel]:
    """The next deliveries, oldest first: one an alert, of alerts that are not under way (`busy`)."""
    heads = _heads(connection, upstream, now, busy, limit, 4 * (limit + len(busy)))
    if not heads:
        return []
    told = {row.seq: row for row in connection.execute(select(events).where(events.c.seq.in_([h.seq for h in heads])))}
    ids = [head.alert_id for head in heads]
    about = {row.id: row for row in connection.execute(select(alerts).where(alerts.c.id.in_(ids)))}
    return [
        Parcel(
            head.seq, upstream, head.state, head.attempts, head.reference, head.at,
            _event(told[head.seq]), alert_of(about[head.alert_id]._mapping),
        )
        for head in heads
    ]  # fmt: skip


def _heads(
    connection: Connection, upstream: str, now: float, busy: Collection[str], limit: int, window: int
) -> list[Row[Any]]:
    rows = connection.execute(_WAITING, {"upstream": upstream, "window": window}).all()
    seen = set(busy)
    heads = []
    for row in rows:
        if row.alert_id in seen:
            continue
        seen.add(row.alert_id)
        if row.due_at <= now:
            heads.append(row)
        if len(heads) == limit:
            break
    if len(heads) < limit and len(rows) == window < WINDOW:
        return _heads(connection, upstream, now, busy, limit, WINDOW)
    return heads


_WAITING = (
    select(deliveries)
    .where(deliveries.c.upstream == bindparam("upstream"), deliveries.c.state.in_(_OPEN))
    .order_by(deliveries.c.seq)
    .limit(bindparam("window"))
)


def _event(row: Row[Any]) -> Event:
    body = json.loads(row.body)
    return Event(
        id=row.id,
        at=row.at,
        integration=row.integration,
        vendor=Vendor(row.vendor),
        action=Action(row.action),
        naming=Naming.ID,
        name=row.alert_id,
        scope="",
        fields=body["fields"],
        raw=body["raw"],
    )


def begun(connection: Connection, parcels: Sequence[Parcel]) -> None:
    """They are about to be sent. If nothing more is heard of one, its vendor may have it, and is asked first."""
    for parcel in parcels:
        _set(connection, parcel, attempts=parcel.attempts + 1)


def _set(connection: Connection, parcel: Parcel, **values: object) -> None:
    one = (deliveries.c.seq == parcel.seq) & (deliveries.c.upstream == parcel.upstream)
    connection.execute(update(deliveries).where(one).values(**values))


def settle(connection: Connection, pager: Pager, parcel: Parcel, answer: Answer, now: float) -> bool:
    """Note what an upstream answered, and page where it has to be. Gives whether a page was begun."""
    told = {"told": answer.told[:500]}
    match answer.verdict:
        case Verdict.DONE:
            _set(connection, parcel, state=DONE, unjudged=False, reference=None, **told)
            return False
        case Verdict.ACCEPTED if parcel.state == ACCEPTED and now - parcel.at > _LOST_AFTER_S + _last(parcel):
            _set(connection, parcel, state=WAITING, reference=None, due_at=now, told="accepted, and never done")
            return _page(connection, pager, parcel, "it accepted it, and never did it", doubtful=True)
        case Verdict.ACCEPTED:
            pause = (
                _ASK_FIRST_S if parcel.state == WAITING else min(_ASK_MAX_S, max(_ASK_FIRST_S, (now - parcel.at) / 2))
            )
            _set(connection, parcel, state=ACCEPTED, reference=answer.reference, due_at=now + pause, **told)
            return False
        case Verdict.REFUSED:
            _set(connection, parcel, state=REFUSED, reference=None, **told)
        case Verdict.LATER:
            # While its outcome is being asked for, an upstream that does not answer is asked again, not told again.
            lost = parcel.state == ACCEPTED and answer.uncertain
            pause = answer.wait_s or min(_AGAIN_MAX_S, _AGAIN_FIRST_S * 2 ** min(parcel.attempts, 6))
            state = ACCEPTED if parcel.state == ACCEPTED and (lost or not _failed(answer)) else WAITING
            _set(
                connection, parcel, state=state, due_at=now + pause,
                reference=parcel.reference if state == ACCEPTED else None, **told,
            )  # fmt: skip
    return _page(connection, pager, parcel, answer.told, doubtful=answer.uncertain)


def hurry(connection: Connection, upstream: str, now: float) -> None:
    """It is back: what waits for a later attempt need not."""
    late = (deliveries.c.upstream == upstream) & deliveries.c.state.in_(_OPEN) & (deliveries.c.due_at > now)
    connection.execute(update(deliveries).where(late).values(due_at=now))


def _failed(answer: Answer) -> bool:
    """Whether an accepted event is known to have failed there, and not only the question about it."""
    return answer.told.startswith("it accepted it, and then")


def _last(parcel: Parcel) -> float:
    # Each sending anew has its own time to be confirmed in.
    return _LOST_AFTER_S * max(0, parcel.attempts - 1)


def _page(connection: Connection, pager: Pager, parcel: Parcel, reason: str, *, doubtful: bool) -> bool:
    if parcel.event.action is not Action.CREATE:
        return False
    return judge(connection, pager, [Failed(parcel.seq, parcel.upstream, parcel.alert.id, reason, doubtful)])


def judge(connection: Connection, pager: Pager, failed: Sequence[Failed]) -> bool:
    """Vendors did not take events that open alerts: page, where it is to be. Gives whether a page was begun.

    In the caller's transaction, with the mark that they are judged. The vendor is to be told of a page by a note, which
    goes after what it did not take.
    """
    marks = [{"one": each.seq, "of": each.upstream} for each in failed]
    connection.execute(_JUDGED, marks)
    told = {row.seq: row for row in connection.execute(_EVENTS, {"seqs": [each.seq for each in failed]})}
    about = {
        row.id: alert_of(row._mapping) for row in connection.execute(_ALERTS, {"ids": [e.alert_id for e in failed]})
    }
    paged: dict[str, Failed] = {}
    for each in failed:
        alert, event = about[each.alert_id], told[each.seq]
        if each.alert_id not in paged and to_page(alert, event.at):
            begin_page(connection, pager, alert, event.id, event.at, each.told, doubtful=each.doubtful)
            paged[each.alert_id] = each
    if not paged:
        return False
    at = time.time()
    update_alerts(connection, [replace(about[one], paged_at=at) for one in paged])
    connection.execute(insert(lines), [paged_line(about[one], each.told, at) for one, each in paged.items()])
    take(connection, [_note(about[one], each.told, at) for one, each in paged.items()], pager)
    return True


def _note(alert: Alert, reason: str, at: float) -> Event:
    note = {"note": f"Outlast paged for this alert by itself ({reason}).", "user": "Outlast"}
    return Event(new_id(), at, alert.integration, Vendor.OUTLAST, Action.NOTE, Naming.ID, alert.id, alert.scope, note)


_GONE = "it is not set up any more"
_EVENTS = select(events.c.seq, events.c.id, events.c.at).where(events.c.seq.in_(bindparam("seqs", expanding=True)))
_ALERTS = select(alerts).where(alerts.c.id.in_(bindparam("ids", expanding=True)))
_JUDGED = (
    update(deliveries)
    .where(deliveries.c.seq == bindparam("one"), deliveries.c.upstream == bindparam("of"))
    .values(unjudged=False)
)


def page_overdue(
    connection: Connection, pager: Pager, before: dict[str, float], reasons: dict[str, str], *, limit: int = 100
) -> int:
    """Page for events that opened an alert, and that no upstream has confirmed in time. Gives how many were judged.

    `before[upstream]`: events accepted earlier than this are overdue. An upstream that is not named there is not set up
    any more, and everything that waits for it is overdue.
    """
    rows = connection.execute(
        select(deliveries.c.seq, deliveries.c.upstream, deliveries.c.attempts, deliveries.c.alert_id)
        .where(_overdue(before))
        .order_by(deliveries.c.at)
        .limit(limit)
    ).all()
    if rows:
        failed = [
            Failed(row.seq, row.upstream, row.alert_id, reasons.get(row.upstream, _GONE), row.attempts > 0)
            for row in rows
        ]
        judge(connection, pager, failed)
    return len(rows)


def any_overdue(connection: Connection, before: dict[str, float], now: float) -> bool:
    """Whether there is anything for `page_overdue` or `end_snoozes` to do."""
    overdue = connection.execute(select(deliveries.c.seq).where(_overdue(before)).limit(1)).first()
    snoozed = select(alerts.c.id).where(alerts.c.status == "open", alerts.c.snoozed_until <= now).limit(1)
    return overdue is not None or connection.execute(snoozed).first() is not None


def _overdue(before: dict[str, float]) -> ColumnElement[bool]:
    late = [and_(deliveries.c.upstream == name, deliveries.c.at <= at) for name, at in before.items()]
    return and_(deliveries.c.unjudged, or_(deliveries.c.upstream.not_in(before), *late))


def end_snoozes(connection: Connection, pager: Pager, now: float) -> int:
    """Alerts whose snooze is over are everybody's again."""
    rows = connection.execute(
        select(alerts.c.id).where(alerts.c.status == "open", alerts.c.snoozed_until <= now).limit(200)
    ).all()
    for row in rows:
        connection.execute(update(alerts).where(alerts.c.id == row.id).values(snoozed_until=None))
        pager.reopen(connection, row.id)
    return len(rows)


def backlog(connection: Connection, upstream: str) -> Backlog:
    """How much waits for an upstream."""
    row = connection.execute(
        select(func.count(), func.min(deliveries.c.at)).where(
            deliveries.c.upstream == upstream, deliveries.c.state.in_(_OPEN)
        )
    ).one()
    return Backlog(row[0], row[1])


def override(connection: Connection, upstream: str, mode: Override | None, by: str, at: float) -> None:
    """Set or lift a person's decision about an upstream."""
    connection.execute(delete(overrides).where(overrides.c.upstream == upstream))
    if mode is not None:
        connection.execute(insert(overrides).values(upstream=upstream, mode=mode.value, by=by, at=at))


def overridden(connection: Connection) -> dict[str, str]:
    """By upstream, what a person decided about it."""
    return {row.upstream: row.mode for row in connection.execute(select(overrides))}
