"""Paging from the alert to the acknowledgement, over a real SMTP server and HTTP receiver; only the clock is ours."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from outlast.oncall import ledger
from outlast.oncall.acknowledging import Outcome, Shown, look, use
from outlast.oncall.escalation import NoticeState
from outlast.oncall.paging import Paging
from tests import rosters
from tests.pagers import PUBLIC_URL, Office, office
from tests.servers import Server


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path, rosters.both()) as found:
        yield found


def told(found: Office, alert_id: str = "a1") -> list[str]:
    """Each notice's person, method and state."""
    with found.paging.database.read() as connection:
        record = ledger.record(connection, alert_id)
    assert record is not None
    return [f"{one.person.partition('/')[2]} {one.method} {one.state}" for one in record.escalation.notices]


def acknowledge(found: Office, by: str = "ann", alert_id: str = "a1") -> None:
    with found.paging.database.write() as connection:
        found.paging.acknowledge(connection, alert_id, by)


def test_an_escalation_goes_its_way_until_somebody_acknowledges(web: Office) -> None:
    """Ann by e-mail at once and by SMS after two minutes; at five the next on call, by everything; at ten the team."""
    web.page()
    assert web.after() == ["email ann@example.org"]
    assert web.after(1.5) == []
    assert web.after(1) == ["sms"]
    assert sorted(web.after(3)) == ["email bob@example.org", "sms"]
    acknowledge(web, "bob")
    assert web.after(60) == []


def test_nobody_acknowledges_and_it_begins_again_once(web: Office) -> None:
    """The policy repeats once, five minutes after its last step, and then is over."""
    web.page()
    first = web.after(14)
    assert sorted(first) == ["email ann@example.org"] * 2 + ["email bob@example.org"] * 2 + [
        "email cid@example.org",
        *["sms"] * 5,
    ]
    assert sorted(web.after(14.5)) == sorted(first)
    assert web.after(120) == []


def test_closing_ends_it_and_unacknowledging_begins_anew(web: Office) -> None:
    """From the first step, with whoever is on call then."""
    web.page()
    assert web.after() == ["email ann@example.org"]
    acknowledge(web)
    assert web.after(30) == []
    with web.paging.database.write() as connection:
        web.paging.reopen(connection, "a1")
    assert web.after() == ["email ann@example.org"]
    with web.paging.database.write() as connection:
        web.paging.close(connection, "a1", "ann")
    assert web.after(60) == []


def test_a_page_comes_once_however_often_it_is_asked_for(web: Office) -> None:
    """The relay may say it twice."""
    web.page()
    web.page()
    assert web.after() == ["email ann@example.org"]


def test_an_owner_is_told(web: Office) -> None:
    """Whoever an alert is assigned to, at once, though somebody acknowledged it."""
    web.page()
    web.after()
    acknowledge(web)
    with web.paging.database.write() as connection:
        web.paging.assign(connection, "a1", "cid@example.org", "ann")
    assert sorted(web.after()) == ["email cid@example.org", "sms"]


def test_if_not_closed_goes_on_after_an_acknowledgement(tmp_path: Path) -> None:
    """Only closing ends such a rule."""
    tables = rosters.both()
    tables["opsgenie.escalations"]["x1"] = {
        "id": "x1",
        "name": "web_escalation",
        "rules": [
            rosters.escalation_rule(0, "default", "user", "ann"),
            rosters.escalation_rule(5, "default", "user", "bob"),
            rosters.escalation_rule(10, "default", "user", "cid", "if-not-closed"),
        ],
    }
    with office(tmp_path, tables) as found:
        found.page()
        found.after()
        acknowledge(found)
        assert sorted(found.after(11)) == ["email cid@example.org", "sms"]


def test_a_repeat_that_resets_does_not_count_an_old_acknowledgement(tmp_path: Path) -> None:
    """And closes the alert when all rounds are over, if the policy says so."""
    tables = rosters.both()
    tables["opsgenie.escalations"]["x1"] |= {
        "rules": [rosters.escalation_rule(0, "default", "user", "cid")],
        "repeat": {"waitInterval": 10, "count": 1, "resetRecipientStates": True, "closeAlertAfterAll": True},
    }
    closed: list[str] = []
    with office(tmp_path, tables) as found:
        found.paging.close_alert = closed.append
        found.page()
        found.after()
        acknowledge(found)
        assert sorted(found.after(11)) == ["email cid@example.org", "sms"]
        assert closed == []
        assert found.after(10) == []
        assert closed == ["a1"]


