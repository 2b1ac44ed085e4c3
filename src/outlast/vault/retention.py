"""Retention: giving up runs, keeping them whatever happens, and erasing a customer. Plans are pure; one executor acts.

Nothing goes in one step. `forget` and `erase` only write a mark with a date; after that date `prune`, or a second
`erase`, names what it will delete in another mark, and deletes it. The newest run always stays: the next backup builds
on it. A hold wins over everything. What was interrupted is finished by planning again: a plan looks at what is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from outlast.core.errors import BugError, NotFoundError, Refused
from outlast.core.tenant import SCHEMA, SHARED
from outlast.vault.keys import key_path
from outlast.vault.marks import Ledger, Mark, MarkKind, load_ledger, write_marks
from outlast.vault.reader import TenantEntry, Vault
from outlast.vault.replay import Spooling
from outlast.vault.run import runs
from outlast.vault.signature import Signer
from outlast.vault.sweeping import Sweep, find_sweep
from outlast.vault.sweeping_undo import NO_RUN, old_undo
from outlast.vault.timeline import Timeline

GRACE_MIN = timedelta(days=1)
"""A grace period is never shorter: it is what stands between a mistake and its consequence."""

_OBJECTS_IN_MARK_MAX = 10_000
_DELETES_AT_ONCE = 8


class RetentionKind(StrEnum):
    FORGET = "forget"
    PRUNE = "prune"
    HOLD = "hold"
    RELEASE = "release"
    ERASE = "erase"


@dataclass(frozen=True, slots=True)
class RetentionPlan:
    """Marks to write, then objects to delete. `ledger` is the state it was computed from; another state refuses it."""

    kind: RetentionKind
    source: str
    made: datetime
    ledger: str | None
    marks: tuple[Mark, ...]
    deletes: tuple[str, ...]
    delete_bytes: int
    lines: tuple[str, ...]

    @property
    def id(self) -> str:
        """The same for the same plan."""
        text = json.dumps({**self.to_json(), "id": None}, sort_keys=True)
        return f"{self.kind.value}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"

    @property
    def is_empty(self) -> bool:
        return not self.marks and not self.deletes

    def describe(self) -> list[str]:
        """For people: what will happen, and a last line that sums it up."""
        total = f"Plan: {_count(len(self.marks), 'mark')} to write, {_count(len(self.deletes), 'object')} to delete"
        return [*self.lines, f"{total} ({self.delete_bytes:,} bytes)." if self.deletes else f"{total}."]

    def to_json(self) -> dict[str, Any]:
        """Lossless; `from_json` reads it back, so that a plan can be kept and applied later."""
        return {
            "kind": self.kind.value,
            "source": self.source,
            "made": self.made.isoformat(),
            "ledger": self.ledger,
            "marks": [mark.to_json() for mark in self.marks],
            "deletes": list(self.deletes),
            "delete_bytes": self.delete_bytes,
            "lines": list(self.lines),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RetentionPlan:
        return cls(
            RetentionKind(data["kind"]),
            data["source"],
            datetime.fromisoformat(data["made"]),
            data["ledger"],
            tuple(Mark.from_json(mark) for mark in data["marks"]),
            tuple(data["deletes"]),
            data["delete_bytes"],
            tuple(data["lines"]),
        )


def plan_forget(
    vault: Vault,
    source: str,
    numbers: Sequence[int],
    *,
    now: datetime,
    grace: timedelta,
    entry: TenantEntry | None = None,
) -> RetentionPlan:
    """Give up runs, for all tenants or for one (`entry`). Raises NotFoundError, and Refused for the newest run."""
    ledger = vault.ledger(source)
    present = runs(vault.store, source)
    prefix = None if entry is None else entry.prefix
    for number in numbers:
        if number not in present:
            raise NotFoundError(f"source {source!r} has no run {number}", hint="List them: outlast history TENANT")
        if number == present[-1]:
            raise Refused(
                f"run {number} is the newest of source {source!r}: the next backup builds on it",
                hint="Forget it after the next backup. To give up a customer for good: outlast erase TENANT",
            )
        if ledger.held(number, prefix):
            raise Refused(f"run {number} is on hold", hint="See `outlast hold`; release the hold first.", code="held")
    fresh = tuple(sorted(number for number in set(numbers) if not ledger.forgotten(number, prefix)))
    whose = "" if entry is None else f" of tenant {entry.tenant}"
    mark = _mark(source, now, MarkKind.FORGET, prefix=prefix, runs=fresh, not_before=now + max(grace, GRACE_MIN))
    lines = [
        f"forget {_count(len(fresh), 'run')}{whose}: {_ranges(fresh)}",
        f"until {mark.not_before:%Y-%m-%d %H:%M} UTC it can be taken back; after that, `outlast prune` deletes",
    ]
    return _plan(RetentionKind.FORGET, ledger, now, (mark,) if fresh else (), lines if fresh else ["nothing to forget"])


def plan_prune(
    vault: Vault, source: str, *, now: datetime, grace: timedelta, keep: timedelta | None = None
) -> RetentionPlan:
    """Delete what no kept run needs and whose grace period is over; with `keep`, mark the runs that are older, too.

    Opens every kept manifest: what it points to stays. Raises rather than guess where one cannot be read.
    """
    ledger = vault.ledger(source)
    sweep = find_sweep(vault, source, ledger, now=now, grace=max(grace, GRACE_MIN))
    marks, lines = [], []
    if keep is not None and (old := _older(vault, source, ledger, now - keep)):
        mark = _mark(source, now, MarkKind.FORGET, runs=old, not_before=now + max(grace, GRACE_MIN))
        marks.append(mark)
        lines.append(f"forget {_count(len(old), 'run')}, older than {keep.days} days: {_ranges(old)}")
    if keep is not None and (folders := old_undo(vault.store, source, ledger, now - keep)):
        soon = now + max(grace, GRACE_MIN)
        fields: dict[str, Any] = {"until": NO_RUN, "not_before": soon, "objects": folders}
        marks.append(_mark(source, now, MarkKind.FORGET, **fields))
        lines += _forgotten(source, folders, keep)
    paths = sweep.paths
    named = paths + sweep.told
    parts = (named[start : start + _OBJECTS_IN_MARK_MAX] for start in range(0, len(named), _OBJECTS_IN_MARK_MAX))
    marks += [_mark(source, now, MarkKind.SWEEP, objects=part) for part in parts]
    lines += _sweep_lines(sweep)
    return _plan(RetentionKind.PRUNE, ledger, now, tuple(marks), lines, paths, sweep.size_bytes)


def _forgotten(source: str, folders: Sequence[str], keep: timedelta) -> Iterator[str]:
    receipts = sum(folder.startswith(f"{source}/receipts/") for folder in folders)
    if len(folders) > receipts:
        yield f"forget how to undo {_count(len(folders) - receipts, 'plan')}, older than {keep.days} days"
    if receipts:
        yield f"forget {_count(receipts, 'receipt')} of rehearsals, older than {keep.days} days"


def plan_hold(
    vault: Vault,
    source: str,
    *,
    now: datetime,
    entry: TenantEntry | None = None,
    numbers: Sequence[int] = (),
) -> RetentionPlan:
    """Keep a tenant, some runs, a tenant's part of some runs, or (neither given) everything, until it is released."""
    present = set(runs(vault.store, source))
    if unknown := sorted(set(numbers) - present):
        raise NotFoundError(f"source {source!r} has no run {unknown[0]}", hint="List them: outlast history TENANT")
    prefix = None if entry is None else entry.prefix
    mark = _mark(source, now, MarkKind.HOLD, prefix=prefix, runs=tuple(sorted(set(numbers))))
    what = "everything" if entry is None else f"tenant {entry.tenant}"
    which = f" in runs {_ranges(mark.runs)}" if mark.runs else ""
    return _plan(RetentionKind.HOLD, vault.ledger(source), now, (mark,), [f"hold {what}{which}, until it is released"])


