"""Counting what a script did, change by change, as it comes out of the copy's log: a routing.Sink.

Counts by tenant, table and operation, how each came about, which columns, some keys; and which rows were touched, for
`run` to lock. Nothing of a row is kept but its key and a digest.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from outlast.capture.leaves import Leaves
from outlast.capture.numbering import Numbering
from outlast.capture.route_ids import SHARED_NUMBER
from outlast.capture.routing import Prepared, Router
from outlast.core.change import (
    OP_INSERT,
    OP_TRUNCATE,
    OP_UPDATE,
    Field,
    Relation,
    Unchanged,
    copy_field,
    fields_of,
)
from outlast.core.effect import SAMPLES_MAX, Count, Effect, Operation, Via
from outlast.core.entries import LoggedTable
from outlast.core.row import unescape
from outlast.core.soft_delete import SoftDeleteMarkers
from outlast.core.table import Table, TableName
from outlast.core.tenant import TenantKey
from outlast.rehearsal.cascades import Cascades
from outlast.rehearsal.instruments import DOING, DROPPED, EMPTIED, INSIDE, NOTIFIED
from outlast.rehearsal.observed import TouchedRow, TouchedTable, Truncated, row_digest
from outlast.sources.postgres.transactions import LogicalMessage, Transaction

TOUCHED_MAX = 2_000_000
"""Rows whose keys are kept. Past it there is no receipt: `run` could not lock them all."""

_WHOLE = b"O"


_Touched = tuple[int, bytes | None, bytes | None, dict[int, bytes]]
"""(tenant, digest before, digest after, what changed): see TouchedRow."""


@dataclass(slots=True)
class _Tally:
    """Rows of one tenant and table under one operation."""

    rows: int = 0
    cascaded: int = 0
    triggered: int = 0
    columns: set[str] = field(default_factory=set)
    samples: list[str] = field(default_factory=list)

    def add(self, via: Via, number: int = 1) -> None:
        self.rows += number
        if via is Via.CASCADE:
            self.cascaded += number
        elif via is Via.TRIGGER:
            self.triggered += number

    def count(self) -> Count:
        return Count(
            self.rows, frozenset(self.columns), tuple(self.samples[:SAMPLES_MAX]), self.cascaded, self.triggered
        )


@dataclass(frozen=True, slots=True)
class _Shape:
    """How one relation's tuples are read. `order` gives the digest's columns by their places in a tuple."""

    relation: Relation
    root: TableName
    name: str
    names: tuple[str, ...]
    key: tuple[int, ...]
    order: tuple[int, ...]
    key_places: tuple[int, ...]  # of the key among the digest's columns
    concerned: bool  # by a foreign key
    markers: SoftDeleteMarkers | None
    computed: frozenset[str]  # generated columns, which nobody writes
    plain: bool  # `order` is the tuple's own order


@dataclass
class Dropped:
    """An object that the script dropped, as the event trigger said it, at its place."""

    kind: str
    schema: str | None
    name: str | None
    identity: str


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
    """Feed it each transaction's prepared changes by `take`, then read `effect` and the rest."""

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
        self.changes = 0
        self.transactions = 0
        self._tallies: dict[tuple[int, str, Operation], _Tally] = {}
        self._emptied: dict[str, dict[TenantKey, int]] = {}
        self._shapes: dict[int, _Shape] = {}
        self._touched: dict[TableName, dict[bytes, _Touched]] = {}
        self._keyed: dict[TableName, tuple[tuple[str, ...], tuple[str, ...]]] = {}
        self._touched_count = 0
        self._block: Sequence[Prepared] = ()
        self._begun = 0  # changes of the transaction before the block
        self._messages: list[LogicalMessage] = []
        self._doing: dict[TableName, str] = {}  # of partitioned tables: what the statement that runs is
        self._inside: set[tuple[TableName, str]] = set()
        self._before: tuple[_Shape, bytes, int, Via] | None = None  # a row that left its partition just before

    # Transactions

    def take(self, transaction: Transaction, blocks: Iterable[list[Prepared]]) -> bool:
        """Count one transaction. False for one of ours, that only marks a place."""
        self._messages = sorted(transaction.messages, key=lambda message: message.place, reverse=True)
        self._inside.clear()
        self._doing.clear()
        self._cascades.begin()
        self._begun, self._before = 0, None
        seen = 0
        for prepared in blocks:
            for place, run in _without_truncates(prepared):
                self._block, self._begun = run, seen + place
                self._unknown(run)
                self.router.route(run)
            seen += len(prepared)
        self._hear(seen + 1)
        self.router.end()
        self.changes += seen
        self.transactions += 1
        return True

    def _unknown(self, prepared: Sequence[Prepared]) -> None:
        """Tables that nobody classified: the script made them, or they are ignored. The router passes them over."""
        for place, (way, relation, operation, old, new, _, _) in enumerate(prepared):
            if way is None:
                self._hear(self._begun + place)
                self._count(SHARED_NUMBER, self._shape(relation), operation, old, new)

    def _hear(self, place: int) -> None:
        """What the messages up to a place of the transaction say."""
        messages = self._messages
        while messages and messages[-1].place <= place:
            message = messages.pop()
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
        table = str(self._root(oid))
        known = self._emptied.setdefault(table, {})
        for tenant, number in rows.items():
            key = TenantKey(tenant)
            known[key] = known.get(key, 0) + number

    # routing.Sink

    def change(self, tenant: int, operation: int, table: LoggedTable, old: bytes | None, new: bytes | None) -> None:
        place = self.router.place
        if self._messages:
            self._hear(self._begun + place)
        self._count(tenant, self._shape(self._block[place][1]), operation, old, new)

    def move(self, origin: int, to: int, table: LoggedTable, key: bytes, new: bytes) -> None:
        place = self.router.place
        if self._messages:
            self._hear(self._begun + place)
        _, relation, operation, old, whole, _, _ = self._block[place]
        shape = self._shape(relation)
        if operation != OP_UPDATE or whole is None:
            return  # a parent that nothing holds: its DELETE is told by itself, right behind
        via = self._via(shape, operation, old, whole)
        columns = self._changed(shape, old, whole)
        for tenant in (origin, to):
            self._tally(tenant, shape, Operation.MOVE, via, columns, old or whole, 1 if old else 0)
        self._touch(origin, shape, old, whole)

    def soft_deleted(self, tenant: int, table: LoggedTable) -> None:
        pass  # `_count` has asked the markers itself

    def doubt(self, table: TableName | None, reason: str, *, lasting: bool = False) -> None:
        if table is not None:
            self.doubts[f"{table}: {reason}"] = None

    # Counting

    def _shape(self, relation: Relation) -> _Shape:
        known = self._shapes.get(id(relation))
        if known is None:
            known = self._shapes[id(relation)] = self._made(relation)
        return known

    def _made(self, relation: Relation) -> _Shape:
        root = self._leaves.root_of(relation)
        table = self._tables.get(root)
        names = tuple(name for name, _ in relation.columns)
        stored = self._stored(table, relation)
        kept = [name for name in (table.column_names if table is not None else names) if name in names]
        kept += [name for name in names if name in stored and name not in kept]
        order = tuple(names.index(name) for name in kept)
        key = table.key if table is not None and set(table.key) <= set(names) else ()
        self._keyed[root] = (key, tuple(kept))
        return _Shape(
            relation,
            root,
            str(root),
            names,
            tuple(names.index(column) for column in key),
            order,
            tuple(kept.index(column) for column in key),
            self._cascades.concerns(relation, root),
            SoftDeleteMarkers.of(relation),
            frozenset(names) - stored,
            order == tuple(range(len(names))),
        )

    def _stored(self, table: Table | None, relation: Relation) -> frozenset[str]:
        """The columns that somebody writes; of columns that the script added all count."""
        names = frozenset(name for name, _ in relation.columns)
        return names if table is None else names - self._computed.get(table.name, frozenset())

    def _count(self, tenant: int, shape: _Shape, operation: int, old: bytes | None, new: bytes | None) -> None:
        if operation == OP_UPDATE:
            assert new is not None
            via = self._via(shape, operation, old, new)
            columns = self._changed(shape, old, new)
            soft = shape.markers is not None and shape.markers.marks(old, new)
            done = Operation.SOFT_DELETE if soft else Operation.UPDATE
            self._tally(tenant, shape, done, via, columns, *((old, 1) if old else (new, 0)))
            self._touch(tenant, shape, old, new)
        elif operation == OP_INSERT:
            assert new is not None
            if self._before is not None and self._was_moved(tenant, shape, new):
                return
            self._tally(tenant, shape, Operation.INSERT, self._via(shape, operation, None, new), (), new, 0)
            self._touch(tenant, shape, None, new)
        else:
            assert old is not None
            via = self._via(shape, operation, old, None)
            self._tally(tenant, shape, Operation.HARD_DELETE, via, (), old, 1)
            self._touch(tenant, shape, old, None)
            if self._doing.get(shape.root) == "U":
                self._before = (shape, old, tenant, via)
                return
        self._before = None

    def _was_moved(self, tenant: int, shape: _Shape, new: bytes) -> bool:
        """Whether this row was deleted from another partition just before: then both are one UPDATE of it."""
        assert self._before is not None
        was, old, origin, via = self._before
        if was.root != shape.root or was.relation.oid == shape.relation.oid:
            return False
        deleted = self._tallies[origin, shape.name, Operation.HARD_DELETE]
        deleted.add(via, -1)
        del deleted.samples[deleted.rows :]
        before, after = self._named(was, old, 1), self._named(shape, new, 0)
        columns = [name for name in after if before.get(name) != after[name] and name not in shape.computed]
        done = Operation.UPDATE if origin == tenant else Operation.MOVE
        for one in dict.fromkeys((origin, tenant)):
            self._tally(one, shape, done, via, columns, new, 0)
        self._touch(tenant, shape, None, new)
        self._before = None
        return True

    def _named(self, shape: _Shape, row: bytes, start: int) -> dict[str, object]:
        return dict(zip(shape.names, fields_of(row[start:]), strict=True))

    def _via(self, shape: _Shape, operation: int, old: bytes | None, new: bytes | None) -> Via:
        if (
            shape.concerned
            and old is not None
            and self._cascades.carried(shape.relation, shape.root, operation, old, new)
        ):
            return Via.CASCADE
        if self._inside and (shape.root, chr(operation)) in self._inside:
            return Via.TRIGGER
        return Via.STATEMENT

    def _changed(self, shape: _Shape, old: bytes | None, new: bytes) -> Sequence[str]:
        if old is None or old[:1] != _WHOLE:
            self.blind.add(shape.name)
            return ()
        return [
            name
            for name, was, now in zip(shape.names, fields_of(old[1:]), fields_of(new), strict=True)
            if was != now and not isinstance(now, Unchanged) and name not in shape.computed
        ]

    def _tally(
        self,
        tenant: int,
        shape: _Shape,
        operation: Operation,
        via: Via,
        columns: Iterable[str],
        row: bytes,
        start: int,
    ) -> None:
        place = (tenant, shape.name, operation)
        tally = self._tallies.get(place)
        if tally is None:
            tally = self._tallies[place] = _Tally()
        tally.add(via)
        if columns:
            tally.columns.update(columns)
        if len(tally.samples) < SAMPLES_MAX and shape.key:
            key = self._key(shape, row, start).split(b"\t")
            tally.samples.append(", ".join(unescape(one).decode("utf-8", "replace") for one in key))

    # Rows

    def _key(self, shape: _Shape, row: bytes, start: int) -> bytes:
        fields = list(fields_of(row[start:] if start else row))
        wanted = shape.key or shape.order
        return b"\t".join([copy_field(fields[place]) for place in wanted])

    def _touch(self, tenant: int, shape: _Shape, old: bytes | None, new: bytes | None) -> None:
        """Remember a row by the net of what was done to it in the whole script."""
        if self.overflown:
            return
        rows = self._touched.setdefault(shape.root, {})
        before = None if old is None or old[:1] != _WHOLE else list(fields_of(old[1:]))
        after = None if new is None else list(fields_of(new))
        if before is not None and after is not None:
            after = [was if isinstance(now, Unchanged) else now for was, now in zip(before, after, strict=True)]
        was = now = None
        if before is not None:
            was = self._texts(shape, before)
            key = self._key_of(shape, was)
            first = rows.get(key)
            if first is None:
                self._touched_count += 1
                rows[key] = (tenant, row_digest(b"\t".join(was)), None, {})
            else:
                rows[key] = (first[0], first[1], None, first[3])
        if after is not None and not any(isinstance(one, Unchanged) for one in after):
            now = self._texts(shape, after)
            key = self._key_of(shape, now)
            first = rows.get(key)
            if first is None:
                self._touched_count += 1
                first = (tenant, None, None, {})
            moved = was is None or self._key_of(shape, was) != key
            changed = {} if moved else first[3]
            changed |= {place: text for place, text in enumerate(now) if moved or was is None or was[place] != text}
            rows[key] = (first[0], first[1], row_digest(b"\t".join(now)), changed)

    def _texts(self, shape: _Shape, fields: Sequence[Field]) -> list[bytes]:
        """The row's COPY fields in the order of the digest's columns."""
        texts = [copy_field(one) for one in fields]
        return texts if shape.plain else [texts[place] for place in shape.order]

    def _key_of(self, shape: _Shape, texts: Sequence[bytes]) -> bytes:
        return b"\t".join([texts[place] for place in shape.key_places] if shape.key else texts)

    # Results

    @property
    def overflown(self) -> bool:
        return self._touched_count > TOUCHED_MAX

    def effect(self) -> Effect:
        counts: dict[tuple[TenantKey, str, Operation], Count] = {}
        for (tenant, table, operation), tally in self._tallies.items():
            if tally.rows > 0:
                counts[self._numbers.of(tenant).tenant.key, table, operation] = tally.count()
        for table, rows in self._emptied.items():
            for key, number in rows.items():
                if number:
                    counts[key, table, Operation.TRUNCATE] = Count(number)
        return Effect(counts)

    def truncated(self) -> tuple[Truncated, ...]:
        return tuple(Truncated(table, rows) for table, rows in sorted(self._emptied.items()))

    def touched(self) -> tuple[TouchedTable, ...]:
        found = []
        for root, rows in sorted(self._touched.items()):
            key, columns = self._keyed[root]
            of = self._numbers.of
            listed = tuple(
                TouchedRow(name, before, after, of(tenant).tenant.key, tuple(sorted(changed.items())) if after else ())
                for name, (tenant, before, after, changed) in sorted(rows.items())
                if before is not None or after is not None
            )
            if listed:
                found.append(TouchedTable(str(root), key, columns, listed))
        return tuple(found)