def test_where_one_way_fails_the_next_is_tried_at_once(web: Office) -> None:
    """Ann's mailbox is gone: her SMS does not wait its two minutes; the e-mail is tried again meanwhile."""
    web.mail.unknown.add("ann@example.org")
    web.page()
    assert web.after() == ["sms"]
    assert told(web)[:2] == ["ann email waiting", "ann sms sent"]
    assert web.after(4) == []
    assert told(web)[:2] == ["ann email failed", "ann sms sent"]


def test_a_contact_that_no_rule_names_is_the_last_that_is_tried(tmp_path: Path) -> None:
    """Cid's rules know e-mail alone, and the mailbox is gone."""
    tables = rosters.both()
    tables["opsgenie.notification_rules"]["cid/r1"] = rosters.rule("r1", rosters.step("email", "cid@example.org", 0))
    with office(tmp_path, tables) as found:
        found.mail.unknown.add("cid@example.org")
        found.page(("user", "cid@example.org"))
        assert found.after(3) == ["sms"]
        assert told(found) == ["cid email failed", "cid sms sent"]


def test_where_nobody_can_be_reached_the_next_step_comes_early_and_then_those_of_last_resort(web: Office) -> None:
    """All services refuse: within minutes everybody was tried, and it is shouted until somebody has it."""
    everybody = {f"{name}@example.org" for name in ("ann", "bob", "cid")}
    web.mail.unknown |= everybody
    web.phone.refusing = web.resort.refusing = True
    web.page()
    assert web.after() == []  # all were tried, at once
    assert {line.partition(" ")[0] for line in told(web)} == {"ann", "bob", "cid"}
    web.resort.refusing = False
    assert web.after(0.5) == ["resort"]
    assert web.after(4) == []
    assert {line.rpartition(" ")[2] for line in told(web)} == {"failed"}
    web.mail.unknown -= everybody
    assert "email ann@example.org" in web.after(15)  # the second round comes all the same


@pytest.mark.parametrize("known", [True, False])
def test_an_alert_for_nobody_known_is_shouted_about_at_once(tmp_path: Path, known: bool) -> None:
    """No policy for it, or no copy at all."""
    with office(tmp_path, rosters.both() if known else None) as found:
        found.page(("team", "nobody-knows"))
        found.paging.settle()
        _, title, body = found.resort.next()
        assert title == "NOBODY REACHED: P1 disk full"
        assert "no escalation policy is known for it" in body
        assert f"{PUBLIC_URL}/alerts/a1" in body
        assert found.after(60) == []


def test_timers_survive_a_restart(web: Office) -> None:
    """Another process goes on where the first stopped, by the rows alone."""
    web.page()
    assert web.after(1) == ["email ann@example.org"]
    old = web.paging
    web.paging = Paging(old.database, old.channels, old.directory, public_url=old.public_url, clock=old.clock)
    assert web.after(1.5) == ["sms"]
    assert sorted(web.after(3)) == ["email bob@example.org", "sms"]


def test_two_instances_send_each_alert_once(web: Office) -> None:
    """Both look at the same rows at the same time."""
    old = web.paging
    other = Paging(old.database, old.channels, old.directory, public_url=old.public_url, clock=old.clock)
    for number in range(5):
        web.page(("schedule", "web"), alert_id=f"a{number}", message=f"it is {number}!")
    while old.look() + other.look():
        continue
    old.stop()
    other.stop()
    texts = [str(one.get_body(("plain",)).get_content()) for one in web.mail.to("ann@example.org")]  # type: ignore[union-attr]
    for number in range(5):
        assert sum(f"it is {number}!" in text for text in texts) == 1


