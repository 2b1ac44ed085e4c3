"""The change stream of a real server: every kind of message, and a replica that lives by it alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import psycopg
import pytest

from outlast.core.change import UNCHANGED, Change, Relation, fields_of
from outlast.core.moment import Lsn
from tests import types_catalogue
from tests.integration.postgres.conftest import run
from tests.streams import Seen, followed, table


def _operations(seen: list[Seen]) -> list[tuple[str, str]]:
    return [(change[0], change[1]) for one in seen for change in one.changes]


def test_every_kind_of_change_arrives_in_order(any_database: str) -> None:
    """Insert, update, delete, messages and truncate with what it cascades to, each in its place."""
    run(
        any_database,
        "CREATE TABLE a (id int PRIMARY KEY, x text)",
        "CREATE TABLE b (id int PRIMARY KEY, a_id int REFERENCES a)",
    )
    with followed(any_database, "a", "b") as follower:
        run(
            any_database,
            "INSERT INTO a VALUES (1, 'one'), (2, NULL)",
            "BEGIN; UPDATE a SET x = 'ONE' WHERE id = 1;"
            " SELECT pg_logical_emit_message(true, 'outlast.test', 'inside');"
            " SELECT pg_logical_emit_message(true, 'other', 'not ours');"
            " INSERT INTO b VALUES (1, 1); DELETE FROM a WHERE id = 2; COMMIT",
            "SELECT pg_logical_emit_message(false, 'outlast.test', 'loose')",
            "BEGIN; INSERT INTO a VALUES (9); ROLLBACK",
            "TRUNCATE a RESTART IDENTITY CASCADE",
            "INSERT INTO a VALUES (3, E'tab\\tnewline\\n\\\\')",
        )
        seen = follower.catch_up()
        assert _operations(seen) == [
            ("I", "a"), ("I", "a"), ("U", "a"), ("I", "b"), ("D", "a"), ("T", "a"), ("T", "b"), ("I", "a"),
        ]  # fmt: skip
        assert [(m.prefix, m.content, m.place) for m in seen[1].messages] == [("outlast.test", b"inside", 1)]
        assert [(m.content, m.transactional) for m in follower.loose] == [(b"loose", False)]
        assert [one.commit for one in seen] == sorted(one.commit for one in seen)
        assert all(one.commit < one.end for one in seen)
        assert follower.rows("a") == table(any_database, "a") == [b"3\ttab\\tnewline\\n\\\\"]
        assert follower.rows("b") == table(any_database, "b") == []


def test_transactions_carry_the_server_s_own_numbers_and_clock(any_database: str) -> None:
    """The 64-bit transaction number, the commit time, and positions that the server would say too."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    with followed(any_database, "t") as follower, psycopg.connect(any_database) as connection:
        before = connection.execute("SELECT clock_timestamp(), pg_current_wal_lsn()::text").fetchone()
        connection.execute("INSERT INTO t VALUES (1)")
        xid = connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        connection.commit()
        after = connection.execute("SELECT clock_timestamp(), pg_current_wal_insert_lsn()::text").fetchone()
        connection.commit()
        assert before is not None
        assert after is not None
        (one,) = follower.catch_up()
        assert (one.xid,) == xid
        assert Lsn.parse(before[1]) < one.commit < one.end <= Lsn.parse(after[1])


