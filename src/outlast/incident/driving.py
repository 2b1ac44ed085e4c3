"""What Outlast does and sees, made into an incident: an alarm opens one, a restore moves it on, the last proof ends it.

Each fact carries the source it belongs to (an alarm, a plan) and is written once however often it is reported. Whether
customers hear of it by itself is [incident] automatic: without it everything is prepared as drafts for a person.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from outlast.core.errors import Refused
from outlast.core.tenant import Tenant
from outlast.incident import drafting
from outlast.incident.conduct import Conduct, Opening, Saying
from outlast.incident.incident import Component, Incident, Role, Severity, Status, TenantState
from outlast.incident.journal import Entry
from outlast.incident.timeline import Kind

WHO = "outlast"
LEAD = timedelta(seconds=30)
"""How long before an update is due one is published by itself: it is then in people's hands when it was promised."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """The tripwire fired. `source` names the alarm, the same each time it is told; `what` is for responders only."""

    source: str
    since: datetime
    tenants: Sequence[tuple[Tenant, int | None]]
    what: str
    halted: bool = False


@dataclass(frozen=True, slots=True)
class Restored:
    """One tenant's part of a restore is over. `moment` is what it is as of, `missing` the rows that stay lost."""

    tenant: Tenant
    ok: bool
    rows: int | None = None
    missing: int | None = None
    moment: str | None = None


@dataclass(frozen=True, slots=True)
class Automatic:
    """What happens without a person: `publish` says it to customers, otherwise drafts are written."""

    publish: bool = False
    title: str = "Some customers' data is missing"
    severity: Severity = Severity.CRITICAL
    components: tuple[tuple[str, Component], ...] = ()
    roles: tuple[tuple[Role, str], ...] = ()


class Driver:
    """Writes what the rest of Outlast reports into incidents. Stateless: everything is in the journal."""

    def __init__(self, conduct: Conduct, automatic: Automatic) -> None:
        self.conduct = conduct
        self.automatic = automatic

    def alarm(self, alarm: Alarm, now: datetime) -> Incident:
        """Open the incident of an alarm, or add to it whom it has cost since."""
        opening = Opening(
            title=self.automatic.title,
            severity=self.automatic.severity,
            public=self.automatic.publish,
            began_at=alarm.since,
            components=dict(self.automatic.components),
            tenants=alarm.tenants,
            roles=dict(self.automatic.roles),
            source=alarm.source,
        )
        incident, new = self.conduct.open(opening, WHO, now)
        seen = Entry(Kind.SEEN, {"what": alarm.what, "source": alarm.source}, key=f"seen {alarm.what}")
        grown = [(one, rows) for one, rows in alarm.tenants if _news(incident, one, rows)]
        entries = [seen] if new or not grown else [seen, _tenants(grown)]
        incident = self.conduct.journal.append(incident.id, entries, WHO, now)
        if new and not self.automatic.publish:
            self._draft_first(incident, now)
        return self.conduct.journal.load(incident.id)

    def _draft_first(self, incident: Incident, now: datetime) -> None:
        bodies = drafting.first_word(incident, self.conduct.rules.languages, writes=self.conduct.rules.writes)
        due = self.conduct.promised(incident, now)
        saying = Saying(Status.INVESTIGATING, bodies=bodies, next_at=due, scope=bool(incident.tenants))
        self.conduct.draft(incident.id, saying, WHO, now, key="first draft")

    def planned(self, plan: str, tenants: Iterable[Tenant], now: datetime) -> Incident | None:
        """A restore of tenants is about to run. Belongs to the newest open incident that has any of them."""
        tenants = list(tenants)
        source = f"plan {plan}"
        incident = self._incident(source, tenants)
        if incident is None:
            return None
        self.conduct.journal.claim_source(source, incident.id)
        named = [[one.key, one.label] for one in tenants]
        entry = Entry(Kind.QUEUED, {"tenants": named, "source": source}, key=f"queued {plan}")
        return self.conduct.journal.append(incident.id, [entry], WHO, now)

    def restored(self, plan: str, outcomes: Sequence[Restored], now: datetime) -> Incident | None:
        """Tenants are proven and committed, or were refused. Ends the incident with the last of them."""
        incident = self._incident(f"plan {plan}", [one.tenant for one in outcomes])
        if incident is None:
            return None
        entries = [_outcome(plan, one) for one in outcomes]
        incident = self.conduct.journal.append(incident.id, entries, WHO, now)
        return self._end(incident, now) if drafting.finished(incident) else incident

    def _end(self, incident: Incident, now: datetime) -> Incident:
        if incident.over:
            return incident
        bodies = drafting.last_word(incident, self.conduct.rules.languages)
        if self.automatic.publish:
            try:
                return self.conduct.resolve(incident.id, Saying(bodies=bodies), WHO, now)
            except Refused:
                return self.conduct.journal.load(incident.id)  # another process ended it in the same moment
        return self.conduct.draft(
            incident.id, Saying(Status.RESOLVED, bodies=bodies), WHO, now, key=f"last draft {len(incident.tenants)}"
        )

    def meanwhile(self, what: str, key: str, now: datetime) -> int:
        """Something that people who lead an incident should know of: a rehearsal was blocked, Outlast stands in for a
        tool. Told once (`key`) to every incident that is open; returns to how many. It is never public."""
        entry = Entry(Kind.MEANWHILE, {"what": what}, key=f"meanwhile {key}")
        found = [one for one in self.conduct.journal.all() if not one.over and not one.planned]
        for incident in found:
            self.conduct.journal.append(incident.id, [entry], WHO, now)
        return len(found)

    def keep_word(self, incident: Incident, now: datetime) -> Incident:
        """Say how far things are when an update is due, so that a promise is kept while people are busy."""
        if not self.automatic.publish or incident.over or incident.planned or not incident.public:
            return incident
        if incident.next_at is None or now < incident.next_at - LEAD:
            return incident
        saying = Saying(next_at=self.conduct.promised(incident, now))
        return self.conduct.say(incident.id, saying, WHO, now)

    def _incident(self, source: str, tenants: Sequence[Tenant]) -> Incident | None:
        known = self.conduct.journal.of_source(source)
        if known is not None:
            return None if known.over else known
        keys = {one.key for one in tenants}
        open_ones = [one for one in self.conduct.journal.all() if not one.over and not one.planned]
        return next((one for one in reversed(open_ones) if keys & one.tenants.keys()), None)


def _news(incident: Incident, tenant: Tenant, rows: int | None) -> bool:
    known = incident.tenants.get(tenant.key)
    return known is None or (rows is not None and known.rows_lost != rows and known.state is TenantState.AFFECTED)


def _tenants(grown: Sequence[tuple[Tenant, int | None]]) -> Entry:
    return Entry(Kind.TENANTS, {"tenants": [[one.key, one.label, rows] for one, rows in grown]})


def _outcome(plan: str, one: Restored) -> Entry:
    facts: dict[str, object] = {"tenant": one.tenant.key, "label": one.tenant.label, "source": f"plan {plan}"}
    if not one.ok:
        return Entry(Kind.FAILED, facts, key=f"failed {plan} {one.tenant.key}")
    facts |= {"rows": one.rows, "missing": one.missing, "moment": one.moment}
    return Entry(Kind.RESTORED, facts, key=f"restored {plan} {one.tenant.key}")
