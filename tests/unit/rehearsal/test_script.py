"""Scripts: how they are split, what their variables become, and what is not run."""

from __future__ import annotations

import pytest

from outlast.core.errors import Refused, UsageError
from outlast.rehearsal.script import Script, read_script
from outlast.rehearsal.variables import mentioned


def script(text: str, **arguments: str) -> Script:
    return read_script(text, "a.sql", arguments)


def test_statements_have_the_line_they_begin_on() -> None:
    """Comments before a statement are not part of it."""
    found = script("-- é: first\nSELECT 1;\n\n/* two\n */ UPDATE t\nSET a = ';';\nCREATE UNIQUE INDEX i ON t (a)")
    assert [(one.line, one.kind) for one in found.statements] == [
        (2, "SELECT"),
        (5, "UPDATE"),
        (7, "CREATE UNIQUE INDEX"),
    ]
    assert found.statements[1].text == "UPDATE t\nSET a = ';'"


def test_one_pair_of_begin_and_commit_around_everything_is_ours() -> None:
    """What people write around a script is said by Outlast anyway."""
    found = script("\\set ON_ERROR_STOP on\nBEGIN;\nDELETE FROM t;\nCOMMIT;\n")
    assert [one.text for one in found.statements] == ["DELETE FROM t"]
    assert not found.refusals


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO t VALUES ('first\n\\echo third\n\\timing')",
        "INSERT INTO t VALUES ($$first\n\\i fourth$$)",
        "INSERT INTO t VALUES (E'it\\'s\n\\timing')",
        "INSERT INTO t VALUES (/* why\n\\echo\n*/ 'x')",
        'INSERT INTO "t\n\\echo" VALUES (1)',
    ],
)
def test_a_backslash_in_a_string_or_comment_is_no_command_of_psqls(statement: str) -> None:
    """The text that runs is the author's, byte for byte."""
    found = script(f"\\echo it's beginning\n{statement};\n  \\timing\nDELETE FROM u;\n")
    assert [one.text for one in found.statements] == [statement, "DELETE FROM u"]
    assert not found.refusals


def test_variables_are_those_of_psql() -> None:
    """Literals, identifiers and plain text; nothing in quotes, comments, dollar quotes or casts."""
    text = (
        "SELECT :'v', :\"n\", :k, 'x :v', \":v\", $$ :'v' $$, a::v, E'\\':v', b[1:m] -- :'v'\n"
        "/* /* :'v' */ :'v' */ FROM t"
    )
    found = script(text, v="it's", n='a"b', k="1")
    (statement,) = found.statements
    assert statement.text.startswith(
        "SELECT 'it''s', \"a\"\"b\", 1, 'x :v', \":v\", $$ :'v' $$, a::v, E'\\':v', b[1:m]"
    )
    assert mentioned(text) == {"v", "n", "k", "m"}


def test_a_backslash_in_a_value_stays_one() -> None:
    """Whatever standard_conforming_strings says."""
    assert script("SELECT :'v'", v="a\\b").statements[0].text == "SELECT  E'a\\\\b'"


def test_a_variable_that_is_not_set_is_an_error() -> None:
    """With its line, and the name that was meant."""
    with pytest.raises(UsageError, match=r"a\.sql:2: the variable 'tenant' is not set") as error:
        script("SELECT 1;\nSELECT :'tenant'", tenants="{1}")
    assert error.value.hint == "Did you mean 'tenants'?"


