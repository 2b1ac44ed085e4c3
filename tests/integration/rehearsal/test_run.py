"""A guarded run on real servers: what the server's own counters miss is told all the same, and nothing is committed.

Each leak of pg_stat_xact_* (POSTGRES.md) is shown twice: that it is there, and that it does not get through.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from outlast.core.errors import OutlastError, Refused
from outlast.rehearsal.performing import ScriptFailedError, Settings
from outlast.rehearsal.run import Part
from outlast.rehearsal.script import read_script
from outlast.rehearsal.taking import NotAsRehearsedError
from tests.rehearsals import Playground, playground
from tests.servers import Server

SCHEMA = """
CREATE TABLE sites (id int PRIMARY KEY, name text NOT NULL, deleted_at timestamptz);
CREATE TABLE pages (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, body text,
                    hits int NOT NULL DEFAULT 0);
CREATE TABLE events (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, site_id int NOT NULL REFERENCES sites, what text);
CREATE TABLE queue (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites, done bool NOT NULL DEFAULT false);
CREATE TABLE switch (id int PRIMARY KEY, setting text NOT NULL);
INSERT INTO sites SELECT n, 'site-' || n FROM generate_series(1, 6) n;
INSERT INTO pages SELECT s * 10 + n, s, 'page' FROM generate_series(1, 6) s, generate_series(1, 5) n;
INSERT INTO queue SELECT s * 10 + n, s FROM generate_series(1, 6) s, generate_series(1, 3) n;
INSERT INTO switch VALUES (1, 'off');
CREATE SEQUENCE tickets;
SELECT setval('tickets', 500);

CREATE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF (SELECT setting FROM public.switch) = 'late' THEN DELETE FROM public.queue WHERE site_id = NEW.site_id; END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER later AFTER UPDATE ON pages DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION later();

CREATE FUNCTION act() RETURNS void LANGUAGE plpgsql AS $$
DECLARE setting text := (SELECT s.setting FROM public.switch s);
BEGIN
  IF setting = 'truncate' THEN DELETE FROM public.queue; TRUNCATE public.queue; END IF;
  IF setting = 'drop' THEN DELETE FROM public.queue; DROP TABLE public.queue; END IF;
  IF setting = 'sequence' THEN PERFORM setval('public.tickets', 1); END IF;
  IF setting = 'object' THEN PERFORM lo_create(0); END IF;
  IF setting = 'other row' THEN UPDATE public.pages SET hits = hits + 1 WHERE id = 62; END IF;
END $$;
CREATE PROCEDURE ends() LANGUAGE plpgsql AS $$ BEGIN COMMIT; END $$;
"""
TABLES = ("sites", "pages", "events", "queue")


@pytest.fixture(scope="module", params=["embedded", pytest.param("debian", marks=pytest.mark.system)])
def made(request: pytest.FixtureRequest) -> Iterator[Playground]:
    server: Server = request.getfixturevalue("server" if request.param == "embedded" else "debian_server")
    with playground(server, SCHEMA, "public.sites", "name") as found:
        yield found


@pytest.fixture
def place(made: Playground) -> Iterator[Playground]:
    with made.fresh() as fresh:
        yield fresh


def counters(connection: psycopg.Connection, table: str) -> tuple[int, ...]:
    row = connection.execute(
        "SELECT n_tup_ins, n_tup_upd, n_tup_del FROM pg_stat_xact_user_tables WHERE relid = %s::regclass", [table]
    ).fetchone()
    return tuple(row) if row else (0, 0, 0)


def refused(place: Playground, text: str, switch: str | None = None, *, told: str) -> None:
    """Rehearse it, turn production's switch, and see that the run changes nothing and says what differs."""
    receipt = place.receipt(text)
    if switch is not None:
        place.execute(f"UPDATE switch SET setting = '{switch}'")
    before = place.rows(*TABLES)
    with pytest.raises(OutlastError, match=told):
        place.run(text, receipt)
    assert place.rows(*TABLES) == before
    assert place.recorded == []


