"""Schema changes, as following meets them: by a message in the stream, by other columns, or by a look at the catalog.

What older rows say can follow from what changed (a column added as NULL, dropped, renamed); then nothing is read again.
Everything else is a doubt: told in the log, and mended by reading the table anew. New tables are taken up if
outlast.toml says whose they are, and are named loudly if it does not.
"""

from __future__ import annotations

from outlast.capture.epoch import SHAPES
from outlast.capture.frames import Frames
from outlast.capture.route_map import RouteMap
from outlast.capture.routes import Tables
from outlast.core.change import Relation
from outlast.core.table import TableName
from outlast.sources.postgres import schema_trigger
from outlast.sources.postgres.schema_events import PREFIX, ChangeKind, SchemaChange, Shapes, parse
from outlast.sources.postgres.transactions import LogicalMessage, Transaction

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

    def __init__(self, map_: RouteMap, tables: Tables, frames: Frames) -> None:
        self.urgent = False
        self._frames = frames
        self._tables = tables
        noted = map_.note(SHAPES)
        self._shapes = Shapes.from_bytes(noted["tables"].encode()) if noted else tables.shapes

    @property
    def notes(self) -> dict[str, dict[str, str]]:
        """What is kept with the checkpoint."""
        return {SHAPES: {"tables": self._shapes.to_bytes().decode()}}

    def use(self, tables: Tables) -> None:
        """Another look was taken: what the stream still has to tell of before is told of tables that are in doubt."""
        self._tables = tables
        self._shapes = tables.shapes

    def heard(self, message: LogicalMessage, transaction: Transaction) -> list[SchemaChange]:
        """A message of the event triggers, in its transaction. Returns what it changed."""
        if message.prefix != PREFIX:
            return []
        changes = self._shapes.apply(parse(message.content))
        for change in changes:
            self._judge(change)
        return list(changes)

    def looked(self, tables: Tables) -> list[TableName]:
        """A look at the catalog, once a minute: all that there is where no event trigger tells. Gives what is gone."""
        if not schema_trigger.missing(tables.facts.events) and tables.facts.server.event_triggers:
            return []
        known, now = self._shapes.known, tables.shapes.known
        for oid, shape in now.items():
            if oid in known and known[oid] != shape:
                self._doubt(shape.name, "its definition changed")
            elif oid not in known:
                self._doubt(shape.name, _WORDS[ChangeKind.CREATED])
        dropped = [shape.name for oid, shape in known.items() if oid not in now]
        for name in dropped:
            self._doubt(name, _WORDS[ChangeKind.DROPPED])
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
        self._doubt(change.root or change.table, _WORDS[change.kind])

    def _doubt(self, table: TableName | None, reason: str) -> None:
        followed = table is None or table in self._tables.plan.tables
        if followed or reason == _WORDS[ChangeKind.CREATED]:
            self.urgent = True
            self._frames.doubt(table, reason)
