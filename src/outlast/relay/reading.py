"""Alerts as they are read: one, a page of a list, an alert's log, what became of a request. Never the whole table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, and_, func, not_, or_, select

from outlast.core.errors import UsageError
from outlast.relay.alert import Alert
from outlast.relay.event import Naming
from outlast.relay.journal import alert_of
from outlast.relay.tables import alerts, deliveries, events, lines

_TERM = re.compile(
    r'\s*(?P<not>NOT\s+|-)?(?:(?P<name>[A-Za-z]+)\s*(?P<sign>[:=<>]=?)\s*)?(?:"(?P<quoted>[^"]*)"|(?P<word>[^\s()"]+))'
)
_SORTS = {
    "createdAt": alerts.c.created_at,
    "updatedAt": alerts.c.updated_at,
    "tinyId": alerts.c.tiny,
    "alias": alerts.c.alias,
    "message": alerts.c.message,
    "status": alerts.c.status,
    "acknowledged": alerts.c.acknowledged,
    "owner": alerts.c.owner,
    "count": alerts.c.count,
    "lastOccurredAt": alerts.c.last_at,
    "snoozedUntil": alerts.c.snoozed_until,
    "snoozed": alerts.c.snoozed_until,
    "source": alerts.c.tiny,
    "isSeen": alerts.c.acknowledged,
    "integration.name": alerts.c.integration,
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an alert's log. `kind` "note" is a person's or a system's own words."""

    id: int
    at: float
    by: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Request:
    """What became of what was accepted."""

    id: str
    at: float
    action: str
    integration: str
    success: bool
    status: str
    alert_id: str | None
    alias: str | None


@dataclass(frozen=True, slots=True)
class Passed:
    """What an upstream was told about an alert, and what it answered."""

    at: float
    action: str
    upstream: str
    state: str
    attempts: int
    told: str


def find(connection: Connection, naming: Naming, name: str, scope: str | None = None) -> Alert | None:
    """The alert; by alias the open one, else the newest."""
    query = select(alerts)
    if naming is Naming.ID:
        query = query.where(alerts.c.id == name)
    elif naming is Naming.TINY:
        if not name.isdecimal() or int(name) >= 2**63:
            return None
        query = query.where(alerts.c.tiny == int(name))
    else:
        query = query.where(alerts.c.alias == name)
        query = query.where(alerts.c.scope == scope) if scope is not None else query
        query = query.order_by(alerts.c.tiny.desc()).limit(1)
    row = connection.execute(query).first()
    return alert_of(row._mapping) if row is not None else None


def page(
    connection: Connection, where: Sequence[ColumnElement[bool]], *, limit: int, offset: int = 0,
    sort: str = "createdAt", descending: bool = True, scope: str | None = None,
) -> list[Alert]:  # fmt: skip
    """One page of a list. `sort` is one of Opsgenie's names for it."""
    column = _SORTS.get(sort, alerts.c.created_at)
    query = select(alerts).where(*where)
    if scope is not None:
        query = query.where(alerts.c.scope == scope)
    order = (column.desc(), alerts.c.tiny.desc()) if descending else (column.asc(), alerts.c.tiny.asc())
    rows = connection.execute(query.order_by(*order).limit(limit).offset(offset))
    return [alert_of(row._mapping) for row in rows]


def count(connection: Connection, where: Sequence[ColumnElement[bool]], *, at_most: int) -> int:
    """How many there are, and `at_most` where there are more: nobody waits for a million to be counted."""
    some = select(alerts.c.id).where(*where).limit(at_most).subquery()
    return connection.scalar(select(func.count()).select_from(some)) or 0


WAITING = and_(alerts.c.status == "open", not_(alerts.c.acknowledged))
OPEN = alerts.c.status == "open"
CLOSED = alerts.c.status == "closed"


def query(text: str) -> list[ColumnElement[bool]]:
    """Opsgenie's search: `status: open AND priority: P1 AND disk`. OR binds weaker than AND. Raises UsageError."""
    if not text.strip():
        return []
    return [or_(*(_all_of(part) for part in re.split(r"\s+OR\s+", text.strip())))]


