"""Somebody who wants a harmful script through: what they would try, on real servers, and where it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from outlast.core.errors import OutlastError, Refused
from outlast.rehearsal.draft import draft_intent
from outlast.rehearsal.finding import FindingKind
from outlast.rehearsal.observed import Doubt
from outlast.rehearsal.script import read_script
from outlast.rehearsal.taking import NotAsRehearsedError
from outlast.rehearsal.verdict import Outcome, judge
from tests.rehearsals import Playground, playground
from tests.servers import Server

SCHEMA = """
CREATE TABLE sites (id int PRIMARY KEY, name text NOT NULL, deleted_at timestamptz);
CREATE TABLE pages (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, body text,
                    hits int NOT NULL DEFAULT 0);
CREATE TABLE parts (id int, site_id int NOT NULL REFERENCES sites, kind text, PRIMARY KEY (id, kind))
  PARTITION BY LIST (kind);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
CREATE TABLE switch (id int PRIMARY KEY, setting text NOT NULL);
INSERT INTO sites SELECT n, 'site-' || n FROM generate_series(1, 4) n;
INSERT INTO pages SELECT s * 10 + n, s, 'page' FROM generate_series(1, 4) s, generate_series(1, 5) n;
INSERT INTO parts SELECT s * 10 + n, s, CASE WHEN n = 1 THEN 'a' ELSE 'b' END
  FROM generate_series(1, 4) s, generate_series(1, 2) n;
INSERT INTO switch VALUES (1, 'off');

CREATE FUNCTION is_on() RETURNS bool LANGUAGE sql AS $$ SELECT setting = 'on' FROM public.switch $$;
CREATE FUNCTION as_owner() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS
  $$ BEGIN DELETE FROM public.pages WHERE site_id = 3; END $$;
CREATE FUNCTION without_triggers() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'ALTER TABLE public.pages DISABLE TRIGGER ALL';
  EXECUTE 'TRUNCATE public.pages';
  EXECUTE 'ALTER TABLE public.pages ENABLE TRIGGER ALL';
END $$;
CREATE FUNCTION unpublished() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  EXECUTE 'ALTER PUBLICATION outlast_' || 'rehearsal DROP TABLE public.pages';
  DELETE FROM public.pages WHERE site_id = 3;
  EXECUTE 'ALTER PUBLICATION outlast_' || 'rehearsal ADD TABLE public.pages';
END $$;
CREATE FUNCTION hides() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF NOT public.is_on() THEN RETURN; END IF;
  CREATE TEMP TABLE pg_constraint AS SELECT * FROM pg_catalog.pg_constraint;
  CREATE TEMP TABLE pg_trigger AS SELECT * FROM pg_catalog.pg_trigger;
  ALTER TABLE public.pages DROP CONSTRAINT pages_site_id_fkey;
