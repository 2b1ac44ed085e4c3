"""Carrying out a plan of following: each step a transaction of its own, with a bounded wait for its locks.

A step that does not get its lock is tried again a few times, then given up: nothing of it was done, the rest goes on,
and the next run of the same command makes what is missing. Nobody else waits longer than LOCK_TIMEOUT_S behind us.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import psycopg

from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.following_plan import FollowingPlan, Step
from outlast.sources.postgres.session import Session

LOCK_TIMEOUT_S = 2.0
"""Longer than deadlock_timeout (1 s), after which an autovacuum in the way gives way; else as short as can be."""
PAUSES = (0.25, 0.5, 1.0)
"""Between one try and the next, in lock timeouts: those who queued behind us get through meanwhile."""


class StepState(StrEnum):
    DONE = "done"
    BUSY = "busy"  # its lock was not to be had
    LACKING = "lacking"  # this role may not
    FAILED = "failed"
    PLANNED = "planned"


@dataclass(frozen=True, slots=True)
class StepResult:
    step: Step
    state: StepState
    error: str | None = None

    def to_json(self) -> dict[str, object]:
        return {"step": self.step.key, "state": self.state.value, "error": self.error}


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a step waits for its locks, how often, and by which clock it sleeps."""

    lock_timeout_s: float = LOCK_TIMEOUT_S
    pauses: tuple[float, ...] = PAUSES
    sleep: Callable[[float], None] = time.sleep

    @property
    def pauses_s(self) -> tuple[float, ...]:
        return tuple(pause * self.lock_timeout_s for pause in self.pauses)


def carry_out(
    connection: Session,
    plan: FollowingPlan,
    patience: Patience | None = None,
    say: Callable[[StepResult], None] = lambda _: None,
) -> tuple[StepResult, ...]:
    """Run the steps in their order on an autocommit session that may write. Raises TransientError or SourceError where
    the session is lost: what was done until then stands, and the plan made anew has the rest."""
    results: list[StepResult] = []
    for step in plan.steps:
        whole = all(result.state is StepState.DONE or result.step.optional for result in results)
        if step.last and not whole:
            result = StepResult(step, StepState.PLANNED, "it waits until every step before it is done")
        else:
            result = _run(connection, step, patience or Patience())
        say(result)
        results.append(result)
    return tuple(results)


def _run(connection: Session, step: Step, patience: Patience) -> StepResult:
    if step.lacks:
        return StepResult(step, StepState.LACKING, step.lacks)
    told = ""
    for pause in (*patience.pauses_s, None):
        try:
            with connection.transaction():
                connection.execute(f"SET LOCAL lock_timeout = {int(patience.lock_timeout_s * 1000)}".encode())
                for statement in step.sql:
                    connection.execute(statement.encode())
        except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected) as error:
            told = explain(error, step.what).message
        except psycopg.errors.InsufficientPrivilege as error:
            return StepResult(step, StepState.LACKING, explain(error, step.what).message)
        except psycopg.Error as error:
            if connection.closed:
                raise explain(error, step.what) from error
            return StepResult(step, StepState.FAILED, explain(error, step.what).message)
        else:
            return StepResult(step, StepState.DONE)
        if pause is not None:
            patience.sleep(pause)
    return StepResult(step, StepState.BUSY, f"{told}, {len(patience.pauses_s) + 1} times")
