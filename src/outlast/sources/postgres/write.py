"""How rows get back into live tables: staged in temporary tables, then written set-based in one transaction.

What is to be written, and whether it was right, is decided elsewhere (restore/). Nothing here locks a live table, and
nothing skips a row that does not fit: what cannot be written fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import psycopg
from psycopg import sql

from outlast.core.errors import Refused
from outlast.core.table import Table, TableName
from outlast.sources.postgres.query import identifier
from outlast.sources.postgres.schema import Catalog, ForeignKey, SequenceUse
from outlast.sources.postgres.session import Session, explain
from outlast.sources.postgres.write_facts import WriteFacts
from outlast.sources.postgres.write_order import write_order

_COPY_PLACE = re.compile(r"^COPY [^,]+, line (?P<line>\d+)(?:, column (?P<column>.+?)(?=: |$))?", re.MULTILINE)
_NEXTVAL_CALLS_MAX = 1000
_TEMP_BUFFERS = "64MB"  # allocated as they fill; the default of 8 MB would write most of a large tenant to disk
_INTEGERS = ("smallint", "integer", "bigint")


class ValueRefusedError(Refused):
    """A column cannot take a value any more. `line` is the staged row's number, from 1, or 0 where it is not known."""

    def __init__(self, table: TableName, column: str | None, line: int, reason: str) -> None:
        where = f"column {column!r} of table {table}" if column else f"table {table}"
        super().__init__(f"{where} cannot take a stored value any more: {reason}", code="value-refused")
        self.table = table
        self.column = column
        self.line = line
        self.reason = reason


class Stage:
    """The temporary tables of one session, one for each table that rows are on their way into.

    They are made once a session, because each bloats the system catalog, and only where there are rows. Columns have
    the live table's types, so a value that no longer fits shows here, before anything is written.
    """

    def __init__(self, connection: Session) -> None:
        self._connection = connection
        self._names: dict[TableName, sql.Identifier] = {}
        self._rows: dict[TableName, int] = {}

    @property
    def rows(self) -> dict[TableName, int]:
        """Rows staged now, by table; tables without any are absent."""
        return dict(self._rows)

    def name(self, table: TableName) -> sql.Identifier:
        return self._names[table]

    def fill(self, table: Table, blocks: Iterable[bytes]) -> int:
        """Stage rows of a table: blocks of whole lines with exactly the table's columns. Returns their number.

        Raises ValueRefusedError. A table is filled once between two calls of `clear`. Outside any transaction.
        """
        stage = self._open(table)
        columns = sql.SQL(", ").join([sql.Identifier(one.name) for one in table.columns])
        try:
            with self._connection.cursor() as cursor:
                with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(stage, columns)) as copy:
                    for block in blocks:
                        copy.write(block)
                rows = cursor.rowcount
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise _refused(error, table) from error
        except psycopg.Error as error:
            raise explain(error, f"stage rows of table {table.name}") from error
        if rows:
            self._rows[table.name] = rows
        return rows

    def read(self, table: Table) -> Iterator[bytes]:
        """The staged rows as the server gives them back, in the order they were staged."""
        columns = sql.SQL(", ").join([sql.Identifier(one.name) for one in table.columns])
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(columns, self.name(table.name))
        doing = f"read staged rows of table {table.name}"
        with _explained(doing), self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for row in copy:
                yield bytes(row)

    def clear(self) -> None:
        """Empty every staging table."""
        if self._rows:
            with _explained("empty the staging tables"):
                names = sql.SQL(", ").join([self._names[table] for table in self._rows])
                self._connection.execute(sql.SQL("TRUNCATE {}").format(names))
            self._rows.clear()

    def _open(self, table: Table) -> sql.Identifier:
        if table.name in self._names:
            return self._names[table.name]
        name = sql.Identifier("pg_temp", f"outlast_{len(self._names) + 1}")
        columns = sql.SQL(", ").join([sql.Identifier(one.name) for one in table.columns])
        with _explained(f"make a staging table for {table.name}"):
            if not self._names:
                self._connection.execute(sql.SQL("SET temp_buffers = {}").format(sql.Literal(_TEMP_BUFFERS)))
            # AS SELECT keeps types, modifiers and collations, and takes no constraint, default or identity along
            self._connection.execute(
                sql.SQL("CREATE TEMPORARY TABLE {} AS SELECT {} FROM {} WITH NO DATA").format(
                    name, columns, identifier(table.name)
                )
            )
        self._names[table.name] = name
        return name


