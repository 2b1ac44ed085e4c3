"""A second backup reads what changed, and misses nothing that did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from outlast.capture.backup import BackupOptions
from outlast.core.errors import NotFoundError, Refused
from outlast.sources.postgres.catalog import OwnershipSettings
from outlast.vault.retention import execute, plan_erase
from tests.integration.capture.conftest import Shop

TASKS_OF = "SELECT t.* FROM task t JOIN project p ON p.id = t.project_id WHERE p.account_id = {} ORDER BY t.id"


def all_as_live(shop: Shop) -> None:
    for tenant in range(1, 7):
        assert shop.rows(str(tenant), "public.task") == shop.live(TASKS_OF.format(tenant))
        projects = f"SELECT * FROM project WHERE account_id = {tenant} ORDER BY id"
        assert shop.rows(str(tenant), "public.project") == shop.live(projects)
        assert shop.rows(str(tenant), "public.account") == shop.live(f"SELECT * FROM account WHERE id = {tenant}")
    assert shop.rows("@shared", "public.plan") == shop.live("SELECT * FROM plan ORDER BY id")


def test_an_unchanged_database_is_neither_read_nor_written(shop: Shop) -> None:
    """The second run costs one object, the run record, and reads no row."""
    first = shop.back_up()
    assert (first.tenants, first.rows_read) == (6, first.rows)
    second = shop.back_up()
    assert (second.rows_read, second.written, second.objects) == (0, 0, 1)
    all_as_live(shop)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE task SET body = 'x' WHERE id = 7",
        "DELETE FROM task WHERE id = 7",
        "INSERT INTO task VALUES (9999, 3, 'new')",
        "UPDATE project SET account_id = 2 WHERE id = 3",  # takes its tasks along, which do not change themselves
        "UPDATE project SET account_id = CASE account_id WHEN 1 THEN 2 ELSE 1 END WHERE account_id IN (1, 2)",
        "UPDATE task SET project_id = NULL WHERE id = 7",
        "BEGIN; UPDATE task SET body = 'x' WHERE id = 7; UPDATE task SET body = 'y' WHERE id = 7; COMMIT",
        "ALTER TYPE mood RENAME VALUE 'ok' TO 'fine'",  # rewrites no row, and changes the text of all
        "ALTER TABLE task ADD COLUMN done boolean NOT NULL DEFAULT false",  # rewrites no row either
        "ALTER TABLE task ADD COLUMN note text",
        "ALTER TABLE task DROP COLUMN body",
        "ALTER TABLE task ALTER COLUMN body TYPE varchar(100) USING left(body, 50)",
        "ALTER TABLE task RENAME COLUMN body TO text",
        "VACUUM FULL task",
        "CLUSTER task USING task_pkey",
        "TRUNCATE task",
        "DELETE FROM task; DELETE FROM project; DELETE FROM account WHERE id = 4",
        "UPDATE plan SET name = 'gratis' WHERE id = 1",
        "DELETE FROM task WHERE id = 7; INSERT INTO task SELECT 7, 8, repeat(md5('7'), 20)",  # back as it was
    ],
)
def test_every_kind_of_change_is_seen(shop: Shop, change: str) -> None:
    """After any change the vault's newest run is what the database holds, and an unchanged third run costs nothing."""
    shop.back_up()
    shop.execute(change)
    shop.back_up()
    all_as_live(shop)
    assert shop.back_up().rows_read == 0


def test_what_was_under_way_at_the_first_backup_is_seen_by_the_second(shop: Shop) -> None:
    """A transaction, and a part of one that has a number of its own, that commits after the snapshot is a change."""
    with psycopg.connect(shop.url) as connection:
        connection.execute("UPDATE task SET body = 'x' WHERE id = 7")
        with connection.transaction():
            connection.execute("UPDATE task SET body = 'y' WHERE id = 8")
        shop.execute("UPDATE task SET body = 'z' WHERE id = 9")
        shop.back_up()
    second = shop.back_up()
    assert second.written == 2
    all_as_live(shop)
    assert shop.back_up().rows_read == 0


