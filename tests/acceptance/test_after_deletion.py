"""The night a deletion is noticed only after the next backup ran."""

from __future__ import annotations

from outlast.replay import world
from tests.commands import Outlast


def test_a_tenant_that_was_gone_before_the_newest_backup_is_never_said_to_need_nothing(
    outlast: Outlast, database: str
) -> None:
    """Restoring it at `latest` is refused with the run to take instead, and that command brings it back."""
    world.build(database, tenants=6, seed=3)
    outlast.done("init", database, "--tenant-table", "accounts", "--tenant-label", "slug")
    outlast.done("backup")
    before = world.fingerprint(database)
    doomed = world.choose(database, destroyed=1, seed=3)
    world.destroy(database, doomed)
    outlast.done("backup")
    outlast.done("backup")
    refused = outlast("restore", doomed[0].slug, "--execute")
    assert refused.exit_code == 3, str(refused)
    assert f"outlast restore {doomed[0].slug} --at run:1" in refused.stderr
    outlast.done("restore", doomed[0].slug, "--at", "run:1", "--execute")
    assert world.fingerprint(database) == before
