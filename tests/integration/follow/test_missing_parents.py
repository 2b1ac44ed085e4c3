"""A parent that the route map lacks: where a key holds it, the map is wrong and that is told; elsewhere it is right."""

from __future__ import annotations

import sqlite3

import pytest

from outlast.core.table import TableName
from tests.integration.follow.conftest import Factory, Followed
from tests.integration.follow.test_mending import details
from tests.integration.follow.truth import Truth, compared, differences, stored

SCHEMA = """
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE project (id bigint PRIMARY KEY, account_id bigint REFERENCES account, title text);
CREATE TABLE task (id bigint PRIMARY KEY, project_id bigint REFERENCES project DEFERRABLE, body text);
CREATE TABLE note (id bigint PRIMARY KEY, task_id bigint REFERENCES task DEFERRABLE, body text);
INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, 3) n;
INSERT INTO project SELECT n, 1 + n % 3, 'project ' || n FROM generate_series(1, 6) n;
INSERT INTO task SELECT n, 1 + n % 6, 'task ' || n FROM generate_series(1, 30) n;
INSERT INTO note SELECT n, 1 + n % 30, 'note ' || n FROM generate_series(1, 60) n;
"""
LOOSE = "ALTER TABLE task DROP CONSTRAINT task_project_id_fkey"
NOT_VALID = "ALTER TABLE task ADD FOREIGN KEY (project_id) REFERENCES project NOT VALID"
OWNERS = {
    "public.account": "t.id",
    "public.project": "t.account_id",
    "public.task": "(SELECT p.account_id FROM public.project p WHERE p.id = t.project_id)",
    "public.note": "(SELECT p.account_id FROM public.task x JOIN public.project p ON p.id = x.project_id"
    " WHERE x.id = t.task_id)",
}
TABLES = {
    "public.account": "owned by id",
    "public.project": "owned by account_id",
    "public.task": "owned through project_id to public.project",
    "public.note": "owned through task_id",
}
PROJECT, TASK, NOTE = (TableName("public", name) for name in ("project", "task", "note"))


def forget_projects(one: Followed) -> None:
    """The map lacks every project: of the spaces that lead to tenants by number, projects' has the most rows."""
    with sqlite3.connect(one.folder / "state" / "main.routes.sqlite") as routes:
        of_tenants = "SELECT substr(id, 1, 2) FROM route WHERE typeof(route) = 'integer'"
        spaces = f"{of_tenants} GROUP BY 1 ORDER BY count(*) DESC LIMIT 1"
        assert routes.execute(f"DELETE FROM route WHERE substr(id, 1, 2) = ({spaces})").rowcount == 6


def doubted(one: Followed) -> set[TableName | None]:
    return {gap.table for each in details(one) for gap in each.gaps if "though its foreign key holds" in gap.reason}


@pytest.mark.parametrize(
    ("change", "tables"),
    [
        ("INSERT INTO task VALUES (100, 1, 'new')", {PROJECT, TASK}),
        ("UPDATE task SET body = 'other' WHERE id = 1", {PROJECT, TASK}),
        ("UPDATE task SET project_id = 2 WHERE id = 3", {PROJECT, TASK}),
        ("UPDATE note SET body = 'other' WHERE id = 1", {PROJECT, NOTE}),
        ("DELETE FROM note WHERE id = 1", {PROJECT, NOTE}),
    ],
)
def test_a_parent_that_the_map_lacks_is_told_and_read_again(
    database: str, followed: Factory, change: str, tables: set[TableName]
) -> None:
    """A row is not given to nobody in silence: its table and the parent's are read again, and then all is exact."""
    one = followed(database, SCHEMA)
    one.drain()
    forget_projects(one)
    one.execute(change)
    follower = one.follower(until_current=True)
    follower.run()
    assert any("not exact" in text for text in follower.watch.ever)
    assert doubted(one) == tables
    truth = Truth(one.url, OWNERS)
    assert differences(truth.state(), stored(one.vault(), "latest")) == []
    truth.note()
    one.execute("UPDATE task SET body = 'later' WHERE id IN (1, 2)", "UPDATE note SET body = 'later' WHERE id = 2")
    truth.note()
    follower = one.follower(until_current=True)
    follower.run()
    assert not follower.watch.ever
    compared(one.vault(), truth)


def test_a_parent_that_comes_later_in_its_transaction_is_no_doubt(database: str, followed: Factory) -> None:
    """Also where so much lies between them that they are not routed together."""
    one = followed(database, SCHEMA)
    one.drain()
    truth = Truth(one.url, OWNERS)
    one.execute(
        "SET CONSTRAINTS ALL DEFERRED; INSERT INTO task VALUES (200, 200, 'early');"
        "INSERT INTO project VALUES (200, 2, 'late'); UPDATE task SET body = 'x' WHERE id = 200"
    )
    truth.note()
    follower = one.follower(until_current=True)
    follower.run()
    assert not follower.watch.ever
    compared(one.vault(), truth)
    one.execute(
        "SET CONSTRAINTS ALL DEFERRED; INSERT INTO task VALUES (300, 300, 'early');"
        "UPDATE note SET body = body || n FROM generate_series(1, 100) n;"
        "INSERT INTO task SELECT n, 1, 'between' FROM generate_series(1000, 6000) n;"
        "INSERT INTO project VALUES (300, 3, 'late')"
    )
    one.drain()
    assert doubted(one) == set()
    assert differences(truth.state(), stored(one.vault(), "latest")) == []


@pytest.mark.parametrize("key", [None, NOT_VALID])
def test_where_no_key_holds_a_parent_its_absence_is_no_doubt(database: str, followed: Factory, key: str | None) -> None:
    """A row that points nowhere is nobody's. A key that is NOT VALID holds new rows only."""
    stray = "INSERT INTO task VALUES (200, 200, 'nobody')"
    one = followed(database, SCHEMA, LOOSE, stray, *([key] if key else []), tables=TABLES)
    one.drain()
    truth = Truth(one.url, OWNERS)
    one.execute("DELETE FROM task WHERE id = 200" if key else "UPDATE task SET body = 'still' WHERE id = 200")
    truth.note()
    one.execute("UPDATE project SET account_id = NULL WHERE id = 1")
    one.execute("UPDATE task SET body = 'none' WHERE project_id = 1")
    truth.note()
    follower = one.follower(until_current=True)
    follower.run()
    assert not follower.watch.ever
    compared(one.vault(), truth)


def test_a_parent_that_the_source_lacks_in_spite_of_its_key_is_told_once(database: str, followed: Factory) -> None:
    """Somebody switched the keys off: what was read again says that nothing is there, and then it is known."""
    one = followed(database, SCHEMA)
    one.drain()
    one.execute("SET session_replication_role = replica; INSERT INTO task VALUES (200, 200, 'nobody')")
    one.drain()
    assert doubted(one) == {PROJECT, TASK}
    truth = Truth(one.url, OWNERS)
    one.execute("UPDATE task SET body = 'still nobody' WHERE id = 200")
    truth.note()
    follower = one.follower(until_current=True)
    follower.run()
    assert not follower.watch.ever
    compared(one.vault(), truth)
    one.execute("INSERT INTO project VALUES (200, 1, 'found')")
    one.drain()
    assert differences(truth.state(), stored(one.vault(), "latest")) == []
