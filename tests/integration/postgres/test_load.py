"""How busy a server is, as a throttle asks: on both ends of the versions that are supported."""

from __future__ import annotations

import threading

import psycopg
import pytest

from outlast.sources.postgres.load import read_load
from outlast.sources.postgres.session import Target, connect


def check(url: str) -> None:
    """Nobody's standby is behind; a session at work is counted, and our own is not."""
    with connect(Target(url), role="restore", autocommit=True) as ours, psycopg.connect(url) as holder:
        holder.execute("SELECT pg_advisory_xact_lock(815)")
        waiting = threading.Thread(target=_wait_for_lock, args=(url,))
        waiting.start()
        while not ours.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ).fetchone():
            pass
        load = read_load(ours)
        holder.rollback()
        waiting.join(60)
    assert load.lag_s is None
    assert load.active >= 1


def _wait_for_lock(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute("SELECT pg_advisory_xact_lock(815)")


def test_load(database: str) -> None:
    check(database)


@pytest.mark.system
def test_load_on_15(debian_database: str) -> None:
    check(debian_database)