def _all_of(text: str) -> ColumnElement[bool]:
    terms = []
    for part in re.split(r"\s+AND\s+", text.strip()):
        position = 0
        while part[position:].strip():
            match = _TERM.match(part, position)
            if match is None:
                raise UsageError(f"the query cannot be read at {part[position:][:40]!r}")
            term = _term(
                match["name"], match["sign"], match["quoted"] if match["quoted"] is not None else match["word"]
            )
            terms.append(not_(term) if match["not"] else term)
            position = match.end()
    return and_(*terms)


def _term(name: str | None, sign: str | None, value: str) -> ColumnElement[bool]:
    if name is None:
        return _contains(alerts.c.message, value)
    match name.casefold():
        case "status":
            return alerts.c.status == value.casefold()
        case "acknowledged":
            return alerts.c.acknowledged.is_(value.casefold() == "true")
        case "snoozed":
            snoozed = alerts.c.snoozed_until.is_not(None)
            return snoozed if value.casefold() == "true" else not_(snoozed)
        case "priority":
            return alerts.c.priority == value.upper()
        case "alias":
            return alerts.c.alias == value
        case "owner":
            return alerts.c.owner == value
        case "tinyid":
            return alerts.c.tiny == (int(value) if value.isdecimal() and int(value) < 2**63 else -1)
        case "message":
            return _contains(alerts.c.message, value)
        case "tag" | "tags" | "description" | "source" | "entity" | "details" | "teams" | "responders":
            return _contains(alerts.c.fields, value)
        case "createdat" | "updatedat" | "lastoccurredat":
            return _when(name.casefold(), sign or ":", value)
        case _:
            raise UsageError(f"the query asks for {name!r}, which cannot be searched for here")


def _contains(column: ColumnElement[str], value: str) -> ColumnElement[bool]:
    return func.lower(column).contains(value.strip("*").casefold(), autoescape=True)


def _when(name: str, sign: str, value: str) -> ColumnElement[bool]:
    column = {"createdat": alerts.c.created_at, "updatedat": alerts.c.updated_at}.get(name, alerts.c.last_at)
    try:
        at = float(value) / (1000 if len(value) > 11 else 1)
    except ValueError:
        raise UsageError("the query's time must be milliseconds since 1970") from None
    comparisons = {">": column > at, ">=": column >= at, "<": column < at, "<=": column <= at}
    return comparisons.get(sign, column == at)


def log(connection: Connection, alert_id: str, *, limit: int, kind: str | None = None, after: int | None = None,
        descending: bool = True) -> list[Line]:  # fmt: skip
    """An alert's log, newest first; `after` is the id of the last line of the page before."""
    query = select(lines).where(lines.c.alert_id == alert_id)
    if kind is not None:
        query = query.where(lines.c.kind == kind)
    if after is not None:
        query = query.where(lines.c.id < after if descending else lines.c.id > after)
    rows = connection.execute(query.order_by(lines.c.id.desc() if descending else lines.c.id).limit(limit))
    return [Line(row.id, row.at, row.by, row.kind, row.text) for row in rows]


def request(connection: Connection, request_id: str) -> Request | None:
    """What became of a request, by the id that its sender was given."""
    row = connection.execute(
        select(events, alerts.c.alias)
        .outerjoin(alerts, alerts.c.id == events.c.alert_id)
        .where(events.c.id == request_id)
    ).first()
    if row is None:
        return None
    return Request(row.id, row.at, row.action, row.integration, row.success, row.status, row.alert_id, row.alias)


def passed(connection: Connection, alert_id: str, *, limit: int = 50) -> list[Passed]:
    """What each upstream was told about an alert, newest first."""
    rows = connection.execute(
        select(deliveries, events.c.action)
        .join(events, events.c.seq == deliveries.c.seq)
        .where(deliveries.c.alert_id == alert_id, events.c.alert_id == alert_id)
        .order_by(deliveries.c.seq.desc())
        .limit(limit)
    )
    return [Passed(row.at, row.action, row.upstream, row.state, row.attempts, row.told or "") for row in rows]
