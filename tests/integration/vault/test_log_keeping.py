"""The log in scrubbing and retention: what is wrong is named, what is needed stays, what is gone is explained."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outlast.core.errors import NotFoundError, OutlastError, Refused
from outlast.restore.history import find_entry, past_at, resolve
from outlast.state.local import LocalState
from outlast.vault.retention import execute, plan_erase, plan_forget, plan_hold, plan_prune
from outlast.vault.run import run_path
from outlast.vault.scrub import Anchor, Finding, scrub
from outlast.vault.segment import segment_path
from outlast.vault.store import Store
from tests.logs import ITEMS, NOTES, Committed, LogWorld, tables_of
from tests.vaults import SOURCE, folder_vault

GRACE = timedelta(days=7)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[LocalState]:
    with LocalState(tmp_path / "state") as state:
        yield state


@pytest.fixture
def world(tmp_path: Path) -> LogWorld:
    """Run 1, three transactions in two segments."""
    world = LogWorld(folder_vault(tmp_path / "vault"))
    world.vault.rows_in_chunk = 1_000_000
    world.insert("1", ITEMS, 1, "a")
    world.insert("2", ITEMS, 2, "b")
    world._changes.clear()
    world.begin()
    world.insert("1", NOTES, 10, "1")
    world.commit()
    world.flush()
    world.update(ITEMS, 1, "changed")
    world.commit()
    world.move(1, "3")
    world.commit()
    world.flush()
    return world


def _later(days: float = 30) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def _check(world: LogWorld, done: Committed) -> None:
    vault = world.vault.vault()
    at = resolve(vault, SOURCE, f"0/{done.end:X}")
    for tenant, tables in done.state.items():
        past = past_at(vault, SOURCE, find_entry(vault, SOURCE, tenant, at), at)
        found = {str(name): b"".join(past.read(table)) for name, table in past.tables.items()}
        assert found == {name: b"".join(rows) for name, rows in tables_of(tables).items()}


def _damage(world: LogWorld, **options: object) -> list[Finding]:
    report = scrub(world.vault.vault(), **options)  # type: ignore[arg-type]
    return [finding for finding in report.findings if finding.level.value == "damage"]


def _paths(world: LogWorld) -> list[str]:
    return [item.path for item in world.vault.store.list(f"{SOURCE}/log/")]


def test_a_whole_log_has_no_damage(world: LogWorld, state: LocalState) -> None:
    """As it was written, folded, and with the segments that were folded still there."""
    assert not _damage(world)
    world.fold(state)
    assert not _damage(world)


@pytest.mark.parametrize("folded", [False, True], ids=["segments", "merged"])
def test_every_byte_of_the_log_counts(world: LogWorld, state: LocalState, folded: bool) -> None:
    """A flipped byte anywhere in a segment is found, and its path named; with a key and without one."""
    if folded:
        world.fold(state)
    path = _paths(world)[-1]
    whole = world.vault.store.get(path)
    for place in range(0, len(whole), 41):
        world.vault.store.delete(path)
        world.vault.store.create(path, whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        assert path in [finding.path for finding in _damage(world)], place
    world.vault.store.delete(path)
    world.vault.store.create(path, whole)
    keyless = scrub(world.vault.vault(identity=False))
    assert not keyless.damaged


def test_a_dropped_segment_is_named(world: LogWorld, state: LocalState) -> None:
    """Whichever segment is gone: one in the middle or the first shows by itself, the newest by what was seen."""
    anchor = scrub(world.vault.vault()).newest[SOURCE]
    for number in (1, 2, 3):
        path = segment_path(SOURCE, number)
        data = world.vault.store.get(path)
        world.vault.store.delete(path)
        assert path in [finding.path for finding in _damage(world, expect={SOURCE: anchor})]
        world.vault.store.create(path, data)
    assert not _damage(world, expect={SOURCE: anchor})
    world.fold(state)
    for number in (1, 2, 3):
        world.vault.store.delete(segment_path(SOURCE, number))
    assert not _damage(world)
    world.vault.store.delete(_paths(world)[0])  # the merged one: the run that was folded from it knows
    assert [finding.code for finding in _damage(world)] == ["rolled-back"]


def test_a_swapped_segment_is_named(world: LogWorld, tmp_path: Path) -> None:
    """A genuine segment of an earlier try in the newest one's place is told by the anchor."""
    anchor = scrub(world.vault.vault()).newest[SOURCE]
    path = segment_path(SOURCE, 3)
    other = LogWorld(world.vault)
    header = world.reader().headers(SOURCE)[1]
    world.vault.store.delete(path)
    other.end = type(world.end)(2, header.digest)
    other.base_run, other._at, other._written = 1, header.position.value, header.position.value
    other.commit()
    other.flush()
    assert not [finding for finding in _damage(world) if "log" in finding.path]
    assert "replaced" in [finding.code for finding in _damage(world, expect={SOURCE: anchor})]


