"""Rehearsals without a vault: a database that stands for production, and instrumented copies of it made by the server.

What is under test is the same as in a whole rehearsal (observation, verdict, receipt, guarded run); only the copy comes
from CREATE DATABASE … TEMPLATE instead of the vault, so that hundreds of scripts can be rehearsed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg

from outlast.core.intent import Intent
from outlast.core.intent_text import parse_intent
from outlast.core.tenant import Tenant, TenantKey
from outlast.rehearsal import instruments
from outlast.rehearsal.copy import Copy, CopyFacts, open_superuser, roots_of
from outlast.rehearsal.disarming import disarm
from outlast.rehearsal.observe import Observation
from outlast.rehearsal.observed import Circumstances, Observed
from outlast.rehearsal.performing import Settings
from outlast.rehearsal.receipt import Receipt, schema_digest
from outlast.rehearsal.run import About, Part, Ran, Runner
from outlast.rehearsal.script import Script, read_script
from outlast.rehearsal.trial import ScriptPerformance
from outlast.rehearsal.verdict import Verdict, judge
from outlast.restore.undo import Place
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.session import Session, Target, connect
from tests.servers import Server

ROLE = "postgres"


@dataclass
class Playground:
    """`production` is the database's URL. `template` is a copy of it that is ready to be watched."""

    server: Server
    production: str
    settings: OwnershipSettings
    template: str
    tenants: Mapping[TenantKey, Tenant] = field(default_factory=dict)
    recorded: list[About] = field(default_factory=list)

    @contextmanager
    def copy(self) -> Iterator[str]:
        url = self.server.copy_database(self.template)
        try:
            yield url
        finally:
            self.server.drop_database(_name(url))

    @contextmanager
    def fresh(self) -> Iterator[Playground]:
        """The same with a production of its own, as it was at first. This one's must have no session open."""
        url = self.server.copy_database(self.production)
        try:
            yield Playground(self.server, url, self.settings, self.template, self.tenants)
        finally:
            self.server.drop_database(_name(url))

    def observe(self, script: Script) -> tuple[Observed, Catalog]:
        """Run it on a fresh copy, and tell all that it did."""
        with self.copy() as url, tempfile.TemporaryDirectory() as folder:
            facts = CopyFacts("run:1", datetime.now(UTC), 1, _name(url), self.tenants, {})
            about = Circumstances("main", "run:1", facts.as_of, 1.0, "clone-url", "PostgreSQL", ROLE)
            copy = Copy(url, facts, "clone-url")
            with Observation(copy, self.settings, Path(folder)) as observation:
                return observation.run(ScriptPerformance(script), url, about), observation.catalog

    def rehearse(self, text: str, intent: Intent | None = None, **arguments: str) -> tuple[Verdict, Observed]:
        """Rehearse a script, held against its own header or against `intent`."""
        script = read_script(text, "script.sql", arguments)
        observed, _ = self.observe(script)
        declared = intent or parse_intent(text, "script.sql", lambda _: "")
        return judge(observed, declared, refusals=script.refusals), observed

    def receipt(self, text: str, **arguments: str) -> Receipt:
        """The receipt of a rehearsal, whatever its intent."""
        script = read_script(text, "script.sql", arguments)
        script.check()
        observed, catalog = self.observe(script)
        assert observed.error is None, observed.error
        now = datetime.now(UTC)
        intent = parse_intent(text, "script.sql", lambda _: "") or Intent()
        return Receipt.of(
            observed,
            script,
            intent,
            source="main",
            schema=schema_digest(catalog),
            by="ann",
            now=now,
            expires=now + timedelta(hours=1),
        )

    def run(self, text: str, receipt: Receipt, connection: Session | None = None) -> Ran:
        """Run it on production, without a vault to keep its before-image in."""
        script = read_script(text, "script.sql", dict(receipt.arguments))
        if connection is not None:
            return self.runner(connection).run(Part(receipt, script))
        with closing(self.session()) as opened:
            return self.runner(opened).run(Part(receipt, script))

    def session(self) -> Session:
        return connect(Target(self.production), role="run", autocommit=True, read_only=False)

    def runner(self, connection: Session) -> Runner:
        return Runner(
            connection,
            lambda session: read_catalog(session, self.settings),
            None,
            _nowhere,
            self.recorded.append,
            Settings(5.0, 60.0),
            undo_required=False,
            pause=lambda _: None,
        )

    def rows(self, *tables: str) -> dict[str, list[tuple[object, ...]]]:
        """What production holds."""
        with psycopg.connect(self.production, autocommit=True) as connection:
            return {
                table: connection.execute(f"SELECT * FROM {table} ORDER BY 1".encode()).fetchall() for table in tables
            }

    def execute(self, *statements: str) -> None:
        """Change production, each statement by itself."""
        with psycopg.connect(self.production, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@contextmanager
def playground(server: Server, schema: str, tenant_table: str, label: str | None = None) -> Iterator[Playground]:
    """A playground whose production was made by `schema`. Tables must be classified by their foreign keys alone."""
    with server.new_database() as production, psycopg.connect(production, autocommit=True) as connection:
        connection.execute(schema.encode())
        rows = connection.execute(f"SELECT id::text, {label or 'NULL'} FROM {tenant_table}".encode()).fetchall()
        tenants = {TenantKey(key): Tenant(TenantKey(key), name) for key, name in rows}
        connection.close()
        settings = OwnershipSettings(tenant_table, label)
        template = server.copy_database(production)
        try:
            with closing(connect(Target(template), role="rehearse")) as session:
                catalog = read_catalog(session, settings)
            with closing(open_superuser(template)) as watched:
                watched.execute("SET search_path = ''")
                instruments.install(watched, catalog, roots_of(watched))
                disarm(watched)
            yield Playground(server, production, settings, template, tenants)
        finally:
            server.drop_database(_name(template))


def _name(url: str) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])


def _nowhere(tenants: Iterable[TenantKey]) -> Mapping[TenantKey, tuple[Tenant, Place]]:
    return {}
