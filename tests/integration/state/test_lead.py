"""Of several instances on one shared state exactly one has the lead, and another when that one is gone."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import text

from outlast.state.database import Database
from outlast.state.lead import Duty, Lead, lead_of


def handed_over(first: Lead, second: Lead) -> None:
    assert first.take()
    assert first.take(), "it stays"
    assert not second.take()
    first.leave()
    assert second.take()
    assert not first.take()
    second.leave()


def test_on_sqlite(tmp_path: Path) -> None:
    """By a lock on a file."""
    with Database.file(tmp_path / "serve.sqlite") as one, Database.file(tmp_path / "serve.sqlite") as two:
        handed_over(lead_of(one, Duty.RELAY), lead_of(two, Duty.RELAY))
        relay, incidents = lead_of(one, Duty.RELAY), lead_of(two, Duty.INCIDENTS)
        assert relay.take()
        assert incidents.take(), "each duty has its own"
        relay.leave()
        incidents.leave()


def test_on_postgresql(database: str) -> None:
    """By a lock of a session; where the server ends that session, the lead is lost, and known to be."""
    with Database.server(database) as one, Database.server(database) as two:
        handed_over(lead_of(one, Duty.RELAY), lead_of(two, Duty.RELAY))
        first, second = lead_of(one, Duty.RELAY), lead_of(two, Duty.RELAY)
        assert first.take()
        with two.read() as connection:
            others = text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
            connection.execute(others)
        assert not first.take()
        assert second.take()
        assert not first.take()
        second.leave()
