"""A copy: a database that a script is rehearsed on, rebuilt from the vault as of a moment.

Owns the order in which it is made: roles and database, what comes before the rows, the rows, what comes after them,
sequences, and the instruments. What it could not have is named, and makes a verdict inconclusive.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo, sql

from outlast.core.errors import NotFoundError, SourceError
from outlast.core.table import TableName
from outlast.core.tenant import SCHEMA, Tenant, TenantKey
from outlast.rehearsal import copy_after, copy_schema, instruments
from outlast.rehearsal.copy_data import Loader, RowCounts, VaultPlace, past_of_entry, pin, section_texts, unlogged
from outlast.rehearsal.disarming import disarm
from outlast.rehearsal.observed import Doubt, Inconclusive
from outlast.restore.history import all_entries, find_entries
from outlast.restore.moments import At
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.query import identifier
from outlast.sources.postgres.schema import Catalog
from outlast.sources.postgres.server import KEEP, EmbeddedServer, initialize, program_major, serving, stop
from outlast.sources.postgres.session import Target, connect
from outlast.vault.reader import TenantEntry, Vault

BUILDING: Mapping[str, str] = {
    "wal_level": "minimal",  # while it is built nobody reads its log
    "max_wal_senders": "0",
    "max_wal_size": "16GB",
    "wal_recycle": "off",  # what is left at the end is kept with the data
    "min_wal_size": "32MB",
    "autovacuum": "off",
    "checkpoint_timeout": "1d",
    "maintenance_work_mem": "256MB",
    "max_parallel_maintenance_workers": "0",  # indexes are made side by side already, and their sorts fit into memory
    "max_locks_per_transaction": "512",
    "unix_socket_permissions": "0700",  # rows of customers: nobody else of this machine
    "log_min_messages": "fatal",
}
SERVING: Mapping[str, str] = {
    "max_parallel_maintenance_workers": "2",
    "wal_level": "logical",
    "max_wal_senders": "4",
    "max_replication_slots": "4",
    "max_prepared_transactions": "8",
    "autovacuum": "off",
    "log_min_messages": "error",  # which takes in LOG: what was tried and failed is read there
    "log_line_prefix": "%p [%a] ",
    "max_worker_processes": "8",
}

_OWN_READS_MAJOR = 18

Say = Callable[[str], None]


def building(binaries: Path) -> Mapping[str, str]:
    """The settings of a server of these programs while a copy is built in it."""
    if program_major(binaries / "postgres") < _OWN_READS_MAJOR:
        return BUILDING
    # What is read was just written and is in memory: to have it fetched by another process takes longer than to read it
    return {**BUILDING, "io_method": "sync"}


@dataclass(frozen=True)
class CopyFacts:
    """What is known of a copy, kept with it. `rows` are those that it began with.

    `heads` are (run, pack, key) of each tenant's newest manifest, by folder: what tells that a tenant is as it was.
    """

    moment: str
    as_of: datetime
    run: int
    database: str
    tenants: Mapping[TenantKey, Tenant]
    rows: RowCounts = field(repr=False)
    points: tuple[Inconclusive, ...] = ()
    missing: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    heads: Mapping[str, tuple[int, str, str]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Copy:
    """A copy that runs. `url` is its superuser's."""

    url: str
    facts: CopyFacts
    kind: str = "vault"
    server: EmbeddedServer | None = None
    isolated: bool = False
    cached: bool = False

    def url_of(self, role: str) -> str:
        """The copy's URL as a role. On a clone the superuser's session takes the role on: it may not let us log in."""
        if self.server is not None:
            return self.server.url(self.facts.database, role)
        parameters = conninfo.conninfo_to_dict(self.url)
        if parameters.get("user") == role:
            return self.url
        escaped = role.replace("\\", "\\\\").replace(" ", "\\ ")
        return conninfo.make_conninfo(self.url, options=f"-c role={escaped}")


def chosen_entries(vault: Vault, source: str, at: At, only: Sequence[str]) -> list[TenantEntry]:
    """The tenants of the copy: all of them, or those named; always what is shared, and rows of nobody."""
    reserved = [entry for entry in vault.entries(source, at.run.run) if entry.tenant.key.startswith("@")]
    tenants = find_entries(vault, source, only, at) if only else all_entries(vault, source, at)
    return [*(entry for entry in reserved if entry.tenant.key != SCHEMA), *tenants]


def heads_of(entries: Iterable[TenantEntry]) -> dict[str, tuple[int, str, str]]:
    return {entry.prefix: (entry.head.run, entry.head.pack, entry.recipient) for entry in entries}


