"""The server's errors, told to the person at 3 a.m.: what could not be done, why, and what next; never a value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Protocol

import psycopg

from outlast.core.errors import OutlastError, SourceError, TransientError, UsageError


class Addressed(Protocol):
    """Where a connection was to go: its text is for people and has no password."""

    @property
    def parameters(self) -> Mapping[str, str]: ...


def explain_connect(error: psycopg.Error, target: Addressed) -> OutlastError:
    """Why a connection could not be opened. libpq gives no code for it, only words, which a server may translate."""
    text = str(error)
    for pattern, kind, what, hint in _CONNECT_FAILURES:
        if re.search(pattern, text):
            return kind(f"cannot connect to {target}: {what}", hint=hint)
    return SourceError(
        f"cannot connect to {target}: {_first_line(text, target)}",
        hint="Check the URL with: psql URL -c 'select 1'",
    )


_CONNECT_FAILURES: tuple[tuple[str, type[OutlastError], str, str], ...] = (
    (
        r"password authentication failed|no password supplied|authentication failed",
        SourceError,
        "the server did not accept the password, or none was given",
        "Give it by PGPASSWORD, ~/.pgpass, or password_command in outlast.toml; check the user in the URL.",
    ),
    (
        r'database ".*" does not exist',
        UsageError,
        "there is no such database on this server",
        "List the databases with: psql URL -l",
    ),
    (r'role ".*" does not exist', SourceError, "there is no such role on this server", "Check the user in the URL."),
    (
        r"is not permitted to log in",
        SourceError,
        "this role may not log in (NOLOGIN)",
        "ALTER ROLE … LOGIN, or use the role that `outlast init --print-grants` names for this job.",
    ),
    (
        r"no pg_hba\.conf entry",
        SourceError,
        "the server's pg_hba.conf does not let this user in from here",
        "Add a line for this user, database and address, or use sslmode=require if it asks for TLS.",
    ),
    (
        r"replication role to start walsender|permission denied to start WAL sender",
        SourceError,
        "this role may not replicate",
        "ALTER ROLE … REPLICATION; `outlast init --print-grants` has all that is needed.",
    ),
    (
        r"max_wal_senders",
        TransientError,
        "the server has no WAL sender left",
        "Raise max_wal_senders, or stop a replication client that is not needed.",
    ),
    (
        r"permission denied for database",
        SourceError,
        "this role has no CONNECT privilege on the database",
        "GRANT CONNECT ON DATABASE … TO …; `outlast init --print-grants` has all that is needed.",
    ),
    (
        r"too many clients|remaining connection slots|too many connections",
        TransientError,
        "the server has no connection left",
        "Try again later, raise max_connections, or lower the number of jobs.",
    ),
    (
        r"starting up|shutting down|in recovery mode|not yet accepting|not accepting connections",
        TransientError,
        "the server is starting up, shutting down or recovering",
        "Try again in a minute.",
    ),
    (
        r"could not translate host name|Name or service not known|failed to resolve",
        SourceError,
        "the host's name does not resolve",
        "Check the host in the URL.",
    ),
    (
        r"Connection refused|No such file or directory|No route to host|Network is unreachable",
        SourceError,
        "nothing answers there",
        "Check host and port in the URL, and that the server runs.",
    ),
    (
        r"timeout expired|timed out|connection timeout",
        TransientError,
        "it did not answer in time",
        "Check host, port and firewall.",
    ),
    (
        r"server closed the connection unexpectedly|received invalid response",
        SourceError,
        "what answers there does not speak PostgreSQL's protocol, or hung up",
        "Check host and port in the URL.",
    ),
)


def _first_line(text: str, target: Addressed) -> str:
    line = text.strip().partition("\n")[0]
    secret = target.parameters.get("password")
    return line.replace(secret, "***") if secret else line


def explain(error: psycopg.Error, doing: str) -> OutlastError:
    """Our error for one of psycopg's, for the person at 3 a.m.: `cannot <doing>: …`, with a hint.

    No row's value is shown. The server's DETAIL carries the values of a key, and the messages of class 22 (data) and of
    a user's RAISE may carry any: of those only the kind, the object and the place are told.
    """
    state = error.sqlstate or ""
    message = f"cannot {doing}: {_told(error, state)}"
    if state in _HINTS:
        kind, hint = _HINTS[state]
        return kind(message, hint=hint, code=_CODES.get(state))
    if state[:2] in ("08", "57") or (not state and isinstance(error, psycopg.OperationalError)):
        return TransientError(message, hint="The connection was lost; run the same command again.")
    if state[:2] == "53":
        return TransientError(message, hint="The server is out of memory, disk or connections.")
    return SourceError(message, hint=_hint_of(error, state))


_HINTS: Mapping[str, tuple[type[OutlastError], str]] = {
    "42501": (SourceError, "`outlast init --print-grants` prints what each role needs."),
    "40001": (TransientError, "Another transaction changed the same rows; run the same command again."),
    "40P01": (TransientError, "Two transactions waited for each other; run the same command again."),
    "55P03": (
        TransientError,
        "Something holds a lock for long (DDL, VACUUM FULL); see pg_stat_activity, then run it again.",
    ),
    "57014": (TransientError, "The statement was cancelled, by a person or a timeout; run the same command again."),
    "57P01": (TransientError, "The server or an administrator ended the session; run the same command again."),
    "53100": (SourceError, "The server's disk is full: make room there first."),
    "53300": (TransientError, "The server has no connection left; run it again later or with fewer jobs."),
    "25006": (
        SourceError,
        "The server or role is read-only (a standby, or default_transaction_read_only): use the primary.",
    ),
    "42P01": (SourceError, "The schema changed while this ran; run `outlast check`."),
    "42703": (SourceError, "The schema changed while this ran; run `outlast check`."),
    "25P02": (SourceError, "An earlier statement of this transaction failed; its error stands before this one."),
}
_CODES: Mapping[str, str] = {"42501": "privilege"}


def _told(error: psycopg.Error, state: str) -> str:
    diagnostics = error.diag
    if state[:2] in ("22", "23", "P0", "XX"):
        kind = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
        return " ".join([f"{kind} (SQLSTATE {state})", *_objects(error)])
    primary = diagnostics.message_primary
    if primary is None:
        return str(error).strip().partition("\n")[0] or type(error).__name__
    return " ".join([primary, *_objects(error)])


def _objects(error: psycopg.Error) -> list[str]:
    diagnostics = error.diag
    told = []
    if diagnostics.constraint_name:
        told.append(f'of constraint "{diagnostics.constraint_name}"')
    if diagnostics.column_name:
        told.append(f'in column "{diagnostics.column_name}"')
    if diagnostics.table_name:
        told.append(f'of table "{diagnostics.schema_name}.{diagnostics.table_name}"')
    place = re.match(r"COPY [^,]+, line \d+(?:, column [^:]+)?", diagnostics.context or "")
    function = re.search(r"PL/pgSQL function [^(]+\(", diagnostics.context or "")
    if place:
        told.append(f"at {place[0]}")
    elif function:
        told.append(f"in {function[0]})")
    return told


def _hint_of(error: psycopg.Error, state: str) -> str | None:
    if "row-level security" in (error.diag.message_primary or ""):
        return (
            "ALTER ROLE … BYPASSRLS for this role, or use the tables' owner: rows hidden by a policy would be missing."
        )
    if state == "42501":
        return _HINTS["42501"][1]
    # The server's own hints name objects and settings, never values, apart from those of a user's RAISE.
    return error.diag.message_hint if state[:2] not in ("22", "23", "P0") else None