def test_many_alerts_at_once_are_few_messages(web: Office) -> None:
    """Forty alerts for one person, at once and one after the other: some messages, with a link for each alert."""
    for number in range(40):
        web.page(("schedule", "web"), alert_id=f"a{number}", message=f"it is {number}!", priority=f"P{1 + number % 5}")
    web.after()
    at_once = len(web.mail.letters)
    assert at_once <= 10
    for number in range(40, 60):
        web.page(("schedule", "web"), alert_id=f"a{number}", message=f"it is {number}!")
        web.after(0.05)
    web.after(1)
    assert len(web.mail.letters) - at_once <= 10
    texts = [str(letter.get_body(("plain",)).get_content()) for _, letter in web.mail.letters]  # type: ignore[union-attr]
    for number in range(60):
        assert sum(f"it is {number}!" in text for text in texts) == 1
    tokens = [token for text in texts for token in re.findall(rf"{re.escape(PUBLIC_URL)}/a/([\w-]+)", text)]
    assert len(tokens) == 60
    assert {used(web, token).outcome for token in tokens} == {Outcome.DONE}
    assert web.after(20) == []


def test_it_is_the_same_on_postgresql(tmp_path: Path, server: Server) -> None:
    """Two instances share it: the escalation goes its way, each message once, and the link works once."""
    with server.new_database() as url, office(tmp_path, rosters.both(), url) as found:
        old = found.paging
        other = Paging(old.database, old.channels, old.directory, public_url=old.public_url, clock=old.clock)
        found.page()
        while old.look() + other.look():
            continue
        other.stop()
        found.mail.wait_for(1)
        assert len(found.mail.letters) == 1
        assert found.after(2.5) == ["sms"]
        assert used(found, link_of(found)).outcome is Outcome.DONE
        assert used(found, link_of(found)).outcome is Outcome.USED
        assert found.after(20) == []


def link_of(found: Office, address: str = "ann@example.org") -> str:
    letter = found.mail.to(address)[-1].get_body(("plain",))
    assert letter is not None
    match = re.search(rf"{re.escape(PUBLIC_URL)}/a/([A-Za-z0-9_-]+)", letter.get_content())
    assert match
    return match[1]


def shown(found: Office, token: str) -> Shown:
    with found.paging.database.read() as connection:
        return look(connection, token, found.clock.now)


def used(found: Office, token: str) -> Shown:
    with found.paging.database.write() as connection:
        return use(connection, token, found.clock.now, found.paging.acknowledge)


def test_a_signed_link_acknowledges_once(web: Office) -> None:
    """Looking at it changes nothing; using it says who has it; a second use says that it was used."""
    web.page()
    web.after()
    token = link_of(web)
    seen = shown(web, token)
    assert (seen.outcome, seen.name) == (Outcome.READY, "Ann Example")
    assert seen.page is not None
    assert seen.page.message == "disk full"
    assert web.after(2.5) == ["sms"]  # looked at by a mail scanner, say: it goes on
    assert used(web, token).outcome is Outcome.DONE
    assert web.after(60) == []
    assert used(web, token).outcome is Outcome.USED
    with web.paging.database.write() as connection:
        web.paging.reopen(connection, "a1")
    assert used(web, token).outcome is Outcome.USED  # also when the alert waits for somebody again


def test_a_link_ends(web: Office) -> None:
    """After a day, and where somebody else was first it says who."""
    web.page()
    web.after(6)
    acknowledge(web, "Bob Example")
    seen = shown(web, link_of(web))
    assert (seen.outcome, seen.by) == (Outcome.ALREADY, "Bob Example")
    web.clock.now += timedelta(days=2)
    assert shown(web, link_of(web)).outcome is Outcome.UNKNOWN
    assert shown(web, "nonsense").outcome is Outcome.UNKNOWN


def test_what_happened_is_noted(web: Office) -> None:
    """For the desk, and for the vendor once it is back: without addresses of services."""
    notes: list[str] = []
    web.paging.note = lambda connection, alert_id, text: notes.append(text)
    web.mail.unknown.add("ann@example.org")
    web.page()
    web.after()
    assert notes[0] == "escalating by web-team"
    assert notes[1] == "to be told (s1): Ann Example"
    assert "Ann Example could not be told by email: not taken by mailto" in notes
    assert any(one.startswith("Ann Example was told by sms") for one in notes)
    assert not any("127.0.0.1" in one for one in notes)


def test_states_are_words(web: Office) -> None:
    """What the tables hold can be read by a person."""
    web.page()
    web.after()
    assert told(web) == ["ann email sent", "ann sms waiting"]
    assert NoticeState("sent") is NoticeState.SENT
