"""Setting following up on a real server: what is made, that the application never notices, that it can be resumed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from outlast.core.errors import Refused
from outlast.sources.postgres import setup
from outlast.sources.postgres.following import plan_setup
from outlast.sources.postgres.following_facts import Names
from outlast.sources.postgres.following_plan import script
from outlast.sources.postgres.following_steps import StepState
from outlast.sources.postgres.setup import adopt_new_partitions, set_up
from tests.integration.postgres.conftest import look, run
from tests.integration.postgres.followed import AT_ONCE, WRITTEN, Followed, database, write
from tests.servers import Server

WHOLE = {
    "accounts",
    "items",
    "by_index",
    "nothing",
    'Odd "name',
    "computed",
    "events_1",
    "events_2",
    "coded_1",
    "parent",
    "child",
}
PARTIAL = {"keyless", "late", "loose_1", "coded_1"}


def test_every_table_is_published_as_far_as_its_identity_allows(any_database: str) -> None:
    """Leaves by their root's primary key, or one by one where only a unique index holds. A second setup has no step."""
    followed = database(any_database)
    plan = followed.plan()
    assert all(result.state is StepState.DONE for result in followed.carry_out(plan))
    assert followed.published() == WHOLE
    assert followed.published(partial=True) == PARTIAL
    identities = {table: followed.identity(table) for table in ("by_index", "nothing", "keyless", "late", "coded_1")}
    assert identities == {"by_index": "i", "nothing": "d", "keyless": "d", "late": "d", "coded_1": "i"}
    assert {one.table.partition(" ")[0] for one in plan.unprotected} == {
        "public.keyless",
        "public.late",
        "public.loose",
        "public.quick",
    }
    assert followed.plan().is_empty
    assert {notice.code for notice in followed.notices().values()} == {"slot-missing", "not-followed"}


def test_the_application_goes_on_after_every_single_step(any_database: str) -> None:
    """Also where setup ended after any of its steps: nothing that it writes fails, and the rest is made later."""
    followed = database(any_database)
    steps = len(followed.plan().steps)
    for _ in range(steps):
        plan = followed.plan()
        followed.carry_out(replace(plan, steps=plan.steps[:1]))
        write(followed.url)
    assert followed.plan().is_empty
    assert followed.published() == WHOLE


def test_inserts_and_truncates_of_a_table_without_a_key_reach_the_log(any_database: str) -> None:
    """Its updates and deletes go through for the application, and do not reach it."""
    followed = database(any_database)
    followed.set_up()
    run(any_database, "INSERT INTO accounts VALUES (1)")
    with followed.listening() as log:
        run(
            any_database,
            "INSERT INTO keyless VALUES (1, 1)",
            "UPDATE keyless SET n = 2",
            "DELETE FROM keyless",
            "TRUNCATE keyless",
            "INSERT INTO events VALUES (1, 1), (101, 1)",
            "DELETE FROM events WHERE id = 1",
            "TRUNCATE events_2",
        )
        assert log.kinds() == "ITIIDT"


def test_a_partition_that_comes_later_is_followed_from_its_first_row(any_database: str) -> None:
    """Its root is named where a primary key makes sure of every partition; nobody has to do anything."""
    followed = database(any_database)
    followed.set_up()
    with followed.listening() as log:
        run(
            any_database,
            "CREATE TABLE events_3 PARTITION OF events FOR VALUES FROM (200) TO (300)",
            "INSERT INTO events VALUES (250, 1)",
            "UPDATE events SET n = 1",
            "DELETE FROM events",
        )
        assert log.kinds() == "IUD"
    assert followed.plan().is_empty


def test_a_partition_whose_identity_is_not_sure_is_named_and_added(any_database: str) -> None:
    """Its inserts are captured at once; the rest is loud until setup is run again. The application is not hurt."""
    followed = database(any_database)
    followed.set_up()
    run(any_database, "CREATE TABLE coded_2 PARTITION OF coded FOR VALUES FROM (100) TO (200)")
    run(any_database, "INSERT INTO coded VALUES (150, 1)", "UPDATE coded SET n = 1", "DELETE FROM coded")
    assert "coded_2" in str(followed.notices()["unpublished"].message)
    run(any_database, "CREATE TABLE late_comer (id int PRIMARY KEY, account_id bigint NOT NULL)")
    with followed.session() as session:
        results = adopt_new_partitions(session, followed.catalog, followed.settings)
        assert {result.step.key for result in results} == {"memory outlast_main", "identity public.coded_2"}
        assert adopt_new_partitions(session, followed.catalog, followed.settings) == ()
    assert "coded_2" in followed.published()
    assert "late_comer" in str(followed.notices()["unpublished"].message)
    followed.set_up()
    assert "late_comer" in followed.published()
    write(any_database)
    assert "unpublished" not in followed.notices()


