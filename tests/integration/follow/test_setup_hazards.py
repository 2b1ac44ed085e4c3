"""What setup could not make sure of, or somebody undid, while a follower runs: told, and never a wrong state."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest

from outlast.core.errors import Refused
from outlast.restore.history import past_at, resolve
from tests.integration.follow.conftest import Factory, Followed, Running, wait_until
from tests.integration.follow.truth import Truth, compared, stored
from tests.servers import Server

SCHEMA = """
CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL);
CREATE TABLE task (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, n int,
  twice int GENERATED ALWAYS AS (n * 2) STORED);
CREATE TABLE keyless (account_id bigint NOT NULL REFERENCES account, n int);
CREATE UNLOGGED TABLE quick (id bigint PRIMARY KEY, account_id bigint NOT NULL, n int);
INSERT INTO account VALUES (1, 'acme'), (2, 'globex');
INSERT INTO task SELECT i, 1 + i % 2, i FROM generate_series(1, 10) i;
INSERT INTO keyless SELECT 1 + i % 2, i FROM generate_series(1, 4) i;
INSERT INTO quick SELECT i, 1 + i % 2, i FROM generate_series(1, 4) i;
"""
OWNERS = {
    "public.account": "t.id",
    "public.task": "t.account_id",
    "public.keyless": "t.account_id",
    "public.quick": "t.account_id",
}


@pytest.fixture(params=["18", pytest.param("15", marks=pytest.mark.system)])
def any_server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue("server" if request.param == "18" else "debian_server")
    return server


def notes(one: Followed, at: str, tenant: str = "1") -> tuple[str, ...]:
    vault = one.vault()
    moment = resolve(vault, "main", at)
    entry = vault.find_tenant("main", tenant, None)
    return past_at(vault, "main", entry, moment).notes


def test_another_vaults_slot_is_left_alone(server: Server, followed: Factory) -> None:
    """A second host with a vault of its own and the same slot is refused, and the first one's log has no gap."""
    with server.new_database() as url:
        first = followed(url, SCHEMA, setup=False)
        first.vault_id = "one"
        first.set_up()
        epoch = first.drain().epoch
        first.execute("UPDATE task SET n = n + 1")
        slots = "SELECT slot_name, confirmed_flush_lsn FROM pg_replication_slots ORDER BY 1"
        before = first.query(slots)
        second = followed(url, "SELECT 1", setup=False)
        second.vault_id, second.names = "two", first.names
        with pytest.raises(Refused, match="belong to the vault one") as refused:
            second.drain()
        assert refused.value.code == "another-vault"
        assert first.query(slots) == before
        assert first.drain().epoch == epoch


def test_generated_columns_and_tables_that_are_not_published_whole(any_server: Server, followed: Factory) -> None:
    """What is published is exact; of the rest every moment says which changes it lacks."""
    with any_server.new_database() as url:
        one = followed(url, SCHEMA)
        truth = Truth(url, OWNERS)
        with one.running() as running:
            one.execute(
                "UPDATE task SET n = n + 1",
                "DELETE FROM task WHERE id = 3",
                "INSERT INTO task VALUES (11, 1, 7)",
                "INSERT INTO keyless VALUES (1, 9)",
                "UPDATE keyless SET n = 0",
                "DELETE FROM quick",
            )
            lsn = truth.note()
            running.caught_up()
        state = truth.moments[0][1]
        found = stored(one.vault(), str(lsn))
        for tenant in ("1", "2"):
            assert found[tenant]["public.task"] == state[tenant]["public.task"]
            told = " ".join(notes(one, str(lsn), tenant))
            assert "public.keyless" in told
            assert "public.quick" in told
            assert "public.task" not in told


def test_a_table_that_is_taken_out_of_the_publication(any_server: Server, followed: Factory) -> None:
    """Told at once; moments between are refused or marked, never wrong; after setup was run again all is exact."""
    with any_server.new_database() as url:
        one = followed(url, SCHEMA)
        truth = Truth(url, {"public.account": "t.id", "public.task": "t.account_id"})
        with one.running() as running:
            one.execute("UPDATE task SET n = 100 WHERE id = 1")
            before = truth.note()
            one.execute(f"ALTER PUBLICATION {one.names.publication} DROP TABLE task")
            one.execute("UPDATE task SET n = 200 WHERE id = 1")
            between = one.position()
            running.caught_up()
            assert any("public.task" in text for text in running.follower.watch.ever)
            one.set_up()
            running.caught_up()
            one.execute("UPDATE task SET n = 300 WHERE id = 1", "DELETE FROM task WHERE id = 2")
            after = truth.note()
            running.caught_up()
        assert _tasks(one, str(before)) == _tasks_of(truth, 0)
        assert _tasks(one, str(after)) == _tasks_of(truth, 1)
        _is_not_passed_off(one, str(between))


