"""The schema dumped from a real server, and made again from the dump alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from outlast.core.errors import OutlastError, SourceError, UsageError
from outlast.core.table import TableName
from outlast.sources.postgres.dump import SECTIONS, dump_schema
from outlast.sources.postgres.server import embedded, find_program
from outlast.sources.postgres.session import Target, connect
from tests.integration.postgres.conftest import run
from tests.servers import PASSWORD, Server

SCHEMA = (
    "CREATE EXTENSION hstore",
    "CREATE TYPE mood AS ENUM ('glad', 'sad')",
    "CREATE TABLE accounts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tags hstore, mood mood)",
    "CREATE TABLE items (id int PRIMARY KEY, account_id bigint REFERENCES accounts, t text) PARTITION BY RANGE (id)",
    "CREATE TABLE items_1 PARTITION OF items FOR VALUES FROM (0) TO (9)",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$",
    "CREATE TRIGGER t BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION f()",
    "CREATE VIEW v AS SELECT id FROM accounts",
)
ROLES = ('CREATE ROLE "app ""role""" LOGIN PASSWORD \'a-secret-of-the-role\'', "CREATE ROLE readers NOLOGIN")
DROP_ROLES = 'DROP ROLE "app ""role""", readers'


def test_equal_schemas_give_equal_bytes_and_rows_do_not_matter(any_database: str) -> None:
    """Twice the same, with rows in between; a new column is another dump."""
    run(any_database, *SCHEMA)
    first = dump_schema(Target(any_database), None)
    assert tuple(first) == SECTIONS
    run(any_database, "INSERT INTO accounts (mood) VALUES ('glad')", "ANALYZE")
    assert dump_schema(Target(any_database), None) == first
    run(any_database, "ALTER TABLE accounts ADD COLUMN extra int")
    assert dump_schema(Target(any_database), None)["pre-data"] != first["pre-data"]


def test_the_dump_alone_makes_the_schema_again(server: Server, database: str, tmp_path: Path) -> None:
    """In the order of SECTIONS, by psql, on another server: the same dump comes out, owners and grants included."""
    run(database, *SCHEMA, *ROLES)
    try:
        run(
            database,
            'ALTER TABLE accounts OWNER TO "app ""role"""',
            "GRANT SELECT ON accounts TO readers",
            'GRANT readers TO "app ""role"""',
        )
        dumped = dump_schema(Target(database), None)
        assert b"a-secret-of-the-role" not in b"".join(dumped.values())
        with embedded() as other:
            for section in SECTIONS:
                script = tmp_path / f"{section}.sql"
                script.write_bytes(dumped[section])
                server.run("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", other.url(), "-f", str(script))
            again = dump_schema(Target(other.url()), None)
            for section in ("extensions", "pre-data", "post-data"):
                assert again[section] == dumped[section]
            with psycopg.connect(other.url()) as connection:
                member = connection.execute("SELECT pg_has_role('app \"role\"', 'readers', 'MEMBER')").fetchone()
            assert member == (True,)
    finally:
        run(database, "DROP OWNED BY readers", 'REASSIGN OWNED BY "app ""role""" TO postgres', DROP_ROLES)


def test_the_dump_is_of_the_snapshot(any_database: str) -> None:
    """A table made after the snapshot is not in it."""
    run(any_database, *SCHEMA)
    with connect(Target(any_database), role="test") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        row = connection.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        run(any_database, "CREATE TABLE later (id int)")
        dumped = dump_schema(Target(any_database), str(row[0]))
    assert b"later" not in dumped["pre-data"]


def test_a_table_that_may_not_be_read_is_named_and_can_be_left_out(any_database: str) -> None:
    """pg_dump locks what it dumps: the refusal names the table, and leaving it out succeeds."""
    run(any_database, *SCHEMA, 'CREATE TABLE "Hidden.one" (x int)')
    run(any_database, "CREATE ROLE poor LOGIN", "GRANT SELECT ON accounts, items, items_1 TO poor")
    target = Target(any_database.replace("postgres@", "poor@"))
    try:
        with pytest.raises(SourceError) as caught:
            dump_schema(target, None)
        assert "Hidden.one" in caught.value.message
        assert caught.value.code == "privilege"
        dumped = dump_schema(target, None, [TableName("public", "Hidden.one")])
        assert b"CREATE TABLE public.accounts" in dumped["pre-data"]
    finally:
        run(any_database, "DROP OWNED BY poor", "DROP ROLE poor")


def test_the_password_is_in_no_command_line(server: Server, database: str, tmp_path: Path) -> None:
    """Every user of the machine can read those: pg_dump is started with the password in its environment."""
    spy = tmp_path / "pg_dump"
    real = find_program("pg_dump", server.major, server.binaries)
    spy.write_text(
        f'#!{sys.executable}\nimport os, sys\nopen("{tmp_path}/said", "a").write(" ".join(sys.argv))\n'
        f'assert os.environ["PGPASSWORD"] == "{PASSWORD}"\nos.execv("{real}", ["{real}", *sys.argv[1:]])\n'
    )
    spy.chmod(0o755)
    name = database.partition("?")[0].rpartition("/")[2]
    dump_schema(Target(server.tcp_url(name)), None, programs=tmp_path)
    assert PASSWORD not in (tmp_path / "said").read_text()
    assert name in (tmp_path / "said").read_text()


def test_no_pg_dump_is_told(tmp_path: Path) -> None:
    """A folder without it is the user's mistake; a server newer than any that is installed is said with what to do."""
    with pytest.raises(UsageError):
        find_program("pg_dump", 18, tmp_path)
    with pytest.raises(OutlastError) as caught:
        find_program("pg_dump", 99)
    assert "postgresql-client-99" in str(caught.value.hint)


def test_the_embedded_server_goes_with_the_process_that_started_it() -> None:
    """Killed without a chance to tidy up, it leaves neither server nor folder behind."""
    script = (
        "import os, signal\nfrom outlast.sources.postgres.server import embedded\n"
        "with embedded() as server:\n    print(server.folder, flush=True)\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=os.environ)
    folder = Path(done.stdout.strip())
    assert folder.name.startswith("outlast-pg-")
    # The guard holds the pipe of our standard output until the server has stopped, so it is gone by the time we read.
    assert not folder.exists()
