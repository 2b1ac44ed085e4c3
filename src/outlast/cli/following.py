"""`outlast follow` at work: what it is given, what it shows while it runs, and how it ends."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from outlast.cli.opening import Invocation
from outlast.cli.render import count, size
from outlast.core.errors import ExitCode, OutlastError

if TYPE_CHECKING:
    from rich.table import Table

    from outlast.capture.backup import Place
    from outlast.capture.follow import Follower
    from outlast.capture.follow_options import FollowResult
    from outlast.capture.watching import Watch

_LIVE_S = 0.5
_JSON_S = 5.0


class NotMendedError(OutlastError):
    """Everything was captured, and something of it is not exact."""

    exit_code = ExitCode.FOUND
    default_code = "in-doubt"


@dataclass(frozen=True, slots=True)
class Wishes:
    """The options of one run."""

    until_current: bool = False
    flush_interval_s: float | None = None
    metrics: str | None = None


def run(invocation: Invocation, source: str, wishes: Wishes) -> ExitCode:
    """Follow until stopped, or until everything that is committed now is in the vault."""
    from outlast.capture.metrics import MetricsServer
    from outlast.capture.watching import Watch

    stop = threading.Event()
    output = invocation.output
    watch = Watch(source, _told(invocation, lines=not wishes.until_current))
    with ExitStack() as stack:
        follower = _follower(invocation, source, wishes, watch, stop, stack)
        ended = stack.enter_context(_stopping(stop))
        address = wishes.metrics or invocation.config.document.follow.metrics
        if address:
            server = stack.enter_context(MetricsServer.at(watch, address))
            output.note(f"Metrics: http://{server.host}:{server.port}/metrics")
        stack.enter_context(_shown(invocation, watch, lines=not wishes.until_current))
        result = follower.run()
    problem = None
    if result.alarms:
        problem = NotMendedError(
            f"stopped with {count(len(result.alarms), 'alarm')}: {result.alarms[0]}", hint="See: outlast check"
        )
    interrupted = ExitCode.INTERRUPTED if ended == [signal.SIGINT] else None
    return output.finish(_fields(source, result), _text(result), problem=problem, exit_code=interrupted)


def _follower(
    invocation: Invocation,
    source: str,
    wishes: Wishes,
    watch: Watch,
    stop: threading.Event,
    stack: ExitStack,
) -> Follower:
    from outlast.capture.follow import Follower
    from outlast.capture.follow_options import FollowOptions

    settings = invocation.config.document.follow
    interval_s = settings.flush_interval.total_seconds()
    options = FollowOptions(
        invocation.following(source),
        invocation.follow_target(source),
        flush_interval_s=interval_s if wishes.flush_interval_s is None else wishes.flush_interval_s,
        memory_bytes=settings.memory_mb * 1024 * 1024,
        buffer_bytes=settings.vault_buffer_mb * 1024 * 1024,
        jobs=invocation.config.source(source).jobs,
        until_current=wishes.until_current,
    )
    return Follower(
        _place(invocation, source),
        options,
        guard=_guard(invocation, source, watch, stack),
        stop=stop,
        watch=watch,
        open_place=lambda: _place_of_its_own(invocation, source),
    )


def _place(invocation: Invocation, source: str) -> Place:
    from outlast.capture.backup import Place

    # Opened first, though nothing of it is read: another vault at that place is told before anything is written.
    store = invocation.sealed_vault.store
    return Place(
        source,
        invocation.origin(source),
        store,
        invocation.writer_keys,
        invocation.state,
        invocation.pin.signers,
    )


def _place_of_its_own(invocation: Invocation, source: str) -> Place:
    """The same for another thread: connections to the local state are not shared."""
    from dataclasses import replace

    from outlast.state.local import LocalState

    return replace(_place(invocation, source), state=LocalState(invocation.config.key_dir))


def _guard(invocation: Invocation, source: str, watch: Watch, stack: ExitStack) -> Any:
    """The tripwire, armed as outlast.toml says."""
    from outlast.capture.guarding import Guard
    from outlast.capture.records import Records
    from outlast.capture.sizes import Sizes
    from outlast.cli import tripwiring
    from outlast.cli.check import notice_text

    records = Records(invocation.state, source)
    sizes = Sizes(records)
    guard = Guard(sizes=sizes)
    with invocation.session("follow", source) as session:
        catalog = invocation.catalog(session, source)
    sentry, notices = tripwiring.arm(
        invocation,
        source,
        catalog,
        sizes=sizes,
        labels=lambda tenant: guard.label(tenant) or records.label(tenant),
        say=lambda text: watch.trouble(text),
    )
    for notice in notices:
        invocation.output.note(notice_text(notice, invocation.output.note_width))
    if sentry.tripwire is not None:
        guard.listener = stack.enter_context(sentry)
    return guard


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[list[int]]:
    """SIGTERM, SIGHUP and Ctrl-C flush what was received and stop; a second one does not wait any longer."""
    came: list[int] = []

    def handle(number: int, frame: object) -> None:
        if came:
            raise KeyboardInterrupt
        came.append(number)
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    former = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _told(invocation: Invocation, *, lines: bool) -> Any:
    """Every event as a line: on stderr for a person, on stdout as JSON for a script that watches (`lines`)."""
    output = invocation.output

    def told(kind: str, text: str) -> None:
        if kind == "flush" and not output.json:
            return  # the live view has it; in a log it would be a line every two seconds
        stamp = datetime.now().astimezone().isoformat(timespec="seconds")
        if output.json and lines:
            print(json.dumps({"time": stamp, "event": kind, "message": text}), file=output.stdout, flush=True)
        else:
            mark = {"alarm": "ALARM ", "calm": "over: "}.get(kind, "")
            output.note(f"{stamp} {mark}{text}")

    return told


@contextmanager
def _shown(invocation: Invocation, watch: Watch, *, lines: bool) -> Iterator[None]:
    """A live view on a terminal; with --json a line of figures every few seconds."""
    output = invocation.output
    stop = threading.Event()
    if output.json and lines:

        def figures() -> None:
            while not stop.wait(_JSON_S):
                print(json.dumps({"event": "figures", **watch.to_json()}), file=output.stdout, flush=True)

        thread = threading.Thread(target=figures, name="figures", daemon=True)
        thread.start()
        yield
        stop.set()
        thread.join()
        return
    if output.json or not output.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(file=output.stderr), refresh_per_second=2, transient=True) as live:

        def refresh() -> None:
            before = (0, 0.0)
            while not stop.wait(_LIVE_S):
                before, table = _view(watch, before)
                live.update(table)

        thread = threading.Thread(target=refresh, name="live view", daemon=True)
        thread.start()
        yield
        stop.set()
        thread.join()


def _view(watch: Watch, before: tuple[int, float]) -> tuple[tuple[int, float], Table]:
    import time

    from rich.table import Table

    one, now = watch.figures, time.monotonic()
    rate = (one.changes - before[0]) / max(now - before[1], 0.001) if before[1] else 0.0
    table = Table.grid(padding=(0, 2))
    state = "reading" if one.connected else "not connected"
    table.add_row("stream", f"{state}, at {one.position}; {rate:,.0f} changes a second")
    table.add_row("vault", f"segment {one.segment} up to {one.flushed}, {size(one.flushed_bytes)} in all")
    table.add_row("behind", f"{size(one.lag_bytes)}; oldest unflushed commit {watch.lag_seconds:.1f} s old")
    table.add_row("slot", f"{one.slot_status or 'not looked at yet'}, {size(one.retained_bytes)} of log kept for it")
    for alarm in watch.alarms:
        table.add_row("[bold red]ALARM[/]", alarm)
    return (one.changes, now), table


def _fields(source: str, result: FollowResult) -> dict[str, object]:
    return {
        "source": source,
        "epoch": result.epoch,
        "position": str(result.position),
        "segments": result.segments,
        "transactions": result.transactions,
        "changes": result.changes,
        "base_run": result.base_run,
        "alarms": result.alarms,
    }


def _text(result: FollowResult) -> str:
    done = f"{count(result.transactions, 'transaction')}, {count(result.changes, 'change')}"
    return f"{done} in {count(result.segments, 'segment')}: the vault holds everything up to {result.position}"
