"""What a fold takes and what it leaves: gaps, transactions cut short, schema changes, logs of other servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.core.errors import Refused
from outlast.core.moment import Lsn
from outlast.restore.history import find_entry, past_at, resolve
from outlast.state.local import LocalState, WriterLock
from tests.logs import ITEMS, NOTES, LogWorld
from tests.vaults import SOURCE, folder_vault


@pytest.fixture
def state(tmp_path: Path) -> Iterator[LocalState]:
    with LocalState(tmp_path / "state") as state:
        yield state


@pytest.fixture
def world(tmp_path: Path) -> LogWorld:
    world = LogWorld(folder_vault(tmp_path / "vault"))
    world.vault.rows_in_chunk = 1_000_000
    world.begin()
    for number in (1, 2, 3):
        world.insert(str(number), ITEMS, number, "a")
        world.commit()
    world.flush()
    return world


def _items(world: LogWorld, text: str, tenant: str = "1") -> list[bytes]:
    vault = world.vault.vault()
    at = resolve(vault, SOURCE, text)
    past = past_at(vault, SOURCE, find_entry(vault, SOURCE, tenant, at), at)
    return b"".join(past.read(past.tables[ITEMS])).splitlines() if ITEMS in past.tables else []


def test_a_transaction_cut_short_waits(world: LogWorld, state: LocalState) -> None:
    """Segments with parts of a transaction that is not whole are folded when it is."""
    for number in range(10, 16):
        world.insert("1", ITEMS, number, "big")
    world.commit()
    world.flush_in_parts([2, 2], last=False)
    first = world.fold(state)
    assert (first.moment and first.moment.high) == Lsn(world.committed[-2].end)
    assert len(_items(world, "latest")) == 1
    assert world.fold(state).waiting == "nothing was written since the newest run"
    world.flush_in_parts([3])
    assert world.fold(state).run == 3
    assert len(_items(world, "run:3")) == 7
    assert _items(world, "run:2") == [b"1\ta"]


def test_a_gap_ends_a_fold_until_a_backup_mends_it(world: LogWorld, state: LocalState) -> None:
    """What is before it is folded; then the next backup is the base, and folding goes on from there."""
    world.gap("a partition was detached")
    world.insert("1", ITEMS, 10, "in doubt")
    doubtful = world.commit()
    world.flush()
    world.insert("1", ITEMS, 12, "in doubt too")
    world.commit()
    world.flush()
    assert world.fold(state).moment is not None
    told = world.fold(state).waiting
    assert "a partition was detached" in told
    assert "outlast backup" in told
    world.sweep()
    world.insert("1", ITEMS, 11, "sure")
    world.commit()
    world.flush()
    assert world.fold(state).run == 4
    assert len(_items(world, "run:4")) == 4
    with pytest.raises(Refused, match="a partition was detached"):
        _items(world, str(Lsn(doubtful.end)))
    assert len(_items(world, f"before:{doubtful.xid}")) == 1


def test_a_schema_change_is_folded_for_everybody(world: LogWorld, state: LocalState) -> None:
    """A tenant that the log does not name has the new column in the fold's run too."""
    world.fold(state)
    world.add_column(ITEMS)
    world.insert("1", ITEMS, 10, "with it")
    world.commit()
    world.flush()
    result = world.fold(state)
    assert result.tenants == 3
    assert _items(world, f"run:{result.run}", "2") == [b"2\ta\t\\N"]
    assert _items(world, f"run:{result.run}", "1") == [b"1\ta\t\\N", b"10\twith it\t\\N"]
    assert _items(world, "run:2", "2") == [b"2\ta"]


def test_what_a_move_brought_is_in_the_receivers_own_log(world: LogWorld, state: LocalState) -> None:
    """After the fold the receiver's moments need nothing of the giver, whose folder may be gone."""
    world.insert("1", NOTES, 50, "1")
    world.commit()
    world.move(1, "2")
    moved = world.commit()
    world.update(NOTES, 50, "1")
    world.commit()
    world.flush()
    world.fold(state)
    for item in list(world.vault.store.list(f"{SOURCE}/log/")):
        if "-" not in item.path:
            world.vault.store.delete(item.path)
    for item in list(world.vault.store.list(f"{SOURCE}/{world.vault.prefix('1')}/")):
        world.vault.store.delete(item.path)
    assert _items(world, str(Lsn(moved.end)), "2") == [b"1\ta", b"2\ta"]
    assert _items(world, f"before:{moved.xid}", "2") == [b"2\ta"]


def test_one_writer_at_a_time(world: LogWorld, state: LocalState) -> None:
    with WriterLock(state.directory, SOURCE), pytest.raises(Refused, match="is writing it"):
        world.fold(state)


def test_without_a_log_there_is_nothing_to_fold(tmp_path: Path, state: LocalState) -> None:
    world = LogWorld(folder_vault(tmp_path / "other"))
    assert "no log" in world.fold(state).waiting
    world.sweep()
    assert "no log" in world.fold(state).waiting


def test_a_fold_by_another_host_leaves_this_ones_memory_behind(world: LogWorld, tmp_path: Path) -> None:
    """A host that remembers nothing of the last census folds all the same."""
    with LocalState(tmp_path / "elsewhere") as other:
        assert world.fold(other).run == 2
    assert _items(world, "run:2", "3") == [b"3\ta"]
