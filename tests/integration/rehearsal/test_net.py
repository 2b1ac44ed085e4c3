"""What a script does to one row counts once: by the net of it, for the tenant that had it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from outlast.core.effect import Effect
from outlast.rehearsal.verdict import Outcome
from tests.rehearsals import Playground, playground
from tests.servers import Server

SCHEMA = """
CREATE TABLE sites (id int PRIMARY KEY, name text NOT NULL UNIQUE);
CREATE TABLE folders (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE);
CREATE TABLE pages (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE,
                    folder_id int REFERENCES folders ON DELETE SET NULL, title text NOT NULL, deleted_at timestamptz,
                    touched int NOT NULL DEFAULT 0);
CREATE TABLE parts (id int, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, kind text, size int NOT NULL,
                    PRIMARY KEY (id, kind)) PARTITION BY LIST (kind);
CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
CREATE TABLE queue (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, what text);
CREATE TABLE lines (site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, what text NOT NULL);
INSERT INTO sites SELECT n, 'site-' || n FROM generate_series(1, 4) n;
INSERT INTO folders SELECT n, n FROM generate_series(1, 4) n;
INSERT INTO pages SELECT s * 10 + n, s, s, 'page ' || n, CASE n WHEN 9 THEN timestamptz '2026-01-01' END
  FROM generate_series(1, 4) s, generate_series(1, 9) n;
INSERT INTO parts SELECT s * 10 + n, s, 'a', n FROM generate_series(1, 4) s, generate_series(1, 2) n;
INSERT INTO queue SELECT s * 10 + n, s, 'job' FROM generate_series(1, 4) s, generate_series(1, 3) n;
INSERT INTO lines VALUES (1, 'line');
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE public.pages SET touched = touched + 1 WHERE id = NEW.id;
  RETURN NULL;
END $$;
CREATE TRIGGER touch AFTER UPDATE OF title ON pages FOR EACH ROW EXECUTE FUNCTION touch();
"""
TABLES = ("sites", "folders", "pages", "parts", "queue")


@pytest.fixture(scope="module")
def made(server: Server) -> Iterator[Playground]:
    with playground(server, SCHEMA, "public.sites", "name") as found:
        yield found


def effect(found: Effect) -> dict[str, str]:
    """By tenant, table and operation: rows, how they came about, and columns."""
    return {
        f"{tenant} {table.removeprefix('public.')} {operation.value}": " ".join(
            [f"{count.rows}/{count.cascaded}/{count.triggered}", *sorted(count.columns)]
        )
        for (tenant, table, operation), count in found.counts.items()
    }


NET = {
    "a marker set NULL, then deleted": (
        "UPDATE pages SET deleted_at = NULL WHERE id = 19; DELETE FROM pages WHERE id = 19",
        {"1 pages hard-delete": "1/0/0"},
    ),
    "let go by a cascade, then deleted by the script": (
        "DELETE FROM folders WHERE id = 1; DELETE FROM pages WHERE folder_id IS NULL AND id < 12",
        {"1 folders hard-delete": "1/0/0", "1 pages hard-delete": "1/0/0", "1 pages update": "8/8/0 folder_id"},
    ),
    "let go by the script, then deleted by a cascade": (
        "UPDATE queue SET what = NULL WHERE site_id = 2; DELETE FROM sites WHERE id = 2",
        {
            "2 sites hard-delete": "1/0/0",
            "2 folders hard-delete": "1/1/0",
            "2 pages hard-delete": "9/9/0",
            "2 parts hard-delete": "2/2/0",
            "2 queue hard-delete": "3/3/0",
        },
    ),
    "updated twice": (
        "UPDATE queue SET what = 'a' WHERE site_id = 1; UPDATE queue SET what = 'b' WHERE id <= 21",
        {"1 queue update": "3/0/0 what", "2 queue update": "1/0/0 what"},
    ),
    "updated, and once more by a trigger": (
        "UPDATE pages SET title = 'x' WHERE id = 11",
        {"1 pages update": "1/0/0 title touched"},
    ),
    "a column of rows that are deleted after all is none": (
        (
            "UPDATE pages SET touched = 5 WHERE id = 11; UPDATE pages SET folder_id = NULL WHERE id = 12;"
            "DELETE FROM pages WHERE id = 11"
        ),
        {"1 pages hard-delete": "1/0/0", "1 pages update": "1/0/0 folder_id"},
    ),
    "updated, then soft-deleted": (
        "UPDATE pages SET touched = 1 WHERE id = 11; UPDATE pages SET deleted_at = now() WHERE id = 11",
        {"1 pages soft-delete": "1/0/0 deleted_at touched"},
    ),
    "soft-deleted, then updated": (
        "UPDATE pages SET deleted_at = now() WHERE id = 11; UPDATE pages SET touched = 1 WHERE id = 11",
        {"1 pages soft-delete": "1/0/0 deleted_at touched"},
    ),
    "soft-deleted, and shown again": (
        "UPDATE pages SET deleted_at = now() WHERE id = 11; UPDATE pages SET deleted_at = NULL WHERE id = 11",
        {"1 pages update": "1/0/0 deleted_at"},
    ),
    "shown again, and soft-deleted": (
        "UPDATE pages SET deleted_at = NULL WHERE id = 19; UPDATE pages SET deleted_at = now() WHERE id = 19",
        {"1 pages update": "1/0/0 deleted_at"},
    ),
    "soft-deleted, then deleted for good": (
        "UPDATE pages SET deleted_at = now() WHERE id = 11; DELETE FROM pages WHERE deleted_at IS NOT NULL AND id < 20",
        {"1 pages hard-delete": "2/0/0"},
    ),
    "inserted and updated": (
        "INSERT INTO queue VALUES (99, 1, 'a'); UPDATE queue SET what = 'b', site_id = 2 WHERE id = 99",
        {"2 queue insert": "1/0/0"},
    ),
    "inserted and deleted": (
        (
            "INSERT INTO queue VALUES (99, 1, 'a'); DELETE FROM queue WHERE id = 99;"
            "UPDATE queue SET what = 'b' WHERE id = 11"
        ),
        {"1 queue update": "1/0/0 what"},
    ),
    "deleted and made anew: what went is not hidden behind what came": (
        (
            "DELETE FROM queue WHERE id = 11; INSERT INTO queue VALUES (11, 1, 'b');"
            "UPDATE queue SET what = 'c' WHERE id = 11"
        ),
        {"1 queue hard-delete": "1/0/0", "1 queue insert": "1/0/0"},
    ),
    "another key, then deleted": (
        (
            "UPDATE queue SET id = 98 WHERE id = 11; UPDATE queue SET id = 99 WHERE id = 98;"
            "DELETE FROM queue WHERE id = 99"
        ),
        {"1 queue hard-delete": "1/0/0"},
    ),
    "moved, then deleted: it was the first one's": (
        "UPDATE queue SET site_id = 2 WHERE id = 11; DELETE FROM queue WHERE id = 11",
        {"1 queue hard-delete": "1/0/0"},
    ),
    "moved on, and back": (
        (
            "UPDATE queue SET site_id = 2 WHERE id <= 12; UPDATE queue SET site_id = 3 WHERE id = 11;"
            "UPDATE queue SET site_id = 1 WHERE id = 12"
        ),
        {"1 queue move": "1/0/0 site_id", "3 queue move": "1/0/0 site_id", "1 queue update": "1/0/0 site_id"},
    ),
    "to another partition, then deleted": (
        (
            "UPDATE parts SET size = 7 WHERE id = 11; UPDATE parts SET kind = 'b' WHERE id <= 12;"
            "DELETE FROM parts WHERE id = 11"
        ),
        {"1 parts hard-delete": "1/0/0", "1 parts update": "1/0/0 kind"},
    ),
    "written, then emptied": (
        (
            "INSERT INTO queue VALUES (99, 1, 'a'); UPDATE queue SET what = 'b' WHERE site_id = 2;"
            "DELETE FROM queue WHERE id = 31; TRUNCATE queue; INSERT INTO queue VALUES (11, 1, 'new')"
        ),
        {
            "1 queue truncate": "3/0/0",
            "2 queue truncate": "3/0/0",
            "3 queue truncate": "2/0/0",
            "3 queue hard-delete": "1/0/0",
            "4 queue truncate": "3/0/0",
            "1 queue insert": "1/0/0",
        },
    ),
}
FEW = (
    "a marker set NULL, then deleted",
    "let go by a cascade, then deleted by the script",
    "moved on, and back",
    "deleted and made anew: what went is not hidden behind what came",
    "written, then emptied",
)
"""The others are slow tests."""


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(one, marks=pytest.mark.slow) for one in NET if one not in FEW)])
def test_a_row_counts_once(made: Playground, name: str) -> None:
    """Whatever was done to it on the way; and the guard's counters and keys agree with an effect that is net."""
    text, expected = NET[name]
    with made.fresh() as place:
        receipt = place.receipt(text)
        assert effect(receipt.effect) == expected
        assert place.run(text, receipt).effect == receipt.effect
        assert len(place.recorded) == 1


