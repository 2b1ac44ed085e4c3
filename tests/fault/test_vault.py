"""Faults in what writes to a vault: every operation fails once, in every way; what stood before stands afterwards."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from copy import copy
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from outlast.core.errors import OutlastError, TransientError
from outlast.vault import retention
from outlast.vault.run import runs
from outlast.vault.scrub import scrub
from outlast.vault.store import open_store
from tests.fault.faults import Fault, FaultyStore, When
from tests.vaults import SOURCE, VaultWriter, read_back, rows

NOW = datetime.now(UTC) + timedelta(days=30)
GRACE = timedelta(days=7)
LATER = NOW + GRACE + timedelta(hours=1)

HOW = [(lasting, when) for lasting in (False, True) for when in When]


def _faults(lasting: bool, when: When, step: int = 1) -> Iterator[Fault]:
    """At the 1st, 2nd … operation, until one does not strike any more."""
    for at in count(1, step):
        fault = Fault(at, lasting, when)
        yield fault
        if not fault.struck:
            return


def _again(writer: VaultWriter, origin: Path, place: Path, fault: Fault) -> VaultWriter:
    """The same vault and writer once more, from the start, on a store that fails."""
    shutil.copytree(origin, place)
    again = copy(writer)
    again.manifests = dict(writer.manifests)
    again.store = FaultyStore(open_store(str(place)), fault, TransientError)
    return again


def _state(run: int) -> dict[str, dict[str, list[bytes]]]:
    return {"1": {"public.items": rows(1, 12, f"version {run}")}, "2": {"public.items": rows(1, 2 + run)}}


def _expect(writer: VaultWriter, *numbers: int) -> None:
    """These runs are whole, and nothing is damaged."""
    vault = writer.vault()
    for number in numbers:
        for tenant, tables in _state(number).items():
            assert read_back(vault, tenant, number) == {name: b"".join(content) for name, content in tables.items()}
    findings = scrub(vault).findings
    assert not [finding for finding in findings if finding.level == "damage"], findings


@pytest.mark.parametrize(("lasting", "when"), HOW)
def test_a_backup_that_fails_anywhere_leaves_the_vault_whole(tmp_path: Path, lasting: bool, when: When) -> None:
    """Earlier runs are there; the failed one is there wholly or not at all; the next backup succeeds."""
    origin = tmp_path / "origin"
    first = VaultWriter.make(open_store(str(origin), make=True))
    first.boxes_in_pack = 2
    first.back_up(_state(1))
    for fault in _faults(lasting, when):
        place = tmp_path / str(fault.at)
        writer = _again(first, origin, place, fault)
        try:
            writer.back_up(_state(2))
        except OutlastError:
            assert fault.struck
        writer.store = open_store(str(place))
        done = runs(writer.store, SOURCE)[-1]
        _expect(writer, *range(1, done + 1))
        if done == 1:
            writer.manifests = dict(first.manifests)
            writer.back_up(_state(2))
        writer.back_up(_state(3))
        _expect(writer, 1, 2, 3)


@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("lasting", "when"), HOW)
def test_retention_that_fails_anywhere_can_be_finished(tmp_path: Path, lasting: bool, when: When, step: int) -> None:
    """Forget, prune, erase: whatever failed, no kept run is hurt, nothing is damaged, and trying again ends it."""
    origin = tmp_path / "origin"
    first = VaultWriter.make(open_store(str(origin), make=True))
    first.start = datetime.now(UTC) + timedelta(days=2)
    for run in range(1, 7):
        first.back_up({**_state(run), "3": {"public.items": rows(1, 9)}})
    for fault in _faults(lasting, when, step):
        place = tmp_path / str(fault.at)
        writer = _again(first, origin, place, fault)
        try:
            _retain(writer)
        except OutlastError:
            assert fault.struck
        writer.store = open_store(str(place))
        _expect(writer, 5, 6)
        _retain(writer)
        _expect(writer, 5, 6)
        assert runs(writer.store, SOURCE)[0] == 5
        assert not list(writer.store.list(f"{SOURCE}/{writer.prefix('3')}/"))
        assert not [one for one in scrub(writer.vault()).findings if one.level == "leftover"]


def _retain(writer: VaultWriter) -> None:
    """What an operator does: forget, mark for erasure, wait, prune, erase; and again, if it was interrupted."""
    vault, signer = writer.vault(), writer.keys.signer
    old = [number for number in runs(vault.store, SOURCE) if number < 5]
    retention.execute(vault, retention.plan_forget(vault, SOURCE, old, now=NOW, grace=GRACE), signer)
    named = [entry for entry in vault.tenants(SOURCE) if entry.tenant.key == "3"]
    for now in (NOW, LATER):
        for entry in named:
            if now == LATER or vault.ledger(SOURCE).erasing(entry.prefix) is None:
                retention.execute(vault, retention.plan_erase(vault, SOURCE, entry, now=now, grace=GRACE), signer)
    retention.execute(vault, retention.plan_unfinished_erasures(vault, SOURCE, now=LATER), signer)
    retention.execute(vault, retention.plan_prune(vault, SOURCE, now=LATER, grace=GRACE), signer)