def test_unchanged_large_values_are_marked_and_not_sent(any_database: str) -> None:
    """A TOASTed value that an update leaves alone comes as `unchanged`, and is taken from the row before."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, n int, big text)")
    run(any_database, "ALTER TABLE t ALTER big SET STORAGE EXTERNAL")
    with followed(any_database, "t") as follower:
        run(any_database, "INSERT INTO t VALUES (1, 1, repeat('toast', 5000))", "UPDATE t SET n = 2")
        seen = follower.catch_up()
        new = seen[1].raw[0][1][3]
        assert new is not None
        assert list(fields_of(new)) == [b"1", b"2", UNCHANGED]
        assert follower.rows("t") == table(any_database, "t")
        run(any_database, "UPDATE t SET big = 'small'", "UPDATE t SET big = repeat('x', 9000), n = 3")
        follower.catch_up()
        assert follower.rows("t") == table(any_database, "t")


IDENTITIES = {
    "DEFAULT": (b"1", "d", (0,)),
    "FULL": (b"1\tu\told", "f", (0, 1, 2)),
    "USING INDEX t_code": (b"u", "i", (1,)),
}


@pytest.mark.parametrize("identity", IDENTITIES)
def test_each_replica_identity_tells_the_old_row_in_its_way(any_database: str, identity: str) -> None:
    """DEFAULT sends the key of a deleted row, FULL all of it, an index its columns."""
    old, letter, positions = IDENTITIES[identity]
    run(
        any_database,
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, x text)",
        "CREATE UNIQUE INDEX t_code ON t (code)",
        f"ALTER TABLE t REPLICA IDENTITY {identity}",
    )
    with followed(any_database, "t") as follower:
        run(any_database, "INSERT INTO t VALUES (1, 'u', 'old')", "UPDATE t SET x = 'old'", "DELETE FROM t")
        seen = follower.catch_up()
        relation = seen[0].raw[0][0]
        assert relation is not None
        assert (relation.identity, relation.identity_columns) == (letter, positions)
        assert seen[2].changes == (("D", "t", old, None),)


def test_without_an_identity_inserts_and_truncates_still_come(any_database: str) -> None:
    """NOTHING, published for INSERT and TRUNCATE alone: the application's updates and deletes work, unseen."""
    run(
        any_database, "CREATE TABLE t (id int)", "ALTER TABLE t REPLICA IDENTITY NOTHING", "CREATE TABLE other (id int)"
    )
    with followed(any_database, "other") as follower:
        run(
            any_database,
            f"ALTER PUBLICATION {follower.publications[0]} SET (publish = 'insert, truncate')",
            f"ALTER PUBLICATION {follower.publications[0]} ADD TABLE t",
            "INSERT INTO t VALUES (1)",
            "UPDATE t SET id = 2",
            "DELETE FROM t",
            "TRUNCATE t",
        )
        assert _operations(follower.catch_up()) == [("I", "t"), ("T", "t")]


def test_an_update_of_the_key_tells_the_old_key(any_database: str) -> None:
    """Under DEFAULT the old key comes only where it changed; under FULL the old row always does."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)", "CREATE TABLE f (id int PRIMARY KEY, x text)")
    run(any_database, "ALTER TABLE f REPLICA IDENTITY FULL")
    with followed(any_database, "t", "f") as follower:
        for name in ("t", "f"):
            run(
                any_database,
                f"INSERT INTO {name} VALUES (1, 'N' || chr(1))",
                f"UPDATE {name} SET id = id + 1, x = NULL",
            )
        seen = follower.catch_up()
        assert [one.changes[0] for one in seen] == [
            ("I", "t", None, b"1\tN\x01"),
            ("U", "t", b"1", b"2\t\\N"),
            ("I", "f", None, b"1\tN\x01"),
            ("U", "f", b"1\tN\x01", b"2\t\\N"),
        ]


def test_a_row_that_moves_to_another_partition_is_deleted_there_and_inserted_here(any_database: str) -> None:
    """Leaves are told by name; the root never is; TRUNCATE of one leaf names it alone."""
    run(
        any_database,
        "CREATE TABLE root (id int, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region)",
        "CREATE TABLE north PARTITION OF root FOR VALUES IN ('n')",
        "CREATE TABLE south PARTITION OF root FOR VALUES IN ('s')",
    )
    with followed(any_database, "root") as follower:
        run(
            any_database,
            "INSERT INTO root VALUES (1, 'n'), (2, 's')",
            "UPDATE root SET region = 's' WHERE id = 1",
            "TRUNCATE north",
            "TRUNCATE root",
        )
        seen = follower.catch_up()
        assert seen[1].changes == (("D", "north", b"1\tn", None), ("I", "south", None, b"1\ts"))
        assert [change[1] for change in seen[2].changes] == ["north"]
        assert sorted(change[1] for change in seen[3].changes) == ["north", "south"]


def test_commits_come_in_their_order_and_not_in_that_of_beginning(any_database: str) -> None:
    """Three transactions that overlap, the first to begin the last to commit."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    with followed(any_database, "t") as follower:
        sessions = [psycopg.connect(any_database) for _ in range(3)]
        for number, session in enumerate(sessions):
            session.execute("INSERT INTO t VALUES (%s)", [number])
        for number in (1, 2, 0):
            sessions[number].commit()
            sessions[number].close()
        assert [one.changes[0][3] for one in follower.catch_up()] == [b"1", b"2", b"0"]


