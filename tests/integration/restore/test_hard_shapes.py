"""Shapes of tables that a restore must not stumble over: a tenant comes back exactly, or is refused in full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
import pytest

from outlast.core.errors import Refused
from outlast.core.plan import ConflictKind, TenantPlan, TenantState
from outlast.core.recipe import Mode, Recipe
from outlast.restore.history import Past
from outlast.sources.postgres.catalog import OwnershipSettings
from tests.integration.restore.memory import execute, remember, restorer, subjects
from tests.servers import Server

SETTINGS = OwnershipSettings("public.accounts", None)
ODD = '"odd ""%s {{}} name"'.replace("{{", "{").replace("}}", "}")

SCHEMA = f"""
CREATE TABLE accounts (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE pairs (account_id int NOT NULL REFERENCES accounts, id int, PRIMARY KEY (account_id, id));
CREATE TABLE shelves (
    id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, name text NOT NULL,
    code text GENERATED ALWAYS AS (account_id || '/' || lower(name)) STORED UNIQUE
);
CREATE TABLE books (
    id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, shelf text, pair int,
    place text GENERATED ALWAYS AS (account_id || '/' || lower(shelf)) STORED REFERENCES shelves (code),
    FOREIGN KEY (account_id, pair) REFERENCES pairs ON DELETE SET NULL (pair)
);
CREATE TABLE {ODD} (
    outlast_operation text, s int, wanted text, v1 text UNIQUE, g text,
    account_id int NOT NULL REFERENCES accounts, PRIMARY KEY (account_id, s)
);
CREATE TABLE a (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, b_id int NOT NULL, c_id int);
CREATE TABLE b (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, c_id int NOT NULL);
CREATE TABLE c (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts, a_id int NOT NULL REFERENCES a);
ALTER TABLE a ADD FOREIGN KEY (b_id) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
ALTER TABLE a ADD FOREIGN KEY (c_id) REFERENCES c ON DELETE SET NULL;
ALTER TABLE b ADD FOREIGN KEY (c_id) REFERENCES c DEFERRABLE;
CREATE TABLE visits (
    account_id int NOT NULL REFERENCES accounts, id int NOT NULL, region text NOT NULL, body text,
    PRIMARY KEY (region, account_id, id)
) PARTITION BY LIST (region);
CREATE TABLE visits_eu PARTITION OF visits FOR VALUES IN ('eu') PARTITION BY HASH (account_id);
CREATE TABLE visits_eu_0 PARTITION OF visits_eu FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE visits_eu_1 PARTITION OF visits_eu FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE visits_rest PARTITION OF visits DEFAULT;
CREATE TABLE stays (
    visit int, region text, account_id int NOT NULL REFERENCES accounts, note text,
    FOREIGN KEY (region, account_id, visit) REFERENCES visits MATCH SIMPLE
);
INSERT INTO accounts VALUES (1, 'acme'), (2, 'other');
INSERT INTO pairs VALUES (1, 1), (1, 2), (2, 1);
INSERT INTO shelves (id, account_id, name) VALUES (1, 1, 'Top'), (2, 1, 'Low'), (3, 2, 'Top');
INSERT INTO books (id, account_id, shelf, pair) VALUES (1, 1, 'top', 1), (2, 1, NULL, 2), (3, 1, 'LOW', NULL),
    (4, 2, 'Top', 1);
INSERT INTO {ODD} VALUES ('i', 1, 'w', 'one', 'g', 1), ('d', 2, 'w', 'two', NULL, 1), ('u', 1, 'w', 'three', 'g', 2);
BEGIN; SET CONSTRAINTS ALL DEFERRED;
INSERT INTO a VALUES (1, 1, 1, NULL), (2, 2, 2, NULL); INSERT INTO b VALUES (1, 1, 1), (2, 2, 2);
INSERT INTO c VALUES (1, 1, 1), (2, 2, 2); UPDATE a SET c_id = id; COMMIT;
INSERT INTO visits VALUES (1, 1, 'eu', 'x'), (1, 2, 'us', 'y'), (2, 1, 'eu', 'z');
INSERT INTO stays VALUES (1, 'eu', 1, 'a'), (2, 'us', 1, 'b'), (2, 'us', 1, 'b'), (NULL, 'xx', 1, 'c'),
    (1, 'eu', 2, 'd');
"""
TABLES = ("accounts", "pairs", "shelves", "books", ODD, "a", "b", "c", "visits", "stays")

WIPE = f"""
BEGIN; SET CONSTRAINTS ALL DEFERRED; UPDATE a SET c_id = NULL WHERE account_id = 1;
DELETE FROM c WHERE account_id = 1; DELETE FROM b WHERE account_id = 1; DELETE FROM a WHERE account_id = 1; COMMIT;
DELETE FROM stays WHERE account_id = 1; DELETE FROM visits WHERE account_id = 1;
DELETE FROM {ODD} WHERE account_id = 1; DELETE FROM books WHERE account_id = 1;
DELETE FROM shelves WHERE account_id = 1;
DELETE FROM pairs WHERE account_id = 1; DELETE FROM accounts WHERE id = 1;
"""

GRANTS = """
GRANT USAGE ON SCHEMA public TO {0}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {0};
"""


@dataclass
class Ground:
    url: str
    connection: psycopg.Connection
    pasts: dict[str, Past]

    def run(self, statements: str) -> None:
        self.connection.execute(statements.encode())

    def rows(self, tenant: int) -> dict[str, list[str]]:
        column = {"accounts": "id"}
        return {
            table: sorted(
                str(row[0])
                for row in self.connection.execute(
                    f"SELECT t::text FROM {table} t WHERE {column.get(table, 'account_id')} = {tenant}".encode()
                )
            )
            for table in TABLES
        }

    def execute(self, *, url: str | None = None, mode: Mode = Mode.MISSING) -> TenantPlan:
        recipe = Recipe(mode=mode, delete_newer=mode is Mode.REWIND)
        (outcome,) = execute(url or self.url, SETTINGS, self.pasts, recipe=recipe)
        return outcome


@pytest.fixture
def ground(database: str) -> Iterator[Ground]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        yield Ground(database, connection, remember(database, SETTINGS, ["1"]))


@pytest.fixture
def ordinary(database: str, server: Server) -> Iterator[str]:
    """The database's URL for a role that may do no more than read and write the tables of `ground`."""
    name = f"ordinary_{database.partition('@')[2].partition('?')[0].strip('/')}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {name} LOGIN".encode())
        yield database.replace("postgres@", f"{name}@", 1)
        connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