def schema_sections(vault: Vault, source: str, at: At) -> Mapping[str, bytes]:
    """The schema as the run that the moment stands on has it."""
    for entry in vault.entries(source, at.run.run):
        if entry.tenant.key == SCHEMA:
            return copy_schema.sections(section_texts(past_of_entry(vault, at, entry)))
    raise NotFoundError(f"run {at.run.run} of source {source!r} has no schema", hint="Make a new backup.")


@dataclass
class Builder:
    """Builds one copy from the vault into a folder."""

    place: VaultPlace
    settings: OwnershipSettings
    binaries: Path
    folder: Path
    only: tuple[str, ...] = ()
    jobs: int = 2
    say: Say = lambda _: None
    seconds: dict[str, float] = field(default_factory=dict)

    def build(self, vault: Vault, at: At) -> CopyFacts:
        """Make it, and stop its server so that it can be started anew or kept."""
        points = copy_schema.SchemaPoints()
        clock = _Clock(self.seconds)
        schema = [one for one in vault.entries(self.place.source, at.run.run) if one.tenant.key == SCHEMA]
        parts = schema_sections(vault, self.place.source, at)
        entries = chosen_entries(vault, self.place.source, at, self.only)
        with Loader(self.place, entries, jobs=self.jobs) as loader, self._server(clock) as server:
            database = self._begin(server, parts, points)
            clock.lap("schema")
            url = server.url(database)
            with closing(open_superuser(url)) as connection:
                lacking = self._lacking(connection)
                with unlogged(connection):
                    rows = loader.load(url, lacking)
                clock.lap("rows")
                self._finish(connection, url, parts["post-data"], points)
                clock.lap("indexes")
                catalog = self._instrument(connection, url, points)
            clock.lap("instruments")
            if self.only:
                points.add(Doubt.PART, ", ".join(self.only))
            self._compare_versions(vault, at, catalog, points)
            stop(server)
        clock.lap("stop")
        return CopyFacts(
            at.text,
            at.moment.time,
            at.run.run,
            database,
            {entry.tenant.key: entry.tenant for entry in entries},
            rows,
            tuple(sorted(points.points)),
            tuple(points.missing),
            self.only,
            heads_of([*entries, *schema]),
        )

    @contextmanager
    def _server(self, clock: _Clock) -> Iterator[EmbeddedServer]:
        initialize(self.binaries, self.folder, building(self.binaries))
        with serving(self.binaries, self.folder) as server:
            clock.lap("server")
            yield server

    def _begin(self, server: EmbeddedServer, parts: Mapping[str, bytes], points: copy_schema.SchemaPoints) -> str:
        text = {name: part.decode("utf-8", "surrogateescape") for name, part in parts.items()}
        wanted = copy_schema.database_of(text["database"])
        with closing(open_superuser(server.url())) as connection:
            copy_schema.make_roles(connection, text["roles-and-grants"], points)
            copy_schema.make_database(connection, wanted, points)
            copy_schema.make_database_grants(connection, text["roles-and-grants"], points)
        with closing(open_superuser(server.url(wanted.name))) as connection:
            copy_schema.run_pieces(connection, list(copy_schema.pieces(parts["pre-data"])), points)
            copy_schema.make_extensions(connection, text["extensions"], points)
            logged = instruments.log_tables(connection, instruments.read_tables(connection))
            points.missing.extend(
                f"table {name} is logged in the copy, so that its changes are seen" for name in logged
            )
            for setting in wanted.settings:
                copy_schema.run_setting(connection, setting, points)
        return wanted.name

    def _lacking(self, connection: psycopg.Connection[Any]) -> list[TableName]:
        """Tables of outlast.toml that the copy could not have: their rows are left out, and they are points already."""
        there = {table.name for table in instruments.read_tables(connection)}
        named = [TableName.parse(name) for name in (self.settings.tables or {})]
        return [name for name in named if name not in there]

    def _finish(
        self, connection: psycopg.Connection[Any], url: str, section: bytes, points: copy_schema.SchemaPoints
    ) -> None:
        with ExitStack() as stack:
            others = [stack.enter_context(closing(open_superuser(url))) for _ in range(self.jobs - 1)]
            copy_after.run_after([connection, *others], section, points)
            pin(connection)
            set_sequences(connection)
            refresh_views(connection, points)
            copy_after.analyze([connection, *others])

    def _instrument(self, connection: psycopg.Connection[Any], url: str, points: copy_schema.SchemaPoints) -> Catalog:
        with closing(connect(Target(url), role="rehearse")) as session:
            catalog = read_catalog(session, self.settings)
        for what in instruments.install(connection, catalog, roots_of(connection)):
            points.add(Doubt.BLIND, what)
        points.missing.extend(disarm(connection))
        return catalog

    def _compare_versions(self, vault: Vault, at: At, catalog: Catalog, points: copy_schema.SchemaPoints) -> None:
        known = vault.details(self.place.source, at.run.run).database
        theirs, ours = int(known.get("server_version") or 0) // 10000, catalog.server_version // 10000
        if theirs != ours:
            points.add(Doubt.VERSION, f"the source is PostgreSQL {theirs or 'unknown'}, the copy {ours}")


