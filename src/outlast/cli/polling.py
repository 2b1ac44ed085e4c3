"""`outlast follow` of a tool: a backup every few minutes, of what changed; an outage of the vendor is waited for."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING

from outlast.capture.metrics import Metric, MetricsServer, exposition
from outlast.cli import anchor, tooling
from outlast.cli.render import count, size
from outlast.core.errors import ExitCode, OutlastError, TransientError

if TYPE_CHECKING:
    from outlast.capture.backup import BackupResult
    from outlast.cli.opening import Invocation

RUN_AT_LEAST = timedelta(hours=1)
"""Though nothing changes, a run is written so often: `status` tells by it that somebody looked."""


@dataclass
class Rounds:
    """What the rounds came to, since the start; a metrics.Measured."""

    source: str
    rounds: int = 0
    written: int = 0
    failed: int = 0
    read: int = 0
    newest: BackupResult | None = None
    looked_at: float | None = None
    alarms: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether the newest round came through."""
        return not self.alarms

    def came_through(self, result: BackupResult) -> None:
        self.rounds += 1
        self.read += result.rows_read
        self.written += bool(result.objects)
        self.newest, self.looked_at, self.alarms = result, time.time(), []

    def was_refused(self, error: OutlastError) -> None:
        self.failed += 1
        self.alarms = [error.message]

    def metrics(self) -> str:
        """Prometheus's text format."""
        return exposition("outlast_tool", self.source, self._metrics())

    def _metrics(self) -> Iterator[Metric]:
        yield "reachable", "gauge", "1 where the newest round came through.", int(self.healthy)
        yield "rounds_total", "counter", "Times that the tool was asked for changes.", self.rounds
        yield "rounds_failed_total", "counter", "Rounds that an outage ended.", self.failed
        yield "runs_written_total", "counter", "Runs put into the vault.", self.written
        yield "documents_read_total", "counter", "Documents that the tool sent.", self.read
        if self.newest is not None:
            yield "documents", "gauge", "Documents in the newest run.", self.newest.rows
        if self.looked_at is not None:
            since = round(max(0.0, time.time() - self.looked_at), 3)
            yield "since_round_seconds", "gauge", "Since the newest round that came through.", since


def run(invocation: Invocation, source: str, *, until_current: bool, metrics: str | None = None) -> ExitCode:
    """Until told to stop, or once with `until_current`."""
    settings = invocation.config.tool(source)
    assert settings is not None
    rounds = Rounds(source)
    with ExitStack() as stack:
        stop, ended = stack.enter_context(_told_to_stop())
        if metrics:
            server = stack.enter_context(MetricsServer.at(rounds, metrics))
            invocation.output.note(f"Metrics: http://{server.host}:{server.port}/metrics")
        _ask_again_and_again(invocation, rounds, settings.poll.total_seconds(), stop, once=until_current)
    fields = {
        "source": source,
        "rounds": rounds.rounds,
        "runs_written": rounds.written,
        "rounds_failed": rounds.failed,
        "run": None if rounds.newest is None else rounds.newest.run,
        "moment": None if rounds.newest is None else rounds.newest.moment.to_json(),
    }
    text = f"Stopped: {count(rounds.rounds, 'round')}, {count(rounds.written, 'run')} written."
    return invocation.output.finish(fields, text, exit_code=ExitCode.INTERRUPTED if ended == [signal.SIGINT] else None)


def _ask_again_and_again(
    invocation: Invocation, rounds: Rounds, poll_s: float, stop: threading.Event, *, once: bool
) -> None:
    last_run = float("-inf")
    while True:
        due = time.monotonic() - last_run >= RUN_AT_LEAST.total_seconds()
        try:
            result = _back_up(invocation, rounds.source, write_unchanged=due)
        except TransientError as error:
            if once:
                raise
            rounds.was_refused(error)
            invocation.output.warn(f"{error.message}; asked again in {poll_s:.0f} s")
        else:
            rounds.came_through(result)
            if result.objects:
                last_run = time.monotonic()
                invocation.output.note(_line(rounds.source, result))
        if once or stop.wait(poll_s):
            return


def _back_up(invocation: Invocation, source: str, *, write_unchanged: bool) -> BackupResult:
    from outlast.capture.backup import BackupOptions, Place, Silent, backup
    from outlast.vault.scrub import Anchor

    place = Place(
        source,
        tooling.tool_source(invocation, source, quick=True),
        invocation.sealed_vault.store,
        invocation.writer_keys,
        invocation.state,
        invocation.pin.signers,
    )
    result = backup(place, BackupOptions(jobs=1, write_unchanged=write_unchanged))
    if result.objects:
        anchor.keep(invocation, source, Anchor(result.run))
        if invocation.may_open:
            invocation.vault.forget_cached(source)
            tooling.refresh_after(invocation, source, Silent())
    return result


def _line(source: str, result: BackupResult) -> str:
    return (
        f"{source}: run {result.run}, {count(result.rows, 'document')}, {count(result.rows_read, 'row')} read, "
        f"{size(result.size_bytes)} written"
    )


@contextmanager
def _told_to_stop() -> Iterator[tuple[threading.Event, list[int]]]:
    """An event that SIGTERM and SIGINT set, and which of them did."""
    stop = threading.Event()
    ended: list[int] = []

    def heard(number: int, _: FrameType | None) -> None:
        ended.append(number)
        stop.set()

    before = {number: signal.signal(number, heard) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop, ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
