"""From [tripwire] of outlast.toml to a sentry that `follow` holds, and what stands against arming it.

What `follow`, `check` and `outlast tripwire` share. Rules that name what is not there are an error before anything
starts; a halt that must not be made is left out, and said.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from outlast.cli.informing import alarms_to
from outlast.cli.opening import Invocation
from outlast.core.errors import OutlastError, UsageError
from outlast.core.table import OwnershipKind, TableName

if TYPE_CHECKING:
    from outlast.capture.notify import Notifier
    from outlast.capture.rules import Rules
    from outlast.capture.sentry import Sentry
    from outlast.capture.tripwire import Sizes
    from outlast.config.settings import TripwireSettings
    from outlast.core.tenant import TenantKey
    from outlast.sources.postgres.halt import Halter
    from outlast.sources.postgres.schema import Catalog, Notice


def settings_of(invocation: Invocation) -> TripwireSettings:
    return invocation.config.document.tripwire


def rules_of(settings: TripwireSettings, catalog: Catalog) -> Rules:
    """The rules for this database. Raises UsageError where they name a table that cannot be meant."""
    from outlast.capture.rules import Rules

    for name in (*settings.quiet_tables, *([settings.tombstone] if settings.tombstone else [])):
        table = catalog.table(TableName.parse(name))
        if table is None or table.ownership.kind is not OwnershipKind.OWNED:
            what = (
                "is not in the database" if table is None else f"is {table.ownership.kind.value}, not owned by tenants"
            )
            raise UsageError(
                f"[tripwire] in outlast.toml names the table {name}, which {what}",
                hint="`outlast check --tables` lists every table and whose it is.",
                code="tripwire-table",
            )
    few = 1 if settings.tombstone else 2
    roots = few if settings.tenant_roots is None else settings.tenant_roots
    return Rules(
        str(catalog.tenant_table),
        frozenset(str(table.name) for table in catalog.owned),
        window_s=settings.window.total_seconds(),
        roots=roots or None,
        share=settings.tenant_share or None,
        share_tenants=settings.share_tenants or few,
        rows_min=settings.share_rows_min,
        losing=settings.tenants_a_minute or None,
        losing_share=settings.losing_share,
        truncate=settings.truncate,
        drop=settings.drop,
        declared=(settings.declared_max or None) if settings.tombstone else None,
        soft=settings.soft_deleted_roots or None,
        tombstone=settings.tombstone,
        tombstone_s=settings.tombstone_within.total_seconds(),
        quiet=frozenset(settings.quiet_tables),
    )


def notifier_of(invocation: Invocation) -> Notifier:
    """Whom to tell, with Apprise loaded. Raises where a URL or the command is wrong."""
    from outlast.capture.notify import Notifier, urls

    return Notifier(urls(os.environ, settings_of(invocation).notify_command))


def halter_of(invocation: Invocation, source: str) -> Halter | None:
    """The connection that would halt, not yet opened; None where no role is named."""
    from outlast.sources.postgres.halt import Halter
    from outlast.sources.postgres.session import Target

    settings = settings_of(invocation)
    if not settings.halt_roles:
        return None
    if settings.halt_url is None:
        return Halter(invocation.target(source), settings.halt_roles)
    return Halter(Target(settings.halt_url, settings.halt_password_command), settings.halt_roles)


def halt_notices(invocation: Invocation, source: str, halter: Halter, catalog: Catalog) -> tuple[Notice, ...]:
    """What stands against the halt; an error among them disarms it."""
    from outlast.sources.postgres.halt_roles import judge, read_roles
    from outlast.sources.postgres.schema import Notice

    settings = settings_of(invocation)
    try:
        ours = (*_our_roles(invocation, source), halter.session.info.user)
        roles = read_roles(halter.session, catalog, settings.halt_roles, ours)
    except OutlastError as error:
        return (Notice("error", "halt-connection", error.message, error.hint),)
    return judge(roles, ours, accept_outage=settings.halt_accept_outage)


def _our_roles(invocation: Invocation, source: str) -> tuple[str, ...]:
    """The roles that Outlast works as: those must never be shut out."""
    from outlast.sources.postgres.session import Target

    settings = invocation.config.source(source)
    urls = [value for name, value in settings if name == "url" or name.endswith("_url")]
    users = [Target(url).parameters.get("user") for url in urls if url]
    return tuple(user for user in users if user)


def arm(
    invocation: Invocation,
    source: str,
    catalog: Catalog,
    *,
    sizes: Sizes,
    labels: Callable[[TenantKey], str | None],
    say: Callable[[str], None],
) -> tuple[Sentry, tuple[Notice, ...]]:
    """A sentry for `follow`, and what its operator has to know at the start. Enter it before reading the stream."""
    from outlast.capture.incident_book import IncidentBook
    from outlast.capture.sentry import Sentry
    from outlast.capture.tripwire import Tripwire
    from outlast.state.local import LocalState

    settings = settings_of(invocation)
    if not settings.enabled:
        return Sentry.disabled(), ()
    notifier = notifier_of(invocation)
    notices = list(_of_notifier(notifier))
    halter = halter_of(invocation, source)
    why_not = "no role is named under halt_roles in outlast.toml"
    if halter is not None:
        found = halt_notices(invocation, source, halter, catalog)
        notices += found
        errors = [notice for notice in found if notice.level == "error"]
        if errors:
            halter.close()
            halter, why_not = None, errors[0].message
    book = IncidentBook(invocation.state, source)
    tripwire = Tripwire(rules_of(settings, catalog), sizes, labels, tombstones=book.tombstones())
    sentry = Sentry(
        tripwire,
        source,
        notifier,
        halter,
        why_not,
        lambda: IncidentBook(LocalState(invocation.config.key_dir), source),
        say,
        alarms_to(invocation, source, say),
    )
    return sentry, tuple(notices)


def _of_notifier(notifier: Notifier) -> tuple[Notice, ...]:
    from outlast.sources.postgres.schema import Notice

    if len(notifier):
        return ()
    return (
        Notice(
            "warning",
            "nobody-is-told",
            "nobody is told when the tripwire fires: there is no OUTLAST_NOTIFY and no notify_command",
            "Set OUTLAST_NOTIFY to Apprise URLs (slack://…, mailto://…), then: outlast tripwire test",
        ),
    )
