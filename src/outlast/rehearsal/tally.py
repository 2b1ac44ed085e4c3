"""Counting what a script did, change by change, as it comes out of the copy's log: a routing.Sink.

How each change came about, which columns it wrote, and whose row it was. How tuples are read is shape.py's, what a row
counts as in the end netting.py's, which rows were touched touched.py's.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from outlast.capture.leaves import Leaves
from outlast.capture.numbering import Numbering
from outlast.capture.route_ids import SHARED_NUMBER
from outlast.capture.routing import Prepared, Router
from outlast.core.change import OP_INSERT, OP_TRUNCATE, OP_UPDATE, Relation
from outlast.core.effect import Count, Effect, Operation, Via
from outlast.core.entries import LoggedTable
from outlast.core.soft_delete import SOFT_DELETE_COLUMNS
from outlast.core.table import Table, TableName
from outlast.core.tenant import TenantKey
from outlast.rehearsal.cascades import Cascades
from outlast.rehearsal.instruments import DOING, DROPPED, EMPTIED, INSIDE, NOTIFIED
from outlast.rehearsal.netting import Counted, Netting
from outlast.rehearsal.observed import TouchedTable, Truncated
from outlast.rehearsal.shape import Shape, Texts, difference, texts_of
from outlast.rehearsal.touched import Touched
from outlast.sources.postgres.transactions import LogicalMessage

_WHOLE = b"O"


@dataclass
class Dropped:
    """An object that the script dropped, as the event trigger said it, at its place."""

    kind: str
    schema: str | None
    name: str | None
    identity: str


@dataclass(slots=True)
class _Left:
    """A row that left its partition just before: the next change may be its arrival in another one."""

    shape: Shape
    row: Texts
    gone: Counted
    before: Counted | None  # what it counted as


def _without_truncates(prepared: Sequence[Prepared]) -> Iterator[tuple[int, Sequence[Prepared]]]:
    """The runs between TRUNCATEs, each with its place: our own trigger counts those, and the router could only say
    that it does not know."""
    begun = 0
    for place, one in enumerate(prepared):
        if one[2] == OP_TRUNCATE:
            if begun < place:
                yield begun, prepared[begun:place]
            begun = place + 1
    if begun < len(prepared):
        yield begun, prepared[begun:]


class Tally:
    """For each transaction: `begin`, then `tell` it messages before the changes that they stand before, `count`
    prepared changes block by block, `end`. Then read `effect` and the rest."""

    def __init__(
        self,
        router_of: Callable[[Tally], Router],
        leaves: Leaves,
        tables: Mapping[TableName, Table],
        roots: Mapping[int, TableName],
        computed: Mapping[TableName, frozenset[str]],
        cascades: Cascades,
        numbers: Numbering,
    ) -> None:
        self._roots = roots  # of every table and partition, by oid: a message has no name
        members = Counter(roots.values())
        self._partitioned = {root for root, tables in members.items() if tables > 1}
        self._computed = computed  # columns that the server generates, by table
        self._leaves = leaves
        self._tables = tables
        self._cascades = cascades
        self._numbers = numbers
        self.router = router_of(self)
        self.doubts: dict[str, None] = {}
        self.dropped: list[Dropped] = []
        self.notified: dict[str, None] = {}  # channels
        self.blind: set[str] = set()  # tables of whose updates the columns are not known
        self.transactions = 0
        self._netting = Netting()
        self._emptied: dict[str, dict[TenantKey, int]] = {}
        self._shapes: dict[int, Shape] = {}
        self._touched = Touched()
        self._block: Sequence[Prepared] = ()
        self._seen = 0  # changes of the transaction before the block
        self._begun = 0  # and before the run within it
        self._messages: deque[LogicalMessage] = deque()
        self._doing: dict[TableName, str] = {}  # of partitioned tables: what the statement that runs is
        self._inside: set[tuple[TableName, str]] = set()
        self._left: _Left | None = None
        self._origin: int | None = None  # of a row that is told as nobody's, to be deleted right behind

    # Transactions

    def begin(self) -> None:
        self._messages.clear()
        self._inside.clear()
        self._doing.clear()
        self._cascades.begin()
        self._seen, self._left = 0, None

    def tell(self, messages: Iterable[LogicalMessage]) -> None:
        """Messages of the transaction, in order; each is heard at its place."""
        self._messages.extend(messages)

    def count(self, prepared: Sequence[Prepared]) -> None:
        for place, run in _without_truncates(prepared):
            self._block, self._begun = run, self._seen + place
            self._unknown(run)
            self.router.route(run)
        self._seen += len(prepared)

    def end(self) -> None:
        self._hear(self._seen + 1)
        self.router.end()
        self.transactions += 1

    def _unknown(self, prepared: Sequence[Prepared]) -> None:
        """Tables that nobody classified: the script made them, or they are ignored. The router passes them over."""
        for place, (way, relation, operation, old, new, _, _) in enumerate(prepared):
            if way is None:
                self._hear(self._begun + place)
                self._count(SHARED_NUMBER, self._shape(relation), operation, old, new)

    def _hear(self, place: int) -> None:
        """What the messages up to a place of the transaction say."""
        messages = self._messages
        while messages and messages[0].place <= place:
            message = messages.popleft()
            if message.prefix == INSIDE:
                self._hear_inside(message.content.decode("ascii"))
            elif message.prefix == DOING:
                text = message.content.decode("ascii")
                self._doing[self._root(int(text[:-1]))] = text[-1]
            elif message.prefix == EMPTIED:
                oid, rows = json.loads(message.content)
                self._empty(int(oid), rows or {})
            elif message.prefix == NOTIFIED:
                self.notified[message.content.decode("utf-8", "replace")] = None
            elif message.prefix == DROPPED:
                told = json.loads(message.content)
                self.dropped.append(Dropped(told["kind"], told["schema"], told["name"], told["identity"]))

    def _hear_inside(self, text: str) -> None:
        inside = text.endswith("y")
        oid, letter = int(text.rstrip("y")[:-1]), text.rstrip("y")[-1]
        place = (self._root(oid), letter)
        if inside:
            self._inside.add(place)
        else:
            self._inside.discard(place)

    def _root(self, oid: int) -> TableName:
        return self._roots.get(oid) or TableName("", str(oid))

    def _empty(self, oid: int, rows: Mapping[str, int]) -> None:
        root = self._root(oid)
        inserted: dict[TenantKey, int] = {}
        if root not in self._partitioned:  # of a partition, the rows that were written are not known apart
            self._touched.empty(root)
            for number, count in self._netting.emptied(str(root)).items():
                inserted[self._numbers.of(number).tenant.key] = count
        known = self._emptied.setdefault(str(root), {})
        for tenant, number in rows.items():
            key = TenantKey(tenant)
            known[key] = known.get(key, 0) + max(0, number - inserted.get(key, 0))

    # routing.Sink

    def change(self, tenant: int, operation: int, table: LoggedTable, old: bytes | None, new: bytes | None) -> None:
        place = self.router.place
        if self._messages:
            self._hear(self._begun + place)
        relation = self._block[place][1]
        if self._origin is not None:
            tenant, self._origin = self._origin, None
        self._count(tenant, self._shapes.get(id(relation)) or self._shape(relation), operation, old, new)

    def move(self, origin: int, to: int, table: LoggedTable, key: bytes, new: bytes) -> None:
        place = self.router.place
        if self._messages:
            self._hear(self._begun + place)
        _, relation, operation, old, whole, _, _ = self._block[place]
        if operation != OP_UPDATE or whole is None:
            self._origin = origin  # a parent that nothing holds: its DELETE is told by itself, right behind
            return
        shape = self._shape(relation)
        self._left = None
        was, now = self._rows(shape, old, whole)
        differing = self._difference(shape, old, was, now)
        via = self._via(shape, operation, was, now, differing)
        columns = shape.changed(differing or ())
        self._note(shape, Counted(origin, shape.name, Operation.MOVE, via, columns, to), old, was, now, differing)

    def soft_deleted(self, tenant: int, table: LoggedTable) -> None:
        pass  # `_count` has asked the markers itself

    def doubt(self, table: TableName | None, reason: str, *, lasting: bool = False) -> None:
        if table is not None:
            self.doubts[f"{table}: {reason}"] = None

    # Counting

    def _shape(self, relation: Relation) -> Shape:
        known = self._shapes.get(id(relation))
        if known is None:
            root = self._leaves.root_of(relation)
            table = self._tables.get(root)
            computed = self._computed.get(root, frozenset())
            known = Shape.of(relation, root, table, computed, self._cascades.places(relation, root))
            self._shapes[id(relation)] = known
            self._touched.know(known)
        return known

    def _rows(self, shape: Shape, old: bytes | None, new: bytes | None) -> tuple[Texts | None, Texts | None]:
        """The row before and after; of a key alone (`K`) what it tells, all else NULL."""
        was = None if old is None else texts_of(old, 1)
        return was, None if new is None else texts_of(new, 0, was if old is not None and old[:1] == _WHOLE else None)

    def _count(self, tenant: int, shape: Shape, operation: int, old: bytes | None, new: bytes | None) -> None:
        was, now = self._rows(shape, old, new)
        differing = self._difference(shape, old, was, now) if operation == OP_UPDATE else None
        via = self._via(shape, operation, was, now, differing)
        left, self._left = self._left, None
        if operation == OP_UPDATE:
            assert new is not None
            columns = shape.changed(differing or ())
            soft, shown = self._marked(shape, columns, old, new)
            done = Operation.SOFT_DELETE if soft else Operation.UPDATE
            self._note(shape, Counted(tenant, shape.name, done, via, columns, 0, shown), old, was, now, differing)
        elif operation == OP_INSERT:
            assert now is not None  # an INSERT has all its values
            if left is not None and self._was_moved(left, tenant, shape, now):
                return
            self._note(shape, Counted(tenant, shape.name, Operation.INSERT, via), old, was, now)
        else:
            assert was is not None
            gone = Counted(tenant, shape.name, Operation.HARD_DELETE, via)
            before = self._note(shape, gone, old, was, now)
            if self._doing and self._doing.get(shape.root) == "U":
                self._left = _Left(shape, was, gone, before)

    def _marked(self, shape: Shape, columns: frozenset[str], old: bytes | None, new: bytes) -> tuple[bool, bool]:
        """Whether an update soft-deletes its row, and whether it undoes that."""
        markers = shape.markers
        if markers is None:
            return False, False
        if markers.marks(old, new):
            return True, False
        return False, old is not None and not columns.isdisjoint(SOFT_DELETE_COLUMNS)

    def _note(
        self,
        shape: Shape,
        counted: Counted,
        old: bytes | None,
        was: Texts | None,
        now: Texts | None,
        differing: tuple[int, ...] | None = None,
    ) -> Counted | None:
        """Count a change, and remember the row. Returns what that counted as before."""
        former = None if was is None else shape.key_of(was)
        key = None if now is None else shape.key_of(now)
        whole = old is not None and old[:1] == _WHOLE
        self._touched.note(counted.tenant, shape, was if whole else None, now, former, key, differing)
        if not shape.key:
            return self._netting.note(counted, None, None)
        if former is None and counted.operation is not Operation.INSERT:
            former = key  # an update that did not change the key sends no old one
        return self._netting.note(counted, former, key)

    def _was_moved(self, left: _Left, tenant: int, shape: Shape, now: Texts) -> bool:
        """Whether this row was deleted from another partition just before: then both are one UPDATE of it."""
        if left.shape.root != shape.root or left.shape.relation.oid == shape.relation.oid:
            return False
        former = left.shape.key_of(left.row) if shape.key else None
        self._netting.unsay(left.gone, left.before, former)
        before = dict(zip(left.shape.names, left.row, strict=True))
        after = dict(zip(shape.names, now, strict=True))
        columns = frozenset(name for name in after if before.get(name) != after[name]) - shape.computed
        done = Operation.UPDATE if left.gone.tenant == tenant else Operation.MOVE
        counted = left.gone._replace(operation=done, columns=columns, to=tenant if done is Operation.MOVE else 0)
        key = shape.key_of(now)
        self._netting.note(counted, former, key if shape.key else None)
        self._touched.note(tenant, shape, None, now, None, key)
        return True

    def _via(
        self, shape: Shape, operation: int, was: Texts | None, now: Texts | None, differing: tuple[int, ...] | None
    ) -> Via:
        if (
            shape.bound
            and was is not None
            and (differing is None or not shape.bound.isdisjoint(differing))
            and self._cascades.carried(shape.relation, shape.root, operation, was, now)
        ):
            return Via.CASCADE
        if self._inside and (shape.root, chr(operation)) in self._inside:
            return Via.TRIGGER
        return Via.STATEMENT

    def _difference(
        self, shape: Shape, old: bytes | None, was: Texts | None, now: Texts | None
    ) -> tuple[int, ...] | None:
        """The places that an update changed; None where its old row is not known as a whole."""
        if old is None or was is None or now is None or old[:1] != _WHOLE:
            self.blind.add(shape.name)
            return None
        return difference(was, now)

    # Results

    @property
    def overflown(self) -> bool:
        return self._touched.overflown

    def effect(self) -> Effect:
        counts: dict[tuple[TenantKey, str, Operation], Count] = {}
        for (tenant, table, operation), count in self._netting.counts().items():
            counts[self._numbers.of(tenant).tenant.key, table, operation] = count
        for table, rows in self._emptied.items():
            for key, number in rows.items():
                if number:
                    counts[key, table, Operation.TRUNCATE] = Count(number)
        return Effect(counts)

    def truncated(self) -> tuple[Truncated, ...]:
        return tuple(Truncated(table, rows) for table, rows in sorted(self._emptied.items()))

    def touched(self) -> tuple[TouchedTable, ...]:
        return self._touched.tables(lambda number: self._numbers.of(number).tenant.key)
