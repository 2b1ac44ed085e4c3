"""From outlast.toml to the services of `outlast serve`: its database, upstreams, pager. Shared by its commands."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from outlast.core.errors import OutlastError, Refused, UsageError

if TYPE_CHECKING:
    from outlast.cli.opening import Invocation
    from outlast.config.settings import UpstreamSettings
    from outlast.relay.forwarding import Line
    from outlast.state.database import Database
    from outlast.web.services import Services

DATABASE_FILE = "serve.sqlite"
_COMMAND_TIMEOUT_S = 60


@contextmanager
def opened_database(invocation: Invocation) -> Iterator[Database]:
    """The shared state, with every room's tables as this Outlast knows them."""
    from outlast.desk import entries
    from outlast.oncall import overrides
    from outlast.oncall import tables as paging
    from outlast.relay import tables
    from outlast.state.database import Database
    from outlast.web import accounts

    settings = invocation.config.document.serve
    if settings.database is None:
        database = Database.file(invocation.config.key_dir / DATABASE_FILE)
    else:
        command = settings.database_password_command
        password = printed(command, "database_password_command") if command else os.environ.get("PGPASSWORD")
        database = Database.server(settings.database, password)
    with database:
        database.install(tables.SCHEMA, accounts.SCHEMA, overrides.SCHEMA, paging.SCHEMA, entries.SCHEMA)
        yield database


@contextmanager
def opened_services(invocation: Invocation) -> Iterator[Services]:
    """Everything that the application needs. Nothing outside this host but the database is asked for anything."""
    from outlast.cli.informing import report_standing, teller_of
    from outlast.cli.paging import lookup_of, paging_of
    from outlast.cli.watching import beside
    from outlast.library.copy import FILE_NAME
    from outlast.relay import notes
    from outlast.relay.commit import Commits
    from outlast.relay.integration import Keys, instance_of
    from outlast.relay.rate import Rates
    from outlast.web.services import Services
    from outlast.web.telling import Site

    settings = invocation.config.document.serve
    with opened_database(invocation) as database:
        with database.write() as connection:
            instance = instance_of(connection)
        lines = [_line(name, one, instance) for name, one in invocation.config.document.upstreams.items()]
        _no_circle(lines, invocation)
        lookup = lookup_of(invocation)
        paging = paging_of(
            invocation, database, lookup, note=notes.write, close_alert=lambda alert: notes.close(commits, alert)
        )
        invocation.closing.callback(paging.stop)
        teller = teller_of(invocation, database, invocation.output.warn)
        with Commits(database, paging) as commits, beside(invocation, database, invocation.output.warn):
            paging.write = commits.wait_for
            rate = settings.alerts_a_second
            yield Services(
                database=database,
                commits=commits,
                keys=Keys(database),
                pager=paging,
                lines=lines,
                instance=instance,
                public_url=settings.public_url,
                library_path=invocation.config.key_dir / FILE_NAME,
                session_length=settings.session_length,
                integration_rates=Rates(rate, 2 * rate),
                trusted_proxies=settings.trusted_proxies,
                teller=teller,
                site=Site(teller),
                background=[paging.run],
                switched=partial(report_standing, invocation),
                lookup=lookup,
            )


def _line(name: str, settings: UpstreamSettings, instance: str) -> Line:
    from outlast.relay import opsgenie, pagerduty
    from outlast.relay.forwarding import Line
    from outlast.relay.upstream import Upstream

    key = printed(settings.key_command, f"[upstreams.{name}] key_command").strip()
    if not key:
        raise UsageError(f"[upstreams.{name}] key_command printed no key", hint="Try it by hand.")
    timeout_s = settings.timeout.total_seconds()
    upstream: Upstream
    if settings.kind == "opsgenie":
        upstream = opsgenie.Opsgenie(name, settings.url or opsgenie.BASE_URL, key, timeout_s, instance)
    else:
        upstream = pagerduty.PagerDuty(name, settings.url or pagerduty.BASE_URL, key, timeout_s, instance)
    return Line(upstream, settings.confirm_within.total_seconds(), settings.heartbeat.total_seconds())


def _no_circle(lines: Sequence[Line], invocation: Invocation) -> None:
    """An upstream that is this Outlast would be sent its own events, for ever."""
    document = invocation.config.document
    ours = {document.serve.bind.replace("127.0.0.1", "localhost")}
    if document.serve.public_url:
        ours.add(urlsplit(document.serve.public_url).netloc)
    for name, settings in document.upstreams.items():
        if settings.url and urlsplit(settings.url).netloc.replace("127.0.0.1", "localhost") in ours:
            raise Refused(
                f"the upstream {name!r} is this Outlast itself: every event would come back",
                hint=f"Set [upstreams.{name}] url to the vendor's own API, or leave it out.",
                code="circle",
            )


def printed(command: str, setting: str) -> str:
    """What a command of outlast.toml prints: a secret, which stands in no error."""
    try:
        done = subprocess.run(  # the operator's own command, split without a shell
            shlex.split(command), capture_output=True, check=False, timeout=_COMMAND_TIMEOUT_S, text=True
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise OutlastError(
            f"{setting} could not be run ({type(error).__name__})", hint="Try it by hand; it runs without a shell."
        ) from None
    if done.returncode:
        raise OutlastError(f"{setting} failed with exit code {done.returncode}", hint="Try it by hand.")
    return done.stdout.rstrip("\n")
