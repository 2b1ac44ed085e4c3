"""The queue of jobs: what is in it, and pausing, resuming and cancelling. Works no batch itself; engine.py does.

A job is a DBOS workflow whose only work is to enqueue its batches, each a workflow named JOB/NUMBER. The queue lies in
an SQLite file of this host, or in a PostgreSQL database that workers on many machines share.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, WorkflowStatus
from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from outlast.core.errors import NotFoundError, OutlastError, TransientError
from outlast.jobs.job import QUEUE_FILE, Header, JobState
from outlast.sources.postgres.session import Target

QUEUE = "outlast"
JOB_WORKFLOW = "outlast.restore"
BATCH_WORKFLOW = "outlast.batch"
APPLICATION = "outlast"
VERSION = "outlast-jobs-1"
"""Of what workflows are given and give back: workers of one version take each other's work."""

SCHEMA = "outlast_jobs"
POLL_S = 0.2
BATCHES_AT_ONCE = 2  # a worker has the next one at hand when it is through with one

_WAITING = ("ENQUEUED", "DELAYED")
_FINISHED = ("SUCCESS", "ERROR")
_STOPPED = ("CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")

for _name in ("dbos", "alembic"):
    logging.getLogger(_name).addHandler(logging.NullHandler())
    logging.getLogger(_name).propagate = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where the queue is: a file of this host, or a database. `folder` is this host's own."""

    folder: Path
    target: Target | None = None

    @property
    def file(self) -> Path:
        return self.folder / QUEUE_FILE

    @property
    def url(self) -> str:
        """As SQLAlchemy takes it. Holds the password, where there is one."""
        if self.target is None:
            return f"sqlite:///{self.file}"
        parameters = self.target.parameters
        password = self.target.password()
        url = make_url("postgresql+psycopg://").set(
            username=parameters.pop("user", None),
            password=password,
            database=parameters.pop("dbname", None),
        )
        parameters.pop("password", None)
        return url.update_query_dict(parameters).render_as_string(hide_password=False)

    def __str__(self) -> str:
        return str(self.target or self.file)


@dataclass(frozen=True, slots=True)
class BatchStatus:
    """Where one batch stands; `output` is its sealed outcome where it was asked for and there is one."""

    number: int
    status: str
    worker: str | None
    output: str | None = None

    @property
    def finished(self) -> bool:
        return self.status in _FINISHED


@dataclass(frozen=True, slots=True)
class JobStatus:
    header: Header
    state: JobState
    batches: tuple[BatchStatus, ...]  # those enqueued by now

    @property
    def waiting(self) -> int:
        return self.header.batches - self.finished - self.running

    @property
    def running(self) -> int:
        return sum(batch.status == "PENDING" for batch in self.batches)

    @property
    def finished(self) -> int:
        return sum(batch.finished for batch in self.batches)

    @property
    def workers(self) -> tuple[str, ...]:
        return tuple(sorted({batch.worker for batch in self.batches if batch.status == "PENDING" and batch.worker}))


