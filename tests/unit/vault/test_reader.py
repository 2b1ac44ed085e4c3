"""Reading a vault: what was put in comes out, what was changed does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from outlast.core.errors import CorruptionError, NotFoundError, Refused, UsageError, VaultError, VaultKeyError
from outlast.vault.header import VaultPin
from outlast.vault.keys import Identity, generate_identity
from outlast.vault.reader import Vault
from outlast.vault.run import commit_run, run_path
from tests.vaults import SOURCE, VaultWriter, folder_vault, read_back, rows


@pytest.fixture
def writer(tmp_path: Path) -> VaultWriter:
    return folder_vault(tmp_path / "vault")


def test_rows_come_back_as_they_were_at_each_run(writer: VaultWriter) -> None:
    """Every run gives the rows of its own moment, however many chunks were reused by later ones."""
    states = [rows(1, 10), rows(1, 12), [*rows(1, 6), *rows(7, 12, "changed")], rows(4, 9)]
    for state in states:
        writer.back_up({"1": {"public.items": state}, "2": {"public.items": rows(100, 101)}})
    vault = writer.vault()
    for run, state in enumerate(states, start=1):
        assert read_back(vault, "1", run) == {"public.items": b"".join(state)}
        assert read_back(vault, "2", run) == {"public.items": b"".join(rows(100, 101))}


def test_an_unchanged_tenant_costs_no_object(writer: VaultWriter) -> None:
    """A second backup of the same rows writes a run record and nothing else."""
    writer.back_up({"1": {"public.items": rows(1, 10)}})
    before = {item.path for item in writer.store.list()}
    writer.back_up({"1": {"public.items": rows(1, 10)}})
    assert {item.path for item in writer.store.list()} - before == {run_path(SOURCE, 2)}


def test_large_tenants_spread_over_packs(writer: VaultWriter) -> None:
    """Data packs without a manifest are read like any other."""
    writer.boxes_in_pack = 2
    writer.back_up({"1": {"public.items": rows(1, 30), "public.notes": rows(1, 5)}})
    assert len(list(writer.store.list(f"{SOURCE}/{writer.prefix('1')}/packs/"))) > 4
    assert read_back(writer.vault(), "1")["public.items"] == b"".join(rows(1, 30))


def test_either_identity_opens_and_no_other(writer: VaultWriter) -> None:
    """The recovery and the operator's identity both open everything; a stranger's opens nothing."""
    writer.back_up({"1": {"public.items": rows(1, 4)}})
    for identity in (writer.operator, writer.recovery):
        assert read_back(Vault.open(writer.store, writer.pin, identity), "1")
    stranger = Identity.from_text(generate_identity("stranger")[0], "stranger.key")
    with pytest.raises(VaultKeyError, match=r"stranger\.key"):
        read_back(Vault.open(writer.store, writer.pin, stranger), "1")
    with pytest.raises(VaultError, match="needs a key"):
        read_back(writer.vault(identity=False), "1")


def test_one_tenants_key_opens_nothing_of_another(writer: VaultWriter) -> None:
    """With the key of tenant 1, no object of tenant 2 opens."""
    writer.back_up({"1": {"public.items": rows(1, 4)}, "2": {"public.items": rows(1, 4)}})
    vault = writer.vault()
    key = vault.key(SOURCE, vault.find_tenant(SOURCE, "1"))
    other = vault.find_tenant(SOURCE, "2")
    for item in writer.store.list(f"{SOURCE}/{other.prefix}/"):
        data = writer.store.get(item.path)
        start = 0 if "/keys/" in item.path else other.head.offset
        with pytest.raises(VaultKeyError):
            key.open(data[start : start + other.head.length] if start else data, item.path)


def test_moments_resolve_to_the_newest_run_before_them(writer: VaultWriter) -> None:
    """`latest`, a number, a timestamp and an LSN name runs; a moment before the first is an error that names it."""
    for run in range(1, 7):
        writer.back_up({"1": {"public.items": rows(1, run)}})
    vault = writer.vault()
    assert vault.resolve(SOURCE, "latest").run == 6
    assert vault.resolve(SOURCE, "run:3").run == vault.resolve(SOURCE, "3").run == 3
    assert vault.resolve(SOURCE, "2026-01-03T13:00:00Z").run == 3
    assert vault.resolve(SOURCE, "0/308").run == 3
    with pytest.raises(NotFoundError) as raised:
        vault.resolve(SOURCE, "2025-12-31")
    assert "run:1" in str(raised.value.hint)
    with pytest.raises(UsageError):
        vault.resolve(SOURCE, "yesterday-ish")


def test_tenants_are_found_by_key_and_label(writer: VaultWriter) -> None:
    """A label that two tenants share is refused with their keys; a near miss is suggested."""
    writer.labels = {"1": "acme", "2": "globex", "3": "globex"}
    writer.back_up({key: {"public.items": rows(1, 2)} for key in ("1", "2", "3")})
    vault = writer.vault()
    assert vault.find_tenant(SOURCE, "acme").tenant.key == "1"
    with pytest.raises(UsageError) as ambiguous:
        vault.find_tenant(SOURCE, "globex")
    assert "2, 3" in str(ambiguous.value.hint)
    with pytest.raises(NotFoundError) as unknown:
        vault.find_tenant(SOURCE, "acne")
    assert "acme" in str(unknown.value.hint)


def test_a_second_writer_is_told(writer: VaultWriter) -> None:
    """Of two backups for the same number, the second is refused and the first stands."""
    writer.back_up({"1": {"public.items": rows(1, 2)}})
    with pytest.raises(Refused, match="another backup"):
        commit_run(writer.store, SOURCE, 1, b"another record")
    commit_run(writer.store, SOURCE, 1, writer.store.get(run_path(SOURCE, 1)))  # our own, whose answer was lost


def test_another_vault_and_other_signers_are_refused(writer: VaultWriter, tmp_path: Path) -> None:
    """The pin in the configuration decides: another vault's id, and records that another key signed."""
    writer.back_up({"1": {"public.items": rows(1, 2)}})
    other = folder_vault(tmp_path / "other")
    with pytest.raises(VaultError, match="not the one"):
        Vault.open(writer.store, other.pin, writer.operator)
    forged = VaultPin(writer.pin.id, writer.pin.recipients, other.pin.signers)
    with pytest.raises(CorruptionError, match="signed by a key"):
        read_back(Vault.open(writer.store, forged, writer.operator), "1")


