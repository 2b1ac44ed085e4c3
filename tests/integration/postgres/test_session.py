"""Sessions with a real server: what is pinned, and how each failure is told."""

from __future__ import annotations

import psycopg
import pytest

from outlast.core.errors import OutlastError, SourceError, TransientError, UsageError
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.pooling import is_pooled
from outlast.sources.postgres.session import PINNED, Target, connect
from tests.integration.postgres.conftest import run
from tests.servers import PASSWORD, Server


def test_every_setting_that_text_depends_on_is_pinned_whatever_the_database_says(any_database: str) -> None:
    """Settings of the database and of the role give way."""
    for setting in ("datestyle = 'German'", "bytea_output = 'escape'", "timezone = 'Asia/Kolkata'",
                    "intervalstyle = 'iso_8601'", "extra_float_digits = 0", "search_path = 'public'",
                    "statement_timeout = '1s'", "quote_all_identifiers = on", "xmloption = 'document'"):  # fmt: skip
        run(any_database, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET " + setting.replace("'", "''")
            + "', current_database()); END $$")  # fmt: skip
    with connect(Target(any_database), role="test") as connection:
        for name, value in PINNED.items():
            shown = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
            assert shown is not None
            assert str(shown[0]).strip('"').lower() == value.lower(), name


def test_a_session_that_reads_cannot_write(any_database: str) -> None:
    """Backups run in read-only transactions, with autocommit as well."""
    for autocommit in (False, True):
        with (
            connect(Target(any_database), role="test", autocommit=autocommit) as connection,
            pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        ):
            connection.execute("CREATE TABLE t (x int)")


def test_a_session_that_writes_can(any_database: str) -> None:
    """And says its job in application_name."""
    with connect(Target(any_database), role="restore", read_only=False) as connection:
        connection.execute("CREATE TABLE public.t (x int)")
        row = connection.execute("SELECT current_setting('application_name')").fetchone()
        assert row == ("outlast restore",)
        assert not is_pooled(connection)


def _failure(url: str) -> OutlastError:
    with pytest.raises(OutlastError) as caught:
        connect(Target(url), role="test")
    assert caught.value.hint
    return caught.value


def test_every_way_not_to_connect_has_its_own_word(server: Server) -> None:
    """Wrong password, none, no such database, role, host or port: each is told, none with the password."""
    wrong = "a-wrong-password"
    failures = {
        "did not accept the password": server.tcp_url(password=wrong),
        "or none was given": server.tcp_url(password=None),
        "no such database": server.url("nope"),
        "no such role": server.url(user="nobody_here"),
        "does not resolve": "postgresql://app@no-such-host.invalid/shop",
        "nothing answers": "postgresql://app@127.0.0.1:1/shop",
    }
    for word, url in failures.items():
        failure = _failure(url)
        assert word in failure.message
        assert wrong not in failure.message
    assert isinstance(_failure(server.url("nope")), UsageError)
    assert isinstance(_failure(server.tcp_url(password=wrong)), SourceError)


def test_the_password_comes_from_the_environment(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PGPASSWORD, without standing in the URL."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    connect(Target(server.tcp_url(password=None)), role="test").close()


def test_too_many_connections_is_a_passing_fault(server: Server) -> None:
    """And a role that may not log in is not."""
    with server.connect() as connection:
        connection.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 0")
        try:
            assert isinstance(_failure(server.url(user="narrow")), TransientError)
            connection.execute("ALTER ROLE narrow NOLOGIN")
            assert "NOLOGIN" in _failure(server.url(user="narrow")).message
        finally:
            connection.execute("DROP ROLE narrow")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 'Geheimnis'::integer",
        "INSERT INTO secrets VALUES ('Geheimnis')",
        "INSERT INTO secrets VALUES (NULL)",
        "INSERT INTO secrets VALUES ('Geheimnis, too long for the column it goes to')",
        "DO $$ BEGIN RAISE EXCEPTION 'row Geheimnis' USING DETAIL = 'Geheimnis', HINT = 'Geheimnis'; END $$",
        "INSERT INTO checked VALUES ('Geheimnis')",
    ],
)
def test_an_error_of_the_server_never_tells_a_value(any_database: str, statement: str) -> None:
    """Kind, constraint and table are told; the key, the value and a user's RAISE are not."""
    run(
        any_database,
        "CREATE TABLE secrets (value varchar(20) PRIMARY KEY)",
        "CREATE TABLE checked (value text CHECK (value <> 'Geheimnis'))",
        "INSERT INTO secrets VALUES ('Geheimnis')",
    )
    with psycopg.connect(any_database) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(statement.encode())
    told = explain(caught.value, "do it")
    assert "Geheimnis" not in told.message + str(told.hint)
    assert told.message.startswith("cannot do it: ")


def test_a_cut_connection_is_a_passing_fault(any_database: str) -> None:
    """So that it is tried again, and so is a lock that was waited for too long."""
    session = connect(Target(any_database), role="test")
    with psycopg.connect(any_database, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s, 60000)", [session.info.backend_pid])
    with pytest.raises(psycopg.Error) as caught:
        session.execute("SELECT 1")
    assert explain(caught.value, "read").retryable
    session.close()