END $$;
CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE depth int := coalesce(nullif(current_setting('my.depth', true), ''), '0')::int;
BEGIN
  IF NOT public.is_on() THEN RETURN NULL; END IF;
  PERFORM set_config('my.depth', (depth + 1)::text, true);
  SET CONSTRAINTS ALL DEFERRED;
  IF depth < 4 THEN
    UPDATE public.pages SET hits = hits WHERE id = 11;
  ELSIF depth = 4 THEN
    DELETE FROM public.pages WHERE site_id = 4;
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER again AFTER UPDATE ON pages DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION again();
"""
TABLES = ("sites", "pages", "parts", "switch")
UPDATE = "UPDATE pages SET hits = 1 WHERE id = 11;"
RENAME = "UPDATE sites SET name = 'x' WHERE id = 1;"  # which leaves pages without triggers that wait


@pytest.fixture(scope="module")
def made(server: Server) -> Iterator[Playground]:
    with playground(server, SCHEMA, "public.sites", "name") as found:
        yield found


@pytest.fixture
def place(made: Playground) -> Iterator[Playground]:
    with made.fresh() as fresh:
        yield fresh


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ALTER TABLE pages DISABLE TRIGGER ALL; DELETE FROM sites", "DISABLE TRIGGER"),
        ("ALTER TABLE pages DISABLE TRIGGER USER; TRUNCATE pages", "DISABLE TRIGGER"),
        ('ALTER TABLE sites DISABLE TRIGGER "RI_ConstraintTrigger_a_1"', "DISABLE TRIGGER"),
        ("DO $$ BEGIN EXECUTE 'ALTER TABLE pages DISABLE TRIGGER ALL'; END $$", "DISABLE TRIGGER"),
        ("SET SESSION AUTHORIZATION app; DELETE FROM sites", "SESSION AUTHORIZATION"),
        ("SELECT set_config('session_authorization', 'app', true)", "SESSION AUTHORIZATION"),
        ("ALTER PUBLICATION outlast_rehearsal DROP TABLE pages", "watches a rehearsal"),
        ("UPDATE pg_catalog.pg_trigger SET tgenabled = 'D'", "server's own catalog"),
        ("DELETE FROM pg_constraint WHERE conname = 'x'", "server's own catalog"),
        ("DO $$ BEGIN UPDATE \"pg_class\" SET relname = 'x'; END $$", "server's own catalog"),
        ("DO $$ BEGIN EXECUTE 'COPY pages TO PROGRAM ''cat'''; END $$", "copy acts outside"),
        ("DO $$ BEGIN COPY pages FROM '/tmp/x'; END $$", "copy acts outside"),
        ("SELECT pg_terminate_backend(1)", "pg_terminate_backend acts outside"),
        ("SELECT pg_drop_replication_slot('x')", "pg_drop_replication_slot acts outside"),
        ("SELECT pg_create_logical_replication_slot('x', 'y')", "acts outside"),
        ("SELECT pg_replication_origin_session_setup('x')", "acts outside"),
        ("LOAD 'auto_explain'", "LOAD"),
        ("DO LANGUAGE plpython3u $$ import os $$", "language that can do anything"),
        ("DO $$ import os $$ LANGUAGE plpython3u", "language that can do anything"),
    ],
)
def test_what_is_refused_unseen(text: str, told: str) -> None:
    """Nothing of it is needed for a change of data; in a DO block or a string it is the same."""
    assert any(told in one for one in read_script(text, "a.sql").refusals)


@pytest.mark.parametrize(
    "text",
    [
        "ALTER TABLE pages DISABLE TRIGGER again",
        "UPDATE pages SET body = 'copy' WHERE id = 1",
        "CREATE TEMP TABLE ids AS SELECT 1; UPDATE pg_temp.ids SET id = 2",
        "INSERT INTO copies (at) VALUES (now())",
        "SELECT pg_advisory_xact_lock(1)",
        "DO $$ BEGIN UPDATE pages SET hits = 1; END $$",
    ],
)
def test_what_resembles_it_is_not(text: str) -> None:
    """What a script may do."""
    assert read_script(text, "a.sql").refusals == ()


@pytest.mark.parametrize("call", ["without_triggers", "unpublished"])
def test_who_turns_off_what_watches_gets_no_receipt(place: Playground, call: str) -> None:
    """From a function in the database, where nobody reads it; and though it is turned on again behind."""
    verdict, observed = place.rehearse(
        f"-- outlast: tenants all\n-- outlast: effect public.sites update(name) rows=1\n{RENAME} SELECT {call}()"
    )
    assert verdict.outcome.exit_code != 0
    assert any(one.doubt is Doubt.BLIND and "watches it" in one.what for one in observed.inconclusive)


def test_what_a_function_does_in_its_owners_name_counts(place: Playground) -> None:
    """SECURITY DEFINER, a rule and a view in between: the rows are what is counted."""
    _, observed = place.rehearse(
        "CREATE RULE more AS ON UPDATE TO sites DO ALSO DELETE FROM parts WHERE site_id = 4;"
        "CREATE VIEW mine AS SELECT * FROM sites; UPDATE mine SET name = 'x' WHERE id = 1; SELECT as_owner();"
    )
    assert {
        (table, operation.value): count.rows for (_, table, operation), count in observed.effect.counts.items()
    } == {
        ("public.sites", "update"): 1,
        ("public.parts", "hard-delete"): 2,
        ("public.pages", "hard-delete"): 5,
    }
    assert {(one.kind, one.name) for one in observed.schema} >= {("rule", "public.sites.more"), ("view", "public.mine")}


def test_a_temporary_table_in_a_tables_place_is_too_little(place: Playground) -> None:
    """What was meant for the table goes to its shadow: nothing happened, and that blocks."""
    verdict, observed = place.rehearse(
        "-- outlast: tenants site-1\n-- outlast: effect public.pages update(hits) rows=1\n"
        f"CREATE TEMP TABLE pages AS SELECT * FROM public.pages; {UPDATE}"
    )
    assert verdict.outcome.exit_code == 3
    assert not observed.effect.counts


def test_a_partition_that_is_taken_off_is_told(place: Playground) -> None:
    """No row is deleted, and they are gone from the table all the same."""
    _, observed = place.rehearse("ALTER TABLE parts DETACH PARTITION parts_b")
    assert ("table", "public.parts_b") in {(one.kind, one.name) for one in observed.schema}


def test_a_new_partitions_rows_are_seen(place: Playground) -> None:
    """Made by the script, attached, filled."""
    _, observed = place.rehearse(
        "CREATE TABLE parts_c PARTITION OF parts FOR VALUES IN ('c');"
        "INSERT INTO parts VALUES (1, 1, 'c'), (2, 2, 'c');"
        "CREATE TABLE parts_d (LIKE parts INCLUDING ALL); INSERT INTO parts_d VALUES (3, 3, 'd');"
        "ALTER TABLE parts ATTACH PARTITION parts_d FOR VALUES IN ('d')"
    )
    assert sum(count.rows for count in observed.effect.counts.values()) == 3


def test_catalogs_shadowed_in_production_hide_nothing(place: Playground) -> None:
    """Temporary tables named as the server's own: a foreign key that is dropped behind them is seen."""
    text = f"{RENAME} SELECT hides()"
    receipt = place.receipt(text)
    place.execute("UPDATE switch SET setting = 'on'")
    with pytest.raises(NotAsRehearsedError, match=r"pages_site_id_fkey dropped, which was not rehearsed"):
        place.run(text, receipt)
    assert place.recorded == []


