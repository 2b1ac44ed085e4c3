"""What check finds on a real server, and that it says which promise is weaker."""

from __future__ import annotations

import time
from pathlib import Path

from outlast.sources.postgres.check import check
from outlast.sources.postgres.ownership import propose
from outlast.sources.postgres.schema import Notice
from outlast.sources.postgres.session import Target, connect
from tests.integration.postgres.conftest import look, run
from tests.integration.postgres.followed import database

SCHEMA = (
    "CREATE TABLE accounts (id bigint PRIMARY KEY)",
    "CREATE TABLE items (id int PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts)",
    "CREATE TABLE notes (id int PRIMARY KEY, item_id int NOT NULL REFERENCES items, other int REFERENCES items)",
)


def found(url: str, user: str = "postgres", *, programs: Path | None = None, ahead_s: float = 0) -> dict[str, Notice]:
    tables = propose(look(url))
    catalog = look(url.replace("postgres@", f"{user}@"), tables=tables)
    with connect(Target(url.replace("postgres@", f"{user}@")), role="check") as connection:
        notices = check(connection, catalog, programs=programs, clock=lambda: time.time() + ahead_s)
    assert [notice.level for notice in notices] == sorted(
        (notice.level for notice in notices), key=["error", "warning", "info"].index
    )
    return {notice.code: notice for notice in notices}


def test_an_ordinary_database_has_no_error(any_database: str) -> None:
    """Right after init."""
    run(any_database, *SCHEMA, "CREATE TABLE schema_migrations (version text PRIMARY KEY)")
    assert not [notice for notice in found(any_database).values() if notice.level == "error"]


def test_paths_and_foreign_keys_without_an_index_are_named(any_database: str) -> None:
    """With the statement that makes the index; once it is there, nothing is said."""
    run(any_database, *SCHEMA)
    before = found(any_database)
    assert "unindexed-path" in before
    assert "notes (other)" in before["unindexed-foreign-key"].message
    run(
        any_database,
        "CREATE INDEX ON items (account_id)",
        "CREATE INDEX ON notes (item_id)",
        "CREATE INDEX ON notes (other)",
    )
    assert not {"unindexed-path", "unindexed-foreign-key"} & set(found(any_database))


def test_a_missing_privilege_stops_a_backup_and_names_the_table(any_database: str) -> None:
    """SELECT on a table, USAGE on its schema, and a policy that would hide rows."""
    run(any_database, *SCHEMA, "CREATE ROLE poor LOGIN", "GRANT SELECT ON accounts, items TO poor")
    run(any_database, "ALTER TABLE items ENABLE ROW LEVEL SECURITY")
    try:
        notices = found(any_database, "poor")
        assert (notices["privilege"].level, str(notices["privilege"].table)) == ("error", "public.notes")
        assert (notices["row-security"].level, str(notices["row-security"].table)) == ("error", "public.items")
        run(any_database, "REVOKE USAGE ON SCHEMA public FROM PUBLIC")
        assert "USAGE on schema public" in found(any_database, "poor")["privilege"].message
        assert "no-replication-role" in notices
    finally:
        run(any_database, "DROP OWNED BY poor", "DROP ROLE poor")


def test_a_partition_that_pg_dump_could_not_lock_stops_a_backup(any_database: str) -> None:
    """Reading through the root would work, dumping its definition would not."""
    run(
        any_database,
        SCHEMA[0],
        "CREATE TABLE events (at int, account_id bigint NOT NULL) PARTITION BY RANGE (at)",
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (9)",
        "CREATE ROLE poor LOGIN",
        "GRANT SELECT ON accounts, events TO poor",
    )
    try:
        assert found(any_database, "poor")["privilege-partition"].level == "error"
    finally:
        run(any_database, "DROP OWNED BY poor", "DROP ROLE poor")


def test_clock_programs_and_settings(any_database: str, tmp_path: Path) -> None:
    """A clock that runs away, no pg_dump, and settings that risk the rows themselves."""
    run(any_database, *SCHEMA)
    notices = found(any_database, programs=tmp_path, ahead_s=3600)
    assert notices["no-pg-dump"].level == "error"
    assert "3600 seconds" in notices["clock"].message or "3599 seconds" in notices["clock"].message
    assert notices["durability"].promise == "protect"
    assert "clock" not in found(any_database)


def test_what_a_dump_cannot_carry_is_named(any_database: str) -> None:
    """The connection of a subscription, the password of a user mapping."""
    run(
        any_database,
        *SCHEMA,
        "CREATE SUBSCRIPTION far CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false)",
        "CREATE EXTENSION postgres_fdw",
        "CREATE SERVER there FOREIGN DATA WRAPPER postgres_fdw",
        "CREATE USER MAPPING FOR PUBLIC SERVER there",
    )
    try:
        notices = found(any_database)
        assert "far" in notices["beyond-subscription"].message
        assert "there" in notices["beyond-user-mapping"].message
    finally:
        run(any_database, "ALTER SUBSCRIPTION far SET (slot_name = NONE)", "DROP SUBSCRIPTION far")


def test_another_encoding_is_said(server_database_latin1: str, server_database_ascii: str) -> None:
    """LATIN1 converts one to one and needs no word; SQL_ASCII does."""
    for url in (server_database_latin1, server_database_ascii):
        run(url, *SCHEMA)
    assert "encoding" not in found(server_database_latin1)
    assert found(server_database_ascii)["encoding"].level == "warning"


def test_what_following_would_not_keep_is_said_before_it_is_set_up(any_database: str) -> None:
    """As information: nobody has to follow. Once it is set up, it is a warning that it is weaker than it could be."""
    followed = database(any_database)
    notices = found(any_database)
    assert (notices["not-set-up"].level, notices["not-followed"].level) == ("info", "info")
    assert notices["not-set-up"].promise == "follow"
    assert "asynchronous-commit" in notices
    followed.set_up()
    run(any_database, "ALTER PUBLICATION outlast_main DROP TABLE items")
    notices = found(any_database)
    assert "not-set-up" not in notices
    assert "public.items" in notices["unpublished"].message
    assert {notices[code].level for code in ("unpublished", "not-followed", "slot-missing")} == {"warning"}
