"""The replication slot: looked after, and dropped. How it is made is slot_making.py's.

A slot keeps the server's log from its position on, so one that nobody reads fills the server's disk; and one that the
server gave up (max_slot_wal_keep_size, a conflict on a standby) has lost changes. What is streamed from it is
stream.py's.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass

import psycopg

from outlast.core.errors import Refused
from outlast.core.moment import Lsn
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.session import Session, Target, connect
from outlast.sources.postgres.statements import statement
from outlast.sources.postgres.walsender import Row, ask, literal

_POLL_S = 0.05
PLUGIN = "pgoutput"


@dataclass(frozen=True, slots=True)
class SlotHealth:
    """A slot as the server has it. Sizes in bytes; what this server's version does not tell is None."""

    exists: bool
    plugin: str = ""
    kind: str = ""
    database: str | None = None
    active_pid: int | None = None
    wal_status: str | None = None  # reserved, extended, unreserved (soon lost), lost
    safe_wal_bytes: int | None = None  # what may still be written before it is lost; None: without limit
    restart: Lsn | None = None
    confirmed: Lsn | None = None
    two_phase: bool = False
    lag_bytes: int = 0  # written, not confirmed
    retained_bytes: int = 0  # of the log, kept for this slot alone if nobody else needs it
    conflicting: bool | None = None
    invalidation_reason: str | None = None
    inactive_s: float | None = None
    connected_database: str = ""

    @property
    def active(self) -> bool:
        return self.active_pid is not None

    @property
    def lost_because(self) -> str | None:
        """Why nothing more can be read from it, or None where it can."""
        if not self.exists:
            return "it does not exist"
        if self.invalidation_reason:
            return _REASONS.get(self.invalidation_reason, f"the server invalidated it ({self.invalidation_reason})")
        if self.wal_status == "lost":
            return _REASONS["wal_removed"]
        if self.conflicting:
            return "it conflicted with recovery on this standby"
        return None


_REASONS = {
    "wal_removed": "the server removed log that it still needed (max_slot_wal_keep_size)",
    "rows_removed": "the server removed catalog rows that it still needed (a standby without hot_standby_feedback)",
    "wal_level_insufficient": "the primary's wal_level was lowered",
    "idle_timeout": "nobody read from it for longer than idle_replication_slot_timeout",
}


def slot_health(session: Session, name: str) -> SlotHealth:
    """Over an ordinary session."""
    try:
        row = session.execute(statement("slot_health") + b" %s", [name]).fetchone()
    except psycopg.Error as error:
        raise explain(error, f"look at the replication slot {name}") from error
    return _health(row)


def slot_health_from(connection: Session, name: str) -> SlotHealth:
    """Over a replication session that does not stream yet. Raises psycopg.Error."""
    rows = ask(connection, statement("slot_health").decode() + literal(name))
    return _health(rows[0] if rows else None)


def _health(row: Row | None) -> SlotHealth:
    if row is None:
        return SlotHealth(exists=False)
    (
        plugin,
        kind,
        database,
        pid,
        status,
        safe,
        restart,
        confirmed,
        two_phase,
        lag,
        kept,
        conflict,
        reason,
        idle,
        here,
    ) = row
    return SlotHealth(
        True,
        plugin or "",
        kind or "",
        database,
        None if pid is None else int(pid),
        status,
        None if safe is None else int(safe),
        None if restart is None else Lsn.parse(restart),
        None if confirmed is None else Lsn.parse(confirmed),
        two_phase == "true",
        int(lag or 0),
        int(kept or 0),
        None if conflict is None else conflict == "true",
        reason,
        None if idle is None else float(idle),
        here or "",
    )


def drop_slot(target: Target, name: str, *, wait_s: float = 0.0) -> bool:
    """Drop it; False where there is none. Refused while somebody reads from it, for longer than `wait_s`: a session of
    our own that has just ended keeps it for a moment. Refused, too, where it cannot be ours: names of slots are the
    server's, and the server drops one of another database without a word."""
    deadline = time.monotonic() + wait_s
    with closing(connect(target, role="follow", autocommit=True, read_only=False)) as session:
        while True:
            _require_ours(target, name, slot_health(session, name))
            try:
                session.execute(b"SELECT pg_catalog.pg_drop_replication_slot(%s)", [name])
            except psycopg.errors.UndefinedObject:
                return False
            except psycopg.errors.ObjectInUse as error:
                if time.monotonic() < deadline:
                    time.sleep(_POLL_S)
                    continue
                raise Refused(
                    f"cannot drop the replication slot {name} of {target}: process "
                    f"{slot_health(session, name).active_pid} reads from it",
                    hint="Stop the `outlast follow` that uses it, then run the same command again.",
                    code="slot-in-use",
                ) from error
            except psycopg.Error as error:
                raise explain(error, f"drop the replication slot {name} of {target}") from error
            return True


def _require_ours(target: Target, name: str, slot: SlotHealth) -> None:
    if not slot.exists or (slot.plugin == PLUGIN and slot.database == slot.connected_database):
        return
    whose = f"of the database {slot.database}" if slot.plugin == PLUGIN else f"of {slot.plugin or 'a standby'}"
    raise Refused(
        f"there is a replication slot {name} already on the server of {target}: it is {whose}, and stays",
        hint='Give this source another name for it: slot = "outlast_…" under [sources.NAME] in outlast.toml.',
        code="slot-taken",
    )
