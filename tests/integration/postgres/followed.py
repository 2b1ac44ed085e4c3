"""A database that is, or is to be, followed: what the tests of setup, teardown and schema events share."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import psycopg

from outlast.sources.postgres.following import FollowingSettings
from outlast.sources.postgres.following_facts import FollowingFacts, Names, read_following
from outlast.sources.postgres.following_plan import FollowingPlan
from outlast.sources.postgres.following_steps import Patience, StepResult, carry_out
from outlast.sources.postgres.identities import Wish
from outlast.sources.postgres.schema import Catalog, Notice
from outlast.sources.postgres.schema_events import PREFIX, SchemaEvent, parse
from outlast.sources.postgres.session import Session, Target, connect
from outlast.sources.postgres.setup import planned_setup, planned_teardown, verify
from tests.integration.postgres.conftest import look, run

# Every shape that decides how a table is published. `accounts` is the tenant table.
TABLES = (
    "CREATE TABLE accounts (id bigint PRIMARY KEY, name text)",
    "CREATE TABLE items (id int PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, n int)",
    "CREATE TABLE keyless (account_id bigint NOT NULL REFERENCES accounts, n int)",
    "CREATE TABLE by_index (code text NOT NULL UNIQUE, account_id bigint NOT NULL REFERENCES accounts, n int)",
    "CREATE TABLE nothing (id int PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, n int)",
    "ALTER TABLE nothing REPLICA IDENTITY NOTHING",
    "CREATE TABLE late (id int PRIMARY KEY DEFERRABLE, account_id bigint NOT NULL REFERENCES accounts, n int)",
    'CREATE TABLE "Odd ""name" (id int PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, n int)',
    """CREATE TABLE computed (id int PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, n int,
       twice int GENERATED ALWAYS AS (n * 2) STORED)""",
    "CREATE UNLOGGED TABLE quick (id int PRIMARY KEY, account_id bigint NOT NULL, n int)",
    """CREATE TABLE events (id int, account_id bigint NOT NULL, n int, PRIMARY KEY (account_id, id))
       PARTITION BY RANGE (id)""",
    "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (100) TO (200)",
    "CREATE TABLE loose (id int, account_id bigint NOT NULL, n int) PARTITION BY RANGE (id)",
    "CREATE TABLE loose_1 PARTITION OF loose FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE coded (id int NOT NULL, account_id bigint NOT NULL, n int, UNIQUE (id)) PARTITION BY RANGE (id)",
    "CREATE TABLE coded_1 PARTITION OF coded FOR VALUES FROM (0) TO (100)",
    "CREATE TABLE parent (id int PRIMARY KEY, account_id bigint NOT NULL, n int)",
    "CREATE TABLE child (extra int, PRIMARY KEY (id)) INHERITS (parent)",
)
WRITTEN = (
    "items",
    "keyless",
    "by_index",
    "nothing",
    "late",
    '"Odd ""name"',
    "computed",
    "quick",
    "events",
    "loose",
    "coded",
    "parent",
    "child",
)
"""Tables that the application writes."""

AT_ONCE = Patience(lock_timeout_s=0.1, pauses=(0.0,), sleep=lambda _: None)


def write(url: str, tables: tuple[str, ...] = WRITTEN) -> None:
    """What an application does to its tables; fails if any of it fails."""
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO accounts VALUES (1, 'a') ON CONFLICT DO NOTHING")
        for table in tables:
            key = "code" if table == "by_index" else "account_id, n" if table == "keyless" else "id"
            columns = (
                "code, account_id" if table == "by_index" else "account_id" if table == "keyless" else "id, account_id"
            )
            values = "'x', 1" if table == "by_index" else "1" if table == "keyless" else "7, 1"
            for statement in (
                f"INSERT INTO {table} ({columns}) VALUES ({values})",
                f"UPDATE {table} SET n = 5",
                f"SELECT {key} FROM {table}",
                f"DELETE FROM {table}",
                f"TRUNCATE {table}",
            ):
                connection.execute(statement.encode())


@dataclass
class Followed:
    """One database and what outlast.toml says of it."""

    url: str
    settings: FollowingSettings = field(default_factory=lambda: FollowingSettings("main", Names.of("main")))
    classified: Mapping[str, str] | None = None
    tenant_table: str = "accounts"

    def wishing(self, **wishes: str) -> Followed:
        named = {f"public.{table}": Wish(wish) for table, wish in wishes.items()}
        return replace(self, settings=replace(self.settings, wishes=named))

    @contextmanager
    def session(self, user: str = "postgres") -> Iterator[Session]:
        url = self.url.replace("postgres@", f"{user}@")
        with connect(Target(url), role="setup", autocommit=True, read_only=False) as session:
            yield session

    @property
    def catalog(self) -> Catalog:
        return look(self.url, self.tenant_table, self.classified)

    @property
    def facts(self) -> FollowingFacts:
        with self.session() as session:
            return read_following(session, self.catalog, self.settings.names)

    def plan(self, user: str = "postgres") -> FollowingPlan:
        with self.session(user) as session:
            return planned_setup(session, self.catalog, self.settings)

    def teardown_plan(self, user: str = "postgres") -> FollowingPlan:
        with self.session(user) as session:
            return planned_teardown(session, self.catalog, self.settings)

    def carry_out(
        self, plan: FollowingPlan, user: str = "postgres", patience: Patience = AT_ONCE
    ) -> tuple[StepResult, ...]:
        with self.session(user) as session:
            return carry_out(session, plan, patience)

    def set_up(self, user: str = "postgres") -> tuple[StepResult, ...]:
        plan = self.plan(user)
        assert not plan.refusals, plan.refusals
        return self.carry_out(plan, user)

    def notices(self) -> dict[str, Notice]:
        with self.session() as session:
            return {notice.code: notice for notice in verify(session, self.catalog, self.settings)}

    def published(self, partial: bool = False) -> set[str]:
        """The leaves that a publication covers, as the server says."""
        name = self.settings.names.publications[partial]
        with psycopg.connect(self.url) as connection:
            rows = connection.execute("SELECT tablename FROM pg_publication_tables WHERE pubname = %s", [name])
            return {str(row[0]) for row in rows}

    def identity(self, table: str) -> str:
        with psycopg.connect(self.url) as connection:
            row = connection.execute("SELECT relreplident FROM pg_class WHERE relname = %s", [table]).fetchone()
            assert row is not None
            return str(row[0])

    @contextmanager
    def listening(self) -> Iterator[Log]:
        """A slot on the publications, read with the server's own functions."""
        name = f"log_{abs(hash(self.url)) % 10**9}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
            try:
                yield Log(connection, name, self.settings.names)
            finally:
                connection.execute("SELECT pg_drop_replication_slot(%s)", [name])


