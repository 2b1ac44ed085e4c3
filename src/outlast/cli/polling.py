"""`outlast follow` of a tool: a backup every few minutes, of what changed; an outage of the vendor is waited for."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING

from outlast.cli import anchor, tooling
from outlast.cli.render import count, size
from outlast.core.errors import ExitCode, TransientError

if TYPE_CHECKING:
    from outlast.capture.backup import BackupResult
    from outlast.cli.opening import Invocation

RUN_AT_LEAST = timedelta(hours=1)
"""Though nothing changes, a run is written so often: `status` tells by it that somebody looked."""


def run(invocation: Invocation, source: str, *, until_current: bool) -> ExitCode:
    """Until told to stop, or once with `until_current`."""
    settings = invocation.config.tool(source)
    assert settings is not None
    rounds = written = failed = 0
    newest = None
    last_run = float("-inf")
    with _told_to_stop() as (stop, ended):
        while True:
            due = time.monotonic() - last_run >= RUN_AT_LEAST.total_seconds()
            try:
                result = _back_up(invocation, source, write_unchanged=due)
            except TransientError as error:
                if until_current:
                    raise
                failed += 1
                invocation.output.warn(f"{error.message}; asked again in {settings.poll.total_seconds():.0f} s")
            else:
                rounds += 1
                newest = result
                if result.objects:
                    written += 1
                    last_run = time.monotonic()
                    invocation.output.note(_line(source, result))
            if until_current or stop.wait(settings.poll.total_seconds()):
                break
    fields = {
        "source": source,
        "rounds": rounds,
        "runs_written": written,
        "rounds_failed": failed,
        "run": None if newest is None else newest.run,
        "moment": None if newest is None else newest.moment.to_json(),
    }
    text = f"Stopped: {count(rounds, 'round')}, {count(written, 'run')} written."
    return invocation.output.finish(fields, text, exit_code=ExitCode.INTERRUPTED if ended == [signal.SIGINT] else None)


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
