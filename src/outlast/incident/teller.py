"""The teller: what has to happen by itself, looked after again and again while somebody runs it.

In one `look`: a word that is due is said (where that is automatic), who must know that one is due is told, updates go
to their subscribers and notices to their tenants, and the page is published. Each step is idempotent by the journal or
the outbox, so that a crash between two of them costs a repetition and loses nothing. A step that fails is told, and
holds up no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol, TypeVar

from outlast.core.errors import OutlastError
from outlast.core.tenant import Tenant
from outlast.incident import letters, site
from outlast.incident.cadence import Nudge, Stage, nudges
from outlast.incident.driving import WHO, Driver
from outlast.incident.incident import AffectedTenant, Incident, Role, TenantState
from outlast.incident.journal import Entry
from outlast.incident.letters import Desk
from outlast.incident.outbox import Outbox
from outlast.incident.page import StatusPage, make_page
from outlast.incident.subscribers import State, Subscribers, Wish
from outlast.incident.timeline import Kind

T = TypeVar("T")

REPUBLISH = timedelta(minutes=5)
"""A page that nothing changed is still written anew this often: its age says that somebody looks after it."""


SAID_AGAIN = timedelta(minutes=5)
"""What fails is tried again at every look, which is every second; the operator is told of it this often."""


class Reach(Protocol):
    """Tells a person of the team. `urgent` is a page, which must wake them; False where nobody was reached."""

    def __call__(self, person: str | None, title: str, body: str, *, urgent: bool) -> bool: ...


Contacts = Callable[[Incident, Sequence[Tenant]], Mapping[str, Sequence[Wish]]]
"""Tenants' own contacts as of before the incident, by tenant key, from where they survived. Raises an OutlastError
where they cannot be had now: it is asked again."""

NOTICES_AT_ONCE = 100
"""Looking up contacts reads the vault: so many tenants a look, and the page is not held up by the others."""


@dataclass
class Teller:
    """`publish` writes the page's files; None where it is published nowhere. `say` tells the operator a line."""

    driver: Driver
    subscribers: Subscribers
    outbox: Outbox
    desk: Desk
    reach: Reach
    contacts: Contacts
    publish: Callable[[Mapping[str, bytes], datetime], None] | None = None
    say: Callable[[str], None] = lambda _: None
    _published: tuple[datetime, StatusPage] | None = field(default=None, init=False)
    failed: bool = field(default=False, init=False)  # whether something could not be done, ever
    _now: datetime = field(default=datetime.min.replace(tzinfo=UTC), init=False)
    _said: dict[str, datetime] = field(default_factory=dict, init=False)

    def look(self, now: datetime) -> None:
        """Do everything that is due."""
        self._now = now
        incidents = self._tried("read the incidents", self.driver.conduct.journal.all) or []
        for incident in incidents:
            self._tried(f"look after {incident.id}", partial(self._look_after, incident, now))
        self._tried("publish the status page", lambda: self._publish(now))

    def _look_after(self, incident: Incident, now: datetime) -> None:
        incident = self.driver.keep_word(incident, now)
        for nudge in nudges(incident, self.driver.conduct.rules.promise, now):
            self._tried("reach somebody", partial(self._nudge, incident, nudge, now))
        self._send_updates(incident, now)
        self._send_notices(incident, now)

    def _nudge(self, incident: Incident, nudge: Nudge, now: datetime) -> None:
        person = incident.roles.get(nudge.role)
        title, body = _nudge_text(incident, nudge, now)
        # Told first, written down after: a crash between the two tells twice, and never not at all.
        reached = self.reach(person, title, body, urgent=nudge.stage is not Stage.REMIND)
        if not reached:
            self.say(f"NOBODY could be reached: {title}")
        facts = {
            "nudge": nudge.key,
            "stage": nudge.stage.value,
            "role": nudge.role.value,
            "person": person,
            "word": nudge.due.word.value,
            "reached": reached,
        }
        self.driver.conduct.journal.append(incident.id, [Entry(Kind.NUDGED, facts, f"nudge {nudge.key}")], WHO, now)

    def _send_updates(self, incident: Incident, now: datetime) -> None:
        for update in incident.updates:
            if update.number in incident.sent:
                continue
            active = [one for one in self.subscribers.all(State.ACTIVE) if one.wish.tenant is None]
            new = self.outbox.put(letters.of_update(self.desk, incident, update, active), now)
            facts = {"update": update.number, "letters": new}
            self.driver.conduct.journal.append(
                incident.id, [Entry(Kind.SENT, facts, f"sent {update.number}")], WHO, now
            )

    def _send_notices(self, incident: Incident, now: datetime) -> None:
        due = [one for one in incident.tenants.values() if _to_tell(incident, one)][:NOTICES_AT_ONCE]
        if not due:
            return
        found = self.contacts(incident, [one.tenant for one in due])
        own = {one.wish.tenant: one.wish for one in self.subscribers.all(State.ACTIVE) if one.wish.tenant is not None}
        entries = []
        for one in due:
            wishes = [*found.get(one.tenant.key, ()), *([own[one.tenant.key]] if one.tenant.key in own else [])]
            new = self.outbox.put(letters.of_notice(self.desk, incident, one, wishes), now)
            facts = {"tenant": one.tenant.key, "state": one.state.value, "letters": new, "contacts": len(wishes)}
            entries.append(Entry(Kind.TOLD, facts, f"told {one.tenant.key} {one.state.value}"))
        self.driver.conduct.journal.append(incident.id, entries, WHO, now)

    def _publish(self, now: datetime) -> None:
        if self.publish is None:
            return
        page = self.page(now)
        if self._published is not None:
            at, before = self._published
            if _same(before, page) and now < at + REPUBLISH:
                return
        self.publish(site.files(page), now)
        self._published = (now, page)

    def page(self, now: datetime) -> StatusPage:
        """The status page of this moment."""
        conduct = self.driver.conduct
        return make_page(self.desk.page, conduct.journal.all(), conduct.rules.promise, now)

    def _tried(self, doing: str, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except OutlastError as error:
            self.failed = True
            line = f"could not {doing}: {error.message}"
            if self._now - self._said.get(line, datetime.min.replace(tzinfo=UTC)) >= SAID_AGAIN:
                self._said[line] = self._now
                self.say(line)
            return None


def _same(before: StatusPage, page: StatusPage) -> bool:
    """Whether a page says the same, its age apart."""
    shown = [(view.incident.length, view.late is not None) for view in (*page.current, *page.planned, *page.past)]
    was = [(view.incident.length, view.late is not None) for view in (*before.current, *before.planned, *before.past)]
    return shown == was and [one.state for one in page.components] == [one.state for one in before.components]


def _to_tell(incident: Incident, one: AffectedTenant) -> bool:
    """A restored tenant hears of it at once, also while the incident is a draft: it is its own data, and it is back.
    That it is affected it hears once customers hear of the incident at all."""
    if one.state.value in one.told:
        return False
    return one.state is TenantState.RESTORED or (incident.public and one.state is TenantState.AFFECTED)


def _nudge_text(incident: Incident, nudge: Nudge, now: datetime) -> tuple[str, str]:
    minutes = int(abs((nudge.due.at - now).total_seconds()) // 60)
    when = f"is {minutes} min late" if nudge.due.late(now) else f"is due in {minutes} min"
    title = f"{incident.id}: the {nudge.due.word.value} {when}"
    if nudge.stage is Stage.ESCALATE:
        title += f", and {incident.roles.get(Role.COMMUNICATIONS) or 'the communications role'} said nothing"
    draft = incident.drafts[-1].number if incident.drafts else None
    next_command = (
        f"outlast incident approve {incident.id} {draft}"
        if draft is not None
        else f"outlast incident update {incident.id} --facts --next 20m"
    )
    body = (
        f"{incident.title} ({incident.severity.value}, {incident.status.value}).\nPublish what is known: {next_command}"
    )
    return title, body
