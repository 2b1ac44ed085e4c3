"""A restore as a durable job: put into the queue, worked by this process and any other worker, and waited for."""

from __future__ import annotations

import hmac
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from outlast.cli.telling import Events, Herald
from outlast.cli.working import Runner, sealed, unsealed
from outlast.core.effect import Effect
from outlast.core.errors import BugError, ExitCode, OutlastError, Refused, TransientError
from outlast.core.plan import Plan, TenantPlan, TenantState
from outlast.jobs.job import QUEUE_FILE, Document, Header, JobState, Outcome, batch_tenants, joined
from outlast.jobs.progress import Progress
from outlast.jobs.unfinished import may_be_unfinished

if TYPE_CHECKING:
    from outlast.cli.carrying_out import Way
    from outlast.cli.opening import Invocation
    from outlast.cli.output import Progress as Bar
    from outlast.core.tenant import TenantKey
    from outlast.jobs.queue import JobStatus, Place, Queue
    from outlast.vault.reader import TenantEntry

_POLL_S = 0.2
_TOLD_EVERY_S = 10.0


def place_of(invocation: Invocation) -> Place:
    """Where the queue is, by outlast.toml."""
    from outlast.jobs.queue import Place
    from outlast.sources.postgres.session import Target

    settings = invocation.config.document.jobs
    target = None if settings.url is None else Target(settings.url, settings.password_command)
    return Place(invocation.config.key_dir, target)


def is_idle(invocation: Invocation) -> bool:
    """Whether there certainly is no job that does the same: the queue is this host's own, and all in it is done."""
    settings = invocation.config.document.jobs
    return settings.url is None and not may_be_unfinished(invocation.config.key_dir / QUEUE_FILE)


def restore_as_job(
    invocation: Invocation,
    plan: Plan,
    entries: Sequence[TenantEntry],
    asked: Sequence[TenantEntry],
    way: Way,
    events: Events,
    *,
    shown: Plan | None,
) -> Outcome:
    """Restore these tenants, which are left of those `asked` for, by a job, and wait for its end.

    An equal job that is under way is gone on with; the outcome then is of those tenants that it has.
    """
    from outlast.jobs.engine import Engine
    from outlast.jobs.queue import Queue

    place = place_of(invocation)
    output = invocation.output
    with (
        Queue(place) as queue,
        Herald(invocation) as herald,
        Runner(invocation, queue.sealed, herald.tell, parallel=way.parallel) as runner,
    ):
        job = _submitted(invocation, queue, runner, plan, entries, asked, way, shown=shown)
        keys = frozenset(runner.keys(job.id))
        entries = [entry for entry in entries if entry.tenant.key in keys]
        with Engine(place, runner.work), output.progress("Restoring", job.tenants) as bar:
            try:
                return _Waiting(invocation, queue, job, entries, events, bar).wait()
            except KeyboardInterrupt:
                _end_now(invocation, job.id)
                raise


def leave_to_workers(invocation: Invocation, plan: Plan, entries: Sequence[TenantEntry], way: Way) -> ExitCode:
    """Put the job into the queue, and no more."""
    from outlast.jobs.queue import Queue

    with Queue(place_of(invocation)) as queue:
        job = _submitted(invocation, queue, None, plan, entries, entries, way, shown=None)
    fields = {"job": job.id, "tenants": job.tenants, "parts": job.batches}
    return invocation.output.finish(
        fields, f"Job {job.id} waits for workers (outlast worker). See how far it is: outlast jobs show {job.id}"
    )


def _end_now(invocation: Invocation, job: str) -> None:
    """End as a killed process would: what is under way rolls back, and the queue gives it to somebody else."""
    invocation.output.fail(
        OutlastError(
            f"interrupted; job {job} stays in the queue, and every tenant restored so far is whole",
            hint="Go on with the same command, or with: outlast worker. Give it up with: outlast jobs cancel " + job,
            code="interrupted",
        )
    )
    invocation.output.stdout.flush()
    os._exit(ExitCode.INTERRUPTED)


