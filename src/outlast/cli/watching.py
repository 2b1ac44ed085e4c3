"""Looking after incidents in this process: the teller, again and again, and letters leaving beside it.

One process at a time does it for a shared state: a second one waits for the first one's lock, and takes over when it
ends. That is how it is known that a letter which is marked as being sent is in nobody's hands any more.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from outlast.cli.informing import database_of, delivering, teller_of
from outlast.cli.opening import Invocation
from outlast.core.errors import ExitCode, OutlastError, Refused

if TYPE_CHECKING:
    from outlast.incident.teller import Teller
    from outlast.state.database import Database
    from outlast.state.lead import Lead

_PAUSE_S, _RETRY_S, _ASKED_S = 15.0, 2.0, 0.3


def look_after(invocation: Invocation, *, once: bool, every_s: float) -> ExitCode:
    """Run until a signal, or once until nothing is left to send."""
    from outlast.state.lead import Duty, lead_of

    database, output, stop = database_of(invocation), invocation.output, threading.Event()
    lead = lead_of(database, Duty.INCIDENTS)
    if not _taken(lead):
        raise Refused(
            "another process looks after incidents already", hint="Nothing is to be done; it does what is due."
        )
    try:
        if once:
            teller = teller_of(invocation, database, output.warn)
            teller.outbox.recover()
            return _once(invocation, teller)
        output.note("Looking after incidents. Ctrl-C stops it.")
        with _stopping(stop):
            while not stop.is_set():
                _run(invocation, database, lead, stop, every_s, output.warn)
    finally:
        lead.leave()
    return output.finish({"looked": True}, "Stopped.")


def _taken(lead: Lead) -> bool:
    """Whether it is ours. Who only asks whether somebody has it (`looked_after`) holds it for a moment."""
    if not lead.take():
        time.sleep(_ASKED_S)
    return lead.take()


def _once(invocation: Invocation, teller: Teller) -> ExitCode:
    from outlast.incident.outbox import LetterState

    teller.look(datetime.now(UTC))
    with delivering(invocation, teller, invocation.output.warn) as delivery:
        delivery.drain()
    counts = teller.outbox.counts()
    waiting = counts.get(LetterState.QUEUED, 0) + counts.get(LetterState.UNCLEAR, 0)
    text = f"Looked after once: {counts.get(LetterState.SENT, 0):,} letters sent in all, {waiting:,} wait."
    problem = OutlastError("not everything could be done", hint="What is said above; then run this again.")
    fields = {"letters": {state.value: number for state, number in counts.items()}}
    return invocation.output.finish(fields, text, problem=problem if teller.failed else None)


def _run(
    invocation: Invocation,
    database: Database,
    lead: Lead,
    stop: threading.Event,
    every_s: float,
    say: Callable[[str], None],
) -> None:
    """Look after everything until `stop`, or until the lead is lost. Waits a little for the lead."""
    if lead.take():
        teller = teller_of(invocation, database, say)
        teller.outbox.recover()
        with delivering(invocation, teller, say) as delivery:
            while not stop.is_set() and lead.take():
                teller.look(datetime.now(UTC))
                delivery.wake()
                stop.wait(every_s)
    stop.wait(_RETRY_S)


@contextmanager
def beside(invocation: Invocation, database: Database, say: Callable[[str], None]) -> Iterator[None]:
    """The same on a thread of its own while the block runs, as soon as no other process does it."""
    stop = threading.Event()
    thread = threading.Thread(target=_beside, args=(invocation, database, stop, say), name="incidents", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=20)


def _beside(invocation: Invocation, database: Database, stop: threading.Event, say: Callable[[str], None]) -> None:
    from outlast.state.lead import Duty, lead_of

    lead = lead_of(database, Duty.INCIDENTS)
    try:
        while not stop.is_set():
            try:
                _run(invocation, database, lead, stop, 1.0, say)
            except OutlastError as error:
                say(f"incidents are not looked after: {error.message}")
                stop.wait(_PAUSE_S)
    finally:
        lead.leave()


@contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and Ctrl-C end it after the letter that is under way."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: stop.set())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
