"""Restores of many tenants as jobs: what they tell, what stops them, and that killing anybody loses nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator

import psycopg
import pytest

from outlast.restore.groups import TENANTS_MAX
from tests.commands import Outlast
from tests.fault.faults import ended, kill
from tests.integration.jobs.shop import Shop, held, is_waiting, make, until
from tests.servers import Server

TENANTS = 60
GROUP = TENANTS_MAX


@pytest.fixture
def shop(outlast: Outlast, database: str) -> Shop:
    return make(outlast, database, TENANTS)


def test_many_tenants_are_a_job(shop: Shop) -> None:
    """All exact; told as one result, one event a tenant, one hook a tenant; listed as done; again: nothing to do."""
    events, hooked = shop.outlast.folder / "events", shop.outlast.folder / "hooked"
    shop.configure(
        f'[jobs]\nfrom_tenants = {TENANTS - 1}\nhead_start = "0s"\n[hooks]\ntenant_restored = "cat >> {hooked}"'
    )
    text = (shop.outlast.folder / "outlast.toml").read_text().replace("\n[hooks]\n# after", "\n# after", 1)
    (shop.outlast.folder / "outlast.toml").write_text(text)
    answer = shop.outlast.done("--json", "restore", "--tenants-file", shop.names, "--execute", "--events", str(events))
    shop.check()
    assert {one["state"] for one in answer.json["tenants"]} == {"done"}
    assert all(one["exact"] for one in answer.json["tenants"])
    for file in (events, hooked):
        told = [json.loads(line) for line in file.read_text().splitlines()]
        assert sorted(int(one["tenant"]) for one in told) == list(range(1, TENANTS + 1))
        assert {(one["event"], one["state"], one["plan"]) for one in told} == {("tenant", "done", answer.json["plan"])}
    (job,) = shop.jobs()
    assert (job["job"], job["state"], job["tenants"], job["parts_done"]) == (
        answer.json["plan"],
        "done",
        TENANTS,
        job["parts"],
    )
    assert job["parts"] > 1
    assert shop.shown(job["job"])["progress"]["restored"] == TENANTS
    secret = "tenant-7"
    assert secret.encode() not in (shop.outlast.folder / ".outlast" / "jobs.sqlite").read_bytes()
    again = shop.outlast.done("--json", "restore", "--tenants-file", shop.names, "--execute", "--job")
    assert {one["state"] for one in again.json["tenants"]} == {"nothing-to-do"}


def test_a_head_start_and_then_a_job(outlast: Outlast, database: str) -> None:
    """A group is restored by the command itself; those whose turn has not come by then are a job. Killed in that job,
    the same command goes on with it, and tells of those that the head start had as well."""
    shop = make(outlast, database, GROUP + 30)
    shop.configure('[jobs]\nfrom_tenants = 10\nparallel = 1\nhead_start = "0.001s"')
    asked = ("--json", "restore", "--tenants-file", shop.names, "--execute")
    with held(shop.url, GROUP + 30):
        client = shop.outlast.start(*asked)
        until(lambda: is_waiting(shop.url), "the job to come to the held tenant")
        kill(client)
        ended(client)
    assert shop.restored() >= GROUP
    (job,) = shop.jobs()
    assert (job["state"], job["tenants"]) == ("running", 30)
    again = shop.outlast.done(*asked)
    shop.check()
    assert [one["tenant"] for one in again.json["tenants"]] == [str(number) for number in range(1, GROUP + 31)]
    assert [one["job"] for one in shop.jobs()] == [job["job"]]


def test_a_restore_within_its_head_start_needs_no_queue(shop: Shop) -> None:
    """No job is made of it, and no queue."""
    shop.configure('[jobs]\nfrom_tenants = 10\nhead_start = "10m"')
    shop.outlast.done("restore", "--tenants-file", shop.names, "--execute")
    shop.check()
    assert not (shop.outlast.folder / ".outlast" / "jobs.sqlite").exists()


@pytest.mark.slow
def test_one_tenants_failure_stops_no_other(shop: Shop) -> None:
    """It is told at the end, and listed by cause; cleared, the same command restores it."""
    with psycopg.connect(shop.url) as connection:
        connection.execute("UPDATE items SET code = 'code-501' WHERE id = (SELECT min(id) FROM items)")
    answer = shop.outlast("--json", "restore", "--tenants-file", shop.names, "--execute", "--job")
    assert (answer.exit_code, answer.json["error"]["code"]) == (1, "partly")
    assert [one["tenant"] for one in answer.json["tenants"] if one["state"] != "done"] == ["5"]
    (cause,) = shop.shown(answer.json["plan"])["progress"]["causes"]
    assert (cause["cause"], cause["tenants"], cause["examples"]) == ("value-taken", 1, ["5"])
    assert shop.outlast("jobs", "show", answer.json["plan"]).exit_code == 4
    with psycopg.connect(shop.url) as connection:
        connection.execute("UPDATE items SET code = 'code-' || id WHERE code = 'code-501'")
    shop.outlast.done("restore", "--tenants-file", shop.names, "--execute", "--job")
    shop.check()


@pytest.mark.slow
def test_a_shown_plan_is_applied_as_a_job(shop: Shop) -> None:
    """`apply` of many tenants does what was shown, tenant by tenant, and refuses who changed since."""
    plan = shop.outlast.done("--json", "restore", "--tenants-file", shop.names).json["plan"]
    with psycopg.connect(shop.url) as connection:
        connection.execute("INSERT INTO accounts VALUES (9, 'tenant-9')")
    answer = shop.outlast("--json", "apply", plan, "--job")
    assert answer.exit_code == 1
    assert [one["tenant"] for one in answer.json["tenants"] if one["state"] != "done"] == ["9"]
    assert [job["job"] for job in shop.jobs()] == [plan]


def killed_in_the_middle(shop: Shop) -> str:
    """Kill -9 a client whose job is under way: one part waits for a lock. The job's id."""
    with held(shop.url, TENANTS):
        client = shop.outlast.start("restore", "--tenants-file", shop.names, "--execute", "--job")
        until(lambda: is_waiting(shop.url), "the restore to come to the held tenant")
        until(lambda: shop.restored() > 0, "other tenants")
        kill(client)
        ended(client)
    (job,) = shop.jobs()
    assert job["state"] == "running"
    shop.check_no_halves()
    assert shop.restored() < TENANTS
    return str(job["job"])


