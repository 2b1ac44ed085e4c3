"""Marks: what retention decided, as signed, numbered, chained records beside the runs. Nothing is ever edited.

Nothing is taken away in one step. A mark says what shall go and not before when; later another command sweeps. Before
anything is deleted a `sweep` or `destroy` mark names it, so that what is missing afterwards can be told from damage.

    <source>/marks/0000000001.json

Put-if-absent of the next number is the lock between two commands. The `Ledger` is what all marks together say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from outlast.core.errors import CorruptionError, Refused
from outlast.vault.record import FORMAT, decode_record, digest, encode_record
from outlast.vault.signature import NAMESPACE_MARK, Signer
from outlast.vault.store import AlreadyExistsError, Store


class MarkKind(StrEnum):
    FORGET = "forget"  # runs, or a tenant's part of them, shall go
    ERASE = "erase"  # a tenant's keys shall be destroyed
    HOLD = "hold"  # nothing of this tenant, these runs or (neither given) this source may go
    CANCEL = "cancel"  # an earlier forget, erase or hold no longer counts
    SWEEP = "sweep"  # these objects are deleted from now on
    DESTROY = "destroy"  # these keys are deleted from now on: the tenant is erased


@dataclass(frozen=True, slots=True)
class Mark:
    """One decision. `runs` empty means all runs up to `until`; `prefix` None means all tenants."""

    source: str
    number: int
    previous: str | None  # SHA-256 of the mark before
    at: datetime
    kind: MarkKind
    prefix: str | None = None
    runs: tuple[int, ...] = ()
    until: int | None = None
    not_before: datetime | None = None
    objects: tuple[str, ...] = ()
    refers_to: int | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "source": self.source,
            "mark": self.number,
            "previous": self.previous,
            "at": self.at.isoformat(),
            "kind": self.kind.value,
            "prefix": self.prefix,
            "runs": list(self.runs),
            "until": self.until,
            "not_before": None if self.not_before is None else self.not_before.isoformat(),
            "objects": list(self.objects),
            "refers_to": self.refers_to,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Mark:
        not_before = data["not_before"]
        return cls(
            data["source"],
            data["mark"],
            data["previous"],
            datetime.fromisoformat(data["at"]),
            MarkKind(data["kind"]),
            data["prefix"],
            tuple(data["runs"]),
            data["until"],
            None if not_before is None else datetime.fromisoformat(not_before),
            tuple(data["objects"]),
            data["refers_to"],
        )

    def covers(self, run: int, prefix: str | None) -> bool:
        """Whether it is about a tenant's part of a run. `prefix` None asks about the run as a whole."""
        if self.prefix is not None and self.prefix != prefix:
            return False
        if self.runs:
            return run in self.runs
        return self.until is None or run <= self.until


_RECIPIENT = re.compile(r"/keys/(age1[0-9a-z]+)\.age$")


@dataclass(frozen=True, slots=True)
class Ledger:
    """What all marks of a source say together. `head` is the SHA-256 of the newest mark."""

    source: str
    marks: tuple[Mark, ...] = ()
    head: str | None = None
    _standing: Mapping[MarkKind, tuple[Mark, ...]] = field(default_factory=dict, repr=False)
    _swept: tuple[tuple[Mark, tuple[Mark, ...]], ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, source: str, marks: Sequence[Mark], head: str | None) -> Ledger:
        cancelled = {mark.refers_to for mark in marks if mark.kind is MarkKind.CANCEL}
        standing = {
            kind: tuple(mark for mark in marks if mark.kind is kind and mark.number not in cancelled)
            for kind in MarkKind
        }
        return cls(source, tuple(marks), head, standing, tuple(_carried_out(marks)))

    @property
    def newest(self) -> tuple[int, str | None] | None:
        """The newest mark's number and hash: a record that names it shows later whether it is still there."""
        return (self.marks[-1].number, self.head) if self.marks else None

    def standing(self, *kinds: MarkKind) -> tuple[Mark, ...]:
        """Marks of these kinds that were not cancelled."""
        return tuple(mark for kind in kinds for mark in self._standing.get(kind, ()))

    def forgotten(self, run: int, prefix: str | None = None) -> Mark | None:
        """The mark by which a run, or a tenant's part of it, is forgotten. Holds win, but for what was swept before."""
        gone = self._gone(run, prefix)
        if gone is not None or self.held(run, prefix):
            return gone
        return next((mark for mark in self.standing(MarkKind.FORGET) if mark.covers(run, prefix)), None)

    def due(self, run: int, prefix: str, now: datetime) -> bool:
        """Whether a tenant's part of a run is forgotten by a mark whose grace period is over."""
        if self._gone(run, prefix) is not None:
            return True
        if self.held(run, prefix):
            return False
        marks = self.standing(MarkKind.FORGET)
        return any(
            mark.covers(run, prefix) and mark.not_before is not None and mark.not_before <= now for mark in marks
        )

    def held(self, run: int, prefix: str | None) -> bool:
        """Whether a hold keeps it. A run as a whole is held where any part of it is."""
        return self._gone(run, prefix) is None and _held(self.standing(MarkKind.HOLD), run, prefix)

    def _gone(self, run: int, prefix: str | None) -> Mark | None:
        """The mark by which its objects were deleted already: no hold and no release brings them back."""
        return next(
            (mark for mark, holds in self._swept if mark.covers(run, prefix) and not _held(holds, run, prefix)), None
        )

    def tenant_held(self, prefix: str) -> bool:
        return any(hold.prefix in (None, prefix) for hold in self.standing(MarkKind.HOLD))

    @property
    def swept(self) -> frozenset[str]:
        """Objects whose absence is no damage."""
        marks = self.standing(MarkKind.SWEEP, MarkKind.DESTROY)
        return frozenset(path for mark in marks for path in mark.objects)

    @property
    def erased(self) -> frozenset[str]:
        """Public halves of destroyed keys. What is sealed to them stays closed, even if a copy of the key turns up."""
        paths = (path for mark in self.standing(MarkKind.DESTROY) for path in mark.objects)
        return frozenset(match[1] for match in map(_RECIPIENT.search, paths) if match)

    def erasing(self, prefix: str) -> Mark | None:
        """The standing erase mark of a tenant that has not been carried out."""
        done = {mark.refers_to for mark in self.standing(MarkKind.DESTROY)}
        marks = self.standing(MarkKind.ERASE)
        return next((mark for mark in marks if mark.prefix == prefix and mark.number not in done), None)


