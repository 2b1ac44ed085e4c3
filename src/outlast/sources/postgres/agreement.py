"""Whether several paths lead each row of a table to the same tenant: asked of the data, within a limit of time.

Which tables are asked about, and what follows, is ties.py's. Rows are counted where they are; nothing of them is
fetched but the key of one that disagrees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from outlast.core.errors import BugError
from outlast.core.table import Ownership
from outlast.sources.postgres import query
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.schema import Catalog, Notice
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.ties import Answer, Counted, Question, crossings

LIMIT_TABLE_S = 30.0
INIT_LIMIT_S = 300.0
CHECK_LIMIT_S = 60.0

_WORK_MEM = "64MB"
_INTEGERS = ("smallint", "integer", "bigint")


@dataclass(slots=True)
class Asker:
    """Puts questions to a server, each as one read-only statement of at most `table_s` seconds, and all of them
    together for at most `total_s`. What there is no time for is answered with the reason, never left out."""

    connection: Session
    total_s: float
    table_s: float = LIMIT_TABLE_S
    clock: Callable[[], float] = time.monotonic
    spent_s: float = field(default=0.0, init=False)

    def __call__(self, question: Question) -> Answer:
        """Raises SourceError or TransientError where the server fails, but not where it was too slow or refused."""
        left_s = min(self.table_s, self.total_s - self.spent_s)
        if left_s <= 0:
            return Answer(unknown=self._late(left_s))
        began = self.clock()
        try:
            return self._count(question, left_s)
        except psycopg.errors.QueryCanceled:
            return Answer(unknown=self._late(left_s))
        except psycopg.errors.LockNotAvailable:
            return Answer(unknown="something held a lock for long")
        except psycopg.errors.InsufficientPrivilege:
            return Answer(unknown="this role may not read all rows and what they point at")
        except psycopg.Error as error:
            raise explain(error, f"compare the paths of {question.table}") from error
        finally:
            self.spent_s += self.clock() - began

    def _late(self, limit_s: float) -> str:
        if limit_s < self.table_s:
            return f"the {self.total_s:g} seconds for all tables were over"
        return f"reading takes longer than {self.table_s:g} seconds"

    def _count(self, question: Question, limit_s: float) -> Answer:
        settings = {
            "statement_timeout": str(max(1, round(limit_s * 1000))),
            "work_mem": _WORK_MEM,
            "max_parallel_workers_per_gather": "0",  # they would take the cores that the application needs
        }
        # Rolled back in any case: that takes the settings back, and nothing was written.
        with self.connection.transaction(force_rollback=True):
            for name, value in settings.items():
                self.connection.execute("SELECT pg_catalog.set_config(%s, %s, true)", [name, value])
            row = self.connection.execute(agreement_query(question)).fetchone()
        assert row is not None
        rows, *counts = row
        paths = zip(counts[::3], counts[1::3], counts[2::3], strict=True)
        return Answer(rows, tuple(Counted(*path) for path in paths))


def agreement_query(question: Question) -> sql.Composed:
    """One row: how many rows there are, and for each other path three columns, as Counted has them."""
    paths = {"p": question.chosen.path} | {f"o{number}_": other.path for number, other in _numbered(question)}
    chosen = _tenant("p", question.chosen, question.tenant_key_type)
    columns: list[sql.Composable] = [sql.SQL("pg_catalog.count(*)")]
    for number, one in _numbered(question):
        other = _tenant(f"o{number}_", one, question.tenant_key_type)
        differ = sql.SQL("{} OPERATOR(pg_catalog.<>) {}").format(chosen, other)
        columns += [
            sql.SQL("pg_catalog.count(*) FILTER (WHERE {})").format(differ),
            sql.SQL("pg_catalog.count(*) FILTER (WHERE pg_catalog.num_nulls({}, {}) OPERATOR(pg_catalog.=) 1)").format(
                chosen, other
            ),
            sql.SQL("pg_catalog.min({}) FILTER (WHERE {})").format(_key(question), differ),
        ]
    return sql.SQL("SELECT {} {}").format(
        sql.SQL(", ").join(columns), query.source(question.table, paths, only=question.only)
    )


def _numbered(question: Question) -> list[tuple[int, Ownership]]:
    return list(enumerate(question.others, start=1))


def _tenant(alias: str, ownership: Ownership, tenant_key_type: str) -> sql.Composed:
    """Integers as they are, whatever their width; everything else by its text, as tenants are told apart."""
    if ownership.tenant_column is None:
        raise BugError("a path without a tenant's column was to be compared")
    tenant = query.owner(alias, ownership.path, ownership.tenant_column)
    return tenant if tenant_key_type in _INTEGERS else sql.SQL('({}::text COLLATE "C")').format(tenant)


def _key(question: Question) -> sql.Composable:
    if not question.key:
        return sql.SQL("NULL::text")
    form = ", ".join(["%s"] * len(question.key))
    values = sql.SQL(", ").join([query.column(name) for name in question.key])
    return sql.SQL('(pg_catalog.format({}, {}) COLLATE "C")').format(sql.Literal(form), values)


# What check says -------------------------------------------------------------------------------------------------


def of_agreement(ask: Asker, catalog: Catalog) -> Iterator[Notice]:
    """The tables whose rows point across tenants, and those that there was no time to compare. Small tables first."""
    unknown: dict[str, list[str]] = {}
    for question in sorted(crossings(catalog), key=lambda question: (question.size_bytes, question.table)):
        answer = ask(question)
        if answer.unknown is not None:
            unknown.setdefault(answer.unknown, []).append(str(question.table))
        for other, counted in zip(question.others, answer.paths, strict=False):
            if counted.differ:
                yield _crossing(question, other, counted, answer.rows)
    for reason, tables in unknown.items():
        yield Notice(
            "info",
            "paths-not-compared",
            f"whether rows of {', '.join(sorted(tables))} point across tenants was not checked: {reason}",
            None,
            promise="restore",
        )


def _crossing(question: Question, other: Ownership, counted: Counted, rows: int) -> Notice:
    chosen = question.chosen
    mine = ", ".join(chosen.path[0].columns) if chosen.path else str(chosen.tenant_column)
    theirs = ", ".join(other.path[0].columns)
    such = ""
    if counted.example is not None:
        such = f" (such as {', '.join(question.key)} = {counted.example})"
    return Notice(
        "warning",
        "across-tenants",
        f"{counted.differ} of {rows} rows of {question.table}{such} belong to one tenant by {mine}, and lead to "
        f"another by {theirs}",
        f"They are kept and restored with the tenant that {mine} leads to. Correct them, or write in outlast.toml what "
        "the table is owned through.",
        question.table,
        "restore",
    )