def test_a_worker_finishes_what_a_killed_client_began(shop: Shop) -> None:
    """Kill -9 of the client: while the job is paused nobody touches it; then a worker does the rest, nothing twice."""
    job = killed_in_the_middle(shop)
    before = shop.restored()
    shop.outlast.done("jobs", "pause", job)
    assert shop.outlast("restore", "--tenants-file", shop.names, "--execute", "--job").exit_code == 3
    assert [one["state"] for one in shop.jobs()] == ["paused"]
    shop.outlast.done("jobs", "resume", job)
    shop.outlast.done("worker", "--until-done")
    shop.check()
    progress = shop.shown(job)["progress"]
    assert (progress["finished"], progress["failed"]) == (TENANTS, 0)
    assert progress["restored"] + progress["nothing_missing"] == TENANTS
    assert progress["restored"] >= TENANTS - before


@pytest.mark.slow
def test_the_same_command_goes_on_with_its_job(shop: Shop) -> None:
    """Run again after kill -9, it joins the job that is there already instead of making another."""
    job = killed_in_the_middle(shop)
    again = shop.outlast.done("--json", "restore", "--tenants-file", shop.names, "--execute", "--job")
    shop.check()
    assert len(again.json["tenants"]) == TENANTS
    assert [one["job"] for one in shop.jobs()] == [job]


@pytest.mark.slow
def test_cancelled(shop: Shop) -> None:
    """A cancelled job ends with the parts under way; its client tells who had no turn; what is restored stays."""
    with held(shop.url, TENANTS):
        client = shop.outlast.start("--json", "restore", "--tenants-file", shop.names, "--execute", "--job")
        until(lambda: is_waiting(shop.url), "the restore to come to the held tenant")
        (job,) = [one["job"] for one in shop.jobs()]
        shop.outlast.done("jobs", "cancel", job)
    code, stdout, _ = ended(client)
    told = json.loads(stdout)
    shop.check_no_halves()
    missing = TENANTS - shop.restored()
    assert len([one for one in told["tenants"] if one["state"] == "failed"]) == missing
    assert code == (1 if missing else 0)
    shop.outlast.done("worker", "--until-done")
    assert TENANTS - shop.restored() == missing


@pytest.mark.slow
def test_what_is_asked_of_jobs_wrongly(shop: Shop) -> None:
    """No such job, no job named, an empty queue: told, with what to do."""
    assert "empty" in shop.outlast.done("jobs").stdout
    assert shop.outlast("jobs", "show").exit_code == 2
    assert shop.outlast("jobs", "list", "x").exit_code == 2
    assert shop.outlast("jobs", "pause", "nothing").exit_code == 2
    shop.configure('[jobs]\nurl = "postgresql://nobody@/nowhere?host=/nowhere"')
    away = shop.outlast("jobs")
    assert away.exit_code == 1
    assert "queue of jobs" in away.stderr


@pytest.fixture
def shared(shop: Shop, server: Server) -> Iterator[Shop]:
    """The same with a queue that several machines could share."""
    with server.new_database() as url:
        shop.configure(f'[jobs]\nurl = "{url}"\nparallel = 1')
        yield shop


def test_two_workers_share_a_queue_and_one_is_killed(shared: Shop) -> None:
    """A worker is killed in the middle of a part; the other one takes it over and finishes the job."""
    job = killed_in_the_middle(shared)
    with held(shared.url, TENANTS):
        first = shared.outlast.start("worker")
        until(lambda: is_waiting(shared.url), "the first worker to come to the held tenant")
        second = shared.outlast.start("worker", "--until-done")
        kill(first)
        ended(first)
    code, _, stderr = ended(second)
    assert code == 0, stderr
    shared.check()
    assert shared.shown(job)["progress"]["finished"] == TENANTS
    check_no_name_in_the_queue(shared)


def check_no_name_in_the_queue(shared: Shop) -> None:
    """Who can read the queue's database learns how many tenants are restored, and who of them nowhere."""
    url = next(
        line.partition('"')[2].rstrip('"')
        for line in (shared.outlast.folder / "outlast.toml").read_text().splitlines()
        if line.startswith("url = ") and "vault" not in line and shared.url not in line
    )
    with psycopg.connect(url) as connection:
        tables = connection.execute(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'outlast_jobs'"
        ).fetchall()
        assert tables
        for (table,) in tables:
            dumped = connection.execute(f'SELECT t::text FROM outlast_jobs."{table}" t'.encode()).fetchall()
            assert not any("tenant-" in row[0] for row in dumped), table
