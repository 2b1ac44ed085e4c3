"""A session with the server: how it is opened, what is pinned in it, and how its errors are told.

Every session of ours pins the settings on which the text of a row depends (POSTGRES.md, "Text"), so that the same row
is the same bytes today, tomorrow and on another server. They are set by a statement after connecting and read back,
not by the startup packet's `options`: connection poolers drop or refuse those. What a session runs is left to others.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import conninfo

from outlast.core.errors import OutlastError, Refused, SourceError, TransientError, UsageError
from outlast.sources.postgres.pooling import refuse_transaction_pooling
from outlast.sources.secret import secret_of

# psycopg notes errors that it ignores; without a handler they would reach the terminal beside our own word.
logging.getLogger("psycopg").addHandler(logging.NullHandler())

VERSION_MIN = 150000
VERSION_END = 190000
VERSIONS_SUPPORTED = "15 to 18"

CONNECT_TIMEOUT_S = 15
PASSWORD_COMMAND_TIMEOUT_S = 60

PINNED: Mapping[str, str] = MappingProxyType(
    {
        "search_path": "",
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "bytea_output": "hex",
        "TimeZone": "UTC",
        "extra_float_digits": "3",
        "quote_all_identifiers": "off",
        "client_encoding": "UTF8",
        "lc_monetary": "C",
        "xmloption": "content",
        "xmlbinary": "base64",
        # Rows hidden by a policy would be missing from a backup in silence: an error is wanted instead.
        "row_security": "off",
        # The next ones change no text, but a limit meant for web requests must not end a backup.
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "lock_timeout": "30s",
        "jit": "off",
        "synchronize_seqscans": "off",
    }
)
"""What every session pins. `synchronize_seqscans` off makes a table without order come out in the same order twice."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a database is. `url` is a libpq URL or keyword string; the password may also come from `password_command`'s
    first line of output, from PGPASSWORD, or from ~/.pgpass. Frozen and picklable, and its repr shows no password."""

    url: str = field(repr=False)
    password_command: str | None = field(default=None, repr=False)

    @property
    def parameters(self) -> dict[str, str]:
        """The connection's parameters by libpq's names. Raises UsageError where the URL is none."""
        try:
            parsed = conninfo.conninfo_to_dict(self.url)
        except psycopg.Error:
            # libpq's own words repeat parts of the URL, which may be the password.
            raise UsageError(
                "the database URL cannot be read",
                hint="Write it as postgresql://user@host:5432/database, special characters percent-encoded.",
            ) from None
        return {key: str(value) for key, value in parsed.items() if value is not None}

    @property
    def safe_url(self) -> str:
        """The same place without its password, for people and for pg_dump's command line."""
        parameters = {key: value for key, value in self.parameters.items() if key not in _SECRET_PARAMETERS}
        return conninfo.make_conninfo("", **parameters)

    def password(self) -> str | None:
        """The password that the URL or the command gives, or None: libpq then looks into PGPASSWORD and ~/.pgpass."""
        given = self.parameters.get("password")
        if given is not None or self.password_command is None:
            return given
        return secret_of(self.password_command, "password", timeout_s=PASSWORD_COMMAND_TIMEOUT_S)

    def __str__(self) -> str:
        parameters = self.parameters
        host = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST") or "local socket"
        user = parameters.get("user") or os.environ.get("PGUSER") or ""
        database = parameters.get("dbname") or os.environ.get("PGDATABASE") or user
        port = f":{parameters['port']}" if "port" in parameters else ""
        return f"{user}{'@' if user else ''}{host}{port}/{database}"


_SECRET_PARAMETERS = frozenset({"password", "sslpassword", "oauth_client_secret"})


Session = psycopg.Connection[tuple[Any, ...]]


