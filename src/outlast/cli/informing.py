"""From outlast.toml to what incidents are led and told with: the journal, the rules, the page, who is reached and how.

What `incident`, `publish`, `subscribers`, `serve` and those that report to incidents (`follow`, `restore`) share.
"""

from __future__ import annotations

import getpass
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.cli.contacts import contacts_of
from outlast.cli.opening import Invocation
from outlast.cli.render import count
from outlast.cli.serving import DATABASE_FILE, printed
from outlast.core.errors import OutlastError, UsageError
from outlast.core.tenant import RESERVED

if TYPE_CHECKING:
    from outlast.capture.incident import Incident as Alarmed
    from outlast.core.plan import TenantPlan
    from outlast.core.tenant import Tenant
    from outlast.incident.channels.outcome import Sender
    from outlast.incident.conduct import Conduct
    from outlast.incident.delivery import Delivery
    from outlast.incident.driving import Driver, Restored
    from outlast.incident.journal import Journal
    from outlast.incident.letters import Desk, Letter
    from outlast.incident.page import PageSpec
    from outlast.incident.subscribers import Channel
    from outlast.incident.teller import Reach, Teller
    from outlast.state.database import Database

PAGE_FILE = "page.json"
"""What was published last, in the key directory."""


def me() -> str:
    """The name that stands in the timeline for whoever runs a command."""
    name = os.environ.get("OUTLAST_USER") or os.environ.get("SUDO_USER")
    try:
        return name or getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


def database_of(invocation: Invocation) -> Database:
    """The state that all instances share. Closed with the invocation."""
    return invocation.closing.enter_context(open_database(invocation))


def looked_after(database: Database) -> bool:
    """Whether somebody looks after incidents at this moment: `serve`, or `incident watch`."""
    from outlast.state.lead import Duty, lead_of

    lead = lead_of(database, Duty.INCIDENTS)
    try:
        return not lead.take()
    finally:
        lead.leave()


def open_database(invocation: Invocation) -> Database:
    from outlast.state.database import Database

    serve = invocation.config.document.serve
    if serve.database is None:
        return Database.file(invocation.config.key_dir / DATABASE_FILE)
    command = serve.database_password_command
    password = printed(command, "database_password_command") if command else os.environ.get("PGPASSWORD")
    return Database.server(serve.database, password)


def page_of(invocation: Invocation) -> PageSpec:
    """The status page as outlast.toml names it. Raises UsageError where a language has no texts."""
    from outlast.incident.page import ComponentSpec, PageSpec
    from outlast.incident.words import words

    page, serve = invocation.config.document.page, invocation.config.document.serve
    for language in page.languages:
        words(language)
    return PageSpec(
        name=page.name,
        url=page.url or serve.public_url or f"http://{serve.bind}",
        components=tuple(ComponentSpec(one.name, one.description, one.group, one.since) for one in page.components),
        languages=page.languages,
        contact=f"{serve.public_url}/subscribe" if serve.public_url else None,
    )


def conducting(invocation: Invocation) -> Conduct:
    """How incidents are led, over the shared state."""
    from outlast.incident.journal import Journal

    return conduct_of(invocation, Journal(database_of(invocation)))


def conduct_of(invocation: Invocation, journal: Journal) -> Conduct:
    """How incidents are led, by [incident]."""
    from outlast.incident.cadence import Promise
    from outlast.incident.conduct import Conduct, Rules
    from outlast.incident.incident import Severity

    document = invocation.config.document
    settings = document.incident
    promise = Promise(
        first_within=settings.first_within,
        scope_within=settings.scope_within,
        every={
            Severity.CRITICAL: settings.every_critical,
            Severity.MAJOR: settings.every_major,
            Severity.MINOR: settings.every_minor,
        },
        remind_before=settings.remind_before,
        escalate_after=settings.escalate_after,
    )
    components = tuple(one.name for one in document.page.components)
    for name in settings.components:
        if name not in components:
            known = ", ".join(components) or "none"
            raise UsageError(f"[incident] components: {name!r} is none of [page] components", hint=f"It has: {known}.")
    writes = settings.contacts is not None and document.mail.url is not None
    return Conduct(journal, Rules(promise, settings.approval, document.page.languages, components, writes))


