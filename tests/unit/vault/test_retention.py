"""Retention: nothing goes in one step, holds win, what is kept can be read, and what is gone is explained."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from outlast.core.errors import NotFoundError, Refused
from outlast.core.row import KeyKind
from outlast.vault import retention
from outlast.vault.keys import key_path
from outlast.vault.marks import MarkKind
from outlast.vault.retention import RetentionPlan
from outlast.vault.run import run_path, runs
from outlast.vault.scrub import Level, scrub
from outlast.vault.undo import UndoTable, UndoWriter
from tests.vaults import SOURCE, VaultWriter, folder_vault, read_back, rows

GRACE = timedelta(days=7)
NOW = datetime.now(UTC) + timedelta(days=30)
LATER = NOW + GRACE + timedelta(hours=1)


@pytest.fixture
def writer(tmp_path: Path) -> VaultWriter:
    """Ten runs: tenant 1 changes wholly in each, tenant 2 never, tenant 3 in the first five."""
    writer = folder_vault(tmp_path / "vault")
    writer.start = datetime.now(UTC) + timedelta(days=2)  # the store's own clock is behind all runs
    writer.boxes_in_pack = 2
    for run in range(1, 11):
        writer.back_up(_state(run))
    return writer


def _state(run: int) -> dict[str, dict[str, list[bytes]]]:
    return {
        "1": {"public.items": rows(1, 20, f"version {run}")},
        "2": {"public.items": rows(1, 4)},
        "3": {"public.items": rows(1, 2 + min(run, 5))},
    }


def _do(writer: VaultWriter, plan: RetentionPlan) -> None:
    retention.execute(writer.vault(), RetentionPlan.from_json(plan.to_json()), writer.keys.signer)


def _forget(writer: VaultWriter, *numbers: int) -> None:
    _do(writer, retention.plan_forget(writer.vault(), SOURCE, numbers, now=NOW, grace=GRACE))


def _prune(writer: VaultWriter, now: datetime = LATER) -> RetentionPlan:
    plan = retention.plan_prune(writer.vault(), SOURCE, now=now, grace=GRACE)
    _do(writer, plan)
    return plan


def _right(writer: VaultWriter, *numbers: int, damage: bool = False) -> None:
    """Every tenant comes back as it was at each of these runs, and the vault scrubs clean."""
    vault = writer.vault()
    for number in numbers:
        for tenant, tables in _state(number).items():
            expected = {name: b"".join(content) for name, content in tables.items()}
            assert read_back(vault, tenant, number) == expected, (tenant, number)
    assert scrub(vault).damaged is damage, [one for one in scrub(vault).findings if one.level is Level.DAMAGE]


def test_forget_deletes_nothing_and_hides_the_runs(writer: VaultWriter) -> None:
    """After forget the runs are offered no more, every object is still there, and it can be taken back."""
    before = {item.path for item in writer.store.list()}
    _forget(writer, 1, 2, 3)
    assert before <= {item.path for item in writer.store.list()}
    assert [record.run for record in writer.vault().runs(SOURCE)] == list(range(4, 11))
    with pytest.raises(NotFoundError):
        writer.vault().resolve(SOURCE, "run:2")
    _do(writer, retention.plan_release(writer.vault(), SOURCE, 1, now=NOW))
    _right(writer, *range(1, 11))
    assert len(writer.vault().runs(SOURCE)) == 10


def test_prune_before_the_grace_period_is_over_deletes_nothing(writer: VaultWriter) -> None:
    """A plan made too early is empty."""
    _forget(writer, 1, 2, 3)
    assert _prune(writer, NOW + GRACE - timedelta(minutes=1)).is_empty
    _right(writer, *range(4, 11))


@pytest.mark.parametrize("forgotten", [(1, 2, 3, 4), (2,), (9,), (3, 4, 5, 6, 7, 8), tuple(range(1, 10))])
def test_prune_takes_what_no_kept_run_needs(writer: VaultWriter, forgotten: tuple[int, ...]) -> None:
    """Kept runs are whole, the vault scrubs clean over the gap, and it became smaller."""
    before = sum(item.size_bytes for item in writer.store.list())
    _forget(writer, *forgotten)
    plan = _prune(writer)
    assert plan.deletes
    kept = [number for number in range(1, 11) if number not in forgotten]
    _right(writer, *kept)
    assert sum(item.size_bytes for item in writer.store.list() if "/marks/" not in item.path) < before
    writer.back_up(_state(11))
    _right(writer, *kept, 11)
    assert _prune(writer, LATER + timedelta(days=1)).is_empty


def test_an_object_that_goes_without_a_mark_is_damage(writer: VaultWriter) -> None:
    """Pruning explains what it deleted, and nothing else."""
    _forget(writer, 1, 2, 3, 4)
    _prune(writer)
    entry = writer.vault().find_tenant(SOURCE, "1")
    writer.store.delete(f"{SOURCE}/{entry.prefix}/packs/{entry.head.pack}")
    assert scrub(writer.vault()).damaged


def test_a_hold_wins_over_forget_and_prune(writer: VaultWriter) -> None:
    """A held tenant keeps all its runs though they are forgotten for everybody; released, they go."""
    _forget(writer, 1, 2, 3, 4)
    entry = writer.vault().find_tenant(SOURCE, "1")
    _do(writer, retention.plan_hold(writer.vault(), SOURCE, entry=entry, now=NOW))
    _prune(writer)
    for number in (1, 2, 3, 4):
        assert read_back(writer.vault(), "1", number) == {"public.items": b"".join(_state(number)["1"]["public.items"])}
    _right(writer, *range(5, 11))
    _do(writer, retention.plan_release(writer.vault(), SOURCE, 2, now=NOW))
    _prune(writer)
    _right(writer, *range(5, 11))
    assert runs(writer.store, SOURCE)[0] == 5


def test_what_was_swept_stays_gone_whatever_is_held_or_released_later(writer: VaultWriter) -> None:
    """A hold, and a release of the forget, after the sweep do not offer again what has no objects any more."""
    _forget(writer, 3, 7)
    _prune(writer)
    entry = writer.vault().find_tenant(SOURCE, "1")
    _do(writer, retention.plan_hold(writer.vault(), SOURCE, now=LATER))
    _do(writer, retention.plan_hold(writer.vault(), SOURCE, now=LATER, entry=entry))
    _do(writer, retention.plan_release(writer.vault(), SOURCE, 1, now=LATER))
    kept = (1, 2, 4, 5, 6, 8, 9, 10)
    assert tuple(record.run for record in writer.vault().runs(SOURCE)) == kept
    with pytest.raises(NotFoundError):
        writer.vault().resolve(SOURCE, "run:3")
    _right(writer, *kept)
    _prune(writer, LATER + 2 * GRACE)
    _right(writer, *kept)


def test_one_tenants_runs_are_given_up_alone(writer: VaultWriter) -> None:
    """The others keep theirs."""
    vault = writer.vault()
    entry = vault.find_tenant(SOURCE, "1")
    _do(writer, retention.plan_forget(vault, SOURCE, (3, 4), now=NOW, grace=GRACE, entry=entry))
    with pytest.raises(NotFoundError):
        writer.vault().find_tenant(SOURCE, "1", 3)
    assert _prune(writer).deletes
    _right(writer, 1, 2, *range(5, 11))
    assert read_back(writer.vault(), "3", 3)


def test_the_newest_run_is_never_given_up(writer: VaultWriter) -> None:
    """The next backup builds on it."""
    with pytest.raises(Refused, match="newest"):
        retention.plan_forget(writer.vault(), SOURCE, (10,), now=NOW, grace=GRACE)
    plan = retention.plan_prune(writer.vault(), SOURCE, now=NOW + timedelta(days=999), grace=GRACE, keep=timedelta(0))
    assert plan.marks[0].runs == tuple(range(1, 10))


def test_before_images_go_in_two_steps(writer: VaultWriter) -> None:
    """Given up once older than what is kept, deleted after the grace period; a hold wins, and nothing is damage."""
    entry = writer.vault().find_tenant(SOURCE, "1")
    undo = UndoWriter(writer.store, SOURCE, "01abcdefg", writer.keys.signer)
    draft = undo.draft(entry.tenant, entry.prefix, entry.recipient)
    draft.tables["public.items"] = UndoTable((("id", "integer"),), ("id",), (KeyKind.INTEGER,))
    draft.add("public.items", "insert", b"1\n")
    folder = f"{SOURCE}/undo/01abcdefg"
    path = f"{folder}/{undo.write([draft], '7', 'x/1')}"

    def plan(now: datetime, days: int) -> RetentionPlan:
        return retention.plan_prune(writer.vault(), SOURCE, now=now, grace=GRACE, keep=timedelta(days=days))

    assert not any(mark.objects for mark in plan(NOW, 40).marks)
    first = plan(NOW, 20)
    (mark,) = (mark for mark in first.marks if mark.objects)
    assert (mark.objects, mark.covers(1, None), path in first.deletes) == ((folder,), False, False)
    _do(writer, first)
    assert not any(mark.objects for mark in plan(NOW, 20).marks)
    _do(writer, retention.plan_hold(writer.vault(), SOURCE, entry=entry, now=NOW))
    assert path not in plan(LATER, 20).deletes
    hold = writer.vault().ledger(SOURCE).standing(MarkKind.HOLD)[0]
    _do(writer, retention.plan_release(writer.vault(), SOURCE, hold.number, now=NOW))
    assert writer.store.exists(path)
    last = plan(LATER, 20)
    assert path in last.deletes
    assert "delete 1 before-image" in last.describe()
    data = writer.store.get(path)
    _do(writer, last)
    assert not writer.store.exists(path)
    _right(writer, 10)
    writer.store.create(path, data[:-1])  # what an interruption left is no damage, and is deleted by the next
    _right(writer, 10)


def test_erasure_takes_two_steps_and_cannot_be_undone(writer: VaultWriter) -> None:
    """Marked, then after the grace period destroyed: not even the key, put back from elsewhere, opens it again."""
    entry = writer.vault().find_tenant(SOURCE, "3")
    path = key_path(SOURCE, entry.prefix, entry.recipient)
    kept = writer.store.get(path)
    _do(writer, retention.plan_erase(writer.vault(), SOURCE, entry, now=NOW, grace=GRACE))
    assert read_back(writer.vault(), "3")
    with pytest.raises(Refused, match="grace period"):
        retention.plan_erase(writer.vault(), SOURCE, entry, now=NOW, grace=GRACE)
    _do(writer, retention.plan_erase(writer.vault(), SOURCE, entry, now=LATER, grace=GRACE))
    assert not writer.store.exists(path)
    assert not scrub(writer.vault()).damaged
    writer.store.create(path, kept)
    with pytest.raises(NotFoundError):
        read_back(writer.vault(), "3")
    with pytest.raises(NotFoundError, match="erased"):
        writer.vault().manifest(SOURCE, entry)


def test_an_erased_tenant_that_comes_again_gets_a_new_key(writer: VaultWriter) -> None:
    """Its new backups are read, its old ones are not, and pruning takes the old ones away."""
    entry = writer.vault().find_tenant(SOURCE, "3")
    for now in (NOW, LATER):
        _do(writer, retention.plan_erase(writer.vault(), SOURCE, entry, now=now, grace=GRACE))
    writer.back_up({**_state(10), "3": {"public.items": rows(1, 5)}})
    again = writer.vault().find_tenant(SOURCE, "3")
    assert again.recipient != entry.recipient
    assert read_back(writer.vault(), "3") == {"public.items": b"".join(rows(1, 5))}
    with pytest.raises(NotFoundError):
        writer.vault().find_tenant(SOURCE, "3", 9)
    assert any(entry.head.pack in path for path in _prune(writer).deletes)
    assert read_back(writer.vault(), "3") == {"public.items": b"".join(rows(1, 5))}
    assert not scrub(writer.vault()).damaged


def test_a_tenant_on_hold_is_not_erased(writer: VaultWriter) -> None:
    """Neither marked nor destroyed."""
    entry = writer.vault().find_tenant(SOURCE, "3")
    _do(writer, retention.plan_erase(writer.vault(), SOURCE, entry, now=NOW, grace=GRACE))
    _do(writer, retention.plan_hold(writer.vault(), SOURCE, entry=entry, now=NOW))
    with pytest.raises(Refused, match="on hold"):
        retention.plan_erase(writer.vault(), SOURCE, entry, now=LATER, grace=GRACE)


def test_a_plan_that_no_longer_holds_is_refused(writer: VaultWriter) -> None:
    """A hold set after a prune was planned stops that prune."""
    _forget(writer, 1, 2, 3, 4)
    plan = retention.plan_prune(writer.vault(), SOURCE, now=LATER, grace=GRACE)
    entry = writer.vault().find_tenant(SOURCE, "1")
    _do(writer, retention.plan_hold(writer.vault(), SOURCE, entry=entry, now=NOW))
    with pytest.raises(Refused, match="changed since"):
        _do(writer, plan)
    assert writer.store.exists(run_path(SOURCE, 1))


def test_leftovers_go_once_a_later_backup_has_passed_them_by(writer: VaultWriter) -> None:
    """A pack of an interrupted backup stays while the next could take it up, and goes after that."""
    entry = writer.vault().find_tenant(SOURCE, "1")
    left = f"{SOURCE}/{entry.prefix}/packs/{'0' * 64}"
    writer.store.create(left, b"left over")
    assert left in _prune(writer).deletes
    writer.start = datetime.now(UTC) - timedelta(days=400)
    writer.back_up(_state(11))
    writer.store.create(left, b"left over")
    assert left not in _prune(writer).deletes
