"""Whose every change is, on real servers: each identity, each way to a tenant, and what emits nothing at all."""

from __future__ import annotations

import pytest

from tests.integration.follow.conftest import Factory, Followed
from tests.integration.follow.truth import Truth, compared
from tests.servers import Server

SCHEMA = """
CREATE TABLE plan (id int PRIMARY KEY, title text);
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL, plan_id int REFERENCES plan);
CREATE TABLE direct (id bigint PRIMARY KEY, account_id bigint REFERENCES account, body text, n int);
CREATE TABLE keyed (account_id bigint NOT NULL REFERENCES account, id bigint, body text, PRIMARY KEY (account_id, id));
CREATE TABLE whole (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, body text, n int);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE TABLE coded (id bigint PRIMARY KEY, code text NOT NULL UNIQUE, account_id bigint NOT NULL REFERENCES account,
  body text);
ALTER TABLE coded REPLICA IDENTITY USING INDEX coded_code_key;
CREATE TABLE project (id bigint PRIMARY KEY, code text NOT NULL UNIQUE, account_id bigint REFERENCES account,
  title text);
CREATE TABLE task (id bigint PRIMARY KEY, project_id bigint REFERENCES project ON DELETE CASCADE ON UPDATE CASCADE
  DEFERRABLE, body text);
CREATE TABLE note (id bigint PRIMARY KEY, task_id bigint NOT NULL REFERENCES task ON DELETE CASCADE ON UPDATE CASCADE
  DEFERRABLE, body text);
CREATE TABLE badge (id bigint PRIMARY KEY, project_code text REFERENCES project (code) ON UPDATE CASCADE
  ON DELETE SET NULL, body text);
CREATE TABLE site (account_id bigint NOT NULL REFERENCES account, region text NOT NULL, number int NOT NULL,
  PRIMARY KEY (account_id, region, number), UNIQUE (region, number));
CREATE TABLE page (id bigint PRIMARY KEY, site_number int NOT NULL, site_region text NOT NULL, body text,
  FOREIGN KEY (site_region, site_number) REFERENCES site (region, number) ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE event (id bigint, at date, account_id bigint NOT NULL REFERENCES account, body text,
  PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE event_old (body text, at date NOT NULL, id bigint NOT NULL, account_id bigint NOT NULL);
ALTER TABLE event ATTACH PARTITION event_old FOR VALUES FROM (MINVALUE) TO ('2026-01-01');
CREATE TABLE event_new PARTITION OF event FOR VALUES FROM ('2026-01-01') TO (MAXVALUE);
INSERT INTO plan VALUES (1, 'free'), (2, 'paid');
INSERT INTO account SELECT n, 'tenant-' || n, 1 FROM generate_series(1, 3) n;
INSERT INTO direct SELECT n, 1 + n % 3, 'direct ' || n, 0 FROM generate_series(1, 12) n;
INSERT INTO keyed SELECT 1 + n % 3, n, 'keyed ' || n FROM generate_series(1, 12) n;
INSERT INTO whole SELECT n, 1 + n % 3, 'whole ' || n, 0 FROM generate_series(1, 12) n;
INSERT INTO coded SELECT n, 'c' || n, 1 + n % 3, 'coded ' || n FROM generate_series(1, 12) n;
INSERT INTO project SELECT n, 'p' || n, 1 + n % 3, 'project ' || n FROM generate_series(1, 9) n;
INSERT INTO task SELECT n, 1 + n % 9, 'task ' || n FROM generate_series(1, 36) n;
INSERT INTO note SELECT n, 1 + n % 36, 'note ' || n FROM generate_series(1, 72) n;
INSERT INTO badge SELECT n, 'p' || (1 + n % 9), 'badge ' || n FROM generate_series(1, 18) n;
INSERT INTO site SELECT 1 + n % 3, CASE n % 2 WHEN 0 THEN 'eu' ELSE 'us' END, n FROM generate_series(1, 6) n;
INSERT INTO page SELECT n, 1 + n % 6, CASE (1 + n % 6) % 2 WHEN 0 THEN 'eu' ELSE 'us' END, 'page ' || n
  FROM generate_series(1, 12) n;
INSERT INTO event SELECT n, date '2025-12-20' + n, 1 + n % 3, 'event ' || n FROM generate_series(1, 24) n;
"""

