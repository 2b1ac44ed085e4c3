"""The pager of last resort: every page goes to everybody who is named in OUTLAST_NOTIFY, until each was told once.

It needs no schedule and no contact of anybody, so it works on the first day, and where on-call has nobody to reach.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Float, Index, Integer, MetaData, Table, Text, insert, select, text, update

from outlast.core.errors import OutlastError
from outlast.core.page import Page
from outlast.relay.commit import Commits
from outlast.state.database import Database, Schema

metadata = MetaData()
announcements = Table(
    "relay_announcement",
    metadata,
    Column("alert_id", Text, primary_key=True),
    Column("title", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("at", Float, nullable=False),
    Column("attempts", Integer, nullable=False, default=0),
    Column("due_at", Float),  # NULL: everybody was told, or it is over
    Column("left", Text),  # those not told yet, one a line; NULL: all
    Index(
        "relay_announcement_due",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
)
SCHEMA = Schema("announcing", metadata)

_AGAIN_FIRST_S, _AGAIN_MAX_S = 2.0, 60.0
_IDLE_S = 2.0
Send = Callable[[str, str, Sequence[str] | None], Sequence[str]]
"""Sends (title, body) to all, or to those named; gives the names of those who could not be told. Blocks."""

log = logging.getLogger("outlast.relay")


@dataclass(frozen=True, slots=True)
class _Due:
    alert_id: str
    title: str
    body: str
    attempts: int
    left: tuple[str, ...] | None


class Announcer:
    """A `Pager` (state/paging). `run` sends what is due, until cancelled."""

    def __init__(self, database: Database, commits: Callable[[], Commits], send: Send, public_url: str | None) -> None:
        self._database = database
        self._commits = commits
        self._send = send
        self._public_url = public_url
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()

    def page(self, connection: Connection, page: Page) -> None:
        known = select(announcements.c.alert_id).where(announcements.c.alert_id == page.alert_id)
        if connection.scalar(known) is not None:
            return
        connection.execute(
            insert(announcements).values(
                alert_id=page.alert_id,
                title=f"{page.priority} {page.message}"[:250],
                body=composed(page, self._public_url),
                at=time.time(),
                attempts=0,
                due_at=0.0,
            )
        )

    def acknowledge(self, connection: Connection, alert_id: str, by: str) -> None:
        self.close(connection, alert_id, by)

    def close(self, connection: Connection, alert_id: str, by: str) -> None:
        connection.execute(update(announcements).where(announcements.c.alert_id == alert_id).values(due_at=None))

    def reopen(self, connection: Connection, alert_id: str) -> None:
        pass  # everybody was told once; there is nobody further to tell

    def assign(self, connection: Connection, alert_id: str, owner: str, by: str) -> None:
        pass

    def wake(self) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._woken.set)

    async def run(self) -> None:
        self._loop = asyncio.get_running_loop()
        while True:
            try:
                while due := await asyncio.to_thread(self._due):
                    await asyncio.gather(*(self._announce(one) for one in due))
            except OutlastError as error:
                log.warning("announcing waits: %s", error.message)
            try:
                await asyncio.wait_for(self._woken.wait(), _IDLE_S)
            except TimeoutError:
                continue
            self._woken.clear()

    def _due(self) -> list[_Due]:
        with self._database.read() as connection:
            rows = connection.execute(
                select(announcements)
                .where(announcements.c.due_at <= time.time())
                .order_by(announcements.c.due_at, announcements.c.at)
                .limit(8)
            ).all()
        return [
            _Due(row.alert_id, row.title, row.body, row.attempts, tuple(row.left.split("\n")) if row.left else None)
            for row in rows
        ]

    async def _announce(self, due: _Due) -> None:
        # Noted before it is sent: where this process dies in between, the second message says that it is one.
        later = time.time() + min(_AGAIN_MAX_S, _AGAIN_FIRST_S * 2 ** min(due.attempts, 6))
        one = announcements.c.alert_id == due.alert_id
        await self._commits().do(
            lambda connection: (
                connection.execute(
                    update(announcements).where(one).values(attempts=due.attempts + 1, due_at=later)
                ).rowcount
            )
        )
        again = due.attempts > 0 and due.left is None
        body = f"(You may have had this before.)\n{due.body}" if again else due.body
        left = await asyncio.to_thread(self._send, due.title, body, due.left)
        if left:
            log.error("a page could not be sent to %d receivers; it is tried again", len(left))
        values = {"left": "\n".join(left)} if left else {"due_at": None, "left": None}
        await self._commits().do(
            lambda connection: connection.execute(update(announcements).where(one).values(**values)).rowcount
        )


def composed(page: Page, public_url: str | None) -> str:
    """What a person reads who is woken up by it."""
    lines = [page.message, ""]
    lines += [page.description[:1000], ""] if page.description else []
    lines += [f"Priority: {page.priority}. From: {page.source or page.integration}. At {page.at:%Y-%m-%d %H:%M:%S}Z."]
    named = [one.name or one.id or "" for one in page.responders]
    lines += [f"For: {', '.join(named)}."] if any(named) else []
    lines += [f"Outlast pages because {page.reason}."]
    lines += ["The vendor may have paged for it as well: its answer was lost."] if page.doubtful else []
    lines += [f"{public_url}/alerts/{page.alert_id}"] if public_url else []
    return "\n".join(lines)
