"""What may be deleted: every object that no kept run needs, and that no backup can be about to use. Pure but for reads.

A run is kept unless it is forgotten, its grace period is over and no hold keeps it; the newest always is. What a kept
run needs is its record, the records from the full one on that it builds on, and for each tenant the key, the manifest's
pack and every pack that the manifest points to.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from outlast.core.moment import Moment
from outlast.vault.keys import key_path
from outlast.vault.lineage import Lineage, trace
from outlast.vault.marks import Ledger, MarkKind
from outlast.vault.pack import pack_path
from outlast.vault.reader import Vault
from outlast.vault.run import RunRecord, run_path, runs
from outlast.vault.store import StoredObject
from outlast.vault.sweeping_log import KeptRun, find_log_sweep
from outlast.vault.sweeping_undo import due_undo

CLOCK_SKEW_MAX = timedelta(hours=1)
"""Between this host's clock and the store's."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Paths to delete, and how many bytes that is."""

    records: tuple[str, ...]
    packs: tuple[str, ...]
    keys: tuple[str, ...]
    leftovers: tuple[str, ...]
    size_bytes: int
    segments: tuple[str, ...] = ()
    undo: tuple[str, ...] = ()  # before-images
    told: tuple[str, ...] = ()  # named in the mark besides: see LogSweep

    @property
    def paths(self) -> tuple[str, ...]:
        """In the order of deletion: what points first, what is pointed to after it."""
        return self.records + self.segments + self.packs + self.keys + self.undo + self.leftovers


@dataclass(frozen=True, slots=True)
class _Run:
    number: int
    index_from: int
    started: datetime
    moment: Moment


def find_sweep(vault: Vault, source: str, ledger: Ledger, *, now: datetime, grace: timedelta) -> Sweep:
    """What is due at `now`. Raises CorruptionError where a kept manifest cannot be read: nothing is swept then."""
    found: list[_Run] = []
    lineage = trace(_records(vault, source, found))
    if not found:
        return Sweep((), (), (), (), 0)
    newest = found[-1]
    needed, heads = _needed(vault, source, ledger, lineage, now)
    needed_records = _needed_records(source, found, ledger, now)
    settled = min(newest.started - CLOCK_SKEW_MAX, now - grace)
    kept = [KeptRun(run.number, run.moment) for run in _kept(found, ledger, now)]
    log = find_log_sweep(vault, source, kept, now=now, grace=grace)
    needed |= log.keys
    undo = due_undo(vault.store, source, ledger, now)
    sizes: dict[str, int] = dict(undo)
    kinds: dict[str, list[str]] = {"records": [], "packs": [], "keys": [], "leftovers": []}
    for item in vault.store.list(f"{source}/"):
        kind = _kind(item, needed | needed_records, heads, source, settled, followed=log.followed)
        if kind is not None:
            kinds[kind].append(item.path)
            sizes[item.path] = item.size_bytes
    return Sweep(
        # The newest first: what is left of a chain, should this be interrupted, still has the full record it builds on.
        records=tuple(sorted(kinds["records"], reverse=True)),
        packs=tuple(sorted(kinds["packs"])),
        keys=tuple(sorted(kinds["keys"])),
        leftovers=tuple(sorted(kinds["leftovers"])),
        size_bytes=sum(sizes.values()) + sum(log.paths.values()),
        segments=tuple(log.paths),
        undo=tuple(undo),
        told=log.told,
    )


def _records(vault: Vault, source: str, found: list[_Run]) -> Iterator[RunRecord]:
    for number in runs(vault.store, source):
        record = vault.read_run(source, number)
        found.append(_Run(record.run, record.index_from, record.started, record.moment))
        yield record


def _needed(
    vault: Vault, source: str, ledger: Ledger, lineage: Lineage, now: datetime
) -> tuple[set[str], frozenset[str]]:
    """Packs and keys that kept runs need; and all packs and keys that any run record names."""
    newest = lineage.runs[-1]
    needed: set[str] = set()
    named: set[str] = set()
    for span in lineage.spans:
        key = key_path(source, span.prefix, span.recipient)
        pack = pack_path(source, span.prefix, span.head.pack)
        named |= {key, pack}
        if span.recipient in ledger.erased:
            continue
        if lineage.any_run(span, lambda run, prefix: run == newest or not ledger.due(run, prefix, now)):
            needed |= {key, pack}
            manifest = vault.manifest_of_span(source, span)
            packs = {chunk.pack for table in manifest.tables.values() for chunk in table.chunks}
            needed |= {pack_path(source, span.prefix, name) for name in packs | {box.pack for box in manifest.log}}
    return needed, frozenset(named)


def _kept(found: list[_Run], ledger: Ledger, now: datetime) -> list[_Run]:
    return [run for run in found if run is found[-1] or not _run_due(ledger, run.number, now)]


def _needed_records(source: str, found: list[_Run], ledger: Ledger, now: datetime) -> set[str]:
    kept = _kept(found, ledger, now)
    return {run_path(source, number) for run in kept for number in range(run.index_from, run.number + 1)}


def _run_due(ledger: Ledger, run: int, now: datetime) -> bool:
    """Whether a run as a whole may go: no part of it is held."""
    if ledger.held(run, None):
        return False
    marks = [mark for mark in ledger.standing(MarkKind.FORGET) if mark.prefix is None and mark.covers(run, None)]
    return any(mark.not_before is not None and mark.not_before <= now for mark in marks)


def _kind(
    item: StoredObject, needed: set[str], named: frozenset[str], source: str, settled: datetime, *, followed: bool
) -> str | None:
    """What an object is that may go, or None if it stays.

    One that no run names may belong to a backup that is at work, or to an interrupted one that the next takes up. It is
    a leftover for good only when a run began after it was written: that run took it up, or it never will be. A key is
    none where there is a log: its tenant may have been quiet for long, and the follower goes on sealing to it.
    """
    path = item.path
    if path in needed:
        return None
    if path.startswith(f"{source}/runs/") and path.endswith(".json"):
        return "records"
    if "/packs/" not in path and "/keys/" not in path:
        return None
    if path in named:
        return "packs" if "/packs/" in path else "keys"
    if followed and "/keys/" in path:
        return None
    return "leftovers" if item.modified < settled else None
