"""What the event triggers say in the log: every change of a definition, in its place, and never a failure."""

from __future__ import annotations

import re

import psycopg
import pytest

from outlast.core.table import TableName
from outlast.sources.postgres.schema_events import (
    ChangeKind,
    EventKind,
    SchemaChange,
    Shapes,
    catalog_changes,
    read_shapes,
)
from tests.integration.postgres.conftest import run
from tests.integration.postgres.followed import Followed, database, write

MORE = (
    "CREATE TYPE mood AS ENUM ('good', 'bad')",
    "CREATE DOMAIN short AS text DEFAULT 'dd' CHECK (length(VALUE) < 9)",
    "CREATE TABLE typed (id int PRIMARY KEY, account_id bigint NOT NULL, mood mood, moods mood[])",
    "CREATE SCHEMA more",
    "CREATE TABLE more.moved (id int PRIMARY KEY, account_id bigint NOT NULL)",
    "CREATE TABLE events_free (LIKE events INCLUDING ALL)",
    "CREATE TABLE loner (id int PRIMARY KEY, account_id bigint NOT NULL)",
    "CREATE TABLE loner_events (id int NOT NULL, account_id bigint NOT NULL, n int, a int DEFAULT 7)",
)


@pytest.fixture
def followed(any_database: str) -> Followed:
    found = database(any_database, *MORE)
    found.set_up()
    return found


def said(changes: tuple[SchemaChange, ...]) -> list[tuple[str, str, bool]]:
    """Kind, what it is about, and whether older rows are known."""
    return [
        (change.kind.value, ">".join(filter(None, (change.former, change.now, change.missing))), change.known)
        for change in changes
    ]


