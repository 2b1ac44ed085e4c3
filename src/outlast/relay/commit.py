"""Group commit: what many requests want written at once goes to disk in one transaction, and then each is answered.

One thread writes. While it waits for the disk, the next requests gather; so the more there are at once, the more share
one fsync. Nothing is answered before the transaction that holds it has been committed.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from sqlalchemy import Connection

from outlast.core.errors import TransientError
from outlast.relay.event import Event
from outlast.relay.journal import Taken, take
from outlast.state.database import Database
from outlast.state.paging import Pager

EVENTS_MAX = 500  # in one transaction
GATHER_S = 0.004
GATHER_TO = 32
MANY = 2  # events in one commit: more than that come in a crowd
WAITING_MAX = 20_000  # events not yet on disk: beyond that senders are told to try again
T = TypeVar("T")


@dataclass(slots=True)
class _Order:
    events: Sequence[Event] = ()
    work: Callable[[Connection], Any] | None = None
    future: Future[Any] = field(default_factory=Future)


class OverloadedError(TransientError):
    """More is waiting for the disk than is good: the sender is to try again, and knows that nothing was taken."""

    default_code = "overloaded"


class Commits:
    """The one writer. A context manager: what was ordered before the end is written before it closes."""

    def __init__(self, database: Database, pager: Pager) -> None:
        self._database = database
        self._pager = pager
        self._orders: deque[_Order] = deque()
        self._waiting = 0
        self._condition = threading.Condition()
        self._ending = False
        self._busy = False
        self._many = False
        self._listeners: list[Callable[[], None]] = []
        self._thread = threading.Thread(target=self._run, name="outlast-commits", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._condition:
            self._ending = True
            self._condition.notify()
        self._thread.join()

    @property
    def busy(self) -> bool:
        """Whether events come in faster than one a commit."""
        return self._many

    def listen(self, listener: Callable[[], None]) -> None:
        """Have `listener` called after each commit, in the writer's thread. It must return at once."""
        self._listeners.append(listener)

    async def take(self, events: Sequence[Event]) -> list[Taken]:
        """Record events, in their order. Returns when they are on disk."""
        taken: list[Taken] = await asyncio.wrap_future(self._order(_Order(events)))
        return taken

    async def do(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in a transaction of the writer's. It may run twice: where another's work in it failed."""
        result: T = await asyncio.wrap_future(self._order(_Order(work=work)))
        return result

    def wait_for(self, work: Callable[[Connection], T]) -> T:
        """The same, from a thread."""
        result: T = self._order(_Order(work=work)).result()
        return result

    def wait_for_taken(self, events: Sequence[Event]) -> list[Taken]:
        """`take`, from a thread."""
        taken: list[Taken] = self._order(_Order(events)).result()
        return taken

    def _order(self, order: _Order) -> Future[Any]:
        with self._condition:
            if self._ending:
                raise TransientError("Outlast is stopping", hint="Send it again.")
            if self._waiting + len(order.events) > WAITING_MAX:
                raise OverloadedError("too much is waiting for the disk", hint="Send it again in a few seconds.")
            self._waiting += len(order.events)
            self._orders.append(order)
            self._condition.notify()
        return order.future

    def _run(self) -> None:
        while batch := self._next():
            try:
                results = self._commit(batch)
            except Exception as error:  # noqa: BLE001 - whatever it was, each order is told by its own future
                self._one_by_one(batch, error)
            else:
                _answer(batch, results)
            for listener in self._listeners:
                listener()

    def _next(self) -> list[_Order]:
        with self._condition:
            while not self._orders and not self._ending:
                self._condition.wait()
                self._busy = False
            gather, self._busy = self._busy and len(self._orders) < GATHER_TO, True
        if gather:
            # One commit follows the other: a moment's wait lets more of them share the next one.
            time.sleep(GATHER_S)
        with self._condition:
            batch: list[_Order] = []
            events = 0
            while self._orders and (not batch or events + len(self._orders[0].events) <= EVENTS_MAX):
                batch.append(self._orders.popleft())
                events += len(batch[-1].events)
            self._waiting -= events
            self._many = events > MANY
            return batch

    def _commit(self, batch: Sequence[_Order]) -> list[Any]:
        with self._database.write() as connection:
            events = [event for order in batch for event in order.events]
            taken = iter(take(connection, events, self._pager)) if events else iter(())
            return [
                order.work(connection) if order.work is not None else [next(taken) for _ in order.events]
                for order in batch
            ]

    def _one_by_one(self, batch: Sequence[_Order], error: Exception) -> None:
        """One of them made the transaction fail: each gets its own, so that the others are not lost with it."""
        if len(batch) == 1:
            batch[0].future.set_exception(error)
            return
        for order in batch:
            try:
                result = self._commit([order])
            except Exception as again:  # noqa: BLE001 - told to whoever ordered it
                order.future.set_exception(again)
            else:
                order.future.set_result(result[0])


def _answer(batch: Sequence[_Order], results: Sequence[Any]) -> None:
    for order, result in zip(batch, results, strict=True):
        if not order.future.cancelled():
            order.future.set_result(result)