def test_rows_without_a_key_cannot_be_told_apart(made: Playground) -> None:
    """Each change of them counts."""
    _, observed = made.rehearse("UPDATE lines SET what = 'x'; DELETE FROM lines")
    assert effect(observed.effect) == {"1 lines update": "1/0/0 what", "1 lines hard-delete": "1/0/0"}


def test_keys_that_are_shown_are_of_rows_that_count(made: Playground) -> None:
    """Samples of what was updated are not of rows that were deleted after all."""
    _, observed = made.rehearse(
        "UPDATE pages SET touched = 1 WHERE site_id = 1; DELETE FROM pages WHERE site_id = 1 AND id < 17"
    )
    samples = {operation.value: count.samples for (_, _, operation), count in observed.effect.counts.items()}
    assert samples == {"update": ("17", "18", "19"), "hard-delete": ("11", "12", "13", "14", "15")}


def test_a_net_effect_is_declared_as_such(made: Playground) -> None:
    """One line for rows that are let go and then deleted."""
    header = "-- outlast: tenants site-1\n-- outlast: effect public.pages hard-delete rows=1\n"
    text = "UPDATE pages SET deleted_at = NULL WHERE id = 19; DELETE FROM pages WHERE id = 19"
    verdict, _ = made.rehearse(header + text)
    assert verdict.outcome is Outcome.WITHIN, verdict.findings


def test_a_parent_that_nothing_holds_is_its_tenants(server: Server) -> None:
    """Where no foreign key ties its children to it, its deletion is still the tenant's own."""
    schema = """
    CREATE TABLE sites (id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE pages (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE);
    CREATE TABLE notes (id int PRIMARY KEY, page_id int NOT NULL REFERENCES pages NOT ENFORCED);
    INSERT INTO sites VALUES (1, 'site-1'); INSERT INTO pages VALUES (1, 1); INSERT INTO notes VALUES (1, 1);
    """
    with playground(server, schema, "public.sites", "name") as place:
        _, observed = place.rehearse("DELETE FROM pages")
        assert effect(observed.effect)["1 pages hard-delete"] == "1/0/0"
