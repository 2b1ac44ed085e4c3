"""The assembler against a model: however transactions interleave, roll back and alter tables, they come out whole."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outlast.core.change import Change, Relation
from outlast.core.table import TableName
from outlast.sources.postgres import transactions, waiting
from outlast.sources.postgres.pgoutput import (
    Begin,
    Commit,
    Event,
    Message,
    RelationSeen,
    Rows,
    StreamAbort,
    StreamCommit,
    StreamStart,
    StreamStop,
)
from outlast.sources.postgres.transactions import Assembler, LogicalMessage, Transaction

Item = tuple[str, int, int]
"""What a change or a message was: ("row", its serial number, its relation's version), or ("message", number, 0)."""


@dataclass
class Frame:
    """A (sub)transaction of the model that is open."""

    subxid: int
    items: list[Item] = field(default_factory=list)
    children: list[int] = field(default_factory=list)  # released ones, which an abort takes along


@dataclass
class Running:
    xid: int
    streamed: bool
    versions: dict[int, int]  # each relation's, as this transaction sees it
    frames: list[Frame] = field(default_factory=list)
    told: dict[int, int] = field(default_factory=dict)
    begun: bool = False
    events: list[Event] = field(default_factory=list)  # of one that is not streamed: they come at its commit


class World:
    """Makes a stream as a server would, and says what must come out of it."""

    def __init__(self, draw: st.DataObject) -> None:
        self.draw = draw
        self.events: list[Event] = []
        self.expected: list[tuple[int, list[Item]]] = []
        self.provisional: dict[int, set[int]] = {}
        self.open: list[Running] = []
        self.versions = {1: 1, 2: 1}
        self.told: dict[int, int] = {}
        self.relations: dict[tuple[int, int], Relation] = {}
        self.serial = 0
        self.next_xid = 100
        self.lsn = 1000

    def pick(self, low: int, high: int) -> int:
        return self.draw.draw(st.integers(low, high))

    def relation(self, oid: int, version: int) -> Relation:
        made = Relation(oid, TableName("public", f"t{oid}"), (("id", f"v{version}"),), "d", (0,))
        return self.relations.setdefault((oid, version), made)

    def step(self) -> None:
        what = self.pick(0, 9)
        if not self.open or (what == 0 and len(self.open) < 4):
            self.begin()
            return
        running = self.open[self.pick(0, len(self.open) - 1)]
        if what <= 5:
            self.write(running)
        elif what == 6:
            self.savepoint(running)
        elif what == 7:
            self.roll_back_to(running)
        elif what == 8 and self.pick(0, 1):
            self.release(running)
        elif what == 9 and self.pick(0, 1):
            self.finish(running, commit=self.pick(0, 3) > 0)
        elif not running.streamed and not any(one.streamed for one in self.open):
            self.alter(running)

    def begin(self) -> None:
        running = Running(self.next_xid, self.draw.draw(st.booleans()), dict(self.versions))
        running.frames.append(Frame(self.next_xid))
        self.next_xid += 1
        self.open.append(running)

    def alter(self, running: Running) -> None:
        """Somebody's ALTER that is seen by this transaction at once, and by everyone once it commits."""
        oid = self.pick(1, 2)
        running.versions[oid] = self.serial + 1000

    def write(self, running: Running) -> None:
        """One block of a stream: changes and messages of the innermost subtransaction."""
        top = running.frames[-1]
        block: list[Event] = []
        if running.streamed:
            block.append(StreamStart(running.xid, not running.begun))
            running.begun = True
        for _ in range(self.pick(1, 3)):
            self.serial += 1
            subxid = top.subxid if running.streamed else 0
            if self.pick(0, 4) == 0:
                block.append(Message(subxid, self.lsn, True, "outlast.x", b"%d" % self.serial))
                top.items.append(("message", self.serial, 0))
                continue
            oid = self.pick(1, 2)
            version = running.versions[oid]
            if running.told.get(oid) != version:
                running.told[oid] = version
                block.append(RelationSeen(self.relation(oid, version)))
            changes: list[Change] = []
            for _ in range(self.pick(1, 3)):
                self.serial += 1
                changes.append((73, oid, None, b"%d" % self.serial))
                top.items.append(("row", self.serial, version))
            block.append(Rows(subxid, changes, 30 * len(changes)))
        if running.streamed:
            self.events += [*block, StreamStop()]
        else:
            running.events += block

    def savepoint(self, running: Running) -> None:
        running.frames.append(Frame(self.next_xid))
        self.next_xid += 1

    def release(self, running: Running) -> None:
        if len(running.frames) > 1:
            inner = running.frames.pop()
            running.frames[-1].items += inner.items
            running.frames[-1].children += [inner.subxid, *inner.children]

    def roll_back_to(self, running: Running) -> None:
        if len(running.frames) == 1:
            return
        depth = self.pick(1, len(running.frames) - 1)
        gone = running.frames[depth:]
        running.frames = running.frames[:depth]
        if running.streamed and running.begun:
            # The server tells each of them that was streamed, children and parents, in no order that one may rely on.
            subxids = [subxid for frame in gone for subxid in (*frame.children, frame.subxid)]
            self.events += [
                StreamAbort(running.xid, subxid, False) for subxid in self.draw.draw(st.permutations(subxids))
            ]
        elif not running.streamed:
            kept = {item[1] for frame in running.frames for item in frame.items}
            running.events = [self.without(event, kept) for event in running.events]

    @staticmethod
    def without(event: Event, kept: set[int]) -> Event:
        """What is rolled back in a transaction that is not streamed never comes; what relations mean does."""
        if isinstance(event, Rows):
            return Rows(0, [change for change in event.changes if int(change[3] or b"") in kept], 0)
        if isinstance(event, Message) and int(event.content) not in kept:
            return Rows(0, [], 0)
        return event

    def finish(self, running: Running, *, commit: bool) -> None:
        self.open.remove(running)
        self.lsn += 10
        items = [item for frame in running.frames for item in frame.items]
        if running.streamed:
            if not running.begun:
                return
            if commit:
                self.events.append(StreamCommit(running.xid, self.lsn, self.lsn + 5, 0))
                for oid, version in running.told.items():
                    if self.versions[oid] == version:  # what still holds need not be told to others again
                        self.told[oid] = version
            else:
                self.events.append(StreamAbort(running.xid, running.xid, True))
        elif commit:
            if not items:
                return
            # Its relations were told for a session, not for it: what an earlier one told is not told again.
            body: list[Event] = []
            for event in running.events:
                if isinstance(event, RelationSeen):
                    oid, version = event.relation.oid, int(event.relation.columns[0][1][1:])
                    if self.told.get(oid) == version:
                        continue
                    self.told[oid] = version
                body.append(event)
            self.events += [Begin(running.xid, self.lsn, 0), *body, Commit(self.lsn, self.lsn + 5, 0)]
        if commit:
            self.expected.append((running.xid, items))
            for oid, version in running.versions.items():
                self.versions[oid] = max(version, self.versions[oid])


class Watching:
    """An observer that keeps what it was shown, as a tripwire would."""

    def __init__(self) -> None:
        self.seen: dict[int, list[tuple[int, list[int]]]] = {}
        self.ended: dict[int, list[int]] = {}

    def provisional(self, xid: int, subxid: int, relations: Mapping[int, Relation], changes: Sequence[Change]) -> None:
        self.seen.setdefault(xid, []).append((subxid, [int(change[3] or b"") for change in changes]))
        assert all(change[1] in relations for change in changes)

    def aborted(self, xid: int, subxid: int | None) -> None:
        self.seen[xid] = [] if subxid is None else [one for one in self.seen.get(xid, []) if one[0] != subxid]

    def committed(self, xid: int) -> None:
        self.ended[xid] = [number for _, numbers in self.seen.pop(xid, []) for number in numbers]


def _read(transaction: Transaction) -> list[Item]:
    rows: list[Item] = []
    for relations, changes in transaction.blocks():
        for _, oid, _, new in changes:
            rows.append(("row", int(new or b""), int(relations[oid].columns[0][1][1:])))
    for number, message in enumerate(transaction.messages):
        rows.insert(message.place + number, ("message", int(message.content), 0))
    return rows


def check(draw: st.DataObject, steps: int) -> None:
    world, watching = World(draw), Watching()
    for _ in range(steps):
        world.step()
    delivered: list[tuple[int, list[Item]]] = []
    with tempfile.TemporaryDirectory() as folder, Assembler(Path(folder), watching) as assembler:
        events = world.events
        while events:
            size = world.pick(1, 8)
            for one in assembler.feed(events[:size]):
                assert not isinstance(one, LogicalMessage)
                delivered.append((one.xid, _read(one)))
            events = events[size:]
        assert set(assembler.open_transactions) == {one.xid for one in world.open if one.begun}
        assembler.restart()
        assert assembler._spool.size_bytes == 0, "space in the spool was not given back"
        assert list(Path(folder).iterdir()) == []
    expected = dict(world.expected)
    assert [xid for xid, _ in delivered] == [xid for xid, _ in world.expected]
    for xid, items in delivered:
        assert items == expected[xid]
        if xid in watching.ended:
            assert watching.ended[xid] == [number for kind, number, _ in items if kind == "row"]


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_transactions_come_out_whole(data: st.DataObject) -> None:
    """In memory."""
    check(data, 40)


@given(st.data())
@settings(max_examples=50, deadline=None)
def test_transactions_come_out_whole_through_the_spool(data: st.DataObject) -> None:
    """With so little memory that nearly everything is spooled, in small parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transactions, "TRANSACTION_MEMORY_BYTES_MAX", 1200)
        patch.setattr(transactions, "MEMORY_BYTES_MAX", 2000)
        patch.setattr(waiting, "PART_BYTES", 3000)
        check(data, 40)


@pytest.mark.slow
@given(st.data())
@settings(max_examples=1000, deadline=None)
def test_transactions_come_out_whole_in_long_histories(data: st.DataObject) -> None:
    """More of the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transactions, "TRANSACTION_MEMORY_BYTES_MAX", 900)
        patch.setattr(waiting, "PART_BYTES", 3000)
        check(data, 120)
