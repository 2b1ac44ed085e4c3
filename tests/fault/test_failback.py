"""`outlast failback`, killed anywhere and run again: nothing comes twice, and nothing is lost."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from outlast.state.database import Database
from outlast.state.lead import Duty, lead_of
from tests.desks import Desk, desk
from tests.serving import until

NOW = datetime.now(UTC) + timedelta(minutes=1)
_HIDDEN_S = {"jira": 61, "opsgenie": 61, "pagerduty": 0}  # no longer does a tool hide what it has


def _jira(one: Desk) -> None:
    ticket = one.ticket()
    one.comment(ticket, "ordered another")
    one.comment("jira.issues:10001", seen=NOW)


def _opsgenie(one: Desk) -> None:
    one.comment("opsgenie.alerts:alert-0001", seen=NOW)
    one.override("schedule-1", "user-1", starts=timedelta(hours=-1))


def _pagerduty(one: Desk) -> None:
    one.comment("pagerduty.incidents:PINC0001", seen=NOW)
    one.override("PS1", "PUSR001", starts=timedelta(hours=-1))


ENTERED: Mapping[str, Callable[[Desk], None]] = {"jira": _jira, "opsgenie": _opsgenie, "pagerduty": _pagerduty}
WHERE = {
    "jira": ("issues", "comment/"),
    "opsgenie": ("notes/", "overrides/"),
    "pagerduty": ("notes/", "overrides/"),
}


def arrived(one: Desk) -> Counter[str]:
    """How often the tool has each thing, by its id here; an override without a mark counts by its end."""
    ends = {f"{kept.interval.end:%Y-%m-%dT%H:%M:%SZ}": key for key, kept in one.overrides().items()}
    marks = {f"outlast-{key}": key for key in (*one.journal(), *one.overrides())} | ends
    found: Counter[str] = Counter()
    for name, table in one.fake.tables.items():
        if name.startswith(WHERE[one.kind]):
            for document in table.values():
                said = json.dumps(document)
                found.update({key for mark, key in marks.items() if mark in said})
    return found


def finished(one: Desk) -> None:
    """A run that nobody kills ends it: everything is there once, and known to be."""
    one.later(_HIDDEN_S[one.kind])
    one.failback("--execute")
    entered = {*one.journal(), *one.overrides()}
    assert dict(arrived(one)) == dict.fromkeys(entered, 1)
    assert all(kept.taken_as for kept in one.journal().values())
    assert all(kept.taken_as for kept in one.overrides().values())
    posts = len(one.made())
    assert one.failback("--execute")["items"] == []
    assert len(one.made()) == posts


@pytest.mark.parametrize("kind", sorted(ENTERED))
def test_killed_before_and_after_whatever_is_sent(kind: str, tmp_path: Path) -> None:
    """kill -9 once the attempt is written down, then again once the tool has done it: for each thing, run by run."""
    with desk(kind, tmp_path) as one:
        ENTERED[kind](one)
        for _ in (*one.journal(), *one.overrides()):
            one.killed("POST", done=False)
            one.later(_HIDDEN_S[one.kind])
            one.killed("POST", done=True)
            one.later(_HIDDEN_S[one.kind])
        finished(one)
        assert not [key for key, count in arrived(one).items() if count > 1]


@pytest.mark.slow
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("kind", sorted(ENTERED))
def test_killed_at_every_request(kind: str, done: bool, tmp_path: Path) -> None:
    """kill -9 at the first request, the second, … up to the last, each in an installation of its own."""
    number, killed = 0, True
    while killed:
        number += 1
        (tmp_path / str(number)).mkdir()
        with desk(kind, tmp_path / str(number)) as one:
            ENTERED[kind](one)
            killed = one.killed_at(number, done=done)
            finished(one)
    assert number > 8


def test_two_people_at_once(tmp_path: Path) -> None:
    """Whoever comes second is told so and changes nothing; to look is allowed."""
    with desk("jira", tmp_path) as one:
        ticket = one.ticket()
        with one.database as database:
            lead = lead_of(database, Duty.FAILBACK)
            assert lead.take()
            for arguments in (("--execute",), ("--leave", ticket), ("--by-hand", f"{ticket}=OPS-1")):
                answer = one.failback(*arguments, code=3)
                assert "another `outlast failback` is at work" in answer["error"]["message"]
            assert one.states(one.failback()) == ["bring"]
            lead.leave()
        assert not one.made()
        finished(one)


def test_the_shared_state_on_postgresql(tmp_path: Path, database: str) -> None:
    """The same by a server: killed, the duty is free again; who comes second is refused; nothing twice."""
    with desk("jira", tmp_path, shared=database) as one:
        _jira(one)
        one.killed("POST", done=True)
        with one.database as state:
            lead = lead_of(state, Duty.FAILBACK)
            until(lead.take, "the server has noticed that the killed one is gone")
            assert one.failback("--execute", code=3)["error"]["code"] == "refused"
            lead.leave()
            until(lambda: not _locked(state), "the server has ended that session")
        finished(one)


def _locked(state: Database) -> bool:
    with state.read() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")))
