"""Who lost what, from a real log; and the rows that were deleted, each as it was just before."""

from __future__ import annotations

import psycopg
import pytest

from outlast.capture.backup import backup
from outlast.core.effect import Operation
from outlast.core.errors import NotFoundError, Refused
from outlast.core.table import TableName
from outlast.core.tenant import RESERVED, TenantKey
from outlast.restore.cuts import cuts
from outlast.restore.damage import DamageReport, report, samples
from outlast.restore.damage_reversal import damage_reversal
from outlast.restore.history import At, find_entry, past_at, resolve
from outlast.state.local import LocalState
from outlast.vault.reader import Vault
from tests.integration.follow.conftest import Factory, Followed

DDL = (
    "CREATE TABLE account (id int PRIMARY KEY, name text NOT NULL)",
    """CREATE TABLE person (id int PRIMARY KEY, account_id int NOT NULL REFERENCES account ON DELETE CASCADE,
       name text, deleted_at date)""",
    """CREATE TABLE note (person_id int NOT NULL REFERENCES person ON DELETE CASCADE, number int NOT NULL, body text,
       PRIMARY KEY (person_id, number))""",
    "INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, 4) n",
    "INSERT INTO person SELECT a * 10 + n, a, 'person ' || n FROM generate_series(1, 4) a, generate_series(1, 3) n",
    "INSERT INTO note SELECT id, n, 'note' FROM person, generate_series(1, 2) n",
    "CREATE INDEX ON person (account_id)",
)
TABLES = {
    "public.account": "owned by id",
    "public.person": "owned by account_id",
    "public.note": "owned through person_id",
}


