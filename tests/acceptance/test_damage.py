"""From "something is wrong" to a plan: `damage` and `restore --damage-since`, as they are installed."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.commands import Outlast

SCHEMA = """
CREATE TABLE accounts (id int PRIMARY KEY, name text NOT NULL);
CREATE TABLE users (id int PRIMARY KEY, account_id int NOT NULL REFERENCES accounts ON DELETE CASCADE, name text);
CREATE TABLE notes (id int PRIMARY KEY, user_id int NOT NULL REFERENCES users ON DELETE CASCADE, body text);
INSERT INTO accounts SELECT n, 'tenant-' || n FROM generate_series(1, 12) n;
INSERT INTO users SELECT a * 10 + n, a, 'user' FROM generate_series(1, 12) a, generate_series(1, 4) n;
INSERT INTO notes SELECT id * 10 + n, id, 'note' FROM users, generate_series(1, 3) n;
"""
TABLES = ("accounts", "users", "notes")


def rows(connection: psycopg.Connection) -> list[tuple[object, ...]]:
    return [
        (table, *row)
        for table in TABLES
        for row in connection.execute(f"SELECT * FROM {table} ORDER BY id".encode()).fetchall()
    ]


@pytest.fixture
def followed(database: str, outlast: Outlast) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(SCHEMA.encode())
        outlast.done("init", database, "--tenant-table", "accounts", "--tenant-label", "name")
        with (outlast.folder / "outlast.toml").open("a") as file:
            file.write("\n[follow]\naccept_unbounded_wal = true\n")
        outlast.done("follow", "--setup", "--execute")
        outlast.done("follow", "--until-current")
        yield connection


def test_one_command_from_damage_to_what_was_there(followed: psycopg.Connection, outlast: Outlast) -> None:
    """Eight tenants deleted while others work and the eight are at work until then: all of it comes back, nothing else
    changes, and the report says who lost what."""
    for number in range(1, 9):
        followed.execute(f"UPDATE users SET name = 'late' WHERE id = {number * 10 + 1}".encode())
        followed.execute(f"INSERT INTO notes VALUES ({number}, {number * 10 + 1}, 'last')".encode())
    expected = rows(followed)
    with followed.transaction():
        row = followed.execute("SELECT pg_current_xact_id()::text").fetchone()
        assert row is not None
        followed.execute("DELETE FROM accounts WHERE id <= 2")
    followed.execute("DELETE FROM accounts WHERE id BETWEEN 3 AND 8")
    followed.execute("INSERT INTO accounts VALUES (99, 'new since')")
    followed.execute("DELETE FROM accounts WHERE id = 99")
    expected.insert(12, ("accounts", 99, "new since"))
    followed.execute("UPDATE users SET name = 'meanwhile' WHERE id = 121")
    outlast.done("follow", "--until-current")
    found = outlast("--json", "damage", "--since", f"before:{row[0]}")
    assert found.exit_code == 4
    assert [one["label"] for one in found.json["tenants"]] == [
        *(f"tenant-{number}" for number in range(1, 9)),
        "new since",
    ]
    assert found.json["tenants"][0]["effect"] == {
        "public.accounts": {"hard-delete": 1},
        "public.users": {"hard-delete": 4},
        "public.notes": {"hard-delete": 13},
    }
    first, second, _ = found.json["transactions"]
    assert (first["xid"], first["tenants"], second["tenants"]) == (int(row[0]), 2, 6)
    assert "9 tenants lost 145 rows" in found.json["error"]["message"]
    shown = outlast("damage", "--since", f"before:{row[0]}", "--tenant", "tenant-3")
    assert "32, 33, 34, 31" in shown.stdout
    plan = outlast.done("--json", "restore", "--damage-since", f"before:{row[0]}").json
    assert plan["effect"] == {
        "public.accounts": {"insert": 9},
        "public.users": {"insert": 32},
        "public.notes": {"insert": 104},
    }
    done = outlast.done("--json", "apply", plan["plan"]).json
    assert [tenant["state"] for tenant in done["tenants"]] == ["done"] * 9
    back = [row if row[:2] != ("users", 121) else (*row[:3], "user") for row in rows(followed)]
    assert back == expected
    again = outlast.done("--json", "restore", "--damage-since", f"before:{row[0]}").json
    assert {tenant["state"] for tenant in again["tenants"]} == {"nothing-to-do"}


def test_options_that_do_not_go_together(outlast: Outlast) -> None:
    """Wrong usage, each with what to do instead."""
    outlast.folder.joinpath("outlast.toml").write_text("")
    for options in (
        ("--damage-since", "now", "--at", "run:1"),
        ("--damage-since", "now", "--mode", "rewind"),
        ("acme", "--until", "now"),
    ):
        result = outlast("restore", *options)
        assert result.exit_code == 2
        assert "Hint:" in result.stderr
