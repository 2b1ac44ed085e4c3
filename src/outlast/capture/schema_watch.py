"""Schema changes, as following meets them: by a message in the stream, by other columns, or by a look at the catalog.

What older rows say can follow from what changed (a column added as NULL, dropped, renamed); then nothing is read again.
Everything else is a doubt: told in the log, and mended by reading the table anew. New tables are taken up if
outlast.toml says whose they are, and are named loudly if it does not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from outlast.capture.epoch import SHAPES
from outlast.capture.frames import Frames
from outlast.capture.route_map import RouteMap
from outlast.capture.routes import Tables
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


class SchemaWatch:
    """Holds how the tables looked at the stream's position. `urgent`: something was found that should be told soon."""

    def __init__(self, map_: RouteMap, tables: Tables, frames: Frames, position: Lsn) -> None:
        self.urgent = False
        self._blind = _is_blind(tables)
        looked = map_.note(LOOKED)
        self._looked = Lsn.parse(str(looked["at"])) if looked else position
        self._frames = frames
        self._tables = tables
        noted = map_.note(SHAPES)
        self._noted = noted["tables"].encode() if noted else b""
        self._shapes = Shapes.from_bytes(self._noted) if noted else tables.shapes

    def notes(self) -> dict[str, dict[str, str]]:
        """What is kept with the checkpoint, where it is not there yet."""
        shapes = self._shapes.to_bytes()
        looked = {LOOKED: {"at": str(self._looked)}}
        if shapes == self._noted:
            return looked
        self._noted = shapes
        return {SHAPES: {"tables": shapes.decode()}, **looked}

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
        self._blind = _is_blind(tables)
        dropped = self._compare(tables, noticed) if self._blind else []
        self._looked = position
        return dropped

    def _compare(self, tables: Tables, noticed: Lsn) -> list[TableName]:
        known, now = self._shapes.known, tables.shapes.known
        for oid, shape in now.items():
            if oid in known and known[oid] != shape:
                self._doubt(shape.name, "its definition changed", noticed)
            elif oid not in known:
                self._doubt(shape.name, _WORDS[ChangeKind.CREATED], noticed)
        dropped = [shape.name for oid, shape in known.items() if oid not in now]
        for name in dropped:
            self._doubt(name, _WORDS[ChangeKind.DROPPED], noticed)
        for name in sorted(set(tables.partial) - set(self._tables.partial)):
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
        if change.kind is ChangeKind.ATTACHED and change.known and change.table is not None:
            self._tables.leaves.attach(change.leaf, change.table)  # made empty: its rows come in the stream
            if change.table in self._tables.by_root or change.table in self._tables.partial:
                return
            # Its leaves are published one by one, and this one is not: of its rows the stream has the inserts only.
            change = replace(change, kind=ChangeKind.PUBLICATION)
        self._doubt(change.root or self._root(change.table), _WORDS[change.kind])

    def _root(self, table: TableName | None) -> TableName | None:
        """The root of what may be a leaf: what is published of that is told by its own name."""
        member = next((one for one in self._tables.facts.members if one.name == table), None)
        return table if member is None else self._tables.root_of(member)

    def _doubt(self, table: TableName | None, reason: str, noticed: Lsn | None = None) -> None:
        followed = table is None or table in self._tables.plan.tables
        if followed or reason == _WORDS[ChangeKind.CREATED]:
            self.urgent = True
            if self._blind:
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
