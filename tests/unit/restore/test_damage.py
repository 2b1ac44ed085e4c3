"""A damage report out of a log: cut into parts, sent twice, folded, broken off."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.core.errors import Refused
from outlast.core.moment import Lsn
from outlast.restore.damage import DamageReport, report
from outlast.restore.history import resolve
from outlast.state.local import LocalState
from tests.logs import ITEMS, LogWorld
from tests.vaults import SOURCE, folder_vault


@pytest.fixture
def world(tmp_path: Path) -> LogWorld:
    """Three tenants with four items each, in run 1 and the log behind it."""
    world = LogWorld(folder_vault(tmp_path / "vault"))
    world.begin()
    for number in range(12):
        world.insert(str(1 + number % 3), ITEMS, number, "a")
    world.commit()
    world.flush()
    return world


def since(world: LogWorld, text: str, until: str | None = None) -> DamageReport:
    vault = world.vault.vault()
    end = None if until is None else resolve(vault, SOURCE, until)
    return report(vault, SOURCE, resolve(vault, SOURCE, text), end)


def lost(found: DamageReport) -> dict[str, int]:
    return {str(one.tenant.key): one.hard.rows for one in found.tenants}


def test_a_transaction_in_parts_is_counted_once(world: LogWorld) -> None:
    """Also where the first try was given up and all of it was sent again."""
    for number in (0, 3, 6, 1):
        world.delete(ITEMS, number)
    deed = world.commit()
    world.flush_in_parts([2], last=False)
    assert not since(world, f"before:{world.committed[0].xid}").hard
    world.flush_in_parts([1, 1])
    found = since(world, f"before:{deed.xid}")
    assert lost(found) == {"1": 3, "2": 1}
    assert [(one.xid, one.hard.rows) for one in found.transactions] == [(deed.xid, 4)]


def test_what_was_folded_is_told_all_the_same(world: LogWorld, tmp_path: Path) -> None:
    """A fold takes the frames, and leaves who lost what."""
    world.delete(ITEMS, 0)
    first = world.commit()
    world.flush()
    with LocalState(tmp_path / "state") as state:
        assert world.fold(state).moment is not None
    world.delete(ITEMS, 1)
    second = world.commit()
    world.flush()
    assert lost(since(world, f"before:{first.xid}")) == {"1": 1, "2": 1}
    assert lost(since(world, f"before:{second.xid}")) == {"2": 1}
    assert lost(since(world, f"before:{first.xid}", f"before:{second.xid}")) == {"1": 1}
    assert lost(since(world, "run:2")) == {"2": 1}


def test_a_log_that_broke_off_is_not_taken_for_all(world: LogWorld) -> None:
    """Between two logs nobody knows who lost what: refused, with the two that can be looked at."""
    world.delete(ITEMS, 0)
    deed = world.commit()
    world.flush()
    end = world.committed[-1].end
    world.epoch += 1
    world.begin()
    world.delete(ITEMS, 1)
    world.commit()
    world.flush()
    with pytest.raises(Refused, match="does not cover the whole time") as refused:
        since(world, f"before:{deed.xid}")
    assert refused.value.code == "log-gap"
    assert lost(since(world, f"before:{deed.xid}", str(Lsn(end)))) == {"1": 1}