def _submitted(
    invocation: Invocation,
    queue: Queue,
    runner: Runner | None,
    plan: Plan,
    entries: Sequence[TenantEntry],
    asked: Sequence[TenantEntry],
    way: Way,
    *,
    shown: Plan | None,
) -> Header:
    recipe = plan if shown is not None else replace(plan, tenants=())
    keys = tuple(entry.tenant.key for entry in entries)
    lanes = way.parallel or invocation.config.document.jobs.parallel
    document = Document(recipe.to_bytes(), shown is not None, keys, batch_tenants(len(keys), lanes))
    fingerprint = _fingerprint(invocation, recipe, [entry.tenant.key for entry in asked], shown=shown is not None)
    jobs = queue.jobs()
    known = next(
        (one for one in jobs if one.header.fingerprint == fingerprint and one.state is not JobState.DONE), None
    )
    if known is not None and known.state is not JobState.CANCELLED:
        if known.state is JobState.PAUSED:
            raise Refused(
                f"job {known.header.id} does the same, and is paused",
                hint=f"Let it go on: outlast jobs resume {known.header.id}",
                code="paused",
            )
        invocation.output.note(
            f"Going on with job {known.header.id}: {known.finished} of {known.header.batches} parts done."
        )
        return known.header
    name = _free_name(plan.id, {one.header.id for one in jobs})
    header = Header(
        name, plan.source, len(keys), document.batches, datetime.now(UTC), socket.gethostname(), fingerprint
    )
    if runner is not None:
        runner.knows(name, document, entries)
    queue.submit(header, sealed(invocation, document.to_bytes()))
    invocation.output.note(f"Job {name}: {len(keys):,} tenants in {document.batches} parts.")
    return header


def _free_name(plan: str, taken: set[str]) -> str:
    """A plan that is applied again is a job of its own."""
    number = 1
    name = plan
    while name in taken:
        number += 1
        name = f"{plan}-{number}"
    return name


def _fingerprint(invocation: Invocation, recipe: Plan, keys: Sequence[TenantKey], *, shown: bool) -> str:
    """Equal for equal requests; keyed, so that who reads the queue's database cannot try out names."""
    same = recipe if shown else replace(recipe, id="", created=datetime.fromtimestamp(0, UTC))
    message = "\n".join(sorted(keys)).encode("utf-8", "surrogateescape")
    return hmac.digest(invocation.vault.naming(), same.to_bytes() + message, "sha256").hex()


@dataclass(slots=True)
class _Waiting:
    """Follows a job to its end, whoever works it."""

    invocation: Invocation
    queue: Queue
    job: Header
    entries: Sequence[TenantEntry]
    events: Events
    bar: Bar
    outcomes: dict[int, Outcome] = field(default_factory=dict)

    def wait(self) -> Outcome:
        progress = Progress(self.job.tenants)
        started = told = time.monotonic()
        while True:
            status = self._status()
            if status is not None:
                for outcome in self._new(status):
                    progress.add(outcome.tenants)
                    self.bar.advance(len(outcome.tenants))
                    for tenant in outcome.tenants:
                        self.events.tell(self.job.id, tenant)
                now = time.monotonic()
                self.bar.say(f"Restoring, {progress.told(now - started)}")
                if now - told > _TOLD_EVERY_S:
                    self.invocation.output.note(progress.told(now - started))
                    told = now
                if status.state is not JobState.RUNNING and not status.running:
                    return self._joined(status)
            time.sleep(_POLL_S)

    def _status(self) -> JobStatus | None:
        try:
            return self.queue.status(self.job)
        except TransientError:
            return None  # the queue's database is away for a while; the work waits for it as well

    def _new(self, status: JobStatus) -> list[Outcome]:
        fresh = [batch.number for batch in status.batches if batch.finished and batch.number not in self.outcomes]
        found: list[Outcome] = []
        for number, text in self.queue.outputs(self.job.id, fresh).items():
            if text is None:
                error = BugError(f"part {number} of job {self.job.id} ended without an outcome")
                outcome = Outcome((), (error,))
            else:
                outcome = Outcome.from_bytes(unsealed(self.invocation, text))
            self.outcomes[number] = outcome
            found.append(outcome)
        return found

    def _joined(self, status: JobStatus) -> Outcome:
        """Every tenant's outcome in the order of the request; those that had no turn are told as failed."""
        whole = joined(self.outcomes[number] for number in sorted(self.outcomes))
        known = {tenant.tenant.key: tenant for tenant in whole.tenants}
        why = f"job {self.job.id} was {status.state.value} before its turn"
        if status.state is JobState.DONE:
            why = f"its part of job {self.job.id} ended without an outcome"
        missing = OutlastError(f"{why}", hint=f"See: outlast jobs show {self.job.id}", code=status.state.value)
        tenants = tuple(
            known.get(entry.tenant.key) or TenantPlan(entry.tenant, TenantState.FAILED, Effect(), error=missing.message)
            for entry in self.entries
        )
        errors = whole.errors if len(known) == len(tenants) else (*whole.errors, missing)
        return Outcome(tenants, errors, whole.shape)
