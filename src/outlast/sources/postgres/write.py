"""How staged rows get into live tables: set-based, in the caller's transaction, one statement a step.

What is to be written, and whether it was right, is decided elsewhere (restore/); in which order, in write_schedule.py.
Nothing here locks a live table, and nothing skips a row that does not fit: what cannot be written fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from psycopg import sql

from outlast.core.table import Table, TableName
from outlast.core.tenant import TenantKey
from outlast.sources.postgres.query import identifier, owned_rows
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_facts import WriteFacts
from outlast.sources.postgres.write_proof import content, prove_references, same_row
from outlast.sources.postgres.write_schedule import TAKE_OUT, Load, Step, schedule
from outlast.sources.postgres.write_stage import DELETE, INSERT, PARKED, REPLACE, UPDATE, Stage, staged
from outlast.sources.postgres.write_stage import ValueRefusedError as ValueRefusedError
from outlast.sources.postgres.write_swaps import settle_swaps


class CountMismatchError(Exception):
    """A statement wrote another number of rows than were staged: a trigger or rule left some out, or another came."""

    def __init__(self, table: TableName, wanted: int, written: int) -> None:
        super().__init__(f"{table}: {wanted} rows were to be written, and {written} were")
        self.table = table
        self.wanted = wanted
        self.written = written


@dataclass(frozen=True, slots=True)
class Written:
    """What was done: the tables written without triggers, and, by table, the row counters that this should give."""

    quiet: frozenset[TableName]
    counts: Mapping[TableName, Counter[str]]  # i, u, d


def plan_steps(catalog: Catalog, stage: Stage, facts: WriteFacts) -> list[Step]:
    """The statements by which what is staged now will be written."""
    operations = {table: frozenset(op for op, rows in counts.items() if rows) for table, counts in stage.counts.items()}
    load = Load(operations, {table: facts.touched(table, stage) for table in operations})
    return schedule(load, catalog.foreign_keys, catalog.unique_indexes, facts.loud.keys())


def write_staged(
    connection: Session, catalog: Catalog, stage: Stage, facts: WriteFacts, tenants: Sequence[TenantKey]
) -> Written:
    """Write all staged rows, which are of these tenants, in the caller's transaction, and settle every constraint.

    Tables are written quietly (session_replication_role = replica) where that is sound: their foreign keys are then
    proven here, and the rows they point at locked until the transaction ends. Raises psycopg's errors as they are: the
    caller has to tell a conflict from a passing fault. Also CountMismatchError, ReferenceGoneError, SwapRefusedError.
    """
    settle_swaps(connection, catalog, stage, facts)
    # Triggers and checks that fire are the application's: their functions may name things without a schema. What we say
    # ourselves names everything in full, so the path changes nothing for us.
    connection.execute(b"SET LOCAL search_path TO DEFAULT")
    connection.execute(b"SET CONSTRAINTS ALL DEFERRED")
    writer = _Writer(connection, catalog, stage, facts, tenants)
    quiet_now = False
    quiet: set[TableName] = set()
    for step in plan_steps(catalog, stage, facts):
        if step.quiet is not quiet_now:
            _set_quiet(connection, quiet=step.quiet)
            quiet_now = step.quiet
        if step.quiet:
            quiet |= {table for _, table in step.parts}
        writer.write(step)
    if quiet_now:
        _set_quiet(connection, quiet=False)
    tables = {table.name: table for table in catalog.tables}
    for key in catalog.foreign_keys:
        if key.table in quiet and key.enforced:
            prove_references(connection, key, tables, stage, facts)
    connection.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
    connection.execute(b"SET LOCAL search_path TO ''")
    return Written(frozenset(quiet), writer.counts)


def _set_quiet(connection: Session, *, quiet: bool) -> None:
    role = b"replica" if quiet else b"origin"
    connection.execute(b"SET LOCAL session_replication_role = " + role)


class _Writer:
    """Carries out steps, and counts what they should have done to each table."""

    def __init__(
        self, connection: Session, catalog: Catalog, stage: Stage, facts: WriteFacts, tenants: Sequence[TenantKey]
    ) -> None:
        self._connection = connection
        self._catalog = catalog
        self._tables = {table.name: table for table in catalog.tables}
        self._stage = stage
        self._facts = facts
        self._tenants = tenants
        self.counts: dict[TableName, Counter[str]] = {}

    def write(self, step: Step) -> None:
        """One step as one statement. Raises CountMismatchError."""
        self._park(step)
        parts = [
            self._part(operation, self._tables[table], _after(number) if number else sql.SQL("true"))
            for number, (operation, table) in enumerate(step.parts)
        ]
        wanted = [self._wanted(operation, table) for operation, table in step.parts]
        written: Sequence[int]
        if len(parts) == 1:
            written = [self._connection.execute(parts[0]).rowcount]
        else:
            row = self._connection.execute(_chained(parts)).fetchone()
            assert row is not None
            written = row
        for (operation, table), rows, expected in zip(step.parts, written, wanted, strict=True):
            if rows != expected:
                raise CountMismatchError(table, expected, rows)
            self._count(table, _COUNTED[operation], rows)

    def _count(self, table: TableName, counter: str, rows: int) -> None:
        self.counts.setdefault(table, Counter())[counter] += rows

    def _wanted(self, operation: str, table: TableName) -> int:
        counts = self._stage.counts[table]
        return sum(counts[one] for one in _STAGED[operation])

    def _part(self, operation: str, table: Table, condition: sql.Composable) -> sql.Composed:
        """One statement, which `condition` makes wait for the parts before it."""
        if operation == INSERT:
            return self._insert(table, condition)
        if operation == UPDATE:
            return self._update(table, condition)
        only = DELETE if operation == DELETE else REPLACE
        return self._delete(table, only, condition) if table.key else self._delete_whole(table, condition)

    def _insert(self, table: Table, condition: sql.Composable) -> sql.Composed:
        columns = _columns(table)
        return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} AS s WHERE {} AND {}").format(
            identifier(table.name),
            columns,
            columns,
            self._stage.name(table.name),
            staged(table, INSERT, REPLACE),
            condition,
        )

    def _update(self, table: Table, condition: sql.Composable) -> sql.Composed:
        # Only what differs is set: an unchanged reference is not checked, and UPDATE OF triggers stay silent
        changed = [one.name for one in table.columns if one.name in self._stage.touched(table.name)]
        settings = sql.SQL(", ").join(
            [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Identifier("s", name)) for name in changed]
        )
        return sql.SQL("UPDATE {} AS t SET {} FROM {} AS s WHERE {} AND {} AND {}").format(
            _target(table),
            settings,
            self._stage.name(table.name),
            staged(table, UPDATE, PARKED),
            same_row(table, self._facts),
            condition,
        )

    def _delete(self, table: Table, operation: str, condition: sql.Composable) -> sql.Composed:
        return sql.SQL("DELETE FROM {} AS t USING {} AS s WHERE {} AND {} AND {}").format(
            _target(table),
            self._stage.name(table.name),
            staged(table, operation),
            same_row(table, self._facts),
            condition,
        )

    def _delete_whole(self, table: Table, condition: sql.Composable) -> sql.Composed:
        """Without a key: as many of the tenants' rows of each content as are staged, whichever of them."""
        owned = owned_rows(table, self._catalog.tenant_key_type, self._tenants)
        return sql.SQL(
            "WITH wanted AS MATERIALIZED (SELECT {staged_content} AS content, pg_catalog.count(*) AS n"
            " FROM {stage} AS s WHERE {operation} GROUP BY 1),"
            " found AS MATERIALIZED (SELECT t.tableoid AS relation, t.ctid AS place, {live_content} AS content,"
            " pg_catalog.row_number() OVER (PARTITION BY {live_content}) AS number {owned}),"
            " doomed AS MATERIALIZED (SELECT found.relation, found.place FROM found JOIN wanted USING (content)"
            " WHERE found.number <= wanted.n)"
            " DELETE FROM {target} AS t WHERE t.ctid = ANY (ARRAY(SELECT place FROM doomed))"
            " AND (t.tableoid, t.ctid) IN (SELECT relation, place FROM doomed) AND {condition}"
        ).format(
            staged_content=content(table, "s"),
            stage=self._stage.name(table.name),
            operation=staged(table, DELETE),
            live_content=content(table, "t"),
            owned=owned,
            target=_target(table),
            condition=condition,
        )

    def _park(self, step: Step) -> None:
        """Empty the unique values that rows of the step swap among each other, where they cannot be deleted for it."""
        for operation, name in step.parts:
            column = self._stage.parked.get(name)
            if operation != UPDATE or column is None:
                continue
            table = self._tables[name]
            parked = self._connection.execute(
                sql.SQL("UPDATE {} AS t SET {} = NULL FROM {} AS s WHERE {} AND {}").format(
                    _target(table),
                    sql.Identifier(column),
                    self._stage.name(name),
                    staged(table, PARKED),
                    same_row(table, self._facts),
                )
            )
            self._count(name, "u", parked.rowcount)