# In this order, each on what those before it left.
CASES: tuple[tuple[str, list[tuple[str, str, bool]]], ...] = (
    ("ALTER TABLE items ADD COLUMN a text", [("column-added", "a", True)]),
    (
        "ALTER TABLE items ADD COLUMN b text DEFAULT 'it''s \"{1,2}\" \\'",
        [("column-added", 'b>it\'s "{1,2}" \\', True)],
    ),
    ("ALTER TABLE items ADD COLUMN c int[] NOT NULL DEFAULT '{1,2}'", [("column-added", "c>{1,2}", True)]),
    (
        "ALTER TABLE items ADD COLUMN d timestamptz DEFAULT '2026-01-02 03:04:05+02'",
        [("column-added", "d>2026-01-02 01:04:05+00", True)],
    ),
    ("ALTER TABLE items ADD COLUMN e float8 DEFAULT 0.1", [("column-added", "e>0.1", True)]),
    ("ALTER TABLE items ADD COLUMN f box DEFAULT '(1,1),(0,0)'", [("column-added", "f>(1,1),(0,0)", True)]),
    (
        "ALTER TABLE items ADD COLUMN g float8 DEFAULT random()",
        [("rewritten", "", False), ("column-added", "g", False)],
    ),
    (
        "ALTER TABLE items ADD COLUMN h int GENERATED ALWAYS AS IDENTITY",
        [("rewritten", "", False), ("column-added", "h", False)],
    ),
    ("ALTER TABLE items DROP COLUMN a", [("column-dropped", "a", True)]),
    ("ALTER TABLE items RENAME COLUMN n TO number", [("column-renamed", "n>number", True)]),
    (
        "ALTER TABLE items DROP COLUMN number, ADD COLUMN number text",
        [("column-dropped", "number", True), ("column-added", "number", True)],
    ),
    (
        "ALTER TABLE nothing ALTER COLUMN n TYPE bigint",
        [("rewritten", "", False), ("column-retyped", "integer>bigint", False)],
    ),
    ("ALTER TABLE items RENAME TO things", [("renamed", "public.items>public.things", True)]),
    ("ALTER TABLE things SET SCHEMA more", [("renamed", "public.things>more.things", True)]),
    (
        "ALTER SCHEMA more RENAME TO less",
        [("renamed", "more.moved>less.moved", True), ("renamed", "more.things>less.things", True)],
    ),
    ("ALTER TABLE parent REPLICA IDENTITY FULL", [("identity", "d>f", True)]),
    ("ALTER TYPE mood RENAME VALUE 'good' TO 'fine'", [("reinterpreted", "public.mood", False)]),
    ("DROP TYPE mood CASCADE", [("column-dropped", "mood", True), ("column-dropped", "moods", True)]),
    ("CREATE TABLE fresh (id int PRIMARY KEY, account_id bigint)", [("created", "public.fresh", True)]),
    ("CREATE TABLE copied AS SELECT * FROM fresh", [("created", "public.copied", True)]),
    ("DROP TABLE fresh", [("dropped", "public.fresh", False)]),
    ("DROP SCHEMA less CASCADE", [("dropped", "less.moved", False), ("dropped", "less.things", False)]),
    ("CREATE TABLE events_9 PARTITION OF events FOR VALUES FROM (900) TO (999)", [("attached", "", True)]),
    (
        "ALTER TABLE events ATTACH PARTITION events_free FOR VALUES FROM (800) TO (900)",
        [("attached", "", False)],
    ),
    ("ALTER TABLE events DETACH PARTITION events_1", [("detached", "", False)]),
    ("DROP TABLE events_9", [("dropped", "public.events_9", False)]),
    ("ALTER TABLE events ADD COLUMN a int DEFAULT 7", [("column-added", "a>7", True)]),
    (
        "CREATE TABLE events_sub PARTITION OF events FOR VALUES FROM (900) TO (999) PARTITION BY RANGE (id)",
        [],
    ),
    ("CREATE TABLE events_sub_1 PARTITION OF events_sub FOR VALUES FROM (900) TO (910)", [("attached", "", True)]),
    (
        "ALTER TABLE events_sub ATTACH PARTITION loner_events FOR VALUES FROM (910) TO (920)",
        [("attached", "", False)],
    ),
    ("ALTER TABLE parent ADD COLUMN a int DEFAULT 7", [("column-added", "a>7", True), ("column-added", "a>7", True)]),
    ("CREATE TEMPORARY TABLE fleeting (id serial PRIMARY KEY)", []),
    ("CREATE INDEX ON nothing (n)", []),
    ("CREATE UNIQUE INDEX ON nothing (n)", []),
    ("ALTER TABLE loose ADD UNIQUE (id)", []),
    ("ALTER TABLE loose ALTER id SET NOT NULL", [("key", "1", False)]),
    ("CREATE UNIQUE INDEX ON keyless (n, account_id)", []),
    ("ALTER TABLE late DROP CONSTRAINT late_pkey", [("key", "1", False)]),
    ("ALTER TABLE late ADD PRIMARY KEY (id, account_id)", [("key", "1, 2", False)]),
    ("CREATE UNIQUE INDEX ON loner (account_id)", []),
    ("CREATE TABLE unkeyed (id int NOT NULL, account_id bigint)", [("created", "public.unkeyed", True)]),
    ("CREATE UNIQUE INDEX ON unkeyed (id)", [("key", "1", False)]),
    ("TRUNCATE nothing", []),
    ("ALTER PUBLICATION outlast_main DROP TABLE nothing", [("publication", "outlast_main", False)]),
    ("ALTER PUBLICATION outlast_main SET (publish = 'insert')", [("publication", "outlast_main", False)]),
)


def test_every_kind_of_change_is_told_in_the_log(followed: Followed) -> None:
    """What it was, and whether what older rows say now is known; a renamed column is not a dropped and an added one.
    In the end what was tracked is what the catalog says."""
    with followed.session() as session, followed.listening() as log:
        shapes = Shapes(read_shapes(session))
        numbers = [_in_a_session_of_its_own(followed.url, command) for command, _ in CASES]
        events = log.events_by_transaction()
        found = []
        for (command, _), number in zip(CASES, numbers, strict=True):
            changes = [change for event in events.get(number, ()) for change in shapes.apply(event)]
            found.append((command, sorted(said(tuple(changes)))))
            shapes = Shapes.from_bytes(shapes.to_bytes())
        assert found == [(command, sorted(expected)) for command, expected in CASES]
        now = read_shapes(session)
        detached = {oid for oid, shape in now.items() if shape.name.name == "events_1"}  # it was never spoken of
        assert shapes.known == {oid: shape for oid, shape in now.items() if oid not in detached}


