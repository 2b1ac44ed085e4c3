"""Transactions, whole and in commit order, out of a stream in which they arrive in pieces.

Small ones come at their commit, in one piece. Large ones are streamed while they run, in turns, and their
subtransactions may be rolled back one by one: what was rolled back is cut off again. Since a subtransaction ends before
its parent writes on, all that came after its first change is its own or its children's.

What a tuple's fields mean can change inside a transaction (ALTER TABLE between two statements). The server tells a
relation before its first change in each streamed transaction, and once for all that are not streamed; a definition
counts from its place on, and a rolled-back subtransaction does not take it back, because the server then tells it anew.

Memory is bounded: what does not fit waits in a spool. Nothing here knows tenants, the vault or the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from outlast.core.change import Change, Relation
from outlast.core.errors import BugError
from outlast.core.moment import Lsn
from outlast.sources.postgres.pgoutput import (
    Begin,
    Commit,
    Event,
    Keepalive,
    Message,
    RelationSeen,
    Rows,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
)
from outlast.sources.postgres.transaction_spool import TransactionSpool
from outlast.sources.postgres.waiting import WaitingChanges

TRANSACTION_MEMORY_BYTES_MAX = 4 * 1024 * 1024
MEMORY_BYTES_MAX = 24 * 1024 * 1024

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def time_of(time_us: int) -> datetime:
    """PostgreSQL's clock: microseconds since 2000."""
    return _EPOCH + timedelta(microseconds=time_us)


class LogicalMessage(NamedTuple):
    """A pg_logical_emit_message of ours. `place`: how many changes of its transaction came before it."""

    lsn: Lsn
    transactional: bool
    prefix: str
    content: bytes
    place: int = 0


class Observer(Protocol):
    """Who wants to see streamed transactions before they commit. Called while the stream is fed; must be quick.

    A subtransaction's number is 32 bits wide, as the stream tells it; it is known within its transaction only.
    """

    def provisional(
        self, xid: int, subxid: int, relations: Mapping[int, Relation], changes: Sequence[Change]
    ) -> None: ...

    def aborted(self, xid: int, subxid: int | None) -> None:
        """The changes of this subtransaction (each of its children is told by itself), or all of them, do not count."""

    def committed(self, xid: int) -> None:
        """It is delivered as a Transaction now."""


class _Definition(NamedTuple):
    """A relation's new meaning from the change number `place` on."""

    place: int
    relation: Relation


@dataclass(slots=True)
class Transaction:
    """One committed transaction. `blocks` or `changes` is to be read once, to its end, or `discard` called.

    `relations` says what the tuples' fields mean: at the beginning, and while it is read, at the change just given.
    A relation that was not altered is the same object as in the transactions before.
    """

    xid: int
    commit_lsn: int
    end_lsn: int
    time_us: int
    streamed: bool
    change_count: int
    messages: tuple[LogicalMessage, ...]
    relations: Mapping[int, Relation]
    _waiting: WaitingChanges = field(repr=False)
    _definitions: Sequence[_Definition] = ()

    @property
    def commit(self) -> Lsn:
        """Where its commit record stands: the order of transactions."""
        return Lsn(self.commit_lsn)

    @property
    def end(self) -> Lsn:
        """Just behind its commit record: the position that may be confirmed when it is safe."""
        return Lsn(self.end_lsn)

    @property
    def time(self) -> datetime:
        return time_of(self.time_us)

    def changes(self) -> Iterator[Change]:
        for _, changes in self.blocks():
            yield from changes

    def blocks(self) -> Iterator[tuple[Mapping[int, Relation], Sequence[Change]]]:
        """The changes in order, by lists of bounded size, each with what holds for all of it."""
        definitions = list(reversed(self._definitions))
        place = 0
        for changes in self._waiting.drain():
            begin = 0
            while definitions and definitions[-1].place < place + len(changes):
                cut = definitions[-1].place - place
                if cut > begin:
                    yield self.relations, changes[begin:cut]
                    begin = cut
                new = definitions.pop().relation
                self.relations = {**self.relations, new.oid: new}
            yield self.relations, changes[begin:] if begin else changes
            place += len(changes)

    def discard(self) -> None:
        """Free what it holds, unread."""
        self._waiting.discard()


Delivered = Transaction | LogicalMessage
"""What comes out: a transaction, or a message that stands between transactions."""


