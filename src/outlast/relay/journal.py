"""Takes events into the database, many in one transaction: journal, alerts, their logs, and what upstreams are to get.

The order of `seq` is the order in which events count. It is drawn while this transaction alone may write, so a smaller
number never becomes visible after a larger one.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, bindparam, func, insert, select, update

from outlast.relay.alert import NOT_THERE, Alert, Outcome, changed, opened
from outlast.relay.event import Action, Event, Naming, Vendor
from outlast.relay.judging import begin_page, paged_line, to_page
from outlast.relay.tables import alerts, deliveries, events, lines
from outlast.state.paging import Pager

WAITING = "waiting"
ACCEPTED = "accepted"
DONE = "done"
REFUSED = "refused"

_LOCK = 0x72656C61  # "rela": one instance at a time takes events
_AT_ONCE = 400  # names in one IN list
_ALONE = "no upstream is set up for this integration: Outlast alone pages"
# Built once: to build a statement costs more than SQLite takes to run it.
_LAST = select(
    select(func.coalesce(func.max(events.c.seq), 0)).scalar_subquery(),
    select(func.coalesce(func.max(alerts.c.tiny), 0)).scalar_subquery(),
)
_BY = {
    column: select(alerts).where(column.in_(bindparam("values", expanding=True)))
    for column in (alerts.c.open_key, alerts.c.id, alerts.c.tiny)
}
_JSON_FIELDS = (
    "source", "entity", "description", "tags", "details", "responders", "actions",
    "acknowledged_by", "acknowledged_at", "closed_by", "closed_at", "upstreams",
)  # fmt: skip
_COLUMNS = (
    "id", "tiny", "scope", "alias", "integration", "status", "acknowledged", "snoozed_until", "owner", "priority",
    "message", "count", "created_at", "updated_at", "last_at", "paged_at",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of an event."""

    seq: int
    alert_id: str | None
    alias: str | None
    success: bool
    status: str
    new: bool  # it opened the alert


@dataclass
class _Batch:
    """What one transaction reads first and writes last."""

    by_id: dict[str, Alert] = field(default_factory=dict)
    open_ids: dict[str, str] = field(default_factory=dict)  # open key → id
    closed_ids: dict[str, str] = field(default_factory=dict)  # the newest closed one
    tinies: dict[int, str] = field(default_factory=dict)
    fresh: dict[str, None] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)
    events: list[dict[str, object]] = field(default_factory=list)
    lines: list[dict[str, object]] = field(default_factory=list)
    deliveries: list[dict[str, object]] = field(default_factory=list)


def open_key(scope: str, alias: str) -> str:
    return f"{scope}\x1f{alias}"


