"""Tickets and comments that were taken here go to Jira: once, marked, and not over what changed there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.desks import Desk, desk
from tests.tools.fake import TOKEN, WRITE_TOKEN, Answer, broken, too_many

ISSUE = "jira.issues:10001"
NOW = datetime.now(UTC) + timedelta(minutes=1)


@pytest.fixture
def jira(tmp_path: Path) -> Iterator[Desk]:
    with desk("jira", tmp_path) as found:
        yield found


def comments(jira: Desk, issue: str = "10001") -> list[str]:
    """What was said there that comes from here."""
    said = (json.dumps(one["body"]) for one in jira.documents(f"comment/{issue}"))
    return [one for one in said if "Outlast" in one]


def created(jira: Desk) -> list[dict[str, object]]:
    return [one for one in jira.documents("issues") if "labels" in one["fields"]]


def test_a_plan_is_shown_and_nothing_sent(jira: Desk) -> None:
    """What would be done stands there with who entered it, and the next command; Jira and the journal are as before."""
    ticket = jira.ticket()
    jira.comment(ticket, "ordered another")
    jira.comment(ISSUE, seen=NOW)
    done = jira.run()
    assert done.returncode == 0, done.stderr
    assert f'BRING  ticket "Disk full" ({ticket[:8]})' in done.stdout
    assert "by rob" in done.stdout
    assert "new in project OPS" in done.stdout
    assert 'AFTER ITS TICKET  comment "ordered another" on "Disk full"' in done.stdout
    assert "on OPS-1" in done.stdout
    assert "2 to bring, 1 after its ticket" in done.stdout
    assert "Next: outlast failback --execute --plan " in done.stdout
    assert not jira.made()
    assert all(one.taken_at is None and one.attempted_at is None for one in jira.journal().values())


def test_a_ticket_and_comments_arrive_once_and_say_where_they_are_from(jira: Desk) -> None:
    """Each carries who, when, and its mark; the journal has what it became; a second run sends nothing."""
    ticket = jira.ticket()
    own = jira.comment(ticket, "ordered another")
    on_issue = jira.comment(ISSUE, seen=NOW)
    answer = jira.failback("--execute")
    assert jira.states(answer) == ["brought"] * 3
    assert answer["executed"]
    assert answer["effect"] == {"comments": {"insert": 2}, "tickets": {"insert": 1}}
    (issue,) = created(jira)
    fields = issue["fields"]
    assert isinstance(fields, dict)
    assert fields["labels"] == [f"outlast-{ticket}"]
    assert (fields["summary"], fields["project"], fields["issuetype"]) == (
        "Disk full",
        {"key": "OPS"},
        {"name": "Task"},
    )
    text = json.dumps(fields["description"])
    assert "Entered in Outlast by rob at 2" in text
    assert "while Jira was away" in text
    assert "twice" not in text
    assert len(comments(jira, str(issue["id"]))) == 1
    assert "ordered another" in comments(jira, str(issue["id"]))[0]
    assert len(comments(jira)) == 1
    journal = jira.journal()
    assert journal[ticket].taken_as == issue["key"]
    assert str(journal[ticket].taken_url).endswith(f"/browse/{issue['key']}")
    assert all(journal[one].taken_as and journal[one].attempted_at is None for one in (own, on_issue))
    again = jira.failback("--execute")
    assert again["items"] == []
    assert len(jira.made()) == 3


def test_several_comments_of_ours_are_no_change_of_others(jira: Desk) -> None:
    """The first one moves the issue's time of change, and the second still goes."""
    for text in ("one", "two"):
        jira.comment(ISSUE, text, seen=NOW)
    assert jira.states(jira.failback("--execute")) == ["brought", "brought"]
    jira.comment(ISSUE, "three", seen=NOW - timedelta(hours=1))
    assert jira.states(jira.failback("--execute")) == ["brought"]


