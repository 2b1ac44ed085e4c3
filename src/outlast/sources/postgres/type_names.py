"""The names of columns' types as format_type() writes them, for relations that the change stream tells by number.

Nearly all of them are known when a stream begins. A type that comes later is looked up in a session of its own: the
stream's session takes no queries while it streams. One that is gone again by then keeps the name that the stream told.
"""

from __future__ import annotations

from contextlib import closing

import psycopg

from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session, Target, connect
from outlast.sources.postgres.statements import statement
from outlast.sources.postgres.walsender import ask

_UNKNOWN = "???"


class TypeNames:
    """A function (type's number, modifier, the name that the stream told) -> name."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._names: dict[tuple[int, int], str] = {}

    def learn(self, connection: Session) -> None:
        """All that stand in a table now, over the stream's own session before it streams."""
        for oid, modifier, name in ask(connection, statement("type_names").decode()):
            self._names[int(str(oid)), int(str(modifier))] = str(name)

    def __call__(self, oid: int, modifier: int, told: str | None) -> str:
        known = self._names.get((oid, modifier))
        if known is None:
            known = self._look_up(oid, modifier, told)
            self._names[oid, modifier] = known
        return known

    def _look_up(self, oid: int, modifier: int, told: str | None) -> str:
        with closing(connect(self._target, role="follow", autocommit=True)) as session:
            try:
                row = session.execute(b"SELECT pg_catalog.format_type(%s, %s)", [oid, modifier]).fetchone()
            except psycopg.Error as error:
                raise explain(error, "look up the type of a column that changed") from error
        name = _UNKNOWN if row is None else str(row[0])
        return told or name if name.startswith(_UNKNOWN) else name
