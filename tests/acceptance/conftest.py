"""What several acceptance tests begin with."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from outlast.replay import world
from tests.commands import Outlast
from tests.servers import Server


@pytest.fixture(scope="session")
def three_runs(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outlast]:
    """A project of four tenants with three runs in its vault, and its database beside it. Not to be changed."""
    with server.new_database() as database:
        outlast = Outlast(tmp_path_factory.mktemp("built") / "project")
        outlast.folder.mkdir()
        world.build(database, tenants=4, seed=6)
        outlast.done("init", database, "--tenant-table", "accounts", "--tenant-label", "slug")
        for _ in range(3):
            outlast.done("backup")
        yield outlast


@pytest.fixture
def project(three_runs: Outlast, tmp_path: Path) -> Outlast:
    """A copy of `three_runs` for one test, which must not write to the database. Some modules have another."""
    return Outlast(shutil.copytree(three_runs.folder, tmp_path / "project"))