def test_a_dropped_mark_is_noticed(world: LogWorld, state: LocalState) -> None:
    """A run names the newest mark that it saw: taking that away un-holds nothing in silence."""
    vault = world.vault.vault()
    execute(vault, plan_hold(vault, SOURCE, now=datetime.now(UTC)), world.vault.keys.signer)
    world.fold(state)
    assert not _damage(world)
    mark = next(item.path for item in world.vault.store.list(f"{SOURCE}/marks/"))
    world.vault.store.delete(mark)
    found = _damage(world)
    assert [(finding.code, finding.path) for finding in found] == [("rolled-back", mark)]
    assert "run 2" in found[0].message


def test_folded_segments_go_after_the_grace_period(world: LogWorld, state: LocalState) -> None:
    """`prune` takes the segments that were folded, and every moment stays."""
    world.fold(state)
    vault = world.vault.vault()
    assert plan_prune(vault, SOURCE, now=datetime.now(UTC), grace=GRACE).is_empty
    plan = plan_prune(vault, SOURCE, now=_later(8), grace=GRACE)
    assert plan.deletes == tuple(segment_path(SOURCE, number) for number in (1, 2, 3))
    execute(vault, plan, world.vault.keys.signer)
    assert len(_paths(world)) == 1
    for done in world.committed:
        _check(world, done)
    assert not _damage(world)


def test_the_log_goes_with_the_runs_that_it_carries_forward(world: LogWorld, state: LocalState) -> None:
    """Once no run before it is kept, the merged segment goes, and what is gone is refused by name."""
    world.fold(state)
    world.delete(ITEMS, 2)
    world.commit()
    world.flush()
    world.clock += timedelta(days=1)
    world.sweep()
    vault = world.vault.vault()
    now = datetime.now(UTC)
    execute(vault, plan_forget(vault, SOURCE, [1, 2], now=now, grace=GRACE), world.vault.keys.signer)
    vault = world.vault.vault()
    execute(vault, plan_prune(vault, SOURCE, now=_later(8), grace=GRACE), world.vault.keys.signer)
    assert _paths(world) == [segment_path(SOURCE, 4)]
    assert not world.vault.store.exists(run_path(SOURCE, 1))
    assert not _damage(world)
    with pytest.raises(NotFoundError):
        _check(world, world.committed[0])
    world.insert("2", ITEMS, 9, "goes on")
    done = world.commit()
    world.flush()
    _check(world, done)


def test_a_hold_keeps_the_log(world: LogWorld, state: LocalState) -> None:
    """What a held run needs to be carried forward stays, though the run was forgotten."""
    world.fold(state)
    vault, now = world.vault.vault(), datetime.now(UTC)
    execute(vault, plan_forget(vault, SOURCE, [1], now=now, grace=GRACE), world.vault.keys.signer)
    vault = world.vault.vault()
    execute(vault, plan_hold(vault, SOURCE, now=now, numbers=[1]), world.vault.keys.signer)
    vault = world.vault.vault()
    execute(vault, plan_prune(vault, SOURCE, now=_later(8), grace=GRACE), world.vault.keys.signer)
    for done in world.committed:
        _check(world, done)