def test_what_was_rehearsed_is_run(place: Playground) -> None:
    """Cascades, clock times, drawn numbers and all, the transaction is committed."""
    text = (
        "UPDATE sites SET deleted_at = now() WHERE id <= 3;"
        "DELETE FROM pages WHERE site_id = 1;"
        "INSERT INTO events (site_id, what) SELECT id, 'closed' FROM sites WHERE id <= 3;"
        "INSERT INTO pages VALUES (999, 2, 'new');"
    )
    receipt = place.receipt(text)
    place.execute("INSERT INTO events (site_id, what) VALUES (6, 'meanwhile')")  # production's sequence is further on
    ran = place.run(text, receipt)
    assert ran.effect == receipt.effect
    assert [about.xid for about in place.recorded] == [ran.xid]
    rows = place.rows(*TABLES)
    assert len([site for site in rows["sites"] if site[2] is not None]) == 3
    assert [event[1] for event in rows["events"]] == [6, 1, 2, 3]
    assert 999 in [page[0] for page in rows["pages"]]


def test_carry_over_from_the_transaction_before(place: Playground) -> None:
    """Counters of the session's last transaction are still there after BEGIN; only the difference counts."""
    text = "UPDATE pages SET hits = hits + 1 WHERE site_id = 1"
    receipt = place.receipt(text)
    with place.session() as session:
        session.execute("UPDATE public.pages SET body = 'x' WHERE site_id = 6")
        session.execute("BEGIN")
        leaked = counters(session, "public.pages")
        session.execute("ROLLBACK")
        assert leaked[1] > 0
        place.run(text, receipt, session)
    assert len(place.recorded) == 1


@pytest.mark.parametrize(("switch", "told"), [("truncate", "emptied"), ("drop", "queue")])
def test_truncate_or_drop_after_delete_shows_zero(place: Playground, switch: str, told: str) -> None:
    """The counters forget what was deleted before; the catalog and the table's file do not."""
    with psycopg.connect(place.production) as connection:
        connection.execute("DELETE FROM queue")
        connection.execute("TRUNCATE queue" if switch == "truncate" else "DROP TABLE queue")
        assert counters(connection, "queue")[2] == 0 if switch == "truncate" else True
        connection.rollback()
    refused(place, "UPDATE pages SET hits = 1 WHERE id = 11; SELECT act()", switch, told=told)


@pytest.mark.parametrize(
    ("switch", "told"),
    [("sequence", r"public\.tickets went back from 500 to 1"), ("object", "large objects were written")],
)
def test_what_no_row_counter_shows(place: Playground, switch: str, told: str) -> None:
    """A sequence that goes back, a large object: told before anything is committed."""
    refused(place, "UPDATE pages SET hits = 1 WHERE id = 11; SELECT act()", switch, told=told)


def test_a_deferred_trigger_fires_before_the_check(place: Playground) -> None:
    """Left alone it would fire inside COMMIT, after everything was looked at."""
    text = "UPDATE pages SET hits = 1 WHERE id = 11"
    receipt = place.receipt(text)
    place.execute("UPDATE switch SET setting = 'late'")
    with psycopg.connect(place.production) as connection:
        connection.execute("UPDATE pages SET hits = 1 WHERE id = 11")
        assert counters(connection, "queue") == (0, 0, 0)
        connection.rollback()
    before = place.rows(*TABLES)
    with pytest.raises(NotAsRehearsedError, match=r"public\.queue: 3 deleted, and rehearsed were nothing written"):
        place.run(text, receipt)
    assert place.rows(*TABLES) == before


def test_an_inner_commit_commits_nothing(place: Playground) -> None:
    """A procedure that commits is refused by the server in our transaction; and a receipt for one is never given."""
    text = "UPDATE pages SET hits = 1 WHERE id = 11; CALL ends()"
    verdict, observed = place.rehearse(text)
    assert observed.error is not None
    assert verdict.outcome.exit_code == 3
    receipt = place.receipt("UPDATE pages SET hits = 1 WHERE id = 11")
    before = place.rows(*TABLES)
    with pytest.raises(ScriptFailedError, match="ends"):
        place.run(text, receipt)
    assert place.rows(*TABLES) == before


