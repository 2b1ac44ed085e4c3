"""What leads from a stored state to the live one, found by hashes first."""

from __future__ import annotations

import psycopg
import pytest

from outlast.core.effect import Effect
from outlast.restore.comparison import compare_states, compare_with_live
from outlast.restore.history import Past
from outlast.sources.postgres.catalog import OwnershipSettings, read_catalog
from outlast.sources.postgres.session import Target, connect
from tests.integration.restore.memory import remember

SETTINGS = OwnershipSettings("public.accounts", "name")
SCHEMA = """
CREATE TABLE accounts (id bigint PRIMARY KEY, name text);
CREATE TABLE items (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES accounts, body text, deleted_at date);
CREATE TABLE notes (account_id bigint NOT NULL REFERENCES accounts, body text);
CREATE INDEX ON items (account_id);
INSERT INTO accounts VALUES (1, 'acme'), (2, 'other');
INSERT INTO items SELECT g, 1 + g % 2, repeat(md5(g::text), 5) FROM generate_series(1, 20000) g;
INSERT INTO notes VALUES (1, 'a'), (1, 'a'), (1, 'b');
"""

CHANGES = [
    ("SELECT 1", {}),
    ("DELETE FROM items WHERE id IN (2, 9000, 20000)", {"public.items": {"hard-delete": 3}}),
    ("UPDATE items SET body = 'x' WHERE id = 8", {"public.items": {"update": 1}}),
    ("UPDATE items SET deleted_at = '2026-01-01' WHERE id IN (8, 10)", {"public.items": {"soft-delete": 2}}),
    ("INSERT INTO items VALUES (30001, 1, 'new')", {"public.items": {"insert": 1}}),
    ("DELETE FROM items WHERE account_id = 1", {"public.items": {"hard-delete": 10000}}),
    ("INSERT INTO notes VALUES (1, 'a'), (1, 'c'); DELETE FROM notes WHERE body = 'b'",
     {"public.notes": {"insert": 2, "hard-delete": 1}}),
    ("ALTER TABLE items ADD extra int; UPDATE items SET body = 'y' WHERE id = 8", {"public.items": {"update": 1}}),
    ("DROP TABLE notes", {"public.notes": {"hard-delete": 3}}),
]  # fmt: skip


def live_effect(url: str, past: Past) -> Effect:
    with connect(Target(url), role="diff") as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        return compare_with_live(session, read_catalog(session, SETTINGS), past)


@pytest.mark.parametrize(("statements", "expected"), CHANGES)
def test_what_happened_since(database: str, statements: str, expected: dict[str, dict[str, int]]) -> None:
    """Each kind of change is counted, against live rows and against a later stored state alike."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        # Tenant 1 has the even numbers
        past = remember(database, SETTINGS, ["1"])["1"]
        other = remember(database, SETTINGS, ["2"])["2"]
        connection.execute(statements.encode())
    assert live_effect(database, past).to_json() == expected
    assert compare_states(past, remember(database, SETTINGS, ["1"])["1"]).to_json() == expected
    if "ALTER" not in statements:
        assert not live_effect(database, other)
