"""The vault under any input: bytes go round, and no history of backups and retention loses what is kept."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from outlast.core.errors import OutlastError
from outlast.core.row import KeyKind
from outlast.vault import retention
from outlast.vault.manifest import ChunkRef, Head, Manifest, TableManifest
from outlast.vault.pack import TRAILER_BYTES, PackBuilder, parse_trailer
from outlast.vault.run import runs
from outlast.vault.scrub import scrub
from outlast.vault.signature import NAMESPACE_RUN, Signer, verify
from tests.vaults import SOURCE, VaultWriter, folder_vault, moment_of, read_back, rows

HASH = st.binary(min_size=32, max_size=32)
SMALL = st.integers(0, 2**40)
CHUNKS = st.builds(
    ChunkRef, st.binary(max_size=40), SMALL, HASH, st.sampled_from(["", "a" * 64]), SMALL, SMALL, SMALL, SMALL
)
NAMES = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=20)
TABLES = st.builds(
    TableManifest,
    st.lists(st.tuples(NAMES, NAMES), max_size=3).map(tuple),
    st.lists(NAMES, max_size=2).map(tuple),
    st.lists(st.sampled_from(KeyKind), max_size=2).map(tuple),
    NAMES,
    SMALL,
    HASH.map(bytes.hex),
    st.lists(CHUNKS, max_size=3).map(tuple),
)
HEADS = st.builds(Head, SMALL, HASH.map(bytes.hex), SMALL, SMALL)
MANIFESTS = st.builds(
    Manifest,
    NAMES,
    NAMES,
    st.none() | NAMES,
    SMALL,
    st.just(moment_of(7)),
    HASH.map(bytes.hex),
    st.none() | HEADS,
    st.dictionaries(NAMES, TABLES, max_size=3),
)


@given(MANIFESTS)
def test_a_manifest_goes_round(manifest: Manifest) -> None:
    """Whatever names it has, and whatever bytes its keys are."""
    data = manifest.to_bytes()
    assert Manifest.from_bytes(data) == manifest
    assert Manifest.from_bytes(data).to_bytes() == data


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=5), st.none() | st.binary(min_size=1, max_size=90))
def test_a_packs_parts_are_found_again(boxes: list[bytes], manifest: bytes | None) -> None:
    """Boxes by their offsets, the manifest and its signature by the trailer."""
    builder = PackBuilder()
    offsets = [builder.add_box(box) for box in boxes]
    _, data = builder.finish(manifest, None if manifest is None else b"signature")
    trailer = parse_trailer(data[-TRAILER_BYTES:], len(data), "a pack")
    assert [data[offset : offset + len(box)] for offset, box in zip(offsets, boxes, strict=True)] == boxes
    assert data[trailer.manifest_offset :][: trailer.manifest_length] == (manifest or b"")


@given(st.binary(max_size=200), st.data())
def test_any_other_signature_is_refused(message: bytes, data: st.DataObject) -> None:
    """One flipped bit in the message or in the armor is enough."""
    signer = Signer.generate()
    armored = signer.sign(NAMESPACE_RUN, message)
    verify((signer.public,), NAMESPACE_RUN, message, armored, "it")
    whole = message + armored
    changed = bytearray(whole)
    changed[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        verify((signer.public,), NAMESPACE_RUN, bytes(changed[: len(message)]), bytes(changed[len(message) :]), "it")
    except OutlastError:
        return
    raise AssertionError("a changed signature passed")


ACTIONS = st.one_of(
    st.tuples(st.just("back up"), st.integers(0, 7)),
    st.tuples(st.just("forget"), st.lists(st.integers(1, 20), min_size=1, max_size=8)),
    st.tuples(st.just("forget of one"), st.lists(st.integers(1, 20), min_size=1, max_size=4)),
    st.tuples(st.just("hold"), st.integers(1, 20)),
    st.tuples(st.just("release"), st.integers(1, 10)),
    st.tuples(st.just("prune"), st.integers(0, 20)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(ACTIONS, min_size=3, max_size=14))
@example([("back up", 1), ("back up", 0), ("forget", [2]), ("back up", 0), ("prune", 0), ("hold", 8)])
def test_no_history_loses_what_is_kept(history: list[tuple[str, object]]) -> None:
    """After any backups, forgets, holds and prunes every run that is offered is whole, and the vault scrubs clean."""
    with tempfile.TemporaryDirectory() as folder:
        writer = folder_vault(Path(folder) / "vault")
        writer.start = datetime.now(UTC) + timedelta(days=2)
        writer.boxes_in_pack = 2
        states: dict[int, dict[str, dict[str, list[bytes]]]] = {}
        now = writer.start + timedelta(days=100)
        for number, (action, argument) in enumerate([("back up", 0), *history]):
            now += timedelta(days=5)
            if action == "back up":
                state = {"1": {"t.a": rows(1, 9, f"version {number}")}, "2": {"t.a": rows(1, 4 + _number(argument))}}
                states[writer.back_up(state)] = state
            else:
                _retain(writer, action, argument, now)
        vault = writer.vault()
        for record in vault.runs(SOURCE):
            for entry in vault.tenants(SOURCE, record.run):
                expected = states[record.run][entry.tenant.key]
                assert read_back(vault, entry.tenant.key, record.run) == {
                    name: b"".join(content) for name, content in expected.items()
                }
        newest = vault.runs(SOURCE)[-1].run
        assert newest == max(states)
        assert {entry.tenant.key for entry in vault.tenants(SOURCE, newest)} == {"1", "2"}
        assert [finding for finding in scrub(vault).findings if finding.level == "damage"] == []


def _number(argument: object) -> int:
    assert isinstance(argument, int)
    return argument


def _retain(writer: VaultWriter, action: str, argument: object, now: datetime) -> None:
    vault, grace = writer.vault(), timedelta(days=7)
    present = runs(vault.store, SOURCE)
    try:
        if action in ("forget", "forget of one"):
            assert isinstance(argument, list)
            entry = vault.find_tenant(SOURCE, "1") if action == "forget of one" else None
            chosen = [number for number in argument if number in present[:-1]]
            plan = retention.plan_forget(vault, SOURCE, chosen, now=now, grace=grace, entry=entry)
        elif action == "hold":
            entry = vault.find_tenant(SOURCE, "2")
            numbers = [number for number in present if number == argument]
            plan = retention.plan_hold(vault, SOURCE, now=now, entry=entry, numbers=numbers)
        elif action == "release":
            plan = retention.plan_release(vault, SOURCE, _number(argument), now=now)
        else:
            later = now + timedelta(days=_number(argument))
            plan = retention.plan_prune(vault, SOURCE, now=later, grace=grace)
    except OutlastError:
        return  # refused as it should be: held, or no such mark
    retention.execute(vault, plan, writer.keys.signer)
