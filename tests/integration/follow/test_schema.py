"""Schemas that change while they are followed, tables that are emptied or new, and what is not in the stream at all."""

from __future__ import annotations

from outlast.core.errors import Refused
from outlast.vault.reader import Vault
from tests.integration.follow.conftest import Factory, Followed
from tests.integration.follow.truth import State, Truth, differences, stored

SCHEMA = """
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE TABLE plan (id int PRIMARY KEY, title text);
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL, plan_id int REFERENCES plan);
CREATE TABLE project (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, title text);
CREATE TABLE task (id bigint PRIMARY KEY, project_id bigint NOT NULL REFERENCES project, body text, mood mood);
CREATE TABLE event (id bigint, at date, account_id bigint NOT NULL, body text, PRIMARY KEY (id, at))
  PARTITION BY RANGE (at);
CREATE TABLE event_old PARTITION OF event FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE event_new PARTITION OF event FOR VALUES FROM ('2026-01-01') TO ('2030-01-01');
INSERT INTO plan VALUES (1, 'free');
INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, 3) n;
INSERT INTO project SELECT n, 1 + n % 3, 'project ' || n FROM generate_series(1, 6) n;
INSERT INTO task SELECT n, 1 + n % 6, 'task ' || n, 'ok' FROM generate_series(1, 18) n;
INSERT INTO event SELECT n, date '2025-12-25' + n, 1 + n % 3, 'event ' || n FROM generate_series(1, 12) n;
"""
OWNERS = {
    "public.plan": None,
    "public.account": "t.id",
    "public.project": "t.account_id",
    "public.task": "(SELECT p.account_id FROM public.project p WHERE p.id = t.project_id)",
    "public.event": "t.account_id",
}

CHANGES = [
    "ALTER TABLE task ADD COLUMN done boolean",
    "UPDATE task SET done = true WHERE id = 1; INSERT INTO task VALUES (100, 1, 'new', 'sad', false)",
    "ALTER TABLE task ADD COLUMN size int NOT NULL DEFAULT 7",
    "UPDATE task SET size = 8 WHERE id = 2",
    "ALTER TABLE task RENAME COLUMN body TO content",
    "UPDATE task SET content = 'x' WHERE id = 3",
    "ALTER TABLE task DROP COLUMN mood",
    "DELETE FROM task WHERE id = 4; UPDATE task SET done = false WHERE id = 5",
    "ALTER TABLE project ADD COLUMN note text; UPDATE project SET note = 'n', account_id = 2 WHERE id = 1",
    "ALTER TABLE task ALTER COLUMN content TYPE varchar(100) USING upper(content)",
    "UPDATE task SET content = 'after the rewrite' WHERE id = 6",
    "ALTER TABLE task ADD COLUMN chance double precision DEFAULT random()",
    "UPDATE task SET done = true WHERE id = 7",
    "CREATE TABLE event_far PARTITION OF event FOR VALUES FROM ('2030-01-01') TO (MAXVALUE)",
    "INSERT INTO event VALUES (40, '2031-05-05', 1, 'far'); UPDATE event SET account_id = 2 WHERE id = 40",
    "TRUNCATE event_old",
    "TRUNCATE event",
    "INSERT INTO event VALUES (50, '2026-05-05', 1, 'after')",
    "TRUNCATE project CASCADE; INSERT INTO project VALUES (70, 2, 'new')",
    (
        "INSERT INTO event VALUES (51, '2026-05-05', 2, 'x'); TRUNCATE event; "
        "INSERT INTO event VALUES (52, '2026-05-05', 3, 'y')"
    ),
]
"""Changes in which every moment is either exact, or refused until a new base is there."""


def follow_each(one: Followed, changes: list[str]) -> list[str]:
    """Make the changes one by one, each when the one before is safe. Returns the moments that were refused."""
    truth = Truth(one.url, OWNERS)
    with one.running() as running:
        truth.note()
        for change in changes:
            one.execute(change)
            truth.note()
            running.caught_up()
    refused = []
    vault = one.vault()
    for (lsn, expected), change in zip(truth.moments, ["the base", *changes], strict=True):
        found = _stored(vault, str(lsn))
        if found is None:
            refused.append(change)
            continue
        wrong = differences(expected, found)
        assert not wrong, f"after {change!r} ({lsn}): {wrong}"
    last = differences(truth.state(), stored(vault, "latest"))
    assert not last, last
    return refused


def _stored(vault: Vault, at: str) -> State | None:
    """None where the moment is refused for not being known exactly."""
    try:
        return stored(vault, at)
    except Refused as error:
        if error.code != "inexact":
            raise
        return None


def test_every_moment_around_a_schema_change_is_exact_or_refused(database: str, followed: Factory) -> None:
    """Columns come and go, a table is rewritten, tables are emptied: no moment is guessed."""
    refused = follow_each(followed(database, SCHEMA), CHANGES)
    assert len(refused) <= 5, refused
