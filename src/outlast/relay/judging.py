"""Whether somebody has to be woken up from here, and that it is begun once an alert."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, select

from outlast.core.page import Page, Responder
from outlast.relay.alert import Alert
from outlast.relay.tables import integrations
from outlast.state.paging import Pager

_SERVICE = select(integrations.c.service).where(integrations.c.name == bindparam("name"))


def to_page(alert: Alert, now: float) -> bool:
    """Whether nobody has it, and nobody was paged for it from here."""
    return alert.paged_at is None and alert.waits_for_somebody(now)


def begin_page(
    connection: Connection, pager: Pager, alert: Alert, event_id: str, at: float, reason: str, *, doubtful: bool = False
) -> None:
    """Hand an alert to paging, in the caller's transaction, which also has to write `paged_at` and a log line."""
    service = connection.scalar(_SERVICE, {"name": alert.integration})
    pager.page(connection, _page(alert, event_id, at, reason, service, doubtful=doubtful))


def paged_line(alert: Alert, reason: str, at: float) -> dict[str, object]:
    """What an alert's own log says about it."""
    return {"alert_id": alert.id, "at": at, "by": "Outlast", "kind": "paged", "text": reason}


def _page(alert: Alert, event_id: str, at: float, reason: str, service: str | None, *, doubtful: bool) -> Page:
    return Page(
        alert_id=alert.id,
        event_id=event_id,
        integration=alert.integration,
        message=alert.message,
        priority=alert.priority,
        at=datetime.fromtimestamp(at, UTC),
        reason=reason,
        description=alert.description,
        source=alert.source,
        responders=tuple(
            Responder(one.get("type", ""), one.get("id"), one.get("name") or one.get("username"))
            for one in alert.responders
        ),
        tags=alert.tags,
        details=dict(alert.details or {}),
        service=service,
        doubtful=doubtful,
    )