def test_a_row_that_loses_its_tenant_while_another_finds_one_is_seen(shop: Shop) -> None:
    """As many rows without a tenant as before, and none of them written since, are not the same rows."""
    shop.execute("SET session_replication_role = replica; DELETE FROM project WHERE id = 3")
    shop.back_up()
    shop.execute(
        "SET session_replication_role = replica; DELETE FROM project WHERE id = 5;"
        "INSERT INTO project VALUES (3, 4, 'back', 'ok')"
    )
    shop.back_up()
    all_as_live(shop)
    orphans = "SELECT t.* FROM task t WHERE NOT EXISTS (SELECT FROM project p WHERE p.id = t.project_id) ORDER BY id"
    assert shop.rows("@orphan", "public.task") == shop.live(orphans)


def test_a_row_without_a_tenant_is_kept_as_an_orphan_and_counted(shop: Shop) -> None:
    """A broken path neither loses the row nor gives it to somebody."""
    shop.execute("UPDATE task SET project_id = NULL WHERE id <= 10")
    result = shop.back_up()
    assert result.orphan_rows == 10
    orphans = "SELECT * FROM task WHERE project_id IS NULL ORDER BY id"
    assert shop.rows("@orphan", "public.task") == shop.live(orphans)


def test_a_change_of_one_tenant_writes_one_pack(shop: Shop) -> None:
    """Other tenants' objects are left alone."""
    shop.back_up()
    before = {one.path for one in shop.store.list()}
    shop.execute("UPDATE task SET body = 'x' WHERE id = 7")
    result = shop.back_up()
    added = {one.path for one in shop.store.list()} - before
    assert (result.written, len(added)) == (1, 2)


def test_a_rewritten_table_of_equal_rows_writes_nothing(shop: Shop) -> None:
    """VACUUM FULL makes every row be read again, and found to be in the vault already."""
    shop.back_up()
    shop.execute("VACUUM FULL task")
    result = shop.back_up()
    assert (result.rows_read, result.written) == (3000, 0)


def test_full_reads_everything_and_still_writes_only_what_changed(shop: Shop) -> None:
    """`--full` trusts no fingerprint."""
    first = shop.back_up()
    again = shop.back_up(BackupOptions(full=True))
    assert (again.rows_read, again.written) == (first.rows, 0)


def test_a_new_label_costs_the_tenants_own_pack_and_is_known_at_once(shop: Shop) -> None:
    """A renamed tenant is found by its new name; its old moments stay."""
    shop.back_up()
    shop.execute("UPDATE account SET name = 'acme' WHERE id = 3")
    shop.back_up()
    assert shop.vault().find_tenant("main", "acme").tenant.key == "3"


def test_a_tenant_that_is_gone_has_no_rows_at_the_newest_run_and_all_of_them_before(shop: Shop) -> None:
    """Deletion is recorded, not followed: the older run still has everything."""
    shop.back_up()
    expected = shop.rows("4", "public.task")
    shop.execute(
        "DELETE FROM task USING project p WHERE p.id = project_id AND p.account_id = 4;"
        "DELETE FROM project WHERE account_id = 4; DELETE FROM account WHERE id = 4"
    )
    shop.back_up()
    vault = shop.vault()
    gone = vault.find_tenant("main", "tenant-4")
    assert vault.manifest("main", gone).rows == 0
    before = vault.find_tenant("main", "tenant-4", 1)
    table = vault.manifest("main", before).tables["public.task"]
    assert b"".join(data for _, data in vault.chunks("main", before, table)).splitlines() == expected


def test_one_tenant_can_be_backed_up_alone(shop: Shop) -> None:
    """`--tenant` reads that tenant, and the run says that it looked at no other."""
    shop.back_up()
    shop.execute("UPDATE task SET body = 'x' WHERE id <= 60")
    result = shop.back_up(BackupOptions(tenants=("tenant-1",)))
    assert result.written == 1
    record = shop.vault().resolve("main")
    assert record.scope is not None
    assert shop.keys.prefix("main", shop.vault().find_tenant("main", "1").tenant.key) in record.scope
    assert shop.rows("1", "public.task") == shop.live(TASKS_OF.format(1))
    shop.back_up()
    all_as_live(shop)


def test_an_unknown_tenant_is_named_with_what_is_close(shop: Shop) -> None:
    with pytest.raises(NotFoundError, match="tenant-9") as caught:
        shop.back_up(BackupOptions(tenants=("tenant-9",)))
    assert "tenant-" in str(caught.value.hint)


