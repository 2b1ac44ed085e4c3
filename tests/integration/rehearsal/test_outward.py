"""Ways out of a copy: subscriptions, foreign servers, schedulers, programs. None reaches production; each is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from outlast.core.errors import Refused, UsageError
from outlast.rehearsal.copy import open_superuser
from outlast.rehearsal.disarming import disarm
from outlast.rehearsal.script import read_script
from tests.commands import Outlast
from tests.integration.rehearsal.conftest import Shop, temporary_folder
from tests.rehearsals import playground
from tests.servers import Server

DDL = """
CREATE TABLE sites (id int PRIMARY KEY, slug text NOT NULL UNIQUE);
CREATE TABLE pages (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, title text NOT NULL);
INSERT INTO sites SELECT n, 'site-' || n FROM generate_series(1, 3) n;
INSERT INTO pages SELECT n, n, 'page' FROM generate_series(1, 3) n;
CREATE EXTENSION postgres_fdw;
CREATE SERVER by_socket FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '{folder}', port '{port}', dbname '{database}');
CREATE SERVER by_address FOREIGN DATA WRAPPER postgres_fdw
  OPTIONS (host 'production.example', hostaddr '127.0.0.1', port '{port}', dbname '{database}');
CREATE USER MAPPING FOR postgres SERVER by_socket OPTIONS (user 'postgres');
CREATE USER MAPPING FOR postgres SERVER by_address OPTIONS (user 'postgres');
CREATE SCHEMA other;
CREATE FOREIGN TABLE other.by_socket (id int, title text) SERVER by_socket
  OPTIONS (schema_name 'public', table_name 'pages');
CREATE FOREIGN TABLE other.by_address (id int, title text) SERVER by_address
  OPTIONS (schema_name 'public', table_name 'pages');
CREATE VIEW other.seen AS SELECT id FROM other.by_socket;
CREATE FUNCTION other.quietly() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  UPDATE other.by_socket SET title = 'hit';
EXCEPTION WHEN OTHERS THEN NULL;
END $$;
CREATE FUNCTION other.program() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  COPY public.pages TO PROGRAM 'cat >/dev/null';
END $$;
CREATE SCHEMA cron;
CREATE TABLE cron.job (jobid bigserial PRIMARY KEY, schedule text, command text);
CREATE FUNCTION cron.schedule(text, text) RETURNS bigint LANGUAGE sql AS
  $$ INSERT INTO cron.job (schedule, command) VALUES ($1, $2) RETURNING jobid $$;