def test_a_migration_that_takes_the_primary_key(any_server: Server, followed: Factory) -> None:
    """The application goes on, the log says that it lacks updates, and after setup was run again all is exact."""
    with any_server.new_database() as url:
        one = followed(url, SCHEMA)
        truth = Truth(url, {"public.account": "t.id", "public.task": "t.account_id"})
        with one.running() as running:
            one.execute("ALTER TABLE task DROP CONSTRAINT task_pkey", "UPDATE task SET n = 200 WHERE id = 1")
            between = one.position()
            running.caught_up()
            one.execute("ALTER TABLE task ADD PRIMARY KEY (id)")
            one.set_up()
            running.caught_up()
            one.execute("UPDATE task SET n = 300 WHERE id = 1", "DELETE FROM task WHERE id = 2")
            after = truth.note()
            running.caught_up()
        assert _tasks(one, str(after)) == _tasks_of(truth, 0)
        _is_not_passed_off(one, str(between))


def test_a_new_partition_of_a_table_that_is_published_leaf_by_leaf(any_server: Server, followed: Factory) -> None:
    """Only its inserts are in the stream: told at once, and no moment is passed off. After setup was run again all is
    exact."""
    leaves = """
    CREATE TABLE account (id bigint PRIMARY KEY, name text UNIQUE NOT NULL);
    CREATE TABLE event (id bigint NOT NULL, at int NOT NULL, account_id bigint NOT NULL REFERENCES account, body text,
      UNIQUE (id, at)) PARTITION BY RANGE (at);
    CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (10);
    ALTER TABLE event_1 REPLICA IDENTITY USING INDEX event_1_id_at_key;
    INSERT INTO account VALUES (1, 'acme'), (2, 'globex');
    INSERT INTO event SELECT n, n, 1 + n % 2, 'old' FROM generate_series(1, 9) n;
    """
    with any_server.new_database() as url:
        one = followed(url, leaves)
        truth = Truth(url, {"public.account": "t.id", "public.event": "t.account_id"})
        with one.running() as running:
            truth.note()
            one.execute("CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM (10) TO (20)")
            one.execute(
                "INSERT INTO event VALUES (11, 11, 1, 'new')", "UPDATE event SET body = 'changed' WHERE id = 11"
            )
            between = one.position()
            running.caught_up()
            assert any("public.event" in text for text in running.follower.watch.ever)
            _is_not_passed_off(one, str(between), "public.event")
            one.execute(
                "UPDATE event SET body = 'unseen' WHERE id = 11", "UPDATE account SET name = 'more' WHERE id = 1"
            )
            between = one.position()
            running.caught_up()
            _is_not_passed_off(one, str(between), "public.event")
            one.set_up()
            running.caught_up()
            one.execute("UPDATE event SET body = 'later' WHERE id IN (3, 11)", "DELETE FROM event WHERE id = 4")
            truth.note()
            running.caught_up()
        compared(one.vault(), truth)


