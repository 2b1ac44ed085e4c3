"""Staging: the rows of a plan in temporary tables of the writing session, each with what is to be done to it.

A staged line is an operation and a row: `i` insert, `u` the row that an update leaves behind, `d` the row that is
deleted, `r` a row that is deleted and inserted anew (write_swaps.py), `p` an update of a row whose unique value is
emptied first. Which rows these are is decided elsewhere (restore/).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import contextmanager

import psycopg
from psycopg import pq, sql

from outlast.core.errors import Refused
from outlast.core.table import Table, TableName
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.query import identifier
from outlast.sources.postgres.session import Session

_COPY_PLACE = re.compile(r"^COPY [^,]+, line (?P<line>\d+)(?:, column (?P<column>.+?)(?=: |$))?", re.MULTILINE)
_TEMP_BUFFERS = "64MB"  # allocated as they fill; the default of 8 MB would write most of a large tenant to disk

INSERT, UPDATE, DELETE, REPLACE, PARKED = "i", "u", "d", "r", "p"


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
    """The temporary tables of one session, one for each table that has rows in the plan.

    They are made once a session, because each bloats the system catalog, and only where there are rows. Columns have
    the live table's types, so a value that no longer fits shows here, before anything is written. Several tenants'
    rows may stand in one staging table.
    """

    def __init__(self, connection: Session) -> None:
        self._connection = connection
        self._names: dict[TableName, sql.Identifier] = {}
        self._made = 0
        self._in_transaction: set[TableName] = set()
        self._counts: dict[TableName, Counter[str]] = {}
        self._touched: dict[TableName, set[str]] = {}
        self.parked: dict[TableName, str] = {}  # the column that is emptied first, for rows of operation PARKED
        with explained("set up a session for staging"):  # it can only be set before the first temporary table
            connection.execute(sql.SQL("SET temp_buffers = {}").format(sql.Literal(_TEMP_BUFFERS)))

    @property
    def rows(self) -> dict[TableName, int]:
        """Rows staged now, by table; tables without any are absent."""
        return {table: counts.total() for table, counts in self._counts.items()}

    @property
    def counts(self) -> Mapping[TableName, Counter[str]]:
        """The same by operation."""
        return self._counts

    @property
    def in_transaction(self) -> bool:
        """Whether rows are staged inside a transaction, which an error ends."""
        return self._connection.pgconn.transaction_status != pq.TransactionStatus.IDLE

    def touched(self, table: TableName) -> Set[str]:
        """The columns in which the staged updates differ from what is live."""
        return self._touched.get(table, set())

    def has(self, table: TableName, *operations: str) -> bool:
        return any(self._counts.get(table, Counter())[operation] for operation in operations)

    def recount(self, table: TableName, rows: int, before: str, after: str) -> None:
        """Note that so many rows of one operation were made rows of another."""
        self._counts[table][before] -= rows
        self._counts[table][after] += rows

    def name(self, table: TableName) -> sql.Identifier:
        return self._names[table]

    def fill(
        self, table: Table, lines: Iterable[bytes], counts: Counter[str] | None = None, touched: set[str] | None = None
    ) -> int:
        """Stage rows of a table: blocks of whole lines, each an operation, a tab and the row. Returns their number.

        `counts` and `touched` say what the lines are and are complete when `lines` has ended; without them all are
        inserts. What a table holds already stays. Raises ValueRefusedError.
        """
        stage = self._open(table)
        columns = sql.SQL(", ").join([operation(table), *(sql.Identifier(one.name) for one in table.columns)])
        try:
            with self._connection.cursor() as cursor:
                with cursor.copy(sql.SQL("COPY {} ({}) FROM STDIN").format(stage, columns)) as copy:
                    for block in lines:
                        copy.write(block)
                rows = cursor.rowcount
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise _refused(error, table) from error
        except psycopg.Error as error:
            raise explain(error, f"stage rows of table {table.name}") from error
        if rows:
            staged_now = Counter({INSERT: rows}) if counts is None else counts
            self._counts[table.name] = self._counts.get(table.name, Counter()) + staged_now
            self._touched[table.name] = self._touched.get(table.name, set()) | (touched or set())
        return rows

    def read(self, table: Table) -> Iterator[bytes]:
        """The staged lines as the server gives them back, in the order they were staged."""
        columns = sql.SQL(", ").join([operation(table), *(sql.Identifier(one.name) for one in table.columns)])
        query = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT").format(columns, self.name(table.name))
        doing = f"read staged rows of table {table.name}"
        with explained(doing), self._connection.cursor() as cursor, cursor.copy(query) as copy:
            for row in copy:
                yield bytes(row)

    def clear(self) -> None:
        """Empty every staging table."""
        if self._counts:
            with explained("empty the staging tables"):
                names = sql.SQL(", ").join([self._names[table] for table in self._counts])
                self._connection.execute(sql.SQL("TRUNCATE {}").format(names))
        self._forget()

    def committed(self) -> None:
        """The session's transaction was committed: the staging tables that it made stay."""
        self._in_transaction.clear()

    def rolled_back(self) -> None:
        """The session's transaction was rolled back, and the staging tables that it made are gone with their rows."""
        for table in self._in_transaction:
            del self._names[table]
        self._in_transaction.clear()
        self._forget()

    def _forget(self) -> None:
        self._counts.clear()
        self._touched.clear()
        self.parked.clear()

    def _open(self, table: Table) -> sql.Identifier:
        if table.name in self._names:
            return self._names[table.name]
        self._made += 1
        name = sql.Identifier("pg_temp", f"outlast_{self._made}")
        columns = sql.SQL(", ").join([sql.Identifier(one.name) for one in table.columns])
        inside = self.in_transaction
        with explained(f"make a staging table for {table.name}"):
            # AS SELECT keeps types, modifiers and collations, and takes no constraint, default or identity along
            self._connection.execute(
                sql.SQL(
                    'CREATE TEMPORARY TABLE {} AS SELECT NULL::pg_catalog."char" AS {}, {} FROM {} WITH NO DATA'
                ).format(name, operation(table), columns, identifier(table.name))
            )
        self._names[table.name] = name
        if inside:
            self._in_transaction.add(table.name)
        return name


def operation(table: Table) -> sql.Identifier:
    """The staging table's column that says what is to be done to a row."""
    name = "outlast_operation"
    while name in table.column_names:
        name += "_"
    return sql.Identifier(name)


def staged(table: Table, *operations: str, alias: str = "s") -> sql.Composed:
    """SQL: the staged row has one of these operations."""
    column = sql.SQL("{}.{}").format(sql.Identifier(alias), operation(table))
    choices = sql.SQL(", ").join([sql.Literal(one) for one in operations])
    return sql.SQL("{} IN ({})").format(column, choices)


def _refused(error: psycopg.Error, table: Table) -> ValueRefusedError:
    place = _COPY_PLACE.search(error.diag.context or "")
    column = error.diag.column_name or (place["column"] if place else None)
    kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    if error.diag.constraint_name:
        kind += f" (constraint {error.diag.constraint_name})"
    elif error.diag.datatype_name:
        kind += f" (type {error.diag.datatype_name})"
    return ValueRefusedError(table.name, column, int(place["line"]) if place else 0, kind)


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Tell psycopg's errors as ours: `cannot <doing>: …`."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error, doing) from error
