"""Kill -9 of client, worker and server at each step of a restore of 200 tenants: the rerun makes every tenant exact."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import psycopg
import pytest

from outlast.jobs.job import JobState
from outlast.jobs.queue import Place, Queue
from tests.commands import Outlast
from tests.fault.faults import ended, kill
from tests.integration.jobs.shop import Shop, make, until
from tests.servers import Server

TENANTS = 200
POINTS = 8


@pytest.fixture
def shop(outlast: Outlast, durable_server: Server) -> Shop:
    with durable_server.connect() as connection:
        connection.execute("CREATE DATABASE shop")
    return make(outlast, durable_server.url("shop"), TENANTS)


def time_of(shop: Shop, *command: str) -> float:
    started = time.monotonic()
    shop.outlast.done(*command)
    taken = time.monotonic() - started
    shop.check()
    shop.destroy()
    return taken


def points(taken_s: float, seed: int) -> list[float]:
    """Moments all over a command: start-up, planning, the first and the last transaction, the end."""
    chance = Random(seed)
    return [taken_s * (number + chance.random()) / POINTS for number in range(POINTS)]


@pytest.mark.slow
@pytest.mark.parametrize("job", [False, True], ids=["direct", "job"])
def test_the_client_is_killed(shop: Shop, job: bool) -> None:
    """Whole tenants or none of them; the same command again finishes, and tells what was there already."""
    command = ["restore", "--tenants-file", shop.names, "--execute"] + (["--job"] if job else [])
    if not job:
        shop.configure("[jobs]\nfrom_tenants = 1000")
    for wait_s in points(time_of(shop, *command), seed=1):
        client = shop.outlast.start(*command)
        time.sleep(wait_s)
        kill(client)
        ended(client)
        shop.check_no_halves()
        before = shop.restored()
        again = shop.outlast.done("--json", *command)
        shop.check()
        states = [one["state"] for one in again.json["tenants"]]
        assert len(states) == TENANTS
        assert set(states) <= {"done", "nothing-to-do"}
        if not job:  # a job's finished parts answer for their tenants as they were
            assert states.count("nothing-to-do") == before
        shop.destroy()


@pytest.mark.slow
def test_workers_are_killed(shop: Shop) -> None:
    """One after the other, and the last one finishes: no tenant is left, none is done twice."""
    client = shop.outlast.start("restore", "--tenants-file", shop.names, "--execute", "--job")
    until(lambda: bool(shop.jobs()), "the job")
    kill(client)
    ended(client)
    chance = Random(2)
    for _ in range(POINTS):
        worker = shop.outlast.start("worker", "--parallel", "1")
        time.sleep(chance.uniform(0.5, 2.5))
        kill(worker)
        ended(worker)
        shop.check_no_halves()
    shop.outlast.done("worker", "--until-done")
    shop.check()
    (job,) = shop.jobs()
    progress = shop.shown(job["job"])["progress"]
    assert (progress["finished"], progress["failed"]) == (TENANTS, 0)


def crash_of_one(server: Server) -> None:
    """kill -9 one of the server's processes: the server ends all of them, recovers from its log, and goes on."""
    with server.connect() as connection:
        row = connection.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        subprocess.run(["kill", f"-{signal.SIGKILL.value}", str(row[0])], check=True)
    until(lambda: answers(server), "the server to recover")


def crash_of_all(server: Server) -> None:
    """kill -9 the server with all its processes, and start it again, as after a power cut."""
    server.kill()
    server.start_again()


@pytest.mark.slow
@pytest.mark.parametrize("crash", [crash_of_one, crash_of_all])
def test_the_server_is_killed(shop: Shop, durable_server: Server, crash: Callable[[Server], None]) -> None:
    """The whole server dies in the middle and comes back: the job waits for it, and finishes by itself."""
    command = ["restore", "--tenants-file", shop.names, "--execute", "--job"]
    for wait_s in points(time_of(shop, *command), seed=3)[1:-1:2]:
        client = shop.outlast.start("--json", *command)
        time.sleep(wait_s)
        crash(durable_server)
        code, _, _ = ended(client)
        if code:  # it had not come so far as to have a job: then the same command again
            shop.outlast.done(*command)
        shop.check()
        shop.destroy()


