"""`outlast jobs`: what is in the queue, and pausing, resuming and cancelling."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli.opening import Invocation
from outlast.cli.render import count, table_of
from outlast.cli.render import time as shown_time
from outlast.core.errors import ExitCode, OutlastError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.jobs.progress import Progress
    from outlast.jobs.queue import JobStatus, Queue


class Action(StrEnum):
    LIST = "list"
    SHOW = "show"
    PAUSE = "pause"
    RESUME = "resume"
    CANCEL = "cancel"


def jobs(
    context: typer.Context,
    action: Annotated[
        Action, typer.Argument(metavar="[ACTION]", help="list, show, pause, resume or cancel.")
    ] = Action.LIST,
    job: Annotated[str | None, typer.Argument(metavar="JOB", help="A job's id, or how it begins.")] = None,
) -> ExitCode:
    """List the jobs in the queue; show, pause, resume or cancel one.

    A paused or cancelled job ends what is under way and begins nothing more; what was restored stays restored. It takes
    the key that opens the vault to show failures by cause. Exit code 4: the job that is shown has failures.
    """
    invocation = Invocation.of(context)
    from outlast.cli.queueing import place_of
    from outlast.jobs.queue import Queue

    if (job is None) != (action is Action.LIST):
        raise UsageError(
            "which job?" if job is None else "`jobs list` takes no job", hint="outlast jobs show JOB; outlast jobs list"
        )
    with Queue(place_of(invocation)) as queue:
        if job is None:
            return _list(invocation, queue.jobs())
        found = queue.job(job, outputs=action is Action.SHOW)
        if action is Action.SHOW:
            return _show(invocation, found)
        if action is Action.PAUSE:
            queue.pause(found)
        elif action is Action.RESUME:
            queue.resume(found)
        else:
            queue.cancel(found)
        return _settled(invocation, queue, found.header.id, action)


def _list(invocation: Invocation, found: list[JobStatus]) -> ExitCode:
    def text(console: Console) -> None:
        if not found:
            console.print("The queue is empty. A restore of many tenants is a job: outlast restore --tenants-file FILE")
            return
        rows = [
            (
                job.header.id,
                shown_time(job.header.created),
                job.header.source,
                f"{job.header.tenants:,}",
                f"{job.finished}/{job.header.batches}",
                str(job.running),
                job.state.value,
            )
            for job in found
        ]
        console.print(
            table_of(("job", "created", "source", "tenants", "parts done", "under way", "state"), rows, right=(3, 4, 5))
        )

    return invocation.output.finish({"jobs": [_fields(job) for job in found]}, text)


def _fields(job: JobStatus) -> dict[str, object]:
    return {
        "job": job.header.id,
        "source": job.header.source,
        "state": job.state.value,
        "created": job.header.created.isoformat(),
        "host": job.header.host,
        "tenants": job.header.tenants,
        "parts": job.header.batches,
        "parts_done": job.finished,
        "parts_running": job.running,
        "workers": list(job.workers),
    }


def _show(invocation: Invocation, job: JobStatus) -> ExitCode:
    progress = _progress(invocation, job) if invocation.may_open else None
    elapsed_s = (datetime.now(UTC) - job.header.created).total_seconds()

    def text(console: Console) -> None:
        console.print(
            f"Job {job.header.id}: {job.state.value}; {job.finished} of {count(job.header.batches, 'part')} done,"
            f" {job.running} under way."
        )
        for worker in job.workers:
            console.print(f"At work: {worker}")
        if progress is None:
            console.print("How many tenants that is takes the key that opens the vault (OUTLAST_IDENTITY).")
            return
        console.print(f"So far: {progress.told(elapsed_s)}")
        for kind, cause in sorted(progress.causes.items()):
            names = ", ".join(str(tenant) for tenant in cause.examples)
            more = ", …" if cause.tenants > len(cause.examples) else ""
            console.print(f"Failed, {kind}: {count(cause.tenants, 'tenant')} ({names}{more}): {cause.message}")

    fields = _fields(job) | ({} if progress is None else {"progress": progress.to_json()})
    problem = None
    if progress is not None and progress.failed:
        problem = OutlastError(
            f"{count(progress.failed, 'tenant')} of job {job.header.id} were not restored",
            hint="Clear what stands in the way, and restore those again.",
            code="failures",
        )
    return invocation.output.finish(fields, text, problem=problem, exit_code=ExitCode.FOUND if problem else None)


def _progress(invocation: Invocation, job: JobStatus) -> Progress:
    from outlast.cli.working import unsealed
    from outlast.jobs.job import Outcome
    from outlast.jobs.progress import Progress

    progress = Progress(job.header.tenants)
    for batch in job.batches:
        if batch.finished and batch.output is not None:
            progress.add(Outcome.from_bytes(unsealed(invocation, batch.output)).tenants)
    return progress


def _settled(invocation: Invocation, queue: Queue, name: str, action: Action) -> ExitCode:
    job = queue.job(name)
    ending = f"{count(job.running, 'part')} under way come to their end"
    follows = {
        Action.PAUSE: f"Job {name} is paused; {ending}. Next: outlast jobs resume {name}",
        Action.RESUME: f"Job {name} goes on, as soon as there is a worker: outlast worker",
        Action.CANCEL: f"Job {name} is cancelled; {ending}. What was restored stays.",
    }
    return invocation.output.finish(_fields(job), follows[action])