def _in_a_session_of_its_own(url: str, command: str) -> int:
    """Run a command as an application whose settings would change the text of values; gives its transaction."""
    with psycopg.connect(url) as connection:
        connection.execute("SET DateStyle = 'German'")
        connection.execute("SET extra_float_digits = -5")
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        connection.execute(command.encode())
        row = connection.execute("SELECT pg_current_xact_id()::text::bigint % 4294967296").fetchone()
    assert row is not None
    return int(row[0])


def test_polling_finds_what_the_catalog_can_tell(any_database: str) -> None:
    """Without event triggers: the same changes, not exact; a new column with a default is not taken for known."""
    followed = database(any_database, *MORE)
    with followed.session() as session:
        known = read_shapes(session)
        assert catalog_changes(session, known) == ((), known)
        run(
            any_database,
            "ALTER TABLE items RENAME COLUMN n TO number",
            "ALTER TABLE accounts ADD COLUMN a int",
            "ALTER TABLE accounts ADD COLUMN b float8 DEFAULT random()",
            "ALTER TABLE accounts ADD COLUMN c short",
            "DROP TABLE keyless",
            "CREATE TABLE fresh (id int)",
            "DROP TABLE events_1",
        )
        events, now = catalog_changes(session, known)
        assert not any(event.exact for event in events)
        shapes = Shapes(known)
        found = {one for event in events for one in said(shapes.apply(event))}
        assert found == {
            ("column-renamed", "n>number", True),
            ("column-added", "a", True),
            ("column-added", "b", False),
            ("column-added", "c>dd" if session.info.server_version >= 190000 else "c", False),
            ("dropped", "public.keyless", False),
            ("created", "public.fresh", False),
            ("detached", "", False),
        }
        assert catalog_changes(session, now)[0] == ()


def test_a_change_stands_in_its_place_among_the_rows(followed: Followed) -> None:
    """Between the row before it and the row after it, in the same transaction; rolled back, it is not there."""
    with followed.listening() as log:
        with psycopg.connect(followed.url) as connection:
            connection.execute("INSERT INTO accounts VALUES (1)")
            connection.execute("INSERT INTO items VALUES (1, 1)")
            connection.execute("ALTER TABLE items ADD COLUMN a int")
            connection.execute("INSERT INTO items VALUES (2, 1)")
            connection.execute("DROP TABLE nothing")
            connection.execute("INSERT INTO items VALUES (3, 1)")
            with connection.transaction(force_rollback=True):
                connection.execute("DROP TABLE keyless")
        kinds = "".join("E" if b"outlast.schema" in one else chr(one[0]) for one in log.messages())
    assert re.sub("[^IE]", "", kinds) == "IIEIEI"


def test_ddl_never_fails_for_us(followed: Followed) -> None:
    """With our functions broken the application's commands go on, and the log says that something was missed."""
    run(followed.url, "DROP FUNCTION outlast.schema_guard()")
    with followed.listening() as log:
        run(followed.url, "CREATE TABLE fresh (id int)", "DROP TABLE fresh")
        events = log.events()
    assert [(event.kind, event.because) for event in events] == [(EventKind.MISSED, "42883")] * 2
    assert followed.notices()["no-schema-events"].level == "warning"
    followed.set_up()
    assert "no-schema-events" not in followed.notices()


