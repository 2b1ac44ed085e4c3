"""The hazard schema: what makes putting rows back hard, in one database, with three tenants and traffic on one.

Tenant 1 is damaged and restored. Tenant 2 is never touched by anybody: its fingerprint says so. Tenant 3 is written to
all the time, and every write of it has to be there at the end.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import psycopg

from outlast.sources.postgres.catalog import OwnershipSettings

ROLE = "outlast_hazard_tests"

SCHEMA = """
CREATE EXTENSION IF NOT EXISTS citext;
CREATE TABLE plans (id int PRIMARY KEY, name text);
CREATE TABLE accounts (
    id int PRIMARY KEY, slug citext UNIQUE NOT NULL, plan_id int REFERENCES plans, touched int DEFAULT 0
);
-- a cycle that has to be broken up: one side may be NULL, the other is deferred
CREATE TABLE teams (
    id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, lead int, code text UNIQUE NOT NULL
);
CREATE TABLE people (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, account_id int NOT NULL REFERENCES accounts,
    team_id int NOT NULL REFERENCES teams DEFERRABLE INITIALLY DEFERRED, boss bigint REFERENCES people,
    serial int GENERATED ALWAYS AS IDENTITY,
    born int NOT NULL DEFAULT 1980, age int GENERATED ALWAYS AS (2026 - born) STORED,
    nick citext UNIQUE, room int4range, EXCLUDE USING gist (room WITH &&)
);
ALTER TABLE teams ADD FOREIGN KEY (lead) REFERENCES people (id);
-- a key that is not primary is pointed at, and changes along
CREATE TABLE badges (
    id int PRIMARY KEY, team_code text NOT NULL REFERENCES teams (code) ON UPDATE CASCADE, place int NOT NULL,
    account_id int NOT NULL REFERENCES accounts, UNIQUE (account_id, place) DEFERRABLE INITIALLY IMMEDIATE
);
CREATE TABLE lists (account_id int REFERENCES accounts, name text, PRIMARY KEY (account_id, name));
CREATE TABLE entries (
    account_id int, list text, n int, PRIMARY KEY (account_id, list, n), body text,
    FOREIGN KEY (account_id, list) REFERENCES lists ON DELETE CASCADE ON UPDATE CASCADE
);
CREATE TABLE events (
    id int, at date NOT NULL, account_id int NOT NULL REFERENCES accounts, what text, PRIMARY KEY (id, at)
) PARTITION BY RANGE (at);
CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
CREATE TABLE notes (account_id int NOT NULL REFERENCES accounts, body json);
-- points across tenants, and from outside of all
CREATE TABLE shares (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, team_id int REFERENCES teams);
CREATE TABLE sessions (id int PRIMARY KEY, person_id bigint NOT NULL REFERENCES people ON DELETE CASCADE);
CREATE TABLE audit (note text);
INSERT INTO plans VALUES (1, 'free'), (7, 'gold');
INSERT INTO accounts SELECT n, 'Acme' || n, 7 FROM generate_series(1, 3) n;
INSERT INTO teams SELECT a * 100 + n, a, NULL, 'T' || a || n FROM generate_series(1, 3) a, generate_series(1, 3) n;
INSERT INTO people (id, account_id, team_id, nick, room) OVERRIDING SYSTEM VALUE
    SELECT a * 1000 + n, a, a * 100 + 1 + n % 3, 'nick' || a || '-' || n,
           int4range(a * 1000 + n * 10, a * 1000 + n * 10 + 5)
    FROM generate_series(1, 3) a, generate_series(1, 6) n;
UPDATE people SET boss = id + CASE WHEN id % 2 = 0 THEN -1 ELSE 1 END;
UPDATE teams SET lead = account_id * 1000 + id % 100;
INSERT INTO badges SELECT a * 100 + n, 'T' || a || n, n, a FROM generate_series(1, 3) a, generate_series(1, 3) n;
INSERT INTO lists SELECT a, 'list' || n FROM generate_series(1, 3) a, generate_series(1, 2) n;
INSERT INTO entries SELECT account_id, name, n, 'b' FROM lists, generate_series(1, 3) n;
INSERT INTO events
    SELECT a * 100 + n, '2026-01-20'::date + n * 5, a, 'e' FROM generate_series(1, 3) a, generate_series(1, 5) n;
INSERT INTO notes SELECT a, '{"a": 1}' FROM generate_series(1, 3) a, generate_series(1, 3);
INSERT INTO notes SELECT a, NULL FROM generate_series(1, 3) a;
SELECT setval('people_id_seq', 9000), setval('people_serial_seq', 9000);
"""

TABLES = ("accounts", "teams", "people", "badges", "lists", "entries", "events", "notes", "shares")

SETTINGS = OwnershipSettings(
    "accounts",
    "slug",
    {
        **{f"public.{table}": "owned by account_id" for table in TABLES[1:]},
        "public.accounts": "owned by id",
        "public.plans": "shared",
        "public.sessions": "ignored",
        "public.audit": "ignored",
    },
)

GRANTS = f"""
GRANT USAGE ON SCHEMA public TO {ROLE};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE};
GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO {ROLE};
"""


def rows_of(connection: psycopg.Connection, tenant: int) -> dict[str, list[str]]:
    """A tenant's rows, as the server itself prints them."""
    found = {}
    for table in TABLES:
        column = "id" if table == "accounts" else "account_id"
        query = f"SELECT t::text FROM {table} t WHERE {column} = {tenant} ORDER BY 1"
        found[table] = [row[0] for row in connection.execute(query.encode())]
    return found


@dataclass
class Traffic:
    """Tenant 3's users at work: inserts, updates and deletes in short transactions, each counted once committed."""

    url: str
    committed: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _failure: BaseException | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(60)
        if error is None and self._failure is not None:
            raise AssertionError("another tenant's writes failed") from self._failure

    def _work(self) -> None:
        try:
            with psycopg.connect(self.url) as connection:
                connection.execute("SET lock_timeout = '5s'")
                connection.commit()
                while not self._stop.is_set():
                    number = self.committed + 1
                    connection.execute("UPDATE accounts SET touched = %s WHERE id = 3", [number])
                    connection.execute(
                        "INSERT INTO people (account_id, team_id, nick) VALUES (3, 301, %s)", [f"new{number}"]
                    )
                    connection.execute("INSERT INTO notes VALUES (3, to_json(%s::text))", [f"note {number}"])
                    connection.execute("DELETE FROM people WHERE nick = %s", [f"new{number - 5}"])
                    connection.commit()
                    self.committed = number
        except BaseException as error:  # noqa: BLE001 - raised again where the block ends
            self._failure = error

    def check(self, connection: psycopg.Connection) -> None:
        """Every write is there."""
        assert connection.execute("SELECT touched FROM accounts WHERE id = 3").fetchone() == (self.committed,)
        # The newest are there, and none that this traffic deleted
        newest = [f"new{number}" for number in range(max(1, self.committed - 4), self.committed + 1)]
        found = connection.execute("SELECT nick FROM people WHERE nick LIKE 'new%' AND account_id = 3 ORDER BY id")
        assert [row[0] for row in found.fetchall()] == newest
        connection.execute("DELETE FROM people WHERE nick LIKE 'new%' AND account_id = 3")
