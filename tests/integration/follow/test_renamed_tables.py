"""Tables that are renamed, moved to another schema, dropped or swapped for another, while the follower runs and while
it does not, with event triggers and without: a moment is exact or refused, never wrong, and the newest one is exact."""

from __future__ import annotations

from dataclasses import replace

import pytest

from outlast.core.errors import Refused
from tests.integration.follow.conftest import Factory, Followed, wait_until
from tests.integration.follow.test_setup_hazards import notes
from tests.integration.follow.truth import Truth, differences, stored
from tests.servers import Server

SCHEMA = """
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE project (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, n int);
CREATE TABLE task (id bigint PRIMARY KEY, project_id bigint NOT NULL REFERENCES project, n int);
CREATE VIEW whose AS SELECT id, account_id FROM project;
CREATE SCHEMA other;
INSERT INTO account VALUES (1, 'acme'), (2, 'globex');
INSERT INTO project SELECT i, 1 + i % 2, i FROM generate_series(1, 4) i;
INSERT INTO task SELECT i, 1 + i % 4, i FROM generate_series(1, 12) i;
"""
_BY_PROJECT = "(SELECT w.account_id FROM public.whose AS w WHERE w.id = t.project_id)"
OWNERS = {
    "public.account": "t.id",
    **dict.fromkeys(("public.project", "public.venture", "other.project"), "t.account_id"),
    **dict.fromkeys(("public.task", "public.chore", "public.old_task", "other.task"), _BY_PROJECT),
}
SWAPPED = """
CREATE TABLE new_task (LIKE task INCLUDING ALL, FOREIGN KEY (project_id) REFERENCES project);
INSERT INTO new_task SELECT id, project_id, n + 1000 FROM task;
ALTER TABLE task RENAME TO old_task;
ALTER TABLE new_task RENAME TO task;
"""
CHANGES = {
    "renamed": ("ALTER TABLE task RENAME TO chore", "public.chore", "public.project"),
    "moved": ("ALTER TABLE task SET SCHEMA other", "other.task", "public.project"),
    "parent renamed": ("ALTER TABLE project RENAME TO venture", "public.task", "public.venture"),
    "parent moved": ("ALTER TABLE project SET SCHEMA other", "public.task", "other.project"),
    "swapped": (SWAPPED, "public.task", "public.project"),
    "dropped": ("DROP TABLE task", None, "public.project"),
}


def _work(task: str | None, project: str, number: int) -> list[str]:
    """Some of everything, by the names of now; `number` tells this time's rows from others."""
    statements = [
        f"INSERT INTO {project} VALUES ({100 + number}, {1 + number % 2}, {number})",
        f"UPDATE {project} SET n = n + 1 WHERE id = {1 + number % 4}",
    ]
    if task is not None:
        statements += [
            f"INSERT INTO {task} VALUES ({100 + number}, {100 + number}, {number}), ({200 + number}, 1, {number})",
            f"UPDATE {task} SET n = {-number} WHERE id % 4 = {number % 4}",
            f"UPDATE {task} SET project_id = 1 + project_id % 4 WHERE id = {1 + number}",
            f"DELETE FROM {task} WHERE id = {12 - number}",
        ]
    return statements


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
@pytest.mark.parametrize("online", [True, False], ids=["online", "offline"])
@pytest.mark.parametrize("what", CHANGES)
def test_no_moment_is_wrong(
    server: Server, followed: Factory, monkeypatch: pytest.MonkeyPatch, what: str, online: bool, told: bool
) -> None:
    monkeypatch.setattr("outlast.capture.follow.VERIFY_S", 0.5)
    change, task, project = CHANGES[what]
    with server.new_database() as url:
        one = followed(url, SCHEMA)
        if not told:
            one.execute(*(f"DROP EVENT TRIGGER outlast_schema_{name}" for name in ("changed", "dropped", "rewritten")))
        truth = Truth(url, OWNERS)
        with one.running() as running:
            _do(one, truth, _work("public.task", "public.project", 1))
            running.caught_up()
            if online:
                _do(one, truth, [change, *_work(task, project, 2)])
                running.caught_up()
        if not online:
            _do(one, truth, [*_work("public.task", "public.project", 3), change, *_work(task, project, 2)])
        one.set_up()  # what is new is to be published, as a person told of it would have it
        with one.running() as running:
            _do(one, truth, _work(task, project, 4))

            def newest_is_exact() -> bool:
                running.caught_up()
                truth.note()
                running.caught_up()
                return _right(one, truth, len(truth.moments) - 1)

            wait_until(newest_is_exact, "an exact moment")
        exact = sum(_right(one, truth, number) for number in range(len(truth.moments)))
        assert not told or exact > 6  # untold, nothing is exact from the look before on


@pytest.mark.parametrize(("then", "now"), [("ignored", "owned"), ("owned", "ignored"), ("shared", "owned")])
def test_a_table_that_is_said_to_be_anothers_is_read_again(
    server: Server, followed: Factory, then: str, now: str
) -> None:
    """outlast.toml was changed between two starts: what was followed by the old word is not passed off for the new."""
    words = {"owned": "owned through project_id", "ignored": "ignored", "shared": "shared"}
    others = {"public.account": "owned by id", "public.project": "owned by account_id"}
    with server.new_database() as url:
        one = followed(url, SCHEMA, tables={**others, "public.task": words[then]})
        one.drain()
        one.execute(*_work("public.task", "public.project", 1))
        one.settings = replace(one.settings, tables={**others, "public.task": words[now]})
        one.set_up()
        truth = Truth(url, OWNERS if now == "owned" else {**OWNERS, "public.task": "'nobody'"})
        with one.running() as running:
            running.caught_up()
            truth.note()
            assert any("public.task" in told for told in running.follower.watch.ever)
            running.caught_up()
        lsn, expected = truth.moments[0]
        expected.pop("nobody", None)
        assert not differences(expected, stored(one.vault(), str(lsn)))


def _do(one: Followed, truth: Truth, statements: list[str]) -> None:
    for statement in statements:
        one.execute(f"BEGIN; {statement}; COMMIT")
        truth.note()


def _right(one: Followed, truth: Truth, number: int) -> bool:
    """Whether a moment is exact. One that is not is refused, or says what it lacks; none is wrong."""
    lsn, expected = truth.moments[number]
    try:
        if notes(one, str(lsn)):
            return False
        found = stored(one.vault(), str(lsn))
    except Refused:
        return False
    assert not differences(expected, found), f"moment {number} of {len(truth.moments)}"
    return True
