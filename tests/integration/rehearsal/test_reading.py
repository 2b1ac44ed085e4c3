"""The copy's log is read while the script runs. What is known early is what is known when all has committed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from outlast.core.effect import Operation
from outlast.core.tenant import TenantKey
from outlast.rehearsal.copy import Copy, CopyFacts
from outlast.rehearsal.observe import Observation
from outlast.rehearsal.observed import Circumstances, Observed
from outlast.rehearsal.script import read_script
from outlast.rehearsal.trial import Performance, ScriptPerformance, Trial
from tests.rehearsals import Playground, playground
from tests.servers import Server

ROWS = 12_000
"""Of 200 bytes each: their log is streamed in several parts while it is written."""

SCHEMA = f"""
CREATE TABLE sites (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE pages (id int PRIMARY KEY, site_id int NOT NULL REFERENCES sites ON DELETE CASCADE, body text NOT NULL);
CREATE TABLE notes (id int PRIMARY KEY, page_id int NOT NULL REFERENCES pages ON DELETE CASCADE, body text NOT NULL);
INSERT INTO sites SELECT n, 'site-' || n FROM generate_series(0, 9) n;
INSERT INTO pages SELECT n, n % 10, repeat('words ', 30) FROM generate_series(1, {ROWS}) n;
INSERT INTO notes SELECT n, n, repeat('words ', 30) FROM generate_series(1, {ROWS}) n;
CREATE INDEX ON notes (page_id);
"""


@pytest.fixture(scope="module")
def place(server: Server) -> Iterator[Playground]:
    with playground(server, SCHEMA, "public.sites", "name") as found:
        yield found


def observed(place: Playground, performance: Performance, *, fresh: list[object] | None = None) -> Observed:
    """What a performance did on a fresh copy. `fresh` gets an entry each time that counting begins."""
    with place.copy() as url, tempfile.TemporaryDirectory() as folder:
        facts = CopyFacts("run:1", datetime.now(UTC), 1, url, place.tenants, {})
        about = Circumstances("main", "run:1", facts.as_of, 1.0, "clone-url", "PostgreSQL", "postgres")
        with Observation(Copy(url, facts, "clone-url"), place.settings, Path(folder)) as observation:
            again = observation._reader._fresh

            def noted() -> Any:
                if fresh is not None:
                    fresh.append(1)
                return again()

            observation._reader._fresh = noted
            return observation.run(performance, url, about)


def script(text: str) -> ScriptPerformance:
    return ScriptPerformance(read_script(text, "script.sql", {}))


def rows(found: Observed) -> dict[tuple[str, Operation], int]:
    counted: dict[tuple[str, Operation], int] = {}
    for (_, table, operation), count in found.effect.counts.items():
        counted[table, operation] = counted.get((table, operation), 0) + count.rows
    return counted


def test_a_large_script_is_counted_while_it_runs(place: Playground) -> None:
    """Cascades, columns and touched rows are those of the whole; nothing was read twice."""
    again: list[object] = []
    found = observed(
        place,
        script("UPDATE notes SET body = body || '!' WHERE id % 2 = 0; DELETE FROM sites WHERE id < 5"),
        fresh=again,
    )
    assert not again
    half = ROWS // 2
    assert rows(found) == {
        ("public.sites", Operation.HARD_DELETE): 5,
        ("public.pages", Operation.HARD_DELETE): half,
        ("public.notes", Operation.HARD_DELETE): half,
        ("public.notes", Operation.UPDATE): ROWS // 5,  # the others of them were deleted after all
    }
    pages = found.effect.counts[TenantKey("3"), "public.pages", Operation.HARD_DELETE]
    assert (pages.rows, pages.cascaded) == (ROWS // 10, ROWS // 10)
    touched = {one.table: one for one in found.touched}
    assert len(touched["public.notes"].rows) == len({key for key in range(ROWS) if key % 10 < 5 or key % 2 == 0})
    assert all(row.after is None for row in touched["public.pages"].rows)


def test_what_a_large_script_rolled_back_is_not_counted(place: Playground) -> None:
    """The log is read once more then, and what is known is the same as ever."""
    again: list[object] = []
    text = """
    UPDATE notes SET body = 'first' WHERE id <= 100;
    DO $$ BEGIN
      UPDATE public.pages SET body = body || '?';
      RAISE EXCEPTION 'back';
    EXCEPTION WHEN raise_exception THEN NULL; END $$;
    UPDATE notes SET body = body || '!' WHERE id > 100
    """
    found = observed(place, script(text), fresh=again)
    assert len(again) == 1
    assert rows(found) == {("public.notes", Operation.UPDATE): ROWS}


def test_a_large_script_that_fails_has_done_nothing(place: Playground) -> None:
    """However much of it was counted by then."""
    found = observed(place, script("UPDATE notes SET body = body || '!'; SELECT 1 / 0"))
    assert found.error is not None
    assert "division by zero" in found.error
    assert rows(found) == {}


def test_a_table_that_changes_its_columns_on_the_way(place: Playground) -> None:
    """Each row is read by the columns of its moment."""
    text = """
    UPDATE pages SET body = body || '!';
    ALTER TABLE pages ADD COLUMN seen int;
    UPDATE pages SET seen = 1 WHERE id <= 5000
    """
    found = observed(place, script(text))
    counts = [found.effect.counts[TenantKey(str(n)), "public.pages", Operation.UPDATE] for n in range(10)]
    assert sum(count.rows for count in counts) == ROWS  # one row once
    assert {column for count in counts for column in count.columns} == {"body", "seen"}


class TwoAtATime:
    """A command with two sessions whose large transactions overlap; the first to begin is the last to commit."""

    def __call__(self, url: str, watch: psycopg.Connection[Any]) -> Trial:
        with psycopg.connect(url) as first, psycopg.connect(url) as second:
            for part in range(3):
                first.execute("UPDATE notes SET body = body || '!' WHERE id %% 3 = %s", [part])
                second.execute("UPDATE pages SET body = body || '!' WHERE id %% 3 = %s", [part])
            second.execute("UPDATE pages SET site_id = 0 WHERE id % 10 = 1")
            second.commit()
            first.commit()
        return Trial(0.1)


def test_two_large_transactions_at_a_time(place: Playground) -> None:
    """They are counted in the order of their commits: the notes of pages that moved were the new site's by then."""
    again: list[object] = []
    found = observed(place, TwoAtATime(), fresh=again)
    assert len(again) == 1
    counts = found.effect.counts
    assert (TenantKey("1"), "public.notes", Operation.UPDATE) not in counts
    assert counts[TenantKey("0"), "public.notes", Operation.UPDATE].rows == 2 * ROWS // 10
    assert counts[TenantKey("1"), "public.pages", Operation.MOVE].rows == ROWS // 10
