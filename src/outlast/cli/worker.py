"""`outlast worker`: work what is in the queue of jobs, on this machine, until told to stop."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import Invocation
from outlast.core.errors import ExitCode, OutlastError, TransientError

if TYPE_CHECKING:
    from outlast.cli.output import Output
    from outlast.jobs.queue import Queue

_POLL_S = 0.5


def worker(
    context: typer.Context,
    parallel: Annotated[
        int | None, typer.Option(min=1, max=32, metavar="N", help="Groups of tenants restored at once.")
    ] = None,
    until_done: Annotated[
        bool, typer.Option("--until-done", help="End when no job is left that is neither done nor paused.")
    ] = False,
) -> ExitCode:
    """Work the jobs in the queue, and take over what other workers left when they died.

    Any number of workers share a queue: on one machine by themselves, on several with [jobs] url. A worker needs what a
    restore needs: outlast.toml, the operator's key, and the database's password. It can be killed at any time.
    """
    from outlast.cli.queueing import place_of
    from outlast.cli.telling import Herald
    from outlast.cli.working import Runner
    from outlast.jobs.engine import Engine
    from outlast.jobs.queue import Queue

    invocation = Invocation.of(context)
    output = invocation.output
    assert invocation.identity is not None  # without the key that opens the vault there is nothing to begin with
    place = place_of(invocation)
    with (
        Queue(place) as queue,
        Herald(invocation) as herald,
        Runner(invocation, queue.sealed, herald.tell, parallel=parallel) as runner,
        Engine(place, runner.work) as engine,
    ):
        output.note(f"Worker {engine.name} is at work on the queue in {place}.")
        try:
            _wait(queue, output, until_done=until_done)
        except KeyboardInterrupt:
            output.fail(
                OutlastError(
                    "interrupted; what was under way rolls back, and goes to another worker",
                    hint="Start it again: outlast worker",
                    code="interrupted",
                )
            )
            output.stdout.flush()
            os._exit(ExitCode.INTERRUPTED)
    return output.finish({"worker": engine.name}, "")


def _wait(queue: Queue, output: Output, *, until_done: bool) -> None:
    from outlast.jobs.job import JobState

    away = False
    while True:
        try:
            if until_done and not any(job.state is JobState.RUNNING or job.running for job in queue.jobs()):
                return
            away = False
        except TransientError as error:  # what is in the queue is safe: we wait, and say so once an outage
            if not away:
                output.warn(f"The queue cannot be asked, and is waited for: {error.message}")
            away = True
        time.sleep(_POLL_S)