def connect(
    target: Target,
    *,
    role: str,
    autocommit: bool = False,
    read_only: bool = True,
) -> Session:
    """Open a pinned session. `role` is the job's word (backup, restore …): it stands in application_name.

    Raises UsageError (no such database, unreadable URL), SourceError (wrong host, wrong password), TransientError
    (starting up, too many connections) or Refused (a server older or newer than is supported, transaction pooling).
    """
    parameters = _parameters(target, role)
    connection = _open(target, parameters)
    try:
        check_version(connection)
        refuse_transaction_pooling(connection, parameters, str(target))
        pin(connection, read_only=read_only)
        connection.autocommit = autocommit
        connection.read_only = read_only
    except psycopg.Error as error:
        connection.close()
        raise explain(error, f"open a session with {target}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def connect_for_replication(target: Target, *, role: str) -> Session:
    """Open a session that speaks the replication protocol as well (`replication=database`). Nothing is pinned in it:
    it takes simple queries only, see walsender.py. Raises as `connect` does."""
    parameters = {"keepalives_idle": "30", "keepalives_interval": "10", "keepalives_count": "3"}
    parameters.update(_parameters(target, role), replication="database")
    return _open(target, parameters)


def _parameters(target: Target, role: str) -> dict[str, str]:
    parameters = target.parameters
    password = target.password()
    parameters.update(
        application_name=f"outlast {role}",
        client_encoding="UTF8",
        connect_timeout=parameters.get("connect_timeout", str(CONNECT_TIMEOUT_S)),
    )
    if password is not None:
        parameters["password"] = password
    return parameters


def _open(target: Target, parameters: Mapping[str, str]) -> Session:
    try:
        return psycopg.connect(autocommit=True, prepare_threshold=None, **parameters)  # type: ignore[arg-type]
    except psycopg.Error as error:
        raise _explain_connect(error, target) from None


def pin(connection: Session, *, read_only: bool) -> None:
    """Pin the settings in this session, in one round trip, and make sure that they took.

    `connect` has done it. The settings outlive transactions, but not a pooler that hands over another session of the
    server: that is refused in pooling.py before anything is set.
    """
    wanted = pinned(connection.info.server_version)
    if read_only:
        wanted["default_transaction_read_only"] = "on"
    calls = b", ".join([b"pg_catalog.set_config(%s, %s, false)"] * len(wanted))
    given = [part for pair in wanted.items() for part in pair]
    row = connection.execute(b"SELECT " + calls, given).fetchone()
    assert row is not None
    check_pinned(wanted, row)


def pinned(server_version: int) -> dict[str, str]:
    """What a session pins on a server of this version."""
    wanted = dict(PINNED)
    wanted["idle_session_timeout"] = "0"
    if server_version >= 170000:
        wanted["transaction_timeout"] = "0"
    return wanted


def check_pinned(wanted: Mapping[str, str], given: Sequence[object]) -> None:
    """Raise SourceError if the server answered anything else than what it was told to set."""
    for (name, value), actual in zip(wanted.items(), given, strict=True):
        if _normal(str(actual)) != _normal(value):
            raise SourceError(
                f"the server did not take the setting {name} = '{value}' (it has '{actual}')",
                hint="A pooler or proxy may hold it back: connect to the server itself, or use session pooling.",
            )


def _normal(value: str) -> str:
    return "" if value == '""' else value.lower()


def check_version(connection: Session) -> None:
    version = connection.info.server_version
    if version < VERSION_MIN:
        major = version // 10000
        raise Refused(
            f"this server is PostgreSQL {major}, and Outlast supports {VERSIONS_SUPPORTED}",
            hint="Upgrade the server to PostgreSQL 15 or later.",
            code="server-version",
        )
    if version >= VERSION_END:
        raise Refused(
            f"this server is PostgreSQL {version // 10000}, which this release of Outlast has not been tried on "
            f"(it supports {VERSIONS_SUPPORTED})",
            hint="Look for a newer release of Outlast.",
            code="server-version",
        )


def _explain_connect(error: psycopg.Error, target: Target) -> OutlastError:
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


def _first_line(text: str, target: Target) -> str:
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
