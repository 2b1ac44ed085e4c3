"""The tripwire at work: follow's thread feeds it, a thread of its own halts, tells and remembers.

Nothing here waits on the feeding thread, and nothing raises there: a notification that hangs, a server that does not
answer and a bug of ours are told, and capture goes on. The acting thread looks after the halt's connection every
second, so that it is there when it is needed. The halt comes first; the message says what it did.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Self, TypeVar

from outlast.capture.incident import Incident
from outlast.capture.incident_book import IncidentBook
from outlast.capture.notify import Halting, Notifier, compose
from outlast.capture.tripwire import Alarm, Fact, Tripwire
from outlast.core.errors import OutlastError
from outlast.core.moment import Lsn
from outlast.messages import Message
from outlast.sources.postgres.halt import Halted, Halter, halt_word

T = TypeVar("T")

BEAT_S = 1.0
CLOSE_S = 15.0
PATROL_S = 60.0
"""How long after a halt sessions of the roles that turn up are ended: one may have been logging in."""
RETRIES_S = (5.0, 30.0)
GROWTH = 10
"""An incident is told again when so many times the tenants are losing data as when it was told last."""


@dataclass(slots=True)
class Sentry:
    """Context manager. `say` prints a line for the operator; `halter` is None where nobody is to be halted, and then
    `why_not` says why. `open_book` is called on the acting thread: SQLite connections stay with theirs."""

    tripwire: Tripwire | None
    source: str = "main"
    notifier: Notifier = field(default_factory=lambda: Notifier(()))
    halter: Halter | None = None
    why_not: str = "no role is named under halt_roles in outlast.toml"
    open_book: Callable[[], IncidentBook] | None = None
    say: Callable[[str], None] = lambda _: None
    report: Callable[[Incident, str], None] | None = (
        None  # whoever leads incidents: told what happened, and each growth
    )
    told: int = 0  # incidents of which somebody was told
    failures: list[str] = field(default_factory=list)
    halted: Halted | None = None
    _alarms: SimpleQueue[Alarm | None] = field(default_factory=SimpleQueue)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _threads: list[threading.Thread] = field(default_factory=list)
    _book: IncidentBook | None = None
    _reset_seen: str | None = None
    _patrol_until: float = 0.0
    _dirty: bool = False
    _reported: tuple[datetime, int, int] | None = None
    _told_of: tuple[Incident, Halting, int] | None = None  # the last that was told, and how many tenants it had then
    _closing: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def disabled(cls) -> Self:
        """One that does nothing: [tripwire] is off."""
        return cls(None)

    def __enter__(self) -> Self:
        if self.tripwire is not None:
            thread = threading.Thread(target=self._act, name="tripwire", daemon=True)
            self._threads.append(thread)
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._alarms.put(None)
        deadline = time.monotonic() + CLOSE_S
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    # On the feeding thread -------------------------------------------------------------------------------------------

    @property
    def tombstone(self) -> str | None:
        """The table whose inserts are wanted as facts."""
        return None if self.tripwire is None else self.tripwire.rules.tombstone

    @property
    def incident(self) -> Incident | None:
        """The incident that is going on, for metrics."""
        return None if self.tripwire is None else self.tripwire.incident

    def observe(self, facts: Sequence[Fact], *, lag_s: float = 0.0) -> None:
        if facts:
            self._feed(lambda tripwire: tripwire.observe(facts, lag_s=lag_s))
            self._dirty = self._dirty or any(fact.table == self.tombstone for fact in facts)

    def committed(self, xid: int, at: datetime, commit: Lsn) -> None:
        self._feed(lambda tripwire: tripwire.committed(xid, at, commit))

    def aborted(self, xid: int) -> None:
        self._feed(lambda tripwire: tripwire.aborted(xid))

    def withdraw(self, facts: Iterable[Fact]) -> None:
        self._feed(lambda tripwire: tripwire.withdraw(facts))

    def dropped(self, table: str, xid: int, at: datetime | None, *, lag_s: float = 0.0) -> None:
        self._feed(lambda tripwire: tripwire.dropped(table, xid, at, lag_s=lag_s))

    def tick(self) -> None:
        self._feed(lambda tripwire: tripwire.tick())

    def _feed(self, work: Callable[[Tripwire], Alarm | None]) -> None:
        if self.tripwire is None:
            return
        try:
            with self._lock:
                alarm = work(self.tripwire)
        except Exception as error:  # noqa: BLE001 - a bug in the tripwire must not end capture; it is told, once a kind
            self._fail(f"the tripwire itself failed ({type(error).__name__}): it may not see what it should")
            return
        if alarm is not None:
            self._alarms.put(alarm)

    # On the acting thread --------------------------------------------------------------------------------------------

    def _act(self) -> None:
        self._book = self._tried("open the local state", self.open_book) if self.open_book else None
        if self._book is not None:
            self._reset_seen = self._book.reset_asked()
        self._beat()
        while True:
            try:
                alarm = self._alarms.get(timeout=BEAT_S)
            except Empty:
                self._beat()
                continue
            if alarm is None:
                self._keep_books()
                if self.halter is not None:
                    self.halter.close()
                return
            self._answer(alarm)

    def _answer(self, alarm: Alarm) -> None:
        incident = alarm.incident
        message = self._announce(incident, self._halt(alarm))
        self._report(incident, message.title)

    def _announce(self, incident: Incident, halting: Halting, *, again: bool = False) -> Message:
        with self._lock:
            assert self.tripwire is not None
            thresholds = {rule.value: number for rule, number in self.tripwire.rules.thresholds().items()}
            message = compose(self.source, incident, halting, thresholds, again=again)
            self._told_of = None if incident.ended else (incident, halting, incident.tenants)
        self.say(f"TRIPWIRE\n{message.title}\n{message.body}")
        self._write(incident)
        self._tell(message)
        return message

    def _follow_up(self) -> None:
        """What came after the message: the loss grows, or it is over and came to more or less than was told."""
        if self._told_of is None:
            return
        incident, halting, told = self._told_of
        with self._lock:
            tenants, ended = incident.tenants, incident.ended
        if ended and tenants == told:
            self._told_of = None
        elif ended or tenants >= GROWTH * max(1, told):
            self._announce(incident, halting, again=True)

    def _halt(self, alarm: Alarm) -> Halting:
        halter = self.halter
        with self._lock:
            in_progress = alarm.incident.in_progress
        if halter is None:
            return Halting(why_not=self.why_not)
        if not alarm.halt:
            seen = self._tried("look for the sessions", lambda: halter.look(in_progress)) or ()
            return Halting(seen=seen, why_not="it is told late, or of what can be brought back, and nobody is shut out")
        self.halted = halter.act(in_progress, halt_word())
        self._patrol_until = time.monotonic() + PATROL_S
        for failure in self.halted.failures:
            self._fail(f"the halt: {failure}")
        return Halting(self.halted)

    def _tell(self, message: Message) -> None:
        """On a thread of its own: a service that hangs must not hold up a halt."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=self._send, args=(message,), name="tripwire-notify", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _send(self, message: Message) -> None:
        notifier = self.notifier
        if not len(notifier):
            self._fail("nobody was notified: no URL is in OUTLAST_NOTIFY, and there is no notify_command")
            return
        left = notifier.send(message)
        for pause in RETRIES_S:
            if not left:
                break
            self._fail(f"not notified yet: {', '.join(left)}")
            self._closing.wait(pause)
            left = notifier.send(message, only=left)
        if left:
            self._fail(f"NOT notified: {', '.join(left)}")
        self.told += len(left) < len(notifier)

    def _beat(self) -> None:
        """Once a second: is the halt's connection there, has a person reset it, is anything to be written?"""
        if self.halter is not None:
            self._tried("keep the halt's connection ready", self.halter.open)
            if time.monotonic() < self._patrol_until:
                self._tried("end sessions of halted roles", self.halter.patrol)
        self._keep_books()
        self._follow_up()
        asked = self._book.reset_asked() if self._book is not None else None
        if asked != self._reset_seen:
            self._reset_seen, self._patrol_until, self.halted, self._told_of = asked, 0.0, None, None
            with self._lock:
                assert self.tripwire is not None
                self.tripwire.reset()
            self.say("the tripwire was reset")

    def _keep_books(self) -> None:
        book = self._book
        if book is None or self.tripwire is None:
            return
        if self._dirty:
            self._dirty = False
            with self._lock:
                tombstones = dict(self.tripwire.tombstones)
            self._tried("remember declared closings", lambda: book.write_tombstones(tombstones))
        incident = self.tripwire.incident
        if incident is not None:
            self._write(incident)
            if self._reported is not None:
                self._report(incident, "the loss goes on")

    def _report(self, incident: Incident, what: str) -> None:
        """On this thread: what leads incidents is on this host, and a halt came before it."""
        report = self.report
        with self._lock:
            size = (incident.since, incident.tenants, incident.rows)
            told = replace(incident, lost=dict(incident.lost), labels=dict(incident.labels))
        if report is None or size == self._reported:
            return
        self._tried("tell the incident", lambda: report(told, what))
        self._reported = size

    def _write(self, incident: Incident) -> None:
        book = self._book
        if book is None:
            return
        with self._lock:
            document = incident.to_json()
        if self.halted is not None:
            document["halt"] = {
                "roles": list(self.halted.roles),
                "sessions": self.halted.ended,
                "seconds": round(self.halted.seconds, 3),
                "outcomes": {str(xid): outcome for xid, outcome in self.halted.outcomes.items()},
                "failures": list(self.halted.failures),
            }
        document["written"] = datetime.now(UTC).isoformat()
        self._tried("remember the incident", lambda: book.write(document))

    def _tried(self, doing: str, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except OutlastError as error:
            self._fail(f"the tripwire could not {doing}: {error.message}")
        except Exception as error:  # noqa: BLE001 - the acting thread must live; a driver's text may hold a row
            self._fail(f"the tripwire could not {doing} ({type(error).__name__})")
        return None

    def _fail(self, told: str) -> None:
        if told not in self.failures[-5:]:
            self.say(f"Warning: {told}")
        self.failures = [*self.failures[-99:], told]
