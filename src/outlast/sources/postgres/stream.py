"""The change stream: one START_REPLICATION session on a slot, and what it tells.

Owns the session: what must be true before it begins (the right history, the right slot, the publications, no gap
between the slot and the position asked for), its heartbeat, the confirmation of what is safe, and what its errors mean.
What the bytes say is pgoutput.py's, what becomes of transactions transactions.py's. When to confirm is the caller's.

A consumer may pause for as long as it likes: a thread goes on telling the server that somebody is there, or
wal_sender_timeout would end the session. The position that is confirmed moves forward only.
"""

from __future__ import annotations

import select
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import Self

import psycopg

from outlast.core.errors import OutlastError, Refused, SourceError, TransientError
from outlast.core.moment import Lsn
from outlast.sources.postgres.copy_stream import Said, copy_stream
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.pgoutput import PROTOCOL_VERSION, Commit, Decoder, Event, Keepalive, StreamCommit
from outlast.sources.postgres.session import Session, Target
from outlast.sources.postgres.slot import PLUGIN, SlotHealth, slot_health_from
from outlast.sources.postgres.statements import statement
from outlast.sources.postgres.transactions import time_of
from outlast.sources.postgres.type_names import TypeNames
from outlast.sources.postgres.walsender import (
    Identity,
    SlotLostError,
    ask,
    identifier,
    identify,
    literal,
    open_walsender,
)

BATCH_BYTES_MAX = 1024 * 1024
SILENCE_MIN_S = 120.0
GATHER_S = 0.0002
TRICKLE_BYTES, TRICKLE_S = 48 * 1024, 0.005
"""Where so little came lately, the next look is so much later: all that comes meanwhile is taken together."""
LATELY_S = 0.02
"""After so long what came counts half: with TRICKLE_BYTES that is some 1.7 MB a second."""
RELEASE_TIMEOUT_S = 5.0

_WAIT_MAX_S = 1.0
_POLL_S = 0.05
_EPOCH_S = 946_684_800  # 2000-01-01, where PostgreSQL's clock begins
_STATUS = struct.Struct(">cQQQqB").pack
_REBASE = "Take a new base: drop the slot if it still exists, then `outlast follow` makes a new one and sweeps again."


