"""Any moment: whatever was committed, moved, truncated, cut into parts or sent twice, a state read out of the vault is
the one that the database had, for every tenant."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlast.restore.history import find_entry, past_at, resolve
from outlast.state.local import LocalState
from outlast.vault.reader import Vault
from outlast.vault.segment import segment_path
from tests.logs import ITEMS, NOTES, Committed, LogWorld, swept_root, tables_of
from tests.vaults import SOURCE, folder_vault


def _transact(world: LogWorld, data: st.DataObject) -> None:
    draw = data.draw
    for _ in range(draw(st.integers(1, 4))):
        kind = draw(st.sampled_from(["item", "note", "rename", "move", "rekey", "drop", "unnote", "truncate"]))
        items = sorted(key for tables in world.state.values() for key in tables[ITEMS])
        notes = sorted(key for tables in world.state.values() for key in tables[NOTES])
        free = draw(st.sampled_from([key for key in range(1, 13) if key not in items] or [0]))
        if kind == "item" and free:
            world.insert(draw(st.sampled_from(world.tenants)), ITEMS, free, draw(st.sampled_from("abc")))
        elif kind == "truncate" and draw(st.integers(0, 3)) == 0:
            world.truncate(NOTES)
        elif kind == "unnote" and notes:
            world.delete(NOTES, draw(st.sampled_from(notes)))
        elif items:
            _change_item(world, data, kind, draw(st.sampled_from(items)), free, max(notes, default=0) + 1)


def _change_item(world: LogWorld, data: st.DataObject, kind: str, item: int, free: int, note: int) -> None:
    draw = data.draw
    owner = world.owner(ITEMS, item)
    mine = [key for key, name in world.state[owner][NOTES].items() if name == str(item)]
    if kind == "note":
        world.insert(owner, NOTES, note, str(item))
    elif kind == "rename":
        world.update(ITEMS, item, draw(st.sampled_from("abcd")))
    elif kind == "move":
        to = draw(st.sampled_from([tenant for tenant in world.tenants if tenant != owner]))
        world.move(item, to, draw(st.none() | st.just("moved")))
    elif kind == "rekey" and free:  # ON UPDATE CASCADE: the parent first
        world.update(ITEMS, item, world.state[owner][ITEMS][item], free)
        for key in mine:
            world.update(NOTES, key, str(free))
    elif kind == "drop":  # ON DELETE CASCADE: the parent first
        world.delete(ITEMS, item)
        for key in mine:
            world.delete(NOTES, key)


def check(vault: Vault, done: Committed, position: int) -> None:
    """Every tenant at a position is as it was after a transaction."""
    at = resolve(vault, SOURCE, f"0/{position:X}")
    for tenant, tables in done.state.items():
        expected = tables_of(tables)
        past = past_at(vault, SOURCE, find_entry(vault, SOURCE, tenant, at), at)
        found = {str(name): b"".join(past.read(table)) for name, table in past.tables.items()}
        assert found == {name: b"".join(rows) for name, rows in expected.items()}, (tenant, at)
        assert past.root == swept_root(expected)


def _drop_folded(world: LogWorld) -> None:
    """What retention does when a fold is old enough: the segments go, the merged one stays."""
    listed = world.reader().objects(SOURCE)
    merged = [(item.first, item.segment) for item in listed if item.first is not None]
    for first, last in merged:
        for number in range(first, last + 1):
            world.vault.store.delete(segment_path(SOURCE, number))


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_moment_is_as_it_was(data: st.DataObject) -> None:
    """Sweeps that see less than the log has, parts, restarts, moves back and forth: nothing is lost or doubled."""
    with tempfile.TemporaryDirectory() as folder, LocalState(Path(folder) / "state") as state:
        world = LogWorld(folder_vault(Path(folder) / "vault"))
        world.vault.rows_in_chunk = 1_000_000
        world.begin()
        for _ in range(data.draw(st.integers(2, 9))):
            _transact(world, data)
            world.commit()
            ways = ["wait", "flush", "flush", "parts", "killed", "sweep", "blind", "fold", "fold and sweep away"]
            how = data.draw(st.sampled_from(ways))
            if how == "flush":
                world.flush()
            elif how in ("parts", "killed"):
                sizes = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
                if how == "killed":
                    world.flush_in_parts(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=2)), last=False)
                world.flush_in_parts(sizes)
            elif how == "sweep":
                world.sweep()
            elif how.startswith("fold"):
                world.flush()
                world.fold(state)
                if "away" in how:
                    _drop_folded(world)
            elif how == "blind" and len(world.committed) > 1:
                world.sweep(without_last=True)
        world.flush()
        vault = world.vault.vault()
        for _ in range(3):
            done = data.draw(st.sampled_from(world.committed))
            check(vault, done, done.end + data.draw(st.sampled_from([0, 50, 99])) * (done is not world.committed[-1]))
