"""Before-images: what goes in comes out, for the tenant's key alone, and what was changed is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.core.errors import CorruptionError, VaultKeyError
from outlast.core.row import KeyKind
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault import undo
from outlast.vault.keys import Identity, generate_identity
from outlast.vault.signature import Signer
from outlast.vault.store import FolderStore, Store
from outlast.vault.undo import UndoTable, UndoWriter, list_undo, read_entry, read_rows, scrub_undo

SIGNER = Signer.generate()
SIGNERS = (SIGNER.public,)
KEYS = {name: Identity.from_text(generate_identity("a tenant")[0], "a tenant") for name in ("one", "two")}
PREFIXES = {"one": "1" * 32, "two": "2" * 32}
TABLE = UndoTable((("id", "bigint"), ("name", "text")), ("id",), (KeyKind.INTEGER,))
ROWS = [b"".join(b"%d\tname %d\n" % (number, number) for number in range(start, start + 50)) for start in (0, 50, 100)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return FolderStore(tmp_path / "vault", make=True)


def write(store: Store) -> None:
    writer = UndoWriter(store, "main", "p1", SIGNER)
    drafts = []
    for name, key in KEYS.items():
        draft = writer.draft(Tenant(TenantKey(name), f"label {name}"), PREFIXES[name], key.recipients[0])
        draft.tables["public.items"] = TABLE
        for rows in ROWS:
            draft.add("public.items", "insert", rows)
        draft.add("public.items", "before", b"7\told\n")
        draft.add("public.items", "after", b"7\tnew\n")
        drafts.append(draft)
    writer.write(drafts, "4711", "1/2")


def paths(store: Store) -> list[str]:
    return [item.path for item in store.list("main/undo")]


def key_of(_source: str, prefix: str, _recipient: str) -> Identity:
    return next(KEYS[name] for name, known in PREFIXES.items() if known == prefix)


@pytest.mark.parametrize("small", [False, True], ids=["one object", "in parts"])
def test_in_and_out(store: Store, monkeypatch: pytest.MonkeyPatch, small: bool) -> None:
    """Rows of several tenants, by table and kind, in their order; large ones lie in parts."""
    if small:
        monkeypatch.setattr(undo, "_BOX_BYTES_MAX", 100)
        monkeypatch.setattr(undo, "_OBJECT_BYTES_MAX", 1000)
    write(store)
    assert (len(paths(store)) > 1) is small
    (found,) = list_undo(store, "main", "p1", SIGNERS)
    assert (found.index.xid, found.index.database, set(found.index.entries)) == ("4711", "1/2", set(PREFIXES.values()))
    for name, key in KEYS.items():
        entry = read_entry(found, PREFIXES[name], key)
        assert (entry.tenant, dict(entry.tables)) == (Tenant(TenantKey(name), f"label {name}"), {"public.items": TABLE})
        by_kind = {
            kind: b"".join(read_rows(store, found, entry, run, key) for run in entry.runs if run.kind == kind)
            for kind in ("insert", "before", "after", "delete")
        }
        assert by_kind == {"insert": b"".join(ROWS), "before": b"7\told\n", "after": b"7\tnew\n", "delete": b""}
    assert list_undo(store, "main", "p2", SIGNERS) == []
    assert list(scrub_undo(store, paths(store), SIGNERS, key_of)) == []


def test_nobody_else_reads_it(store: Store) -> None:
    """An entry opens with its own tenant's key."""
    write(store)
    (found,) = list_undo(store, "main", "p1", SIGNERS)
    with pytest.raises(VaultKeyError):
        read_entry(found, PREFIXES["one"], KEYS["two"])


def test_every_changed_byte_is_found(store: Store, tmp_path: Path) -> None:
    """With a key and without one; and an object that another signed is not believed."""
    write(store)
    (path,) = paths(store)
    file = tmp_path / "vault" / path
    whole = file.read_bytes()
    for place in range(0, len(whole), 37):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        for key in (key_of, None):
            assert [found for found, _ in scrub_undo(store, [path], SIGNERS, key)] == [path], place
    file.write_bytes(whole)
    with pytest.raises(CorruptionError, match="does not name"):
        list_undo(store, "main", "p1", (Signer.generate().public,))


def test_a_missing_part_is_found(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The object that points to it is what is told."""
    monkeypatch.setattr(undo, "_BOX_BYTES_MAX", 100)
    monkeypatch.setattr(undo, "_OBJECT_BYTES_MAX", 1000)
    write(store)
    (found,) = list_undo(store, "main", "p1", SIGNERS)
    part = next(path for path in paths(store) if path != found.path)
    (tmp_path / "vault" / part).unlink()
    assert {path for path, _ in scrub_undo(store, [found.path], SIGNERS, key_of)} == {found.path}
