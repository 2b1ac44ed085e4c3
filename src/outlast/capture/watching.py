"""What following tells those who look: figures and alarms, for Prometheus, a terminal and scripts.

The loop writes, anybody reads, from any thread. An alarm stands until it is calmed; each is told once, when raised.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from outlast.capture.flushing import Flushed
from outlast.capture.mending import Mended
from outlast.capture.metrics import Metric, exposition
from outlast.core.moment import Lsn
from outlast.core.table import TableName
from outlast.sources.postgres.schema import Notice
from outlast.sources.postgres.slot import SlotHealth


@dataclass(slots=True)
class Figures:
    """Counters since the start, and gauges as of the last look. Sizes in bytes, times in seconds."""

    changes: int = 0
    transactions: int = 0
    flushes: int = 0
    flushed_bytes: int = 0
    flush_seconds: float = 0.0
    reconnects: int = 0
    vault_errors: int = 0
    mended: int = 0
    lag_bytes: int = 0
    oldest_unflushed: datetime | None = None
    last_commit_us: int = 0  # since 2000
    last_flush: datetime | None = None
    position: Lsn = field(default=Lsn(0))
    flushed: Lsn = field(default=Lsn(0))
    segment: int = 0
    base_run: int | None = None
    connected: bool = False
    tables_in_doubt: int = 0
    retained_bytes: int = 0
    safe_wal_bytes: int | None = None
    slot_status: str = ""
    incident_tenants: int = 0


class Watch:
    """The figures and alarms of one source. `told` hears every alarm when it is raised, and every other event once."""

    def __init__(self, source: str, told: Callable[[str, str], None] | None = None) -> None:
        self.source = source
        self.figures = Figures()
        self.started = datetime.now(UTC)
        self._told = told or (lambda _kind, _text: None)
        self._alarms: dict[str, str] = {}
        self._ever: list[str] = []
        self._lock = threading.Lock()

    # What the loop says --------------------------------------------------------------------------------------------

    def alarm(self, kind: str, text: str) -> None:
        """Something is wrong that a person should know; it stands until `calm`."""
        if kind == "vault":
            self.figures.vault_errors += 1
        with self._lock:
            known = self._alarms.get(kind)
            self._alarms[kind] = text
        if known != text:
            self._ever.append(text)
            self._told("alarm", text)

    def calm(self, kind: str) -> None:
        with self._lock:
            known = self._alarms.pop(kind, None)
        if known is not None:
            self._told("calm", known)

    def trouble(self, text: str) -> None:
        """A passing fault."""
        self._told("trouble", text)

    def connected(self) -> None:
        self.figures.connected = True
        self.calm("stream")

    def disconnected(self, why: str) -> None:
        self.figures.connected = False
        self.figures.reconnects += 1
        self.alarm("stream", why)

    def based(self, run: int) -> None:
        self.figures.base_run = run
        self._told("base", f"run {run} is the base of the log")

    def routed(self, changes: int, commit_us: int) -> None:
        figures = self.figures
        figures.changes += changes
        figures.transactions += 1
        figures.last_commit_us = commit_us

    def flushed(self, flushed: Flushed) -> None:
        figures = self.figures
        figures.flushes += 1
        figures.flushed_bytes += flushed.size_bytes
        figures.flush_seconds += flushed.seconds
        figures.segment = flushed.segment
        figures.flushed = flushed.position
        figures.last_flush = datetime.now(UTC)
        self._told(
            "flush",
            f"segment {flushed.segment}: {flushed.transactions} transactions, {flushed.changes} changes of "
            f"{flushed.tenants} tenants, {flushed.size_bytes} bytes, up to {flushed.position}",
        )

    def lag(self, server_end: Lsn, position: Lsn, flushed: Lsn, oldest: datetime | None) -> None:
        figures = self.figures
        figures.position = position
        figures.flushed = flushed
        figures.lag_bytes = max(0, server_end.value - flushed.value)
        figures.oldest_unflushed = oldest

    def verified(self, notices: Sequence[Notice], health: SlotHealth) -> None:
        """Once a minute."""
        errors = [notice for notice in notices if notice.level == "error"]
        if errors:
            self.alarm("setup", "; ".join(notice.message for notice in errors[:5]))
        else:
            self.calm("setup")
        figures = self.figures
        figures.retained_bytes = health.retained_bytes
        figures.safe_wal_bytes = health.safe_wal_bytes
        figures.slot_status = health.wal_status or ""
        if health.wal_status == "unreserved":
            self.alarm("slot", "the server may soon drop the log that is still needed (max_slot_wal_keep_size)")
        else:
            self.calm("slot")

    def doubts(self, doubts: Mapping[TableName | None, Lsn]) -> None:
        self.figures.tables_in_doubt = len(doubts)
        names = ", ".join(sorted("any table" if table is None else str(table) for table in doubts))
        since = min(doubts.values())
        self.alarm("doubt", f"moments from {since} on are not exact for {names}, until it is read again")

    def calm_doubts(self) -> None:
        self.figures.tables_in_doubt = 0
        self.calm("doubt")

    def mended(self, mended: Mended) -> None:
        if mended.result is not None:
            self.figures.mended += 1
            self.calm("mending")
            self._told("mended", f"run {mended.result.run} has read again what was in doubt")
        elif mended.error is not None:
            hint = f" ({mended.error.hint})" if mended.error.hint else ""
            self.alarm("mending", f"what is in doubt could not be read again: {mended.error.message}{hint}")

    # What readers get ----------------------------------------------------------------------------------------------

    @property
    def alarms(self) -> list[str]:
        """Those that stand now."""
        with self._lock:
            return list(self._alarms.values())

    @property
    def ever(self) -> list[str]:
        """All that were raised since the start."""
        return list(self._ever)

    @property
    def lag_seconds(self) -> float:
        """For how long the oldest commit that is not in the vault has waited, by this host's clock."""
        oldest = self.figures.oldest_unflushed
        return 0.0 if oldest is None else max(0.0, (datetime.now(UTC) - oldest).total_seconds())

    @property
    def healthy(self) -> bool:
        """Whether the stream is read and no alarm stands."""
        return self.figures.connected and not self.alarms

    def metrics(self) -> str:
        """Prometheus's text format."""
        return exposition("outlast_follow", self.source, self._metrics())

    def _metrics(self) -> Iterator[Metric]:
        one = self.figures
        flushed_at = one.last_flush or self.started
        yield "connected", "gauge", "1 while the change stream is read.", int(one.connected)
        yield "lag_bytes", "gauge", "Log of the server that is not safe in the vault.", one.lag_bytes
        yield "lag_seconds", "gauge", "Age of the oldest commit that is not in the vault.", round(self.lag_seconds, 3)
        yield "since_flush_seconds", "gauge", "Since the last segment was put.", round(_since(flushed_at), 3)
        yield "changes_total", "counter", "Changes of rows routed.", one.changes
        yield "transactions_total", "counter", "Transactions routed.", one.transactions
        yield "flushes_total", "counter", "Segments put into the vault.", one.flushes
        yield "flushed_bytes_total", "counter", "Bytes of those segments.", one.flushed_bytes
        yield "flush_seconds_total", "counter", "Time spent putting them.", round(one.flush_seconds, 3)
        yield "reconnects_total", "counter", "Times that the stream was cut.", one.reconnects
        yield "vault_errors_total", "counter", "Segments that could not be put at first.", one.vault_errors
        yield "tables_in_doubt", "gauge", "Tables of which moments are not exact now.", one.tables_in_doubt
        yield "mended_total", "counter", "Backups that ended such doubts.", one.mended
        yield "slot_retained_bytes", "gauge", "Log that the server keeps for the slot.", one.retained_bytes
        if one.safe_wal_bytes is not None:
            yield "slot_safe_bytes", "gauge", "Log that may be written before the slot is lost.", one.safe_wal_bytes
        yield "slot_ok", "gauge", "0 where the slot is lost or about to be.", int(one.slot_status in _SLOT_FINE)
        yield "alarms", "gauge", "Alarms that stand.", len(self.alarms)
        yield "incident_tenants", "gauge", "Tenants of the tripwire's incident.", one.incident_tenants

    def to_json(self) -> dict[str, Any]:
        """One line of `follow --json`."""
        one = self.figures
        return {
            "source": self.source,
            "connected": one.connected,
            "position": str(one.position),
            "flushed": str(one.flushed),
            "segment": one.segment,
            "lag_bytes": one.lag_bytes,
            "lag_seconds": round(self.lag_seconds, 3),
            "transactions": one.transactions,
            "changes": one.changes,
            "flushes": one.flushes,
            "bytes": one.flushed_bytes,
            "alarms": self.alarms,
        }


_SLOT_FINE = ("", "reserved", "extended")


def _since(then: datetime) -> float:
    return max(0.0, (datetime.now(UTC) - then).total_seconds())
