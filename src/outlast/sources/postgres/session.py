"""A session with the server: how it is opened, and what is pinned in it.

Every session of ours pins the settings on which the text of a row depends (POSTGRES.md, "Text"), so that the same row
is the same bytes today, tomorrow and on another server. They are set by a statement after connecting and read back,
not by the startup packet's `options`: connection poolers drop or refuse those. What a session runs is left to others.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import conninfo

from outlast.core.errors import Refused, SourceError, UsageError
from outlast.sources.postgres.explaining import explain, explain_connect
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
        # Parallel workers would take the cores that the application needs: our own sessions are the parallelism. Of a
        # restore's short queries starting them took more than half.
        "max_parallel_workers_per_gather": "0",
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
        raise explain_connect(error, target) from None


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
