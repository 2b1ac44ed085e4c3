"""Telling the world of each tenant as soon as it is finished: JSON lines for scripts, a command, the open incident.

Nothing here can fail a restore: rows are committed and proven by then.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Self, TextIO

from outlast.core.errors import OutlastError, UsageError

if TYPE_CHECKING:
    from outlast.cli.opening import Invocation
    from outlast.cli.output import Output
    from outlast.core.plan import TenantPlan

_HOOK_TIMEOUT_S = 60


def event_of(plan: str, outcome: TenantPlan) -> str:
    """One tenant's event, as one line of JSON."""
    fields = {
        "event": "tenant",
        "at": datetime.now(UTC).isoformat(),
        "plan": plan,
        "tenant": outcome.tenant.key,
        "label": outcome.tenant.label,
        "state": outcome.state.value,
        "rows": outcome.effect.rows,
        "exact": outcome.exact,
        "root": outcome.root,
        "seconds": round(outcome.seconds, 3),
        "error": outcome.error or next((conflict.message for conflict in outcome.conflicts), None),
    }
    return json.dumps(fields)


class Events:
    """`--events FILE`, or `-` for stdout: a line a tenant, appended as it happens."""

    def __init__(self, place: str | None, output: Output) -> None:
        if place == "-" and output.json:
            raise UsageError("--events - and --json both want stdout", hint="Give --events a file.")
        self._closing = ExitStack()
        self._stream: TextIO | None = output.stdout if place == "-" else None
        if place is not None and place != "-":
            self._stream = self._closing.enter_context(_appending(place))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def tell(self, plan: str, outcome: TenantPlan) -> None:
        if self._stream is not None:
            print(event_of(plan, outcome), file=self._stream, flush=True)


@contextmanager
def _appending(place: str) -> Iterator[TextIO]:
    try:
        stream = Path(place).open("a", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        raise UsageError(f"cannot write events to {place}: {error.strerror}") from error
    with stream:
        yield stream


class Herald:
    """`[hooks] tenant_restored`, and the incident that the tenants belong to where outlast.toml has [incident]: told
    beside the restore, in the order in which tenants are finished. Leaving waits for what is still due."""

    def __init__(self, invocation: Invocation) -> None:
        document = invocation.config.document
        self._invocation = invocation
        self._command = document.hooks.tenant_restored
        self._incidents = document.has_incidents
        self._due: SimpleQueue[tuple[str, TenantPlan] | None] = SimpleQueue()
        self._failed = 0
        self._untold: str | None = None
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        self._due.put(None)
        self._thread.join()
        output = self._invocation.output
        if self._failed:
            output.warn(f"the tenant_restored hook failed {self._failed} times; the restore itself is done")
        if self._untold:
            output.warn(f"the incident could not be told ({self._untold}); the restore itself is done")

    def tell(self, plan: str, outcome: TenantPlan) -> None:
        if self._command is None and not self._incidents:
            return
        if self._thread is None:
            self._thread = Thread(target=self._run_all, name="herald", daemon=True)
            self._thread.start()
        self._due.put((plan, outcome))

    def _run_all(self) -> None:
        last = False
        while not last:
            told = [self._due.get()]
            with suppress(Empty):
                while True:
                    told.append(self._due.get_nowait())
            last = told[-1] is None
            outcomes = [one for one in told if one is not None]
            if self._incidents and outcomes:
                self._tell_incident(outcomes)
            if self._command is not None:
                self._failed += sum(not self._run(event_of(*one)) for one in outcomes)

    def _tell_incident(self, outcomes: Sequence[tuple[str, TenantPlan]]) -> None:
        from outlast.cli.informing import report_restored

        try:
            report_restored(self._invocation, outcomes)
        except OutlastError as error:
            self._untold = error.message

    def _run(self, event: str) -> bool:
        assert self._command is not None
        try:
            done = subprocess.run(  # noqa: S602 - the operator's own command out of their own outlast.toml
                self._command,
                shell=True,
                input=event + "\n",
                text=True,
                timeout=_HOOK_TIMEOUT_S,
                check=False,
                stdout=sys.stderr,
            )
        except (OSError, subprocess.TimeoutExpired):
            return False
        return done.returncode == 0