def plan_release(vault: Vault, source: str, number: int, *, now: datetime) -> RetentionPlan:
    """Take back a hold, a forget or an erase by its mark's number. Raises NotFoundError, Refused where it is done."""
    ledger = vault.ledger(source)
    kinds = (MarkKind.HOLD, MarkKind.FORGET, MarkKind.ERASE)
    mark = next((mark for mark in ledger.standing(*kinds) if mark.number == number), None)
    if mark is None:
        known = ", ".join(str(mark.number) for mark in ledger.standing(*kinds)) or "none"
        raise NotFoundError(f"there is no standing mark {number}", hint=f"Standing are: {known}.")
    if any(done.refers_to == number for done in ledger.standing(MarkKind.DESTROY)):
        raise Refused("that erasure was carried out: the key is gone", hint="Nothing brings it back.", code="erased")
    taken = _mark(ledger.source, now, MarkKind.CANCEL, refers_to=number)
    lines = [f"take back mark {number}: {mark.kind.value} of {mark.at:%Y-%m-%d %H:%M} UTC"]
    if mark.kind is MarkKind.FORGET:
        lines.append("what was pruned already does not come back")
    return _plan(RetentionKind.RELEASE, ledger, now, (taken,), lines)


def plan_erase(vault: Vault, source: str, entry: TenantEntry, *, now: datetime, grace: timedelta) -> RetentionPlan:
    """Erase a customer: first a mark, and once its grace period is over the destruction of every key of theirs.

    Raises Refused before that date, for a tenant on hold, and for what is not a customer.
    """
    ledger = vault.ledger(source)
    if entry.tenant.key in (SHARED, SCHEMA):
        raise Refused(f"{entry.tenant} is not a customer: every restore needs it", hint="Erase single tenants.")
    if ledger.tenant_held(entry.prefix):
        raise Refused(f"tenant {entry.tenant} is on hold", hint="Release the hold first: outlast hold", code="held")
    mark = ledger.erasing(entry.prefix)
    if mark is None:
        return _plan_erase_mark(ledger, entry, now, now + max(grace, GRACE_MIN))
    assert mark.not_before is not None
    if now < mark.not_before:
        raise Refused(
            f"tenant {entry.tenant} is marked for erasure; its grace period ends {mark.not_before:%Y-%m-%d %H:%M} UTC",
            hint=f"Run this again then. To take it back: outlast erase --release {mark.number}",
            code="grace",
        )
    _refuse_unfolded(vault, source, entry)
    folder = f"{source}/{entry.prefix}/keys/"
    keys = {item.path: item.size_bytes for item in vault.store.list(folder)}
    # The key named by the runs is destroyed even if its object is gone: the mark is what makes it refused from now on.
    paths = tuple(sorted({*keys, key_path(source, entry.prefix, entry.recipient)}))
    destroy = _mark(source, now, MarkKind.DESTROY, prefix=entry.prefix, objects=paths, refers_to=mark.number)
    lines = [
        f"destroy {_count(len(paths), 'key')} of tenant {entry.tenant}: none of its backups can be read again",
        "a bucket that keeps old versions keeps the key too: delete its versions there",
        "should the tenant still be in the database, the next backup takes it in again, under a new key",
    ]
    return _plan(RetentionKind.ERASE, ledger, now, (destroy,), lines, paths, sum(keys.values()))