def driver_of(invocation: Invocation, journal: Journal) -> Driver:
    """What writes into incidents by itself."""
    from outlast.incident.driving import Automatic, Driver
    from outlast.incident.incident import Component, Role, Severity

    settings = invocation.config.document.incident
    roles = {Role.COMMANDER: settings.commander, Role.COMMUNICATIONS: settings.communications}
    automatic = Automatic(
        publish=settings.automatic and not settings.approval,
        title=settings.title,
        severity=Severity(settings.severity),
        components=tuple((name, Component(state)) for name, state in settings.components.items()),
        roles=tuple((role, person) for role, person in roles.items() if person is not None),
    )
    return Driver(conduct_of(invocation, journal), automatic)


def desk_of(invocation: Invocation, journal: Journal) -> Desk:
    from outlast.incident.letters import Desk

    page, serve = page_of(invocation), invocation.config.document.serve
    return Desk(page, journal.link_key(), serve.public_url or f"http://{serve.bind}")


def teller_of(invocation: Invocation, database: Database, say: Callable[[str], None]) -> Teller:
    """What looks after incidents while it is run."""
    from outlast.incident.journal import Journal
    from outlast.incident.outbox import Outbox
    from outlast.incident.subscribers import Subscribers
    from outlast.incident.teller import Teller

    journal = Journal(database)
    return Teller(
        driver_of(invocation, journal),
        Subscribers(database),
        Outbox(database),
        desk_of(invocation, journal),
        reach_of(invocation),
        lambda incident, tenants: contacts_of(invocation, incident, tenants, say),
        publisher_of(invocation),
        say,
    )


def publisher_of(invocation: Invocation) -> Callable[[Mapping[str, bytes], datetime], None] | None:
    """Writes the page's files where [page] to says, and remembers them; None where it says nothing."""
    from outlast.incident.publish import keep, place, publish

    to = invocation.config.document.page.to
    if to is None:
        return None
    target = place(to, invocation.config.path.parent)

    def write(files: Mapping[str, bytes], at: datetime) -> None:
        keep(kept_file(invocation), files, at)
        publish(target, files)

    return write


def kept_file(invocation: Invocation) -> Path:
    return invocation.config.key_dir / PAGE_FILE


def reach_of(invocation: Invocation) -> Reach:
    """People by [incident.people]; whoever is not there, and everybody where nobody is named, by OUTLAST_NOTIFY."""
    from outlast.capture.notify import Notifier, urls
    from outlast.messages import Message

    document = invocation.config.document

    def reach(person: str | None, title: str, body: str, *, urgent: bool) -> bool:
        del urgent  # Apprise URLs say themselves how loud they are
        variable = document.incident.people.get(person or "")
        given = tuple((os.environ.get(variable) or "").split()) if variable else ()
        notifier = Notifier(given or urls(os.environ, document.tripwire.notify_command))
        return len(notifier) > 0 and len(notifier.send(Message(title, body))) < len(notifier)

    return reach


def report_restored(invocation: Invocation, outcomes: Sequence[tuple[str, TenantPlan]]) -> None:
    """Tell the open incident of tenants whose restore is over, each with the plan that it was part of."""
    from outlast.incident.journal import Journal

    by_plan: dict[str, list[TenantPlan]] = {}
    for plan, outcome in outcomes:
        by_plan.setdefault(plan, []).append(outcome)
    with open_database(invocation) as database:
        driver = driver_of(invocation, Journal(database))
        for plan, found in by_plan.items():
            driver.restored(plan, _restored(invocation, plan, found), datetime.now(UTC))


def _restored(invocation: Invocation, plan: str, found: Sequence[TenantPlan]) -> list[Restored]:
    from outlast.core.plan import Plan, TenantState
    from outlast.incident.driving import Restored
    from outlast.state.local import LocalState
    from outlast.state.plans import get_plan

    with LocalState(invocation.config.key_dir) as state:  # its own: this may run on a thread beside the restore
        kept = get_plan(state, plan)
    made = None if kept is None else Plan.from_bytes(kept)
    # What is proven to be as a manifest was, or has all of a damage taken back, lacks nothing. Of others it is not
    # known, here, what their users had done since the moment.
    whole = made is not None and made.recipe.damage_since is not None
    return [
        Restored(
            one.tenant,
            one.state in (TenantState.DONE, TenantState.RIGHT),
            rows=one.effect.rows,
            missing=0 if one.exact or whole else None,
            moment=None if made is None or whole else made.moment,
        )
        for one in found
    ]


def report_planned(invocation: Invocation, plan: str, tenants: Sequence[Tenant]) -> None:
    """Tell the open incident that a restore of these tenants begins."""
    _tell(invocation, lambda driver: driver.planned(plan, tenants, datetime.now(UTC)))