_COUNTED = {DELETE: "d", TAKE_OUT: "d", UPDATE: "u", INSERT: "i"}
_STAGED = {DELETE: (DELETE,), TAKE_OUT: (REPLACE,), UPDATE: (UPDATE, PARKED), INSERT: (INSERT, REPLACE)}


def _columns(table: Table) -> sql.Composed:
    return sql.SQL(", ").join([sql.Identifier(one.name) for one in table.columns])


def _target(table: Table) -> sql.Composed:
    return sql.SQL("{}{}").format(sql.SQL("ONLY ") if table.only else sql.SQL(""), identifier(table.name))


def _after(number: int) -> sql.Composed:
    """True, once the part before has been carried out to its end."""
    return sql.SQL("(SELECT pg_catalog.count(*) FROM {}) >= 0").format(sql.Identifier(f"w{number - 1}"))


def _chained(parts: Sequence[sql.Composed]) -> sql.Composed:
    """One statement of several: foreign keys are checked at its end, and each part comes after the one before it."""
    steps = [
        sql.SQL("{} AS ({} RETURNING 1)").format(sql.Identifier(f"w{number}"), part)
        for number, part in enumerate(parts)
    ]
    counts = [
        sql.SQL("(SELECT pg_catalog.count(*) FROM {})").format(sql.Identifier(f"w{number}"))
        for number in range(len(parts))
    ]
    return sql.SQL("WITH {} SELECT {}").format(sql.SQL(", ").join(steps), sql.SQL(", ").join(counts))