def test_a_tenant_that_only_the_log_knows_keeps_its_key(tmp_path: Path) -> None:
    """The key that its frames are sealed to is no leftover, even where the next run gave the tenant another."""
    world = LogWorld(folder_vault(tmp_path / "vault"), tenants=("1",))
    world.begin()
    world.state["9"] = {ITEMS: {}, NOTES: {}}
    world.insert("9", ITEMS, 5, "new")
    done = world.commit()
    world.flush()
    world.clock = _later(20)
    world.sweep()
    world.update(ITEMS, 5, "newer")
    last = world.commit()
    world.flush()
    vault = world.vault.vault()
    plan = plan_prune(vault, SOURCE, now=_later(40), grace=GRACE)
    assert plan.is_empty, plan.deletes
    _check(world, done)
    _check(world, last)


def test_a_key_that_only_the_follower_knows_outlives_the_log(tmp_path: Path) -> None:
    """A tenant that the log met first, and that was quiet since: the follower still seals to the key it made then."""
    world = LogWorld(folder_vault(tmp_path / "vault"), tenants=("1",))
    world.begin()
    world.state["9"] = {ITEMS: {}, NOTES: {}}
    world.insert("9", ITEMS, 5, "comes")
    world.commit()
    world.delete(ITEMS, 5)
    world.commit()
    world.flush()
    world.insert("1", ITEMS, 1, "of another tenant")
    world.commit()
    world.flush()
    world.clock += timedelta(days=1)
    del world.state["9"]
    world.sweep()
    vault = world.vault.vault()
    execute(vault, plan_forget(vault, SOURCE, [1], now=datetime.now(UTC), grace=GRACE), world.vault.keys.signer)
    world.clock = _later(20)
    world.sweep()
    vault = world.vault.vault()
    execute(vault, plan_prune(vault, SOURCE, now=_later(40), grace=GRACE), world.vault.keys.signer)
    assert segment_path(SOURCE, 2) not in _paths(world)
    world.state["9"] = {ITEMS: {}, NOTES: {}}
    world._named.discard("9")
    world.insert("9", ITEMS, 6, "comes again")
    done = world.commit()
    world.flush()
    _check(world, done)


def test_what_a_backup_did_not_see_of_a_folded_log_is_in_the_next_fold(world: LogWorld, state: LocalState) -> None:
    """A commit that waits for a standby: folded, then swept without it. No later segment names its tenant."""
    world.update(ITEMS, 2, "waits")
    world.commit()
    world.flush()
    world.fold(state)
    world.sweep(without_last=True)
    world.insert("1", NOTES, 11, "of another tenant")
    done = world.commit()
    world.flush()
    world.fold(state)
    _check(world, done)


def test_the_log_stays_for_a_run_that_did_not_see_all_of_it(world: LogWorld) -> None:
    """A commit that waits for a standby lies before the run in the log, and only the log has it."""
    world.update(ITEMS, 2, "waits")
    done = world.commit()
    world.flush()
    world.clock += timedelta(days=1)
    world.sweep(without_last=True)
    world.insert("1", NOTES, 11, "of another tenant")
    world.commit()
    world.flush()
    vault = world.vault.vault()
    execute(vault, plan_forget(vault, SOURCE, [1], now=datetime.now(UTC), grace=GRACE), world.vault.keys.signer)
    vault = world.vault.vault()
    execute(vault, plan_prune(vault, SOURCE, now=_later(8), grace=GRACE), world.vault.keys.signer)
    _check(world, done)


