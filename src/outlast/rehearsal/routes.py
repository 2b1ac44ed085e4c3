"""Whose the copy's rows are, asked of the copy itself, as it was before the script.

`follow` keeps a map of every row that others find their tenant through. A rehearsal does without: the copy is at hand.
So a route is looked up when a change needs it, a few hundred at a time, and what the script changed is remembered over
it, as in `follow`'s map, by the same code. What is asked must not see what the script did:

- a script that only writes rows is asked past by a snapshot of before (locks are let go after each question, by rolling
  back to a savepoint, or the script would wait for us);
- a script that may alter, truncate or drop tables, and any command, could take from a snapshot what it should see, or
  wait for it to end. For those the columns that routes are made of are copied aside first, into tables of ours.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from outlast.capture.numbering import Numbering
from outlast.capture.route_ids import ORPHAN_NUMBER, Route, Space, space_number
from outlast.capture.route_map import RouteMap
from outlast.capture.route_plan import RoutePlan, TablePlan
from outlast.capture.ways import id_of, owner_columns, target_space_of
from outlast.core.row import NULL, unescape
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.query import array, identifier
from outlast.sources.postgres.session import Session
from outlast.state.local import HostKey
from outlast.vault.keys import WriterKeys

ROUTES = "routes.sqlite"
"""The file, in the copy's folder, of what the script changed. Its ids mean nothing without this process's key."""

_AT_ONCE = 5_000


class _Asked(Space):
    """A space that remembers which values an id was made of, until it is looked up."""

    __slots__ = ("values",)

    def __init__(self, number: int, key: bytes) -> None:
        super().__init__(number, key)
        self.values: dict[bytes, tuple[bytes, ...]] = {}

    def id_of(self, values: Sequence[bytes]) -> bytes:
        found = super().id_of(values)
        self.values[found] = tuple(values)
        return found

    def id_of_one(self, value: bytes) -> bytes:
        found = super().id_of_one(value)
        self.values[found] = (value,)
        return found


@dataclass(frozen=True, slots=True)
class _Question:
    """How rows of one table are found by some of its columns, and what their routes are made of."""

    table: TablePlan
    columns: tuple[str, ...]
    types: tuple[str, ...]


class Routes(RouteMap):
    """Routes of a copy by id, looked up in it. `aside` True: in tables of ours, see `set_aside`."""

    def __init__(self, folder: Path, host_key: HostKey, plan: RoutePlan, session: Session, *, aside: bool) -> None:
        super().__init__(folder / ROUTES, host_key)
        self._plan = plan
        self._session = session
        self._aside = aside
        self._asked: dict[int, _Asked] = {}
        self._questions: dict[int, _Question] = {}
        self.numbers = Numbering(self, host_key, WriterKeys.generate(()), "copy")

    @classmethod
    @contextmanager
    def opened(cls, folder: Path, plan: RoutePlan, session: Session, *, aside: bool, key: bytes) -> Iterator[Routes]:
        """`key`: fresh random bytes; what is made under them means nothing to anybody after us."""
        found = cls(folder, HostKey(key), plan, session, aside=aside)
        try:
            for name, table in plan.tables.items():
                for referenced in table.referenced:
                    space = target_space_of(found, name, referenced.columns)
                    types = {column.name: column.type for column in table.table.columns}
                    found._questions[space.number] = _Question(
                        table, referenced.columns, tuple(types[column] for column in referenced.columns)
                    )
            yield found
        finally:
            found.close()

    def space(self, table: str, columns: Sequence[str]) -> Space:
        plain = super().space(table, columns)
        if plain.number not in self._asked:
            self._asked[plain.number] = _Asked(plain.number, self._key)
        return self._asked[plain.number]

    def end_transaction(self) -> None:
        super().end_transaction()
        for space in self._asked.values():
            space.values.clear()

    def stored(self, ids: Sequence[bytes]) -> dict[bytes, Route]:
        wanted: dict[int, list[bytes]] = defaultdict(list)
        for id_ in ids:
            number = space_number(id_)
            if number in self._questions:
                wanted[number].append(id_)
        found: dict[bytes, Route] = {}
        for number, some in wanted.items():
            for start in range(0, len(some), _AT_ONCE):
                found.update(self._found(number, some[start : start + _AT_ONCE]))
        return found

    def _found(self, number: int, ids: Sequence[bytes]) -> Mapping[bytes, Route]:
        question, space = self._questions[number], self._asked[number]
        values = [space.values[id_] for id_ in ids if id_ in space.values]
        if not values:
            return {}
        wanted = set(ids)
        referenced = next(one for one in question.table.referenced if one.columns == question.columns)
        canonical = None if referenced.exact else referenced.canonical
        found: dict[bytes, Route] = {}
        for fields in self._ask(question, values):
            id_ = id_of(space, fields[: len(question.columns)], canonical)
            if id_ in wanted and id_ is not None:
                found[id_] = self._route(question.table, fields[len(question.columns) :])
        return found

    def _route(self, table: TablePlan, values: Sequence[bytes | None]) -> Route:
        if table.pointer is None:
            return ORPHAN_NUMBER if values[0] is None else self.numbers.number_of(values[0])
        referenced = table.pointer.referenced
        parent = target_space_of(self, table.pointer.to, referenced.columns)
        return id_of(parent, values, None if referenced.exact else referenced.canonical) or ORPHAN_NUMBER

    def _ask(self, question: _Question, values: Sequence[tuple[bytes, ...]]) -> Iterator[list[bytes | None]]:
        texts = [tuple(value.decode("utf-8", "surrogateescape") for value in one) for one in values]
        arrays = [
            array([one[place] for one in texts], kind) for place, kind in enumerate(question.types)
        ]  # types are the catalog's own words
        columns = [sql.Identifier("t", column) for column in question.columns]
        if len(columns) == 1:
            matches = sql.SQL("{} = ANY ({})").format(columns[0], arrays[0])
        else:
            matches = sql.SQL("({}) IN (SELECT * FROM ROWS FROM ({}))").format(
                sql.SQL(", ").join(columns),
                sql.SQL(", ").join([sql.SQL("pg_catalog.unnest({})").format(one) for one in arrays]),
            )
        selected = [*columns, *(sql.Identifier("t", column) for column in owner_columns(question.table))]
        name = _aside_name(question.table) if self._aside else identifier(question.table.table.name)
        query = sql.SQL("COPY (SELECT {} FROM {} AS t WHERE {}) TO STDOUT").format(
            sql.SQL(", ").join(selected), name, matches
        )
        try:
            self._session.execute("SAVEPOINT asked")
            with self._session.cursor().copy(query) as copy:
                rows = b"".join(copy).split(b"\n")
            self._session.execute("ROLLBACK TO SAVEPOINT asked")  # lets the locks go, and keeps the snapshot
        except psycopg.Error as error:
            raise explain(error, f"ask the copy whose the rows of {question.table.table.name} are") from error
        del rows[-1]  # behind the last newline
        for row in rows:
            if b"\\" in row:
                yield [None if field == NULL else unescape(field) for field in row.split(b"\t")]
            else:
                yield list(row.split(b"\t"))


def set_aside(session: psycopg.Connection[Any], plan: RoutePlan) -> None:
    """Copy the columns that routes are made of into tables of ours, before a script that could take them from us."""
    for table in plan.tables.values():
        if not table.referenced:
            continue
        keys = {referenced.columns for referenced in table.referenced}
        wanted = dict.fromkeys([*(column for columns in sorted(keys) for column in columns), *owner_columns(table)])
        only = sql.SQL("ONLY ") if table.table.only else sql.SQL("")
        name = _aside_name(table)
        session.execute(
            sql.SQL("CREATE UNLOGGED TABLE {} AS SELECT {} FROM {}{}").format(
                name, sql.SQL(", ").join(map(sql.Identifier, wanted)), only, identifier(table.table.name)
            )
        )
        for columns in sorted(keys):
            listed = sql.SQL(", ").join(map(sql.Identifier, columns))
            session.execute(sql.SQL("CREATE INDEX ON {} ({})").format(name, listed))
        session.execute(sql.SQL("ANALYZE {}").format(name))


def _aside_name(table: TablePlan) -> sql.Identifier:
    return sql.Identifier("outlast_rehearsal", f"routes_{table.table.oid}")