def test_a_newer_format_says_so(writer: VaultWriter) -> None:
    """A vault that a newer version wrote asks for the upgrade instead of guessing."""
    header = writer.store.get("outlast.json").replace(b'"format":1', b'"format":2')
    writer.store.delete("outlast.json")
    writer.store.create("outlast.json", header)
    with pytest.raises(VaultError, match="format 2") as raised:
        writer.vault()
    assert raised.value.hint == "Upgrade Outlast."


def test_what_was_put_in_place_of_something_else_is_refused(writer: VaultWriter) -> None:
    """An older run record, pack or key under a newer one's name gives an error, never older rows."""
    writer.back_up({"1": {"public.items": rows(1, 4)}, "2": {"public.items": rows(1, 4)}})
    first = writer.vault().find_tenant(SOURCE, "1")
    writer.back_up({"1": {"public.items": rows(1, 9)}})
    second = writer.vault().find_tenant(SOURCE, "1")
    other = writer.vault().find_tenant(SOURCE, "2")
    packs = f"{SOURCE}/{first.prefix}/packs/"
    keys = f"{SOURCE}/{first.prefix}/keys/{first.recipient}.age"
    others = f"{SOURCE}/{other.prefix}/keys/{other.recipient}.age"
    for path, replacement in (
        (run_path(SOURCE, 2), run_path(SOURCE, 1)),
        (packs + second.head.pack, packs + first.head.pack),
        (keys, others),
    ):
        kept = writer.store.get(path)
        writer.store.delete(path)
        writer.store.create(path, writer.store.get(replacement))
        with pytest.raises(CorruptionError):
            read_back(writer.vault(), "1")
        writer.store.delete(path)
        writer.store.create(path, kept)
    assert read_back(writer.vault(), "1") == {"public.items": b"".join(rows(1, 9))}
