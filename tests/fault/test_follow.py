"""Following, interrupted: at every step of a flush, by kill -9, with the server killed, with the vault away."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from outlast.capture.route_map import RouteMap
from outlast.config import file
from outlast.vault.keys import Identity
from outlast.vault.reader import Vault, VaultPin
from outlast.vault.store import open_store
from tests.commands import Outlast
from tests.fault.faults import Fault, FaultyStore, InjectedError, When
from tests.integration.follow.conftest import Factory, Followed, followed, wait_until
from tests.integration.follow.truth import Truth, compared
from tests.projects import Project
from tests.servers import Server

__all__ = ["followed"]

SCHEMA = """
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE project (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, title text);
CREATE TABLE task (id bigint PRIMARY KEY, project_id bigint NOT NULL REFERENCES project ON DELETE CASCADE, body text);
INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, 3) n;
INSERT INTO project SELECT n, 1 + n % 3, 'project ' || n FROM generate_series(1, 9) n;
INSERT INTO task SELECT n, 1 + n % 9, 'task ' || n FROM generate_series(1, 60) n;
"""
OWNERS = {
    "public.account": "t.id",
    "public.project": "t.account_id",
    "public.task": "(SELECT p.account_id FROM public.project p WHERE p.id = t.project_id)",
}


class FaultyWrites(FaultyStore):
    """A store of which only what writes can fail."""

    def get(self, path: str) -> bytes:
        return bytes(self._inner.get(path))

    def get_range(self, path: str, offset_bytes: int, length_bytes: int) -> bytes:
        return bytes(self._inner.get_range(path, offset_bytes, length_bytes))

    def list(self, prefix: str = "") -> Iterator[Any]:
        return iter(self._inner.list(prefix))


def work(number: int) -> list[str]:
    """Transactions that make a new tenant, a parent that moves with its children, a cascade, and many rows."""
    key = 1000 + number
    return [
        (
            f"INSERT INTO account VALUES ({key}, 'new {number}'); INSERT INTO project VALUES ({key}, {key}, 'first'); "
            f"INSERT INTO task SELECT {key} * 100 + n, {key}, repeat('x', 50) FROM generate_series(1, 20) n"
        ),
        f"UPDATE project SET account_id = 1 + {number} % 3 WHERE id = 1 + {number} % 5",
        f"UPDATE task SET body = body || '.' WHERE project_id = 1 + {number} % 5",
        f"DELETE FROM project WHERE id = {key}",
        f"UPDATE task SET body = 'round {number}' WHERE id % 7 = {number} % 7",
    ]


def after(one: Followed, truth: Truth, number: int) -> None:
    for statement in work(number):
        one.execute(statement)
        truth.note()


@pytest.mark.parametrize(
    ("memory_bytes", "step"),
    [  # with 700 bytes transactions span several segments
        (700, 4),
        pytest.param(700, 1, marks=pytest.mark.slow),
        pytest.param(16_000_000, 1, marks=pytest.mark.slow),
    ],
)
def test_a_crash_at_any_request_to_the_vault_loses_and_doubles_nothing(
    database: str, followed: Factory, memory_bytes: int, step: int
) -> None:
    """Every request of a flush fails once, before or after it took effect; the next start takes up the rest."""
    one = followed(database, SCHEMA)
    one.memory_bytes = memory_bytes
    truth = Truth(one.url, OWNERS)
    one.drain()
    truth.note()
    number = 0
    for when in When:
        for at in range(1, 60, step):
            number += 1
            after(one, truth, number)
            try:
                one.drain(store=FaultyWrites(one.store, Fault(at, when=when)))
            except InjectedError:
                continue
            break
        else:
            raise AssertionError("it never got through")
    one.drain()
    compared(one.vault(), truth)


@pytest.mark.parametrize("late", [False, True])
def test_a_crash_between_the_segment_and_the_checkpoint_repeats_nothing(
    database: str, followed: Factory, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """The vault has the segment, this host has not noted it, or has and did not confirm: it is not written again."""
    one = followed(database, SCHEMA)
    truth = Truth(one.url, OWNERS)
    one.drain()
    truth.note()
    commit = RouteMap.commit
    armed = True

    def broken(self: RouteMap, *given: object) -> None:
        if not armed:
            commit(self, *given)  # type: ignore[arg-type]
            return
        if late:
            commit(self, *given)  # type: ignore[arg-type]
        raise InjectedError("the process ends here")

    monkeypatch.setattr(RouteMap, "commit", broken)
    for number in range(3):
        armed = True
        after(one, truth, number)
        with pytest.raises(InjectedError):
            one.drain()
        armed = False
        if number:
            one.drain()
    one.drain()
    compared(one.vault(), truth)


def test_killed_at_random_moments_nothing_is_lost_and_nothing_is_doubled(
    database: str, outlast: Outlast, tmp_path: Path
) -> None:
    """kill -9 of the command again and again, while transactions go on; afterwards every moment is as it was."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
    project = Project(outlast, database)
    project.init("account", "name")
    outlast.done("follow", "--setup", "--execute", "--accept-unbounded-wal")
    outlast.done("follow", "--until-current")
    truth = Truth(database, OWNERS)
    truth.note()
    chance = Random(7)
    number = 0
    for _ in range(3):
        process = outlast.start("follow", "--flush-interval", "0.05")
        try:
            wait_until(lambda: _active(database), "the follower's start")
            until = time.monotonic() + chance.uniform(0.05, 0.4)
            while time.monotonic() < until:
                number += 1
                for statement in work(number):
                    with psycopg.connect(database, autocommit=True) as connection:
                        connection.execute(statement.encode())
                truth.note()
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        wait_until(lambda: not _active(database), "the server's notice that it is gone")
    outlast.done("follow", "--until-current")
    compared(_vault(project), truth)


def test_a_server_that_is_killed_loses_nothing_that_was_confirmed(durable_server: Server, followed: Factory) -> None:
    """The database goes down hard while it is followed; the follower waits, and goes on where the log ends."""
    with durable_server.new_database() as url:
        one = followed(url, SCHEMA)
        truth = Truth(url, OWNERS)
        with one.running() as running:
            truth.note()
            after(one, truth, 1)
            running.caught_up()
            durable_server.stop(signal.SIGQUIT)
            wait_until(lambda: running.follower.watch.figures.reconnects > 1, "a try while nothing answers")
            durable_server.start_again()
            after(one, truth, 2)
            running.caught_up()
        compared(one.vault(), truth)


def _active(url: str) -> bool:
    with psycopg.connect(url, autocommit=True) as connection:
        return bool(connection.execute("SELECT 1 FROM pg_replication_slots WHERE active").fetchone())


def _vault(project: Project) -> Vault:
    settings = file.load(project.config)
    identity = Identity.load(project.folder / ".outlast" / "operator.key")
    pin = VaultPin(settings.vault.id, settings.vault.recipients, settings.vault.signers)
    return Vault.open(open_store(settings.vault_url), pin, identity)