@pytest.mark.parametrize("privileged", [True, False])
def test_wiped_out(ground: Ground, ordinary: str, privileged: bool) -> None:
    """References to and from generated columns, cycles of three tables, partitions of partitions, odd names."""
    ground.run(GRANTS.format(ordinary.partition("//")[2].partition("@")[0]))
    before, others = ground.rows(1), ground.rows(2)
    ground.run(WIPE)
    outcome = ground.execute(url=None if privileged else ordinary)
    assert (outcome.state, outcome.exact) == (TenantState.DONE, True), outcome.conflicts
    assert (ground.rows(1), ground.rows(2)) == (before, others)


REWOUND = {
    "the base of a generated key": "UPDATE books SET shelf = NULL WHERE id = 1;"
    "UPDATE shelves SET name = 'x' WHERE id = 1",
    "generated keys swapped": "UPDATE books SET shelf = NULL WHERE account_id = 1;"
    "UPDATE shelves SET name = 'tmp' WHERE id = 1; UPDATE shelves SET name = 'Top' WHERE id = 2;"
    "UPDATE shelves SET name = 'Low' WHERE id = 1",
    "another partition": "DELETE FROM stays WHERE account_id = 1;"
    "UPDATE visits SET region = 'us', body = 'm' WHERE id = 1 AND account_id = 1",
    "set to null by a deletion": "DELETE FROM pairs WHERE account_id = 1",
    "a cycle turned round": "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO a VALUES (11, 1, 11, NULL);"
    "INSERT INTO b VALUES (11, 1, 1); UPDATE c SET a_id = 11 WHERE id = 1; UPDATE a SET b_id = 11 WHERE id = 1; COMMIT",
    "odd names": f"UPDATE {ODD} SET v1 = 'two', g = NULL, s = 3 WHERE s = 2 AND account_id = 1;"
    f"DELETE FROM {ODD} WHERE s = 1 AND account_id = 1",
}


@pytest.mark.parametrize("damage", REWOUND.values(), ids=REWOUND.keys())
@pytest.mark.parametrize("privileged", [True, False])
def test_rewound(ground: Ground, ordinary: str, damage: str, privileged: bool) -> None:
    """Whatever was changed is as it was; nobody else's rows are touched, and no reference is left dangling."""
    ground.run(GRANTS.format(ordinary.partition("//")[2].partition("@")[0]))
    before, others = ground.rows(1), ground.rows(2)
    ground.run(damage)
    assert ground.rows(1) != before
    outcome = ground.execute(url=None if privileged else ordinary, mode=Mode.REWIND)
    assert outcome.state is TenantState.DONE, outcome.conflicts
    assert (ground.rows(1), ground.rows(2)) == (before, others)


