"""Reading the copy's log in a thread, while the script runs, up to the marker behind it.

A large transaction is streamed while it runs, and its changes are counted as they come: when the script ends, nearly
all of it is known. That holds as long as one transaction is open at a time and nothing of it is rolled back. Where it
does not hold, what was counted is thrown away, and the log is read once more, each transaction when it is known to have
committed (`follow`'s way).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from outlast.capture.batches import BATCH_CHANGES, batches
from outlast.core.change import Change, Relation
from outlast.core.errors import TransientError
from outlast.core.moment import Lsn
from outlast.rehearsal.instruments import END, PUBLICATION, SLOT
from outlast.rehearsal.tally import Tally
from outlast.sources.postgres.pgoutput import (
    Begin,
    Event,
    Message,
    RelationSeen,
    Rows,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
)
from outlast.sources.postgres.session import Target
from outlast.sources.postgres.stream import ChangeStream
from outlast.sources.postgres.transactions import Assembler, Delivered, LogicalMessage

_RECEIVE_S = 0.2
_SILENCE_S = 120.0
_STREAM_WORK_MEM_KB = 1024


class _NotInOrderError(Exception):
    """What was counted as it came may not count, or not in this order."""


class Reader:
    """`start`, then `finish` once the marker was written; `stop` in any case. `fresh` gives a tally to count in."""

    def __init__(self, target: Target, start: Lsn, fresh: Callable[[], Tally], folder: Path) -> None:
        self._target, self._start, self._folder = target, start, folder
        self._fresh = fresh
        self._tally = fresh()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="outlast rehearsal", daemon=True)
        self._open = False

    def start(self) -> None:
        self._open = True
        self._thread.start()

    def finish(self) -> Tally:
        """Wait for the marker. Raises what went wrong while the log was read."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._tally

    def stop(self) -> None:
        self._stop.set()
        if self._open:
            self._thread.join()

    def _run(self) -> None:
        try:
            try:
                self._read(early=True)
            except _NotInOrderError:
                self._tally = self._fresh()
                self._read(early=False)
        except BaseException as error:  # noqa: BLE001 - raised by `finish`, in the thread that waits
            self._error = error

    def _read(self, *, early: bool) -> None:
        heard = time.monotonic()
        tally = self._tally
        counted = _Early(tally)
        with (
            ChangeStream(self._target, SLOT, [PUBLICATION], self._start, work_mem_kb=_STREAM_WORK_MEM_KB) as stream,
            Assembler(self._folder) as assembler,
        ):
            while not self._stop.is_set():
                events = stream.receive(_RECEIVE_S)
                for part in _parts(events):  # what commits before a streamed one begins is counted before it
                    delivered = assembler.feed(counted.take(part) if early else part)
                    if _counted(tally, delivered, early=early):
                        return
                if events:
                    heard = time.monotonic()
                elif time.monotonic() - heard > _SILENCE_S and not stream.server_end:
                    raise TransientError("the copy's log cannot be read: its server says nothing")


def _parts(events: list[Event]) -> Iterator[list[Event]]:
    begun = 0
    for place, event in enumerate(events):
        if isinstance(event, StreamStart) and event.first and place > begun:
            yield events[begun:place]
            begun = place
    yield events[begun:]


def _counted(tally: Tally, delivered: list[Delivered], *, early: bool) -> bool:
    """Count transactions that have committed, except those that were counted early. True at the marker."""
    for transaction, blocks in batches(tally.router, delivered):
        if any(message.prefix == END for message in transaction.messages):
            transaction.discard()
            return True
        if early and transaction.streamed:
            continue
        tally.begin()
        tally.tell(transaction.messages)
        for prepared in blocks:
            tally.count(prepared)
        tally.end()
    return False


class _Early:
    """Counts the changes of the streamed transaction that is open, and keeps them from whoever would keep them."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._xid: int | None = None  # of the transaction that is open
        self._within = False  # a part of it is being told
        self._relations: dict[int, Relation] = {}
        self._waiting: list[Change] = []
        self._seen = 0

    def take(self, events: Iterable[Event]) -> Iterator[Event]:
        """The same events without the changes that were counted. Raises _NotInOrderError."""
        for event in events:
            kind = type(event)
            if kind is Rows and self._within:
                assert isinstance(event, Rows)
                self._waiting += event.changes
                self._seen += len(event.changes)
                if len(self._waiting) >= BATCH_CHANGES:
                    self._count()
                continue
            if isinstance(event, StreamStart):
                self._start(event)
            elif isinstance(event, StreamStop):
                self._within = False
            elif isinstance(event, RelationSeen) and self._within:
                self._define(event.relation)
            elif isinstance(event, Message) and self._within:
                told = LogicalMessage(Lsn(event.lsn), True, event.prefix, event.content, self._seen)
                self._tally.tell([told] if event.transactional else ())
            elif isinstance(event, StreamCommit):
                self._count()
                self._tally.end()
                self._xid = None
            elif isinstance(event, StreamAbort) or (isinstance(event, Begin) and self._xid is not None):
                raise _NotInOrderError
            yield event

    def _start(self, event: StreamStart) -> None:
        if event.first and self._xid is None:
            self._xid, self._relations, self._seen = event.xid, {}, 0
            self._tally.begin()
        elif event.first or event.xid != self._xid:
            raise _NotInOrderError
        self._within = True

    def _define(self, relation: Relation) -> None:
        if self._relations.get(relation.oid, relation) is not relation:
            self._count()  # what came before has the old meaning
        self._relations[relation.oid] = relation

    def _count(self) -> None:
        waiting, self._waiting = self._waiting, []
        for begin in range(0, len(waiting), BATCH_CHANGES):
            prepared = self._tally.router.prepare(self._relations, waiting[begin : begin + BATCH_CHANGES])
            self._tally.router.fetch(prepared)
            self._tally.count(prepared)