def _refuse_unfolded(vault: Vault, source: str, entry: TenantEntry) -> None:
    """Rows that this tenant gave to another lie in its own log, until a fold writes them into the other's."""
    timeline = Timeline(vault, source, _no_spool)
    if timeline.gave_away(entry):
        raise Refused(
            f"rows went from tenant {entry.tenant} to another, and only its own key opens the log that has them",
            hint="Fold the log first, then erase: outlast fold",
            code="unfolded",
        )


def _no_spool() -> Spooling:
    raise BugError("no state is computed here")


def plan_unfinished_erasures(vault: Vault, source: str, *, now: datetime) -> RetentionPlan:
    """Delete the keys that a `destroy` mark names and that are still there: of an erasure that was interrupted."""
    ledger = vault.ledger(source)
    named = {path for mark in ledger.standing(MarkKind.DESTROY) for path in mark.objects}
    left = tuple(sorted(path for path in named if vault.store.exists(path)))
    lines = (
        [f"destroy {_count(len(left), 'key')} of erasures that were interrupted"] if left else ["nothing is left over"]
    )
    return _plan(RetentionKind.ERASE, ledger, now, (), lines, left)


def execute(vault: Vault, plan: RetentionPlan, signer: Signer) -> Ledger:
    """Carry out a plan as it was shown. Raises Refused where the vault's marks are not those it was computed from.

    Marks first: an interruption leaves everything explained, and another plan finishes it.
    """
    ledger = load_ledger(vault.store, plan.source, vault.pin.signers)
    if ledger.head != plan.ledger:
        raise Refused(
            "the vault's marks have changed since this plan was made",
            hint="Nothing was changed. Plan again, and look at what is different.",
            code="stale",
        )
    ledger = write_marks(vault.store, ledger, plan.marks, signer)
    records = [path for path in plan.deletes if "/runs/" in path]
    for path in records:  # in their order: see Sweep.paths
        vault.store.delete(path)
    with ThreadPoolExecutor(_DELETES_AT_ONCE, "delete") as pool:
        for _ in pool.map(vault.store.delete, plan.deletes[len(records) :]):
            pass
    vault.forget_cached(plan.source)
    return ledger