def test_ddl_of_a_role_without_any_right_is_told(followed: Followed) -> None:
    """The functions act with their owner's rights, whoever runs the command, with whatever search_path."""
    run(followed.url, "CREATE ROLE developer LOGIN", "CREATE SCHEMA AUTHORIZATION developer")
    try:
        with followed.listening() as log:
            with psycopg.connect(followed.url.replace("postgres@", "developer@"), autocommit=True) as connection:
                connection.execute("CREATE FUNCTION developer.format(text) RETURNS text LANGUAGE sql AS 'SELECT 1/0'")
                connection.execute("SET search_path = developer, pg_catalog")
                connection.execute("CREATE TABLE fresh (id int)")
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute("SELECT outlast.schema_guard()")
            assert [event.name for event in log.events()] == [TableName("developer", "fresh")]
    finally:
        run(followed.url, "DROP OWNED BY developer CASCADE", "DROP ROLE developer")


def test_a_migration_that_drops_a_primary_key_does_not_break_the_application(followed: Followed) -> None:
    """The table is published for inserts and truncates from that commit on, and loudly so."""
    run(
        followed.url,
        "ALTER TABLE items DROP CONSTRAINT items_pkey",
        "ALTER TABLE by_index DROP CONSTRAINT by_index_code_key",
        "ALTER TABLE events DROP CONSTRAINT events_pkey",
    )
    write(followed.url)
    assert {"items", "by_index", "events_1", "events_2"} <= followed.published(partial=True) - followed.published()
    run(followed.url, "ALTER TABLE items ADD PRIMARY KEY (id)")
    assert "items" in followed.notices()["unpublished"].message
    followed.set_up()
    assert "items" in followed.published()


def test_a_primary_key_that_is_replaced_in_one_transaction_changes_nothing(followed: Followed) -> None:
    """In one command, and in two of the same transaction with writes between them."""
    before = followed.published(), followed.published(partial=True)
    run(followed.url, "ALTER TABLE items DROP CONSTRAINT items_pkey, ADD PRIMARY KEY (id, account_id)")
    with psycopg.connect(followed.url) as connection:
        connection.execute("INSERT INTO accounts VALUES (1)")
        connection.execute("INSERT INTO nothing VALUES (1, 1)")
        connection.execute("ALTER TABLE nothing DROP CONSTRAINT nothing_pkey")
        connection.execute("UPDATE nothing SET n = 3")
        connection.execute("ALTER TABLE nothing ADD PRIMARY KEY (account_id, id)")
        connection.execute("UPDATE nothing SET n = 4")
    assert (followed.published(), followed.published(partial=True)) == before
    write(followed.url)


def test_the_identity_is_lost_without_event_triggers(any_database: str) -> None:
    """Where there are none, nothing can keep the application from failing: it is told as the error that it is."""
    followed = database(any_database)
    followed.set_up()
    run(any_database, "DROP EVENT TRIGGER outlast_schema_changed", "DROP EVENT TRIGGER outlast_schema_dropped")
    run(any_database, "ALTER TABLE items DROP CONSTRAINT items_pkey")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        write(any_database, ("items",))
    assert "FAIL" in followed.notices()["identity-lost"].message
    assert followed.plan().steps[0].key == "move public.items"
    followed.set_up()
    write(any_database)


def test_a_publication_event_names_the_table(followed: Followed) -> None:
    """Also one whose name has to be quoted."""
    with followed.listening() as log:
        run(followed.url, 'ALTER PUBLICATION outlast_main DROP TABLE "Odd ""name"')
        (event,) = log.events()
    assert (event.kind, event.name, event.because) == (
        EventKind.PUBLICATION,
        TableName("public", 'Odd "name'),
        "outlast_main",
    )
    assert Shapes({}).apply(event)[0].kind is ChangeKind.PUBLICATION


def test_names_are_told_whatever_the_database_s_encoding_is(server_database_latin1: str) -> None:
    """A message is not converted by the server: it is UTF-8 because our functions make it so."""
    followed = database(server_database_latin1)
    followed.set_up()
    with followed.listening() as log:
        run(followed.url, r'CREATE TABLE U&"Gr\00F6\00DFe" (U&"Ma\00DF" int)')
        (event,) = log.events()
    assert event.name == TableName("public", "Größe")
    assert event.shape is not None
    assert [column.name for column in event.shape.columns] == ["Maß"]
