"""The tripwire's rules: when deletions on the stream of changes are a disaster, and no ordinary day. Pure.

Owns what counts, for how long, and when an incident begins and ends. The clock, the tenants' sizes and labels are given
to it. Who is told and what is halted is capture/sentry.py's; where facts come from is capture/follow's.

Counted is what is *lost*: rows deleted or truncated, tables dropped. A fact of a transaction that has not committed
counts at once, and is taken back if that transaction ends in nothing. A tenant whose closing was declared (a row in the
tombstone table, no longer ago than `tombstone_s`) counts under the rule for declared closings alone.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from outlast.capture.incident import COMMITTED, IN_PROGRESS, ROLLED_BACK, Deed, Incident
from outlast.capture.rules import HALTING, Rule, Rules
from outlast.capture.window import JUMP_S, StreamTime, Window
from outlast.core.effect import Operation
from outlast.core.moment import Lsn
from outlast.core.tenant import RESERVED, TenantKey

MINUTE_S = 60.0
FRESH_S = 120.0
"""Facts older than this are the past being read again: told, but no reason to shut anybody out now."""
SIZED_MAX = 1_000
DEEDS_MAX = 5_000
"""Transactions remembered for naming them in an incident."""
_LOSSES = (Operation.HARD_DELETE, Operation.TRUNCATE)
_LOST, _LOST_NOW = "lost", "lost-now"


_BY_KEY = frozenset(Rule) - {Rule.SHARE, Rule.LOSING}
"""Rules that count tenants or tables in a window of their own; the other two ask how much of a tenant is gone."""


@dataclass(frozen=True, slots=True)
class Fact:
    """What one transaction did to one tenant's rows of one table, as far as it was seen.

    `provisional`: it has not committed, and `time` and `commit` are None. `table` is the root table as `schema.table`.
    """

    xid: int
    time: datetime | None
    commit: Lsn | None
    provisional: bool
    tenant: TenantKey
    table: str
    operation: Operation
    rows: int


@dataclass(frozen=True, slots=True)
class Alarm:
    """What is to be done now about an incident: tell, halt, or both."""

    incident: Incident
    notify: bool
    halt: bool


Sizes = Callable[[TenantKey, str], int | None]
"""Rows of a tenant in a table, as last known; None where that is not known."""

_Entry = tuple[str, str, int, TenantKey, str, Operation]  # window, key in it, second; tenant, table, operation


class Tripwire:
    """Holds facts against the rules. One thread feeds it."""

    def __init__(
        self,
        rules: Rules,
        sizes: Sizes = lambda _tenant, _table: None,
        labels: Callable[[TenantKey], str | None] = lambda _: None,
        *,
        clock: Callable[[], float] = time.time,
        tombstones: Mapping[TenantKey, float] | None = None,
    ) -> None:
        self.rules = rules
        self.tombstones: dict[TenantKey, float] = dict(tombstones or {})
        self.incident: Incident | None = None
        self._sizes, self._labels, self._clock = sizes, labels, clock
        self._thresholds = rules.thresholds()
        self._time = StreamTime()
        self._heard = clock()
        self._windows: dict[str, Window[str]] = {name: Window(rules.window_s) for name in (_LOST, *_BY_KEY)}
        self._windows[_LOST_NOW] = Window(MINUTE_S)
        self._expired: int | None = None
        self._totals: dict[TenantKey, int] = {}
        self._suspects: dict[Rule, set[TenantKey]] = {Rule.SHARE: set(), Rule.LOSING: set()}
        self._in_progress: dict[int, dict[_Entry, int]] = {}
        self._deeds: OrderedDict[int, Deed] = OrderedDict()

    # What the stream tells ------------------------------------------------------------------------------------------

    def observe(self, facts: Iterable[Fact], *, lag_s: float = 0.0) -> Alarm | None:
        """Count these facts, declarations before deletions. `lag_s` is how far behind the server the stream is read."""
        counted = [
            fact for fact in sorted(facts, key=lambda fact: fact.operation is not Operation.INSERT) if self._count(fact)
        ]
        return self._judge(counted, fresh=bool(counted) and lag_s <= FRESH_S)

    def committed(self, xid: int, time: datetime, commit: Lsn) -> None:
        """A transaction whose facts were provisional has committed: they stay."""
        self._in_progress.pop(xid, None)
        deed = self._deeds.get(xid)
        if deed is not None:
            deed.at, deed.commit, deed.outcome = time.timestamp(), commit, COMMITTED

    def aborted(self, xid: int) -> None:
        """A transaction in progress ended in nothing: all that it added is taken back."""
        self._expired = None
        for entry, rows in self._in_progress.pop(xid, {}).items():
            self._take_back(entry, rows)
        deed = self._deeds.pop(xid, None)
        if deed is not None:
            deed.outcome = ROLLED_BACK
        self._judge((), fresh=False)

    def withdraw(self, facts: Iterable[Fact]) -> None:
        """A part of a transaction in progress (a subtransaction) was rolled back: these facts are taken back."""
        self._expired = None
        for fact in facts:
            entries = self._in_progress.get(fact.xid, {})
            ours = [entry for entry in entries if entry[3:] == (fact.tenant, fact.table, fact.operation)]
            for window in {entry[0] for entry in ours}:
                left = fact.rows
                for entry in reversed([one for one in ours if one[0] == window]):
                    taken = min(left, entries[entry])
                    self._take_back(entry, taken)
                    entries[entry] -= taken
                    left -= taken
        self._judge((), fresh=False)

    def dropped(self, table: str, xid: int, time: datetime | None, *, lag_s: float = 0.0) -> Alarm | None:
        """A table is gone, as a schema event tells it (with its transaction) or the catalog (with xid 0)."""
        if table not in self.rules.owned or table in self.rules.quiet:
            return None
        now = self._now(time)
        self._windows[Rule.DROP].add(table, 1, now)
        deed = self._deed(xid, time, None, provisional=False)
        deed.tables.add(table)
        return self._judge((), fresh=lag_s <= FRESH_S)

    def tick(self) -> None:
        """Time passes where nothing is lost. An incident ends so."""
        heard, self._heard = self._heard, self._clock()
        self._time.pass_by(min(max(0.0, self._heard - heard), MINUTE_S))
        self._judge((), fresh=False)

    def reset(self) -> None:
        """A person has seen it: what was counted so far is forgotten, and the next loss is a new incident."""
        for window in self._windows.values():
            window.clear()
        self._deeds.clear()
        for suspects in self._suspects.values():
            suspects.clear()
        if self.incident is not None:
            self.incident.ended = True
        self.incident = None

    def _sized(self, facts: Iterable[Fact]) -> Iterator[Fact]:
        """TRUNCATE tells no rows: they are all that a tenant is known to have had. Not asked of very many tenants."""
        asked = 0
        for fact in facts:
            if fact.operation is Operation.TRUNCATE and fact.tenant not in RESERVED and asked < SIZED_MAX:
                asked += 1
                yield replace(fact, rows=self._sizes(fact.tenant, fact.table) or fact.rows)
            else:
                yield fact

    # Counting -------------------------------------------------------------------------------------------------------

    def _now(self, time: datetime | None) -> float:
        self._heard = self._clock()
        if time is not None:
            return self._time.at(time.timestamp())
        return self._time.now or self._time.at(self._heard)

    def _count(self, fact: Fact) -> bool:
        """Whether the fact is a loss that counts."""
        now = self._now(fact.time)
        at = now if fact.time is None else fact.time.timestamp()
        if fact.operation is Operation.INSERT:
            if fact.table == self.rules.tombstone:
                self._declare(fact, at)
            return False
        if fact.table in self.rules.quiet or fact.table not in self.rules.owned:
            return False
        if fact.operation is Operation.SOFT_DELETE:
            if fact.table == self.rules.root_table:
                self._add(fact, Rule.SOFT, fact.tenant, now)
            return fact.table == self.rules.root_table
        if fact.operation not in _LOSSES:
            return False
        self._count_loss(fact, now, declared=self._declared(fact.tenant, at))
        return True

    def _count_loss(self, fact: Fact, now: float, *, declared: bool) -> None:
        deed = self._deed(fact.xid, fact.time, fact.commit, provisional=fact.provisional)
        deed.touch(fact.tenant, fact.rows)
        if fact.operation is Operation.TRUNCATE:
            deed.tables.add(fact.table)
            self._add(fact, Rule.TRUNCATE, fact.table, now)
        if fact.tenant in RESERVED:
            return
        if fact.table == self.rules.root_table:
            self._add(fact, Rule.DECLARED if declared else Rule.ROOTS, fact.tenant, now)
        if not declared:
            lost = self._add(fact, _LOST, fact.tenant, now)
            lost_now = self._add(fact, _LOST_NOW, fact.tenant, now)
            if lost >= self.rules.rows_min:
                self._suspect(fact.tenant, lost, lost_now)

    def _add(self, fact: Fact, window: str, key: str, now: float) -> int:
        rows = max(1, fact.rows)  # a TRUNCATE of which nobody knows how many rows it took counts all the same
        second = self._windows[window].add(key, rows, now)
        if fact.provisional:
            entries = self._in_progress.setdefault(fact.xid, {})
            entry = (window, key, second, fact.tenant, fact.table, fact.operation)
            entries[entry] = entries.get(entry, 0) + rows
        return self._windows[window][key]

    def _take_back(self, entry: _Entry, rows: int) -> None:
        window, key, second, tenant, _, _ = entry
        self._windows[window].take_back(key, rows, second)
        if window == _LOST and self.incident is not None:
            self.incident.spare(tenant, rows)

    def _suspect(self, tenant: TenantKey, lost: int, lost_now: int) -> None:
        least = min(self.rules.share or 1, self.rules.losing_share)
        total = self._totals.get(tenant)
        if total is None or lost >= least * total:  # asked again before it decides: rows may have come since
            known = [self._sizes(tenant, table) for table in self.rules.owned - self.rules.quiet]
            total = self._totals[tenant] = sum(rows for rows in known if rows is not None)
        if not total:
            return
        if self.rules.share is not None and lost >= self.rules.share * total:
            self._suspects[Rule.SHARE].add(tenant)
        if lost_now >= self.rules.losing_share * total:
            self._suspects[Rule.LOSING].add(tenant)

    def _declare(self, fact: Fact, at: float) -> None:
        self.tombstones[fact.tenant] = at
        oldest = at - self.rules.tombstone_s
        for tenant in [tenant for tenant, since in self.tombstones.items() if since < oldest]:
            del self.tombstones[tenant]

    def _declared(self, tenant: TenantKey, at: float) -> bool:
        since = self.tombstones.get(tenant)
        return since is not None and since - JUMP_S <= at <= since + self.rules.tombstone_s

    def _deed(self, xid: int, time: datetime | None, commit: Lsn | None, *, provisional: bool) -> Deed:
        deed = self._deeds.get(xid)
        if deed is None:
            at = self._clock() if time is None else time.timestamp()
            deed = self._deeds[xid] = Deed(xid, at, commit, outcome=IN_PROGRESS if provisional else COMMITTED)
            if len(self._deeds) > DEEDS_MAX:
                self._deeds.popitem(last=False)
        return deed

    # Judging --------------------------------------------------------------------------------------------------------

    def _value(self, rule: Rule) -> int:
        if rule in _BY_KEY:
            return len(self._windows[rule])
        return len(self._suspects[rule])

    def _judge(self, facts: Iterable[Fact], *, fresh: bool) -> Alarm | None:
        self._expire()
        values = {rule: self._value(rule) for rule in self._thresholds}
        tripped = {rule: value for rule, value in values.items() if value >= self._thresholds[rule]}
        incident = self.incident
        if incident is None:
            if not tripped:
                return None
            incident = self.incident = self._open(tripped)
            notify = True
        else:
            if all(values[rule] * 2 < self._thresholds[rule] for rule in map(Rule, incident.rules)):
                incident.ended = True
                self.incident = None
                return None
            notify = not HALTING & {Rule(rule) for rule in incident.rules} and bool(HALTING & set(tripped))
            self._go_on(incident, tripped, facts)
        halt = fresh and not incident.halt_asked and bool(HALTING & set(tripped))
        incident.halt_asked = incident.halt_asked or halt
        return Alarm(incident, notify, halt) if notify or halt else None

    def _expire(self) -> None:
        now = self._time.now
        if self._expired == int(now):
            return
        self._expired = int(now)
        for window in self._windows.values():
            window.expire(now)
        lost, lost_now = self._windows[_LOST], self._windows[_LOST_NOW]
        if not lost:
            self._totals.clear()  # learnt again, with what backups and inserts have made of it meanwhile
        self._keep(Rule.SHARE, lambda tenant: lost[tenant] >= (self.rules.share or 1) * self._totals[tenant])
        self._keep(Rule.LOSING, lambda tenant: lost_now[tenant] >= self.rules.losing_share * self._totals[tenant])

    def _keep(self, rule: Rule, still: Callable[[TenantKey], bool]) -> None:
        suspects = self._suspects[rule]
        suspects.intersection_update([one for one in suspects if self._windows[_LOST][one] and still(one)])

    def _who(self, rules: Iterable[Rule]) -> dict[TenantKey, int]:
        """The tenants that the rules are about, and the rows they have lost within the window."""
        found: dict[TenantKey, int] = {}
        for rule in rules:
            window = self._windows[rule if rule in (Rule.DECLARED, Rule.SOFT) else _LOST]
            keys = self._suspects[rule] if rule in self._suspects else self._windows[rule]
            if rule in (Rule.TRUNCATE, Rule.DROP):
                tables = set(self._windows[rule])
                keys = {tenant for deed in self._deeds.values() if deed.tables & tables for tenant in deed.tenants}
            found |= {TenantKey(key): window[key] for key in keys if key not in RESERVED}
        return found

    def _open(self, tripped: Mapping[Rule, int]) -> Incident:
        who = self._who(tripped)
        tables = {table for rule in tripped if rule in (Rule.TRUNCATE, Rule.DROP) for table in self._windows[rule]}
        deeds = {deed.xid: deed for deed in self._deeds.values() if deed.tenants & who.keys() or deed.tables & tables}
        first = min((deed.at for deed in deeds.values()), default=self._clock())
        incident = Incident(datetime.fromtimestamp(first, UTC), deeds=deeds, tables=tables)
        incident.rules |= {rule.value: value for rule, value in tripped.items()}
        self._join(incident, who)
        return incident

    def _go_on(self, incident: Incident, tripped: Mapping[Rule, int], facts: Iterable[Fact]) -> None:
        new = [rule for rule in tripped if rule.value not in incident.rules]
        incident.rules |= {rule.value: max(value, incident.rules.get(rule, 0)) for rule, value in tripped.items()}
        rules = [Rule(rule) for rule in incident.rules]
        who = self._who(new)
        for fact in facts:  # and no look at all that were lost before: there may be very many, and facts come fast
            if fact.tenant in incident.lost:
                incident.lose(fact.tenant, fact.rows)
            elif fact.tenant not in who:
                who |= self._concerned(fact, rules)
        self._join(incident, {tenant: rows for tenant, rows in who.items() if tenant not in incident.lost})
        for fact in facts:
            deed = self._deeds.get(fact.xid)
            if deed is not None and fact.tenant in incident.lost and len(incident.deeds) < DEEDS_MAX:
                incident.deeds.setdefault(deed.xid, deed)
                incident.tables |= deed.tables

    def _concerned(self, fact: Fact, rules: Iterable[Rule]) -> dict[TenantKey, int]:
        """The tenant of a fact, if one of the rules is about it now."""
        tenant = fact.tenant
        for rule in rules:
            window = self._windows[rule if rule in (Rule.DECLARED, Rule.SOFT) else _LOST]
            truncated = rule is Rule.TRUNCATE and fact.operation is Operation.TRUNCATE
            listed = tenant in self._suspects[rule] if rule in self._suspects else self._windows[rule][tenant] > 0
            if tenant not in RESERVED and (truncated or listed):
                return {tenant: window[tenant]}
        return {}

    def _join(self, incident: Incident, who: Mapping[TenantKey, int]) -> None:
        for tenant, rows in who.items():
            incident.lost[tenant] = max(1, rows)
            incident.labels[tenant] = self._labels(tenant)