def test_full_identity_is_taken_where_it_is_asked_for(any_database: str) -> None:
    """A table without a key is then published whole; the plan says what it costs."""
    followed = database(any_database).wishing(keyless="full", loose="full", items="partial")
    plan = followed.plan()
    step = next(step for step in plan.steps if step.key == "identity public.keyless")
    assert "whole old row" in step.cost
    assert "ACCESS EXCLUSIVE" in step.locks
    followed.carry_out(plan)
    assert {"keyless", "loose_1"} <= followed.published()
    assert "items" not in followed.published()
    write(any_database)


def test_full_identity_with_generated_columns_is_refused(any_database: str) -> None:
    """On PostgreSQL 18 every UPDATE of it would fail."""
    followed = database(any_database).wishing(computed="full")
    plan = followed.plan()
    assert [refusal.code for refusal in plan.refusals] == ["full-generated"]
    with followed.session() as session, pytest.raises(Refused, match="computed"):
        set_up(session, followed.catalog, followed.settings)


def test_tables_with_generated_columns_can_be_written(server: Server) -> None:
    """Stored and virtual, with every identity that stood before: on 18 some of them would fail if published."""
    with server.new_database() as url:
        followed = database(
            url,
            """CREATE TABLE unreal (id int PRIMARY KEY, account_id bigint NOT NULL, n int,
               twice int GENERATED ALWAYS AS (n * 2) VIRTUAL)""",
            "CREATE TABLE unreal_full (LIKE unreal INCLUDING ALL)",
            "ALTER TABLE unreal_full REPLICA IDENTITY FULL",
            """CREATE TABLE key_made (n int, account_id bigint NOT NULL,
               id int GENERATED ALWAYS AS (n * 2) STORED PRIMARY KEY)""",
            "CREATE TABLE full_keyless (account_id bigint NOT NULL, n int, m int GENERATED ALWAYS AS (n * 2) STORED)",
            "ALTER TABLE full_keyless REPLICA IDENTITY FULL",
        )
        followed.set_up()
        write(url, ("computed", "unreal", "unreal_full"))
        run(url, "INSERT INTO key_made VALUES (1, 1)", "UPDATE key_made SET n = 2", "DELETE FROM key_made")
        run(url, "INSERT INTO full_keyless VALUES (1, 1)", "UPDATE full_keyless SET n = 2", "DELETE FROM full_keyless")
        assert {"unreal", "unreal_full"} <= followed.published()
        assert {"key_made", "full_keyless"} <= followed.published(partial=True)


def test_what_is_ignored_is_not_published(any_database: str) -> None:
    """An inheritance child is a table of its own; and a table that is ignored later is taken out."""
    followed = database(any_database)
    followed.set_up()
    classified = {
        str(table.name): "owned by id" if table.name.name == "accounts" else "owned by account_id"
        for table in followed.catalog.tables
    }
    followed = replace(followed, classified=classified | {"public.child": "ignored"})
    steps = followed.plan().steps
    assert [step.key for step in steps] == ["drop from outlast_main"]
    followed.set_up()
    assert "child" not in followed.published()
    assert "parent" in followed.published()


def test_a_reader_in_the_way_makes_setup_give_up_that_step_and_go_on(any_database: str) -> None:
    """Its lock is asked for a bounded time; nothing of that step is done, the others are, the next run has the rest."""
    followed = database(any_database)
    with psycopg.connect(any_database) as reader:
        reader.execute("SELECT * FROM by_index")
        results = followed.set_up()
        busy = [result for result in results if result.state is StepState.BUSY]
        assert [result.step.key for result in busy] == ["identity public.by_index"]
        assert "lock" in str(busy[0].error)
        assert followed.identity("by_index") == "d"
        assert "by_index" not in followed.published()
        write(any_database, tuple(table for table in WRITTEN if table != "by_index"))
    assert [step.key for step in followed.plan().steps] == ["identity public.by_index"]
    followed.set_up()
    assert followed.published() == WHOLE


