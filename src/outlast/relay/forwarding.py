"""Passes on what was accepted, upstream by upstream, and sees to it that nobody waits for a vendor that is silent.

One `Forwarder` an upstream sends; the `Watch` beside them pages for what none has confirmed in time. Both only ever
decide in the database's transactions, so that a process that is killed anywhere is continued by the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from outlast.core.errors import OutlastError
from outlast.relay import queue
from outlast.relay.breaker import Breaker, Override, State
from outlast.relay.commit import Commits
from outlast.relay.journal import ACCEPTED
from outlast.relay.queue import Parcel
from outlast.relay.upstream import Answer, Upstream, Verdict
from outlast.state.database import Database
from outlast.state.paging import Pager

PARALLEL = 8
PARALLEL_BUSY = 2  # while many events come in: taking them goes first
_IDLE_S = 0.5
_STEP_S = 0.03  # between looks for what is due: events and answers that come together are looked at together
_WATCH_S = 0.3
_WATCH_BUSY_S = 0.03

log = logging.getLogger("outlast.relay")


@dataclass
class Line:
    """One upstream, and how it stands. Only its forwarder changes it."""

    upstream: Upstream
    confirm_within_s: float
    heartbeat_s: float
    breaker: Breaker = field(default_factory=Breaker)
    override: Override | None = None
    heard_at: float = 0.0  # when it last answered
    asked_at: float = 0.0
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def stands_in(self) -> bool:
        return self.breaker.stands_in(self.override)

    @property
    def reason(self) -> str:
        """Why alerts are paged for here."""
        if self.override is Override.STAND_IN:
            return "a person switched to standing in"
        if self.breaker.state is State.OPEN:
            return f"it is away ({self.breaker.why})"
        return "it has not confirmed the alert in time"


class Forwarder:
    """Sends one upstream what waits for it, until cancelled."""

    def __init__(
        self, line: Line, database: Database, commits: Commits, pager: Pager, clock: Callable[[], float] = time.time
    ) -> None:
        self._line = line
        self._database = database
        self._commits = commits
        self._pager = pager
        self._clock = clock
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._hurry = False  # it came back: see queue.hurry

    async def run(self) -> None:
        try:
            while True:
                await self._step()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._line.wake.wait(), _IDLE_S)
                self._line.wake.clear()
                await asyncio.sleep(_STEP_S)
        finally:
            for task in list(self._busy.values()):
                task.cancel()
            await asyncio.gather(*self._busy.values(), return_exceptions=True)

    async def _step(self) -> None:
        try:
            await self._probe()
            if self._hurry:
                self._hurry = False
                name, now = self._line.upstream.name, self._clock()
                await self._commits.do(lambda connection: queue.hurry(connection, name, now))
            free = (PARALLEL_BUSY if self._commits.busy else PARALLEL) - len(self._busy)
            if free <= 0 or not self._line.breaker.may_send(self._line.override, len(self._busy)):
                return
            limit = 1 if self._line.breaker.state is State.HALF_OPEN else free
            parcels = await asyncio.to_thread(self._due, limit)
            sending = [parcel for parcel in parcels if parcel.state != ACCEPTED]
            if sending:
                await self._commits.do(lambda connection: queue.begun(connection, sending))
        except OutlastError as error:
            # The database is away: nothing can be decided. What was accepted is in it, and is looked at again.
            log.warning("forwarding to %s waits: %s", self._line.upstream.name, error.message)
            return
        for parcel in parcels:
            self._busy[parcel.alert.id] = asyncio.create_task(self._deliver(parcel))

    def _due(self, limit: int) -> list[Parcel]:
        with self._database.read() as connection:
            return queue.due(connection, self._line.upstream.name, self._clock(), set(self._busy), limit)

    async def _deliver(self, parcel: Parcel) -> None:
        try:
            answer = await self._answer(parcel)
            self._judge(answer)

            def settle(connection: Connection) -> bool:
                return queue.settle(connection, self._pager, parcel, answer, self._clock())

            if await self._commits.do(settle):
                self._pager.wake()
        except OutlastError as error:
            log.warning("an answer of %s could not be kept: %s", self._line.upstream.name, error.message)
        finally:
            self._busy.pop(parcel.alert.id, None)
            self._line.wake.set()

    async def _answer(self, parcel: Parcel) -> Answer:
        upstream = self._line.upstream
        if parcel.state == ACCEPTED and parcel.reference:
            return await upstream.ask(parcel.reference)
        if parcel.attempts and await upstream.has(parcel.event, parcel.alert):
            return Answer(Verdict.DONE, "it had it already")
        return await upstream.send(parcel.event, parcel.alert)

    def _judge(self, answer: Answer) -> None:
        now = self._clock()
        before = self._line.breaker.state
        if answer.healthy:
            # What was accepted is no success yet: a vendor that accepts everything and loses it is away.
            if answer.verdict is not Verdict.ACCEPTED:
                self._line.breaker = self._line.breaker.succeeded(now)
            self._line.heard_at = now
        else:
            self._line.breaker = self._line.breaker.failed(now, answer.told)
        if self._line.breaker.state is not before:
            self._hurry = self._line.breaker.state is State.CLOSED
            log.warning("upstream %s is now %s %s", self._line.upstream.name, self._line.breaker.state, answer.told)

    async def _probe(self) -> None:
        """Ask whether it is there: each heartbeat, and while it is away as often as the breaker says."""
        line, now = self._line, self._clock()
        if line.breaker.state is State.OPEN:
            if now < line.breaker.probe_at:
                return
        elif now - max(line.heard_at, line.asked_at) < line.heartbeat_s and (
            line.breaker.state is not State.HALF_OPEN or self._busy
        ):
            return
        line.asked_at = now
        self._judge(await line.upstream.probe())


Switched = Callable[[str, str | None, float], None]
"""Hears that we stand in for an upstream, why, and since when, again and again; and once (None) that it is over. On a
thread of its own."""
_TELL_S = 5.0


class Watch:
    """Pages for what no upstream confirmed in time, and reads a person's overrides, until cancelled."""

    def __init__(
        self, lines: Sequence[Line], database: Database, commits: Commits, pager: Pager,
        clock: Callable[[], float] = time.time, switched: Switched = lambda name, why, since: None,
    ) -> None:  # fmt: skip
        self._switched = switched
        self._stood: dict[str, tuple[float, float]] = {}  # by name: since when, and when that was told last
        self._lines = lines
        self._database = database
        self._commits = commits
        self._pager = pager
        self._clock = clock

    async def run(self) -> None:
        while True:
            try:
                judged = await self._look()
            except OutlastError as error:
                log.warning("the watch over deliveries waits: %s", error.message)
                judged = 0
            await asyncio.sleep(_WATCH_BUSY_S if judged else _WATCH_S)

    async def _look(self) -> int:
        modes = await asyncio.to_thread(self._modes)
        for line in self._lines:
            mode = modes.get(line.upstream.name)
            line.override = Override(mode) if mode else None
            await self._tell(line)
        now = self._clock()
        before = {line.upstream.name: now if line.stands_in else now - line.confirm_within_s for line in self._lines}
        reasons = {line.upstream.name: line.reason for line in self._lines}
        if not await asyncio.to_thread(self._any, before, now):
            return 0

        def page(connection: Connection) -> int:
            return queue.page_overdue(connection, self._pager, before, reasons) + queue.end_snoozes(
                connection, self._pager, now
            )

        judged = await self._commits.do(page)
        self._pager.wake()
        return judged

    async def _tell(self, line: Line) -> None:
        name, now = line.upstream.name, self._clock()
        since, told = self._stood.get(name, (now, 0.0))
        if line.stands_in and now - told >= _TELL_S:
            self._stood[name] = since, now
            await asyncio.to_thread(self._switched, name, line.reason, since)
        elif not line.stands_in and self._stood.pop(name, None) is not None:
            await asyncio.to_thread(self._switched, name, None, since)

    def _modes(self) -> dict[str, str]:
        with self._database.read() as connection:
            return queue.overridden(connection)

    def _any(self, before: dict[str, float], now: float) -> bool:
        with self._database.read() as connection:
            return queue.any_overdue(connection, before, now)
