"""Debian's PostgreSQL 15: rewind, undo and every hazard, as on 18."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.core.plan import ConflictKind
from tests.commands import Outlast
from tests.fault.faults import ended
from tests.integration.jobs.shop import make
from tests.integration.restore import test_hazards as hazards
from tests.integration.restore.test_hazards import REFUSED, RESTORED, Ground, ground_of
from tests.integration.restore.test_rewind import check_rewind_and_undo
from tests.servers import Server
from tests.worlds import World

pytestmark = pytest.mark.system


@pytest.fixture(params=[True, False], ids=["privileged", "unprivileged"])
def ground(request: pytest.FixtureRequest, debian_server: Server, debian_database: str) -> Iterator[Ground]:
    yield from ground_of(debian_server, debian_database, privileged=request.param)


@pytest.mark.parametrize("seed", range(3))
def test_any_world_is_rewound_and_undone(debian_database: str, tmp_path: Path, seed: int) -> None:
    """Whatever the schema: rewound tenants are as they were, undone ones as before that."""
    check_rewind_and_undo(debian_database, World.random(900 + seed, version=15), seed, tmp_path / "undo")


@pytest.mark.parametrize("damage", RESTORED.values(), ids=RESTORED.keys())
def test_restored(ground: Ground, damage: str) -> None:
    """The tenant is as it was, exactly, while another one goes on working."""
    hazards.test_restored(ground, damage)


@pytest.mark.parametrize(("damage", "kind", "word"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(ground: Ground, damage: str, kind: ConflictKind, word: str) -> None:
    """What cannot be is told in full, and nothing is changed."""
    hazards.test_refused(ground, damage, kind, word)


def test_triggers(ground: Ground) -> None:
    """What a trigger writes to others' rows is counted and refused, and accepted where outlast.toml says so."""
    hazards.test_a_trigger_that_writes_to_others(ground)


@pytest.fixture
def queue(debian_server: Server) -> Iterator[str]:
    with debian_server.new_database() as url:
        yield url


def test_a_job(outlast: Outlast, debian_database: str, queue: str) -> None:
    """Many tenants are restored by two workers who share a queue on the very server."""
    shop = make(outlast, debian_database, 40)
    shop.configure(f'[jobs]\nurl = "{queue}"')
    job = shop.outlast.done("--json", "restore", "--tenants-file", shop.names, "--execute", "--detach").json["job"]
    workers = [shop.outlast.start("worker", "--until-done", "--parallel", "1") for _ in range(2)]
    for worker in workers:
        code, _, stderr = ended(worker)
        assert code == 0, stderr
    shop.check()
    progress = shop.shown(str(job))["progress"]
    assert (progress["restored"], progress["failed"]) == (shop.tenants, 0)
