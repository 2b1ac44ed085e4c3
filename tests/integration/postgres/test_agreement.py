"""What a real server says of paths: they agree, they disagree, there are no rows, there is no time."""

from __future__ import annotations

import pytest

from outlast.core.table import Ownership, OwnershipKind, TableName
from outlast.sources.postgres.agreement import Asker, of_agreement
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.check import check
from outlast.sources.postgres.ownership import propose
from outlast.sources.postgres.schema import Catalog, Notice
from outlast.sources.postgres.session import Target, connect
from tests.integration.postgres.conftest import look, run

SCHEMA = (
    "CREATE TABLE accounts (id {kind} PRIMARY KEY)",
    "CREATE TABLE users (id int PRIMARY KEY, account_id {kind} NOT NULL REFERENCES accounts)",
    "CREATE TABLE items (id int PRIMARY KEY, account_id {kind} NOT NULL REFERENCES accounts)",
    """CREATE TABLE likes (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users,
       item_id int NOT NULL REFERENCES items)""",
)
LIKES = TableName("public", "likes")


def made(url: str, kind: str = "bigint", likes: str = "", tenants: tuple[str, str] = ("1", "2")) -> None:
    """Two tenants with a user and an item each, 1 and 2, and rows of likes."""
    run(url, *(one.format(kind=kind) for one in SCHEMA))
    for number, tenant in enumerate(tenants, start=1):
        run(
            url,
            f"INSERT INTO accounts VALUES ('{tenant}')",
            f"INSERT INTO users VALUES ({number}, '{tenant}')",
            f"INSERT INTO items VALUES ({number}, '{tenant}')",
        )
    if likes:
        run(url, f"INSERT INTO likes VALUES {likes}")


def proposed(url: str, *, table_s: float = 30, total_s: float = 60, user: str = "postgres") -> Catalog:
    with connect(Target(url.replace("postgres@", f"{user}@")), role="init") as session:
        return read_catalog(session, OwnershipSettings("accounts"), Asker(session, total_s, table_s))


def likes(catalog: Catalog) -> Ownership:
    table = catalog.table(LIKES)
    assert table is not None
    return table.ownership


def across(url: str, entry: str = "owned through user_id", *, total_s: float = 60) -> list[Notice]:
    catalog = look(url, tables=propose(look(url)) | {"public.likes": entry})
    with connect(Target(url), role="check") as session:
        return list(of_agreement(Asker(session, total_s), catalog))


@pytest.mark.parametrize("kind", ["bigint", "smallint", "uuid", "text", "varchar(40)", "numeric"])
def test_paths_that_agree_are_settled(any_database: str, kind: str) -> None:
    """Whatever the type of the tenant's key; and `check` has nothing to say."""
    tenants = ("00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002")
    made(any_database, kind, "(1, 1, 1), (2, 2, 2)", tenants if kind == "uuid" else ("1", "2"))
    found = likes(proposed(any_database))
    assert found.kind is OwnershipKind.OWNED
    assert found.path[0].columns == ("user_id",)
    assert "item_id leads to the same tenant in every row;" in found.reason
    assert across(any_database) == []


def test_a_table_without_rows_agrees(any_database: str) -> None:
    """A backup succeeds right after init on a schema that was only migrated."""
    made(any_database)
    assert likes(proposed(any_database)).kind is OwnershipKind.OWNED
    assert across(any_database) == []


def test_rows_that_disagree_leave_it_open_and_are_reported(any_database: str) -> None:
    """The number, and a key; once a person has decided, `check` goes on saying it, as a warning."""
    made(any_database, likes="(1, 1, 1), (2, 2, 2), (3, 1, 2), (4, 2, 1)")
    found = likes(proposed(any_database))
    assert found.kind is OwnershipKind.UNDECIDED
    assert "disagree in 2 of 4 rows" in found.reason
    (notice,) = across(any_database)
    assert (notice.level, notice.promise, notice.table) == ("warning", "restore", LIKES)
    assert "2 of 4 rows of public.likes (such as id = 3)" in notice.message
    assert "by user_id, and lead to another by item_id" in notice.message


def test_rows_that_come_to_disagree_after_init_are_reported(any_database: str) -> None:
    """What init promised: the comment in outlast.toml says that `check` watches."""
    made(any_database)
    assert likes(proposed(any_database)).kind is OwnershipKind.OWNED
    run(any_database, "INSERT INTO likes VALUES (1, 1, 2)")
    assert [notice.code for notice in across(any_database)] == ["across-tenants"]
    catalog = look(any_database, tables=propose(look(any_database)) | {"public.likes": "owned through user_id"})
    with connect(Target(any_database), role="check") as session:
        assert "across-tenants" in {notice.code for notice in check(session, catalog)}