CREATE PUBLICATION news FOR TABLE pages;
CREATE SUBSCRIPTION feed CONNECTION '{url}' PUBLICATION news WITH (connect = false, slot_name = 'feed');
"""
INTENT = "-- outlast: tenants site-1\n-- outlast: effect public.pages update(title) rows=1\n"
UPDATE = "UPDATE pages SET title = 'x' WHERE id = 1;\n"


@pytest.fixture(scope="module")
def shop(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("outward")
    with temporary_folder() as temporary, server.new_database() as url:
        where = conninfo_to_dict(url)
        names = {"folder": where["host"], "port": where["port"], "database": where["dbname"], "url": url}
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in DDL.format(**names).split(";\n\n"):
                connection.execute(statement.encode())
        try:
            outlast = Outlast(folder, {"TMPDIR": str(temporary)})
            outlast.done("init", url, "--tenant-table", "sites", "--tenant-label", "slug")
            settings = folder / "outlast.toml"
            kept = [line for line in settings.read_text().splitlines() if not line.startswith('"cron.job"')]
            kept.insert(kept.index("[sources.main.tables]") + 1, '"cron.job" = "shared"')
            settings.write_text("\n".join(kept))
            outlast.done("backup")
            yield Shop(outlast, url, temporary)
        finally:
            with psycopg.connect(url, autocommit=True) as connection:
                connection.execute("ALTER SUBSCRIPTION feed SET (slot_name = NONE)")
                connection.execute("DROP SUBSCRIPTION feed")


def titles(shop: Shop) -> list[tuple[object, ...]]:
    return shop.query("SELECT title FROM pages ORDER BY id")


def rehearse(shop: Shop, text: str, exit_code: int) -> dict[str, object]:
    found = shop.rehearse(shop.script(text), role="postgres", exit_code=exit_code)
    assert titles(shop) == [("page",)] * 3
    return found


def test_a_copy_has_no_subscription(shop: Shop) -> None:
    """The source's would begin to work: it is not made, and that is said. One that the script makes gets nowhere."""
    found = rehearse(shop, INTENT + UPDATE, 0)
    assert "subscription feed: it would begin to work" in found["notes"]  # type: ignore[operator]
    made = rehearse(shop, f"CREATE SUBSCRIPTION more CONNECTION '{shop.url}' PUBLICATION news;", 3)
    assert made["failed"]
    assert [one["kind"] for one in made["attempts"]] == ["subscription"]  # type: ignore[attr-defined]
    assert shop.query("SELECT count(*) FROM pg_replication_slots WHERE slot_name IN ('feed', 'more')") == [(0,)]
    asleep = "CREATE SUBSCRIPTION more CONNECTION 'host=x' PUBLICATION news WITH (connect = false);"
    changes = rehearse(shop, asleep, 3)["schema"]
    assert [(one["kind"], one["name"]) for one in changes] == [("subscription", "more")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("server_name", ["by_socket", "by_address"])
def test_a_foreign_server_is_not_reached(shop: Shop, server_name: str) -> None:
    """Reading and writing by it fail as they would where it is away, and the report says who tried."""
    how = "SELECT * FROM" if server_name == "by_socket" else "DELETE FROM"
    found = rehearse(shop, f"{UPDATE}{how} other.{server_name};", 3)
    assert "could not connect to server" in str(found["failed"])
    assert found["attempts"] == [{"kind": "foreign-server", "what": server_name}]


@pytest.mark.parametrize(
    ("call", "how"),
    [
        ("SELECT other.quietly();", "by_socket → foreign_table"),
        ("SELECT 1 FROM other.seen WHERE false;", "by_socket → foreign_table"),
        ("SELECT other.program();", "program → COPY"),
    ],
)
def test_what_is_done_quietly_is_told_all_the_same(shop: Shop, call: str, how: str) -> None:
    """A function that swallows the error, a view, a program: the copy could not tell what that does on production."""
    found = rehearse(shop, INTENT + UPDATE + call, 1)
    assert found["verdict"] == "INCONCLUSIVE"
    assert f"outside-call: {how}" in found["inconclusive"]  # type: ignore[operator]


def test_a_server_that_is_armed_again_is_told(shop: Shop) -> None:
    """The script says itself where the server is: what it then reaches no copy can know."""
    found = rehearse(shop, "ALTER SERVER by_socket OPTIONS (SET host 'production.example');", 3)
    assert any("foreign server by_socket changed" in one for one in found["inconclusive"])  # type: ignore[attr-defined]


def test_what_a_scheduler_is_to_do_is_told(shop: Shop) -> None:
    """Nothing runs it on a copy; the job is a row that counts, and the report says that it comes later."""
    found = rehearse(shop, "SELECT cron.schedule('* * * * *', 'DELETE FROM pages');", 3)
    assert found["effect"] == {"cron.job": {"insert": 1}}
    assert [one["kind"] for one in found["attempts"]] == ["cron"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "text",
    [
        "COPY pages TO PROGRAM 'touch x'",
        "COPY pages FROM '/tmp/x'",
        "DO $$ BEGIN COPY pages TO '/tmp/x'; END $$",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_export(1, '/tmp/x')",
        "LOAD 'auto_explain'",
        "DO $$ import os $$ LANGUAGE plpython3u",
    ],
)
def test_what_acts_on_the_host_is_known(text: str) -> None:
    """The copy's server is on this host: what would read or write here is not run on a copy either."""
    assert read_script(f"{UPDATE}{text};", "a.sql").outward == (f"line 2 ({text.split()[0]})",)


def test_programs_and_files_of_this_host_are_not_touched(shop: Shop) -> None:
    """By a statement, or by a command of psql's: nothing is run, and both are named."""
    file = shop.temporary / "written"
    shop.temporary.chmod(0o777)
    found = rehearse(
        shop, f"{UPDATE}COPY pages TO PROGRAM 'touch {file}';\n\\! touch {file}\n\\copy pages to {file}\n", 3
    )
    assert not file.exists()
    told = [one["message"] for one in found["findings"]]  # type: ignore[attr-defined]
    for words in (
        "line 2 (COPY) acts on the host itself, so nothing of it was run",
        "line 3: \\! is a command of psql's own",
        "line 4: \\copy is a command of psql's own",
    ):
        assert any(words in one for one in told), told


@pytest.mark.parametrize("command", ["\\g file", "\\gexec", "\\gset", "\\; SELECT 1;"])
def test_psqls_commands_behind_a_statement_are_named(command: str) -> None:
    """They are no SQL, and end the reading of the script."""
    with pytest.raises(UsageError, match=r"a\.sql:2: ") as error:
        read_script(f"{UPDATE}SELECT title FROM pages {command}", "a.sql")
    assert error.value.hint is not None
    assert error.value.hint.startswith(f"{command.split()[0]} is a command of psql's own")


def test_listening_harms_nobody(shop: Shop) -> None:
    """LISTEN ends with the session; what is sent to others is in the report. A way out may be accepted by name."""
    accepted = "-- outlast: accept outside-call\n"
    found = rehearse(shop, f"{accepted}{INTENT}LISTEN news; {UPDATE} NOTIFY news, 'x'; SELECT other.quietly();", 0)
    assert found["notified"] == ["news"]
    assert found["accepted"] == ["outside-call: by_socket → foreign_table"]


def test_a_clones_subscription_is_disabled(server: Server) -> None:
    """It cannot be enabled again by the script, and to drop it asks nobody."""
    with server.new_database() as url, closing(open_superuser(url)) as connection:
        made = f"CREATE SUBSCRIPTION kept CONNECTION '{url}' PUBLICATION p WITH (connect = false, slot_name = 'kept')"
        connection.execute(made.encode())
        connection.execute("ALTER SUBSCRIPTION kept ENABLE")
        assert disarm(connection) == ["subscription kept is disabled"]
        with pytest.raises(psycopg.Error, match="slot name"):
            connection.execute("ALTER SUBSCRIPTION kept ENABLE")
        connection.execute("DROP SUBSCRIPTION kept")


def test_a_run_that_can_come_to_a_foreign_table_is_refused(server: Server) -> None:
    """What another server does is in no counter of ours: by a partition, too, that nobody names."""
    schema = """
    CREATE TABLE sites (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE events (note text, day int) PARTITION BY LIST (day);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES IN (1);
    INSERT INTO sites VALUES (1, 'site-1'); INSERT INTO events VALUES ('x', 1);
    """
    text = "UPDATE sites SET name = 'x' WHERE id = 1; DELETE FROM events WHERE day = 3"
    with playground(server, schema, "public.sites", "name") as place:
        receipt = place.receipt(text)
        place.execute(
            "CREATE EXTENSION postgres_fdw",
            "CREATE SERVER away FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host '/nowhere')",
            "CREATE FOREIGN TABLE events_2 PARTITION OF events FOR VALUES IN (2) SERVER away",
        )
        with pytest.raises(Refused, match=r"call outside the transaction \(events → foreign_table\)"):
            place.run(text, receipt)
        assert place.recorded == []
