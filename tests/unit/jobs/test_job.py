"""Jobs as values: how tenants are cut into batches, what is kept of a batch, and how far a job is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outlast.core.conflict import Conflict, ConflictKind
from outlast.core.effect import Count, Effect, Operation
from outlast.core.errors import OutlastError, Refused, TransientError
from outlast.core.plan import TenantPlan, TenantState
from outlast.core.tenant import Tenant, TenantKey
from outlast.jobs.job import BATCH_TENANTS_MAX, Document, Outcome, batch_tenants, joined
from outlast.jobs.presence import FilePresence
from outlast.jobs.progress import Progress
from outlast.restore.throttle import Throttle
from outlast.sources.postgres.load import Load


@given(tenants=st.integers(1, 3000), lanes=st.integers(1, 32))
def test_every_tenant_is_in_one_batch(tenants: int, lanes: int) -> None:
    """Whatever the numbers: all of them, once, in order, in batches that are not too large."""
    keys = tuple(TenantKey(str(number)) for number in range(tenants))
    document = Document(b"plan", False, keys, batch_tenants(tenants, lanes))
    batches = [document.batch(number) for number in range(document.batches)]
    assert tuple(key for batch in batches for key in batch) == keys
    assert all(1 <= len(batch) <= BATCH_TENANTS_MAX for batch in batches)
    assert Document.from_bytes(document.to_bytes()) == document


def outcome(key: str, state: TenantState, rows: int = 0, error: str | None = None) -> TenantPlan:
    tenant = TenantKey(key)
    counts = {(tenant, "public.items", Operation.INSERT): Count(rows)} if rows else {}
    return TenantPlan(Tenant(tenant, f"label {key}"), state, Effect(counts), error=error)


def test_an_outcome_survives_its_bytes() -> None:
    """Tenants, conflicts and errors of every kind come out as they went in."""
    errors = (Refused("no", hint="do this", code="stale"), TransientError("later"), OutlastError("broken"))
    conflict = Conflict(
        TenantKey("2"), "public.items", ConflictKind.VALUE_TAKEN, "taken", "items_key", 3, ("1",), ("9",)
    )
    refused = TenantPlan(Tenant(TenantKey("2")), TenantState.REFUSED, Effect(), conflicts=(conflict,))
    whole = Outcome((outcome("1", TenantState.DONE, 5), refused), errors, "shape")
    again = Outcome.from_bytes(whole.to_bytes())
    assert (again.tenants, again.shape) == (whole.tenants, whole.shape)
    told = [(type(error), error.message, error.hint, error.code) for error in again.errors]
    assert told == [(type(error), error.message, error.hint, error.code) for error in errors]
    assert len(joined([whole, again]).tenants) == 4


def test_progress_tells_what_a_person_wants_to_know() -> None:
    """Done, rows, rate, time left; failures by cause with the first few names."""
    progress = Progress(10)
    assert progress.told(0) == "0 of 10 tenants, 0 rows"
    progress.add([outcome(str(number), TenantState.DONE, 100) for number in range(4)])
    progress.add([outcome("4", TenantState.RIGHT), outcome("5", TenantState.FAILED, error="the server is gone")])
    assert progress.told(2) == "6 of 10 tenants, 400 rows, 3 tenants/s, 1 s left, 1 failed"
    assert progress.told(600).startswith("6 of 10 tenants, 400 rows, 0.6 tenants/min, 7 min left")
    assert progress.to_json()["causes"] == [
        {"cause": "failed", "tenants": 1, "message": "the server is gone", "examples": ["5"]}
    ]


def test_a_dead_worker_is_told_from_a_living_one(tmp_path: Path) -> None:
    """By the lock that dies with it, however it died; and never oneself."""
    script = (
        "import sys, time; from pathlib import Path; from outlast.jobs.presence import FilePresence\n"
        f"kept = FilePresence(Path({str(tmp_path)!r}), 'other'); print('up', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None
    assert other.stdout.readline() == "up\n"
    mine = FilePresence(tmp_path, "mine")
    assert mine.dead(["mine", "other", "never-was"]) == ["never-was"]
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert mine.dead(["mine", "other"]) == ["other"]
    mine.close()
    other.stdout.close()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.mark.parametrize(
    ("loads", "waited"),
    [
        ([Load(None, 0)], 0),
        ([Load(5, 3)], 0),
        ([Load(30, 0), Load(12, 0), Load(9, 0)], 2),
        ([Load(0, 50), Load(0, 4)], 1),
        ([Load(99, 0)] * 100, 20),
    ],
)
def test_a_throttle_holds_back_and_lets_go(loads: list[Load], waited: float) -> None:
    """It waits while a limit is passed, says so once, and never longer than it may."""
    clock = Clock()
    said: list[str] = []
    left = iter(loads)
    last = loads[-1]
    throttle = Throttle(lambda: next(left, last), 10, 20, 20, said.append, clock, clock.sleep)
    throttle.hold()
    assert clock.now == waited
    assert len(said) == (1 if waited else 0)


def test_a_throttle_without_limits_asks_nothing() -> None:
    """Nobody pays for what they did not ask for; and a server that does not answer holds nothing back."""

    def fail() -> Load:
        raise TransientError("away")

    Throttle(fail).hold()
    Throttle(fail, 1).hold()