def test_an_erasure_waits_for_the_fold_of_what_was_given_away(world: LogWorld, state: LocalState) -> None:
    """A row that went to another tenant lies in the giver's log, until a fold writes it into the receiver's."""
    vault = world.vault.vault()
    entry = vault.find_tenant(SOURCE, "1")
    mark = plan_erase(vault, SOURCE, entry, now=datetime.now(UTC), grace=GRACE)
    execute(vault, mark, world.vault.keys.signer)
    with pytest.raises(Refused, match="rows went from tenant 1") as caught:
        plan_erase(world.vault.vault(), SOURCE, entry, now=_later(8), grace=GRACE)
    assert caught.value.code == "unfolded"
    world.fold(state)
    vault = world.vault.vault()
    execute(vault, plan_erase(vault, SOURCE, entry, now=_later(8), grace=GRACE), world.vault.keys.signer)
    vault, last = world.vault.vault(), world.committed[-1]
    at = resolve(vault, SOURCE, f"0/{last.end:X}")
    past = past_at(vault, SOURCE, find_entry(vault, SOURCE, "3", at), at)
    assert b"".join(past.read(past.tables[ITEMS])) == b"1\tchanged\n"
    with pytest.raises(NotFoundError):
        past_at(vault, SOURCE, find_entry(vault, SOURCE, "1", at), at)
    assert not _damage(world)


@pytest.mark.parametrize("between", [True, False], ids=["folded-between", "folded-later"])
def test_an_erased_tenant_that_came_back_stops_no_fold(world: LogWorld, state: LocalState, between: bool) -> None:
    """Frames under its destroyed key are passed over; the next backup takes it in under a new one."""
    world.fold(state)
    world.insert("2", ITEMS, 20, "before the erasure")
    world.commit()
    world.flush()
    vault = world.vault.vault()
    entry = vault.find_tenant(SOURCE, "2")
    execute(vault, plan_erase(vault, SOURCE, entry, now=datetime.now(UTC), grace=GRACE), world.vault.keys.signer)
    vault = world.vault.vault()
    execute(vault, plan_erase(vault, SOURCE, entry, now=_later(8), grace=GRACE), world.vault.keys.signer)
    world.insert("1", ITEMS, 21, "others go on")
    world.commit()
    world.flush()
    assert not between or world.fold(state).run is not None
    world.vault.manifests.pop("2", None)
    world.recipients.clear()
    world.sweep()
    world.insert("2", ITEMS, 22, "after it")
    last = world.commit()
    world.flush()
    assert world.fold(state).run is not None
    _check(world, last)
    assert not _damage(world)


class _Recording:
    """Notes what is asked of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.asked: list[tuple[str, str]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def get(self, path: str) -> bytes:
        self.asked.append(("get", path))
        return self._store.get(path)

    def get_range(self, path: str, offset: int, length: int) -> bytes:
        self.asked.append(("range", path))
        return self._store.get_range(path, offset, length)


@pytest.mark.parametrize("folded", [False, True], ids=["segments", "folded"])
def test_a_moment_of_one_tenant_reads_that_tenant(world: LogWorld, state: LocalState, folded: bool) -> None:
    """Of 30 segments in which others changed: their headers, this tenant's frames, and its own folder."""
    for number in range(30):
        world.insert("2", ITEMS, 100 + number, "busy")
        world.commit()
        if number % 10 == 9:
            world.insert("3", NOTES, 200 + number, "1")
            world.commit()
        world.flush()
    if folded:
        world.fold(state)
    vault = world.vault.vault()
    vault.store = store = _Recording(vault.store)  # type: ignore[assignment]
    at = resolve(vault, SOURCE, "latest" if not folded else f"0/{world.committed[-2].end:X}")
    past_at(vault, SOURCE, find_entry(vault, SOURCE, "3", at), at)
    folders = {path.split("/")[1] for _, path in store.asked} - {"runs", "marks", "log"}
    givers = {world.vault.prefix("1")}  # gave it a row
    assert folders - givers == {world.vault.prefix("3")}
    ranges = [path for how, path in store.asked if "/log/" in path]
    assert not [path for how, path in store.asked if how == "get" and "/log/" in path]
    assert len(ranges) <= (33 + 4 + 3 if not folded else 2), ranges


def test_an_anchor_of_before_the_log_still_counts(world: LogWorld) -> None:
    """An anchor of an older Outlast knows no segment."""
    anchor = Anchor(1, None)
    assert not _damage(world, expect={SOURCE: anchor})
    with pytest.raises(OutlastError):
        resolve(world.vault.vault(), SOURCE, "before:1")