def test_what_changed_there_meanwhile_is_a_conflict(jira: Desk) -> None:
    """It is shown with its state and not sent; what has none goes; who has looked sends it all the same."""
    jira.fake.table("issues")["10001"]["fields"]["status"] = {"name": "Done"}
    comment = jira.comment(ISSUE)
    answer = jira.failback(code=3)
    assert jira.states(answer) == ["conflict"]
    assert "OPS-1 has changed since" in answer["conflicts"][0]["told"]
    assert "now Done" in answer["conflicts"][0]["told"]
    assert answer["error"]["code"] == "conflict"
    ticket = jira.ticket()
    answer = jira.failback("--execute", code=1)
    assert sorted(jira.states(answer)) == ["brought", "conflict"]
    assert answer["error"]["code"] == "partly"
    assert jira.journal()[ticket].taken_as
    assert not comments(jira)
    assert jira.states(jira.failback("--execute", "--accept-changed", "--only", comment[:8])) == ["brought"]
    assert len(comments(jira)) == 1


def test_what_is_gone_is_a_conflict_that_nothing_accepts(jira: Desk) -> None:
    """It can be settled by hand, or left here, and then waits no more."""
    comment = jira.comment("jira.issues:99999")
    ticket = jira.ticket()
    answer = jira.failback("--execute", "--accept-changed", "--only", comment[:8], code=3)
    assert "is gone" in answer["items"][0]["told"]
    assert f"--by-hand {comment[:8]}=KEY" in answer["error"]["hint"]
    jira.failback("--by-hand", f"{ticket[:8]}=OPS-7", "--leave", comment[:8])
    journal = jira.journal()
    assert (journal[ticket].taken_as, journal[comment].taken_as) == ("OPS-7", "")
    assert jira.failback()["items"] == []
    assert not jira.made()


def test_a_plan_that_no_longer_holds_is_refused(jira: Desk) -> None:
    """Who says which plan was looked at has that one done, and no other."""
    jira.comment(ISSUE, seen=NOW)
    plan = jira.failback()["plan"]
    jira.ticket()
    assert jira.failback("--execute", "--plan", plan, code=3)["error"]["code"] == "stale-plan"
    assert not jira.made()
    plan = jira.failback()["plan"]
    jira.failback("--execute", "--plan", plan)
    assert len(jira.made()) == 2


def test_the_next_command_that_a_plan_names_does_just_that(jira: Desk) -> None:
    """With what was chosen and accepted: it is no other plan then."""
    one = jira.comment(ISSUE)
    jira.ticket()
    said = jira.run("--only", one[:8], "--accept-changed").stdout
    _, _, command = said.rpartition("Next: outlast failback ")
    assert jira.states(jira.failback(*command.split())) == ["brought"]
    assert len(jira.made()) == 1


def test_nothing_that_people_wrote_moves_the_cursor(jira: Desk) -> None:
    """What would be read by a terminal as a command is not printed, neither ours nor the vendor's."""
    jira.ticket("Disk \x1b[2Jfull")
    jira.fake.required = {"summary": "No \x1b]0;title\x07 here"}
    done = jira.run("--execute")
    assert "Disk [2Jfull" in done.stdout
    assert "summary: No ]0;title here" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize("fault", ["cut late", "cut", broken(502), "html"])
def test_an_answer_that_is_lost_leads_to_no_second_one(jira: Desk, fault: str | Answer) -> None:
    """Whether it arrived is looked for, and it is sent again only where it did not: at the end it is there once."""
    comment = jira.comment(ISSUE, seen=NOW)
    jira.fake.before = lambda number: jira.fake.faults.append(fault) if is_post(jira) else None
    first = jira.failback("--execute", code=0 if fault == "cut late" else 1)
    assert jira.states(first) == ["brought" if fault == "cut late" else "unclear"]
    jira.fake.before = lambda number: None
    assert jira.states(jira.failback("--execute")) == ([] if fault == "cut late" else ["brought"])
    assert len(comments(jira)) == 1
    assert jira.journal()[comment].taken_as


def is_post(jira: Desk) -> bool:
    return bool(jira.fake.log[-1].startswith("POST"))


