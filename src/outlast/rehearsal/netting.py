"""What each row counts as: one row once, by the net of all that a script did to it. Pure.

A row that is set NULL and then deleted is a row deleted; one that is inserted and deleted is none. One that is deleted
and made anew counts as both: what went never hides behind what came. Rows of a table without a key cannot be told
apart, so there each change counts; and so it does past TOUCHED_MAX rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, islice
from typing import NamedTuple

from outlast.core.effect import SAMPLES_MAX, Count, Operation, Via
from outlast.core.row import unescape
from outlast.rehearsal.touched import TOUCHED_MAX


class Counted(NamedTuple):
    """What one row counts as, for its tenant: of a row that was there, whose it was. `to` has it after a move.

    `shown`: it was soft-deleted, and is no more.
    """

    tenant: int
    table: str
    operation: Operation
    via: Via
    columns: frozenset[str] = frozenset()
    to: int = 0
    shown: bool = False


def net(before: Counted, now: Counted) -> Counted | None:
    """One change behind another of the same row; None where nothing is left of it."""
    if before.operation is Operation.INSERT:
        if now.operation is Operation.HARD_DELETE:
            return None
        return before._replace(tenant=now.to) if now.operation is Operation.MOVE else before
    if now.operation is Operation.HARD_DELETE:
        return now._replace(tenant=before.tenant)
    operation, to = now.operation, before.to
    if now.operation is Operation.MOVE:
        to = now.to
        operation = Operation.UPDATE if to == before.tenant else Operation.MOVE
    elif before.operation is Operation.MOVE:
        operation = Operation.MOVE
    elif before.operation is Operation.SOFT_DELETE and not now.shown:
        operation = Operation.SOFT_DELETE
    elif before.shown and operation is Operation.SOFT_DELETE:
        operation = Operation.UPDATE  # as hidden as it was
    shown = operation is Operation.UPDATE and (before.shown or now.shown) and before.operation is now.operation
    via = now.via
    if operation is before.operation and now.via is not Via.STATEMENT:
        via = before.via  # what the statement itself writes is its own, whoever else writes it
    return Counted(before.tenant, before.table, operation, via, before.columns | now.columns, to, shown)


@dataclass(slots=True)
class _Tally:
    """Rows that count as the same, and the keys of some."""

    rows: int = 0
    samples: list[bytes] = field(default_factory=list)
    short: bool = False  # some of them count no more


class Netting:
    """Tell it each change by `note`; of a table that is emptied, `emptied`. Then `counts`."""

    def __init__(self) -> None:
        self._tallies: dict[Counted, _Tally] = {}
        self._live: dict[str, dict[bytes, Counted]] = {}  # rows that were written and are there, by key
        self._known = 0

    def note(self, now: Counted, key: bytes | None, after: bytes | None) -> Counted | None:
        """A row had `key` (None: it was not there, or has none), and has `after` (None: it is gone, or has none).
        Returns what it counted as before."""
        live = self._live.get(now.table)
        if live is None:
            live = self._live[now.table] = {}
        before = None if key is None else live.pop(key, None)
        if before is not None:
            self._withdraw(before, key)
            left = net(before, now)
            if left is None:
                return before
            now = left
        self._add(now, key or after)
        if after is not None and self._known < TOUCHED_MAX:
            self._known += 1
            live[after] = now
        return before

    def _add(self, counted: Counted, key: bytes | None) -> None:
        tally = self._tallies.get(counted)
        if tally is None:
            tally = self._tallies[counted] = _Tally()
        tally.rows += 1
        if key is not None and len(tally.samples) < SAMPLES_MAX:
            tally.samples.append(key)

    def unsay(self, gone: Counted, before: Counted | None, key: bytes | None) -> None:
        """The deletion that was noted last was none: the row is as it was before."""
        left = gone if before is None else net(before, gone)
        if left is not None:
            self._withdraw(left, key)
        if before is not None and key is not None:
            self._add(before, key)
            self._live[gone.table][key] = before

    def _withdraw(self, counted: Counted, key: bytes | None) -> None:
        """One row less counts as this."""
        tally = self._tallies[counted]
        tally.rows -= 1
        if key in tally.samples:
            tally.samples.remove(key)
            tally.short = True

    def emptied(self, table: str) -> dict[int, int]:
        """All rows of a table go: what was done to those that were there is moot. Returns, by tenant, how many of them
        the script itself had inserted."""
        inserted: dict[int, int] = {}
        for key, counted in self._live.pop(table, {}).items():
            self._withdraw(counted, key)
            if counted.operation is Operation.INSERT:
                inserted[counted.tenant] = inserted.get(counted.tenant, 0) + 1
        return inserted

    def counts(self) -> dict[tuple[int, str, Operation], Count]:
        """By tenant's number, table and operation; what moved counts for both tenants."""
        found: dict[tuple[int, str, Operation], Count] = {}
        for counted, tally in self._tallies.items():
            if not tally.rows:
                continue
            cascaded, triggered = counted.via is Via.CASCADE, counted.via is Via.TRIGGER
            one = Count(
                tally.rows,
                counted.columns,
                tuple(_text(key) for key in self._samples(counted, tally)),
                tally.rows * cascaded,
                tally.rows * triggered,
            )
            tenants = (counted.tenant, counted.to) if counted.operation is Operation.MOVE else (counted.tenant,)
            for tenant in tenants:
                place = (tenant, counted.table, counted.operation)
                found[place] = found[place] + one if place in found else one
        return found

    def _samples(self, counted: Counted, tally: _Tally) -> list[bytes]:
        if tally.short:
            others = (key for key, one in self._live.get(counted.table, {}).items() if one == counted)
            return list(islice(dict.fromkeys(chain(tally.samples, others)), SAMPLES_MAX))
        return tally.samples


def _text(key: bytes) -> str:
    return ", ".join(unescape(one).decode("utf-8", "replace") for one in key.split(b"\t"))