def test_without_track_counts_nothing_is_run(place: Playground) -> None:
    """Blind counters are no proof, whether the server has none or the script turned them off."""
    text = "UPDATE pages SET hits = 1 WHERE id = 11"
    receipt = place.receipt(text)
    with place.session() as session:
        session.execute("SET track_counts = off")
        with pytest.raises(Refused, match="does not count rows"):
            place.run(text, receipt, session)
    place.execute(
        "CREATE OR REPLACE FUNCTION act() RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM set_config('track_counts', 'off', true); DELETE FROM public.queue; END $$"
    )
    before = place.rows(*TABLES)
    receipt = place.receipt("UPDATE pages SET hits = 1 WHERE id = 11; SELECT act()")  # the copy's own does nothing
    with pytest.raises(NotAsRehearsedError, match="turned the server's row counters off"):
        place.run("UPDATE pages SET hits = 1 WHERE id = 11; SELECT act()", receipt)
    assert place.rows(*TABLES) == before


def test_dblink_is_not_reached(place: Playground) -> None:
    """What another session does is in no counter of ours, and no ROLLBACK takes it back: where a script can come to it,
    by a function of a function or by a trigger, it is not run."""
    place.execute(
        "CREATE EXTENSION dblink",
        "CREATE FUNCTION other() RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM dblink_exec('dbname=x', 'DELETE FROM queue'); END $$",
        "CREATE OR REPLACE FUNCTION act() RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN IF (SELECT setting FROM public.switch) = 'on' THEN PERFORM other(); END IF; END $$",
    )
    text = "UPDATE sites SET deleted_at = now() WHERE id = 1; SELECT act()"
    receipt = place.receipt(text)
    with pytest.raises(Refused, match=r"call outside the transaction \(other → dblink_exec\)"):
        place.run(text, receipt)
    text = "UPDATE sites SET deleted_at = now() WHERE id = 1"
    place.run(text, place.receipt(text))
    place.execute(
        "CREATE OR REPLACE FUNCTION later() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM other(); RETURN NULL; END $$",
    )
    text = "UPDATE pages SET hits = 1 WHERE id = 11"
    with pytest.raises(Refused, match="call outside the transaction"):
        place.run(text, place.receipt(text))


def test_savepoints_that_were_rolled_back_leave_no_room(place: Playground) -> None:
    """They count as if they had happened. The same sum with another row in it is told by the rows themselves."""
    with psycopg.connect(place.production) as connection:
        connection.execute("SAVEPOINT a")
        connection.execute("DELETE FROM queue WHERE id = 11")
        connection.execute("ROLLBACK TO a")
        assert counters(connection, "queue")[2] == 1
        connection.rollback()
    text = """
    DELETE FROM queue WHERE id = 21;
    DO $$ BEGIN
      DELETE FROM public.queue WHERE id = 31;
      IF (SELECT setting FROM public.switch) = 'off' THEN RAISE EXCEPTION 'back'; END IF;
    EXCEPTION WHEN raise_exception THEN NULL; END $$
    """
    receipt = place.receipt(text)
    place.run(text, receipt)  # with the savepoint rolled back there as well
    assert len(place.recorded) == 1
    place.recorded.clear()
    place.execute("INSERT INTO queue VALUES (21, 2)")
    place.execute("UPDATE switch SET setting = 'on'")
    before = place.rows(*TABLES)
    with pytest.raises(NotAsRehearsedError, match=r"1 row of public\.queue gone beyond those rehearsed"):
        place.run(text, receipt)
    assert place.rows(*TABLES) == before


def test_a_row_touched_twice_leaves_no_room(place: Playground) -> None:
    """Two updates of one row count as two; so do one of it and one of another."""
    text = """
    UPDATE pages SET hits = 7 WHERE id = 11;
    UPDATE pages SET hits = 7 WHERE id = CASE (SELECT setting FROM switch) WHEN 'off' THEN 11 ELSE 62 END
    """
    receipt = place.receipt(text)
    refused_rows = place.rows(*TABLES)
    place.execute("UPDATE switch SET setting = 'on'")
    with pytest.raises(NotAsRehearsedError, match=r"written to public\.pages beyond those rehearsed"):
        place.run(text, receipt)
    assert place.rows(*TABLES) == refused_rows
    place.execute("UPDATE switch SET setting = 'off'")
    place.run(text, receipt)
    assert len(place.recorded) == 1