def _refused(error: psycopg.Error, table: Table) -> ValueRefusedError:
    place = _COPY_PLACE.search(error.diag.context or "")
    column = error.diag.column_name or (place["column"] if place else None)
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    if error.diag.constraint_name:
        kind += f" (constraint {error.diag.constraint_name})"
    elif error.diag.datatype_name:
        kind += f" (type {error.diag.datatype_name})"
    return ValueRefusedError(table.name, column, int(place["line"]) if place else 0, kind)


def write_staged(connection: Session, catalog: Catalog, stage: Stage, facts: WriteFacts) -> None:
    """Write all staged rows into their tables, in the caller's transaction, and settle every constraint.

    Tables are written quietly (session_replication_role = replica) where that is sound: their foreign keys are then
    proven here, and the rows they point at locked until the transaction ends. Raises psycopg's errors as they are: the
    caller has to tell a conflict from a passing fault.
    """
    # Triggers and checks that fire are the application's: their functions may name things without a schema. What we say
    # ourselves names everything in full, so the path changes nothing for us.
    connection.execute(b"SET LOCAL search_path TO DEFAULT")
    staged = stage.rows
    tables = {table.name: table for table in catalog.tables}
    quiet_now = False
    for group in write_order(staged.keys(), catalog.foreign_keys):
        quiet = not any(table in facts.loud for table in group)
        if quiet is not quiet_now:
            _set_quiet(connection, quiet=quiet)
            quiet_now = quiet
        connection.execute(_insert([tables[name] for name in group], stage))
    if quiet_now:
        _set_quiet(connection, quiet=False)
    for key in catalog.foreign_keys:
        if key.table in staged and key.table not in facts.loud and key.enforced:
            _prove(connection, key, stage, facts, tables[key.references])
    connection.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
    connection.execute(b"SET LOCAL search_path TO ''")


def _set_quiet(connection: Session, *, quiet: bool) -> None:
    role = b"replica" if quiet else b"origin"
    connection.execute(b"SET LOCAL session_replication_role = " + role)


def _insert(group: Sequence[Table], stage: Stage) -> sql.Composed:
    inserts = []
    for table in group:
        columns = sql.SQL(", ").join([sql.Identifier(one.name) for one in table.columns])
        inserts.append(
            sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
                identifier(table.name), columns, columns, stage.name(table.name)
            )
        )
    *first, last = inserts
    if not first:
        return last
    # A cycle of foreign keys: one statement, at the end of which all of them are checked
    steps = [sql.SQL("{} AS ({})").format(sql.Identifier(f"w{number}"), insert) for number, insert in enumerate(first)]
    return sql.SQL("WITH {} ").format(sql.SQL(", ").join(steps)) + last


class ReferenceGoneError(Exception):
    """A staged row points at a row that is not there; conflicts.py says which."""

    def __init__(self, key: ForeignKey) -> None:
        super().__init__(key.name)
        self.key = key


def _prove(connection: Session, key: ForeignKey, stage: Stage, facts: WriteFacts, parent: Table) -> None:
    """Every row that the staged rows point at is there, and stays until we commit; those staged too need no look."""
    wanted = wanted_references(key, stage, facts)
    query = sql.SQL(
        "WITH wanted AS MATERIALIZED ({}) SELECT count(*), count(found.there) FROM wanted"
        " LEFT JOIN LATERAL (SELECT true AS there FROM {} AS r WHERE {} FOR KEY SHARE) AS found ON true"
    ).format(wanted, _referenced(parent), matches_reference(key, facts))
    row = connection.execute(query).fetchone()
    assert row is not None
    if row[0] != row[1]:
        raise ReferenceGoneError(key)


def _referenced(parent: Table) -> sql.Composed:
    """What a foreign key sees of the table it points at: never the rows of inheritance children."""
    only = sql.SQL("") if parent.partitioned else sql.SQL("ONLY ")
    return sql.SQL("{}{}").format(only, identifier(parent.name))


