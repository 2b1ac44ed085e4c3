"""A session that speaks the replication protocol: opened, pinned, and asked.

The server's side of it is a walsender; with `replication=database` it runs plain SQL too, but simple queries only.
pgoutput's text follows the settings of this very session, so they are pinned in it as in any other (session.py).
What it is opened for (a slot to be made, a stream to be read) is left to slot.py and stream.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import pq

from outlast.core.errors import SourceError, TransientError
from outlast.core.moment import Lsn
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import (
    Session,
    Target,
    check_pinned,
    check_version,
    connect_for_replication,
    pinned,
)

Row = tuple[str | None, ...]


class SlotLostError(SourceError):
    """The slot is gone, or will not give what it should: changes are missing, and only a new sweep makes up for it."""

    default_code = "slot-lost"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which history this is. Another system or another timeline is another history, even under the same name."""

    system: str
    timeline: int


def open_walsender(target: Target, *, role: str) -> Session:
    """A pinned session for replication commands. Raises as session.connect does."""
    connection = connect_for_replication(target, role=role)
    try:
        check_version(connection)
        wanted = pinned(connection.info.server_version)
        # A slot waits for running transactions by lock waits; how long is decided by whoever makes it.
        wanted["lock_timeout"] = "0"
        calls = [f"pg_catalog.set_config({literal(name)}, {literal(value)}, false)" for name, value in wanted.items()]
        (row,) = ask(connection, f"SELECT {', '.join(calls)}")
        check_pinned(wanted, row)
    except psycopg.Error as error:
        connection.close()
        raise explain(error, f"open a replication session with {target}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def ask(connection: Session, command: str) -> list[Row]:
    """The rows that a simple query or replication command gives, as text. Raises psycopg.Error."""
    result = connection.pgconn.exec_(command.encode())
    if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        raise error_of(result)
    return rows_of(result)


def error_of(result: pq.abc.PGresult) -> psycopg.Error:
    """What the server said; or, where libpq made the result up because the connection broke, an OperationalError."""
    if result.error_field(pq.DiagnosticField.SQLSTATE) is None:
        return psycopg.OperationalError(result.get_error_message())
    return psycopg.errors.error_from_result(result)


def rows_of(result: pq.abc.PGresult) -> list[Row]:
    def value(row: int, column: int) -> str | None:
        found = result.get_value(row, column)
        return None if found is None else bytes(found).decode()

    return [tuple(value(row, column) for column in range(result.nfields)) for row in range(result.ntuples)]


def identify(connection: Session, where: str) -> tuple[Identity, Lsn]:
    """The cluster and timeline behind a replication session, and how far its log is on disk.

    Raises TransientError on a server that is in recovery: which timeline it will write is not settled, and a stream
    from a standby (16 and later) would go on over its promotion as if nothing had happened.
    """
    if ask(connection, "SELECT pg_catalog.pg_is_in_recovery()") != [("f",)]:
        raise TransientError(
            f"cannot follow {where}: the server is in recovery",
            hint="Follow the primary and not a standby. If this is to be the primary, it has not taken over yet.",
            code="in-recovery",
        )
    ((system, timeline, position, _),) = ask(connection, "IDENTIFY_SYSTEM")
    return Identity(str(system), int(str(timeline))), Lsn.parse(str(position))


def literal(text: str) -> str:
    """A string for a simple query. The server has standard_conforming_strings; a backslash is written as E''."""
    quoted = text.replace("'", "''")
    return "E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in quoted else f"'{quoted}'"


def identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
