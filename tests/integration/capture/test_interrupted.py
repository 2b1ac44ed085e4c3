"""Backups that end early, hosts that lose their state, hosts that meet."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta

import pytest

from outlast.capture import backup as module
from outlast.capture import records
from outlast.capture.backup import backup
from outlast.capture.workers import Workers
from outlast.core.errors import NotFoundError, OutlastError, Refused, VaultError
from outlast.state.local import LocalState, WriterLock
from outlast.vault.run import commit_run
from outlast.vault.signature import Signer
from outlast.vault.store import Store
from tests.integration.capture.conftest import Shop
from tests.integration.capture.test_incremental import all_as_live


class StoppedError(Exception):
    """The process ends here."""


def test_packs_that_an_interrupted_backup_put_are_taken_up_by_the_next(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before its record, a backup did not happen; the next one reads and writes only what is left."""

    def stop(*_: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(module, "commit_run", stop)
        with pytest.raises(StoppedError):
            shop.back_up()
    assert shop.vault().index("main").run == 0
    shop.execute("UPDATE task SET body = 'x' WHERE id = 7")
    result = shop.back_up()
    assert result.run == 1
    assert result.rows_read == 1 + 10 + 500  # the one tenant that changed since
    all_as_live(shop)
    assert shop.back_up().objects == 1


def test_a_backup_whose_record_stands_is_never_repeated(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped right after its record, a backup did happen; the next one knows what it saw."""
    real = commit_run

    def stop(store: Store, source: str, run: int, data: bytes) -> None:
        real(store, source, run, data)
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(module, "commit_run", stop)
        with pytest.raises(StoppedError):
            shop.back_up()
    result = shop.back_up()
    assert (result.run, result.rows_read, result.objects) == (2, 0, 1)
    all_as_live(shop)


def test_lost_state_costs_a_full_read_and_nothing_else(shop: Shop) -> None:
    """Without state.sqlite everything is read again, into the same tenants' folders and under their keys."""
    first = shop.back_up()
    keys = sorted(one.path for one in shop.store.list() if "/keys/" in one.path)
    for file in (shop.folder / "state").glob("state.sqlite*"):
        file.unlink()
    result = shop.back_up()
    assert (result.run, result.rows_read) == (2, first.rows)
    assert sorted(one.path for one in shop.store.list() if "/keys/" in one.path) == keys
    all_as_live(shop)


def test_two_hosts_take_turns(shop: Shop) -> None:
    """A host whose state stands for another run than the vault's newest trusts nothing that it remembers."""
    shop.back_up()
    home = shop.folder
    shop.folder = home / "other"
    shop.execute("UPDATE task SET body = 'other' WHERE id = 8")
    shop.back_up()
    shop.folder = home
    shop.execute("UPDATE task SET body = 'home' WHERE id = 9")
    shop.back_up()
    all_as_live(shop)
    assert shop.vault().index("main").run == 3


def test_the_second_of_two_writers_at_once_is_told(shop: Shop) -> None:
    """On one host before any work; on two, by the number of the run."""
    with (
        LocalState(shop.folder / "state") as state,
        WriterLock(state.directory, "main"),
        pytest.raises(Refused, match="process"),
    ):
        shop.back_up()


def test_two_hosts_at_once_give_one_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's number is the lock: the later host is refused, and its next backup succeeds."""
    real = commit_run

    def late(store: Store, source: str, run: int, data: bytes) -> None:
        monkeypatch.setattr(module, "commit_run", real)
        home = shop.folder
        shop.folder = home / "other"
        shop.back_up()
        shop.folder = home
        real(store, source, run, data)

    monkeypatch.setattr(module, "commit_run", late)
    with pytest.raises(Refused, match="another backup"):
        shop.back_up()
    assert shop.back_up().run == 2
    all_as_live(shop)


@pytest.mark.parametrize("dead", [True, False])
def test_a_killed_worker_is_one_clear_error(dead: bool, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent hears of a worker that the system killed, before it was given its part or after it, and the vault is
    as it was."""
    monkeypatch.setattr(module, "PARALLEL_BYTES_MIN", 0)
    real = Workers.run

    def kill(self: Workers, *arguments: object) -> None:
        self._processes[0].kill()
        if dead:
            self._processes[0].join()
        real(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Workers, "run", kill)
    with pytest.raises(OutlastError, match="killed"):
        shop.back_up()
    monkeypatch.undo()
    shop.back_up()
    all_as_live(shop)


def test_a_store_that_fails_is_one_clear_error_and_the_earlier_run_stays(shop: Shop) -> None:
    """Whatever object cannot be written, the run before is what the vault holds."""
    shop.back_up()
    shop.execute("UPDATE task SET body = 'x'")

    class Full:
        url = shop.store.url

        def __getattr__(self, name: str) -> object:
            return getattr(shop.store, name)

        def create(self, path: str, data: bytes) -> None:
            raise VaultError(f"cannot write {path}: the disk is full")

    with pytest.raises(VaultError, match="full"):
        shop.back_up(store=Full())  # type: ignore[arg-type]
    assert shop.vault().index("main").run == 1
    shop.back_up()
    all_as_live(shop)


def test_what_an_interrupted_backup_put_long_ago_is_not_relied_on(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects that no run points to may be swept by then, so they are not taken up."""

    def stop(*_: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(module, "commit_run", stop)
        with pytest.raises(StoppedError):
            shop.back_up()
    monkeypatch.setattr(records, "PENDING_AGE_MAX", timedelta(0))
    result = shop.back_up()
    assert result.rows_read == result.rows
    all_as_live(shop)


def test_a_replaced_signing_key_goes_on_with_the_chain(shop: Shop) -> None:
    """With both signers named, the new one's runs follow the old one's."""
    shop.back_up()
    old = shop.keys
    shop.keys = replace(old, signer=Signer.generate())
    with LocalState(shop.folder / "state") as state, pytest.raises(VaultError, match="signed by a key"):
        backup(shop.place(state))
    with LocalState(shop.folder / "state") as state:
        place = replace(shop.place(state), signers=(*old.signers, *shop.keys.signers))
        assert backup(place).run == 2


def test_a_host_that_lost_its_state_still_sees_who_is_gone(shop: Shop) -> None:
    """It knows no name of theirs, but that nobody has their rows; the vault says until when they were there."""
    shop.back_up()
    shop.execute("DELETE FROM task WHERE project_id IN (SELECT id FROM project WHERE account_id = 3)")
    shop.execute("DELETE FROM project WHERE account_id = 3; DELETE FROM account WHERE id = 3")
    shutil.rmtree(shop.folder / "state")
    shop.back_up()
    vault = shop.vault()
    with pytest.raises(NotFoundError, match="tenant 'tenant-3' has no rows in the vault at run 2") as caught:
        vault.find_tenant("main", "tenant-3")
    assert caught.value.hint == "The last run that has it: --at run:1"
    assert vault.find_tenant("main", "tenant-3", 1).tenant.key == "3"
    assert {entry.tenant.key for entry in vault.tenants("main")} == {"1", "2", "4", "5", "6"}