@dataclass
class Log:
    """What a slot has to say since it was asked last."""

    connection: psycopg.Connection
    slot: str
    names: Names

    def messages(self) -> list[bytes]:
        self.connection.execute("SET synchronous_commit = on")
        # A commit that is on disk brings those before it there too: what was asked for is then in the log.
        self.connection.execute("SELECT pg_logical_emit_message(true, 'flush', '')")
        rows = self.connection.execute(
            "SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, 'proto_version', '2',"
            " 'publication_names', %s, 'messages', 'true')",
            [self.slot, ", ".join(self.names.publications)],
        )
        return [bytes(row[0]) for row in rows]

    def events(self) -> list[SchemaEvent]:
        """The schema events, in their order."""
        return [parse(content) for prefix, content in map(_message, self.messages()) if prefix == PREFIX]

    def events_by_transaction(self) -> dict[int, list[SchemaEvent]]:
        """The same, by the 32-bit number of their transaction."""
        found: dict[int, list[SchemaEvent]] = {}
        number = 0
        for message in self.messages():
            if message[:1] == b"B":
                (number,) = struct.unpack_from("!I", message, 17)
            prefix, content = _message(message)
            if prefix == PREFIX:
                found.setdefault(number, []).append(parse(content))
        return found

    def kinds(self) -> str:
        """The kinds of the messages in a row: I U D T for changes."""
        return "".join(chr(message[0]) for message in self.messages() if chr(message[0]) in "IUDT")


def _message(message: bytes) -> tuple[str, bytes]:
    """Prefix and content of a logical message ('M', flags, LSN, prefix, length, content), or nothing."""
    if message[:1] != b"M":
        return "", b""
    end = message.index(b"\0", 10)
    (length,) = struct.unpack_from("!I", message, end + 1)
    return message[10:end].decode(), message[end + 5 : end + 5 + length]


def database(url: str, *more: str) -> Followed:
    run(url, *TABLES, *more)
    return Followed(url)
