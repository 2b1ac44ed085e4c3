"""Lineage: which manifest was a tenant's newest in which runs, over all runs that are in the store.

Retention asks it what is still needed, scrubbing what must be there. It is built from run records alone, one at a time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from outlast.vault.manifest import Head
from outlast.vault.run import RunRecord


@dataclass(frozen=True, slots=True)
class Span:
    """A manifest, and the first and last run at which it is its tenant's newest."""

    prefix: str
    recipient: str
    head: Head
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Lineage:
    """All spans, and the runs that are in the store, ascending."""

    spans: tuple[Span, ...]
    runs: tuple[int, ...]

    def any_run(self, span: Span, kept: Callable[[int, str], bool]) -> bool:
        """Whether one of the span's runs that are in the store is `kept` for its tenant."""
        start = bisect_left(self.runs, span.first)
        stop = bisect_left(self.runs, span.last + 1)
        return any(kept(self.runs[place], span.prefix) for place in range(start, stop))


def trace(records: Iterable[RunRecord]) -> Lineage:
    """The lineage of records given in ascending order. A gap (swept runs) is bridged by the full record after it."""
    done: list[Span] = []
    current: dict[str, Span] = {}
    numbers: list[int] = []
    for record in records:
        for prefix, head in record.heads.items():
            before = current.get(prefix)
            recipient = record.recipients.get(prefix) or (before.recipient if before else "")
            if before is not None and (before.head, before.recipient) == (head, recipient):
                continue
            if before is not None:
                done.append(replace(before, last=record.run - 1))
            current[prefix] = Span(prefix, recipient, head, record.run, record.run)
        if record.full:
            erased = current.keys() - record.heads.keys()
            done += [replace(current.pop(prefix), last=record.run - 1) for prefix in erased]
        numbers.append(record.run)
    newest = numbers[-1] if numbers else 0
    done += [replace(span, last=newest) for span in current.values()]
    return Lineage(tuple(sorted(done, key=lambda span: (span.prefix, span.first))), tuple(numbers))
