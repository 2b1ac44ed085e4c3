"""Schema changes, as following meets them: by a message in the stream, by other columns, or by a look at the catalog.

What older rows say can follow from what changed (a column added as NULL, dropped, renamed); then nothing is read again.
Everything else is a doubt: told in the log, and mended by reading the table anew. New tables are taken up if
outlast.toml says whose they are, and are named loudly if it does not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from outlast.capture.epoch import SHAPES, WAYS
from outlast.capture.frames import Frames
from outlast.capture.route_map import RouteMap
from outlast.capture.routes import PARTIAL, Tables
from outlast.capture.ways import owner_columns
from outlast.core.change import Relation
from outlast.core.moment import Lsn
from outlast.core.row import escape
from outlast.core.table import TableName
from outlast.sources.postgres import schema_trigger
from outlast.sources.postgres.schema_events import PREFIX, ChangeKind, SchemaChange, Shapes, TableShape, parse
from outlast.sources.postgres.transactions import LogicalMessage, Transaction
from outlast.vault.segment import SchemaChange as LoggedSchemaChange

_COMPUTABLE = frozenset({ChangeKind.COLUMN_ADDED, ChangeKind.COLUMN_DROPPED, ChangeKind.COLUMN_RENAMED})
_PLAIN_TYPES = frozenset(
    {"smallint", "integer", "bigint", "boolean", "text", "character varying", "numeric", "uuid", "jsonb"}
)
"""Types whose text does not depend on the settings of the session that added the column."""

LOOKED = "looked"
_WORDS = {
    ChangeKind.CREATED: "the table is new",
    ChangeKind.DROPPED: "the table was dropped",
    ChangeKind.RENAMED: "the table was renamed",
    ChangeKind.COLUMN_ADDED: "a column was added",
    ChangeKind.COLUMN_DROPPED: "a column was dropped",
    ChangeKind.COLUMN_RENAMED: "a column was renamed",
    ChangeKind.COLUMN_RETYPED: "a column got another type",
    ChangeKind.REINTERPRETED: "a type that it uses was altered",
    ChangeKind.REWRITTEN: "the table was rewritten",
    ChangeKind.ATTACHED: "a partition was attached",
    ChangeKind.DETACHED: "a partition was detached",
    ChangeKind.PERSISTENCE: "it became logged or unlogged",
    ChangeKind.KEY: "its key is another one",
    ChangeKind.PUBLICATION: "what is published of it was changed",
    ChangeKind.MISSED: "something in the schema changed that could not be told",
}


@dataclass(frozen=True, slots=True)
class _Look:
    tables: Tables
    position: Lsn
    noticed: Lsn
    heard: int


class SchemaWatch:
    """Holds how the tables looked at the stream's position, and by which ways rows were routed up to there. `urgent`:
    something was found that should be told soon."""

    def __init__(self, map_: RouteMap, tables: Tables, frames: Frames, position: Lsn) -> None:
        self.urgent = False
        self._heard = 0  # messages of the event triggers
        self._look: _Look | None = None  # one that the stream has not come past
        looked, triggers = map_.note(LOOKED), tables.facts.events.written
        self._looked = Lsn.parse(str(looked["at"])) if looked else position
        self._triggers = str(looked["triggers"]) if looked else triggers
        # Where they are not those of then, nobody told what was changed before they were made.
        self._blind = _is_blind(tables) or self._triggers != triggers
        self._frames = frames
        self._tables = tables
        noted = map_.note(SHAPES)
        self._noted = noted["tables"].encode() if noted else b""
        self._shapes = Shapes.from_bytes(self._noted) if noted else tables.shapes
        self._ways: Mapping[str, str] = map_.note(WAYS)
        self._ever = {TableName.parse(name) for name in self._ways}  # what the log has, under whatever name since

    def notes(self) -> dict[str, Mapping[str, str]]:
        """What is kept with the checkpoint, where it is not there yet."""
        shapes = self._shapes.to_bytes()
        looked = {"at": str(self._looked), "triggers": self._triggers}
        kept: dict[str, Mapping[str, str]] = {LOOKED: looked, WAYS: self._ways}
        if shapes != self._noted:
            self._noted = shapes
            kept[SHAPES] = {"tables": shapes.decode()}
        return kept

    def other_ways(self, tables: Tables, since: Lsn, noticed: Lsn) -> dict[TableName | None, Lsn]:
        """A look was taken at `noticed`. Doubt the tables whose rows it routes otherwise than they were routed until
        now, `since` at the earliest; one that is new is told of by the stream, in its place. Returns the doubts."""
        before, self._ways = self._ways, tables.ways()
        self._ever |= tables.plan.tables.keys()
        there = {str(tables.shapes.known[oid].name) for oid in self._shapes.known if oid in tables.shapes.known}
        since = min(since, self._looked) if self._blind else since
        doubts: dict[TableName | None, Lsn] = {}
        for text in sorted(before.keys() | self._ways.keys()):
            name, then, now = TableName.parse(text), before.get(text, ""), self._ways.get(text, "")
            if then == now:
                continue
            if then or text in there:
                self.urgent = True
                self._frames.doubt_between(name, "whose its rows are is told otherwise", since, noticed)
                doubts[name] = noticed
            if then.endswith(PARTIAL):
                self._frames.contents.whole.append((name, noticed))
            if now.endswith(PARTIAL):
                self._frames.contents.partial.append(name)
        return doubts

    def use(self, tables: Tables, only: Collection[TableName] | None) -> None:
        """Another look was taken, for some tables that are in doubt (None: for all). Of the others the stream still
        has to tell what changed between its own place and that look."""
        self._tables = tables
        if only is None:
            self._shapes = tables.shapes
            return
        kept = {oid: shape for oid, shape in self._shapes.known.items() if shape.name not in only}
        now = {oid: shape for oid, shape in tables.shapes.known.items() if shape.name in only}
        self._shapes = Shapes({**kept, **now})

    def heard(self, message: LogicalMessage, transaction: Transaction) -> list[SchemaChange]:
        """A message of the event triggers, in its transaction. Returns what it changed."""
        if message.prefix != PREFIX:
            return []
        self._heard += 1
        event = parse(message.content)
        before = self._shapes.known.get(event.oid)
        changes = self._shapes.apply(event)
        if before is not None and event.shape is not None and self._computable(before, changes):
            self._frames.alter(_logged(before, event.shape, self._key(before.name), transaction))
            self.urgent = True
            return list(changes)
        for change in changes:
            self._judge(change)
        return list(changes)

    def _key(self, table: TableName) -> tuple[str, ...]:
        return self._tables.plan.tables[table].table.key

    def _computable(self, before: TableShape, changes: Sequence[SchemaChange]) -> bool:
        """Whether older rows' values follow from those they had, and no change of the routes is in it."""
        plan = self._tables.plan.tables.get(before.name)
        if plan is None or not changes or before.name in self._frames.doubtful or None in self._frames.doubtful:
            return False
        routing: set[str | None] = {*plan.table.key, *owner_columns(plan), plan.label_column}
        routing.update(column for referenced in plan.referenced for column in referenced.columns)
        routing.discard(None)
        return all(
            change.known
            and change.kind in _COMPUTABLE
            and not routing & {change.former, change.now}
            and (change.missing is None or _type_of(self._shapes.known[before.oid], change.column) in _PLAIN_TYPES)
            for change in changes
        )

    def looked(self, tables: Tables, position: Lsn, noticed: Lsn) -> list[TableName]:
        """A look at the catalog, once a minute: all that there is where no event trigger tells. Gives what is gone.

        `position` is how far the stream had come before the look, `noticed` how far the server had written after it:
        what is found happened between the `position` of the look before and there.
        """
        blind, self._blind = self._blind, _is_blind(tables)
        self._look = _Look(tables, position, noticed, self._heard)
        return self.passed(noticed) if blind or self._blind else []

    def passed(self, position: Lsn) -> list[TableName]:
        """The stream has come to `position`. Once it is past a look, and has told of no change meanwhile, the tables
        are as that look found them; or something was done while no event trigger told (disabled, or made anew since).
        """
        look = self._look
        if look is None or position < look.noticed:
            return []
        self._look = None
        if look.heard != self._heard:
            return []  # of before the look, or of after it: the next one decides
        dropped = self._compare(look.tables, look.noticed)
        self._looked, self._triggers = look.position, look.tables.facts.events.written
        return dropped

    def _compare(self, tables: Tables, noticed: Lsn) -> list[TableName]:
        known, now = self._shapes.known, tables.shapes.known
        for oid, shape in now.items():
            if oid in known and known[oid].name != shape.name:
                self._renamed(known[oid].name, shape.name, noticed)
            elif oid in known and known[oid] != shape:
                self._doubt(shape.name, "its definition changed", noticed)
            elif oid not in known:
                self._doubt(shape.name, _WORDS[ChangeKind.CREATED], noticed)
        dropped = [shape.name for oid, shape in known.items() if oid not in now]
        for name in dropped:
            self._doubt(name, _WORDS[ChangeKind.DROPPED], noticed)
        for name in sorted(set(tables.partial) - set(self._tables.partial) - self._frames.doubtful.keys()):
            self._doubt(name, _WORDS[ChangeKind.PUBLICATION], noticed)
        self._shapes = tables.shapes
        return dropped

    def met(self, relation: Relation, root: TableName) -> None:
        """The stream described a relation: are these the columns that are known of it?"""
        shape = next((one for one in self._shapes.known.values() if one.name == root), None)
        if shape is None:
            return
        known = {(column.name, column.type) for column in shape.live if not column.generated}
        if known != set(relation.columns):
            self._doubt(root, "its columns are not those that are known")

    def _judge(self, change: SchemaChange) -> None:
        if change.kind is ChangeKind.IDENTITY:
            return
        if change.kind is ChangeKind.PUBLICATION and change.now not in self._tables.facts.publications:
            return  # a publication of somebody else's
        if change.kind is ChangeKind.RENAMED and change.table is not None and change.former is not None:
            if change.root is None:  # a leaf is known by its number
                self._renamed(TableName.parse(change.former), change.table)
            return
        if change.kind is ChangeKind.ATTACHED and change.known and change.table is not None:
            self._tables.leaves.attach(change.leaf, change.table)  # made empty: its rows come in the stream
            if change.table in self._tables.by_root or change.table in self._tables.partial:
                return
            # Its leaves are published one by one, and this one is not: of its rows the stream has the inserts only.
            change = replace(change, kind=ChangeKind.PUBLICATION)
        self._doubt(change.root or self._root(change.table), _WORDS[change.kind])

    def _renamed(self, former: TableName, now: TableName, noticed: Lsn | None = None) -> None:
        """What is told of it under its new name is not what the log has under the old one; nor are the ways of those
        that hang on it."""
        if former in self._ever or now in self._ever:
            for name in (former, now, *sorted(self._tables.plan.reach(former) | self._tables.plan.reach(now))):
                self._doubt(name, _WORDS[ChangeKind.RENAMED], noticed)

    def _root(self, table: TableName | None) -> TableName | None:
        """The root of what may be a leaf: what is published of that is told by its own name."""
        member = next((one for one in self._tables.facts.members if one.name == table), None)
        return table if member is None else self._tables.root_of(member)

    def _doubt(self, table: TableName | None, reason: str, noticed: Lsn | None = None) -> None:
        followed = table is None or table in self._ever
        if followed or reason in (_WORDS[ChangeKind.CREATED], _WORDS[ChangeKind.RENAMED]):
            self.urgent = True
            if self._blind or noticed is not None:
                self._frames.doubt_between(table, reason, self._looked, noticed or self._frames.position)
            else:
                self._frames.doubt(table, reason)


def _type_of(shape: TableShape, column: int) -> str:
    return next((one.type.partition("(")[0] for one in shape.live if one.number == column), "")


def _logged(before: TableShape, now: TableShape, key: tuple[str, ...], transaction: Transaction) -> LoggedSchemaChange:
    """The change as the log has it: each column of now by its place among those of before."""
    places = {column.number: place for place, column in enumerate(one for one in before.live if not one.generated)}
    columns = tuple(
        (column.name or "", column.type, places.get(column.number), _fill(column.missing))
        for column in now.live
        if not column.generated
    )
    return LoggedSchemaChange(transaction.end, transaction.xid, now.name, columns, key)


def _fill(missing: str | None) -> str:
    if missing is None:
        return "\\N"
    return escape(missing.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def _is_blind(tables: Tables) -> bool:
    """Whether no event trigger tells of changes: then only looking does."""
    return bool(schema_trigger.missing(tables.facts.events)) or not tables.facts.server.event_triggers
