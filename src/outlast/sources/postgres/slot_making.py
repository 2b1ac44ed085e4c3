"""A new replication slot, with the snapshot that fits it.

The server lets a slot begin only when every transaction that ran at that moment has ended, prepared ones too. For how
long that takes somebody waits: they are told who holds it up, the wait has an end, and whatever ends it leaves no slot.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg import pq

from outlast.core.errors import OutlastError, Refused, SourceError, TransientError
from outlast.core.moment import Lsn
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.running import LEAST_S, RunningTransactions, lasting
from outlast.sources.postgres.session import Session, Target, connect
from outlast.sources.postgres.slot import PLUGIN
from outlast.sources.postgres.walsender import (
    Identity,
    Row,
    error_of,
    identifier,
    identify,
    open_walsender,
    rows_of,
)

CREATE_TIMEOUT_S = 600.0
TELL_AFTER_S = 3.0
TELL_AGAIN_S = 60.0

_CANCEL_S = 15.0
_LOOK_S = 0.25

Told = Callable[[str], None]
"""Hears whom a new slot waits for: after some seconds, and then once a minute."""


@dataclass(frozen=True, slots=True)
class ExportedSlot:
    """A new slot. Its `snapshot` (for SET TRANSACTION SNAPSHOT) sees exactly what committed before `consistent`, and
    can be joined as long as the block lasts that made it."""

    name: str
    snapshot: str
    consistent: Lsn
    identity: Identity


@contextmanager
def create_slot(
    target: Target,
    name: str,
    *,
    timeout_s: float = CREATE_TIMEOUT_S,
    told: Told | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Iterator[ExportedSlot]:
    """Make the slot and hold its snapshot for the length of the block. The slot stays, however the block ends.

    The server waits for every transaction that runs at this moment to end; `told` hears which. Past `timeout_s`, or
    once `stopped` says so, this gives up: no slot is left behind, and the TransientError names the oldest of them. A
    name that is taken is Refused.
    """
    with closing(open_walsender(target, role="follow")) as connection:
        try:
            identity, _ = identify(connection, str(target))
            row = _Making(target, connection, name, timeout_s, told, stopped).row()
        except psycopg.errors.DuplicateObject as error:
            raise Refused(
                f"the replication slot {name} exists already on {target}",
                hint="It may be in use by another follower. If nobody needs it: SELECT pg_drop_replication_slot(…).",
                code="slot-exists",
            ) from error
        except psycopg.Error as error:
            raise _explain_create(error, target, name) from error
        _, consistent, snapshot, _ = row
        yield ExportedSlot(name, str(snapshot), Lsn.parse(str(consistent)), identity)


@dataclass(frozen=True, slots=True)
class _Making:
    """One CREATE_REPLICATION_SLOT, and the wait for it."""

    target: Target
    connection: Session
    name: str
    timeout_s: float
    told: Told | None
    stopped: Callable[[], bool] | None

    def row(self) -> Row:
        pgconn = self.connection.pgconn
        command = f"CREATE_REPLICATION_SLOT {identifier(self.name)} LOGICAL {PLUGIN} (SNAPSHOT 'export')"
        pgconn.send_query(command.encode())
        try:
            self._wait()
        except BaseException:
            self._give_up()
            raise
        results = []
        while (result := pgconn.get_result()) is not None:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise error_of(result)
            results.append(result)
        return rows_of(results[0])[0]

    def _wait(self) -> None:
        began = time.monotonic()
        tell_at = began + TELL_AFTER_S
        while not _ready(self.connection.pgconn, _LOOK_S):
            now = time.monotonic()
            if now - began >= self.timeout_s or (self.stopped is not None and self.stopped()):
                raise self._in_vain(now - began)
            if self.told is not None and now >= tell_at:
                tell_at = now + TELL_AGAIN_S
                self._tell(self.told, now - began)

    def _tell(self, told: Told, waited_s: float) -> None:
        running = self._running(waited_s)
        if not running.oldest:
            return  # what it waits for has only begun, or is over
        told(
            f"the replication slot {self.name} can begin only when older transactions end; waited for {waited_s:.0f} s "
            f"(of {self.timeout_s:.0f} at most) for {running}. To end it: {running.ending}"
        )

    def _in_vain(self, waited_s: float) -> TransientError:
        running = self._running(waited_s)
        waits = f": {running}" if running.oldest else ""
        end = f"{running.ending}; then" if running.oldest else "End it (pg_terminate_backend), then"
        return TransientError(
            f"cannot make the replication slot {self.name} on {self.target}: after {lasting(waited_s)} transactions "
            f"that ran before it have still not ended{waits}",
            hint=f"{end} run the same command again.",
            code="slot-waits",
        )

    def _running(self, waited_s: float) -> RunningTransactions:
        """Empty where nobody can be asked: the wait does not depend on it."""
        target, pid = self.target, self.connection.pgconn.backend_pid
        with suppress(psycopg.Error, OutlastError), closing(connect(target, role="follow", autocommit=True)) as session:
            return RunningTransactions.read(session, pid, least_s=min(LEAST_S, waited_s))
        return RunningTransactions()

    def _give_up(self) -> None:
        """Let no half-made slot go on waiting on the server: it would become one that nobody reads."""
        pgconn = self.connection.pgconn
        with suppress(psycopg.Error):
            pgconn.get_cancel().cancel()
            deadline = time.monotonic() + _CANCEL_S
            while time.monotonic() < deadline:
                if _ready(pgconn, _LOOK_S):
                    return
        with (
            suppress(psycopg.Error, OutlastError),
            closing(connect(self.target, role="follow", autocommit=True)) as session,
        ):
            session.execute(b"SELECT pg_catalog.pg_terminate_backend(%s)", [pgconn.backend_pid])


def _ready(pgconn: pq.abc.PGconn, within_s: float) -> bool:
    """Whether the answer is there, or comes within the time."""
    if pgconn.is_busy():
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        poll.poll(within_s * 1000)
        pgconn.consume_input()
    return not pgconn.is_busy()


def _explain_create(error: psycopg.Error, target: Target, name: str) -> OutlastError:
    doing = f"make the replication slot {name} on {target}"
    if error.sqlstate == "55000":
        return SourceError(
            f"cannot {doing}: {error.diag.message_primary}",
            hint="Set wal_level = logical on the server and restart it; `outlast check` says what else is missing.",
            code="wal-level",
        )
    if error.sqlstate == "53400":
        return SourceError(
            f"cannot {doing}: the server has no free slot", hint="Raise max_replication_slots.", code="no-free-slot"
        )
    return explain(error, doing)