class Queue:
    """The queue at a place. A context manager. Raises OutlastErrors; the place is made where it is not there."""

    def __init__(self, place: Place) -> None:
        self.place = place
        with explained(place):
            if place.target is None:
                place.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            DBOS.migrate(place.url, schema=SCHEMA)
            if place.target is None:
                place.file.chmod(0o600)
            self._client = DBOSClient(
                system_database_url=place.url,
                dbos_system_schema=SCHEMA,
                serializer=DBOSPortableJSONSerializer(),
                application_name=APPLICATION,
                retry_connection_errors=False,
            )
            self._client.register_queue(QUEUE, worker_concurrency=BATCHES_AT_ONCE, polling_interval_sec=POLL_S)

    def __enter__(self) -> Queue:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.destroy()

    def submit(self, header: Header, sealed: str) -> None:
        """Enqueue a job. Durable when this returns."""
        with explained(self.place):
            self._client.enqueue(
                {
                    "workflow_name": JOB_WORKFLOW,
                    "queue_name": QUEUE,
                    "workflow_id": header.id,
                    "app_version": VERSION,
                    "attributes": {"state": JobState.RUNNING.value},
                },
                header.to_json(),
                sealed,
            )

    def jobs(self) -> list[JobStatus]:
        """All jobs, the newest first."""
        with explained(self.place):
            found = self._client.list_workflows(name=JOB_WORKFLOW, sort_desc=True, load_output=False)
            return [self._job(one) for one in found]

    def job(self, name: str, *, outputs: bool = False) -> JobStatus:
        """One job by its id or how it begins. Raises NotFoundError."""
        with explained(self.place):
            found = self._client.list_workflows(
                name=JOB_WORKFLOW, workflow_id_prefix=name, sort_desc=True, load_output=False
            )
            exact = [one for one in found if one.workflow_id == name] or found
            if len(exact) != 1:
                what = (
                    f"{len(exact)} jobs begin with {name!r}" if exact else f"there is no job {name!r} in {self.place}"
                )
                raise NotFoundError(what, hint="List them: outlast jobs")
            return self._job(exact[0], outputs=outputs)

    def status(self, header: Header) -> JobStatus:
        """How a job that is known stands by now."""
        with explained(self.place):
            found = self._client.list_workflows(workflow_ids=[header.id], load_input=False, load_output=False)
            if not found:
                raise NotFoundError(f"job {header.id} is gone from {self.place}", hint="List them: outlast jobs")
            return self._status(header, found[0], outputs=False)

    def sealed(self, name: str) -> str:
        """A job's sealed document."""
        with explained(self.place):
            (found,) = self._client.list_workflows(workflow_ids=[name], load_output=False)
            return str(_arguments(found)[1])

    def outputs(self, job: str, numbers: Sequence[int]) -> dict[int, str | None]:
        """Sealed outcomes of some finished batches; None where one ended with an error of DBOS's or ours."""
        if not numbers:
            return {}
        with explained(self.place):
            found = self._client.list_workflows(
                workflow_ids=[f"{job}/{number}" for number in numbers], load_input=False
            )
            return {_number(one): one.output for one in found}

    def unfinished(self, fingerprint: str) -> JobStatus | None:
        """The job that already does what this request asks for, if there is one."""
        return next(
            (
                job
                for job in self.jobs()
                if job.header.fingerprint == fingerprint and job.state in (JobState.RUNNING, JobState.PAUSED)
            ),
            None,
        )

    def pause(self, job: JobStatus) -> None:
        """Start no more batches of it. Those under way come to their end."""
        self._stop(job, JobState.PAUSED)

    def cancel(self, job: JobStatus) -> None:
        """The same, for good. What is restored stays restored."""
        self._stop(job, JobState.CANCELLED)

    def _stop(self, job: JobStatus, state: JobState) -> None:
        with explained(self.place):
            self._client.update_workflow_attributes(job.header.id, {"state": state.value}, merge=True)
            found = self._client.list_workflows(
                workflow_id_prefix=job.header.id, status=list(_WAITING), load_input=False, load_output=False
            )
            if found:
                self._client.cancel_workflows([one.workflow_id for one in found])

    def resume(self, job: JobStatus) -> None:
        """Let its batches be worked again, also those that were given up."""
        with explained(self.place):
            self._client.update_workflow_attributes(job.header.id, {"state": JobState.RUNNING.value}, merge=True)
            found = self._client.list_workflows(
                workflow_id_prefix=job.header.id, status=list(_STOPPED), load_input=False, load_output=False
            )
            if found:
                self._client.resume_workflows([one.workflow_id for one in found], queue_name=QUEUE)

    def _job(self, found: WorkflowStatus, *, outputs: bool = False) -> JobStatus:
        return self._status(Header.from_json(_arguments(found)[0]), found, outputs=outputs)

    def _status(self, header: Header, found: WorkflowStatus, *, outputs: bool) -> JobStatus:
        listed = self._client.list_workflows(workflow_id_prefix=f"{header.id}/", load_input=False, load_output=outputs)
        batches = tuple(sorted((_batch(one) for one in listed), key=lambda batch: batch.number))
        state = JobState((found.attributes or {}).get("state", JobState.RUNNING.value))
        if len(batches) == header.batches and all(batch.finished for batch in batches):
            state = JobState.DONE
        return JobStatus(header, state, batches)


def _batch(found: WorkflowStatus) -> BatchStatus:
    return BatchStatus(_number(found), found.status, found.executor_id, found.output)


def _number(found: WorkflowStatus) -> int:
    return int(found.workflow_id.rpartition("/")[2])


def _arguments(found: WorkflowStatus) -> Sequence[Any]:
    given: Mapping[str, Any] | None = found.input
    arguments: Sequence[Any] = given["args"] if given else ()
    if len(arguments) != 2:
        raise OutlastError(f"job {found.workflow_id} cannot be read", hint="Cancel it: outlast jobs cancel", code="job")
    return arguments


@contextmanager
def explained(place: Place) -> Iterator[None]:
    """The queue's own faults as ours. SQLAlchemy's texts carry statements and their values: only the kind is told."""
    try:
        yield
    except SQLAlchemyError as error:
        said = str(getattr(error, "orig", None) or type(error).__name__).strip().partition("\n")[0]
        raise TransientError(
            f"cannot use the queue of jobs in {place}: {said[:200]}",
            hint="Check [jobs] url in outlast.toml and that database, then run it again: what is done is safe.",
            code="queue",
        ) from error
