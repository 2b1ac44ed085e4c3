"""Leading an incident on a real journal: who may say what, and that nothing is written twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest

from outlast.core.errors import NotFoundError, Refused, UsageError
from outlast.core.tenant import Tenant, TenantKey
from outlast.incident.conduct import Conduct, Opening, Rules, Saying
from outlast.incident.driving import Alarm, Automatic, Driver, Restored
from outlast.incident.incident import Component, Severity, Status, TenantState
from outlast.incident.journal import Entry, Journal
from outlast.incident.timeline import Kind
from outlast.state.database import Database
from tests.servers import Server
from tests.unit.incident.stories import START, at

ACME, BOLT = Tenant(TenantKey("7"), "acme"), Tenant(TenantKey("8"), "bolt")
OPENING = Opening("Sites are missing", Severity.CRITICAL)


def test_ids_say_the_day_and_count_within_it(conduct: Conduct) -> None:
    """People say them aloud."""
    ids = [conduct.open(OPENING, "ada", START)[0].id for _ in range(2)]
    assert ids == ["20261125-1", "20261125-2"]
    with pytest.raises(NotFoundError) as refused:
        conduct.journal.load("20261125-9")
    assert "20261125-2" in str(refused.value.hint)


def test_opened_in_public_the_first_word_is_said_from_its_template(conduct: Conduct) -> None:
    """And says when the next one comes, after the severity's interval."""
    incident, _ = conduct.open(replace(OPENING, public=True, tenants=[(ACME, 5)]), "ada", START)
    (update,) = incident.updates
    assert update.next_at == at(20)
    assert update.scope
    assert incident.public


def test_an_update_needs_the_time_of_the_next_and_nothing_is_written_without(conduct: Conduct) -> None:
    """The timeline is as long as before the refusal."""
    incident, _ = conduct.open(OPENING, "ada", START)
    with pytest.raises(Refused):
        conduct.say(incident.id, Saying(body="We look into it."), "ada", at(1))
    assert conduct.journal.load(incident.id).length == incident.length


def test_two_persons_where_that_is_the_rule(database: Database) -> None:
    """The author's own approval is refused; another's publishes, once, whoever repeats it."""
    conduct = Conduct(Journal(database), Rules(approval=True))
    incident, _ = conduct.open(OPENING, "ada", START)
    drafted = conduct.say(incident.id, Saying(body="Found it.", next_at=at(15)), "ada", at(1))
    assert not drafted.public
    number = drafted.drafts[0].number
    with pytest.raises(Refused, match="asks for another"):
        conduct.approve(incident.id, number, "ada", at(2))
    published = conduct.approve(incident.id, number, "bob", at(2))
    assert published.updates[0].approved_by == "bob"
    with pytest.raises(NotFoundError):
        conduct.approve(incident.id, number, "eve", at(3))


def test_a_draft_that_waited_too_long_promises_anew(conduct: Conduct) -> None:
    """What it promised lies in the past when it is published."""
    incident, _ = conduct.open(OPENING, "ada", START)
    drafted = conduct.draft(incident.id, Saying(body="Found it.", next_at=at(15)), "ada", at(1))
    published = conduct.approve(incident.id, drafted.drafts[0].number, "bob", at(40))
    assert published.next_at == at(60)


def test_what_is_over_stays_over(conduct: Conduct) -> None:
    """A last word from the facts ends it; nothing can be said after that."""
    incident, _ = conduct.open(replace(OPENING, public=True), "ada", START)
    over = conduct.resolve(incident.id, Saying(), "ada", at(30))
    assert (over.status, over.resolved_at, over.next_at) == (Status.RESOLVED, at(30), None)
    with pytest.raises(Refused, match="was resolved"):
        conduct.say(incident.id, Saying(body="More.", next_at=at(40)), "ada", at(31))


@pytest.mark.parametrize("text", ["", "  \n ", "\x00\x1b", "x" * 10_001])
def test_words_that_say_nothing_or_too_much_are_refused(conduct: Conduct, text: str) -> None:
    """And control characters never reach a page, a mail or a terminal."""
    incident, _ = conduct.open(OPENING, "ada", START)
    with pytest.raises(UsageError):
        conduct.say(incident.id, Saying(body=text, next_at=at(5)), "ada", START)
    said = conduct.say(incident.id, Saying(body="a\x1b[31m\nb", next_at=at(5)), "ada", START)
    assert said.updates[0].body("en") == "a[31m\nb"


