"""How a script is performed: the same on a copy and on production, statement by statement in a transaction of ours.

The session is the role's own while the script runs: what Outlast pins in its sessions is taken back for as long, so
that names resolve, times are written and policies hide rows as they do when somebody runs the script by psql.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from outlast.core.errors import Refused, SourceError
from outlast.rehearsal.script import Script, Statement
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session, pin, pinned

_KEPT = frozenset({"client_encoding", "default_transaction_read_only"})

_DEFERRALS_MAX = 10
_WRITTEN = (
    b"SELECT pg_catalog.sum(s.n_tup_ins), pg_catalog.sum(s.n_tup_upd), pg_catalog.sum(s.n_tup_del)"
    b" FROM pg_catalog.pg_stat_xact_all_tables AS s"
)


class ScriptFailedError(SourceError):
    """A statement of the script ended with an error. `statement` is which; `sqlstate` the server's code."""

    default_code = "script-failed"
    statement: Statement
    sqlstate: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """What bounds a statement of the script. None: as the role has it."""

    lock_timeout_s: float | None = None
    statement_timeout_s: float | None = None


def perform(
    connection: Session,
    script: Script,
    settings: Settings = Settings(),
    on_statement: Callable[[Statement], None] = lambda _: None,
) -> None:
    """Run every statement in the caller's open transaction, then every deferred trigger and constraint of it.

    Raises ScriptFailedError, or Refused where the script ended the transaction all the same (a procedure may try).
    Afterwards the session is pinned again.
    """
    assert connection.info.transaction_status is TransactionStatus.INTRANS
    _hand_over(connection, settings)
    for statement in script.statements:
        on_statement(statement)
        _run(connection, statement)
    settle(connection)
    _take_back(connection)


def perform_unguarded(connection: Session, script: Script) -> None:
    """Run statements that cannot be in a transaction, each for itself. The session is in autocommit mode."""
    _hand_over(connection, Settings())
    for statement in script.statements:
        try:
            connection.execute(statement.text.encode("utf-8", "surrogateescape"))
        except psycopg.Error as error:
            raise failed(error, statement) from error
    _take_back(connection)


def settle(connection: Session) -> None:
    """Have everything that waits for COMMIT happen now: deferred triggers and constraints, and what they defer."""
    # A deferred trigger may defer again, by SET CONSTRAINTS, and what it waits for is a row that it wrote: so it is
    # over when nothing more was written. Otherwise the rest would fire inside COMMIT, after everything was looked at.
    written = None
    for _ in range(_DEFERRALS_MAX):
        try:
            connection.execute(b"SET CONSTRAINTS ALL IMMEDIATE")
            row = connection.execute(_WRITTEN).fetchone()
        except psycopg.Error as error:
            raise failed(error, Statement("", 0, "what was deferred until COMMIT")) from error
        if row == written:
            return
        written = row
    raise Refused(
        f"cannot run it: triggers that are deferred until COMMIT had others deferred {_DEFERRALS_MAX} times",
        hint="What fires inside COMMIT nobody can look at beforehand: have those triggers defer no more.",
        code="deferred",
    )


def failed(error: psycopg.Error, statement: Statement) -> ScriptFailedError:
    """Our error for one that a statement of the script met. No row's value is shown."""
    where = f"line {statement.line} ({statement.kind})" if statement.line else statement.kind
    told = explain(error, f"run {where}")
    problem = ScriptFailedError(told.message, hint=told.hint)
    problem.statement, problem.sqlstate = statement, error.sqlstate or ""
    return problem


def _run(connection: Session, statement: Statement) -> None:
    try:
        # Without parameters: a % in the script is a %
        connection.execute(statement.text.encode("utf-8", "surrogateescape"))
    except psycopg.Error as error:
        raise failed(error, statement) from error
    if connection.info.transaction_status is not TransactionStatus.INTRANS:
        raise Refused(
            f"line {statement.line} ({statement.kind}) ended the transaction that the script runs in",
            hint="One script is one transaction: take that out, or make several scripts of it.",
            code="script",
        )


def _hand_over(connection: Session, settings: Settings) -> None:
    names = [name for name in pinned(connection.info.server_version) if name not in _KEPT]
    resets = [sql.SQL("RESET {}").format(sql.Identifier(name)) for name in names]
    limits = {"lock_timeout": settings.lock_timeout_s, "statement_timeout": settings.statement_timeout_s}
    limited = [
        sql.SQL("SET LOCAL {} = {}").format(sql.Identifier(name), sql.Literal(f"{int(value * 1000)}ms"))
        for name, value in limits.items()
        if value is not None
    ]
    for one in (*resets, *limited):
        connection.execute(one)


def _take_back(connection: Session) -> None:
    connection.execute(b"RESET ROLE")
    pin(connection, read_only=False)
