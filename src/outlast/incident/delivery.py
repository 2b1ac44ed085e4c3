"""Delivery: letters out of the outbox through their channels, side by side, so that none waits for another's.

One thread sends mail, over one connection and at most so many a minute; several call web hooks and chats, since one
that does not answer holds its thread for seconds. Each letter is written down as soon as it is sent, before
the next one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import zip_longest
from types import TracebackType
from typing import Self

from outlast.core.errors import OutlastError
from outlast.incident.channels.outcome import Outcome, Sender, Went
from outlast.incident.outbox import Outbox, Taken
from outlast.incident.subscribers import Channel, Subscribers

IDLE_S = 1.0
TAKE = 20
THREADS: Mapping[Channel, int] = {Channel.EMAIL: 1, Channel.WEBHOOK: 8, Channel.APPRISE: 4}


@dataclass
class Throttle:
    """At most `a_minute` a minute, evenly; None: as fast as it goes."""

    a_minute: int | None = None
    _next: float = field(default=0.0)

    def wait(self, stop: threading.Event) -> None:
        if self.a_minute is None:
            return
        now = time.monotonic()
        if self._next > now:
            stop.wait(self._next - now)
        self._next = max(self._next, now) + 60 / self.a_minute


class Delivery:
    """Context manager: its threads send while it is open. `senders` makes a channel's sender, one a thread."""

    def __init__(
        self,
        outbox: Outbox,
        subscribers: Subscribers,
        senders: Mapping[Channel, Callable[[], Sender]],
        *,
        mails_a_minute: int | None = None,
        say: Callable[[str], None] = lambda _: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._outbox = outbox
        self._subscribers = subscribers
        self._senders = senders
        self._throttle = Throttle(mails_a_minute)
        self._say = say
        self._clock = clock
        self._stop = threading.Event()
        self._work = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        for channel, make in self._senders.items():
            for number in range(THREADS[channel]):
                name = f"letters-{channel.value}-{number}"
                thread = threading.Thread(target=self._run, args=(channel, make), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._work.set()
        for thread in self._threads:
            thread.join(timeout=15)

    def wake(self) -> None:
        """There are new letters."""
        self._work.set()

    def drain(self) -> None:
        """Return when nothing is due any more in the channels that there are: sent, put off, or given up."""
        while not self._stop.is_set():
            if not self._outbox.due(self._senders, self._clock()):
                return
            self._stop.wait(0.02)

    def _run(self, channel: Channel, make: Callable[[], Sender]) -> None:
        with closing(make()) as sender:
            while not self._stop.is_set():
                if not self._send_some(channel, sender):
                    self._work.clear()
                    self._work.wait(IDLE_S)

    def _send_some(self, channel: Channel, sender: Sender) -> bool:
        """Whether there was anything to send."""
        try:
            # Of slow channels one at a time: what a thread holds behind a dead address waits for it.
            taken = self._outbox.take(channel, TAKE if channel is Channel.EMAIL else 1, self._clock())
            for one, then in zip_longest(taken, taken[1:]):
                if channel is Channel.EMAIL:
                    self._throttle.wait(self._stop)
                if self._stop.is_set():
                    self._outbox.put_back(taken[taken.index(one) :])
                    break
                self._record(one, sender.send(one.letter, again=one.again), then)
        except OutlastError as error:
            self._say(f"letters wait: {error.message}")
            return False
        return bool(taken)

    def _record(self, taken: Taken, outcome: Outcome, then: Taken | None) -> None:
        problem = outcome.problem or ""
        if outcome.went is Went.SENT:
            self._outbox.sent(taken.letter, self._clock(), then)
        elif outcome.went is Went.REFUSED:
            self._outbox.refused(taken.letter, problem, then)
            if taken.letter.subscriber is not None:
                self._subscribers.bounced(taken.letter.subscriber)
        else:
            unclear = outcome.went is Went.UNCLEAR
            self._outbox.later(taken, problem, self._clock(), then, unclear=unclear)
