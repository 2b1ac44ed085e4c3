"""Scrubbing: every changed byte and every dropped object is named; what is whole is said to be."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from outlast.core.errors import OutlastError
from outlast.vault.run import run_path
from outlast.vault.scrub import Anchor, Level, scrub
from tests.vaults import SOURCE, VaultWriter, folder_vault, read_back, rows


@pytest.fixture
def writer(tmp_path: Path) -> VaultWriter:
    writer = folder_vault(tmp_path / "vault")
    writer.boxes_in_pack = 2
    for run in range(1, 7):
        writer.back_up(
            {
                "1": {"public.items": rows(1, 8 + run)},
                "2": {"public.items": rows(1, 3)},
                "@shared": {"a.b": rows(1, run)},
            }
        )
    return writer


def _damaged(writer: VaultWriter, *, keyed: bool = True, expect: int | None = 6) -> set[str]:
    anchors = None if expect is None else {SOURCE: Anchor(expect)}
    report = scrub(writer.vault(identity=keyed), expect=anchors)
    return {finding.path for finding in report.findings if finding.level is Level.DAMAGE}


def _replace(writer: VaultWriter, path: str, data: bytes) -> None:
    writer.store.delete(path)
    writer.store.create(path, data)


@pytest.mark.parametrize("keyed", [True, False])
def test_a_whole_vault_has_no_damage(writer: VaultWriter, keyed: bool) -> None:
    """With and without a key, and its newest run is given back as the next anchor."""
    report = scrub(writer.vault(identity=keyed), expect={SOURCE: Anchor(6)})
    assert [finding for finding in report.findings if finding.level is not Level.NOTE] == []
    assert report.newest[SOURCE].run == 6
    assert report.size_bytes == sum(item.size_bytes for item in writer.store.list())


def _flips(data: bytes) -> Iterator[bytes]:
    """The object with one bit changed: first, last and some bytes in between. OUTLAST_SEED replays a failure."""
    chance = random.Random(os.environ.get("OUTLAST_SEED", "flip"))
    for place in {0, len(data) - 1, *(chance.randrange(len(data)) for _ in range(8))}:
        changed = bytearray(data)
        changed[place] ^= 1 << chance.randrange(8)
        yield bytes(changed)


def test_any_flipped_byte_of_any_object_is_named(writer: VaultWriter) -> None:
    """And reading the tenants gives their rows or an error, never other rows."""
    right = {tenant: read_back(writer.vault(), tenant) for tenant in ("1", "2")}
    for item in list(writer.store.list()):
        data = writer.store.get(item.path)
        for changed in _flips(data):
            _replace(writer, item.path, changed)
            assert _scrubbed(writer, item.path), item.path
            for tenant, expected in right.items():
                with suppress(OutlastError):
                    assert read_back(writer.vault(), tenant) == expected
        _replace(writer, item.path, data)
    assert _damaged(writer) == set()


def _scrubbed(writer: VaultWriter, path: str) -> bool:
    """Whether opening the vault or scrubbing it names the object."""
    try:
        return path in _damaged(writer)
    except OutlastError as error:
        return path in error.message or "another-vault" in error.code


def test_any_dropped_object_is_named(writer: VaultWriter) -> None:
    """With an anchor even the newest run record."""
    for item in list(writer.store.list()):
        data = writer.store.get(item.path)
        writer.store.delete(item.path)
        if item.path == "outlast.json":
            with pytest.raises(OutlastError, match="no vault"):
                writer.vault()
        else:
            assert item.path in _damaged(writer), item.path
        writer.store.create(item.path, data)


def test_a_rollback_is_named_with_an_anchor_and_admitted_without(writer: VaultWriter) -> None:
    """Dropping the newest run and its packs leaves a vault that is whole in itself: only the anchor can tell."""
    before = {item.path for item in writer.store.list()}
    writer.back_up({"1": {"public.items": rows(1, 99)}})
    for item in list(writer.store.list()):
        if item.path not in before:
            writer.store.delete(item.path)
    assert _damaged(writer, expect=7) == {run_path(SOURCE, 7)}
    report = scrub(writer.vault())
    assert not report.damaged
    assert "no-anchor" in {finding.code for finding in report.findings}


def test_another_record_in_place_of_the_anchored_one_is_named(writer: VaultWriter) -> None:
    """The anchor holds the record's hash too, for a store whose owner has the signing key."""
    report = scrub(writer.vault(), expect={SOURCE: Anchor(6, "0" * 64)})
    assert {finding.code for finding in report.findings if finding.level is Level.DAMAGE} == {"replaced"}


def test_an_older_object_in_place_of_a_newer_is_named(writer: VaultWriter) -> None:
    """Run records and packs of an earlier run under the newest one's name."""
    entry, older = writer.vault().find_tenant(SOURCE, "1"), writer.vault().find_tenant(SOURCE, "1", 5)
    folder = f"{SOURCE}/{entry.prefix}/packs/"
    for path, old in (
        (run_path(SOURCE, 6), run_path(SOURCE, 5)),
        (folder + entry.head.pack, folder + older.head.pack),
    ):
        kept = writer.store.get(path)
        _replace(writer, path, writer.store.get(old))
        assert path in _damaged(writer)
        assert path in _damaged(writer, keyed=False)
        _replace(writer, path, kept)


def test_leftovers_and_strange_files_are_not_damage(writer: VaultWriter) -> None:
    """A pack that no run points to is a leftover; a file that is none of ours is noted."""
    other = folder_vault(Path(writer.store.url).parent / "other")
    other.back_up({"1": {"public.items": rows(1, 3)}})
    pack = next(item.path for item in other.store.list() if "/packs/" in item.path)
    writer.back_up({"1": {"public.items": rows(1, 3)}})
    left = f"{SOURCE}/{writer.prefix('1')}/packs/{pack.rpartition('/')[2]}"
    writer.store.create("README.txt", b"hello")
    # Signed by another vault's key, a pack is damage; the writer's own is not.
    writer.store.create(left, other.store.get(pack))
    assert _damaged(writer) == {left}
    writer.store.delete(left)
    report = scrub(writer.vault())
    assert "README.txt" in {finding.path for finding in report.findings}
    writer.store.delete(run_path(SOURCE, 7))
    report = scrub(writer.vault())
    assert not report.damaged
    assert {finding.level for finding in report.findings if "/packs/" in finding.path} == {Level.LEFTOVER}
