"""The shared state's database: durable, private, and made or migrated to exactly one schema."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, func, insert, inspect, select, text

from outlast.core.errors import Refused, TransientError, UsageError
from outlast.state.database import Database, Schema


def first() -> Schema:
    metadata = MetaData()
    Table("note", metadata, Column("id", Integer, primary_key=True))
    return Schema("notes", metadata)


def second() -> Schema:
    metadata = MetaData()
    Table("note", metadata, Column("id", Integer, primary_key=True), Column("text", Text))

    def add_text(connection: Connection) -> None:
        connection.execute(text("ALTER TABLE note ADD COLUMN text TEXT"))

    return Schema("notes", metadata, (add_text,))


def columns(database: Database) -> list[tuple[str, str]]:
    return [(column["name"], str(column["type"])) for column in inspect(database.engine).get_columns("note")]


def test_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    """The database and what SQLite keeps beside it cannot be read by others, whatever the umask."""
    with Database.file(tmp_path / "deep" / "serve.sqlite") as database:
        database.install(first())
        with database.write():
            modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").iterdir()}
    assert modes
    assert set(modes.values()) == {0o600}


def test_a_commit_reaches_the_disk(tmp_path: Path) -> None:
    """The settings that durability rests on hold on every connection."""
    with Database.file(tmp_path / "serve.sqlite") as database, database.read() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_migrated_equals_made_anew(tmp_path: Path) -> None:
    """Old tables that were migrated are what new tables are; installing again changes nothing."""
    with Database.file(tmp_path / "old.sqlite") as old, Database.file(tmp_path / "new.sqlite") as new:
        old.install(first())
        with old.write() as connection:
            connection.execute(text("INSERT INTO note VALUES (1)"))
        for _ in range(2):
            old.install(second())
            new.install(second())
        assert columns(old) == columns(new)
        with old.read() as connection:
            assert connection.execute(text("SELECT id, text FROM note")).all() == [(1, None)]


def test_tables_of_a_newer_version_are_refused(tmp_path: Path) -> None:
    """An older Outlast does not write into what it does not know."""
    with Database.file(tmp_path / "serve.sqlite") as database:
        database.install(second())
        with pytest.raises(Refused, match="version 2, this Outlast knows 1"):
            database.install(first())


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    """What a writer read still holds when it writes: no two of them count the same number."""
    schema = first()
    note = schema.metadata.tables["note"]
    with Database.file(tmp_path / "serve.sqlite") as database:
        database.install(schema)

        def add() -> None:
            for _ in range(20):
                with database.write() as connection:
                    number = connection.scalar(select(func.count()).select_from(note))
                    connection.execute(insert(note).values(id=number))

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with database.read() as connection:
            assert connection.scalar(select(func.count()).select_from(note)) == 80


def test_an_error_names_no_value(tmp_path: Path) -> None:
    """What a statement carried stays out of the error."""
    with Database.file(tmp_path / "serve.sqlite") as database:
        with pytest.raises(TransientError) as caught, database.write() as connection:
            connection.execute(text("INSERT INTO missing VALUES (:secret)"), {"secret": "hunter2"})
        assert "hunter2" not in caught.value.message
        assert "no such table" in caught.value.message


@pytest.mark.parametrize("url", ["mysql://host/x", "what is this"])
def test_other_databases_are_refused(url: str) -> None:
    """A URL that is none, or of another kind of database, is told before anything starts."""
    with pytest.raises(UsageError, match=r"\[serve\] database"):
        Database.server(url)


def test_postgresql_by_url(database: str) -> None:
    """The same on PostgreSQL, which several instances share."""
    with Database.server(database) as one, Database.server(database) as two:
        one.install(first())
        two.install(second())
        assert [name for name, _ in columns(one)] == ["id", "text"]
