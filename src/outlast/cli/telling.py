"""Telling the world of each tenant as soon as it is finished: JSON lines for scripts, a command for everything else.

Nothing here can fail a restore: rows are committed and proven by then.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Self, TextIO

from outlast.core.errors import UsageError

if TYPE_CHECKING:
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


class Hook:
    """`[hooks] tenant_restored`: run beside the restore, one after the other. Leaving waits for those still due."""

    def __init__(self, command: str | None, output: Output) -> None:
        self._command = command
        self._output = output
        self._due: SimpleQueue[str | None] = SimpleQueue()
        self._failed = 0
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._thread is None:
            return
        self._due.put(None)
        self._thread.join()
        if self._failed:
            self._output.warn(f"the tenant_restored hook failed {self._failed} times; the restore itself is done")

    def tell(self, plan: str, outcome: TenantPlan) -> None:
        if self._command is None:
            return
        if self._thread is None:
            self._thread = Thread(target=self._run_all, name="hook", daemon=True)
            self._thread.start()
        self._due.put(event_of(plan, outcome))

    def _run_all(self) -> None:
        while (event := self._due.get()) is not None:
            self._failed += not self._run(event)

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
