"""Columns that change while the stream is read: every change is told with what its fields meant at that place."""

from __future__ import annotations

import psycopg

from outlast.core.change import Relation, row_of
from tests.integration.postgres.conftest import run
from tests.streams import Seen, followed, table


def _told(seen: list[Seen]) -> list[tuple[tuple[str, ...], bytes]]:
    """Each change's column names and row."""
    return [
        (tuple(name for name, _ in relation.columns), row_of(new))
        for one in seen
        for relation, (_, _, _, new) in one.raw
        if relation is not None and new is not None
    ]


def _types(relation: Relation | None) -> dict[str, str]:
    assert relation is not None
    return dict(relation.columns)


def test_columns_added_dropped_renamed_and_retyped_between_transactions(any_database: str) -> None:
    """Each row reads by the definition of its own time."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, a text, b varchar(5))")
    with followed(any_database, "t") as follower:
        run(
            any_database,
            "INSERT INTO t VALUES (1, 'a', 'b')",
            "ALTER TABLE t ADD c numeric(12,2) DEFAULT 1.5",
            "INSERT INTO t VALUES (2, 'a', 'b')",
            "ALTER TABLE t DROP a",
            "INSERT INTO t VALUES (3, 'b')",
            "ALTER TABLE t RENAME b TO bee",
            "INSERT INTO t VALUES (4, 'b')",
            "ALTER TABLE t ALTER bee TYPE timestamptz(3) USING '2026-01-01Z'",
            "INSERT INTO t VALUES (5, '2026-02-03Z')",
        )
        seen = follower.catch_up()
        rows = [one for one in seen if one.changes[0][3] is not None and one.changes[0][3][:1] in b"12345"]
        inserts = [one for one in rows if one.changes[0][0] == "I"]
        assert _told(inserts)[:4] == [
            (("id", "a", "b"), b"1\ta\tb"),
            (("id", "a", "b", "c"), b"2\ta\tb\t1.50"),
            (("id", "b", "c"), b"3\tb\t1.50"),
            (("id", "bee", "c"), b"4\tb\t1.50"),
        ]
        assert _told(inserts)[-1] == (("id", "bee", "c"), b"5\t2026-02-03 00:00:00+00\t1.50")
        assert _types(inserts[1].raw[0][0]) == {
            "id": "integer",
            "a": "text",
            "b": "character varying(5)",
            "c": "numeric(12,2)",
        }
        assert _types(inserts[-1].raw[0][0])["bee"] == "timestamp(3) with time zone"


def test_a_definition_that_did_not_change_is_the_same_object(any_database: str) -> None:
    """So that what was derived from it holds, across transactions, streamed ones, and a VACUUM or ANALYZE between."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)")
    fill = "INSERT INTO t SELECT n, repeat('x', 80) FROM generate_series(%s, %s + 1999) AS n"
    with followed(any_database, "t") as follower:
        run(
            any_database,
            "INSERT INTO t VALUES (-1)",
            "ANALYZE t",
            "INSERT INTO t VALUES (-2)",
            fill.replace("%s", "1"),
            fill.replace("%s", "10000"),
            "INSERT INTO t VALUES (-3)",
        )
        relations = [relation for one in follower.catch_up() for relation, _ in one.raw]
        assert len({id(relation) for relation in relations}) == 1


def test_a_table_altered_in_the_middle_of_a_transaction(any_database: str) -> None:
    """Small and streamed: before the ALTER the old meaning, after it the new one."""
    for name, rows in (("small", 2), ("large", 3000)):
        run(any_database, f"CREATE TABLE {name} (id int PRIMARY KEY, x text)")
        with followed(any_database, name) as follower:
            run(
                any_database,
                f"INSERT INTO {name} VALUES (0)",
                f"BEGIN; INSERT INTO {name} SELECT n, repeat('x', 80) FROM generate_series(1, {rows}) AS n;"
                f" ALTER TABLE {name} ADD y int; ALTER TABLE {name} RENAME x TO z;"
                f" INSERT INTO {name} SELECT n, repeat('x', 80), 7 FROM generate_series(10001, 10000 + {rows}) AS n;"
                "COMMIT",
                f"INSERT INTO {name} VALUES (-1)",
            )
            seen = follower.catch_up()
            assert seen[1].streamed is (name == "large")
            for one in seen:
                for columns, row in _told([one]):
                    old = 0 <= int(row.split(b"\t")[0]) <= rows
                    assert columns == (("id", "x") if old else ("id", "z", "y"))
                    assert row.count(b"\t") + 1 == len(columns)
            assert len(_told(seen)) == 2 * rows + 2