def test_a_ticket_that_the_index_does_not_show_yet_is_waited_for(jira: Desk) -> None:
    """Its answer was lost, and Jira's search lags: it is found by its label, and not made a second time."""
    ticket = jira.ticket()
    jira.fake.unindexed = 3
    jira.fake.before = lambda number: jira.fake.faults.append("cut late") if is_post(jira) else None
    answer = jira.failback("--execute")
    assert jira.states(answer) == ["brought"]
    assert len(created(jira)) == 1
    assert jira.journal()[ticket].taken_as == created(jira)[0]["key"]


def test_a_ticket_that_is_sent_again_says_that_it_may_be_there_twice(jira: Desk) -> None:
    """Its first attempt is not found a minute later: the next one says so, since an index may lag for longer."""
    jira.ticket()
    jira.killed("POST", done=False)
    assert not created(jira)
    jira.later(61)
    assert "sent at" in jira.run().stdout
    assert jira.states(jira.failback("--execute")) == ["brought"]
    (issue,) = created(jira)
    assert "This may be here twice: an attempt at 2" in json.dumps(issue["fields"])


def test_a_token_that_only_reads_or_is_missing_is_refused(jira: Desk) -> None:
    """Before anything is sent, with what to do; the token for backups is never used to write."""
    jira.ticket()
    jira.comment(ISSUE, seen=NOW)
    jira.token = ""
    answer = jira.failback("--execute", code=3)
    assert "there is no token to write" in answer["error"]["message"]
    assert "OUTLAST_JIRA_WRITE_TOKEN" in answer["error"]["hint"]
    jira.token = TOKEN
    (jira.folder / "outlast.toml").write_text(
        (jira.folder / "outlast.toml").read_text().replace("writer@example.com", "reader@example.com")
    )
    answer = jira.failback("--execute", code=3)
    assert "may only read" in answer["error"]["message"]
    assert not jira.made()


def test_a_vendor_s_refusal_is_told_to_a_person(jira: Desk) -> None:
    """Jira lacks a field, and says which; the ticket stays here, and nothing else is held up by it."""
    ticket = jira.ticket()
    own = jira.comment(ticket, "ordered another")
    on_issue = jira.comment(ISSUE, seen=NOW)
    jira.fake.required = {"customfield_10042": "Team is required."}
    answer = jira.failback("--execute", code=1)
    assert jira.states(answer) == ["failed", "blocked", "brought"]
    assert "customfield_10042: Team is required." in answer["error"]["message"]
    assert "HTTP 400" in answer["error"]["message"]
    journal = jira.journal()
    assert journal[on_issue].taken_as
    assert journal[ticket].attempted_at is None
    jira.fake.required = {}
    assert jira.states(jira.failback("--execute")) == ["brought", "brought"]
    assert "twice" not in json.dumps(created(jira)[0]["fields"])
    assert jira.journal()[own].taken_as


def test_too_many_requests_are_waited_for(jira: Desk) -> None:
    """A tool that is back is asked by everybody: it did nothing, and says when to come again."""
    jira.ticket()
    jira.fake.before = lambda number: jira.fake.faults.append(too_many("0")) if len(jira.made()) == 1 else None
    assert jira.states(jira.failback("--execute")) == ["brought"]
    assert len(created(jira)) == 1


def test_no_secret_is_in_what_is_said_or_kept(jira: Desk) -> None:
    """Neither token stands in an answer, an error, or a file."""
    jira.ticket()
    said = jira.run("--execute")
    jira.token = "tok-MARKED-wrong"
    jira.ticket("Another")
    refused = jira.run("--execute")
    assert refused.returncode == 3
    assert "does not accept the token" in refused.stderr
    for text in (said.stdout, said.stderr, refused.stdout, refused.stderr):
        assert "MARKED" not in text
    for path in jira.folder.rglob("*"):
        if path.is_file():
            assert WRITE_TOKEN.encode() not in path.read_bytes(), path
