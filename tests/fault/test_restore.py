"""Whatever fails, and whenever: a tenant is as it was or whole, and doing it again makes it whole."""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from outlast.core.errors import OutlastError
from outlast.core.plan import TenantState
from outlast.restore.history import Past
from outlast.sources.postgres.catalog import OwnershipSettings
from tests.fault.wire import Wire, wired
from tests.integration.restore import memory
from tests.integration.restore.memory import remember
from tests.worlds import Fingerprints, World

SHAPE_SEED = 3


class EndedError(RuntimeError):
    """A restore in a process of its own ended with an error."""


def execute(url: str, settings: OwnershipSettings, pasts: dict[str, Past]) -> set[str]:
    """Restore in a child process, and give the tenants' states: libpq waits with the interpreter held."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            told = " ".join(outcome.state.name for outcome in memory.execute(url, settings, pasts))
        except OutlastError as error:
            told = f"Error: {error.message}"
        except BaseException:  # noqa: BLE001 - told to the parent, which fails over it
            told = traceback.format_exc()
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    assert "Traceback" not in told, told
    if told.startswith("Error"):
        raise EndedError(told)
    return set(told.split())


class Ward:
    """A world of which some tenants were destroyed, and what it was before and after that."""

    def __init__(self, url: str, world: World) -> None:
        world.create(url)
        self.url, self.world = url, world
        self.settings = OwnershipSettings(world.tenant_table_name, world.label_column)
        self.victims = list(world.tenants[:1])
        self.pasts: dict[str, Past] = remember(url, self.settings, [tenant.key for tenant in self.victims])
        self.whole = world.fingerprints(url)
        world.destroy(url, self.victims)
        self.destroyed = world.fingerprints(url)

    def check(self) -> bool:
        """Each victim is as it was or whole, and all others are untouched. True where every victim is whole."""
        now: Fingerprints = self.world.fingerprints(self.url)
        for owner in self.whole.keys() | now.keys():
            if now.get(owner) != self.whole.get(owner):
                assert owner in self.pasts, f"{owner!r} was not to be touched"
                assert now.get(owner) == self.destroyed.get(owner), f"{owner!r} is half restored"
        return now == self.whole

    def destroy(self) -> None:
        self.world.destroy(self.url, self.victims)


@pytest.fixture
def ward(database: str) -> Ward:
    return Ward(database, World.random(SHAPE_SEED, tenants=3, rows_max=8, names="plain", only=["chain", "cycle"]))


@pytest.fixture
def line(ward: Ward) -> Iterator[tuple[str, Wire]]:
    # A socket's path is limited to 107 bytes, which pytest's folders exceed
    with tempfile.TemporaryDirectory(prefix="wire-", dir="/tmp") as folder, wired(ward.url, Path(folder)) as found:
        yield found


def count_operations(ward: Ward, line: tuple[str, Wire]) -> int:
    url, wire = line
    wire.arm(None)
    execute(url, ward.settings, ward.pasts)
    assert ward.check()
    ward.destroy()
    return wire.operations


STEPS = pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
"""Every seventh operation, from a different first one in each test; or every one."""


@STEPS
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_connection_lost_once(ward: Ward, line: tuple[str, Wire], after: bool, step: int) -> None:
    """Lost at the Nth operation, for every N, before or after the server did it: the restore finds out and finishes."""
    url, wire = line
    for number in range(1 + after % step, count_operations(ward, line) + 1, step):
        wire.arm(number, after=after)
        try:
            outcomes = execute(url, ward.settings, ward.pasts)
        except EndedError as error:
            # While a session is being opened nothing has begun: that is told, and not tried again
            if "connect" not in str(error) and "session" not in str(error):
                raise
            ward.check()
            outcomes = execute(url, ward.settings, ward.pasts)
        assert outcomes <= {TenantState.DONE.name, TenantState.RIGHT.name}, number
        assert ward.check(), number
        ward.destroy()


@STEPS
def test_a_connection_lost_for_good(ward: Ward, line: tuple[str, Wire], step: int) -> None:
    """Lost from the Nth operation on, for every N: an error, no half of a tenant, and the rerun finishes."""
    url, wire = line
    for number in range(1 + 2 % step, count_operations(ward, line) + 1, step):
        wire.arm(number, lasting=True, after=number % 2 == 0)
        with suppress(EndedError):  # the last operations may have been the last that were needed
            execute(url, ward.settings, ward.pasts)
        wire.arm(None)
        ward.check()
        execute(url, ward.settings, ward.pasts)
        assert ward.check(), number
        ward.destroy()


def test_killed_at_random_moments(ward: Ward) -> None:
    """kill -9 of the client, at any time: the rerun finishes what is left."""
    started = time.monotonic()
    execute(ward.url, ward.settings, ward.pasts)
    takes_s = time.monotonic() - started
    chance = random.Random(1)
    for _ in range(15):
        ward.destroy()
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                memory.execute(ward.url, ward.settings, ward.pasts)
            os._exit(0)
        time.sleep(chance.uniform(0, takes_s * 1.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        _wait_until_gone(ward.url)
        ward.check()
        execute(ward.url, ward.settings, ward.pasts)
        assert ward.check()


def _wait_until_gone(url: str) -> None:
    """Until the server has noticed that its client is dead."""
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(
            "SELECT FROM pg_stat_activity WHERE application_name = 'outlast restore' AND datname = current_database()"
        ).fetchone():
            time.sleep(0.005)
