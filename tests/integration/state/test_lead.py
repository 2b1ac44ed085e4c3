"""Of several instances on one shared state exactly one has the lead, and another when that one is gone."""

from __future__ import annotations

import time
from pathlib import Path

from sqlalchemy import text

from outlast.state.database import Database
from outlast.state.lead import Duty, Lead, lead_of


def handed_over(first: Lead, second: Lead) -> None:
    assert first.take()
    assert first.take(), "it stays"
    assert not second.take()
    first.leave()
    assert taken(second)
    assert not first.take()
    second.leave()


def taken(lead: Lead) -> bool:
    """Asked again and again, as `serve` does: the server frees a session's locks when the session's process ends."""
    deadline = time.monotonic() + 60
    while not lead.take():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


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
        assert taken(first)
        with two.read() as connection:
            others = text(  # returns when they have ended
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_locks"
                " WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
            )
            connection.execute(others)
        assert not first.take()
        assert second.take()
        assert not first.take()
        second.leave()
