"""This process as a worker: it takes batches from the queue and has them worked, as many at once as it may.

DBOS keeps the queue and hands each batch to one worker; presence.py says who is alive, and a dead worker's batches go
back into the queue at once. What a batch does is given (`work`) and must not raise: it answers with its sealed outcome.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import psycopg
from dbos import DBOS, DBOSPortableJSONSerializer, SetWorkflowID, error
from sqlalchemy.exc import SQLAlchemyError

from outlast.jobs.presence import DatabasePresence, FilePresence, Presence, new_name
from outlast.jobs.queue import (
    APPLICATION,
    BATCH_WORKFLOW,
    JOB_WORKFLOW,
    QUEUE,
    SCHEMA,
    VERSION,
    Place,
    explained,
)

Work = Callable[[str, int], str]
"""Works batch NUMBER of JOB, and gives its sealed outcome."""

_WATCH_S = 1.0
_TRIES_MAX = 20  # of one batch whose worker died: it may be what kills them

_work: Work | None = None


@DBOS.workflow(name=JOB_WORKFLOW, max_recovery_attempts=None)
def _job(header: dict[str, Any], sealed: str) -> int:
    for number in range(header["batches"]):
        with SetWorkflowID(f"{header['id']}/{number}"):
            DBOS.enqueue_workflow(QUEUE, _batch, header["id"], number)
    return int(header["batches"])


@DBOS.workflow(name=BATCH_WORKFLOW, max_recovery_attempts=_TRIES_MAX)
def _batch(job: str, number: int) -> str:
    assert _work is not None
    return _work(job, number)


class Engine:
    """A context manager: works batches while it is open. One a process; `queue.Queue` has made the place before."""

    def __init__(self, place: Place, work: Work) -> None:
        self.name = new_name()
        self._place = place
        self._given = work
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="outlast-watch", daemon=True)
        self._presence: Presence | None = None

    def __enter__(self) -> Self:
        # Workflows are functions of the module, since DBOS finds them again by name
        global _work
        _work = self._given
        self._presence = self._present()
        try:
            with explained(self._place):
                DBOS(
                    config={
                        "name": APPLICATION,
                        "system_database_url": self._place.url,
                        "dbos_system_schema": SCHEMA,
                        "executor_id": self.name,
                        "application_version": VERSION,
                        "serializer": DBOSPortableJSONSerializer(),
                        "run_migrations": False,
                        "log_level": "CRITICAL",
                        "console_log_level": "CRITICAL",
                        "notification_listener_polling_interval_sec": 0.05,
                    }
                )
                DBOS.listen_queues([QUEUE])
                DBOS.launch()
        except BaseException:
            self._presence.close()
            raise
        self._watcher.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        DBOS.destroy(workflow_completion_timeout_sec=0)
        self._watcher.join(10)
        if self._presence is not None:
            # From here on the others may take what we did not finish
            self._presence.close()

    def _present(self) -> Presence:
        if self._place.target is None:
            return FilePresence(self._place.folder / "workers", self.name)
        return DatabasePresence(self._place.target, self.name)

    def _watch(self) -> None:
        """Give back to the queue what dead workers had."""
        while not self._stop.wait(_WATCH_S):
            # While the queue's database is away DBOS waits for it, and we ask again in a second.
            with suppress(SQLAlchemyError, error.DBOSException, psycopg.Error, OSError):
                self._take_over()

    def _take_over(self) -> None:
        assert self._presence is not None
        self._presence.keep()
        pending = DBOS.list_workflows(
            status="PENDING", queue_name=QUEUE, app_version=VERSION, load_input=False, load_output=False
        )
        holders = {one.executor_id for one in pending if one.executor_id}
        gone = self._presence.dead(sorted(holders))
        if gone:
            DBOS._recover_pending_workflows(gone)  # what DBOS's own recovery service calls
