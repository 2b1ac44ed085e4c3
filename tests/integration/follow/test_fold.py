"""Folding what a real follower wrote: the same moments before and after, and the roots that a sweep gives."""

from __future__ import annotations

import pytest

from outlast.capture.backup import BackupOptions, backup
from outlast.capture.fold import FoldResult, fold
from outlast.core.errors import OutlastError
from outlast.core.tenant import SCHEMA as SCHEMA_TENANT
from outlast.state.local import LocalState
from outlast.vault.log import LogReader
from outlast.vault.scrub import scrub
from outlast.vault.segment import segment_path
from tests.fault.faults import FaultyStore, counted
from tests.integration.follow.conftest import Factory, Followed
from tests.integration.follow.test_routing import CHANGES, OWNERS, SCHEMA
from tests.integration.follow.truth import Truth, compared
from tests.servers import Server

SMALL = """
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE task (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, body text);
INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, 40) n;
INSERT INTO task SELECT n, 1 + n % 40, 'task ' || n FROM generate_series(1, 400) n;
"""
SMALL_OWNERS = {"public.account": "t.id", "public.task": "t.account_id"}


def _fold(one: Followed) -> FoldResult:
    with LocalState(one.folder / "state") as state:
        return fold(one.vault(), "main", one.keys, state)


def _drop_folded(one: Followed) -> None:
    """What `prune` does in the end."""
    for item in LogReader(one.store, one.pin.signers).objects("main"):
        if item.first is not None:
            for number in range(item.first, item.segment + 1):
                one.store.delete(segment_path("main", number))


def _every_moment_survives(one: Followed) -> None:
    truth = Truth(one.url, OWNERS)
    parts = [CHANGES[:25], CHANGES[25:45], CHANGES[45:]]
    noted = 0
    for number, part in enumerate(parts):
        one.drain()
        for change in part:
            one.execute(change)
            noted += 1
            if noted % 4 == 0 or change is part[-1]:
                truth.note()
        one.drain()
        if number == 1:
            with LocalState(one.folder / "state") as state:
                backup(one.place(state))
        else:
            assert _fold(one).run is not None
            _drop_folded(one)
    compared(one.vault(), truth)
    assert not [finding for finding in scrub(one.vault()).findings if finding.level.value == "damage"]
    _is_what_a_sweep_gives(one)


def _is_what_a_sweep_gives(one: Followed) -> None:
    """A backup that reads everything finds every tenant's root to be the one that the fold computed."""
    vault = one.vault()
    before = {entry.tenant.key: vault.manifest("main", entry).root for entry in vault.entries("main")}
    with LocalState(one.folder / "state") as state:
        backup(one.place(state), BackupOptions(full=True, jobs=1))
    vault = one.vault()
    after = {entry.tenant.key: vault.manifest("main", entry).root for entry in vault.entries("main")}
    del before[SCHEMA_TENANT], after[SCHEMA_TENANT]
    assert after == before


def test_every_moment_survives_folding(database: str, followed: Factory) -> None:
    """Moves, cascades, key changes, partitions and TOAST: folded twice around a backup, and the segments gone."""
    _every_moment_survives(followed(database, SCHEMA))


@pytest.mark.system
def test_every_moment_survives_folding_on_15(debian_server: Server, followed: Factory) -> None:
    with debian_server.new_database() as url:
        _every_moment_survives(followed(url, SCHEMA))


def test_a_fold_follows_change(database: str, followed: Factory) -> None:
    """Of 40 tenants 3 changed: three packs, a run record and the merged segment are written; the next backup reads only
    the tables of those three again, and an idle fold writes nothing."""
    one = followed(database, SMALL)
    one.drain()
    one.execute("UPDATE task SET body = 'changed' WHERE account_id IN (7, 8, 9)")
    one.drain()
    before = {item.path for item in one.store.list("main/")}
    result = _fold(one)
    fresh = {item.path for item in one.store.list("main/")} - before
    assert (result.tenants, len([path for path in fresh if "/packs/" in path])) == (3, 3)
    assert len(fresh) == 5
    assert _fold(one).waiting
    one.execute("INSERT INTO task VALUES (1000, 10, 'after the fold')")
    with LocalState(one.folder / "state") as state:
        done = backup(one.place(state))
    assert done.rows_read <= 4 * 11
    assert done.written == 1


def test_a_tenant_that_vanishes_after_a_fold_is_gone_in_the_next_backup(database: str, followed: Factory) -> None:
    """All of its tables were folded, so nothing of it was seen by a census: it is missed all the same."""
    one = followed(database, SMALL)
    one.drain()
    one.execute("UPDATE account SET name = 'last' WHERE id = 5; UPDATE task SET body = 'last' WHERE account_id = 5")
    one.drain()
    assert _fold(one).tenants == 1
    one.execute("DELETE FROM task WHERE account_id = 5; DELETE FROM account WHERE id = 5")
    with LocalState(one.folder / "state") as state:
        backup(one.place(state))
    vault = one.vault()
    assert not vault.manifest("main", vault.find_tenant("main", "5")).tables


def test_a_fold_that_is_interrupted_anywhere_harms_nothing(database: str, followed: Factory) -> None:
    """Whichever request to the store fails, once or for good: every moment stays, and the next fold finishes."""
    one = followed(database, SMALL)
    one.drain()
    truth = Truth(one.url, SMALL_OWNERS)
    one.execute("UPDATE task SET body = 'changed' WHERE account_id IN (7, 8)")
    truth.note()
    one.execute("DELETE FROM task WHERE account_id = 8")
    truth.note()
    one.drain()
    folded = 0
    for fault in counted(step=3):
        vault = one.vault()
        vault.store = FaultyStore(vault.store, fault, lambda what: OutlastError(f"injected: {what}"))
        with LocalState(one.folder / "state") as state:
            try:
                folded += fold(vault, "main", one.keys, state).run is not None
            except OutlastError:
                if fault.at % 2:
                    compared(one.vault(), truth)
    _drop_folded(one)
    compared(one.vault(), truth)
    one.execute("INSERT INTO task VALUES (1001, 11, 'later')")
    truth.note()
    one.drain()
    assert _fold(one).run is not None
    compared(one.vault(), truth)