@pytest.fixture(params=["18", pytest.param("15", marks=pytest.mark.system)])
def any_database(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue("database" if request.param == "18" else "debian_database")
    return url


def xid(one: Followed, *statements: str) -> int:
    """Do it in one transaction, and give its number."""
    with psycopg.connect(one.url) as connection:
        for statement in statements:
            connection.execute(statement.encode())
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    assert row is not None
    return int(row[0])


def moment(vault: Vault, text: str) -> At:
    return resolve(vault, "main", text)


def rows(found: DamageReport, vault: Vault, tenant: str, table: str) -> list[bytes]:
    """The deleted rows of a tenant that a restore would put back."""
    entry = find_entry(vault, "main", tenant, found.since)
    reversed_ = damage_reversal(found, entry, whole=False).tables.get(TableName.parse(table))
    pairs = [] if reversed_ is None else list(reversed_.changes())
    assert all(pair[1] is None for pair in pairs)
    return [pair[0] for pair in pairs if pair[0] is not None]


def test_who_lost_what(followed: Factory, any_database: str) -> None:
    """By tenant, the largest first, and by transaction; soft deletion apart; nothing of what else happened."""
    one = followed(any_database, *DDL, tables=TABLES)
    one.drain()
    before = xid(one, "UPDATE person SET name = 'before' WHERE id = 11")
    small = xid(one, "DELETE FROM person WHERE id = 21")
    xid(one, "INSERT INTO account VALUES (5, 'new')")
    large = xid(one, "DELETE FROM account WHERE id IN (1, 3)", "UPDATE person SET deleted_at = now() WHERE id = 41")
    one.drain()
    vault = one.vault()
    since = moment(vault, f"before:{small}")
    found = report(vault, "main", since)
    assert [(str(tenant.tenant), tenant.hard.rows, tenant.soft.rows) for tenant in found.tenants] == [
        ("tenant-1 (1)", 10, 0),
        ("tenant-3 (3)", 10, 0),
        ("tenant-2 (2)", 3, 0),
        ("tenant-4 (4)", 0, 1),
    ]
    assert found.tenants[0].hard.to_json() == {
        "public.account": {"hard-delete": 1},
        "public.note": {"hard-delete": 6},
        "public.person": {"hard-delete": 3},
    }
    assert [(transaction.xid, transaction.hard.rows, transaction.soft.rows) for transaction in found.transactions] == [
        (small, 3, 0),
        (large, 20, 1),
    ]
    assert report(vault, "main", moment(vault, f"before:{before}")).hard == found.hard
    alone = report(vault, "main", since, xid=small)
    assert [tenant.tenant.key for tenant in alone.tenants] == ["2"]
    assert samples(alone, vault, "main", alone.tenants[0]).counts[
        TenantKey("2"), "public.person", Operation.HARD_DELETE
    ].samples == ("21",)
    prefix = find_entry(vault, "main", "tenant-4", since).prefix
    assert [tenant.soft.rows for tenant in report(vault, "main", since, prefix=prefix).tenants] == [1]
    assert not report(vault, "main", since, moment(vault, f"before:{small}")).found
    with pytest.raises(NotFoundError, match="no transaction 1 in that time"):
        report(vault, "main", since, xid=1)


def test_a_deleted_row_comes_back_as_it_was_last(followed: Factory, any_database: str) -> None:
    """Changed within the time, then deleted: as changed. Inserted within the time: too."""
    one = followed(any_database, *DDL, tables=TABLES)
    one.drain()
    first = xid(one, "DELETE FROM note WHERE person_id = 11")
    one.execute("INSERT INTO note VALUES (11, 1, 'again')")
    one.execute("UPDATE person SET name = 'changed' WHERE id = 12", "INSERT INTO person VALUES (19, 1, 'came later')")
    xid(one, "DELETE FROM person WHERE id IN (12, 19)")
    one.execute("INSERT INTO note VALUES (13, 9, 'kept')")
    one.drain()
    vault = one.vault()
    found = report(vault, "main", moment(vault, f"before:{first}"))
    assert rows(found, vault, "tenant-1", "public.person") == [b"12\t1\tchanged\t\\N", b"19\t1\tcame later\t\\N"]
    assert rows(found, vault, "tenant-1", "public.note") == [
        b"11\t1\tnote",
        b"11\t2\tnote",
        b"12\t1\tnote",
        b"12\t2\tnote",
    ]
    assert rows(found, vault, "tenant-2", "public.person") == []


def test_a_dropped_table_and_what_the_log_does_not_reach(followed: Factory, any_database: str) -> None:
    """A DROP is damage; a time that the log does not cover is refused with the nearest that it does."""
    one = followed(any_database, *DDL, tables=TABLES)
    one.drain()
    start = one.query("SELECT now() - interval '1 hour'")[0][0]
    vault = one.vault()
    with pytest.raises(Refused) as refused:
        report(vault, "main", moment(vault, "latest"))
    assert refused.value.code == "log-behind"
    with pytest.raises(NotFoundError):
        report(vault, "main", moment(vault, start.isoformat()))
    with one.running() as running:
        number = xid(one, "DELETE FROM note WHERE person_id = 11")
        running.caught_up()
        one.execute("DROP TABLE note")
        running.caught_up()
    vault = one.vault()
    found = report(vault, "main", moment(vault, f"before:{number}"))
    assert [name for name, _ in found.dropped] == ["public.note"]
    assert found.hard.rows == 2


def test_many_deletions_are_taken_together() -> None:
    """The largest by themselves, so that what matters is exact."""
    from datetime import UTC, datetime

    from outlast.core.effect import Count, Effect
    from outlast.core.moment import Lsn
    from outlast.restore.damage import DamagingTransaction

    def deed(number: int, size: int) -> DamagingTransaction:
        hard = Effect({(TenantKey("1"), "public.t", Operation.HARD_DELETE): Count(size)})
        return DamagingTransaction(number, Lsn(number * 10), Lsn(number * 10 + 5), datetime.now(UTC), hard, Effect())

    def made(*deeds: DamagingTransaction) -> list[tuple[int, int, int]]:
        return [(cut.before.value, cut.after.value, len(cut.several)) for cut in cuts(deeds, most=2)]

    assert made(deed(1, 5), deed(2, 1)) == [(10, 15, 1), (20, 25, 1)]
    several = made(deed(1, 1), deed(2, 1), deed(3, 100), deed(4, 1), deed(5, 1))
    assert several == [(10, 25, 2), (30, 35, 1), (40, 55, 2)]


def test_truncate_and_a_row_that_was_only_there_in_between(followed: Factory, any_database: str) -> None:
    """TRUNCATE is told of everybody at once; each tenant's rows come back as they were just before it."""
    one = followed(any_database, *DDL, tables=TABLES)
    with one.running() as running:
        one.execute("UPDATE note SET body = 'changed' WHERE person_id = 11 AND number = 1")
        number = xid(one, "TRUNCATE note")
        one.execute("INSERT INTO note VALUES (11, 2, 'written since')")
        running.caught_up()
    vault = one.vault()
    found = report(vault, "main", moment(vault, f"before:{number}"))
    told = {tenant.tenant.key: tenant.hard.to_json() for tenant in found.tenants if tenant.tenant.key not in RESERVED}
    assert told == {key: {"public.note": {"truncate": 1}} for key in "1234"}
    assert rows(found, vault, "tenant-1", "public.note") == [
        b"11\t1\tchanged",
        b"11\t2\tnote",
        b"12\t1\tnote",
        b"12\t2\tnote",
        b"13\t1\tnote",
        b"13\t2\tnote",
    ]
    assert len(rows(found, vault, "tenant-2", "public.note")) == 6


PARTS = (
    "CREATE TABLE account (id int PRIMARY KEY, name text NOT NULL)",
    """CREATE TABLE visit (account_id int NOT NULL REFERENCES account, year int NOT NULL, number int NOT NULL,
       PRIMARY KEY (account_id, year, number)) PARTITION BY LIST (year)""",
    "CREATE TABLE visit_1 PARTITION OF visit FOR VALUES IN (1)",
    "CREATE TABLE visit_2 PARTITION OF visit FOR VALUES IN (2)",
    "INSERT INTO account SELECT n, 'tenant-' || n FROM generate_series(1, 3) n",
)


def test_a_transaction_of_which_the_log_knows_only_that_it_was_is_a_moment(
    followed: Factory, any_database: str
) -> None:
    """One partition truncated, and nothing else: just before it everything was there, by its number and by the time."""
    one = followed(
        any_database, *PARTS, tables={"public.account": "owned by id", "public.visit": "owned by account_id"}
    )
    one.drain()
    one.execute("INSERT INTO visit SELECT a, y, 1 FROM generate_series(1, 3) a, generate_series(1, 2) y")
    ((between,),) = one.query("SELECT clock_timestamp()::text")
    emptied = xid(one, "TRUNCATE visit_1")
    one.drain()
    vault = one.vault()
    for name in (f"before:{emptied}", between):
        at = moment(vault, name)
        past = past_at(vault, "main", find_entry(vault, "main", "tenant-1", at), at)
        assert [row for table in past.tables.values() if table.name.name == "visit" for row in past.read(table)] == [
            b"1\t1\t1\n1\t2\t1\n"
        ]
    found = report(vault, "main", moment(vault, f"before:{emptied}"))
    assert not found.found
    assert "visit_1 was truncated" in found.gaps[0]
    assert report(vault, "main", moment(vault, between), xid=emptied).gaps == found.gaps


def test_a_time_after_the_last_commit_is_not_that_of_an_older_run(followed: Factory, any_database: str) -> None:
    """Nothing is committed after it, and the newest backup is later: the change before it is there all the same."""
    one = followed(any_database, *DDL, tables=TABLES)
    one.drain()
    one.execute("UPDATE person SET name = 'last' WHERE id = 11")
    one.drain()
    with LocalState(one.folder / "state") as state:
        backup(one.place(state))
    vault = one.vault()
    newest = moment(vault, "latest").timeline.epochs.newest
    assert newest is not None
    at = moment(vault, newest.as_of.isoformat())
    past = past_at(vault, "main", find_entry(vault, "main", "tenant-1", at), at)
    assert b"last" in b"".join(past.read(past.tables[TableName.parse("public.person")]))
