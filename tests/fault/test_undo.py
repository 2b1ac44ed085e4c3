"""Whatever fails, and whenever: nothing is committed that could not be taken back."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from outlast.core.errors import TransientError, VaultError
from outlast.core.plan import TenantState
from outlast.core.recipe import Mode, Recipe
from outlast.vault.store import FolderStore
from tests.fault.test_restore import Ward, _wait_until_gone, ward
from tests.integration.restore.memory import Keeping, restorer

__all__ = ["ward"]


class FailingStore(FolderStore):
    """Fails at its Nth write or flush: once, or from then on; before it was done, or after."""

    at = 0
    lasting = False
    after = False
    operations = 0

    def create(self, path: str, data: bytes) -> None:
        self._maybe(lambda: super(FailingStore, self).create(path, data))

    def flush(self) -> None:
        self._maybe(super().flush)

    def _maybe(self, work: object) -> None:
        self.operations += 1
        fails = self.operations == self.at or (self.lasting and self.at and self.operations > self.at)
        if fails and not self.after:
            raise TransientError("the store is away")
        assert callable(work)
        work()
        if fails:
            raise TransientError("the store's answer was lost")


def restore(ward: Ward, keeping: Keeping, plan: str) -> set[TenantState]:
    with restorer(ward.url, ward.settings, keeper=keeping.keeper(plan)) as job:
        return {one.state for one in job.execute(keeping.subjects(ward.pasts))}


def undo(ward: Ward, keeping: Keeping, plan: str) -> None:
    """Take it back: the tenants are as destroyed as they were before."""
    recipe = Recipe(mode=Mode.REVERSE, undo_of=plan)
    with restorer(ward.url, ward.settings, recipe=recipe, keeper=keeping.keeper(f"{plan}u")) as job:
        outcomes = job.execute(keeping.undoing(ward.url, plan, list(ward.pasts)))
        assert not job.errors
    assert {one.state for one in outcomes} <= {TenantState.DONE, TenantState.RIGHT}
    assert ward.world.fingerprints(ward.url) == ward.destroyed


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "for good"])
def test_the_store_fails(ward: Ward, tmp_path: Path, lasting: bool, after: bool) -> None:
    """At every write of a before-image: what is committed can be undone, and what cannot be kept is not committed."""
    keeping = Keeping(tmp_path / "undo")
    store = FailingStore(tmp_path / "undo")
    keeping.store = store
    store.lasting, store.after = lasting, after
    for number in range(1, 20):
        store.at, store.operations = number, 0
        plan = f"p{number}"
        states = restore(ward, keeping, plan)
        reached = store.operations >= number
        store.at = 0
        if ward.check():
            undo(ward, keeping, plan)
        else:
            assert states == {TenantState.FAILED}
        if not reached:
            return
    pytest.fail("it never came to an end")


def test_killed_at_random_moments(ward: Ward, tmp_path: Path) -> None:
    """kill -9 at any time: where the tenant is whole, it can be undone."""
    keeping = Keeping(tmp_path / "undo")
    for tenant in ward.pasts:
        keeping.place(tenant)
    started = time.monotonic()
    restore(ward, keeping, "first")
    takes_s = time.monotonic() - started
    undo(ward, keeping, "first")
    chance = random.Random(2)
    for number in range(8):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                restore(ward, keeping, f"k{number}")
            os._exit(0)
        time.sleep(chance.uniform(0, takes_s * 1.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        _wait_until_gone(ward.url)
        if ward.check():
            undo(ward, keeping, f"k{number}")


def test_a_full_disk(ward: Ward, tmp_path: Path) -> None:
    """What ends the store for good ends the restore, and the database is as it was."""

    class Full(FolderStore):
        def create(self, path: str, data: bytes) -> None:
            raise VaultError("the disk is full")

    keeping = Keeping(tmp_path / "undo")
    keeping.store = Full(tmp_path / "undo")
    assert restore(ward, keeping, "p") == {TenantState.FAILED}
    assert ward.world.fingerprints(ward.url) == ward.destroyed