def test_a_table_that_is_not_classified_stops_the_backup(shop: Shop) -> None:
    """A table that appeared after init is never silently left out."""
    shop.settings = OwnershipSettings(
        "account",
        "name",
        {
            "public.account": "owned by id",
            "public.plan": "shared",
            "public.project": "owned by account_id",
            "public.task": "owned through project_id",
        },
    )
    shop.back_up()
    shop.execute("CREATE TABLE invoice (id int PRIMARY KEY, account_id bigint REFERENCES account)")
    with pytest.raises(Refused, match="invoice"):
        shop.back_up()
    assert shop.vault().index("main").run == 1


def test_worker_processes_give_the_same_vault_as_one_process(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several connections read one snapshot; every tenant's root is what a single process finds."""
    monkeypatch.setattr("outlast.capture.backup.PARALLEL_BYTES_MIN", 0)
    shop.back_up(BackupOptions(jobs=3))
    all_as_live(shop)
    monkeypatch.undo()
    assert shop.back_up(BackupOptions(jobs=1, full=True)).written == 0


def test_rows_without_a_tenant_come_once_whatever_the_number_of_workers(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read after everybody's, kept as they were where nothing changed, and gone from the vault when they are
    gone from the database."""
    monkeypatch.setattr("outlast.capture.backup.PARALLEL_BYTES_MIN", 0)
    shop.execute("UPDATE task SET project_id = NULL WHERE id <= 10")
    result = shop.back_up(BackupOptions(jobs=3))
    assert (result.orphan_rows, result.rows, result.rows_read) == (10, 3068, 3068)
    assert shop.rows("@orphan", "public.task") == shop.live("SELECT * FROM task WHERE project_id IS NULL ORDER BY id")
    assert shop.back_up(BackupOptions(jobs=3, full=True)).written == 0
    shop.execute("UPDATE task SET project_id = 1 WHERE project_id IS NULL")
    assert shop.back_up(BackupOptions(jobs=3, full=True)).orphan_rows == 0
    assert shop.rows("@orphan", "public.task") == []
    all_as_live(shop)


def test_a_foreign_key_is_followed_by_its_own_operator(shop: Shop) -> None:
    """Keys that are equal without being the same text (citext) lead to the tenant, not to the orphans."""
    shop.execute(
        "CREATE EXTENSION citext;"
        "CREATE TABLE site (host citext PRIMARY KEY, account_id bigint NOT NULL REFERENCES account);"
        "CREATE TABLE page (id int PRIMARY KEY, host citext NOT NULL REFERENCES site);"
        "INSERT INTO site VALUES ('Example.org', 2); INSERT INTO page VALUES (1, 'EXAMPLE.ORG')"
    )
    assert shop.back_up().orphan_rows == 0
    assert shop.rows("2", "public.page") == [b"1\tEXAMPLE.ORG"]


def test_an_erased_tenant_that_is_still_in_the_database_gets_a_new_key(shop: Shop) -> None:
    """Nothing new is sealed to a destroyed key, and nothing old is pointed to: the next backup starts afresh for it."""
    shop.back_up()
    vault = shop.vault()
    entry = vault.find_tenant("main", "tenant-3")
    now = datetime.now(UTC)
    for moment in (now, now + timedelta(days=30)):
        plan = plan_erase(vault, "main", entry, now=moment, grace=timedelta(days=7))
        execute(vault, plan, shop.keys.signer)
    result = shop.back_up()
    again = shop.vault().find_tenant("main", "tenant-3")
    assert again.recipient != entry.recipient
    assert (result.written, result.rows_read) == (1, 1 + 10 + 500)
    all_as_live(shop)


def test_an_erased_tenant_that_is_gone_from_the_database_stays_gone(shop: Shop) -> None:
    """Its name is in no later run record, full ones included."""
    shop.back_up()
    vault = shop.vault()
    entry = vault.find_tenant("main", "tenant-3")
    now = datetime.now(UTC)
    for moment in (now, now + timedelta(days=30)):
        execute(vault, plan_erase(vault, "main", entry, now=moment, grace=timedelta(days=7)), shop.keys.signer)
    shop.execute(
        "DELETE FROM task USING project p WHERE p.id = project_id AND p.account_id = 3;"
        "DELETE FROM project WHERE account_id = 3; DELETE FROM account WHERE id = 3;"
        "UPDATE project SET title = 'all of them'"
    )
    shop.back_up()
    with pytest.raises(NotFoundError):
        shop.vault().find_tenant("main", "tenant-3")
    record = shop.vault().resolve("main")
    assert record.full
    assert entry.prefix not in record.heads
