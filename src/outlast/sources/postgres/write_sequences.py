"""Sequences that feed written columns: raised past what was written, never lowered."""

from __future__ import annotations

from psycopg import sql

from outlast.core.table import Table
from outlast.sources.postgres.query import identifier
from outlast.sources.postgres.schema import Catalog, SequenceUse
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_stage import INSERT, PARKED, REPLACE, UPDATE, Stage, staged

_NEXTVAL_CALLS_MAX = 1000
_INTEGERS = ("smallint", "integer", "bigint")
_WRITTEN = (INSERT, UPDATE, REPLACE, PARKED)


def raise_sequences(connection: Session, catalog: Catalog, stage: Stage) -> None:
    """Lift each sequence that feeds a written column to the largest value written. Never lowers one.

    Sequences do not roll back: at worst one is higher than it had to be.
    """
    tables = {table.name: table for table in catalog.tables}
    for use in catalog.sequences:
        table = tables.get(use.table)
        if table is None or not stage.has(use.table, *_WRITTEN):
            continue
        if any(one.name == use.column and one.type in _INTEGERS for one in table.columns):
            _raise_sequence(connection, use, table, stage)


def _raise_sequence(connection: Session, use: SequenceUse, table: Table, stage: Stage) -> None:
    sequence, step = identifier(use.sequence), use.increment
    farthest = sql.SQL("max" if step > 0 else "min")
    row = connection.execute(
        sql.SQL("SELECT (SELECT {}({}) FROM {} AS s WHERE {}), last_value, is_called FROM {}").format(
            farthest, sql.Identifier(use.column), stage.name(use.table), staged(table, *_WRITTEN), sequence
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