def test_an_alter_that_is_rolled_back_changes_nothing(any_database: str) -> None:
    """Neither for the rest of its transaction nor for others that run at the same time."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)", "CREATE TABLE u (id int PRIMARY KEY, x text)")

    def fill(name: str, start: int, extra: str = "") -> str:
        return (
            f"INSERT INTO {name} SELECT n, repeat('x', 80){extra} FROM generate_series({start}, {start} + 1999) AS n;"
        )

    with followed(any_database, "t", "u") as follower:
        with psycopg.connect(any_database) as other:
            other.execute(fill("u", 0).encode())
            run(
                any_database,
                "BEGIN;" + fill("t", 0)
                + "SAVEPOINT a; ALTER TABLE t ADD y int;" + fill("t", 10_000, ", 1") + "ROLLBACK TO a;"
                + fill("t", 20_000) + "COMMIT",
            )  # fmt: skip
            other.execute(fill("u", 10_000).encode())
        run(any_database, "INSERT INTO t VALUES (-1)")
        seen = follower.catch_up()
        assert {columns for columns, _ in _told(seen)} == {("id", "x")}
        assert follower.rows("t") == table(any_database, "t")
        assert follower.rows("u") == table(any_database, "u")


def test_a_table_altered_while_others_write_large_transactions(any_database: str) -> None:
    """A streamed transaction that began before somebody else's ALTER of another table ends after it; both are right."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)", "CREATE TABLE u (id int PRIMARY KEY, x text)")
    fill = "INSERT INTO u SELECT n, repeat('x', 80) FROM generate_series(%s, %s + 1999) AS n"
    with followed(any_database, "t", "u") as follower:
        with psycopg.connect(any_database) as other:
            other.execute(fill.replace("%s", "1").encode())
            run(any_database, "INSERT INTO t VALUES (1)", "ALTER TABLE t ADD y int", "INSERT INTO t VALUES (2)")
            other.execute(b"INSERT INTO t VALUES (3, NULL, 3)")
            other.execute(fill.replace("%s", "10000").encode())
            run(any_database, "INSERT INTO t VALUES (4)")
        run(any_database, "ALTER TABLE t DROP x", "INSERT INTO t VALUES (5)", "ALTER TABLE u ADD z int")
        run(any_database, "INSERT INTO u VALUES (0, 'x', 1)")
        seen = follower.catch_up()
        for one in seen:
            for columns, row in _told([one]):
                assert row.count(b"\t") + 1 == len(columns)
        told = {int(row.split(b"\t")[0]): columns for columns, row in _told(seen) if columns[-1] != "x"}
        assert told[2] == told[3] == told[4] == ("id", "x", "y")
        assert told[5] == ("id", "y")
        assert told[0] == ("id", "x", "z")


def test_types_of_the_users_own_are_named_as_the_catalog_names_them(any_database: str) -> None:
    """An enum, a domain and arrays of them, known at the start or made while streaming; also one that is gone again."""
    run(any_database, "CREATE TYPE mood AS ENUM ('sad')", "CREATE TABLE t (id int PRIMARY KEY, m mood)")
    with followed(any_database, "t") as follower:
        run(
            any_database,
            "INSERT INTO t VALUES (1, 'sad')",
            "CREATE DOMAIN short AS varchar(3) CHECK (value <> '')",
            "ALTER TABLE t ADD s short, ADD many mood[]",
            "INSERT INTO t VALUES (2, 'sad', 'x', '{sad}')",
            "CREATE TYPE passing AS ENUM ('p')",
            "ALTER TABLE t ADD p passing",
            "INSERT INTO t VALUES (3, 'sad', 'x', '{sad}', 'p')",
            "ALTER TABLE t DROP p",
            "DROP TYPE passing",
        )
        seen = follower.catch_up()
        assert _types(seen[0].raw[0][0]) == {"id": "integer", "m": "public.mood"}
        assert _types(seen[1].raw[0][0]) == {
            "id": "integer",
            "m": "public.mood",
            "s": "public.short",
            "many": "public.mood[]",
        }
        assert _types(seen[2].raw[0][0])["p"] == "public.passing"


def test_generated_columns_are_not_told(any_database: str) -> None:
    """They are computed again on restore."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED, x int)")
    with followed(any_database, "t") as follower:
        run(any_database, "INSERT INTO t (id, x) VALUES (1, 5)", "UPDATE t SET x = 6")
        seen = follower.catch_up()
        assert [change[3] for one in seen for change in one.changes] == [b"1\t5", b"1\t6"]


def test_a_table_without_columns_is_no_stumbling_block(any_database: str) -> None:
    """Its rows are the shortest messages there are."""
    run(any_database, "CREATE TABLE t ()", "CREATE TABLE u (id int PRIMARY KEY)")
    with followed(any_database, "t", "u") as follower:
        run(any_database, "INSERT INTO t DEFAULT VALUES", "INSERT INTO u VALUES (1)")
        assert [one.changes for one in follower.catch_up()] == [(("I", "t", None, b""),), (("I", "u", None, b"1"),)]