def test_arguments_are_part_of_what_a_receipt_binds() -> None:
    """The same text with another value is another script."""
    one, other = script("SELECT :'v'", v="1"), script("SELECT :'v'", v="2")
    assert one.digest != other.digest
    assert one.digest == script("SELECT :'v'", v="1").digest


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("DELETE FROM t; COMMIT; DELETE FROM u", "COMMIT in the middle"),
        ("BEGIN; DELETE FROM t", "BEGIN without a COMMIT"),
        ("DELETE FROM t; COMMIT", "COMMIT without a BEGIN"),
        ("BEGIN; DELETE FROM t; ROLLBACK", "BEGIN without a COMMIT"),
        ("BEGIN; DELETE FROM t; COMMIT; BEGIN; DELETE FROM u; COMMIT", "BEGIN of its own"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE; DELETE FROM t; COMMIT", "BEGIN of its own"),
        ("DELETE FROM t; ROLLBACK", "ROLLBACK: what stands before it"),
        ("DELETE FROM t; PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ("SET session_replication_role = replica; DELETE FROM t", "session_replication_role is set"),
        ("SELECT set_config('session_replication_role', 'replica', true)", "session_replication_role is set"),
        ("DO $$ BEGIN EXECUTE 'SET session_replication_role = replica'; END $$", "session_replication_role is set"),
        ("SET LOCAL track_counts = off", "track_counts is set"),
        ("DO $$ BEGIN DELETE FROM t; COMMIT; END $$", "COMMIT or ROLLBACK inside DO"),
        ("DO LANGUAGE plpgsql $x$ BEGIN IF true THEN ROLLBACK; END IF; END $x$", "COMMIT or ROLLBACK inside DO"),
        ("SELECT dblink_exec('host=x', 'DELETE FROM t')", "dblink_exec acts outside"),
        ("COPY t FROM PROGRAM 'cat'", "COPY moves rows"),
        ("COPY t TO '/tmp/x'", "COPY moves rows"),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION"),
        ("DISCARD ALL", "DISCARD"),
        ("\\i other.sql\nSELECT 1", "\\i is a command of psql's own"),
        ("\\connect other\nSELECT 1", "\\connect is a command of psql's own"),
        ("CREATE INDEX CONCURRENTLY i ON t (a); UPDATE t SET a = 1", "stands among others that must"),
    ],
)
def test_what_is_not_run_is_refused(text: str, reason: str) -> None:
    """By its line and why."""
    found = script(text)
    assert any(reason in one for one in found.refusals), found.refusals
    with pytest.raises(Refused):
        found.check()


@pytest.mark.parametrize(
    "text",
    [
        "DO $$ BEGIN RAISE NOTICE 'commit'; END $$",
        "-- session_replication_role\nSELECT 1",
        "SAVEPOINT a; DELETE FROM t; ROLLBACK TO a; RELEASE a",
        "SET LOCAL lock_timeout = '1s'",
        "SET search_path = app",
        "ANALYZE t",
        "REINDEX TABLE t",
        "CALL p()",
        "TRUNCATE t",
    ],
)
def test_what_is_run(text: str) -> None:
    """Words alone are no reason."""
    found = script(text)
    assert not found.refusals
    assert not found.unguarded
    found.check()


@pytest.mark.parametrize(
    "text",
    [
        "CREATE INDEX CONCURRENTLY i ON t (a)",
        "DROP INDEX CONCURRENTLY i",
        "REINDEX (CONCURRENTLY) TABLE t",
        "REINDEX DATABASE CONCURRENTLY d",
        "VACUUM t",
        "ALTER TABLE t DETACH PARTITION p CONCURRENTLY",
        "ALTER SYSTEM SET work_mem = '1GB'",
        "CREATE DATABASE d",
    ],
)
def test_what_cannot_be_in_a_transaction_is_unguarded(text: str) -> None:
    """Alone it may be run, by name; it is never mixed with what is guarded."""
    found = script(text)
    assert len(found.unguarded) == 1
    assert not found.refusals


def test_what_is_not_sql_is_an_error_with_its_line() -> None:
    """A syntax error, rows for psql's COPY, a plain variable that nobody gave."""
    with pytest.raises(UsageError, match=r"a\.sql:2: syntax error"):
        script("SELECT 1;\nSELCT 2")
    with pytest.raises(UsageError) as error:
        script("COPY t FROM STDIN;\n1\ta\n\\.\n")
    assert "write them as INSERT" in (error.value.hint or "")
    with pytest.raises(UsageError) as error:
        script("UPDATE t SET a = :value")
    assert "--set" in (error.value.hint or "")
    with pytest.raises(UsageError, match="no statement"):
        script("-- nothing\n")
