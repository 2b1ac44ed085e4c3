"""Carrying it over: each thing is looked for, written down as sent, sent once, and written down as taken.

Killed anywhere in between, the next run looks for it by its mark and loses nothing. One run at a time: whoever has the
duty `FAILBACK`, which is asked for again before each thing that is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from outlast.core.errors import OutlastError, Refused, UsageError
from outlast.failback import item as journal
from outlast.failback.item import Item
from outlast.failback.plan import Failback, Fate, Step, decide, failed
from outlast.sources.tools.client import Clock, RefusedError
from outlast.sources.tools.writing.hand import UnclearError
from outlast.sources.tools.writing.writer import Place, Writer
from outlast.state.database import Database
from outlast.state.lead import Lead

_LOOKED_EVERY_S = 2.0
_OF_THE_ACCOUNT = frozenset({"token", "scope"})
"""What a tool refuses it refuses for everything else too."""


@dataclass
class Carrier:
    """`opened` gives a source's writer; `say` is told what is waited for. `accepts`: also what changed there."""

    database: Database
    kinds: Mapping[str, str]
    opened: Callable[[str], Writer]
    lead: Lead
    say: Callable[[str], None]
    accepts: bool = False
    clock: Clock = field(default_factory=Clock)
    _writers: dict[str, Writer] = field(default_factory=dict)
    _away: dict[str, OutlastError] = field(default_factory=dict)  # sources that are not asked again

    def close(self) -> None:
        for one in self._writers.values():
            one.close()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.wall(), UTC)

    def waiting(self) -> list[Item]:
        with self.database.read() as connection:
            return journal.waiting(connection, self.kinds, self.now())

    def plan(self, items: Sequence[Item]) -> Failback:
        """Ask the tools about these. Nothing is written anywhere."""
        return Failback(tuple(self._look(one) for one in items))

    def execute(self, plan: Failback) -> Failback:
        """Do what a plan says with all that is not in conflict. Each thing is looked at once more before it goes."""
        return Failback(tuple(self._carry(step) for step in plan.steps), executed=True)

    def _look(self, item: Item) -> Step:
        """What is to become of it, by what the tool says now."""
        if item.blocked is not None:
            leave = f"Set that right, or keep it here: outlast failback --leave {item.short}"
            return Step(item, Fate.BLOCKED, item.blocked, leave)
        if item.after is not None:
            return Step(item, Fate.AFTER)
        if item.source in self._away:
            known = self._away[item.source]
            return failed(Step(item, Fate.UNASKED), known, _unasked(known))
        assert item.wanted is not None
        try:
            writer = self._writer(item.source)
            refusal = writer.cannot(item.wanted)
            if refusal is not None:
                hint = f"Set that right, or keep it here: outlast failback --leave {item.short}"
                return Step(item, Fate.BLOCKED, refusal, hint)
            with _understood(item.source):
                found = writer.find(item.wanted)
                standing = None if found is not None else writer.standing(item.wanted)
        except OutlastError as error:
            self._note(item, error)
            return failed(Step(item, Fate.UNASKED), error, _unasked(error))
        return decide(item, found, standing, accepts=self.accepts)

    def _writer(self, source: str) -> Writer:
        if source not in self._writers:
            self._writers[source] = self.opened(source)
        return self._writers[source]

    def _note(self, item: Item, error: OutlastError) -> None:
        """What a tool says to one thing it says to all, where it is away or does not take the token."""
        asked = isinstance(error, RefusedError) and error.code not in _OF_THE_ACCOUNT
        if not asked:
            self._away[item.source] = error

    def _carry(self, step: Step) -> Step:
        if step.fate not in (Fate.BRING, Fate.THERE, Fate.AFTER):
            return step
        with self.database.read() as connection:
            item = journal.again(connection, step.item, self.kinds, self.now())
        if item is None:
            return Step(step.item, Fate.OVER, "it was settled or ended meanwhile")
        step = self._look(item)
        if step.fate is Fate.BRING and item.attempted_at is not None:
            step = self._sought_before(step, item.attempted_at)
        if step.fate is Fate.AFTER:
            return Step(item, Fate.BLOCKED, "its ticket has not gone", "It goes with the next run, after its ticket.")
        if step.fate is Fate.THERE:
            assert step.place is not None
            self._taken(item, step.place)
            return step
        return self._send(step) if step.fate is Fate.BRING else step

    def _send(self, step: Step) -> Step:
        item, sent_at = step.item, self.now()
        assert item.wanted is not None
        if not self.lead.take():
            raise Refused(
                "another `outlast failback` has begun meanwhile", hint="Look at what is left: outlast failback"
            )
        with self.database.write() as connection:
            journal.attempted(connection, item, sent_at)
        try:
            with _understood(item.source):
                place = self._writer(item.source).create(item.wanted, sent_at)
        except UnclearError as error:
            found = self._sought(item, sent_at, error)
            if found is None:
                return failed(step, error, Fate.UNCLEAR)
            place = found
        except OutlastError as error:
            # It did not arrive. What is not known of an attempt before it stays unknown.
            with self.database.write() as connection:
                journal.attempted(connection, item, item.attempted_at)
            self._note(item, error)
            return failed(step, error, Fate.FAILED)
        self._taken(item, place)
        self.say(f"{item.source}: {item.kind} {item.title} is there as {place.key}")
        return Step(item, Fate.DONE, f"as {place.key}", place=place)

    def _taken(self, item: Item, place: Place) -> None:
        with self.database.write() as connection:
            journal.taken(connection, item, place, self.now())

    def _sought_before(self, step: Step, sent_at: datetime) -> Step:
        """A step whose item was sent before, once it would be seen where it had arrived."""
        try:
            found = self._seek(step.item, sent_at)
        except OutlastError as error:
            self._note(step.item, error)
            return failed(step, error, Fate.UNASKED)
        return step if found is None else decide(step.item, found, None, accepts=True)

    def _sought(self, item: Item, sent_at: datetime, unclear: UnclearError) -> Place | None:
        """Look for what may have arrived; None also where the tool does not answer any more."""
        try:
            return self._seek(item, sent_at)
        except OutlastError:
            self._away[item.source] = unclear
            return None

    def _seek(self, item: Item, sent_at: datetime) -> Place | None:
        """Look for what was sent, until the tool would show it if it had it."""
        assert item.wanted is not None
        wanted = replace(item.wanted, attempted_at=sent_at)
        writer = self._writer(item.source)
        lag_s, said = writer.lag_s(wanted), False
        while True:
            left_s = min(lag_s, lag_s - (self.now() - sent_at).total_seconds())
            with _understood(item.source):
                found = writer.find(wanted)
            if found is not None or left_s <= 0:
                return found
            if not said:
                self.say(f"{item.source}: looking whether {item.title} has arrived, for up to {left_s:.0f} s …")
                said = True
            self.clock.sleep(min(_LOOKED_EVERY_S, left_s))


@contextmanager
def _understood(source: str) -> Iterator[None]:
    """An answer that has not what a vendor's has comes from somebody else, and says nothing of what was done."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, AssertionError) as error:
        raise UnclearError(
            f"what answers for {source} does not answer as the tool does ({type(error).__name__})",
            hint=f"Is [sources.{source}] site right, or a proxy in between? Then run the same command again.",
        ) from error


def _unasked(error: OutlastError) -> Fate:
    """A refusal is final until somebody sets something right; the rest may pass."""
    return Fate.BLOCKED if isinstance(error, RefusedError | Refused | UsageError) else Fate.UNASKED