def _held(holds: Sequence[Mark], run: int, prefix: str | None) -> bool:
    if prefix is None:
        return any(not hold.runs or run in hold.runs for hold in holds)
    return any(hold.covers(run, prefix) for hold in holds)


def _carried_out(marks: Sequence[Mark]) -> Iterator[tuple[Mark, tuple[Mark, ...]]]:
    """Each forget that was due when something was swept, with the holds that stood just then; every such pair once."""
    standing: dict[int, Mark] = {}
    seen: set[tuple[int, tuple[int, ...]]] = set()
    for mark in marks:
        if mark.kind is MarkKind.CANCEL and mark.refers_to is not None:
            standing.pop(mark.refers_to, None)
        elif mark.kind in (MarkKind.FORGET, MarkKind.HOLD):
            standing[mark.number] = mark
        elif mark.kind is MarkKind.SWEEP:
            holds = tuple(one for one in standing.values() if one.kind is MarkKind.HOLD)
            for one in standing.values():
                due = one.kind is MarkKind.FORGET and one.not_before is not None and one.not_before <= mark.at
                pair = (one.number, tuple(hold.number for hold in holds))
                if due and pair not in seen:
                    seen.add(pair)
                    yield one, holds


def mark_path(source: str, number: int) -> str:
    return f"{source}/marks/{number:010d}.json"


def mark_numbers(store: Store, source: str) -> list[int]:
    names = (item.path.rpartition("/")[2].removesuffix(".json") for item in store.list(f"{source}/marks/"))
    return sorted(int(name) for name in names if name.isdigit())


def load_ledger(store: Store, source: str, signers: Sequence[str]) -> Ledger:
    """All marks, verified, from the first on. Raises CorruptionError where one is missing or does not follow."""
    marks: list[Mark] = []
    head: str | None = None
    for expected, number in enumerate(mark_numbers(store, source), start=1):
        if number != expected:
            raise CorruptionError(f"mark {mark_path(source, expected)} is gone", code="missing-object")
        mark, found = read_mark(store, source, number, signers)
        if mark.previous != head:
            raise CorruptionError(
                f"mark {mark_path(source, number)} does not follow the one before it: one of both was replaced",
                code="chain",
            )
        marks.append(mark)
        head = found
    return Ledger.of(source, marks, head)


def read_mark(store: Store, source: str, number: int, signers: Sequence[str]) -> tuple[Mark, str]:
    """A verified mark, and the SHA-256 of its object."""
    path = mark_path(source, number)
    data = store.get(path)
    fields = decode_record(data, NAMESPACE_MARK, signers, f"mark {path}")
    try:
        mark = Mark.from_json(fields)
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptionError(f"mark {path} cannot be read: it is not a mark", code="mark") from error
    if (mark.source, mark.number) != (source, number):
        raise CorruptionError(f"mark {path} is another one, {mark.number} of {mark.source}", code="mark")
    return mark, digest(data)


def write_marks(store: Store, ledger: Ledger, marks: Iterable[Mark], signer: Signer) -> Ledger:
    """Add marks after those of `ledger`, numbered and chained. Raises Refused where another command got in between."""
    for mark in marks:
        numbered = replace(mark, source=ledger.source, number=len(ledger.marks) + 1, previous=ledger.head)
        data = encode_record(numbered.to_json(), NAMESPACE_MARK, signer)
        path = mark_path(ledger.source, numbered.number)
        try:
            store.create(path, data)
        except AlreadyExistsError as error:
            if store.get(path) != data:  # else an answer was lost on the way: it had arrived
                raise Refused(
                    "another retention command changed this vault while this one was at work",
                    hint="Nothing was deleted. Look at the plan again, then run the command again.",
                    code="locked",
                ) from error
        ledger = Ledger.of(ledger.source, [*ledger.marks, numbered], digest(data))
    store.flush()
    return ledger
