"""A copy that somebody else made: a branch, a clone, a restored snapshot, by its URL or by a command that prints one.

It is instrumented as our own copies are, and used up by the script. Outlast does not know what is in it nor as of when,
so a verdict on it is inconclusive unless the intent accepts that (`foreign-clone`).
"""

from __future__ import annotations

import secrets
import shlex
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import psycopg
from psycopg import conninfo

from outlast.core.errors import OutlastError, Refused, SourceError, UsageError
from outlast.core.tenant import Tenant, TenantKey
from outlast.rehearsal import instruments
from outlast.rehearsal.copy import Copy, CopyFacts, Say, open_superuser, roots_of
from outlast.rehearsal.copy_data import pin
from outlast.rehearsal.disarming import disarm
from outlast.rehearsal.observed import Doubt, Inconclusive
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.session import Target, connect
from outlast.sources.postgres.tenants import read_tenants

_COMMAND_TIMEOUT_S = 1800


@dataclass
class CloneSupply:
    """Gives a clone, as supply.Supply gives copies: once by its URL, each time anew by a command."""

    production: Sequence[Target]  # the source, by every role and address that outlast.toml has
    settings: OwnershipSettings
    url: str | None = None
    command: str | None = None
    major: int = 0  # the source's
    say: Say = lambda _: None
    seconds: dict[str, float] = field(default_factory=dict)
    log_all: bool = False  # its log is not ours to set

    @contextmanager
    def copy(self) -> Iterator[tuple[Copy, Path]]:
        self.say("Taking the clone …")
        url = self.url or printed_url(self.command or "")
        for one in self.production:
            refuse_production(url, one)
        refuse_same_database(url, self.production)
        with tempfile.TemporaryDirectory(prefix="outlast-clone-") as name:
            yield self._instrumented(url, "clone-url" if self.url else "clone-command"), Path(name)

    def _instrumented(self, url: str, kind: str) -> Copy:
        with closing(open_superuser(url)) as connection:
            row = connection.execute(
                "SELECT current_database(), current_setting('is_superuser'), current_setting('wal_level'),"
                " to_regnamespace('outlast_rehearsal') IS NOT NULL"
            ).fetchone()
            assert row is not None
            database, superuser, level, used = row
            if used:
                raise Refused(
                    "a rehearsal has used this clone up already: what is in it is not what the source had",
                    hint="Make a fresh one for each rehearsal, by hand or by --clone-command.",
                    code="clone-used",
                )
            if superuser != "on":
                raise SourceError(
                    "the clone's URL is not that of a superuser, who alone can see all that a script does there",
                    hint="Give the superuser's URL; the script itself runs as the role of --role.",
                    code="privilege",
                )
            if level != "logical":
                raise SourceError(
                    "the clone's wal_level is not logical: its log does not tell what a script does",
                    hint="Set wal_level = logical there and restart it.",
                    code="wal-level",
                )
            pin(connection)
            points = {Inconclusive(Doubt.CLONE, "what is in it, and as of when, only its maker knows")}
            with closing(connect(Target(url), role="rehearse")) as session:
                catalog = read_catalog(session, self.settings)
                tenants = {
                    TenantKey(key): Tenant(TenantKey(key), one.label)
                    for key, one in read_tenants(session, catalog).items()
                }
            if self.major and catalog.server_version // 10000 != self.major:
                told = f"the source is PostgreSQL {self.major}, the clone {catalog.server_version // 10000}"
                points.add(Inconclusive(Doubt.VERSION, told))
            logged = instruments.log_tables(connection, instruments.read_tables(connection))
            blind = instruments.install(connection, catalog, roots_of(connection))
            points |= {Inconclusive(Doubt.BLIND, what) for what in blind}
            notes = [*disarm(connection), *(f"table {name} is logged in the clone" for name in logged)]
        facts = CopyFacts(kind, datetime.now(UTC), 0, str(database), tenants, {}, tuple(sorted(points)), tuple(notes))
        return Copy(url, facts, kind)


def printed_url(command: str) -> str:
    """What the command prints as its first line. Its errors go to stderr."""
    try:
        done = subprocess.run(
            shlex.split(command), stdout=subprocess.PIPE, text=True, check=False, timeout=_COMMAND_TIMEOUT_S
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise UsageError(
            f"the clone command could not be run ({type(error).__name__})", hint="Try it by hand: it prints a URL."
        ) from error
    url = done.stdout.partition("\n")[0].strip()
    if done.returncode != 0 or not url:
        what = f"ended with exit code {done.returncode}" if done.returncode else "printed nothing"
        raise SourceError(f"the clone command {what}", hint="It must print the clone's URL as its first line.")
    return url


def refuse_same_database(url: str, production: Sequence[Target]) -> None:
    """Raise Refused where the clone is the source under another name, or nobody can say.

    Names and addresses do not tell, nor does what a physical clone shares with its origin: a lock does, which is taken
    in the clone and seen in the source.
    """
    number = secrets.randbits(62)
    try:
        clone = psycopg.connect(url, prepare_threshold=None)
    except psycopg.Error as error:
        raise SourceError(f"the clone's server does not answer: {str(error).splitlines()[0]}") from error
    with closing(clone):
        clone.execute("SELECT pg_catalog.pg_advisory_xact_lock(%s)", [number])
        for one in production:
            try:
                with closing(connect(one, role="rehearse", autocommit=True)) as session:
                    row = session.execute("SELECT pg_catalog.pg_try_advisory_xact_lock(%s)", [number]).fetchone()
            except OutlastError as error:
                raise Refused(
                    f"nobody can say that the clone is not the source itself: {error.message}",
                    hint="Rehearse where the source can be reached: it is asked with one advisory lock.",
                    code="production",
                ) from error
            if row is None or not row[0]:
                raise _production(one)


def _production(source: Target) -> Refused:
    return Refused(
        f"the clone's URL is that of the source itself, {source}",
        hint="A script is rehearsed on a copy. Without --clone-url one is built from the vault.",
        code="production",
    )


def refuse_production(url: str, production: Target) -> None:
    """Raise Refused where the clone's URL is the source's own."""
    try:
        clone = conninfo.conninfo_to_dict(url)
    except psycopg.Error:
        raise UsageError("the clone's URL cannot be read", hint="Write postgresql://USER@HOST/DATABASE.") from None
    source = production.parameters

    def place(parameters: dict[str, object]) -> tuple[str, ...]:
        host = str(parameters.get("host") or parameters.get("hostaddr") or "").lower()
        return host, str(parameters.get("port") or 5432), str(parameters.get("dbname") or parameters.get("user") or "")

    if place(dict(clone)) == place(dict(source)):
        raise _production(production)