@dataclass(slots=True)
class _Open:
    """A transaction that has not ended. `relations` belong to it alone where it is streamed."""

    xid: int
    waiting: WaitingChanges
    relations: dict[int, Relation]
    definitions: list[_Definition] = field(default_factory=list)
    messages: list[LogicalMessage] = field(default_factory=list)
    begun: dict[int, tuple[int, int]] = field(default_factory=dict)  # subxid: changes and messages before its first
    told: dict[int, int] = field(default_factory=dict)  # oid: when its newest definition came, in the session's order

    def define(self, relation: Relation) -> None:
        known = self.relations.get(relation.oid)
        if known is None:
            self.relations[relation.oid] = relation  # before its first change: no place is needed
        else:
            self.definitions.append(_Definition(self.waiting.count, relation))

    def newest(self, oid: int) -> Relation:
        for definition in reversed(self.definitions):
            if definition.relation.oid == oid:
                return definition.relation
        return self.relations[oid]

    def now(self) -> Mapping[int, Relation]:
        """What the fields mean at the end of what has come so far."""
        if not self.definitions:
            return self.relations
        return {**self.relations, **{one.relation.oid: one.relation for one in self.definitions}}

    def cut_off(self, subxid: int) -> None:
        begun = self.begun.get(subxid)
        if begun is None:
            return
        changes, messages = begun
        self.waiting.cut_off(changes)
        del self.messages[messages:]
        self.begun = {key: value for key, value in self.begun.items() if value < begun}
        self.definitions = [_Definition(min(one.place, changes), one.relation) for one in self.definitions]