def matches_reference(key: ForeignKey, facts: WriteFacts) -> sql.Composed:
    """SQL: row `r` of the referenced table is the one that row `wanted` (v1, v2 …) points at."""
    operators = facts.foreign_key_operators[key.table, key.name]
    return sql.SQL(" AND ").join(
        [
            sql.SQL("r.{} {} wanted.{}").format(sql.Identifier(column), operator, sql.Identifier(f"v{number}"))
            for number, (column, operator) in enumerate(zip(key.referenced_columns, operators, strict=True), start=1)
        ]
    )


def wanted_references(key: ForeignKey, stage: Stage, facts: WriteFacts) -> sql.Composed:
    """SELECT DISTINCT of what staged rows point at by one foreign key, as v1, v2 …, but for what is staged itself."""
    values = [sql.SQL("s.{}").format(sql.Identifier(column)) for column in key.columns]
    named = [
        sql.SQL("{} AS {}").format(value, sql.Identifier(f"v{number}")) for number, value in enumerate(values, start=1)
    ]
    present = sql.SQL("num_nonnulls({}) > 0" if key.match_full else "num_nulls({}) = 0").format(
        sql.SQL(", ").join(values)
    )
    query = sql.SQL("SELECT DISTINCT {} FROM {} AS s WHERE pg_catalog.{}").format(
        sql.SQL(", ").join(named), stage.name(key.table), present
    )
    if key.references not in stage.rows:
        return query
    operators = facts.foreign_key_operators[key.table, key.name]
    same = sql.SQL(" AND ").join(
        [
            sql.SQL("p.{} {} {}").format(sql.Identifier(column), operator, value)
            for column, operator, value in zip(key.referenced_columns, operators, values, strict=True)
        ]
    )
    return query + sql.SQL(" AND NOT EXISTS (SELECT FROM {} AS p WHERE {})").format(stage.name(key.references), same)


def raise_sequences(connection: Session, catalog: Catalog, stage: Stage) -> None:
    """Lift each sequence that feeds a written column to the largest value written. Never lowers one.

    Sequences do not roll back: at worst one is higher than it had to be.
    """
    types = {(table.name, one.name): one.type for table in catalog.tables for one in table.columns}
    for use in catalog.sequences:
        if use.table in stage.rows and types.get((use.table, use.column)) in _INTEGERS:
            _raise_sequence(connection, use, stage)


def _raise_sequence(connection: Session, use: SequenceUse, stage: Stage) -> None:
    sequence, step = identifier(use.sequence), use.increment
    farthest = sql.SQL("max" if step > 0 else "min")
    row = connection.execute(
        sql.SQL("SELECT (SELECT {}({}) FROM {}), last_value, is_called FROM {}").format(
            farthest, sql.Identifier(use.column), stage.name(use.table), sequence
        )
    ).fetchone()
    if row is None or row[0] is None:
        return
    wanted, last, called = row
    calls = -((last - (0 if called else step) - wanted) // step)  # to be made until the sequence has given `wanted`
    name = sql.Literal(sequence.as_string(connection))
    if 0 < calls <= _NEXTVAL_CALLS_MAX:
        # Reading it and then setting it could lower it again under a concurrent nextval; nextval cannot.
        connection.execute(
            sql.SQL(
                "SELECT count(pg_catalog.nextval({}::pg_catalog.regclass)) FROM pg_catalog.generate_series(1, {})"
            ).format(name, sql.Literal(calls))
        )
    elif calls > 0:
        # Too far to count up to. The margin is more than others can draw between the read above and this.
        margin = wanted + step * _NEXTVAL_CALLS_MAX
        connection.execute(
            sql.SQL(
                "SELECT pg_catalog.setval(seqrelid::pg_catalog.regclass,"
                " LEAST(seqmax, GREATEST(seqmin, {}::pg_catalog.int8)))"
                " FROM pg_catalog.pg_sequence WHERE seqrelid = {}::pg_catalog.regclass"
            ).format(sql.Literal(margin), name)
        )


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise explain(error, doing) from error