def test_a_transaction_that_the_first_follow_would_wait_for_is_named(
    any_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it is old, with what ends the first of them; not any more once it has ended."""
    followed = database(any_database)
    monkeypatch.setattr(setup, "OLD_S", 0.0)
    with psycopg.connect(any_database) as blocker:
        blocker.execute("INSERT INTO accounts VALUES (1000, 'not yet')")
        (waits,) = (remark for remark in followed.plan().remarks if "will wait" in remark)
        who = f"process {blocker.info.backend_pid} of postgres"  # autovacuum may be among them, too
        assert who in waits
        assert "To end it: SELECT pg_terminate_backend(" in waits
        blocker.rollback()
        assert not [remark for remark in followed.plan().remarks if who in remark]


@pytest.fixture
def owners(any_database: str) -> Iterator[Followed]:
    """Tables of two owners, neither a superuser."""
    followed = database(any_database, "CREATE ROLE owner_a LOGIN", "CREATE ROLE owner_b LOGIN")
    name = psycopg.conninfo.conninfo_to_dict(any_database)["dbname"]
    run(any_database, f'GRANT CREATE ON DATABASE "{name}" TO owner_a')
    tables = [table.name.name.replace('"', '""') for table in followed.catalog.tables]
    run(any_database, *(f'ALTER TABLE "{table}" OWNER TO owner_a' for table in tables))
    run(any_database, "ALTER TABLE events_1 OWNER TO owner_a", "ALTER TABLE events_2 OWNER TO owner_a")
    run(any_database, "ALTER TABLE loose_1 OWNER TO owner_a", "ALTER TABLE coded_1 OWNER TO owner_a")
    try:
        yield followed
    finally:
        for role in ("owner_a", "owner_b"):
            run(any_database, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")


def test_the_tables_owner_needs_no_superuser(owners: Followed) -> None:
    """All but the event triggers, without which following is weaker and says so."""
    results = owners.set_up("owner_a")
    lacking = [result.step.key for result in results if result.state is not StepState.DONE]
    assert lacking == ["schema events"]
    assert owners.published() == WHOLE
    assert owners.notices()["no-schema-events"].level == "warning"
    assert owners.teardown_plan("owner_a").steps
    assert all(
        result.state is StepState.DONE for result in owners.carry_out(owners.teardown_plan("owner_a"), "owner_a")
    )


def test_a_table_of_another_owner_is_left_to_those_who_may(owners: Followed) -> None:
    """The rest is made; the script that --print-sql gives makes that one, as a superuser runs it."""
    run(owners.url, "ALTER TABLE items OWNER TO owner_b", "ALTER TABLE nothing OWNER TO owner_b")
    results = owners.set_up("owner_a")
    lacking = {result.step.key for result in results if result.state is StepState.LACKING}
    assert lacking == {"publish whole public.items", "identity public.nothing", "schema events"}
    plan = owners.plan("owner_a")
    assert [step.key for step in plan.steps if not step.lacks] == ["schema events"]  # which is tried
    text = script(plan, 2)
    assert "does not own it" in text
    run(owners.url, text)
    assert owners.plan("owner_a").is_empty
    assert owners.published() == WHOLE
    write(owners.url)


def test_setup_is_refused_where_following_could_hurt_the_server(any_database: str) -> None:
    """Each reason by its code, all of them at once."""
    followed = database(any_database)
    facts = followed.facts
    plan = plan_setup(
        replace(
            facts,
            server=replace(
                facts.server, wal_level="replica", slot_limit="-1", in_recovery=True, slots=20, slots_max=20, senders=9
            ),
        ),
        followed.catalog,
        followed.settings,
        "plan",
    )
    assert {refusal.code for refusal in plan.refusals} == {
        "standby",
        "wal-level",
        "slot-limit",
        "no-free-slot",
        "no-free-sender",
    }
    accepting = replace(followed.settings, accept_unbounded_wal=True)
    unlimited = replace(facts, server=replace(facts.server, slot_limit="-1"))
    plan = plan_setup(unlimited, followed.catalog, accepting, "plan")
    assert not plan.refusals
    assert any("disk is full" in remark for remark in plan.remarks)


def test_names_that_somebody_else_has_are_refused(any_database: str) -> None:
    """A publication without our mark, one FOR ALL TABLES, a slot of another kind."""
    run(any_database, "CREATE PUBLICATION outlast_main FOR ALL TABLES", "CREATE PUBLICATION outlast_main_partial")
    followed = database(any_database)
    assert {refusal.code for refusal in followed.plan().refusals} == {"publication-taken"}
    run(any_database, """COMMENT ON PUBLICATION outlast_main IS '{"outlast": 1}'""")
    assert {refusal.code for refusal in followed.plan().refusals} == {"publication-taken", "publication-by-rule"}
    run(any_database, "SELECT pg_create_physical_replication_slot('outlast_other')")
    try:
        other = replace(followed, settings=replace(followed.settings, names=Names.of("other")))
        assert {refusal.code for refusal in other.plan().refusals} == {"slot-taken"}
    finally:
        run(any_database, "SELECT pg_drop_replication_slot('outlast_other')")


def test_what_stops_a_backup_stops_setup(any_database: str) -> None:
    """Large objects belong to nobody, and an unclassified table could be anybody's."""
    followed = database(any_database, "SELECT lo_create(0)")
    assert "large-objects" in {refusal.code for refusal in followed.plan().refusals}
    followed = replace(followed, classified={"public.accounts": "owned by id"})
    assert "unclassified" in {refusal.code for refusal in followed.plan().refusals}


def test_a_publication_that_somebody_altered_is_named_and_mended(any_database: str) -> None:
    """A table taken out, a column list, another set of operations."""
    followed = database(any_database)
    followed.set_up()
    run(
        any_database,
        "ALTER PUBLICATION outlast_main DROP TABLE items",
        "ALTER PUBLICATION outlast_main DROP TABLE accounts",
        "ALTER PUBLICATION outlast_main ADD TABLE ONLY accounts (id)",
        "ALTER PUBLICATION outlast_main SET (publish = 'insert', publish_via_partition_root = true)",
    )
    notices = followed.notices()
    assert {"unpublished", "publication-altered", "narrowed"} <= set(notices)
    assert all(notices[code].level == "error" for code in ("unpublished", "publication-altered", "narrowed"))
    assert all(result.state is StepState.DONE for result in followed.set_up())
    assert not {"unpublished", "publication-altered", "narrowed"} & set(followed.notices())
    write(any_database)


def test_a_publication_that_is_gone_is_the_loudest_of_all(any_database: str) -> None:
    """And setup makes it anew, with all that it named."""
    followed = database(any_database)
    followed.set_up()
    run(any_database, "DROP PUBLICATION outlast_main")
    assert followed.notices()["publication-missing"].level == "error"
    followed.set_up()
    assert followed.published() == WHOLE


def test_two_sources_never_share_a_name() -> None:
    """Whatever the source is called, its names are ones that the server takes, and nobody else's."""
    names = [Names.of(source) for source in ("main", "Main", "ma-in", "ma_in", "x" * 80, "x" * 81, "ünï")]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 63 for one in names for name in (one.slot, *one.publications))
    assert names[0].slot == "outlast_main"
    assert Names.of("main", "outlast_mine").publications == ("outlast_mine", "outlast_mine_partial")


def test_a_wish_for_an_unknown_table_is_refused(any_database: str) -> None:
    """A misspelt name would be a table without the identity it was meant to have."""
    followed = database(any_database).wishing(itms="full")
    assert [refusal.code for refusal in followed.plan().refusals] == ["unknown-identity"]


def test_setup_waits_for_its_lock_a_bounded_time_only(any_database: str) -> None:
    """A session that asks for the table behind setup is let through when setup gives up."""
    followed = database(any_database)
    with psycopg.connect(any_database) as reader:
        reader.execute("SELECT * FROM nothing")
        assert any(result.state is StepState.BUSY for result in followed.carry_out(followed.plan(), patience=AT_ONCE))
        with psycopg.connect(any_database, options="-c lock_timeout=1ms") as other:
            other.execute("INSERT INTO nothing (id, account_id) SELECT 1, id FROM accounts")
    assert look(any_database)
