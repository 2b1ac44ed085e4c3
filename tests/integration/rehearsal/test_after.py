"""What comes after a copy's rows, made side by side: the same keys, indexes and foreign keys as before."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, closing

import pytest

from outlast.rehearsal.copy import open_superuser
from outlast.rehearsal.copy_after import run_after
from outlast.rehearsal.copy_schema import SchemaPoints, pieces, run_pieces
from outlast.sources.postgres.server import find_program

SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE shop.accounts (id int PRIMARY KEY, name text UNIQUE);
CREATE TABLE shop."the items" (
  id int PRIMARY KEY, account int REFERENCES shop.accounts ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED,
  parent int REFERENCES shop."the items", code text);
CREATE UNIQUE INDEX ON shop."the items" (code);
CREATE TABLE shop.notes (id int PRIMARY KEY, item int, code text REFERENCES shop."the items" (code));
ALTER TABLE shop.notes ADD CONSTRAINT "of; an item" FOREIGN KEY (item) REFERENCES shop."the items" NOT VALID;
CREATE TABLE shop.lost (id int PRIMARY KEY, account int CONSTRAINT lost_account REFERENCES shop.accounts);
"""
ROWS = """
INSERT INTO shop.accounts VALUES (1, 'a');
INSERT INTO shop."the items" VALUES (1, 1, NULL, 'x'), (2, 1, 1, 'y');
INSERT INTO shop.notes VALUES (1, 7, 'x');
"""


PARTITIONED = """
CREATE TABLE shop.events (id int, account int REFERENCES shop.accounts, PRIMARY KEY (id, account))
  PARTITION BY LIST (account);
CREATE TABLE shop.events_1 PARTITION OF shop.events FOR VALUES IN (1);
CREATE TABLE shop.details (id int PRIMARY KEY, event int, account int, FOREIGN KEY (event, account)
  REFERENCES shop.events);
"""
PARTITIONED_ROWS = """
INSERT INTO shop.events VALUES (1, 1);
INSERT INTO shop.details VALUES (1, 1, 1);
"""


def dumped(url: str, section: str) -> bytes:
    program = find_program("pg_dump", 18)
    return subprocess.run([program, f"--section={section}", "-n", "shop", url], capture_output=True, check=True).stdout


def made_again(url: str, schema: str, rows: str) -> tuple[bytes, bytes, SchemaPoints]:
    """What comes after the rows in a schema, and in one that is made anew with these rows in it."""
    points = SchemaPoints()
    with ExitStack() as stack:
        connections = [stack.enter_context(closing(open_superuser(url))) for _ in range(2)]
        connections[0].execute(schema)
        before, after = dumped(url, "pre-data"), dumped(url, "post-data")
        connections[0].execute("DROP SCHEMA shop CASCADE")
        run_pieces(connections[0], list(pieces(before)), points)
        connections[0].execute(rows)
        run_after(connections, after, points)
    return after, dumped(url, "post-data"), points


def told(section: bytes) -> list[tuple[str, bytes]]:
    return [(piece.name, piece.text.strip()) for piece in pieces(section)][1:]


@pytest.mark.parametrize(("schema", "rows"), [("", ""), (PARTITIONED, PARTITIONED_ROWS)])
def test_keys_indexes_and_foreign_keys_are_as_they_were(database: str, schema: str, rows: str) -> None:
    """Validated where they were validated, of partitioned tables too."""
    wanted, found, points = made_again(database, SCHEMA + schema, ROWS + rows)
    assert not points.points
    assert not points.missing
    assert told(found) == told(wanted)


def test_a_foreign_key_that_rows_do_not_hold_to_is_not_there(database: str) -> None:
    """It is named, and is not left unvalidated."""
    wanted, found, points = made_again(database, SCHEMA, f"{ROWS}INSERT INTO shop.lost VALUES (1, 9);")
    assert [line.partition(":")[0] for line in points.missing] == ["fk constraint shop.lost lost_account"]
    assert [str(point) for point in points.points] == ["schema-incomplete: fk constraint shop.lost lost_account"]
    assert told(found) == [one for one in told(wanted) if one[0] != "lost lost_account"]
