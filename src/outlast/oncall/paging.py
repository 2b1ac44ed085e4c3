"""Paging: begins and ends escalations for the relay, and carries out what they are to do, whatever dies meanwhile.

`Paging` is the relay's `Pager`: its methods write rows in the relay's own transaction and send nothing. `run` looks at
what is due, decides by escalation.py, and sends. A notice is claimed before it is sent and settled after, each on disk.
A process that dies in between leaves one that may have gone out, which is sent again and says so: a page that is lost
is worse than one that comes twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from outlast.core.errors import OutlastError
from outlast.core.page import Page
from outlast.oncall import ledger, links, wording
from outlast.oncall.channels import Channels, Sent
from outlast.oncall.escalation import (
    SHOUT_AGAIN,
    CloseAlert,
    Expand,
    NoticeState,
    Send,
    Shout,
    Skip,
    State,
    after_failure,
    brought_forward,
    due,
    ends_at,
    planned,
)
from outlast.oncall.ledger import Record
from outlast.oncall.people import Person
from outlast.oncall.policy import Directory
from outlast.oncall.schedule import Override
from outlast.state.database import Database

log = logging.getLogger("outlast.paging")
T = TypeVar("T")
Write = Callable[[Callable[[Connection], T]], T]

_PAGES = 100  # looked at in one go
_SENDERS = 16
_SHOUTERS = 8  # apart from those: a service of last resort that hangs keeps no page from going out
_IDLE_S = 2.0
_TOGETHER = 30  # alerts in one message
_MESSAGES_A_MINUTE = 5  # to one contact; further ones wait for each other
_PAUSE = timedelta(seconds=15)


def _nothing(_connection: Connection, _alert_id: str, _text: str) -> None:
    return None


@dataclass
class Paging:
    """One instance's paging; several may work on one database. `directory` is asked anew for each look and may give
    None while there is no copy: then those of last resort are told.

    `note` is told what happened to an alert, in the transaction that records it; `close_alert` is asked to close one
    whose policy says so. `write` runs its argument in a transaction, perhaps twice.
    """

    database: Database
    channels: Channels
    directory: Callable[[], Directory | None]
    overrides: Callable[[], Mapping[str, Sequence[Override]]] = dict
    public_url: str | None = None
    default_policy: str | None = None
    note: Callable[[Connection, str, str], None] = _nothing
    close_alert: Callable[[str], None] | None = None
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    write: Any = None  # a Write; the database's own where it is not given
    _under_way: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _senders: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_SENDERS, thread_name_prefix="outlast-page")
    )
    _shouting: set[str] = field(default_factory=set)
    _shouters: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_SHOUTERS, thread_name_prefix="outlast-shout")
    )
    _loop: asyncio.AbstractEventLoop | None = None
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    # The relay's Pager

    def page(self, connection: Connection, page: Page) -> None:
        ledger.add(connection, page, self.clock())

    def acknowledge(self, connection: Connection, alert_id: str, by: str) -> None:
        ledger.acknowledge(connection, alert_id, by, self.clock())

    def close(self, connection: Connection, alert_id: str, by: str) -> None:
        ledger.close(connection, alert_id, self.clock())

    def reopen(self, connection: Connection, alert_id: str) -> None:
        ledger.begin_again(connection, alert_id, self.clock())

    def assign(self, connection: Connection, alert_id: str, owner: str, by: str) -> None:
        ledger.assign(connection, alert_id, owner, self.clock())

    def wake(self) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it may be ending
                self._loop.call_soon_threadsafe(self._woken.set)

    # Carrying out

    async def run(self) -> None:
        """Carry out what is due, until cancelled."""
        self._loop = asyncio.get_running_loop()
        if self.database.is_sqlite:  # one process has it: what was being sent died with the one before
            await asyncio.to_thread(self._do, lambda connection: ledger.recover(connection, self.clock()))
        while True:
            wait_s = _IDLE_S
            try:
                if await asyncio.to_thread(self.look):
                    continue
                wait_s = await asyncio.to_thread(self._pause_s)
            except OutlastError as error:
                log.warning("paging waits: %s", error.message)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._woken.wait(), wait_s)
            self._woken.clear()

    def _pause_s(self) -> float:
        with self.database.read() as connection:
            at = ledger.next_wake(connection)
        if at is None:
            return _IDLE_S
        return max(0.05, min(_IDLE_S, (at - self.clock()).total_seconds()))

    def look(self, *, wait: bool = False) -> int:
        """Do everything that is due now; gives how many pages were looked at. Sending goes on in threads of its own,
        unless it is to be waited for."""
        now = self.clock()
        with self.database.read() as connection:
            found = ledger.due_pages(connection, now, _PAGES)
        sending: list[Future[None]] = []
        for alert_id in found:
            try:
                sending += self._look_at(alert_id, now)
            except OutlastError:
                raise
            except Exception as error:  # noqa: BLE001 - one page's documents must not keep the others from going out
                # What it says may carry a document: its type is told, and the alert.
                log.error("the escalation of alert %s cannot be gone on with: %s", alert_id, type(error).__name__)  # noqa: TRY400
                sending += self._given_up(alert_id, now)
        if wait:
            for one in sending:
                one.result()
        return len(found)

    def stop(self) -> None:
        """End sending, once what is being sent is settled."""
        self._senders.shutdown(wait=True)
        self._shouters.shutdown(wait=True)

    def settle(self) -> None:
        """Look until nothing is due any more, and every sending has ended. For tests, and for a test page."""
        while self.look(wait=True):
            continue

    def _look_at(self, alert_id: str, now: datetime) -> list[Future[None]]:
        with self.database.read() as connection:
            record = ledger.record(connection, alert_id)
        if record is None:
            return []
        if not record.planned:
            self._plan(record)
            with self.database.read() as connection:
                record = ledger.record(connection, alert_id) or record
        sends: list[Send] = []
        started: list[Future[None]] = []
        for action in due(record.escalation, now):
            match action:
                case Expand():
                    self._expand(record, action, now)
                case Skip(step):
                    self._do(partial(ledger.skip, alert_id=alert_id, step=step, now=now))
                case Send():
                    sends.append(action)
                case Shout():
                    started += self._shout(record, now, _why(record))
                case CloseAlert():
                    self._close(record, now)
        started += [future for one in sends if (future := self._start(record, one))]
        self._do(lambda connection: ledger.rewake(connection, alert_id, self._busy(), now))
        return started

    def _plan(self, record: Record) -> None:
        directory = self.directory()
        policy = directory.policy(record.page, self.default_policy) if directory else None
        steps = planned(policy, record.at, record.first_round) if policy else ()
        name = policy.name if policy else ""
        close = ends_at(policy, record.at) if policy else None

        def work(connection: Connection) -> None:
            if ledger.plan(connection, record, name, steps, close):
                told = f"escalating by {name}" if steps else "no policy is known for it"
                self.note(connection, record.page.alert_id, told)

        self._do(work)

    def _expand(self, record: Record, action: Expand, now: datetime) -> None:
        directory, step = self.directory(), action.step
        people = directory.people_of(step.step, record.page, now, self.overrides()) if directory else []
        notified = [(person, _contacts(person, record.page, now)) for person in people]

        def work(connection: Connection) -> None:
            if not ledger.expand(connection, record.page.alert_id, step, notified, now):
                return
            names = ", ".join(person.name for person in people) or "nobody"
            early = ", before its time, since nobody was reached" if action.early else ""
            self.note(connection, record.page.alert_id, f"to be told ({step.step.recipient}): {names}{early}")
            ledger.wake(connection, record.page.alert_id, now)

        self._do(work)

    # Sending

    def _busy(self) -> frozenset[int]:
        with self._lock:
            return frozenset(self._under_way)

    def _start(self, record: Record, action: Send) -> Future[None] | None:
        with self._lock:
            if action.notice.id in self._under_way:
                return None
            self._under_way.add(action.notice.id)
        return self._senders.submit(self._send, record, action)

    def _send(self, record: Record, action: Send) -> None:
        notice, taken = action.notice, list[tuple[int, Page]]()
        try:
            key, taken = self._do(lambda connection: self._take(connection, record, action, self.clock()))
            if not taken:
                return
            told = [(page, self._link(key, number)) for number, page in taken]
            if len(told) == 1:
                message = wording.paged(record.page, notice.method, told[0][1], doubtful=action.doubtful)
            else:
                message = wording.several(told, notice.method, self.public_url)
            sent, now = self.channels.send(notice.method, notice.address, message), self.clock()

            def settle(connection: Connection) -> None:
                for number, page in taken:
                    self._settle(connection, page.alert_id, number, sent, now)

            self._do(settle)
        except OutlastError as error:
            log.warning("a page could not be recorded, and is looked at again: %s", error.message)
        finally:
            with self._lock:
                self._under_way.discard(notice.id)
            for alert_id in {record.page.alert_id, *(page.alert_id for _, page in taken)}:
                self._do_quietly(partial(ledger.rewake, alert_id=alert_id, under_way=self._busy(), now=self.clock()))
            self.wake()

    def _take(
        self, connection: Connection, record: Record, action: Send, now: datetime
    ) -> tuple[bytes, list[tuple[int, Page]]]:
        """Claim a notice, and with it those of other alerts that are due at the same contact: one message has them all.

        A contact that has had many messages in the last minute gets the next a little later, with what came meanwhile:
        a telephone that never stops cannot be answered.
        """
        key, notice = ledger.signing_key(connection), action.notice
        fresh = notice.state is NoticeState.WAITING and not notice.tries
        if fresh:
            before = ledger.sent_since(connection, notice, now - timedelta(minutes=1))
            if len(before) >= _MESSAGES_A_MINUTE and before[-1] + _PAUSE > now:
                ledger.postpone(connection, notice.id, before[-1] + _PAUSE)
                return key, []
        if not ledger.claim(connection, notice.id, now, doubtful=action.doubtful):
            return key, []
        taken = [(notice.id, record.page)]
        for number, alert_id in ledger.companions(connection, notice, now, _TOGETHER - 1) if fresh else ():
            other = ledger.record(connection, alert_id)
            if other is not None and ledger.claim(connection, number, now, doubtful=False):
                taken.append((number, other.page))
        return key, taken

    def _settle(self, connection: Connection, alert_id: str, notice: int, sent: Sent, now: datetime) -> None:
        told = sent.told
        record = ledger.record(connection, alert_id)
        assert record is not None
        one = next(found for found in record.escalation.notices if found.id == notice)
        name = record.names[notice]
        if sent.ok:
            ledger.settle(connection, notice, NoticeState.SENT, told, now)
            self.note(connection, alert_id, f"{name} was told by {one.method}: {told}")
            return
        state, again = (NoticeState.FAILED, now) if sent.final else after_failure(one, now)
        over = record.escalation.state is not State.ESCALATING and state is NoticeState.WAITING
        ledger.settle(connection, notice, NoticeState.CANCELLED if over else state, told, now, again)
        ledger.bring_forward(connection, brought_forward(record.escalation.notices, one), now)
        self.note(connection, alert_id, f"{name} could not be told by {one.method}: {told}")

    def _link(self, key: bytes, notice: int) -> str | None:
        if not self.public_url:
            return None
        return f"{self.public_url}/a/{links.signed(key, notice, self.clock() + links.LIFETIME)}"

    def _shout(self, record: Record, now: datetime, why: str) -> list[Future[None]]:
        """Nobody could be reached. It is tried until a service of last resort has it."""
        alert_id = record.page.alert_id
        with self._lock:
            if alert_id in self._shouting:
                return []
            self._shouting.add(alert_id)
        log.error("a page could reach nobody: %s", why)
        try:
            self._do(lambda connection: ledger.shouted(connection, alert_id, now, now + SHOUT_AGAIN))
            return [self._shouters.submit(self._tell_last_resort, record, now, why)]
        except BaseException:
            with self._lock:
                self._shouting.discard(alert_id)
            raise

    def _tell_last_resort(self, record: Record, now: datetime, why: str) -> None:
        alert_id = record.page.alert_id
        page = f"{self.public_url}/alerts/{alert_id}" if self.public_url else None
        sent = self.channels.shout(
            wording.unreached(record.page, page, why, doubtful=record.escalation.shout_at is not None)
        )
        if not sent.ok:
            log.error("and those of last resort could not be told: %s", sent.told)

        def work(connection: Connection) -> None:
            ledger.shouted(connection, alert_id, now, None if sent.ok else now + SHOUT_AGAIN)
            self.note(connection, alert_id, f"NOBODY COULD BE REACHED ({why}); {sent.told}")
            ledger.rewake(connection, alert_id, self._busy(), self.clock())

        self._do_quietly(work)
        with self._lock:
            self._shouting.discard(alert_id)
        self.wake()

    def _close(self, record: Record, now: datetime) -> None:
        alert_id = record.page.alert_id
        self._do(lambda connection: ledger.close(connection, alert_id, now))
        if self.close_alert is not None:
            self.close_alert(alert_id)

    def _given_up(self, alert_id: str, now: datetime) -> list[Future[None]]:
        with self.database.read() as connection:
            record = ledger.record(connection, alert_id)
        started: list[Future[None]] = []
        if record is not None and not record.escalation.shouted and record.escalation.state is State.ESCALATING:
            started = self._shout(record, now, "its escalation cannot be carried out; Outlast's log says why")
        self._do(lambda connection: ledger.wake(connection, alert_id, now + SHOUT_AGAIN))
        return started

    def _do(self, work: Callable[[Connection], T]) -> T:
        if self.write is not None:
            result: T = self.write(work)
            return result
        with self.database.write() as connection:
            return work(connection)

    def _do_quietly(self, work: Callable[[Connection], object]) -> None:
        try:
            self._do(work)
        except OutlastError as error:
            log.warning("paging's state could not be written, and is looked at again: %s", error.message)


def _contacts(person: Person, page: Page, now: datetime) -> list[tuple[str, str, datetime, NoticeState]]:
    """A person's notices: what their rules try, and the other contacts for when all of that has failed."""
    attempts = person.attempts(page, now)
    named = {one.contact for one in attempts}
    found = [(one.contact.method, one.contact.address, now + one.after, NoticeState.WAITING) for one in attempts]
    spare = [one for one in person.contacts if one not in named]
    return found + [(one.method, one.address, now, NoticeState.SPARE) for one in spare]


def _why(record: Record) -> str:
    if not record.escalation.steps:
        return "no escalation policy is known for it, or there is no copy of one"
    if not record.escalation.notices:
        return "nobody is on call, or nobody known"
    return "no contact of anybody took it"