def report_meanwhile(invocation: Invocation, what: str, key: str) -> None:
    """Tell the open incidents of something that was done or seen, once by its key."""
    _tell(invocation, lambda driver: driver.meanwhile(what, key, datetime.now(UTC)))


def _tell(invocation: Invocation, tell: Callable[[Driver], object]) -> None:
    """Where incidents are led here at all. What is being done goes on, also where they cannot be told."""
    if not invocation.config.document.has_incidents:
        return
    from outlast.incident.journal import Journal

    try:
        with open_database(invocation) as database:
            tell(driver_of(invocation, Journal(database)))
    except OutlastError as error:
        invocation.output.warn(f"the incident could not be told, and what is being done goes on: {error.message}")


def report_standing(invocation: Invocation, upstream: str, why: str | None, since: float) -> None:
    """Tell the open incidents that Outlast stands in for a tool, or (`why` None) that the tool is back."""
    what = f"{upstream} is back: it gets what was kept for it" if why is None else f"standing in for {upstream}: {why}"
    report_meanwhile(invocation, what, f"standing {upstream} {since} {why is None}")


def alarms_to(invocation: Invocation, source: str, say: Callable[[str], None]) -> Callable[[Alarmed, str], None] | None:
    """What the tripwire tells of its alarm, made into an incident; None where outlast.toml has no [incident]."""
    if not invocation.config.document.has_incidents:
        return None

    def tell(alarmed: Alarmed, what: str) -> None:
        from outlast.incident.driving import Alarm
        from outlast.incident.journal import Journal

        lost = [(tenant, rows) for tenant, rows in alarmed.largest() if tenant.key not in RESERVED]
        if not lost and not alarmed.tables:
            return  # it was ended before its COMMIT: nobody lost anything, and nobody has to hear of it
        alarm = Alarm(f"alarm {source} {alarmed.since.isoformat()}", alarmed.since, lost, what)
        try:
            with open_database(invocation) as database:
                driver_of(invocation, Journal(database)).alarm(alarm, datetime.now(UTC))
        except OutlastError as error:
            say(f"Warning: the incident could not be told: {error.message}")

    return tell


@contextmanager
def delivering(invocation: Invocation, teller: Teller, say: Callable[[str], None]) -> Iterator[Delivery]:
    """Letters leave while the block runs: mail where [mail] is set up, web hooks and chats always."""
    from outlast.incident.delivery import Delivery
    from outlast.incident.subscribers import Channel

    mail = invocation.config.document.mail
    unsent = 0 if mail.url else teller.outbox.due([Channel.EMAIL], datetime.now(UTC))
    if unsent:
        say(f"{count(unsent, 'letter')} by e-mail cannot leave: outlast.toml names no mail server ([mail] url)")
    delivery = Delivery(
        teller.outbox, teller.subscribers, senders_of(invocation, teller), mails_a_minute=mail.a_minute, say=say
    )
    with delivery:
        yield delivery


def senders_of(invocation: Invocation, teller: Teller) -> Mapping[Channel, Callable[[], Sender]]:
    from outlast.incident.channels.chat import Chat
    from outlast.incident.channels.mail import Mailer, MailServer
    from outlast.incident.channels.outside import Outside
    from outlast.incident.channels.webhook import Webhooks
    from outlast.incident.subscribers import Channel

    outside = Outside(invocation.config.document.incident.inside)
    mail = invocation.config.document.mail

    def secret(subscriber: str) -> str | None:
        found = teller.subscribers.get(subscriber)
        return None if found is None else found.secret

    def said_again(letter: Letter) -> str:
        found = None if letter.subscriber is None else teller.subscribers.get(letter.subscriber)
        return teller.desk.said_again("" if found is None else found.wish.language)

    senders: dict[Channel, Callable[[], Sender]] = {
        Channel.WEBHOOK: lambda: Webhooks(secret, outside),
        Channel.APPRISE: lambda: Chat(said_again),
    }
    if mail.url is not None:
        if mail.sender is None:
            raise UsageError("[mail] has a url and no sender", hint='Add: sender = "Acme Status <status@acme.example>"')
        password = os.environ.get("OUTLAST_MAIL_PASSWORD")
        if password is None and mail.password_command is not None:
            password = printed(mail.password_command, "[mail] password_command")
        server, sender = MailServer.parse(mail.url, password), mail.sender
        senders[Channel.EMAIL] = lambda: Mailer(server, sender, teller.desk.unsubscribe, said_again)
    return senders