@pytest.mark.parametrize("rows", [1, 3000], ids=["small", "streamed"])
def test_a_prepared_transaction_comes_when_it_is_committed(any_database: str, rows: int) -> None:
    """Not at PREPARE, not if it is rolled back; with the position and the time of COMMIT PREPARED."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)")
    fill = f"INSERT INTO t SELECT n, repeat('x', 50) FROM generate_series(%s, %s + {rows - 1}) AS n"
    with followed(any_database, "t") as follower:
        run(
            any_database,
            "BEGIN; " + fill.replace("%s", "1") + "; PREPARE TRANSACTION 'kept'",
            "BEGIN; " + fill.replace("%s", "10001") + "; PREPARE TRANSACTION 'dropped'",
            "INSERT INTO t VALUES (0)",
        )
        assert [len(one.changes) for one in follower.catch_up()] == [1]
        run(any_database, "ROLLBACK PREPARED 'dropped'", "INSERT INTO t VALUES (-1)", "COMMIT PREPARED 'kept'")
        seen = follower.catch_up()
        assert [len(one.changes) for one in seen] == [1, rows]
        assert seen[1].streamed is (rows > 1)
        assert follower.rows("t") == table(any_database, "t")


def test_rolled_back_subtransactions_leave_nothing_in_a_streamed_transaction(any_database: str) -> None:
    """Savepoints rolled back, nested, released and reused, each long enough to have been streamed before."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)")

    def fill(start: int) -> str:
        return f"INSERT INTO t SELECT n, repeat('x', 80) FROM generate_series({start}, {start} + 1999) AS n;"

    with followed(any_database, "t") as follower:
        run(
            any_database,
            "BEGIN;" + fill(0)
            + "SAVEPOINT a;" + fill(10_000)
            + "SAVEPOINT b;" + fill(20_000) + "RELEASE b;"
            + "SELECT pg_logical_emit_message(true, 'outlast.test', 'gone');"
            + "ROLLBACK TO a;" + fill(30_000)
            + "SELECT pg_logical_emit_message(true, 'outlast.test', 'stays');"
            + "SAVEPOINT c;" + fill(40_000) + "ROLLBACK TO c; UPDATE t SET x = 'y' WHERE id < 100;"
            + "SAVEPOINT d;" + fill(50_000) + "SAVEPOINT e;" + fill(60_000) + "ROLLBACK TO e;" + fill(70_000)
            + "COMMIT",
            "BEGIN;" + fill(80_000) + "SAVEPOINT a;" + fill(90_000) + "ROLLBACK",
        )  # fmt: skip
        (one,) = follower.catch_up()
        assert one.streamed
        assert [(m.content, m.place) for m in one.messages] == [(b"stays", 4000)]
        assert len(one.changes) == 4 * 2000 + 100
        assert follower.rows("t") == table(any_database, "t")
        assert not follower.assembler.open_transactions


def test_rolled_back_subtransactions_leave_nothing_in_a_small_transaction(any_database: str) -> None:
    """The server drops them itself where nothing was streamed."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY)")
    with followed(any_database, "t") as follower:
        run(
            any_database,
            "BEGIN; INSERT INTO t VALUES (1); SAVEPOINT a; INSERT INTO t VALUES (2); SAVEPOINT b; DELETE FROM t;"
            " RELEASE b; ROLLBACK TO a; INSERT INTO t VALUES (3); COMMIT",
            "DO $$ BEGIN FOR i IN 10 .. 20 LOOP BEGIN INSERT INTO t VALUES (i);"
            " IF i % 2 = 0 THEN RAISE 'no'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$",
        )
        follower.catch_up()
        assert follower.rows("t") == table(any_database, "t")


def test_large_transactions_interleave(any_database: str) -> None:
    """Streamed piece by piece in turns, with small ones between; each is whole and by itself."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)")
    fill = "INSERT INTO t SELECT n, repeat('x', 80) FROM generate_series(%s, %s + 999) AS n"
    with followed(any_database, "t") as follower:
        sessions = [psycopg.connect(any_database) for _ in range(3)]
        for piece in range(5):
            for number, session in enumerate(sessions):
                start = 100_000 * number + 1000 * piece
                session.execute(fill.replace("%s", str(start)).encode())
            run(any_database, f"INSERT INTO t VALUES ({-1 - piece})")
        sessions[1].rollback()
        sessions[2].commit()
        sessions[0].commit()
        for session in sessions:
            session.close()
        seen = follower.catch_up()
        assert [len(one.changes) for one in seen] == [1] * 5 + [5000, 5000]
        assert follower.rows("t") == table(any_database, "t")


