"""Teardown leaves the database as it was before setup, wherever it is taken up, and the application never worse off."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace

import psycopg
import pytest

from outlast.sources.postgres.following import FollowingSettings
from outlast.sources.postgres.following_facts import Names
from outlast.sources.postgres.following_steps import StepState
from tests.integration.postgres.conftest import run
from tests.integration.postgres.followed import TABLES, Followed, database, write
from tests.servers import Server


@pytest.fixture(params=["18", pytest.param("15", marks=pytest.mark.system)])
def any_server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue("server" if request.param == "18" else "debian_server")
    return server


def schema(server: Server, url: str) -> str:
    """The definition of everything in the database; newer pg_dump writes a random word into it."""
    dumped = server.run("pg_dump", "--schema-only", "-d", url).stdout
    return re.sub(r"^\\(un)?restrict .*$", "", dumped, flags=re.MULTILINE)


def slots(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"
        ).fetchall()
    return [str(row[0]) for row in rows]


def test_the_database_is_as_it_was(any_server: Server) -> None:
    """Definition for definition, after a setup with every kind of identity, a slot, and an interrupted teardown."""
    with any_server.new_database() as url:
        followed = database(url).wishing(keyless="full")
        before = schema(any_server, url)
        followed.set_up()
        run(url, "SELECT pg_create_logical_replication_slot('outlast_main', 'pgoutput')")
        assert schema(any_server, url) != before
        while (plan := followed.teardown_plan()).steps:
            results = followed.carry_out(replace(plan, steps=plan.steps[:1]))
            assert [result.state for result in results] == [StepState.DONE]
            write(url)
        assert schema(any_server, url) == before
        assert slots(url) == []
        followed.set_up()
        assert all(result.state is StepState.DONE for result in followed.carry_out(followed.teardown_plan()))
        assert schema(any_server, url) == before


def test_setup_may_be_run_again_in_the_middle_of_teardown(any_server: Server) -> None:
    """The application's writes hold at every step; then teardown still finds the way back."""
    with any_server.new_database() as url:
        followed = database(url)
        before = schema(any_server, url)
        followed.set_up()
        published = followed.published()
        for number in range(1, 4):
            plan = followed.teardown_plan()
            followed.carry_out(replace(plan, steps=plan.steps[:number]))
            while (again := followed.plan()).steps:
                followed.carry_out(replace(again, steps=again.steps[:1]))
                write(url)
            assert followed.published() == published
        followed.carry_out(followed.teardown_plan())
        assert schema(any_server, url) == before


def test_what_was_changed_since_is_left_alone(any_database: str) -> None:
    """An identity that a person chose after setup stays theirs; a table that is gone is named."""
    followed = database(any_database)
    followed.set_up()
    run(any_database, "ALTER TABLE by_index REPLICA IDENTITY FULL", "DROP TABLE nothing")
    plan = followed.teardown_plan()
    assert any("by_index" in remark and "left as it is" in remark for remark in plan.remarks)
    assert any("nothing" in remark and "gone" in remark for remark in plan.remarks)
    followed.carry_out(plan)
    assert followed.identity("by_index") == "f"
    assert followed.teardown_plan().is_empty


def test_another_source_of_the_same_database_keeps_its_events(any_database: str) -> None:
    """The event triggers go with the last one."""
    first = database(any_database)
    second = Followed(any_database, FollowingSettings("second", Names.of("second")))
    first.set_up()
    second.set_up()
    plan = first.teardown_plan()
    assert "schema events" not in {step.key for step in plan.steps}
    assert any("outlast_second" in remark for remark in plan.remarks)
    first.carry_out(plan)
    assert "no-schema-events" not in second.notices()
    assert second.published()
    second.carry_out(second.teardown_plan())
    with psycopg.connect(any_database) as connection:
        assert connection.execute("SELECT count(*) FROM pg_event_trigger").fetchone() == (0,)
        assert connection.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'outlast'").fetchone() == (0,)


def test_what_another_vault_follows_is_left_alone(any_database: str) -> None:
    """A second host with a vault of its own and the same slot neither sets up, tears down nor follows."""
    first = database(any_database)
    first = replace(first, settings=replace(first.settings, vault="one"))
    second = replace(first, settings=replace(first.settings, vault="two"))
    first.set_up()
    assert first.plan().is_empty
    for plan in (second.plan(), second.teardown_plan()):
        assert [refusal.code for refusal in plan.refusals] == ["another-vault"]
    first.carry_out(first.teardown_plan())
    second.set_up()
    assert second.plan().is_empty


def test_the_schema_of_the_halting_function_stays(any_database: str) -> None:
    """What setup did not make, it does not take."""
    run(any_database, "CREATE SCHEMA outlast", "CREATE FUNCTION outlast.halt() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    followed = database(any_database)
    followed.set_up()
    followed.carry_out(followed.teardown_plan())
    with psycopg.connect(any_database) as connection:
        assert connection.execute("SELECT outlast.halt()").fetchone() == (1,)
        assert connection.execute("SELECT count(*) FROM pg_event_trigger").fetchone() == (0,)


def test_teardown_is_refused_while_somebody_follows(any_database: str) -> None:
    """Taking the publications from under it would end it with an error; the slot cannot be dropped either."""
    followed = database(any_database)
    followed.set_up()
    run(any_database, "SELECT pg_create_logical_replication_slot('outlast_main', 'pgoutput')")
    with closing(psycopg.connect(any_database, replication="database", autocommit=True)) as reader:
        reader.pgconn.send_query(
            b"START_REPLICATION SLOT outlast_main LOGICAL 0/0 (proto_version '2', publication_names 'outlast_main')"
        )
        while reader.pgconn.is_busy():
            reader.pgconn.consume_input()
        assert [refusal.code for refusal in followed.teardown_plan().refusals] == ["following"]
    _await_the_end_of_the_reader(any_database)
    assert not followed.teardown_plan().refusals


def _await_the_end_of_the_reader(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(
            "SELECT active FROM pg_replication_slots WHERE slot_name = 'outlast_main'"
        ).fetchone() == (True,):
            connection.execute("SELECT pg_sleep(0.01)")


def test_teardown_of_what_was_never_set_up_has_nothing_to_do(any_database: str) -> None:
    """And a publication of that name which is not ours stays."""
    run(any_database, *TABLES, "CREATE PUBLICATION outlast_main FOR TABLE items")
    plan = Followed(any_database).teardown_plan()
    assert plan.is_empty
    assert any("did not make it" in remark for remark in plan.remarks)