OWNERS = {
    "public.plan": None,
    "public.account": "t.id",
    "public.direct": "t.account_id",
    "public.keyed": "t.account_id",
    "public.whole": "t.account_id",
    "public.coded": "t.account_id",
    "public.project": "t.account_id",
    "public.task": "(SELECT p.account_id FROM public.project p WHERE p.id = t.project_id)",
    "public.note": "(SELECT p.account_id FROM public.task x JOIN public.project p ON p.id = x.project_id"
    " WHERE x.id = t.task_id)",
    "public.badge": "(SELECT p.account_id FROM public.project p WHERE p.code = t.project_code)",
    "public.site": "t.account_id",
    "public.page": "(SELECT s.account_id FROM public.site s WHERE (s.region, s.number) ="
    " (t.site_region, t.site_number))",
    "public.event": "t.account_id",
}

LONG = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 200) i)"

CHANGES = [
    # Plain changes, under every identity.
    "INSERT INTO direct VALUES (100, 1, 'new', 0)",
    "UPDATE direct SET body = 'other' WHERE id = 1",
    "DELETE FROM direct WHERE id = 2",
    (
        "UPDATE keyed SET body = 'other' WHERE id = 1; DELETE FROM keyed WHERE id = 2; "
        "INSERT INTO keyed VALUES (3, 99, 'x')"
    ),
    (
        "UPDATE whole SET body = 'other' WHERE id = 1; DELETE FROM whole WHERE id = 2; "
        "INSERT INTO whole VALUES (99, 3, 'x')"
    ),
    "UPDATE coded SET body = 'other' WHERE id = 1; DELETE FROM coded WHERE id = 2",
    "INSERT INTO coded VALUES (99, 'c99', 3, 'x'); UPDATE coded SET id = 98 WHERE id = 99",
    "UPDATE plan SET title = 'gratis' WHERE id = 1; INSERT INTO plan VALUES (3, 'gold')",
    # Keys that change.
    "UPDATE direct SET id = 200 WHERE id = 3",
    "UPDATE direct SET id = id + 1000; UPDATE direct SET body = 'shifted' WHERE id = 1004",
    "UPDATE keyed SET id = id + 1000 WHERE account_id = 1",
    "UPDATE coded SET code = code || '!' WHERE id = 3; UPDATE coded SET body = 'y' WHERE id = 3",
    "UPDATE whole SET id = id + 1000 WHERE id = 4",
    "UPDATE direct SET id = CASE id WHEN 1004 THEN 5 ELSE id END",
    # Rows that move to another tenant, or to none.
    "UPDATE direct SET account_id = 2 WHERE id = 1005",
    "UPDATE direct SET account_id = 3, id = 300, body = 'moved and renamed' WHERE id = 1006",
    "UPDATE keyed SET account_id = 2 WHERE id = 1003",
    "UPDATE whole SET account_id = 1 WHERE id = 5; UPDATE whole SET account_id = 2, id = 555 WHERE id = 6",
    "UPDATE coded SET account_id = 1 WHERE id = 4; DELETE FROM coded WHERE id = 4",
    "UPDATE direct SET account_id = NULL WHERE id = 300; UPDATE direct SET body = 'lost' WHERE id = 300",
    "UPDATE direct SET account_id = 1 WHERE id = 300",
    # Unchanged TOAST, also of rows that move.
    f"UPDATE direct SET body = {LONG} WHERE id = 1007",
    "UPDATE direct SET n = 1 WHERE id = 1007",
    "UPDATE direct SET account_id = 3 WHERE id = 1007; UPDATE direct SET n = 2 WHERE id = 1007",
    f"UPDATE whole SET body = {LONG} WHERE id = 7",
    "UPDATE whole SET n = 1, account_id = 3 WHERE id = 7",
    # Children that find their tenant through others.
    (
        "INSERT INTO project VALUES (100, 'p100', 2, 'new'); INSERT INTO task VALUES (100, 100, 'new'); "
        "INSERT INTO note VALUES (100, 100, 'new')"
    ),
    "UPDATE task SET body = 'other' WHERE id = 1; DELETE FROM note WHERE id = 1",
    "UPDATE project SET account_id = 3 WHERE id = 1",  # takes its tasks and notes along, which do not change
    "UPDATE task SET body = 'after the move' WHERE project_id = 1; DELETE FROM note WHERE task_id = 9",
    "UPDATE project SET account_id = 1 WHERE id = 2; UPDATE task SET body = 'same transaction' WHERE project_id = 2",
    "UPDATE task SET body = 'before it' WHERE project_id = 3; UPDATE project SET account_id = 2 WHERE id = 3",
    "UPDATE task SET project_id = 4 WHERE id = 2",  # to another project, perhaps another tenant, with its notes
    "UPDATE task SET project_id = NULL WHERE id = 3; UPDATE note SET body = 'orphan' WHERE task_id = 3",
    "UPDATE task SET project_id = 5 WHERE id = 3",
    "INSERT INTO task VALUES (101, NULL, 'nobody'); INSERT INTO note VALUES (101, 101, 'nobody')",
    "DELETE FROM project WHERE id = 5",  # cascades: the parent's DELETE comes first
    "UPDATE project SET id = 600 WHERE id = 6",  # and the children's keys after it
    "UPDATE project SET id = 700, account_id = 2 WHERE id = 7",
    (
        "UPDATE project SET code = 'new-code' WHERE id = 8; "
        "UPDATE badge SET body = 'recoded' WHERE project_code = 'new-code'"
    ),
    "UPDATE project SET code = 'other', account_id = 1 WHERE id = 8",
    "DELETE FROM project WHERE id = 8",  # badges are left without one
    "UPDATE badge SET project_code = 'p9' WHERE project_code IS NULL",
    "UPDATE task SET id = id + 1000 WHERE id = 10",
    (
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; INSERT INTO note VALUES (300, 300, 'early'); "
        "INSERT INTO task VALUES (300, 300, 'early'); INSERT INTO project VALUES (300, 'p300', 3, 'late'); "
        "COMMIT"
    ),
    (
        "BEGIN; SET CONSTRAINTS ALL DEFERRED; DELETE FROM task WHERE id = 300 AND false; "
        "UPDATE project SET account_id = 1 WHERE id = 300; "
        "UPDATE task SET body = 'in between' WHERE id = 300; "
        "UPDATE project SET account_id = 2 WHERE id = 300; COMMIT"
    ),
    (
        "INSERT INTO page VALUES (100, 6, 'eu', 'new'); UPDATE page SET body = 'x' WHERE id = 1; "
        "DELETE FROM page WHERE id = 2"
    ),
    "UPDATE site SET account_id = 3 WHERE number = 6",
    "UPDATE site SET number = 60, account_id = 1 WHERE number = 6",
    "UPDATE page SET body = 'after' WHERE site_number = 60; DELETE FROM site WHERE number = 60",
    # Partitions.
    "INSERT INTO event VALUES (100, '2025-01-01', 1, 'old'), (101, '2026-02-01', 2, 'new')",
    "UPDATE event SET at = '2026-03-01' WHERE id = 1; DELETE FROM event WHERE id = 2",
    "UPDATE event SET at = '2024-03-01', account_id = 3 WHERE id = 20",
    "UPDATE event SET account_id = 1 WHERE id = 3; UPDATE event SET body = 'z' WHERE id = 3",
    # Savepoints and rollbacks.
    (
        "BEGIN; INSERT INTO direct VALUES (400, 1, 'kept'); SAVEPOINT a; "
        "INSERT INTO direct VALUES (401, 1, 'undone'); UPDATE project SET account_id = 1 WHERE id = 4; "
        "ROLLBACK TO a; UPDATE task SET body = 'w' WHERE project_id = 4; COMMIT"
    ),
    "BEGIN; DELETE FROM note; DELETE FROM task; ROLLBACK",
    "BEGIN; DELETE FROM direct WHERE id = 400; INSERT INTO direct VALUES (400, 2, 'again, elsewhere'); COMMIT",
    "DO $$BEGIN FOR i IN 1..5 LOOP UPDATE direct SET account_id = 1 + i % 3 WHERE id = 400; END LOOP; END$$",
    # Tenants that come and go.
    "INSERT INTO account VALUES (10, 'newcomer', 2); INSERT INTO direct VALUES (500, 10, 'first')",
    "UPDATE account SET name = 'renamed' WHERE id = 10",
    "DELETE FROM direct WHERE account_id = 10; DELETE FROM account WHERE id = 10",
    "INSERT INTO account VALUES (10, 'again', 1)",
    "UPDATE account SET id = 11 WHERE id = 10",
]


def follow_each(one: Followed, owners: dict[str, str | None], changes: list[str]) -> None:
    """Make the changes while a follower runs, and compare every moment with what the server had then."""
    truth = Truth(one.url, owners)
    with one.running() as running:
        truth.note()
        for change in changes:
            one.execute(change)
            truth.note()
        running.caught_up()
        assert not running.follower.watch.ever
    compared(one.vault(), truth, ["the base", *changes])


def test_every_change_lands_with_its_tenant(database: str, followed: Factory) -> None:
    """After every change each tenant's state from the vault is what the server had."""
    follow_each(followed(database, SCHEMA), OWNERS, CHANGES)


@pytest.mark.system
def test_every_change_lands_with_its_tenant_on_15(debian_server: Server, followed: Factory) -> None:
    with debian_server.new_database() as url:
        follow_each(followed(url, SCHEMA), OWNERS, CHANGES)