class _Watching:
    """An observer that keeps what it was shown."""

    def __init__(self) -> None:
        self.seen: dict[int, dict[int, int]] = {}
        self.committed_xids: list[int] = []

    def provisional(self, xid: int, subxid: int, relations: Mapping[int, Relation], changes: Sequence[Change]) -> None:
        assert {relations[change[1]].name.name for change in changes} == {"t"}
        counts = self.seen.setdefault(xid, {})
        counts[subxid] = counts.get(subxid, 0) + len(changes)

    def aborted(self, xid: int, subxid: int | None) -> None:
        if subxid is None:
            del self.seen[xid]
        else:
            self.seen[xid].pop(subxid, None)

    def committed(self, xid: int) -> None:
        self.committed_xids.append(xid)


def test_a_large_transaction_is_seen_before_it_commits(any_database: str) -> None:
    """As it runs, by its number; what is rolled back is withdrawn; a small one is seen at its commit only."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)")
    run(any_database, "INSERT INTO t SELECT n, repeat('x', 80) FROM generate_series(1, 9000) AS n")
    watching = _Watching()
    with followed(any_database, "t", observer=watching) as follower, psycopg.connect(any_database) as script:
        xid = script.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
        assert xid is not None
        script.execute("DELETE FROM t WHERE id <= 3000")
        assert follower.catch_up() == []
        first = sum(watching.seen[xid[0]].values())
        assert 1000 < first <= 3000  # the newest of them wait in the server's 64 kB
        script.execute("SAVEPOINT a")
        script.execute("DELETE FROM t WHERE id <= 6000")
        follower.catch_up()
        assert sum(watching.seen[xid[0]].values()) > 3000
        script.execute("ROLLBACK TO a")
        script.execute("DELETE FROM t WHERE id > 6000")
        follower.catch_up()
        assert list(follower.assembler.open_transactions) == [xid[0]]
        script.commit()
        (one,) = follower.catch_up()
        assert (one.xid, len(one.changes)) == (xid[0], 6000)
        assert watching.committed_xids == [xid[0]]
        assert sum(watching.seen[xid[0]].values()) == 6000
        script.execute("DELETE FROM t")
        follower.catch_up()
        script.rollback()
        follower.catch_up()
        assert list(watching.seen) == [xid[0]]
        assert follower.assembler._spool.size_bytes == 0


def test_the_text_of_every_type_is_what_copy_gives(any_database: str) -> None:
    """A row out of the stream is the line that a sweep reads, byte for byte, for every built-in type and its arrays."""
    with psycopg.connect(any_database, autocommit=True) as connection:
        cases = types_catalogue.create(connection, tenants=1)
    names = [case.name for case in cases]
    # Settings of the database give way in the stream's session as in a sweep's.
    for setting in ("datestyle = 'German'", "bytea_output = 'escape'", "timezone = 'Asia/Kolkata'",
                    "intervalstyle = 'iso_8601'", "extra_float_digits = 0"):  # fmt: skip
        run(any_database, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET " + setting.replace("'", "''")
            + "', current_database()); END $$")  # fmt: skip
    with followed(any_database, *names) as follower:
        with psycopg.connect(any_database, autocommit=True) as connection:
            for name in names:
                quoted = psycopg.sql.Identifier(name)
                connection.execute(
                    psycopg.sql.SQL(
                        "CREATE TEMP TABLE kept AS TABLE {0}; DELETE FROM {0}; INSERT INTO {0} TABLE kept;"
                        " DROP TABLE kept"
                    ).format(quoted)
                )
        follower.catch_up()
        for name in names:
            assert follower.rows(name) == table(any_database, name), name