def test_a_parent_by_a_generated_column_is_gone(ground: Ground) -> None:
    """A key that the server makes is proven like any other: what it pointed at is named."""
    ground.run("DELETE FROM books WHERE account_id = 1; DELETE FROM shelves WHERE id = 1")
    (outcome,) = execute(ground.url, SETTINGS, ground.pasts, tables=["public.books"])
    assert [(one.kind, one.keys) for one in outcome.conflicts] == [(ConflictKind.PARENT_GONE, ("1/top",))]


def test_what_points_by_a_generated_key_is_not_left_dangling(ground: Ground) -> None:
    """A rewind that would take away a generated key at which a row that came later points is refused."""
    ground.run("UPDATE books SET shelf = NULL WHERE id = 1; UPDATE shelves SET name = 'New' WHERE id = 1")
    ground.run("INSERT INTO books (id, account_id, shelf) VALUES (9, 1, 'new')")
    before = ground.rows(1)
    recipe = Recipe(mode=Mode.REWIND, tables=("public.shelves",))
    (outcome,) = execute(ground.url, SETTINGS, ground.pasts, recipe=recipe)
    assert [(one.kind, one.constraint) for one in outcome.conflicts] == [(ConflictKind.REFERENCED, "books_place_fkey")]
    assert ground.rows(1) == before


def test_forced_row_security(ground: Ground, ordinary: str) -> None:
    """A policy that binds even the table's owner is named, and nothing is read through it, nor written."""
    name = ordinary.partition("//")[2].partition("@")[0]
    ground.run(GRANTS.format(name) + f"ALTER TABLE books OWNER TO {name}")
    ground.run("ALTER TABLE books ENABLE ROW LEVEL SECURITY; ALTER TABLE books FORCE ROW LEVEL SECURITY")
    ground.run("CREATE POLICY none ON books USING (account_id <> 1); DELETE FROM books WHERE account_id = 1")
    before = ground.rows(1)
    with pytest.raises(Refused, match="row-level security"):
        ground.execute(url=ordinary)
    assert ground.rows(1) == before
    assert ground.execute().state is TenantState.DONE


def test_a_rule_that_takes_rows_away(ground: Ground, ordinary: str) -> None:
    """Fewer rows written than planned is found by counting, and rolled back; a quiet role does not meet the rule."""
    ground.run(GRANTS.format(ordinary.partition("//")[2].partition("@")[0]))
    before = ground.rows(1)
    ground.run("DELETE FROM books WHERE account_id = 1; CREATE RULE no AS ON INSERT TO books DO INSTEAD NOTHING")
    outcome = ground.execute(url=ordinary)
    assert [one.kind for one in outcome.conflicts] == [ConflictKind.NOT_EXACT], outcome
    assert ground.execute().state is TenantState.DONE
    assert ground.rows(1) == before


DRIFTED = {
    "a column more": ("ALTER TABLE books ADD stars int NOT NULL DEFAULT 3", None),
    "a wider key": ("ALTER TABLE a ALTER id TYPE bigint", None),
    "a column less": ("ALTER TABLE shelves DROP name CASCADE", ConflictKind.TABLE_CHANGED),
    "a table less": ("DROP TABLE stays", ConflictKind.TABLE_CHANGED),
    "a constraint more": ("ALTER TABLE books ADD CHECK (pair IS NOT NULL)", ConflictKind.VALUE_REFUSED),
    "a partition less": ("DROP TABLE visits_rest CASCADE", ConflictKind.PARTITION_GONE),
}


@pytest.mark.parametrize(("drift", "kind"), DRIFTED.values(), ids=DRIFTED.keys())
def test_into_a_database_that_drifted(ground: Ground, server: Server, drift: str, kind: ConflictKind | None) -> None:
    """Another database takes the rows where every stored value has its place there, and is else left as it was."""
    with server.new_database() as other, psycopg.connect(other, autocommit=True) as there:
        there.execute(SCHEMA.encode())
        there.execute(WIPE.encode())
        there.execute(drift.encode())
        with restorer(other, SETTINGS) as job:
            (outcome,) = job.execute(subjects(ground.pasts))
            assert not job.errors
        books = there.execute("SELECT count(*) FROM books WHERE account_id = 1").fetchone()
        if kind is None:
            assert (outcome.state, books) == (TenantState.DONE, (3,)), outcome.conflicts
        else:
            assert {one.kind for one in outcome.conflicts} == {kind}, outcome.conflicts
            assert books == (0,)