class Assembler:
    """Feeds on the events of one session at a time; `restart` before those of the next one."""

    def __init__(self, spool_directory: Path, observer: Observer | None = None) -> None:
        self.position = 0
        """Everything that committed before this LSN has been delivered."""
        self._observer = observer
        self._spool = TransactionSpool(spool_directory)
        self._relations: dict[int, Relation] = {}
        self._told: dict[int, int] = {}
        self._clock = 0
        self._streamed: dict[int, _Open] = {}
        self._begin: Begin | None = None
        self._current: _Open | None = None
        self._delivered: list[Delivered] = []
        self._broken = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._spool.close()

    @property
    def open_transactions(self) -> Mapping[int, int]:
        """Streamed transactions that have not ended, each with its number of changes so far."""
        return {xid: one.waiting.count for xid, one in self._streamed.items()}

    def restart(self) -> None:
        """The session was lost: what had not ended is sent again, and what relations mean is told again."""
        for xid, one in self._streamed.items():
            one.waiting.discard()
            if self._observer is not None:
                self._observer.aborted(xid, None)
        if self._current is not None:
            self._current.waiting.discard()
        self._streamed.clear()
        self._relations = {}
        self._told.clear()
        self._begin = self._current = None
        for delivered in self._delivered:
            if isinstance(delivered, Transaction):
                delivered.discard()  # it was not given out, and comes again
        self._delivered.clear()
        self._broken = False

    def feed(self, events: Iterable[Event]) -> list[Delivered]:
        """What these events complete, in the order of commit. After an error only `restart` helps."""
        if self._broken:
            raise BugError("the assembler is fed after an error, without a restart")
        self._broken = True
        handlers, position = _HANDLERS, self.position
        try:
            for event in events:
                handlers[type(event)](self, event)
        except BaseException:
            self.position = position  # what these events completed is not given out
            raise
        self._broken = False
        delivered, self._delivered = self._delivered, []
        return delivered

    def _on_begin(self, event: Begin) -> None:
        self._begin = event
        self._current = _Open(event.xid, WaitingChanges(self._spool), self._relations)

    def _on_rows(self, event: Rows) -> None:
        current = self._current
        if current is None:
            raise BugError("the change stream has a change outside of any transaction")
        waiting = current.waiting
        if event.subxid:
            self._note(current, event.subxid)
            if self._observer is not None:
                self._observer.provisional(current.xid, event.subxid, current.now(), event.changes)
        waiting.append(event.changes, event.size_bytes)
        if waiting.memory_bytes > TRANSACTION_MEMORY_BYTES_MAX:
            waiting.spill()
        elif event.subxid:
            self._spill_others()

    def _note(self, current: _Open, subxid: int) -> None:
        if subxid not in current.begun:
            current.begun[subxid] = (current.waiting.count, len(current.messages))

    def _spill_others(self) -> None:
        """Many transactions at once, each of them small enough, are too much together."""
        if sum([one.waiting.memory_bytes for one in self._streamed.values()]) > MEMORY_BYTES_MAX:
            for one in self._streamed.values():
                one.waiting.spill()

    def _on_relation(self, event: RelationSeen) -> None:
        current, relation = self._current, event.relation
        if current is None:
            raise BugError("the change stream has a relation outside of any transaction")
        self._clock += 1
        streamed = current.relations is not self._relations
        told = current.told if streamed else self._told
        told[relation.oid] = self._clock
        if relation.oid not in current.relations or current.newest(relation.oid) is not relation:
            current.define(relation)

    def _on_message(self, event: Message) -> None:
        current = self._current
        lsn = Lsn(event.lsn)
        if not event.transactional:
            self._delivered.append(LogicalMessage(lsn, False, event.prefix, event.content))
            return
        if current is None:
            raise BugError("the change stream has a transactional message outside of any transaction")
        if event.subxid:
            self._note(current, event.subxid)
        current.messages.append(LogicalMessage(lsn, True, event.prefix, event.content, current.waiting.count))

    def _on_commit(self, event: Commit) -> None:
        current, begin = self._current, self._begin
        if current is None or begin is None or begin.commit != event.commit:
            raise BugError("the change stream has a commit that belongs to no transaction")
        self._begin = self._current = None
        self._deliver(current, event.commit, event.end, event.time_us, streamed=False)
        if current.definitions:
            self._relations = dict(current.now())  # a new one: transactions delivered before keep theirs

    def _on_stream_start(self, event: StreamStart) -> None:
        if event.first:
            old = self._streamed.pop(event.xid, None)
            if old is not None:
                raise BugError("the change stream begins a transaction twice")
            self._streamed[event.xid] = _Open(event.xid, WaitingChanges(self._spool), {})
        current = self._streamed.get(event.xid)
        if current is None or self._current is not None:
            raise BugError("the change stream goes on with a transaction that was not begun")
        self._current = current

    def _on_stream_stop(self, event: StreamStop) -> None:
        self._current = None

    def _on_stream_commit(self, event: StreamCommit) -> None:
        current = self._streamed.pop(event.xid, None)
        if current is None:
            raise BugError("the change stream has a commit that belongs to no transaction")
        if self._observer is not None:
            self._observer.committed(event.xid)
        self._deliver(current, event.commit, event.end, event.time_us, streamed=True)
        self._adopt(current)

    def _adopt(self, current: _Open) -> None:
        """What a streamed transaction told of relations counts for all from its commit on, unless newer was told."""
        newer = {oid: current.newest(oid) for oid, clock in current.told.items() if clock > self._told.get(oid, 0)}
        for oid in newer:
            self._told[oid] = current.told[oid]
        if any(self._relations.get(oid) is not relation for oid, relation in newer.items()):
            self._relations = {**self._relations, **newer}

    def _on_stream_abort(self, event: StreamAbort) -> None:
        current = self._streamed.get(event.xid)
        if current is None:
            raise BugError("the change stream rolls back a transaction that was not begun")
        if event.whole:
            del self._streamed[event.xid]
            current.waiting.discard()
        else:
            current.cut_off(event.subxid)
        if self._observer is not None:
            self._observer.aborted(event.xid, None if event.whole else event.subxid)

    def _on_keepalive(self, event: Keepalive) -> None:
        if self._begin is None and event.end > self.position:
            self.position = event.end

    def _deliver(self, current: _Open, commit: int, end: int, time_us: int, *, streamed: bool) -> None:
        waiting = current.waiting
        messages = tuple(current.messages)
        relations, definitions = current.relations, current.definitions
        self._delivered.append(
            Transaction(
                current.xid, commit, end, time_us, streamed, waiting.count, messages, relations, waiting, definitions
            )
        )
        self.position = max(self.position, end)


_HANDLERS: dict[type, Callable[[Assembler, Any], None]] = {
    Begin: Assembler._on_begin,
    Rows: Assembler._on_rows,
    RelationSeen: Assembler._on_relation,
    Message: Assembler._on_message,
    Commit: Assembler._on_commit,
    StreamStart: Assembler._on_stream_start,
    StreamStop: Assembler._on_stream_stop,
    StreamCommit: Assembler._on_stream_commit,
    StreamAbort: Assembler._on_stream_abort,
    Keepalive: Assembler._on_keepalive,
}
