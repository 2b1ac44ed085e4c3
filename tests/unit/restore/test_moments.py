"""What a moment that somebody names comes to, and which are refused."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from outlast.core.errors import NotFoundError, Refused, UsageError
from outlast.core.moment import Lsn
from outlast.restore.coverage import followed
from outlast.restore.history import At, find_entries, find_entry, past_at, resolve
from tests.logs import ITEMS, NOTES, LogWorld
from tests.vaults import SOURCE, START, folder_vault


@pytest.fixture
def world(tmp_path: Path) -> LogWorld:
    """Run 1; then one transaction a second, 701 to 705, in two segments."""
    world = LogWorld(folder_vault(tmp_path / "vault"))
    world.vault.rows_in_chunk = 1_000_000
    world.vault.labels["1"] = "acme"
    world.begin()
    for number in range(1, 6):
        world.insert("1", ITEMS, number, "a")
        world.commit()
        if number == 2:
            world.flush()
    world.flush()
    return world


def _at(world: LogWorld, text: str) -> At:
    return resolve(world.vault.vault(), SOURCE, text)


def _items(world: LogWorld, at: At, tenant: str = "1") -> list[bytes]:
    vault = world.vault.vault()
    past = past_at(vault, SOURCE, find_entry(vault, SOURCE, tenant, at), at)
    table = past.tables.get(ITEMS)
    return [] if table is None else b"".join(past.read(table)).splitlines()


def test_the_latest_moment_is_the_end_of_the_log(world: LogWorld) -> None:
    """And, once a later backup stands, that backup."""
    at = _at(world, "latest")
    assert (at.position, at.run.run) == (Lsn(world.committed[-1].end), 1)
    assert "the end of the log" in at.told
    assert len(_items(world, at)) == 5
    world.clock += timedelta(minutes=1)
    world.sweep()
    assert (_at(world, "latest").position, _at(world, "latest").run.run) == (None, 2)


def test_a_timestamp_is_just_before_the_first_transaction_after_it(world: LogWorld) -> None:
    for seconds in (1, 2, 3, 4):
        at = _at(world, (START + timedelta(seconds=seconds, milliseconds=500)).isoformat())
        assert len(_items(world, at)) == seconds, at.told
    assert "just before transaction 704" in _at(world, (START + timedelta(seconds=3)).isoformat()).told


def test_a_timestamp_past_the_log_is_its_end_and_says_so(world: LogWorld) -> None:
    at = _at(world, "2030-01-01T00:00:00Z")
    assert at.position == Lsn(world.committed[-1].end)
    assert "nothing is known of 2030-01-01" in at.told


def test_a_timestamp_before_the_log_takes_a_run(world: LogWorld) -> None:
    assert _at(world, START.isoformat()).run.run == 1
    with pytest.raises(NotFoundError, match="the first backup"):
        _at(world, (START - timedelta(days=1)).isoformat())


def test_a_clock_that_went_back_is_told(world: LogWorld) -> None:
    """The moment is by log order; the later transactions with earlier times are counted, and an LSN named for them."""
    world.insert("1", ITEMS, 6, "late")
    jumped = world.commit(START + timedelta(seconds=1, milliseconds=200))
    world.flush()
    at = _at(world, (START + timedelta(seconds=1, milliseconds=500)).isoformat())
    assert len(_items(world, at)) == 1
    assert "the clock went back: 1 later transactions carry times up to then as well" in at.told
    assert f"--at {Lsn(jumped.end)})" in at.told
    assert len(_items(world, _at(world, str(Lsn(jumped.end))))) == 6


def test_before_a_transaction(world: LogWorld) -> None:
    at = _at(world, "before:703")
    assert len(_items(world, at)) == 2
    assert "just before transaction 703" in at.told
    with pytest.raises(NotFoundError, match="no transaction 999"):
        _at(world, "before:999")
    with pytest.raises(UsageError):
        _at(world, "before:yesterday")


def test_a_number_of_32_bits_that_came_round_is_refused(world: LogWorld) -> None:
    """A whole number is exact; 32 bits are taken where one transaction has them, and refused where several do."""
    world._xid = (1 << 32) + 702
    for number in (6, 7):
        world.insert("1", ITEMS, number, "next round")
        world.commit()
    world.flush()
    assert len(_items(world, _at(world, f"before:{(1 << 32) + 703}"))) == 5
    assert len(_items(world, _at(world, "before:703"))) == 2
    world._xid = (5 << 32) + 800
    world.insert("1", ITEMS, 8, "only once")
    world.commit()
    world.flush()
    assert len(_items(world, _at(world, "before:801"))) == 7
    world._xid = (6 << 32) + 800
    world.insert("1", ITEMS, 9, "twice")
    world.commit()
    world.flush()
    with pytest.raises(UsageError, match="ambiguous") as caught:
        _at(world, "before:801")
    assert f"before:{(6 << 32) + 801}" in str(caught.value.hint)


def test_an_lsn_between_two_transactions(world: LogWorld) -> None:
    second, third = world.committed[1], world.committed[2]
    for position in (second.end, second.end + 1, third.commit, third.end - 1):
        assert len(_items(world, _at(world, str(Lsn(position))))) == 2
    assert len(_items(world, _at(world, str(Lsn(third.end))))) == 3


def test_what_the_log_missed_is_refused_with_the_nearest_moments(world: LogWorld) -> None:
    """Before it and after the next backup any moment is exact; between them none is, and `latest` is the last exact."""
    world.gap("a partition was detached")
    world.insert("1", ITEMS, 6, "in doubt")
    doubtful = world.commit()
    world.flush()
    with pytest.raises(Refused, match="a partition was detached") as caught:
        _items(world, _at(world, str(Lsn(doubtful.end))))
    assert caught.value.code == "inexact"
    assert f"before it --at {Lsn(world.committed[-2].end)}" in str(caught.value.hint)
    assert "none yet" in str(caught.value.hint)
    latest = _at(world, "latest")
    assert len(_items(world, latest)) == 5
    assert "the newest exact moment" in latest.told
    world.sweep()
    world.insert("1", ITEMS, 7, "sure again")
    last = world.commit()
    world.flush()
    assert len(_items(world, _at(world, "latest"))) == 7
    assert len(_items(world, _at(world, str(Lsn(last.end))))) == 7
    stretches = followed(world.vault.vault(), SOURCE)
    assert [(one.since.value, one.until.value) for one in stretches] == [
        (1000, world.committed[-3].end),
        (doubtful.end, last.end),
    ]


def test_a_backup_after_a_gap_is_the_latest_before_the_log_reaches_it(world: LogWorld) -> None:
    """The server had written a little more than the log has when the backup was made, by a clock that agrees."""
    world.gap("a partition was detached")
    world.insert("1", ITEMS, 6, "in doubt")
    world.commit()
    world.flush()
    world._at += 50
    run = world.sweep()
    latest = _at(world, "latest")
    assert (latest.position, latest.run.run) == (None, run)
    assert "later than the newest exact moment" in latest.told
    assert len(_items(world, latest)) == 6


def test_a_column_that_was_added_is_there_from_then_on(world: LogWorld) -> None:
    """Rows of before have NULL in it, also those of tenants that the log does not name; moments of before have not."""
    world.insert("2", ITEMS, 50, "untouched")
    world.commit()
    world.flush()
    world.sweep()
    world.add_column(ITEMS)
    world.insert("1", ITEMS, 6, "with it")
    done = world.commit()
    world.flush()
    after = _at(world, str(Lsn(done.end)))
    assert _items(world, after)[-1] == b"6\twith it\t\\N"
    assert _items(world, after, "2") == [b"50\tuntouched\t\\N"]
    assert _items(world, _at(world, f"before:{done.xid}"), "2") == [b"50\tuntouched"]


def test_columns_that_nobody_told_of_are_refused(world: LogWorld) -> None:
    world.insert("1", ITEMS, 6, "known")
    world.commit()
    world.add_column(ITEMS)
    world._schema.clear()
    world.insert("1", ITEMS, 7, "unknown")
    done = world.commit()
    world.flush()
    with pytest.raises(Refused, match="has other columns"):
        _items(world, _at(world, str(Lsn(done.end))))


def test_a_tenant_of_the_log_alone_is_found(world: LogWorld) -> None:
    """By key and by label, together with those that the run has; unknown names are all told."""
    world.vault.labels["9"] = "new-one"
    world.state["9"] = {ITEMS: {}, NOTES: {}}
    world.insert("9", ITEMS, 60, "first")
    world.commit()
    world.flush()
    vault, at = world.vault.vault(), _at(world, "latest")
    assert [one.tenant.key for one in find_entries(vault, SOURCE, ["new-one", "acme", "9"], at)] == ["9", "1", "9"]
    assert _items(world, at, "new-one") == [b"60\tfirst"]
    with pytest.raises(NotFoundError, match="nobody"):
        find_entry(vault, SOURCE, "nobody", at)


def test_a_run_is_the_run(world: LogWorld) -> None:
    at = _at(world, "run:1")
    assert (at.position, at.text, at.told[:5]) == (None, "run:1", "run 1")