def test_a_component_that_is_not_on_the_page_is_refused(conduct: Conduct) -> None:
    """A typing error would show nobody anything."""
    with pytest.raises(UsageError, match="no component 'Apo'"):
        conduct.open(replace(OPENING, components={"Apo": Component.MAJOR}), "ada", START)


def test_an_alarm_is_one_incident_however_often_it_is_told(conduct: Conduct) -> None:
    """Whom it cost since is added, and nothing is written twice."""
    driver = Driver(conduct, Automatic(publish=True))
    alarm = Alarm("alarm main 1", START - timedelta(seconds=5), [(ACME, 5)], "2 tenants lost rows")
    first = driver.alarm(alarm, START)
    assert driver.alarm(alarm, at(1)).length == first.length
    grown = driver.alarm(replace(alarm, tenants=[(ACME, 5), (BOLT, 3)]), at(1))
    assert grown.id == first.id
    assert {one.rows_lost for one in grown.tenants.values()} == {5, 3}
    assert grown.began_at == START - timedelta(seconds=5)


def test_without_automatic_everything_is_a_draft(conduct: Conduct) -> None:
    """The first word waits for a person; nothing is public until then."""
    driver = Driver(conduct, Automatic())
    incident = driver.alarm(Alarm("alarm main 1", START, [(ACME, 5)], "lost"), START)
    assert (incident.public, len(incident.drafts)) == (False, 1)
    driver.planned("p1", [ACME], at(1))
    over = driver.restored("p1", [Restored(ACME, ok=True, rows=5, missing=0)], at(2))
    assert over is not None
    assert not over.over
    assert over.drafts[-1].status is Status.RESOLVED


def test_a_restore_moves_its_incident_on_and_the_last_proof_ends_it(conduct: Conduct) -> None:
    """Reported twice, after a crash say, each tenant is restored once."""
    driver = Driver(conduct, Automatic(publish=True))
    driver.alarm(Alarm("alarm main 1", START, [(ACME, 5), (BOLT, 3)], "lost"), START)
    driver.planned("p1", [ACME, BOLT], at(1))
    one = driver.restored("p1", [Restored(ACME, ok=True, rows=5, missing=0)], at(2))
    again = driver.restored("p1", [Restored(ACME, ok=True, rows=5, missing=0)], at(3))
    assert one is not None
    assert again is not None
    assert (one.counted(TenantState.RESTORED), again.length) == (1, one.length)
    over = driver.restored("p1", [Restored(BOLT, ok=True, rows=3, missing=0)], at(4))
    assert over is not None
    assert over.over
    assert "All 2 affected customers are restored" in over.updates[-1].body("en")
    assert driver.planned("p2", [Tenant(TenantKey("99"))], at(5)) is None


def test_a_promise_is_kept_while_people_are_busy(conduct: Conduct) -> None:
    """Just before an update is due one is said from the facts; not sooner, and not for a draft."""
    driver = Driver(conduct, Automatic(publish=True))
    incident = driver.alarm(Alarm("alarm main 1", START, [(ACME, 5)], "lost"), START)
    assert driver.keep_word(incident, at(19)).length == incident.length
    kept = driver.keep_word(incident, at(19.6))
    assert kept.next_at == at(39.6)


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_many_at_once_write_one_timeline(where: str, server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every event has a number of its own, keyed events stand there once, and one source opens one incident."""
    with server.new_database() as url:
        folder = tmp_path_factory.mktemp("state")
        database = Database.file(folder / "serve.sqlite") if where == "sqlite" else Database.server(url)
        with database, ThreadPoolExecutor(8) as pool:
            journal = Journal(database)
            opened = Entry(Kind.OPENED, {"title": "x", "severity": "minor"})
            made = list(pool.map(lambda _: journal.open(opened, "a", START, source="alarm 1"), range(8)))
            assert sum(new for _, new in made) == 1
            (name,) = {incident.id for incident, _ in made}
            entry = Entry(Kind.NOTED, {"text": "once"}, key="once")
            list(
                pool.map(
                    lambda n: journal.append(name, [Entry(Kind.NOTED, {"text": str(n)}), entry], "a", START), range(16)
                )
            )
            events = journal.events(name)
            assert [event.number for event in events] == list(range(1, 19))
            assert sum(event.facts.get("text") == "once" for event in events) == 1