def test_a_tenant_column_is_compared_with_the_paths_beside_it(any_database: str) -> None:
    """A row of one tenant that references a row of another."""
    made(any_database)
    run(
        any_database,
        "CREATE TABLE notes (code text, part int, account_id int NOT NULL, item_id int NOT NULL REFERENCES items,"
        " PRIMARY KEY (code, part))",
        "INSERT INTO notes VALUES ('a', 1, 1, 1), ('b', 2, 1, 2)",
    )
    (notice,) = across(any_database)
    assert "1 of 2 rows of public.notes (such as code, part = b, 2)" in notice.message


def test_no_tenant_on_one_side_leaves_it_open_but_is_no_crossing(any_database: str) -> None:
    """A template of no tenant, which a tenant's row uses."""
    made(any_database)
    run(
        any_database,
        "ALTER TABLE items ALTER account_id DROP NOT NULL",
        "INSERT INTO items VALUES (9, NULL)",
        "INSERT INTO likes VALUES (1, 1, 9)",
    )
    assert "disagree in 1 of 1 rows" in likes(proposed(any_database)).reason
    assert across(any_database) == []


def test_a_citext_key_in_other_letters_is_the_same_tenant(any_database: str) -> None:
    """Tenants are told apart by the tenant table's own text."""
    run(any_database, "CREATE EXTENSION citext")
    made(any_database, "citext", "(1, 1, 1)", ("acme", "bravo"))
    run(any_database, "UPDATE users SET account_id = 'ACME' WHERE id = 1")
    assert likes(proposed(any_database)).kind is OwnershipKind.OWNED
    assert across(any_database) == []


def test_odd_names_and_inheritance(any_database: str) -> None:
    """Names that need quotes, and ONLY where rows of child tables are not the parent's."""
    run(
        any_database,
        "CREATE TABLE accounts (id int PRIMARY KEY)",
        'CREATE TABLE "The ""a""" ("Id %s" int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts)',
        'CREATE TABLE "b.b" (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts)',
        'CREATE TABLE "l%l" ("k %s" int PRIMARY KEY, "a a" int NOT NULL REFERENCES "The ""a""",'
        ' b int NOT NULL REFERENCES "b.b")',
        'CREATE TABLE child () INHERITS ("l%l")',
        "INSERT INTO accounts VALUES (1), (2)",
        'INSERT INTO "The ""a""" VALUES (1, 1)',
        'INSERT INTO "b.b" VALUES (1, 1), (2, 2)',
        'INSERT INTO "l%l" VALUES (1, 1, 1)',
        "INSERT INTO child VALUES (2, 1, 2)",
    )
    table = proposed(any_database).table(TableName("public", "l%l"))
    assert table is not None
    assert table.ownership.kind is OwnershipKind.OWNED
    run(any_database, 'INSERT INTO "l%l" VALUES (3, 1, 2)')
    entries = propose(look(any_database)) | {"public.l%l": 'owned through "a a"', "public.child": "ignored"}
    catalog = look(any_database, tables=entries)
    with connect(Target(any_database), role="check") as session:
        (notice,) = of_agreement(Asker(session, 60), catalog)
    assert "1 of 2 rows of public.l%l (such as k %s = 3)" in notice.message


def test_what_takes_too_long_stays_open_and_is_named(any_database: str) -> None:
    """The session is as it was, and the time for all tables is shared: what is left without any is named too."""
    made(any_database)
    rows = "INSERT INTO likes SELECT n, 1, 1 FROM generate_series(1, 100000) AS n"
    run(any_database, f"SET session_replication_role = replica; {rows}")
    found = likes(proposed(any_database, table_s=0.001))
    assert found.kind is OwnershipKind.UNDECIDED
    assert "because reading takes longer than 0.001 seconds" in found.reason
    (notice,) = across(any_database, total_s=0.001)
    assert (notice.level, notice.code) == ("info", "paths-not-compared")
    assert "public.likes point across tenants was not checked: the 0.001 seconds" in notice.message
    catalog = look(any_database, tables=propose(look(any_database)) | {"public.likes": "owned through user_id"})
    with connect(Target(any_database), role="check") as session:
        asker = Asker(session, 60)
        asker.spent_s = 60
        assert [notice.code for notice in of_agreement(asker, catalog)] == ["paths-not-compared"]
        assert [notice.code for notice in of_agreement(Asker(session, 60, 0.001), catalog)] == ["paths-not-compared"]
        assert list(of_agreement(Asker(session, 60), catalog)) == []
        assert session.execute("SHOW statement_timeout").fetchone() == ("0",)


def test_what_may_not_be_read_stays_open(any_database: str) -> None:
    """init goes on, and says why."""
    made(any_database)
    run(any_database, "CREATE ROLE poor LOGIN", "GRANT SELECT ON accounts, likes, users TO poor")
    try:
        assert "may not read" in likes(proposed(any_database, user="poor")).reason
    finally:
        run(any_database, "DROP OWNED BY poor", "DROP ROLE poor")
