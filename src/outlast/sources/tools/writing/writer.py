"""What may be written into a tool, and what every vendor's writer does: look for it by its mark, look where it belongs,
create it once.

A writer creates and never changes or deletes, so nothing of the vendor's is overwritten. Each object carries a mark
with our id, by which it is found again: whoever was killed between the vendor's work and its answer need not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket that was taken here. `twice_since`: an attempt of then is not found, and may turn up all the same."""

    id: str
    by: str
    at: datetime
    title: str
    text: str
    project: str
    kind: str  # "Task"
    twice_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on a document of the tool, which its table and key there name."""

    id: str
    by: str
    at: datetime
    table: str
    key: str
    text: str
    twice_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """Somebody takes over a schedule from `start`, which may be past, until `end`."""

    id: str
    by: str
    at: datetime
    schedule: str
    person: str
    start: datetime
    end: datetime
    twice_since: datetime | None = None


Wanted = Ticket | Comment | Turn


@dataclass(frozen=True, slots=True)
class Place:
    """What something became in the tool: its key, and where people see it."""

    key: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with what something belongs to: a comment's ticket, an override's schedule.

    `name` is what people call it, and `state` what they see of it (`Done`). `others` are other people's overrides of
    the same hours. `cannot` is why nothing can be written there.
    """

    name: str
    gone: bool = False
    changed_at: datetime | None = None
    state: str = ""
    others: tuple[str, ...] = ()
    cannot: str | None = None


class Writer(Protocol):
    """One account of a vendor, opened for writing. Every method asks the vendor; RefusedError and TransientError."""

    def cannot(self, wanted: Wanted) -> str | None:
        """Why this kind of thing cannot be written into this tool; None where it can. Asks nobody."""

    def lag_s(self, wanted: Wanted) -> float:
        """How long after it was created `find` may not see it yet."""

    def find(self, wanted: Wanted) -> Place | None:
        """By its mark. Idempotent."""

    def standing(self, wanted: Wanted) -> Standing:
        """Of what it belongs to, now. Idempotent."""

    def create(self, wanted: Wanted, now: datetime) -> Place:
        """Once. Where it is not known whether it was done this raises UnclearError; never tried again by itself."""

    def close(self) -> None: ...


def mark_of(wanted: Wanted) -> str:
    """What is looked for: it stands in the object, and in nothing else."""
    return f"outlast-{wanted.id}"


def signed(wanted: Wanted) -> str:
    """The line that says where it came from, with its mark."""
    text = f"Written by {wanted.by} at {minute(wanted.at)} at Outlast's desk, brought here later ({mark_of(wanted)})."
    if wanted.twice_since is not None:
        text += f" This may be here twice: an attempt at {minute(wanted.twice_since)} was cut off."
    return text


def minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def stamped(at: datetime) -> str:
    """A time as vendors take it, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
