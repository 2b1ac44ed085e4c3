"""A signature changes with whatever makes an unchanged row version read differently, and with nothing else.

Each case is a schema, and a statement that leaves every row version (key, xmin) as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
import pytest

from outlast.core.table import TableName
from tests.integration.postgres.conftest import look, run

BASE = """
CREATE TABLE accounts (id bigint PRIMARY KEY, name text);
CREATE TABLE items (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, {column});
INSERT INTO accounts VALUES (1, 'one');
INSERT INTO items (id, account_id) VALUES (1, 1);
"""
ITEMS = TableName("public", "items")


@dataclass(frozen=True)
class Case:
    name: str
    change: str
    column: str = "value text"
    before: str = ""
    keeps_versions: bool = True


CHANGING = (
    Case("an enum's label", "ALTER TYPE mood RENAME VALUE 'a' TO 'b'", "mood mood", "CREATE TYPE mood AS ENUM ('a')"),
    Case(
        "an enum's label in an array",
        "ALTER TYPE mood RENAME VALUE 'a' TO 'b'",
        "m mood[]",
        "CREATE TYPE mood AS ENUM ('a')",
    ),
    Case(
        "an enum's label in a domain of a composite",
        "ALTER TYPE mood RENAME VALUE 'a' TO 'b'",
        "p deep",
        "CREATE TYPE mood AS ENUM ('a'); CREATE TYPE pair AS (m mood); CREATE DOMAIN deep AS pair",
    ),
    Case("a composite's new field", "ALTER TYPE pair ADD ATTRIBUTE z int", "p pair", "CREATE TYPE pair AS (x int)"),
    Case(
        "a composite's renamed field",
        "ALTER TYPE pair RENAME ATTRIBUTE x TO y",
        "p pair",
        "CREATE TYPE pair AS (x int)",
    ),
    Case("a row type's table", "ALTER TABLE other ADD COLUMN z int", "p other", "CREATE TABLE other (x int)"),
    Case(
        "a range's subtype",
        "ALTER TYPE mood RENAME VALUE 'a' TO 'b'",
        "r moods",
        "CREATE TYPE mood AS ENUM ('a'); CREATE TYPE moods AS RANGE (subtype = mood)",
    ),
    Case(
        "a multirange's subtype",
        "ALTER TYPE mood RENAME VALUE 'a' TO 'b'",
        "r moodset",
        "CREATE TYPE mood AS ENUM ('a');CREATE TYPE moods AS RANGE (subtype = mood, multirange_type_name = moodset)",
    ),
    Case("a column's name", "ALTER TABLE items RENAME COLUMN value TO other"),
    Case(
        "a column's name and back",
        "ALTER TABLE items RENAME COLUMN value TO other;ALTER TABLE items RENAME COLUMN other TO value",
    ),
    Case("a new column with a stored default", "ALTER TABLE items ADD COLUMN extra int DEFAULT 7"),
    Case("a new column without one", "ALTER TABLE items ADD COLUMN extra int"),
    Case("a dropped column", "ALTER TABLE items DROP COLUMN value"),
    Case("a type without a rewrite", "ALTER TABLE items ALTER COLUMN value TYPE text", "value varchar(20)"),
    Case("a binary-compatible type", "ALTER TABLE items ALTER COLUMN value TYPE regclass", "value oid"),
    Case("time without zone to time with", "ALTER TABLE items ALTER COLUMN value TYPE timestamptz", "value timestamp"),
    Case("a rewrite", "VACUUM FULL items"),
    Case("a cluster", "CLUSTER items USING items_pkey"),
    Case(
        "another key",
        "ALTER TABLE items DROP CONSTRAINT items_pkey; ALTER TABLE items ADD PRIMARY KEY (account_id, id)",
    ),
    Case("no key", "ALTER TABLE items DROP CONSTRAINT items_pkey"),
    Case("an inheritance child", "CREATE TABLE child () INHERITS (items)"),
    Case(
        "an extension's version",
        "ALTER EXTENSION hstore UPDATE TO '1.8'",
        "h hstore",
        "CREATE EXTENSION hstore VERSION '1.7'",
    ),
    Case(
        "the same name, another table",
        "CREATE TABLE copy (LIKE items INCLUDING ALL);DROP TABLE items; ALTER TABLE copy RENAME TO items",
        keeps_versions=False,
    ),
    Case(
        "a type of the same name",
        "ALTER TYPE mood RENAME TO old; CREATE TYPE mood AS ENUM ('a');"
        "ALTER TABLE items ALTER COLUMN m TYPE mood USING NULL",
        "m mood",
        "CREATE TYPE mood AS ENUM ('a')",
        False,
    ),
)

KEEPING = (
    Case("a new row", "INSERT INTO items (id, account_id) VALUES (2, 1)"),
    Case("an analyze", "ANALYZE items"),
    Case("a vacuum", "VACUUM items"),
    Case("an index", "CREATE INDEX ON items (value)"),
    Case("a privilege", "GRANT SELECT ON items TO PUBLIC"),
    Case("a check", "ALTER TABLE items ADD CHECK (id > 0)"),
    Case("an unrelated type", "ALTER TYPE mood RENAME VALUE 'a' TO 'b'", before="CREATE TYPE mood AS ENUM ('a')"),
    Case("an unrelated table", "CREATE TABLE more (id int)"),
    Case("a setting of the database", "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET datestyle = German', "
         "current_database()); END $$"),
)  # fmt: skip

UNSTEADY = ("regclass", "regtype", "regrole", "regproc", "regclass[]", "aclitem", "holder", "domain_of_reg", "points")


def _versions(url: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT id, xmin::text FROM items ORDER BY id").fetchall()


def _signature(url: str, table: TableName = ITEMS, tenant_table: str = "accounts") -> str:
    found = look(url, tenant_table).table(table)
    assert found is not None
    return found.signature


def _prepare(url: str, case: Case) -> None:
    for statement in filter(None, case.before.split(";")):
        run(url, statement)
    run(url, *filter(str.strip, BASE.format(column=case.column).split(";")))


@pytest.mark.parametrize("case", CHANGING, ids=lambda case: case.name)
def test_a_change_in_how_rows_read_changes_the_signature(any_database: str, case: Case) -> None:
    """Though no row has a new version, the signature is another one."""
    _prepare(any_database, case)
    before, versions = _signature(any_database), _versions(any_database)
    assert before == _signature(any_database)
    run(any_database, *case.change.split(";"))
    assert _signature(any_database) != before
    if case.keeps_versions:
        assert _versions(any_database) == versions


@pytest.mark.parametrize("case", KEEPING, ids=lambda case: case.name)
def test_what_cannot_change_a_row_keeps_the_signature(any_database: str, case: Case) -> None:
    """Or every night's ANALYZE would make the next backup a full one."""
    _prepare(any_database, case)
    before = _signature(any_database)
    run(any_database, case.change)
    assert _signature(any_database) == before


