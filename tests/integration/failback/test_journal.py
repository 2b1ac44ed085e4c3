"""The journal's tables of before `failback`: brought to what they are now, with what stood in them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import MetaData, Table, inspect, select, text

from outlast.desk import entries
from outlast.failback.item import waiting
from outlast.oncall import overrides
from outlast.state.database import Database, Schema


def before(table: Table, *added: str) -> Schema:
    """The room as it was."""
    metadata = MetaData()
    Table(table.name, metadata, *(one._copy() for one in table.columns if one.name not in added))
    return Schema("desk" if table is entries.entries else "oncall", metadata)


def columns(database: Database, table: Table) -> list[tuple[str, str]]:
    return [(one["name"], str(one["type"])) for one in inspect(database.engine).get_columns(table.name)]


def migrated(old: Database, new: Database) -> None:
    added = {
        entries.entries: ("taken_url", "seen_at", "attempted_at", "upstream_at"),
        overrides.table: ("taken_at", "taken_as", "taken_url", "attempted_at"),
    }
    old.install(*(before(table, *names) for table, names in added.items()))
    with old.write() as connection:
        connection.execute(text(
            "INSERT INTO desk_entry (id, at, by, kind, source, about, title, text)"
            " VALUES ('e1', 1, 'rob', 'ticket', '', '', 'Disk full', '')"
        ))  # fmt: skip
        connection.execute(text(
            "INSERT INTO oncall_override"
            " (id, schedule, person_id, person_name, starts_at, ends_at, note, set_by, set_at)"
            " VALUES ('o1', 'og/s1', 'ann', 'Ann', 1, 9000000000, '', 'rob', 1)"
        ))  # fmt: skip
    for one in (old, new):
        one.install(entries.SCHEMA, overrides.SCHEMA)
    for table in added:
        assert columns(old, table) == columns(new, table)
    with old.read() as connection:
        assert connection.scalar(select(entries.entries.c.attempted_at)) is None
        kinds = {"og": "opsgenie", "jira": "jira"}
        found = waiting(connection, kinds, datetime.now(UTC))
    assert [(one.id, one.source, one.blocked) for one in found] == [("e1", "jira", None), ("o1", "og", None)]


def test_on_sqlite(tmp_path: Path) -> None:
    """What was taken before waits to go back as well."""
    with Database.file(tmp_path / "old.sqlite") as old, Database.file(tmp_path / "new.sqlite") as new:
        migrated(old, new)


def test_on_postgresql(database: str) -> None:
    """The same on a server."""
    with Database.server(database) as old:
        with old.write() as connection:
            connection.execute(text("CREATE SCHEMA made_anew"))
        with Database.server(f"{database}&options=-csearch_path%3Dmade_anew") as new:
            migrated(old, new)


@pytest.mark.parametrize(
    ("trackers", "told"),
    [
        ({"a": "jira", "b": "jira"}, "nobody said which tool it is for, and there are a, b"),
        ({"og": "opsgenie"}, "outlast.toml has no tool that takes tickets"),
    ],
)
def test_a_ticket_whose_tool_is_not_known_says_so(tmp_path: Path, trackers: dict[str, str], told: str) -> None:
    """It is for one of several, or there is none."""
    with Database.file(tmp_path / "serve.sqlite") as database:
        database.install(entries.SCHEMA, overrides.SCHEMA)
        with database.write() as connection:
            entries.keep(connection, entries.ticket("rob", "Disk full", ""))
        with database.read() as connection:
            (one,) = waiting(connection, trackers, datetime.now(UTC))
    assert one.blocked == told
