"""Whether a connection pooler stands between us and the server, and whether it keeps our session whole.

Under transaction pooling (PgBouncer's usual mode, port 6543 at some hosts) every transaction may run in another session
of the server. What we pin would be gone with the next transaction, so that floats and names read differently in
silence; and it would stay behind in a session that the application gets next, whose search_path is then empty. So this
is found out before anything is set, and refused.
"""

from __future__ import annotations

import select
import time
from collections.abc import Mapping
from typing import Any

import psycopg

from outlast.core.errors import Refused

PROBES = 3
PROBE_TIMEOUT_S = 3.0

_PID = b"SELECT pg_catalog.pg_backend_pid()"


def is_pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether something stands in between: a pooler makes up the process number that a client is told."""
    return _pid(connection) != connection.info.backend_pid


def refuse_transaction_pooling(connection: psycopg.Connection[Any], parameters: Mapping[str, str], where: str) -> None:
    """Raise Refused if two clients of the pooler are seen in one session of the server, or one client in two.

    `connection` is idle and in autocommit. Without a pooler this costs one round trip. A pooler that is busy with
    others could hide it from one probe, so there are several; a session pooler passes all of them.
    """
    if not is_pooled(connection):
        return
    for _ in range(PROBES):
        ours = _pid(connection)
        theirs = _pid_of_another(parameters)
        if theirs is None:
            return  # no second session was to be had while we hold one: that is session pooling
        if theirs == ours or _pid(connection) != ours:
            raise Refused(
                f"a connection pooler in front of {where} shares one session among its clients (transaction pooling)",
                hint="Connect to the server itself, or to a port or database of the pooler with pool_mode = session.",
                code="pooler",
            )


def _pid(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(_PID).fetchone()
    assert row is not None
    return int(row[0])


def _pid_of_another(parameters: Mapping[str, str]) -> int | None:
    """The server's process number as a second client of the pooler sees it from inside a transaction, or None where it
    gets no session within the time."""
    limited = {**parameters, "connect_timeout": str(int(PROBE_TIMEOUT_S))}
    try:
        other = psycopg.connect(autocommit=True, **limited)  # type: ignore[arg-type]
    except psycopg.OperationalError:
        return None  # the caller's own connection stands, so this is about the number of them
    try:
        other.pgconn.send_query(b"BEGIN; " + _PID)
        return _answer(other.pgconn, time.monotonic() + PROBE_TIMEOUT_S)
    finally:
        other.close()


def _answer(pgconn: psycopg.pq.abc.PGconn, deadline: float) -> int | None:
    """The one value that comes back, or None past the deadline: execute() would wait for as long as a pooler likes."""
    value = None
    while True:
        while pgconn.is_busy():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([pgconn.socket], [], [], left)[0]:
                return None
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            return value
        if result.ntuples:
            value = int(result.get_value(0, 0) or 0)
