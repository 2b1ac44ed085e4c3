"""A tenant is erased while `follow` runs, and its rows are still in the source."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from outlast.capture import follow as following
from outlast.capture.backup import backup
from outlast.capture.fold import fold
from outlast.core.errors import NotFoundError
from outlast.state.local import LocalState
from outlast.vault.keys import key_path
from outlast.vault.log import LogReader
from outlast.vault.retention import execute, plan_erase
from outlast.vault.scrub import Level, scrub
from tests.integration.follow.conftest import Factory, Followed
from tests.integration.follow.test_fold import SMALL, SMALL_OWNERS
from tests.integration.follow.truth import Truth, differences, stored

GRACE = timedelta(days=7)


def _erase(one: Followed, name: str) -> str:
    """In its two steps. Returns the recipient whose key was destroyed."""
    entry = one.vault().find_tenant("main", name)
    for days in (0, 8):
        vault = one.vault()
        plan = plan_erase(vault, "main", entry, now=datetime.now(UTC) + timedelta(days=days), grace=GRACE)
        execute(vault, plan, one.keys.signer)
    assert not one.store.exists(key_path("main", entry.prefix, entry.recipient))
    return entry.recipient


def _sealed_to(one: Followed) -> list[str]:
    """The recipients of the newest segment's frames."""
    header = LogReader(one.store, one.pin.signers).headers("main")[-1]
    return [frame.recipient for frame in header.frames.values()]


def test_a_tenant_that_is_erased_under_a_running_follower_stays_erased(
    database: str, followed: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its key does not come back, and the others' log goes on, whole. Its rows are still in the source: from the next
    backup on it is a customer again, under the key that this made: one of the follower's own would be swept."""
    one = followed(database, SMALL)
    truth = Truth(one.url, SMALL_OWNERS)
    with one.running() as running:
        one.execute("UPDATE task SET body = 'before' WHERE account_id IN (7, 8)")
        running.caught_up()
        destroyed = _erase(one, "7")
        one.execute("UPDATE task SET body = 'not known yet' WHERE account_id IN (7, 8)")
        running.caught_up()
        assert destroyed in _sealed_to(one)  # which nobody can open
        monkeypatch.setattr(following, "VERIFY_S", 0.0)  # what it looks up once a minute
        one.execute("UPDATE task SET body = 'known' WHERE account_id IN (7, 8)")
        running.caught_up()
        one.execute("INSERT INTO task VALUES (9001, 7, 'after'), (9002, 8, 'after')")
        running.caught_up()
        assert destroyed not in _sealed_to(one)
        assert not [item.path for item in one.store.list("main/") if destroyed in item.path]
        others = {key: rows for key, rows in truth.state().items() if key != "7"}
        assert not differences(others, stored(one.vault(), "latest", others.keys()))
        with pytest.raises(NotFoundError, match="this tenant was erased"):
            stored(one.vault(), "latest", ["7"])
        with LocalState(one.folder / "state") as state:
            assert fold(one.vault(), "main", one.keys, state).run is not None
            backup(one.place(state))
        one.execute("UPDATE task SET body = 'a customer again' WHERE account_id IN (7, 8)")
        running.caught_up()
        one.execute("INSERT INTO task VALUES (9003, 7, 'later'), (9004, 8, 'later')")
        running.caught_up()
        assert one.vault().find_tenant("main", "7").recipient in _sealed_to(one)
    assert not differences(truth.state(), stored(one.vault(), "latest"))
    assert not [found for found in scrub(one.vault()).findings if found.level is Level.DAMAGE]
