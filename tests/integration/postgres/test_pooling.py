"""A pooler in between: sessions that are kept whole are used, sessions that are shared are refused."""

from __future__ import annotations

import psycopg
import pytest

from outlast.core.errors import Refused
from outlast.sources.postgres.pooling import is_pooled
from outlast.sources.postgres.session import Target, connect
from tests.integration.postgres.pooler import pooling
from tests.servers import Server


def _name(database: str) -> str:
    return database.partition("?")[0].rpartition("/")[2]


@pytest.mark.parametrize("sessions", [1, 2, 5])
def test_transaction_pooling_is_refused_before_anything_is_set(server: Server, database: str, sessions: int) -> None:
    """Our settings would be lost, and would stay behind for the application: neither happens."""
    with pooling(server, _name(database), by_transaction=True, sessions=sessions) as url:
        with pytest.raises(Refused) as caught:
            connect(Target(url), role="test")
        assert caught.value.code == "pooler"
        assert "session" in str(caught.value.hint)
        for _ in range(sessions):
            with psycopg.connect(url) as application:
                assert application.execute("SHOW search_path").fetchone() == ('"$user", public',)


@pytest.mark.parametrize("sessions", [2, 3])
def test_session_pooling_is_used(server: Server, database: str, sessions: int) -> None:
    """What is pinned stands through every transaction of the session."""
    with (
        pooling(server, _name(database), by_transaction=False, sessions=sessions) as url,
        connect(Target(url), role="test") as connection,
    ):
        assert is_pooled(connection)
        for _ in range(3):
            connection.rollback()
            assert connection.execute("SELECT current_setting('extra_float_digits')").fetchone() == ("3",)


def test_a_session_pooler_with_one_session_is_used(
    server: Server, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second session is to be had, which transaction pooling would have given: so this is none."""
    monkeypatch.setattr("outlast.sources.postgres.pooling.PROBE_TIMEOUT_S", 0.2)
    with pooling(server, _name(database), by_transaction=False, sessions=1) as url:
        connect(Target(url), role="test").close()