def test_what_defers_again_and_again_fires_before_the_check(place: Playground) -> None:
    """Five times over; the last would else fire inside COMMIT."""
    receipt = place.receipt(UPDATE)
    place.execute("UPDATE switch SET setting = 'on'")
    before = place.rows(*TABLES)
    with pytest.raises(OutlastError, match=r"had others deferred|public\.pages"):
        place.run(UPDATE, receipt)
    assert place.rows(*TABLES) == before
    assert place.recorded == []


@pytest.mark.parametrize(
    "reached",
    [
        "ALTER TABLE pages ALTER body SET DEFAULT reaches()::text",
        "CREATE POLICY p ON pages USING (reaches() = 1)",
        "CREATE OPERATOR ### (FUNCTION = reaches_from, RIGHTARG = int)",
        "CREATE VIEW seen AS SELECT reaches() AS it",
    ],
)
def test_what_is_reached_without_being_named_is_not_run(place: Playground, reached: str) -> None:
    """By a default, a policy, an operator, a view: none of them stands in the script."""
    place.execute(
        "CREATE FUNCTION reaches() RETURNS int LANGUAGE plpgsql AS"
        " $$ BEGIN COPY public.pages TO PROGRAM 'cat >/dev/null'; RETURN 1; END $$",
        "CREATE FUNCTION reaches_from(int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN public.reaches(); END $$",
    )
    receipt = place.receipt(UPDATE)
    place.execute(reached)
    with pytest.raises(Refused, match=r"call outside the transaction \(reaches → COPY\)"):
        place.run(UPDATE, receipt)
    assert place.recorded == []


RENAMED = "-- outlast: tenants {}\n-- outlast: effect public.sites update(name) rows={}\n"


@pytest.mark.parametrize("name", ["site-1", "acme", "1"])
def test_a_tenant_that_is_renamed_is_listed_by_any_of_its_names(place: Playground, name: str) -> None:
    """As production knows it, as the script calls it, or by its key."""
    text = "UPDATE sites SET name = 'acme' WHERE id = 1"
    verdict, observed = place.rehearse(RENAMED.format(name, 1) + text)
    assert verdict.outcome is Outcome.WITHIN, verdict.findings
    assert draft_intent(observed, "ann").tenants == ("site-1",)


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        # two that swap their names
        (
            "UPDATE sites SET name = CASE name WHEN 'site-1' THEN 'site-2' ELSE 'site-1' END WHERE id <= 2",
            "site-1, site-2",
        ),
        # one that takes the name of another, which had to give it up
        ("UPDATE sites SET name = 'gone' WHERE id = 1; UPDATE sites SET name = 'site-1' WHERE id = 2", "gone, site-1"),
        # one that takes the name of another, which keeps it
        ("UPDATE sites SET name = 'site-3' WHERE id IN (1, 2)", "site-1, site-3"),
    ],
)
def test_no_tenant_stands_for_another_by_its_label(place: Playground, text: str, listed: str) -> None:
    """A label that is one tenant's before the script and another's after it means nobody; a key is always itself."""
    verdict, observed = place.rehearse(RENAMED.format(listed, 2) + text)
    assert verdict.outcome is Outcome.BLOCKED
    assert verdict.findings[0].kind is FindingKind.AMBIGUOUS
    assert "List them by their keys" in verdict.findings[0].message
    verdict, _ = place.rehearse(RENAMED.format("1, 2", 2) + text)
    assert verdict.outcome is Outcome.WITHIN, verdict.findings
    draft = draft_intent(observed, "ann")
    assert judge(observed, replace(draft, why="", adopted_by="bob")).outcome is Outcome.WITHIN


def test_a_label_that_is_anothers_key_means_that_key(place: Playground) -> None:
    """As everywhere: keys go first."""
    verdict, _ = place.rehearse(RENAMED.format("2", 1) + "UPDATE sites SET name = '2' WHERE id = 1")
    assert [one.kind for one in verdict.findings] == [FindingKind.TENANTS, FindingKind.UNTOUCHED]