def test_a_new_table_is_told_at_once_and_kept_once_it_is_published(
    any_server: Server, followed: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner is clear, only its publication is missing: an alarm until setup was run again, and exact after."""
    monkeypatch.setattr("outlast.capture.follow.VERIFY_S", 1.0)
    with any_server.new_database() as url:
        one = followed(url, SCHEMA)
        with one.running() as running:
            one.execute(
                "CREATE TABLE bill (id bigint PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, sum int)",
                "INSERT INTO bill VALUES (1, 1, 10), (2, 2, 20)",
            )
            running.caught_up()
            assert any("public.bill" in text for text in running.follower.watch.ever)
            _is_not_passed_off(one, str(one.position()), "public.bill")
            wait_until(lambda: _alarmed(running, "public.bill is not in"), "the alarm")
            one.set_up()
            running.caught_up()
            wait_until(lambda: not _alarmed(running, "public.bill is not in"), "the end of the alarm")
            one.execute("UPDATE bill SET sum = 11 WHERE id = 1", "INSERT INTO bill VALUES (3, 1, 30)")
            after = one.position()
            running.caught_up()
        found = stored(one.vault(), str(after))
        assert sorted(found["1"]["public.bill"]) == [b"1\t1\t11", b"3\t1\t30"]
        assert sorted(found["2"]["public.bill"]) == [b"2\t2\t20"]


def test_a_new_table_that_nobody_classified_is_named_until_somebody_does(
    any_server: Server, followed: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is never passed over, all else goes on into the vault, and once settings say what it is all is exact."""
    monkeypatch.setattr("outlast.capture.follow.VERIFY_S", 1.0)
    with any_server.new_database() as url:
        one = followed(url, SCHEMA)
        with one.running() as running:
            one.execute("CREATE TABLE loose (id int PRIMARY KEY, n int)", "INSERT INTO loose VALUES (1, 1)")
            wait_until(lambda: _alarmed(running, "public.loose is not classified"), "the alarm")
            one.execute("UPDATE task SET n = 100 WHERE id = 1")
            between = one.position()
            running.flushed()
            assert _alarmed(running, "public.loose is not classified"), running.follower.watch.alarms
            _is_not_passed_off(one, str(between), "public.loose")
        owned = {name: f"owned by {column.removeprefix('t.')}" for name, column in OWNERS.items()}
        one.settings = replace(one.settings, tables={**owned, "public.loose": "shared"})
        one.set_up()
        with one.running() as running:
            running.caught_up()
            one.execute("UPDATE loose SET n = 2")
            after = one.position()
            running.caught_up()
            assert not running.follower.watch.alarms
        assert stored(one.vault(), str(after))["@shared"]["public.loose"] == [b"1\t2"]
        assert b"1\t2\t100" in _tasks(one, str(after))["2"]


def _alarmed(running: Running, text: str) -> bool:
    return any(text in alarm for alarm in running.follower.watch.alarms)


def _tasks(one: Followed, at: str) -> dict[str, list[bytes]]:
    return {tenant: tables["public.task"] for tenant, tables in stored(one.vault(), at).items() if tenant in ("1", "2")}


def _tasks_of(truth: Truth, number: int) -> dict[str, list[bytes]]:
    return {tenant: tables["public.task"] for tenant, tables in truth.moments[number][1].items()}


def _is_not_passed_off(one: Followed, at: str, table: str = "public.task") -> None:
    """A moment of which something is not known is refused, or says so."""
    try:
        told = notes(one, at)
    except Refused:
        return
    assert table in " ".join(told)


def test_large_objects_stop_a_follower_before_it_begins(any_server: Server, followed: Factory) -> None:
    """They belong to no table and so to no tenant."""
    with any_server.new_database() as url:
        one = followed(url, SCHEMA)
        one.execute("SELECT lo_create(0)")
        with pytest.raises(Refused, match="large objects"):
            one.drain()


def test_a_change_that_was_found_by_looking_leaves_no_moment_of_which_it_is_not_told(
    any_server: Server, followed: Factory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without event triggers: from the look before on, moments are refused, until the table was read again."""
    monkeypatch.setattr("outlast.capture.follow.VERIFY_S", 1.0)
    with any_server.new_database() as url:
        one = followed(url, SCHEMA)
        one.execute(*(f"DROP EVENT TRIGGER outlast_schema_{name}" for name in ("changed", "dropped", "rewritten")))
        truth = Truth(url, {"public.account": "t.id", "public.task": "t.account_id"})
        with one.running() as running:
            figures = running.follower.watch.figures
            running.caught_up()
            one.execute(
                "ALTER TABLE task ADD COLUMN r float8 DEFAULT random()", "UPDATE account SET name = name || 'x'"
            )
            between = truth.note()
            wait_until(lambda: figures.mended, "the look at the catalog")
            running.caught_up()
            one.execute("UPDATE task SET n = 60 WHERE id = 1")
            after = truth.note()
            running.caught_up()
        with suppress(Refused):  # or it was read again before this moment already: then it is exact
            assert _tasks(one, str(between)) == _tasks_of(truth, 0)
        assert _tasks(one, str(after)) == _tasks_of(truth, 1)
