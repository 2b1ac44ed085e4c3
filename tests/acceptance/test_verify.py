"""`verify` and `diff` as a person runs them: what is damaged and what differs is named, and ends with 4."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from outlast.replay import world
from tests.commands import Outlast


@pytest.fixture
def project(outlast: Outlast, database: str) -> Outlast:
    """A project with two runs in its vault."""
    world.build(database, tenants=4, seed=5)
    outlast.done("init", database, "--tenant-table", "accounts", "--tenant-label", "slug")
    outlast.done("backup")
    with psycopg.connect(database) as connection:
        connection.execute("UPDATE accounts SET name = 'second' WHERE slug = 'tenant-2'")
    outlast.done("backup")
    return outlast


def pack(project: Outlast) -> Path:
    return max((project.folder / "vault").rglob("packs/*"), key=lambda path: path.stat().st_size)


def test_a_flipped_byte_is_named(project: Outlast) -> None:
    """One changed byte in the middle of an object: the object is named, and a restore of it is refused."""
    damaged = pack(project)
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.chmod(0o644)
    damaged.write_bytes(content)
    result = project("--json", "verify")
    assert result.exit_code == 4
    assert any(damaged.name in finding["object"] for finding in result.json["findings"])
    assert result.json["error"]["code"] == "damage"


def test_a_missing_object_is_named_without_a_key_too(project: Outlast) -> None:
    """Anyone who can read the store can scrub it."""
    missing = pack(project)
    missing.unlink()
    (project.folder / ".outlast" / "operator.key").unlink()
    result = project("--json", "verify")
    assert result.exit_code == 4
    assert result.json["keyed"] is False
    assert any(missing.name in finding["object"] for finding in result.json["findings"])


def test_a_rollback_of_the_whole_store_is_told_by_the_anchor(project: Outlast) -> None:
    """The newest run taken away with everything of it leaves a valid vault; what this host saw tells."""
    runs = project.folder / "vault" / "main" / "runs"
    newest = max(runs.iterdir())
    newest.unlink()
    result = project("--json", "verify")
    assert result.exit_code == 4
    assert any(finding["code"] == "rolled-back" for finding in result.json["findings"])


def test_what_verify_prints_is_what_expect_takes(project: Outlast) -> None:
    """The anchor can be written down elsewhere and given back; another one is damage."""
    anchor = project.done("--json", "verify").json["anchor"]
    project.done("verify", "--expect", anchor)
    assert project("verify", "--expect", "3").exit_code == 4
    assert project("verify", "--expect", "2:" + "0" * 64).exit_code == 4
    assert project("verify", "--expect", "soon").exit_code == 2


def test_live_names_who_differs(project: Outlast, database: str) -> None:
    """The database as it was at the newest run is the same; a row that is gone since is named by tenant and table."""
    assert project.done("--json", "verify", "--live").json["live"]["same"] is True
    with psycopg.connect(database) as connection:
        connection.execute("DELETE FROM invoices WHERE account_id = 3 AND number = 'R-001'")
    result = project("--json", "verify", "--live")
    assert result.exit_code == 4
    (tenant,) = result.json["live"]["tenants"]
    assert (tenant["label"], tenant["effect"]) == ("tenant-3", {"public.invoices": {"hard-delete": 1}})
    assert project("verify", "tenant-1", "--live").exit_code == 0
    assert project("diff", "tenant-3").exit_code == 4
    assert project("diff", "tenant-1").exit_code == 0


def test_diff_of_two_moments(project: Outlast) -> None:
    """What happened to a tenant between two runs, out of the vault alone."""
    result = project("--json", "diff", "tenant-2", "--at", "run:1", "--to", "run:2")
    assert result.exit_code == 4
    assert result.json["effect"] == {"public.accounts": {"update": 1}}
    assert project("diff", "tenant-1", "--at", "run:1", "--to", "run:2").exit_code == 0
