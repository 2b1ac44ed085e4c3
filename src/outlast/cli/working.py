"""Working batches of jobs in this process: from a batch's number to its tenants restored, and the outcome sealed.

Which batch is whose turn is jobs/'s; how tenants are restored is restore/'s. Nothing here raises to the queue: whatever
happens to a batch is its outcome. A server that is away is waited for, within [jobs] patience.
"""

from __future__ import annotations

import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Lock, Semaphore
from typing import TYPE_CHECKING

import zstandard

from outlast.cli.restoring import entries_of, opened_restorer, subjects_of
from outlast.core.effect import Effect
from outlast.core.errors import BugError, NotFoundError, OutlastError
from outlast.core.plan import Plan, TenantPlan, TenantState
from outlast.core.tenant import Tenant, TenantKey
from outlast.jobs.job import Document, Outcome
from outlast.vault.keys import seal

if TYPE_CHECKING:
    from outlast.cli.opening import Invocation
    from outlast.restore.restoring import Restorer
    from outlast.vault.reader import TenantEntry

_PAUSE_S_MAX = 15.0


def sealed(invocation: Invocation, data: bytes) -> str:
    """For the queue's database: only who can open the vault can read it."""
    compressed = zstandard.ZstdCompressor(level=1).compress(data)
    return b64encode(seal(invocation.config.vault.recipients, compressed)).decode("ascii")


def unsealed(invocation: Invocation, text: str) -> bytes:
    opened = invocation.identity.open(b64decode(text), "a job in the queue")
    return zstandard.ZstdDecompressor().decompress(opened)


@dataclass(slots=True)
class _OpenJob:
    """What this process keeps of a job between its batches: who is meant, and sessions that are open already."""

    document: Document
    plan: Plan
    entries: dict[TenantKey, TenantEntry] = field(default_factory=dict)
    idle: list[Restorer] = field(default_factory=list)


class Runner:
    """Works batches, several at once. A context manager that closes all sessions."""

    def __init__(
        self,
        invocation: Invocation,
        read: Callable[[str], str],
        on_tenant: Callable[[str, TenantPlan], None],
        *,
        parallel: int | None = None,
    ) -> None:
        self._invocation = invocation
        self._settings = invocation.config.document.jobs
        self._read = read
        self._on_tenant = on_tenant
        parallel = parallel or self._settings.parallel
        # The queue hands out two batches at once, so that the next one is at hand when one ends.
        self._lanes = max(1, parallel // 2)
        self._places = Semaphore(max(1, min(2, parallel)))
        self._jobs: dict[str, _OpenJob] = {}
        self._opened = ExitStack()
        self._lock = Lock()

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def knows(self, job: str, document: Document, entries: Sequence[TenantEntry]) -> None:
        """What the client that made a job need not read again."""
        found = {entry.tenant.key: entry for entry in entries}
        self._jobs[job] = _OpenJob(document, Plan.from_bytes(document.plan), found)

    def keys(self, job: str) -> Sequence[TenantKey]:
        """The tenants of a job."""
        return self._opened_job(job).document.keys

    def work(self, job: str, number: int) -> str:
        """One batch, to its end."""
        with self._places:
            try:
                outcome = self._batch(self._job(job), number)
            except OutlastError as error:
                outcome = self._lost(job, number, error)
            except Exception as error:  # noqa: BLE001 - a batch that raised would be lost to the queue for good
                outcome = self._lost(job, number, _bug(error))
        return sealed(self._invocation, outcome.to_bytes())

    def _opened_job(self, job: str) -> _OpenJob:
        with self._lock:
            if job not in self._jobs:
                document = Document.from_bytes(unsealed(self._invocation, self._read(job)))
                self._jobs[job] = _OpenJob(document, Plan.from_bytes(document.plan))
            return self._jobs[job]

    def _job(self, job: str) -> _OpenJob:
        opened = self._opened_job(job)
        with self._lock:
            if not opened.entries:
                plan = opened.plan
                try:
                    found = entries_of(self._invocation, plan, opened.document.keys)
                    opened.entries = {entry.tenant.key: entry for entry in found}
                except NotFoundError:
                    opened.entries = _found_one_by_one(self._invocation, plan, opened.document.keys)
            return opened

    def _batch(self, job: _OpenJob, number: int) -> Outcome:
        wanted = list(job.document.batch(number))
        outcomes: dict[TenantKey, TenantPlan] = {}
        errors: list[OutlastError] = []
        shape = ""
        for key in wanted:
            if key not in job.entries:
                error = NotFoundError(f"tenant {key!r} is not in the vault any more", code="unknown-tenant")
                errors.append(error)
                outcomes[key] = _failed(Tenant(key), error)
        due = [key for key in wanted if key in job.entries]
        deadline = time.monotonic() + self._settings.patience.total_seconds()
        pause_s = 0.5
        while due:
            with self._restorer(job) as restorer:
                found, met = self._restore(job, restorer, due)
                shape = restorer.shape() if not job.document.shown and not met else shape
            outcomes |= {one.tenant.key: one for one in found}
            due = [one.tenant.key for one in found if one.state is TenantState.FAILED]
            if not due or not any(_may_pass(error) for error in met) or time.monotonic() > deadline:
                errors += met
                break
            time.sleep(pause_s)
            pause_s = min(_PAUSE_S_MAX, pause_s * 2)
        for one in outcomes.values():
            self._on_tenant(job.plan.id, one)
        return Outcome(tuple(outcomes[key] for key in wanted), tuple(errors), shape)

    def _restore(
        self, job: _OpenJob, restorer: Restorer, keys: Sequence[TenantKey]
    ) -> tuple[tuple[TenantPlan, ...], list[OutlastError]]:
        restorer.errors.clear()
        subjects = subjects_of(self._invocation, job.plan, [job.entries[key] for key in keys])
        found = restorer.apply(job.plan, subjects) if job.document.shown else restorer.execute(subjects)
        return found, list(restorer.errors)

    @contextmanager
    def _restorer(self, job: _OpenJob) -> Iterator[Restorer]:
        with self._lock:
            if job.idle:
                restorer = job.idle.pop()
            else:
                context = opened_restorer(self._invocation, job.plan, lambda _: None, lanes=self._lanes)
                restorer = self._opened.enter_context(context)
        yield restorer
        with self._lock:
            job.idle.append(restorer)

    def _lost(self, job: str, number: int, error: OutlastError) -> Outcome:
        """Nothing could be begun: every tenant of the batch has failed for the same reason."""
        opened = self._jobs.get(job)
        keys = opened.document.batch(number) if opened else ()
        return Outcome(tuple(_failed(Tenant(key), error) for key in keys), (error,))


def _found_one_by_one(invocation: Invocation, plan: Plan, keys: Sequence[TenantKey]) -> dict[TenantKey, TenantEntry]:
    """Some are gone from the vault (erased, forgotten) since the job was made: the others are to be restored."""
    found = {}
    for key in keys:
        try:
            (found[key],) = entries_of(invocation, plan, [key])
        except NotFoundError:
            continue
    return found


def _failed(tenant: Tenant, error: OutlastError) -> TenantPlan:
    return TenantPlan(tenant, TenantState.FAILED, Effect(), error=error.message)


def _may_pass(error: OutlastError) -> bool:
    return error.retryable or error.message.startswith("cannot connect")


def _bug(error: Exception) -> BugError:
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = f" in {place.tb_frame.f_code.co_name}, line {place.tb_lineno}" if place is not None else ""
    return BugError(f"a bug in Outlast ({type(error).__name__}{where}) ended a batch")
