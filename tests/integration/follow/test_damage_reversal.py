"""The damage taken back, and nothing else: what a script did out of a real log, while the customers went on working."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from outlast.core.errors import OutlastError
from outlast.core.plan import ConflictKind, TenantPlan, TenantState
from outlast.core.recipe import Mode, Prefer, Recipe
from outlast.core.tenant import Tenant, TenantKey
from outlast.restore.damage import report
from outlast.restore.damage_reversal import damage_reversal, only
from outlast.restore.history import find_entry
from outlast.restore.restoring import Subject
from tests.integration.follow.conftest import Factory, Followed
from tests.integration.follow.test_damage import DDL, TABLES, any_database, moment, xid
from tests.integration.restore.memory import restorer

__all__ = ["any_database"]


def taken_back(
    one: Followed, since: int, tenant: str = "1", *, transactions: Sequence[int] = (), prefer: Prefer | None = None
) -> TenantPlan:
    vault = one.vault()
    found = report(vault, "main", moment(vault, f"before:{since}"))
    if transactions:
        found = only(found, transactions)
    entry = find_entry(vault, "main", tenant, found.since)
    subject = Subject(Tenant(TenantKey(tenant)), lambda: damage_reversal(found, entry, whole=bool(transactions)), None)
    recipe = Recipe(mode=Mode.REVERSE, damage_since=found.since.text, prefer=prefer)
    with restorer(one.url, one.settings, recipe=recipe) as job:
        (outcome,) = job.execute([subject])
        if job.errors:
            raise job.errors[0]
        return outcome


PERSONS = "SELECT id, name, deleted_at IS NULL FROM person WHERE account_id = 1 ORDER BY id"


def test_what_was_deleted_comes_back(followed: Factory, any_database: str) -> None:
    """Hard and soft deletions are taken back; what customers did before and after stays."""
    one = followed(any_database, *DDL, tables=TABLES)
    one.drain()
    script = xid(
        one,
        "DELETE FROM person WHERE id = 11",
        "UPDATE person SET deleted_at = now() WHERE id = 12",
        "UPDATE person SET name = 'by the script' WHERE id = 13",
    )
    one.execute("UPDATE account SET name = 'renamed' WHERE id = 1", "INSERT INTO person VALUES (19, 1, 'new')")
    one.drain()
    outcome = taken_back(one, script)
    assert (outcome.state, outcome.effect.to_json()) == (
        TenantState.DONE,
        {"public.note": {"insert": 2}, "public.person": {"insert": 1, "update": 1}},
    )
    assert one.query(PERSONS) == [
        (11, "person 1", True),
        (12, "person 2", True),
        (13, "by the script", True),
        (19, "new", True),
    ]
    assert one.query("SELECT name FROM account WHERE id = 1") == [("renamed",)]
    assert taken_back(one, script).state is TenantState.RIGHT


def test_all_that_one_transaction_did(followed: Factory, any_database: str) -> None:
    """With transactions named, their updates are taken back as well, and others' deletions stay."""
    one = followed(any_database, *DDL, tables=TABLES)
    one.drain()
    script = xid(one, "DELETE FROM person WHERE id = 11", "UPDATE person SET name = 'x' WHERE id = 13")
    xid(one, "DELETE FROM person WHERE id = 12")
    again = xid(one, "UPDATE person SET name = 'y' WHERE id = 13", "DELETE FROM person WHERE id = 13")
    one.drain()
    outcome = taken_back(one, script, transactions=[script, again])
    assert outcome.state is TenantState.DONE
    assert one.query(PERSONS) == [(11, "person 1", True), (13, "person 3", True)]


@pytest.mark.parametrize(("prefer", "name"), [(None, None), (Prefer.LIVE, "by hand"), (Prefer.VAULT, "person 1")])
def test_both_touched_a_row(followed: Factory, any_database: str, prefer: Prefer | None, name: str | None) -> None:
    """A row that the customer wrote anew is a conflict, shown by its key, and settled by --prefer."""
    one = followed(any_database, *DDL, tables=TABLES)
    one.drain()
    script = xid(one, "DELETE FROM person WHERE id IN (11, 12)")
    one.execute("INSERT INTO person VALUES (11, 1, 'by hand')")
    one.drain()
    outcome = taken_back(one, script, prefer=prefer)
    if name is None:
        assert [(one.kind, one.keys) for one in outcome.conflicts] == [(ConflictKind.CHANGED_SINCE, ("11",))]
        return
    assert outcome.state is TenantState.DONE
    assert one.query(PERSONS) == [(11, name, True), (12, "person 2", True), (13, "person 3", True)]


@pytest.mark.parametrize(("prefer", "name"), [(Prefer.VAULT, "person 1"), (Prefer.LIVE, "back")])
def test_a_customer_wrote_between_two_damages(followed: Factory, any_database: str, prefer: Prefer, name: str) -> None:
    """Changed by the customer between two damaging transactions: a conflict, too. --prefer vault makes the row as it
    was before both, --prefer live as the customer had it last. Made again as it was, it is no conflict."""
    one = followed(any_database, *DDL, tables=TABLES)
    one.drain()
    first = xid(one, "UPDATE person SET deleted_at = now() WHERE id = 11")
    one.execute("UPDATE person SET deleted_at = NULL, name = 'back' WHERE id = 11")
    xid(one, "UPDATE person SET deleted_at = now() WHERE id = 13")
    one.execute("UPDATE person SET deleted_at = NULL WHERE id = 13")
    xid(one, "DELETE FROM person WHERE id IN (11, 13)")
    one.drain()
    outcome = taken_back(one, first)
    since = [one.keys for one in outcome.conflicts if one.kind is ConflictKind.CHANGED_SINCE]
    assert since == [("11",)]
    assert taken_back(one, first, prefer=prefer).state is TenantState.DONE
    assert one.query(PERSONS) == [(11, name, True), (12, "person 2", True), (13, "person 3", True)]


def test_a_truncated_table(followed: Factory, any_database: str) -> None:
    """TRUNCATE took everybody's rows; each tenant's come back."""
    one = followed(any_database, *DDL, tables=TABLES)
    one.drain()
    script = xid(one, "TRUNCATE note")
    one.drain()
    try:
        outcome = taken_back(one, script)
    except OutlastError as error:  # said, not guessed
        pytest.fail(error.message)
    assert outcome.effect.to_json() == {"public.note": {"insert": 6}}