def test_another_row_in_place_of_a_rehearsed_one(place: Playground) -> None:
    """As many rows, but not the same ones."""
    text = """
    UPDATE pages SET hits = 7 WHERE id = CASE (SELECT setting FROM switch) WHEN 'off' THEN 11 ELSE 62 END
    """
    refused(place, text, "on", told=r"1 row of public\.pages did not become what was rehearsed in column hits")


def test_other_values_than_rehearsed(place: Playground) -> None:
    """The same row and column with another value."""
    refused(
        place,
        "UPDATE pages SET body = (SELECT setting FROM switch) WHERE id = 11",
        "on",
        told="did not become what was rehearsed in column body",
    )


def test_more_columns_than_rehearsed(place: Playground) -> None:
    """The same row, and a column more."""
    refused(
        place,
        "UPDATE pages SET hits = 7, body = CASE (SELECT setting FROM switch) WHEN 'off' THEN body ELSE 'x' END"
        " WHERE id = 11",
        "on",
        told="in column body",
    )


def test_more_rows_than_rehearsed(place: Playground) -> None:
    """Rows that came since the copy's moment, and that the script would take along."""
    text = "UPDATE pages SET hits = 7 WHERE site_id = 1"
    receipt = place.receipt(text)
    place.execute("INSERT INTO pages VALUES (19, 1, 'new')")
    before = place.rows(*TABLES)
    with pytest.raises(NotAsRehearsedError, match=r"public\.pages: 6 updated, and rehearsed were 5 updated"):
        place.run(text, receipt)
    assert place.rows(*TABLES) == before


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("UPDATE pages SET body = 'changed' WHERE id = 12", r"1 row of public\.pages changed since \(key 12\)"),
        ("DELETE FROM pages WHERE id = 12", r"1 row of public\.pages gone since \(key 12\)"),
    ],
)
def test_drift_stops_it_before_the_script(place: Playground, change: str, told: str) -> None:
    """A rehearsed row that is not as it was."""
    text = "DELETE FROM pages WHERE site_id = 1"
    receipt = place.receipt(text)
    place.execute(change)
    with pytest.raises(NotAsRehearsedError, match=told):
        place.run(text, receipt)


def test_a_schema_that_changed_stops_it(place: Playground) -> None:
    """The receipt binds the schema."""
    text = "DELETE FROM pages WHERE site_id = 1"
    receipt = place.receipt(text)
    place.execute("ALTER TABLE pages ADD COLUMN note text")
    with pytest.raises(Refused, match="schema is not the one"):
        place.run(text, receipt)


def test_truncate_of_more_rows_than_rehearsed(place: Playground) -> None:
    """What is emptied as a whole has no row to lock; it is counted under its own lock."""
    text = "TRUNCATE queue"
    receipt = place.receipt(text)
    place.execute("INSERT INTO queue VALUES (99, 6)")
    with pytest.raises(NotAsRehearsedError, match="has 19 rows, and had 18"):
        place.run(text, receipt)
    place.execute("DELETE FROM queue WHERE id = 99")
    place.run(text, receipt)
    assert place.rows("queue") == {"queue": []}


def test_schema_changes_as_rehearsed(place: Playground) -> None:
    """A column and an index more, as on the copy."""
    text = "ALTER TABLE pages ADD COLUMN note text; CREATE INDEX pages_note ON pages (note)"
    place.run(text, place.receipt(text))
    assert len(place.recorded) == 1


def test_a_lock_that_is_held_ends_the_wait(place: Playground) -> None:
    """Somebody else's lock is waited for by lock_timeout, and nothing is changed."""
    text = "DELETE FROM pages WHERE site_id = 1"
    receipt = place.receipt(text)
    with psycopg.connect(place.production) as other, place.session() as session:
        other.execute("UPDATE pages SET hits = 1 WHERE id = 11")
        runner = place.runner(session)
        runner.settings = Settings(0.2, 5.0)
        with pytest.raises(OutlastError, match="lock timeout"):
            runner.run(Part(receipt, read_script(text, "script.sql")))