@contextmanager
def serve_copy(
    binaries: Path, folder: Path, facts: CopyFacts, *, isolated: bool, cached: bool = False, log_all: bool = False
) -> Iterator[Copy]:
    """Start the server of a copy that was built or unpacked. When the block ends it is gone, folder and all.

    `log_all`: every statement is to stand in its log, in the folder: those of a command are not known otherwise.
    """
    (folder / KEEP).unlink(missing_ok=True)
    settings = {**SERVING, "log_statement": "all" if log_all else "none"}
    with serving(binaries, folder, settings, isolated=isolated) as server:
        yield Copy(server.url(facts.database), facts, "vault", server, isolated, cached)


def roots_of(connection: psycopg.Connection[Any]) -> dict[int, TableName]:
    """Each partition's root, by the partition's oid."""
    rows = connection.execute(
        "SELECT c.oid::bigint, n.nspname, r.relname FROM pg_catalog.pg_class AS c"
        " CROSS JOIN LATERAL pg_catalog.pg_partition_root(c.oid) AS root (oid)"
        " JOIN pg_catalog.pg_class AS r ON r.oid = root.oid::oid JOIN pg_catalog.pg_namespace AS n"
        " ON n.oid = r.relnamespace WHERE c.relispartition AND c.relkind IN ('r', 'p')"
    )
    return {oid: TableName(schema, name) for oid, schema, name in rows}


def set_sequences(connection: psycopg.Connection[Any]) -> None:
    """Every sequence that feeds a column stands at the largest value there is, as if it had given it."""
    from outlast.sources.postgres.facts import read_facts

    for use in read_facts(connection).sequences:
        farthest = sql.SQL("max" if use.increment > 0 else "min")
        query = sql.SQL(
            "SELECT pg_catalog.setval({}::regclass, found.v) FROM (SELECT {}({}) AS v FROM {}) AS found"
            " WHERE found.v IS NOT NULL"
        )
        name = sql.Literal(identifier(use.sequence).as_string(connection))
        try:
            connection.execute(query.format(name, farthest, sql.Identifier(use.column), identifier(use.table)))
        except psycopg.Error:
            continue  # a column that is no number (a default that is built of nextval): the sequence stays at its start


def refresh_views(connection: psycopg.Connection[Any], points: copy_schema.SchemaPoints) -> None:
    """Fill materialized views; one that reads from another comes after it, so those that fail are tried again."""
    query = (
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n"
        " ON n.oid = c.relnamespace WHERE c.relkind = 'm' AND NOT c.relispopulated ORDER BY c.oid"
    )
    waiting = connection.execute(query).fetchall()
    while waiting:
        failed = []
        for schema, name in waiting:
            try:
                connection.execute(
                    sql.SQL("REFRESH MATERIALIZED VIEW {}.{}").format(sql.Identifier(schema), sql.Identifier(name))
                )
            except psycopg.Error:
                failed.append((schema, name))
        if len(failed) == len(waiting):
            points.missing.extend(f"materialized view {schema}.{name} could not be filled" for schema, name in failed)
            return
        waiting = failed


def open_superuser(url: str) -> psycopg.Connection[Any]:
    try:
        connection = psycopg.connect(url, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise SourceError(f"the copy's server does not answer: {str(error).splitlines()[0]}") from error
    with suppress(psycopg.errors.InsufficientPrivilege):  # a clone of others may be no superuser's: clone.py says so
        # No trigger of the application hears of what we do
        connection.execute("SET session_replication_role = replica")
    return connection


class _Clock:
    def __init__(self, seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def lap(self, step: str) -> None:
        now = time.monotonic()
        self._seconds[step] = self._seconds.get(step, 0.0) + now - self._last
        self._last = now


def age_s(facts: CopyFacts, now: datetime | None = None) -> float:
    """How long ago the copy's moment was."""
    return max(0.0, ((now or datetime.now(UTC)) - facts.as_of).total_seconds())