class ChangeStream:
    """Open with `with`. One thread receives; `confirm` may be called from any.

    `start` is the end of the last transaction that is safe, Lsn(0) for wherever the slot stands. `identity`, where
    given, is the history that the slot belongs to. Raises SlotLostError, Refused, SourceError or TransientError.
    """

    def __init__(
        self,
        target: Target,
        slot: str,
        publications: Sequence[str],
        start: Lsn,
        *,
        identity: Identity | None = None,
        work_mem_kb: int = 64,
        status_interval_s: float = 10.0,
    ) -> None:
        self.slot = slot
        self.server_end = Lsn(0)
        """How far the server had read its log when it last said so."""
        self.server_time: datetime | None = None
        """Its clock then."""
        self._where = f"{target}"
        self._status_interval_s = status_interval_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._received = self._confirmed = start.value
        self._status_due = False
        self._lately_bytes, self._taken_at = 0.0, 0.0
        self._ended: OutlastError | None = None
        self._connection = open_walsender(target, role="follow")
        try:
            self.identity, next_xid = self._prepare(start, identity, publications, work_mem_kb)
            types = TypeNames(target)
            types.learn(self._connection)
            self._decoder = Decoder(types, next_xid)
            self._begin(publications, start)
        except psycopg.Error as error:
            self._connection.close()
            raise explain(error, f"stream changes from {target}") from error
        except BaseException:
            self._connection.close()
            raise
        self._status_at = self._heard_at = time.monotonic()
        self._beating = threading.Thread(target=self._beat, name="outlast stream heartbeat", daemon=True)
        self._beating.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Tell the server what is confirmed, and hang up."""
        self._stop.set()
        with self._lock:
            with suppress(OSError, psycopg.Error):
                if self._ended is None:
                    self._send_status()
                self._copy.close()
            self._ended = self._ended or SourceError("the change stream was closed")
            self._connection.close()
        self._beating.join()

    def _prepare(
        self, start: Lsn, expected: Identity | None, publications: Sequence[str], work_mem_kb: int
    ) -> tuple[Identity, int]:
        connection = self._connection
        identity, _ = identify(connection, self._where)
        _check_history(identity, expected, self._where)
        health = slot_health_from(connection, self.slot)
        deadline = time.monotonic() + RELEASE_TIMEOUT_S
        while health.active and time.monotonic() < deadline:  # our own session of a moment ago is still ending
            time.sleep(_POLL_S)
            health = slot_health_from(connection, self.slot)
        check_slot(health, self.slot, self._where, start)
        _check_publications(connection, publications, self._where)
        ask(connection, f"SET logical_decoding_work_mem = {literal(f'{work_mem_kb}kB')}")
        ((timeout, next_xid),) = ask(connection, statement("stream_begin").decode())
        # The server answers while it writes, but not while it skips or sorts; it gives up on us by the same measure.
        self._silence_s = max(SILENCE_MIN_S, 2 * int(str(timeout)) / 1000)
        return identity, int(str(next_xid))

    def _begin(self, publications: Sequence[str], start: Lsn) -> None:
        # `origin` is left at its default, any (PostgreSQL 15 knows no other): a row that came by replication is a
        # customer's row as well. `two_phase` is left off: what was prepared comes at COMMIT PREPARED.
        names = literal(",".join(identifier(name) for name in publications))
        options = f"proto_version '{PROTOCOL_VERSION}', publication_names {names}, streaming 'on', messages 'true'"
        command = f"START_REPLICATION SLOT {identifier(self.slot)} LOGICAL {start} ({options}, binary 'false')"
        begun = copy_stream(self._connection, command)
        if isinstance(begun, Said):
            raise _explain_begin(begun, self.slot, self._where)
        self._copy = begun
        self._poll = select.poll()
        self._poll.register(begun.socket_number, select.POLLIN)

    def receive(self, timeout_s: float) -> list[Event]:
        """What has come, at the latest after `timeout_s` (then []). What came before an end is given before its error.

        Raises TransientError (the connection or the server went away), SlotLostError or SourceError.
        """
        deadline = time.monotonic() + timeout_s
        with self._lock:
            self._heard_at = max(self._heard_at, time.monotonic() - self._status_interval_s)
            while True:
                if self._ended is not None:
                    raise self._ended
                self._pace()
                self._decode()
                if self._copy.warning is not None:
                    # What came with it is not given: its positions lie behind what was skipped.
                    self._ended = _publication_missing(self._where, self._copy.warning.message)
                    continue
                if self._copy.ended is not None:
                    self._ended = _explain_end(self._copy.ended, self.slot, self._where)
                events = self._decoder.take()
                if events:
                    self._note(events)
                now = time.monotonic()
                self._keep_alive(now)
                if events or now >= deadline:
                    return events
                if self._ended is None:
                    self._await(min(deadline - now, _WAIT_MAX_S))

    def _decode(self) -> None:
        try:
            taken_bytes, now = self._copy.drain(self._decoder, BATCH_BYTES_MAX), time.monotonic()
            self._lately_bytes = self._lately_bytes * 0.5 ** ((now - self._taken_at) / LATELY_S) + taken_bytes
            self._taken_at = now
        except (struct.error, IndexError, ValueError) as error:
            self._ended = SourceError(
                f"cannot follow {self._where}: the server sent a message that is cut short",
                hint="Nothing was confirmed beyond what was understood; `outlast follow` tries again.",
                code="stream-protocol",
            )
            raise self._ended from error
        except OutlastError as error:
            self._ended = error  # in the middle of a message: to go on would be to read it twice
            raise

    def _await(self, timeout_s: float) -> None:
        """Until something comes. Where it comes at once the server is busy: a moment later there is more to take at a
        time. Not much later: a Unix socket holds some 250 small messages, and then the server would wait for us."""
        begun = time.monotonic()
        if self._poll.poll(max(0.0, timeout_s) * 1000) and time.monotonic() - begun < GATHER_S:
            time.sleep(GATHER_S)

    def _pace(self) -> None:
        """A look costs as much as ten changes, of the processor that the source may run on. So where transactions are
        small and many, there are few looks; what comes after a pause is seen at once. Where much comes there is no
        waiting: the server's socket is full long before."""
        early_s = self._taken_at + TRICKLE_S - time.monotonic()
        if early_s > 0 and self._lately_bytes < TRICKLE_BYTES:
            time.sleep(early_s)

    def confirm(self, flushed: Lsn) -> None:
        """Everything before `flushed` is safe: the server may forget it. A lower position than before is ignored."""
        if flushed.value <= self._confirmed:
            return
        self._confirmed = flushed.value
        self._status_due = True
        if self._lock.acquire(blocking=False):  # else whoever receives sends it within a second
            try:
                self._keep_alive(time.monotonic())
            finally:
                self._lock.release()

    def _note(self, events: list[Event]) -> None:
        self._heard_at = time.monotonic()
        for event in events:
            kind = type(event)
            if kind is Keepalive:
                assert isinstance(event, Keepalive)
                self._received = max(self._received, event.end)
                self.server_end = max(self.server_end, Lsn(event.end))
                self.server_time = time_of(event.time_us)
                self._status_due = self._status_due or event.wants_reply
            elif kind is Commit or kind is StreamCommit:
                assert isinstance(event, Commit | StreamCommit)
                self._received = max(self._received, event.end)

    def _keep_alive(self, now: float) -> None:
        """Send a status where one is due. Called with the lock held."""
        if self._ended is not None:
            return
        if now - self._heard_at > self._silence_s:
            silent = Said(None, f"nothing was heard from the server for {self._silence_s:.0f} s")
            self._ended = _explain_end(silent, self.slot, self._where)
        elif self._status_due or now - self._status_at >= self._status_interval_s:
            try:
                self._send_status(ask_back=now - self._heard_at >= self._status_interval_s)
            except (OSError, psycopg.Error):
                # It hung up. What it said before is still to be read: the next receive finds the end, and its reason.
                self._status_at = now

    def _send_status(self, *, ask_back: bool = False) -> None:
        clock = int((time.time() - _EPOCH_S) * 1_000_000)
        received = max(self._received, self._confirmed)
        self._copy.send(_STATUS(b"r", received, self._confirmed, self._confirmed, clock, ask_back))
        self._status_due = False
        self._status_at = time.monotonic()

    def _beat(self) -> None:
        """The heartbeat while nobody receives; who receives, beats by himself."""
        while not self._stop.wait(min(_WAIT_MAX_S, self._status_interval_s / 2)):
            if self._lock.acquire(blocking=False):
                try:
                    now = time.monotonic()
                    self._heard_at = max(self._heard_at, now - self._status_interval_s / 2)  # nobody has listened
                    self._keep_alive(now)
                finally:
                    self._lock.release()


