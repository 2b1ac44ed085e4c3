"""What may be written into a tool, and what every vendor's writer does: look for it by its mark, look where it belongs,
create it once.

A writer creates and never changes or deletes, so nothing of the vendor's is overwritten. Each object carries a mark
with our id, by which it is found again: whoever was killed between the vendor's work and its answer need not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol
from unicodedata import category

from outlast.sources.tools.connector import time_of


@dataclass(frozen=True, slots=True)
class Ticket:
    """A ticket that was taken here. `attempted_at`: when it was sent before, and nobody knows what became of it."""

    id: str
    by: str
    at: datetime
    title: str
    text: str
    attempted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment on a document of the tool, which its table and key there name."""

    id: str
    by: str
    at: datetime
    table: str
    key: str
    text: str
    attempted_at: datetime | None = None


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
    attempted_at: datetime | None = None
    ours: frozenset[str] = frozenset()  # the keys of what we set there before: the one that was set last counts


Wanted = Ticket | Comment | Turn


@dataclass(frozen=True, slots=True)
class Terms:
    """How this account is written to: Jira's project and issue type, and by whom (PagerDuty asks for an address)."""

    project: str | None = None
    issue_type: str = "Task"
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What something became in the tool: its key, where people see it, and when that was by the tool's clock."""

    key: str
    url: str | None = None
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with what something belongs to: a comment's ticket, an override's schedule.

    `name` is what people call it, and `state` what they see of it (`Done`). `others` are other people's overrides of
    the same hours. `cannot` is why nothing can be written there, and `remedy` what would change that.
    """

    name: str
    gone: bool = False
    changed_at: datetime | None = None
    state: str = ""
    others: tuple[str, ...] = ()
    cannot: str | None = None
    remedy: str | None = None


class Writer(Protocol):
    """One account of a vendor, opened for writing. Every method asks the vendor; RefusedError and TransientError."""

    def cannot(self, wanted: Wanted) -> str | None:
        """Why this kind of thing cannot be written into this tool; None where it can. Asks nobody."""

    def lag_s(self, wanted: Wanted) -> float:
        """How long after it was created `find` may not see it yet."""

    def find(self, wanted: Wanted) -> Place | None:
        """By its mark; None also where what it belongs to is gone. Idempotent."""

    def standing(self, wanted: Wanted) -> Standing:
        """Of what it belongs to, now. Idempotent."""

    def create(self, wanted: Wanted, now: datetime) -> Place:
        """Once. Where it is not known whether it was done this raises UnclearError; never tried again by itself."""

    def close(self) -> None: ...


def mark_of(wanted: Wanted) -> str:
    """What is looked for: it stands in the object, and in nothing else."""
    return f"outlast-{wanted.id}"


def signed(wanted: Wanted, tool: str, *, hides: bool = False) -> str:
    """The line that says where it came from, with its mark. `hides`: what was sent before may not be seen yet."""
    text = f"Entered in Outlast by {wanted.by} at {minute(wanted.at)}, while {tool} was away ({mark_of(wanted)})."
    if hides and wanted.attempted_at is not None:
        text += f" This may be here twice: an attempt at {minute(wanted.attempted_at)} was cut off."
    return text


def lines_of(wanted: Ticket | Comment, tool: str, *, hides: bool = False) -> list[str]:
    """The text, and the line that says where it came from."""
    line = signed(wanted, tool, hides=hides)
    text = "".join(one for one in wanted.text if one in "\n\t" or category(one) != "Cc")
    return [*text.split("\n"), "", line] if text else [line]


def visible(text: str) -> str:
    """Text of others for a terminal: on one line, and without what would move its cursor."""
    return "".join(one for one in " ".join(text.split()) if category(one)[0] != "C")


def meets(turn: Turn, start: object, end: object) -> bool:
    """Whether hours that the vendor tells have some in common with a turn's."""
    begins, ends = time_of(start), time_of(end)
    return begins is not None and ends is not None and begins < turn.end and turn.start < ends


def minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def stamped(at: datetime) -> str:
    """A time as vendors take it, to the second."""
    return f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