@pytest.mark.slow
def test_the_server_is_killed_under_a_direct_restore(shop: Shop, durable_server: Server) -> None:
    """No job, nobody waits for long: whole tenants or none after the crash, and the same command finishes."""
    shop.configure("[jobs]\nfrom_tenants = 1000")
    command = ["restore", "--tenants-file", shop.names, "--execute"]
    for wait_s in points(time_of(shop, *command), seed=4):
        client = shop.outlast.start("--json", *command)
        time.sleep(wait_s)
        durable_server.kill()
        durable_server.start_again()
        ended(client)
        shop.check_no_halves()
        shop.outlast.done(*command)
        shop.check()
        shop.destroy()


def answers(server: Server) -> bool:
    try:
        server.connect().close()
    except psycopg.OperationalError:
        return False
    return True


SLOW_STORE = """\
import sys, time
import outlast.vault.store as store

class Slow:
    '''Every request takes 50 ms longer.'''
    is_remote = True
    def __init__(self, inner): self._inner = inner
    def __getattr__(self, name):
        value = getattr(self._inner, name)
        if name in ("get", "get_range", "create", "exists", "list", "delete"):
            def late(*arguments):
                time.sleep(0.05)
                return value(*arguments)
            return late
        return value

opened = store.open_store
store.open_store = lambda *given, **named: Slow(opened(*given, **named))
from outlast.cli.main import main
main(sys.argv[1:])
"""


def slow_worker(shop: Shop, *arguments: str) -> subprocess.Popen[str]:
    import sys

    script = Path(shop.outlast.folder) / "slow_store.py"
    if not script.exists():  # one that has just been started may be reading it
        script.write_text(SLOW_STORE)
    return subprocess.Popen(
        [sys.executable, script, "worker", "--parallel", "1", *arguments],
        cwd=shop.outlast.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def queued(shop: Shop) -> str:
    """A job that nobody works yet."""
    return str(
        shop.outlast.done("--json", "restore", "--tenants-file", shop.names, "--execute", "--detach").json["job"]
    )


def worked(shop: Shop, workers: int) -> float:
    """Seconds from when a job may be worked, with so many workers waiting for it, until its last tenant is there."""
    job = queued(shop)
    shop.outlast.done("jobs", "pause", job)
    started = [slow_worker(shop) for _ in range(workers)]
    try:
        for worker in started:
            assert worker.stderr is not None
            assert "is at work on the queue" in worker.stderr.readline()
        with Queue(Place(shop.outlast.folder / ".outlast")) as queue:
            begun = time.monotonic()
            queue.resume(queue.job(job))
            until(lambda: shop.restored() == shop.tenants, "the last tenant")
            taken_s = time.monotonic() - begun
            until(lambda: queue.job(job).state is JobState.DONE, "the end of the job")
    finally:
        for worker in started:
            kill(worker)
            worker.communicate()
    return taken_s


@pytest.mark.slow
def test_two_workers_are_faster_than_one(outlast: Outlast, database: str) -> None:
    """With 50 ms of latency in each request to the store two take less than 0.65 of one's time, in one run."""
    shop = make(outlast, database, 1500)
    taken = []
    for workers in (1, 2):
        taken.append(worked(shop, workers))
        shop.check()
        shop.destroy()
    print(f"seconds: {taken}, ratio {taken[1] / taken[0]:.2f}")
    assert taken[1] / taken[0] < 0.65, taken


def test_two_workers_and_a_slow_store(small: Shop) -> None:
    """Two workers on a store that answers late: exact, each part of the job done by one of them."""
    job = queued(small)
    first, second = slow_worker(small, "--until-done"), slow_worker(small, "--until-done")
    for worker in (first, second):
        code, _, stderr = ended(worker)
        assert code == 0, stderr
    small.check()
    progress = small.shown(job)["progress"]
    assert (progress["restored"], progress["failed"]) == (small.tenants, 0)


@pytest.fixture
def small(outlast: Outlast, database: str) -> Shop:
    return make(outlast, database, 40)
