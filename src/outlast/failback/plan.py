"""What is to become of each thing that waits, decided from what the tool says of it; pure values.

A plan is known by its fingerprint: who was shown one has exactly that done, or is refused.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from outlast.core.effect import Count, Effect, Operation, merge
from outlast.core.errors import OutlastError
from outlast.core.tenant import TenantKey
from outlast.failback.item import Item
from outlast.sources.tools.writing.writer import Comment, Place, Standing, Ticket, minute, visible

_OURS = timedelta(seconds=10)
"""A change so soon after our own is ours: the tool writes down the time of a comment, and then that of its ticket."""
_SAME = timedelta(milliseconds=1)
"""Times that are kept as seconds may be off by less."""

_ID_LENGTH = 9


class Fate(StrEnum):
    DONE = "brought"
    BRING = "bring"
    THERE = "already there"
    AFTER = "after its ticket"
    OVER = "no longer waits"
    CONFLICT = "conflict"
    BLOCKED = "blocked"  # it cannot go as things stand, whatever is accepted
    UNASKED = "could not ask"
    UNCLEAR = "unclear"  # it may have arrived
    FAILED = "failed"  # it has not

    @property
    def told(self) -> str:
        """After a number of them."""
        return {"bring": "to bring", "conflict": "in conflict"}.get(self.value, self.value)

    @property
    def code(self) -> str:
        """For machines, in --json's error."""
        return {"could not ask": "vendor-away"}.get(self.value, self.value)


@dataclass(frozen=True, slots=True)
class Step:
    """One item's part. `told` says what it meets in the tool or why it does not go; `hint` what a person can do."""

    item: Item
    fate: Fate
    told: str = ""
    hint: str | None = None
    place: Place | None = None

    def to_json(self) -> dict[str, object]:
        return {
            "id": self.item.id,
            "kind": self.item.kind,
            "source": self.item.source,
            "title": self.item.title,
            "by": self.item.by,
            "at": self.item.at.isoformat(),
            "state": self.fate.value,
            "told": self.told,
            "hint": self.hint,
            "key": None if self.place is None else self.place.key,
            "url": None if self.place is None else self.place.url,
        }


@dataclass(frozen=True, slots=True)
class Failback:
    steps: tuple[Step, ...]
    executed: bool = False

    @property
    def id(self) -> str:
        """Over what would be done with each item and why: the same again says that nothing has changed."""
        told = "\n".join(f"{one.item.id} {one.fate} {one.told}" for one in self.steps)
        return hashlib.sha256(told.encode()).hexdigest()[:_ID_LENGTH]

    def count(self, *fates: Fate) -> int:
        return sum(one.fate in fates for one in self.steps)

    @property
    def conflicts(self) -> tuple[Step, ...]:
        """What does not go as things stand."""
        return tuple(one for one in self.steps if one.fate in (Fate.CONFLICT, Fate.BLOCKED))

    @property
    def effect(self) -> Effect:
        """What is inserted, by source and kind of object; after the execution, what was."""
        counted = (Fate.DONE,) if self.executed else (Fate.BRING, Fate.AFTER)
        return merge(
            Effect({(TenantKey(one.item.source), one.item.kind + "s", Operation.INSERT): Count(1)})
            for one in self.steps
            if one.fate in counted
        )


def decide(item: Item, found: Place | None, standing: Standing | None, *, accepts: bool) -> Step:
    """What becomes of an item that the tool says this of: where it is, or else how it stands with what it belongs to.

    `accepts`: a person knows what changed there meanwhile.
    """
    if found is not None:
        return Step(item, Fate.THERE, f"as {found.key}", place=found)
    assert standing is not None
    standing = replace(standing, name=visible(standing.name), others=tuple(map(visible, standing.others)))
    by_hand = (
        f"Written there by hand: outlast failback --by-hand {item.short}=KEY; not needed there: "
        f"outlast failback --leave {item.short}"
    )
    if standing.gone:
        return Step(item, Fate.CONFLICT, f"{standing.name} is gone", by_hand)
    if standing.cannot is not None:
        return Step(item, Fate.BLOCKED, standing.cannot, standing.remedy or by_hand)
    changed = _changed(item, standing.changed_at)
    told = f"{standing.name} has changed since ({minute(changed)}{_state(standing)})" if changed else ""
    if standing.others:
        told = f"{standing.name} has another override: {'; '.join(standing.others)}"
    if told and not accepts:
        look = f"Look at it there. Still right: outlast failback --execute --accept-changed --only {item.short}"
        return Step(item, Fate.CONFLICT, told, f"{look}; not any more: outlast failback --leave {item.short}")
    where = f"new in {standing.name}" if isinstance(item.wanted, Ticket) else f"on {standing.name}"
    return Step(item, Fate.BRING, f"{told}; accepted" if told else _again(item, where))


def _changed(item: Item, changed_at: datetime | None) -> datetime | None:
    """When somebody else changed what a comment belongs to since its author saw it; None where nobody did."""
    if item.seen_at is None or changed_at is None or not isinstance(item.wanted, Comment):
        return None
    known = item.seen_at if item.own_change_at is None else max(item.seen_at, item.own_change_at + _OURS)
    return changed_at if changed_at > known + _SAME else None


def _state(standing: Standing) -> str:
    return f", now {standing.state}" if standing.state else ""


def _again(item: Item, where: str) -> str:
    if item.attempted_at is None:
        return where
    return f"{where}; sent at {minute(item.attempted_at)}, and not there"


def failed(step: Step, error: OutlastError, fate: Fate) -> Step:
    return replace(step, fate=fate, told=error.message, hint=error.hint)
