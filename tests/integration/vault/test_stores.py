"""What every store must do, on each of them: a local folder, and a bucket behind a real S3 protocol server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from outlast.core.errors import CorruptionError, UsageError, VaultError
from outlast.vault.scrub import scrub
from outlast.vault.store import AlreadyExistsError, ObjectMissingError, Store, open_store
from tests.buckets import Bucket
from tests.vaults import VaultWriter, read_back, rows

PATHS = (
    "main/runs/0000000001.json",
    f"main/{'a' * 32}/packs/{'b' * 64}",
    f"main/{'a' * 32}/keys/age1x.age",
    "outlast.json",
)


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "folder":
        yield open_store(str(tmp_path / "vault"), make=True)
    else:
        bucket: Bucket = request.getfixturevalue("moto_s3")
        yield open_store(bucket.url_of(f"conformance-{tmp_path.name}"))


def test_what_is_created_is_read(store: Store) -> None:
    """Whole and in part, with every byte value, and empty."""
    data = bytes(range(256)) * 5
    for path in PATHS:
        assert not store.exists(path)
        store.create(path, data)
        store.flush()
        assert store.exists(path)
        assert store.get(path) == data
        assert store.get_range(path, 10, 300) == data[10:310]
        assert store.get_range(path, 0, 0) == b""
        assert store.get_range(path, len(data) - 1, 1) == data[-1:]
    store.create("main/empty", b"")
    assert store.get("main/empty") == b""


def test_nothing_is_ever_overwritten(store: Store) -> None:
    """A second create is refused and leaves the first one's bytes."""
    for path in PATHS:
        store.create(path, b"first")
        with pytest.raises(AlreadyExistsError):
            store.create(path, b"second")
        assert store.get(path) == b"first"


@pytest.mark.parametrize("path", PATHS)
def test_of_concurrent_creates_exactly_one_wins(store: Store, path: str) -> None:
    """And its bytes are what is there, all of them."""
    contents = [bytes([number]) * 100_000 for number in range(8)]

    def create(data: bytes) -> bool:
        try:
            store.create(path, data)
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, contents))
    assert sum(won) == 1
    assert store.get(path) == contents[won.index(True)]


def test_what_is_not_there_is_said_to_be(store: Store) -> None:
    """An absent object, one that ends too early, and a delete that comes twice."""
    store.create("main/short", b"12345")
    for path in PATHS:
        with pytest.raises(ObjectMissingError):
            store.get(path)
        with pytest.raises(ObjectMissingError):
            store.get_range(path, 0, 1)
    with pytest.raises(CorruptionError):
        store.get_range("main/short", 3, 10)
    with pytest.raises(VaultError):
        store.get_range("main/short", 10, 1)
    store.delete("main/short")
    store.delete("main/short")
    assert not store.exists("main/short")


def test_a_folder_lists_what_is_below_it(store: Store) -> None:
    """All pages of it, with sizes, and nothing of a neighbour whose name begins alike."""
    for number in range(30):
        store.create(f"main/runs/{number:010d}.json", b"x" * number)
    store.create("main/runs-of-others", b"")
    store.create("mainly/runs/1.json", b"")
    found = {item.path: item.size_bytes for item in store.list("main/runs/")}
    assert found == {f"main/runs/{number:010d}.json": number for number in range(30)}
    assert len(list(store.list())) == 32
    assert list(store.list("nowhere/")) == []


def test_a_vault_lives_there(store: Store) -> None:
    """Backed up, read and scrubbed."""
    writer = VaultWriter.make(store)
    for run in range(1, 4):
        writer.back_up({"1": {"public.items": rows(1, 5 + run)}, "2": {"public.items": rows(1, 3)}})
    assert read_back(writer.vault(), "1", 2) == {"public.items": b"".join(rows(1, 7))}
    assert not scrub(writer.vault()).damaged


def test_files_of_a_dead_writer_are_no_objects(tmp_path: Path) -> None:
    """A writer that was killed leaves a file under a name that listing passes over."""
    store = open_store(str(tmp_path), make=True)
    store.create("main/runs/0000000001.json", b"record")
    (tmp_path / "main" / "runs" / "0000000002.json#4711").write_bytes(b"rec")
    (tmp_path / "main" / "pack#1").write_bytes(b"")
    assert [item.path for item in store.list()] == ["main/runs/0000000001.json"]


def test_a_missing_place_is_named(moto_s3: Bucket, tmp_path: Path) -> None:
    """A folder or a bucket that is not there is one clear error, and nothing is made in its stead."""
    with pytest.raises(VaultError, match="does not exist"):
        open_store(str(tmp_path / "nowhere"))
    absent = moto_s3.url.replace(moto_s3.name, "no-such-bucket")
    with pytest.raises(VaultError) as raised:
        open_store(absent).create("main/x", b"")
    assert "bucket" in raised.value.message
    assert raised.value.hint


@pytest.mark.parametrize(
    "url", ["ftp://host/vault", "s3://user:secret@bucket/vault", "s3://bucket/vault?colour=blue", "http://host/vault"]
)
def test_a_url_that_cannot_be_one_is_refused(url: str) -> None:
    """Without repeating a credential that stands in it."""
    with pytest.raises(UsageError) as raised:
        open_store(url)
    assert "secret" not in raised.value.message