def take(connection: Connection, given: Sequence[Event], pager: Pager) -> list[Taken]:
    """Record the events in order, in the caller's writing transaction. All of them or, where it raises, none."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
    seq, tiny = connection.execute(_LAST).one()
    batch = _Batch()
    _look_up(connection, batch, given)
    taken = []
    for event in given:
        seq += 1
        alert = _find(batch, event)
        new = alert is None and event.action is Action.CREATE
        if new:
            tiny += 1
            outcome = opened(event, f"{uuid.uuid4()}-{int(event.at * 1000)}", tiny)
        else:
            outcome = NOT_THERE if alert is None else changed(alert, event)
        _keep(batch, event, outcome, seq, new)
        if alert is not None and outcome.alert is not None:
            _tell(connection, pager, alert, outcome.alert, event)
        found = outcome.alert
        alert_id, alias = (found.id, found.alias) if found is not None else (None, None)
        taken.append(Taken(seq, alert_id, alias, outcome.success, outcome.status, new))
    alone = {one.alert_id: event for one, event in zip(taken, given, strict=True) if _alone(event)}
    for alert_id, event in alone.items():
        if alert_id is not None and to_page(batch.by_id[alert_id], event.at):
            at = time.time()
            batch.by_id[alert_id] = alert = replace(batch.by_id[alert_id], paged_at=at)
            if alert_id not in batch.fresh:
                batch.touched[alert_id] = None
            batch.lines.append(paged_line(alert, _ALONE, at))
            begin_page(connection, pager, alert, event.id, event.at, _ALONE)
    _write(connection, batch)
    return taken


def _alone(event: Event) -> bool:
    return event.action is Action.CREATE and not event.upstreams


def _look_up(connection: Connection, batch: _Batch, given: Sequence[Event]) -> None:
    keys = {open_key(event.scope, event.name) for event in given if event.naming is Naming.ALIAS and event.name}
    for alert in _alerts(connection, alerts.c.open_key, keys):
        _remember(batch, alert)
    missing = {
        (event.scope, event.name)
        for event in given
        if event.naming is Naming.ALIAS
        and event.action is not Action.CREATE
        and open_key(event.scope, event.name) not in batch.open_ids
    }
    for scope, alias in missing:
        row = connection.execute(
            select(alerts)
            .where(alerts.c.scope == scope, alerts.c.alias == alias)
            .order_by(alerts.c.tiny.desc())
            .limit(1)
        ).first()
        if row is not None:
            _remember(batch, alert_of(row._mapping))
    ids = {event.name for event in given if event.naming is Naming.ID}
    tinies = {int(event.name) for event in given if event.naming is Naming.TINY and event.name.isdecimal()}
    for alert in _alerts(connection, alerts.c.id, ids):
        _remember(batch, alert)
    for alert in _alerts(connection, alerts.c.tiny, {number for number in tinies if number < 2**63}):
        _remember(batch, alert)


def _alerts(connection: Connection, column: Any, values: Iterable[Any]) -> list[Alert]:
    wanted = list(values)
    found = []
    for start in range(0, len(wanted), _AT_ONCE):
        rows = connection.execute(_BY[column], {"values": wanted[start : start + _AT_ONCE]})
        found += [alert_of(row._mapping) for row in rows]
    return found


def _remember(batch: _Batch, alert: Alert) -> None:
    if alert.id in batch.by_id:
        return
    batch.by_id[alert.id] = alert
    batch.tinies[alert.tiny] = alert.id
    key = open_key(alert.scope, alert.alias)
    (batch.open_ids if alert.is_open else batch.closed_ids)[key] = alert.id


def _find(batch: _Batch, event: Event) -> Alert | None:
    if event.naming is Naming.ID:
        return batch.by_id.get(event.name)
    if event.naming is Naming.TINY:
        return batch.by_id.get(batch.tinies.get(int(event.name), "")) if event.name.isdecimal() else None
    key = open_key(event.scope, event.name)
    alert_id = batch.open_ids.get(key)
    if alert_id is None and event.action is not Action.CREATE:
        alert_id = batch.closed_ids.get(key)
    return batch.by_id.get(alert_id) if alert_id is not None else None


def _keep(batch: _Batch, event: Event, outcome: Outcome, seq: int, new: bool) -> None:
    alert = outcome.alert
    batch.events.append(
        {
            "seq": seq,
            "id": event.id,
            "at": event.at,
            "integration": event.integration,
            "vendor": event.vendor.value,
            "action": event.action.value,
            "alert_id": alert and alert.id,
            "status": outcome.status,
            "success": outcome.success,
            "body": json.dumps({"fields": event.fields, "raw": event.raw}, separators=(",", ":")),
        }
    )
    if alert is None:
        return
    before = batch.by_id.get(alert.id)
    batch.by_id[alert.id] = alert
    batch.tinies[alert.tiny] = alert.id
    key = open_key(alert.scope, alert.alias)
    if alert.is_open:
        batch.open_ids[key] = alert.id
    elif before is not None and before.is_open:
        batch.open_ids.pop(key, None)
        batch.closed_ids[key] = alert.id
    if new:
        batch.fresh[alert.id] = None
    elif alert.id not in batch.fresh and alert is not before:
        batch.touched[alert.id] = None
    batch.lines += [
        {"alert_id": alert.id, "at": event.at, "by": event.by, "kind": kind, "text": text}
        for kind, text in outcome.lines
    ]
    batch.deliveries += [
        {
            "seq": seq,
            "upstream": upstream,
            "alert_id": alert.id,
            "at": event.at,
            "state": WAITING,
            "attempts": 0,
            "due_at": 0.0,
            "unjudged": event.action is Action.CREATE,
        }
        for upstream in (event.upstreams if event.vendor not in (Vendor.DESK, Vendor.OUTLAST) else alert.upstreams)
    ]


def _tell(connection: Connection, pager: Pager, before: Alert, after: Alert, event: Event) -> None:
    """What the escalation of an alert, if one runs, has to know."""
    if before.is_open and not after.is_open:
        pager.close(connection, after.id, event.by)
    elif not after.is_open:
        return
    elif after.acknowledged and not before.acknowledged:
        pager.acknowledge(connection, after.id, event.by)
    elif before.acknowledged and not after.acknowledged and after.snoozed_until is None:
        pager.reopen(connection, after.id)
    elif after.snoozed_until is not None and before.snoozed_until is None:
        pager.acknowledge(connection, after.id, event.by)
    if after.owner and after.owner != before.owner:
        pager.assign(connection, after.id, after.owner, event.by)


def _write(connection: Connection, batch: _Batch) -> None:
    connection.execute(_INSERT_EVENTS, batch.events)
    # Closed ones first: an alias that was closed and opened anew in one batch is free before it is taken.
    update_alerts(connection, sorted((batch.by_id[one] for one in batch.touched), key=lambda alert: alert.is_open))
    if batch.fresh:
        connection.execute(_INSERT_ALERTS, [_row(batch.by_id[one]) for one in batch.fresh])
    if batch.lines:
        connection.execute(_INSERT_LINES, batch.lines)
    if batch.deliveries:
        connection.execute(_INSERT_DELIVERIES, batch.deliveries)


def update_alerts(connection: Connection, changed_alerts: Sequence[Alert]) -> None:
    """Write alerts that are there already."""
    rows = []
    for alert in changed_alerts:
        row = _row(alert)
        rows.append({"alert": alert.id, **{name: row[name] for name in _CHANGING}})
    if rows:
        connection.execute(_UPDATE, rows)


_INSERT_EVENTS, _INSERT_ALERTS = insert(events), insert(alerts)
_INSERT_LINES, _INSERT_DELIVERIES = insert(lines), insert(deliveries)
_CHANGING = (
    "open_key", "status", "acknowledged", "snoozed_until", "owner", "priority", "message", "count", "updated_at",
    "last_at", "paged_at", "fields",
)  # fmt: skip
_UPDATE = update(alerts).where(alerts.c.id == bindparam("alert")).values({name: bindparam(name) for name in _CHANGING})


def _row(alert: Alert) -> dict[str, Any]:
    row: dict[str, Any] = {name: getattr(alert, name) for name in _COLUMNS}
    row["open_key"] = open_key(alert.scope, alert.alias) if alert.is_open else None
    kept = {name: value for name in _JSON_FIELDS if (value := getattr(alert, name))}
    row["fields"] = json.dumps(kept, separators=(",", ":"))
    return row


def alert_of(row: Mapping[Any, Any]) -> Alert:
    """An alert as a row of its table holds it."""
    fields = json.loads(row["fields"])
    for name in ("tags", "responders", "actions", "upstreams"):
        if name in fields:
            fields[name] = tuple(fields[name])
    return Alert(**{name: row[name] for name in _COLUMNS}, **fields)
