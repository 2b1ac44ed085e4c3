"""Which before-images may be deleted: those of plans that a mark gave up, once its grace period is over.

They are given up plan by plan: a mark names the plan's folder, and until its date a `release` takes that back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime

from outlast.vault.marks import Ledger, Mark, MarkKind
from outlast.vault.store import Store, StoredObject

NO_RUN = 0
"""As the `until` of a mark that gives up before-images: it covers no run."""


def old_undo(store: Store, source: str, ledger: Ledger, limit: datetime) -> tuple[str, ...]:
    """Folders of plans whose before-images were all written before `limit`, and that are neither given up nor held."""
    if _held(ledger):
        return ()
    given_up = {folder for mark in _marks(ledger) for folder in mark.objects}
    found = sorted(_folders(store, source).items())
    return tuple(
        folder for folder, items in found if folder not in given_up and all(item.modified < limit for item in items)
    )


def due_undo(store: Store, source: str, ledger: Ledger, now: datetime) -> dict[str, int]:
    """Paths to delete, with their sizes in bytes. What came into a folder after its mark stays."""
    due: dict[str, datetime] = {}
    for mark in _marks(ledger):
        if mark.not_before is not None and mark.not_before <= now:
            due |= {folder: max(mark.at, due.get(folder, mark.at)) for folder in mark.objects}
    if not due or _held(ledger):
        return {}
    folders = _folders(store, source)
    return {
        item.path: item.size_bytes
        for folder, at in sorted(due.items())
        for item in folders.get(folder, ())
        if item.modified < at
    }


def _folders(store: Store, source: str) -> dict[str, list[StoredObject]]:
    found: dict[str, list[StoredObject]] = defaultdict(list)
    for kind in ("undo", "receipts"):
        for item in store.list(f"{source}/{kind}/"):
            found[item.path.rpartition("/")[0]].append(item)
    return found


def _marks(ledger: Ledger) -> Iterator[Mark]:
    return (mark for mark in ledger.standing(MarkKind.FORGET) if mark.until == NO_RUN and mark.objects)


def _held(ledger: Ledger) -> bool:
    """One before-image has rows of many tenants: a hold on any tenant, or on everything, keeps all of them."""
    return any(not hold.runs for hold in ledger.standing(MarkKind.HOLD))