@pytest.mark.parametrize("kind", UNSTEADY)
def test_text_that_depends_on_other_objects_is_never_trusted(any_database: str, kind: str) -> None:
    """A renamed table changes what a regclass reads as, wherever in a type it stands: such tables are always read."""
    run(any_database, "CREATE TYPE holder AS (c regclass, n int)", "CREATE DOMAIN domain_of_reg AS regclass")
    run(any_database, "CREATE TABLE targets (x int)", "CREATE TYPE points AS (inner_one holder, n int)")
    run(any_database, *filter(str.strip, BASE.format(column=f"value {kind}").split(";")))
    catalog = look(any_database)
    assert _signature(any_database) != _signature(any_database)
    assert any(notice.code == "unsteady-text" and notice.table == ITEMS for notice in catalog.notices)


def test_every_other_built_in_type_is_trusted(any_database: str) -> None:
    """Only types that print other objects' names are unsteady; all others of this server read the same each time."""
    with psycopg.connect(any_database) as connection:
        names = [
            str(name)
            for (name,) in connection.execute(
                "SELECT format_type(t.oid, NULL) FROM pg_type AS t WHERE t.typnamespace = 'pg_catalog'::regnamespace"
                " AND t.typtype IN ('b', 'r', 'm') AND t.typname !~ '^_?(reg|aclitem|pg_|gtsvector|cstring)'"
            )
        ]
    columns = ", ".join(f"c{number} {name}" for number, name in enumerate(names))
    run(any_database, "CREATE TABLE accounts (id bigint PRIMARY KEY)")
    run(any_database, f"CREATE TABLE items (id bigint PRIMARY KEY, account_id bigint, {columns})")
    assert len(names) > 100
    assert _signature(any_database) == _signature(any_database)


PARTITIONED = (
    "CREATE TABLE accounts (id bigint PRIMARY KEY)",
    """CREATE TABLE items (id bigint, account_id bigint NOT NULL REFERENCES accounts, at int, PRIMARY KEY (id, at))
       PARTITION BY RANGE (at)""",
    "CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE items_2 PARTITION OF items FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (at)",
    "CREATE TABLE items_2_1 PARTITION OF items_2 FOR VALUES FROM (10) TO (20)",
    "INSERT INTO accounts VALUES (1)",
    "INSERT INTO items VALUES (1, 1, 1), (2, 1, 11)",
)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE items_3 PARTITION OF items FOR VALUES FROM (20) TO (30)",
        "ALTER TABLE items DETACH PARTITION items_1",
        "ALTER TABLE items_2 DETACH PARTITION items_2_1",
        "VACUUM FULL items_2_1",
        """ALTER TABLE items DETACH PARTITION items_1;
           ALTER TABLE items ATTACH PARTITION items_1 FOR VALUES FROM (0) TO (10)""",
    ],
)
def test_a_partition_that_came_went_or_was_rewritten_changes_the_root(any_database: str, change: str) -> None:
    """Detached and attached again counts too: what was done in between left no other trace."""
    run(any_database, *PARTITIONED)
    before = _signature(any_database)
    assert before == _signature(any_database)
    run(any_database, *change.split(";"))
    assert _signature(any_database) != before


def test_another_path_to_the_tenant_changes_the_signature(any_database: str) -> None:
    """The same row belongs to another tenant when outlast.toml says another path."""
    run(
        any_database,
        "CREATE TABLE accounts (id bigint PRIMARY KEY)",
        "CREATE TABLE users (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts)",
        "CREATE TABLE items (id bigint PRIMARY KEY, a bigint REFERENCES users, b bigint REFERENCES users)",
    )
    listed = {"accounts": "owned by id", "users": "owned by account_id"}
    by_a = look(any_database, tables={**listed, "items": "owned through a"}).table(ITEMS)
    by_b = look(any_database, tables={**listed, "items": "owned through b"}).table(ITEMS)
    again = look(any_database, tables={**listed, "items": "owned through a"}).table(ITEMS)
    assert by_a is not None
    assert by_b is not None
    assert again is not None
    assert by_a.signature == again.signature != by_b.signature


def test_a_promoted_server_has_other_signatures(any_database: str) -> None:
    """After a promotion the same transaction numbers are given out again, so the timeline is part of the signature."""
    run(any_database, *filter(str.strip, BASE.format(column="v int").split(";")))
    catalog = look(any_database)
    assert catalog.timeline == 1
    assert catalog.system_identifier