def _check_history(found: Identity, expected: Identity | None, where: str) -> None:
    if expected is None or found == expected:
        return
    what = "another cluster" if found.system != expected.system else f"on timeline {found.timeline}"
    raise Refused(
        f"cannot go on following {where}: it is {what} now, and the log in the vault is of system {expected.system}, "
        f"timeline {expected.timeline}",
        hint="After a failover or a restore the old log ends here. " + _REBASE,
        code="other-history",
    )


def check_slot(health: SlotHealth, slot: str, where: str, start: Lsn) -> None:
    """Raise unless everything from `start` on can be had from this slot, by us and now."""
    reason = health.lost_because
    if reason is None and (health.plugin != PLUGIN or health.kind != "logical"):
        reason = f"it is of another kind ({health.kind}, {health.plugin or 'no plugin'})"
    if reason is None and health.database != health.connected_database:
        reason = f"it belongs to the database {health.database}"
    if reason is None and health.confirmed is not None and 0 < start.value < health.confirmed.value:
        reason = (
            f"it stands at {health.confirmed} already, and the vault's log ends at {start}: what is between is gone"
        )
    if reason is not None:
        raise SlotLostError(f"cannot follow {where}: the replication slot {slot} is lost: {reason}", hint=_REBASE)
    if health.active:
        raise TransientError(
            f"cannot follow {where}: process {health.active_pid} of the server reads from the replication slot {slot}",
            hint="Another `outlast follow` runs, or one has just died: the server frees the slot within "
            "wal_sender_timeout. See pg_stat_replication.",
            code="slot-in-use",
        )


def _check_publications(connection: Session, publications: Sequence[str], where: str) -> None:
    wanted = ", ".join(literal(name) for name in publications)
    rows = ask(connection, f"SELECT pubname FROM pg_catalog.pg_publication WHERE pubname IN ({wanted})")  # noqa: S608
    missing = [name for name in publications if (name,) not in rows]
    if missing:
        raise SourceError(
            f"cannot follow {where}: the publication {missing[0]} does not exist",
            hint="`outlast follow --setup` plans what is missing; with --execute it makes it.",
            code="publication-missing",
        )


def _explain_begin(said: Said, slot: str, where: str) -> OutlastError:
    if said.sqlstate == "55006":
        return TransientError(
            f"cannot follow {where}: the replication slot {slot} is in use",
            hint="Another `outlast follow` runs, or one has just died; see pg_stat_replication.",
            code="slot-in-use",
        )
    if said.sqlstate == "42704":
        return _slot_lost(where, slot, said)
    return _explain_end(said, slot, where)


def _explain_end(said: Said, slot: str, where: str) -> OutlastError:
    """Why a stream that ran has ended."""
    state = said.sqlstate or ""
    if state == "42704":
        return _publication_missing(where, said.message)
    if state in ("58P01", "55000"):
        return _slot_lost(where, slot, said)
    if not state or state[:2] in ("08", "57", "53"):
        return TransientError(
            f"the change stream of {where} was cut: {said.message}",
            hint="Nothing is lost: `outlast follow` goes on where the vault's log ends.",
            code="stream-cut",
        )
    told = f"SQLSTATE {state}" if state[:2] in ("22", "23", "P0", "XX") else f"{said.message} ({state})"
    return SourceError(
        f"cannot follow {where}: the server could not decode its log: {told}",
        hint="The server's own log says more. Nothing was confirmed beyond what was received.",
        code="stream-failed",
    )


def _slot_lost(where: str, slot: str, said: Said) -> SlotLostError:
    return SlotLostError(f"cannot follow {where}: the replication slot {slot} is lost: {said.message}", hint=_REBASE)


def _publication_missing(where: str, said: str) -> SourceError:
    return SourceError(
        f"cannot follow {where}: a publication did not exist at this place of the log ({said})",
        hint="It was dropped, or made after the slot: its changes are missing here for ever. " + _REBASE,
        code="publication-missing",
    )
