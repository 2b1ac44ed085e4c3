"""How sending a letter went, the same for every channel. `problem` never holds an address or a secret."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from outlast.incident.letters import Letter


class Went(StrEnum):
    SENT = "sent"
    LATER = "later"  # a passing fault: try again
    UNCLEAR = "unclear"  # the answer was lost: it may have arrived, and is sent again
    REFUSED = "refused"  # the address will never take it: a bounce


@dataclass(frozen=True, slots=True)
class Outcome:
    went: Went
    problem: str | None = None


SENT = Outcome(Went.SENT)


class Sender(Protocol):
    """One thread's way to send. `send` never raises for what the other side does; a letter that may have arrived
    already (`again`) says so. `close` ends what it kept open."""

    def send(self, letter: Letter, *, again: bool = False) -> Outcome: ...

    def close(self) -> None: ...
