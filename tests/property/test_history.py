"""Random histories of a database, against the database itself: what the vault gives for a commit is what was there.

Hypothesis draws transactions that run interleaved in several sessions: rows come, go, change keys, move to other
tenants with and without their parents; statements fail and are rolled back, whole transactions too; columns come and
go. After every commit the server is asked for every tenant's rows, and later the vault is.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from outlast.core.errors import Refused
from tests.integration.follow.conftest import Factory, Followed, followed
from tests.integration.follow.truth import Truth, differences, stored
from tests.servers import Server

__all__ = ["followed"]

SCHEMA = """
CREATE TABLE plan (id int PRIMARY KEY, title text);
CREATE TABLE account (id int PRIMARY KEY, name text UNIQUE NOT NULL, plan_id int REFERENCES plan);
CREATE TABLE direct (id int PRIMARY KEY, account_id int REFERENCES account, body text);
CREATE TABLE keyed (account_id int NOT NULL REFERENCES account, id int, body text, PRIMARY KEY (account_id, id));
CREATE TABLE whole (id int, account_id int NOT NULL REFERENCES account, body text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE coded (id int PRIMARY KEY, code int NOT NULL UNIQUE, account_id int REFERENCES account, body text);
ALTER TABLE coded REPLICA IDENTITY USING INDEX coded_code_key;
CREATE TABLE project (id int PRIMARY KEY, code int UNIQUE, account_id int REFERENCES account, body text);
CREATE TABLE task (id int PRIMARY KEY, project_id int REFERENCES project ON DELETE CASCADE ON UPDATE CASCADE
  DEFERRABLE INITIALLY DEFERRED, body text);
CREATE TABLE note (id int PRIMARY KEY, task_id int REFERENCES task ON DELETE SET NULL ON UPDATE CASCADE
  DEFERRABLE, body text);
CREATE TABLE badge (id int PRIMARY KEY, project_code int REFERENCES project (code) ON UPDATE CASCADE
  ON DELETE CASCADE, body text);
CREATE TABLE event (id int, at int, account_id int NOT NULL REFERENCES account, body text, PRIMARY KEY (id, at))
  PARTITION BY RANGE (at);
CREATE TABLE event_low PARTITION OF event FOR VALUES FROM (MINVALUE) TO (3);
CREATE TABLE event_high (body text, at int NOT NULL, id int NOT NULL, account_id int NOT NULL);
ALTER TABLE event ATTACH PARTITION event_high FOR VALUES FROM (3) TO (MAXVALUE);
INSERT INTO plan VALUES (1, 'free');
INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, 3) n;
INSERT INTO direct SELECT n, 1 + n % 3, 'direct ' || n FROM generate_series(1, 4) n;
INSERT INTO project SELECT n, n, 1 + n % 3, 'project ' || n FROM generate_series(1, 4) n;
INSERT INTO task SELECT n, 1 + n % 4, 'task ' || n FROM generate_series(1, 6) n;
INSERT INTO note SELECT n, 1 + n % 6, 'note ' || n FROM generate_series(1, 6) n;
INSERT INTO badge SELECT n, 1 + n % 4, 'badge ' || n FROM generate_series(1, 4) n;
"""
_OF_PROJECT = "(SELECT p.account_id FROM public.project p WHERE p.id = t.project_id)"
OWNERS = {
    "public.plan": None,
    "public.account": "t.id",
    **{f"public.{name}": "t.account_id" for name in ("direct", "keyed", "whole", "coded", "project", "event")},
    "public.task": _OF_PROJECT,
    "public.note": (
        "(SELECT p.account_id FROM public.task x JOIN public.project p ON p.id = x.project_id WHERE x.id = t.task_id)"
    ),
    "public.badge": "(SELECT p.account_id FROM public.project p WHERE p.code = t.project_code)",
}

KEYS = st.integers(1, 8)
TENANTS = st.integers(1, 4)
MAYBE = st.one_of(st.just("NULL"), KEYS.map(str))
BODIES = st.sampled_from(["'a'", "E'tab\\tnew\\nline\\\\'", "NULL", "''", "repeat(md5(random()::text), 200)"])

INSERTS = st.one_of(
    st.builds("INSERT INTO account VALUES ({0}, 'tenant-{0}')".format, TENANTS),
    st.builds("INSERT INTO direct VALUES ({}, {}, {})".format, KEYS, MAYBE, BODIES),
    st.builds("INSERT INTO keyed VALUES ({}, {}, {})".format, TENANTS, KEYS, BODIES),
    st.builds("INSERT INTO whole VALUES ({}, {}, {})".format, KEYS, TENANTS, BODIES),
    st.builds("INSERT INTO coded VALUES ({}, {}, {}, {})".format, KEYS, KEYS, MAYBE, BODIES),
    st.builds("INSERT INTO project VALUES ({}, {}, {}, {})".format, KEYS, MAYBE, MAYBE, BODIES),
    st.builds("INSERT INTO task VALUES ({}, {}, {})".format, KEYS, MAYBE, BODIES),
    st.builds("INSERT INTO note VALUES ({}, {}, {})".format, KEYS, MAYBE, BODIES),
    st.builds("INSERT INTO badge VALUES ({}, {}, {})".format, KEYS, MAYBE, BODIES),
    st.builds("INSERT INTO event VALUES ({}, {}, {}, {})".format, KEYS, KEYS, TENANTS, BODIES),
    st.builds("INSERT INTO plan VALUES ({}, {})".format, KEYS, BODIES),
)
_TABLES = ("direct", "keyed", "whole", "coded", "project", "task", "note", "badge", "event")
TABLES = st.sampled_from(_TABLES)
_OWNED = st.sampled_from(["direct", "keyed", "whole", "coded", "project", "event"])
UPDATES = st.one_of(
    st.builds("UPDATE {} SET body = {} WHERE id = {}".format, TABLES, BODIES, KEYS),
    st.builds("UPDATE {} SET body = {}".format, TABLES, BODIES),
    st.builds("UPDATE {} SET id = {} WHERE id = {}".format, TABLES, KEYS, KEYS),
    st.builds("UPDATE {} SET account_id = {} WHERE id = {}".format, _OWNED, MAYBE, KEYS),
    st.builds("UPDATE {} SET account_id = {}, id = {} WHERE id = {}".format, _OWNED, TENANTS, KEYS, KEYS),
    st.builds("UPDATE project SET account_id = {}, code = {} WHERE id = {}".format, MAYBE, MAYBE, KEYS),
    st.builds("UPDATE coded SET code = {} WHERE id = {}".format, KEYS, KEYS),
    st.builds("UPDATE task SET project_id = {} WHERE id = {}".format, MAYBE, KEYS),
    st.builds("UPDATE note SET task_id = {} WHERE id = {}".format, MAYBE, KEYS),
    st.builds("UPDATE badge SET project_code = {} WHERE id = {}".format, MAYBE, KEYS),
    st.builds("UPDATE event SET at = {} WHERE id = {}".format, KEYS, KEYS),
    st.builds("UPDATE event SET at = {}, account_id = {} WHERE id = {}".format, KEYS, TENANTS, KEYS),
    st.builds("UPDATE account SET name = {} || id, plan_id = {} WHERE id = {}".format, BODIES, MAYBE, TENANTS),
)
DELETES = st.one_of(
    st.builds("DELETE FROM {} WHERE id = {}".format, TABLES, KEYS),
    st.builds("DELETE FROM project WHERE account_id = {}".format, TENANTS),
    st.builds("DELETE FROM account WHERE id = {}".format, TENANTS),
)
RARE = st.sampled_from(
    [
        "TRUNCATE note",
        "TRUNCATE event",
        "TRUNCATE project CASCADE",
        "TRUNCATE whole, keyed",
        "ALTER TABLE task ADD COLUMN extra int",
        "ALTER TABLE task DROP COLUMN IF EXISTS extra",
        "ALTER TABLE direct RENAME COLUMN body TO words",
        "ALTER TABLE direct RENAME COLUMN words TO body",
        "ALTER TABLE whole ADD COLUMN more text DEFAULT 'more'",
        "SET CONSTRAINTS ALL DEFERRED",
    ]
)
STATEMENTS = st.one_of(INSERTS, INSERTS, UPDATES, UPDATES, DELETES, RARE)
STEPS = st.tuples(
    st.integers(0, 2), st.one_of(STATEMENTS, STATEMENTS, st.sampled_from(["COMMIT", "COMMIT", "ROLLBACK"]))
)
HISTORIES = st.lists(STEPS, min_size=10, max_size=60)

_CHECKS = list(HealthCheck)


def play(one: Followed, history: list[tuple[int, str]], truth: Truth) -> None:
    """Run the steps. A statement that fails is rolled back alone; a session that has to wait gives up."""
    with ExitStack() as stack:
        sessions = [stack.enter_context(psycopg.connect(one.url)) for _ in range(3)]
        for session in sessions:
            session.execute("SET lock_timeout = '50ms'; SET deadlock_timeout = '1s'")
            session.commit()
        for number, statement in history:
            session = sessions[number]
            if statement == "ROLLBACK":
                session.rollback()
            elif statement == "COMMIT":
                _commit(session, truth)
            else:
                with suppress(psycopg.Error), session.transaction():
                    session.execute(statement.encode())
        for session in sessions:
            _commit(session, truth)


def _commit(session: psycopg.Connection, truth: Truth) -> None:
    try:
        session.commit()
    except psycopg.Error:  # a deferred constraint
        session.rollback()
    else:
        truth.note()


def check(one: Followed, truth: Truth) -> int:
    """Every moment is what was there, or refused as not exact; the last one is exact. Returns how many were exact."""
    vault = one.vault()
    exact = 0
    for lsn, expected in truth.moments:
        try:
            found = stored(vault, str(lsn))
        except Refused as error:
            if error.code != "inexact":
                raise
            continue
        exact += 1
        wrong = differences(expected, found)
        assert not wrong, f"at {lsn}: {wrong}"
    assert differences(truth.state(), stored(vault, "latest")) == []
    return exact


def hold(url: str, followed: Factory, history: list[tuple[int, str]], memory_bytes: int) -> None:
    one = followed(url, SCHEMA)
    one.memory_bytes = memory_bytes
    truth = Truth(one.url, OWNERS)
    one.drain()
    half = len(history) // 2
    truth.note()
    play(one, history[:half], truth)
    one.drain()
    play(one, history[half:], truth)
    one.drain()
    check(one, truth)


@settings(max_examples=3, deadline=None, suppress_health_check=_CHECKS)
@given(history=HISTORIES, memory_bytes=st.sampled_from([400, 16_000_000]))
def test_a_random_history_is_what_the_vault_gives_for_every_commit(
    server: Server, followed: Factory, history: list[tuple[int, str]], memory_bytes: int
) -> None:
    with server.new_database() as url:
        hold(url, followed, history, memory_bytes)


@pytest.mark.system
@settings(max_examples=2, deadline=None, suppress_health_check=_CHECKS)
@given(history=HISTORIES, memory_bytes=st.sampled_from([400, 16_000_000]))
def test_a_random_history_is_what_the_vault_gives_for_every_commit_on_15(
    debian_server: Server, followed: Factory, history: list[tuple[int, str]], memory_bytes: int
) -> None:
    with debian_server.new_database() as url:
        hold(url, followed, history, memory_bytes)


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=_CHECKS)
@given(history=st.lists(STEPS, min_size=30, max_size=200), memory_bytes=st.sampled_from([400, 16_000_000]))
def test_many_random_histories_are_what_the_vault_gives(
    server: Server, followed: Factory, history: list[tuple[int, str]], memory_bytes: int
) -> None:
    with server.new_database() as url:
        hold(url, followed, history, memory_bytes)