def _plan_erase_mark(ledger: Ledger, entry: TenantEntry, now: datetime, not_before: datetime) -> RetentionPlan:
    mark = _mark(ledger.source, now, MarkKind.ERASE, prefix=entry.prefix, not_before=not_before)
    lines = [
        f"mark tenant {entry.tenant} for erasure; nothing is destroyed yet",
        f"from {not_before:%Y-%m-%d %H:%M} UTC on, `outlast erase` destroys its key; until then it can be taken back",
    ]
    return _plan(RetentionKind.ERASE, ledger, now, (mark,), lines)


def _older(vault: Vault, source: str, ledger: Ledger, limit: datetime) -> tuple[int, ...]:
    """Runs of before `limit`, as far as they are neither forgotten nor held. The newest run is never among them."""
    present = runs(vault.store, source)[:-1]
    fresh = [number for number in present if not ledger.held(number, None) and not ledger.forgotten(number)]
    return tuple(number for number in fresh if vault.run(source, number).moment.time < limit)


def _sweep_lines(sweep: Sweep) -> list[str]:
    kinds = (
        ("run record", sweep.records),
        ("segment of the log", sweep.segments),
        ("pack", sweep.packs),
        ("key", sweep.keys),
        ("before-image", sweep.undo),
        ("leftover of interrupted backups", sweep.leftovers),
    )
    return [f"delete {_count(len(paths), what)}" for what, paths in kinds if paths] or ["nothing is due to be deleted"]


def _plan(
    kind: RetentionKind,
    ledger: Ledger,
    now: datetime,
    marks: tuple[Mark, ...],
    lines: Sequence[str],
    deletes: tuple[str, ...] = (),
    delete_bytes: int = 0,
) -> RetentionPlan:
    return RetentionPlan(kind, ledger.source, now, ledger.head, marks, deletes, delete_bytes, tuple(lines))


def _mark(source: str, now: datetime, kind: MarkKind, **fields: Any) -> Mark:
    """A mark without its number and chain, which it gets when it is written."""
    return Mark(source, 0, None, now, kind, **fields)


def _count(number: int, noun: str) -> str:
    first, _, rest = noun.partition(" ")
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {first}s {rest}".rstrip()


def _ranges(numbers: Sequence[int]) -> str:
    """`1-4, 7`."""
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in found)
