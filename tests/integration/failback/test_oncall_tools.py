"""Notes and overrides that were entered here go to Opsgenie and PagerDuty, and comments on pages to Confluence."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.desks import Desk, desk
from tests.tools.fake import TOKEN, Document

NOW = datetime.now(UTC) + timedelta(minutes=1)


@dataclass(frozen=True)
class Vendor:
    """Where things are in its fake: what is written on, the schedule, its people, and an override of somebody else."""

    about: str
    notes: str
    schedule: str
    overrides: str
    people: tuple[str, str]
    override: Callable[[str, str, str], Document]


VENDORS = {
    "opsgenie": Vendor(
        "opsgenie.alerts:alert-0001", "notes/alert-0001", "schedule-1", "overrides/schedule-1", ("user-1", "user-2"),
        lambda person, start, end: {
            "alias": "theirs", "user": {"type": "user", "id": person, "username": f"{person}@example.com"},
            "startDate": start, "endDate": end,
        },
    ),
    "pagerduty": Vendor(
        "pagerduty.incidents:PINC0001", "notes/PINC0001", "PS1", "overrides/PS1", ("PUSR001", "PUSR002"),
        lambda person, start, end: {
            "id": "POTHEIRS", "start": start, "end": end,
            "user": {"id": person, "type": "user_reference", "summary": person},
        },
    ),
}  # fmt: skip


@pytest.fixture(params=sorted(VENDORS))
def tool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    with desk(request.param, tmp_path) as found:
        yield found


def notes(tool: Desk) -> list[str]:
    return [text for one in tool.documents(VENDORS[tool.kind].notes) if "outlast-" in (text := json.dumps(one))]


def overrides(tool: Desk) -> list[Document]:
    """Those that are there now, but for what the fake's account had before."""
    return [one for one in tool.documents(VENDORS[tool.kind].overrides) if "2026-0" not in json.dumps(one)]


def test_a_note_and_an_override_arrive_once(tool: Desk) -> None:
    """The note says who and whence; the override has the person and the end; a second run sends nothing."""
    vendor = VENDORS[tool.kind]
    note, turn = tool.comment(vendor.about, seen=NOW), tool.override(vendor.schedule, vendor.people[0])
    plan = tool.failback()
    assert tool.states(plan) == ["bring", "bring"]
    assert not tool.made()
    answer = tool.failback("--execute", "--plan", plan["plan"])
    assert tool.states(answer) == ["brought", "brought"]
    (text,) = notes(tool)
    assert "seen here" in text
    assert "Entered in Outlast by ann" in text
    assert f"outlast-{note}" in text
    (override,) = overrides(tool)
    assert override["user"]["id"] == vendor.people[0]
    end = datetime.fromisoformat(override.get("endDate") or override["end"])
    kept = tool.overrides()[turn]
    assert abs(end - kept.interval.end) < timedelta(seconds=1)
    assert kept.taken_as == (override.get("alias") or override.get("id"))
    assert tool.failback("--execute")["items"] == []
    assert len(tool.made()) == 2


def test_an_override_s_answer_that_is_lost_sets_no_second_one(tool: Desk) -> None:
    """Killed once it was set there, and before that stands here: the next run finds it, though it began when sent."""
    vendor = VENDORS[tool.kind]
    turn = tool.override(vendor.schedule, vendor.people[0], starts=timedelta(hours=-2), hours=10)
    tool.killed("POST", done=True)
    assert tool.overrides()[turn].attempted_at is not None
    assert tool.states(tool.failback("--execute")) == ["already there"]
    assert len(overrides(tool)) == 1
    assert tool.overrides()[turn].taken_as


@pytest.mark.parametrize("status", [500, 520, 409])
def test_an_error_that_says_nothing_of_what_was_done_sets_no_second_one(tool: Desk, status: int) -> None:
    """The tool has set it, and what stands before it answers an error: it is found, and known to be there."""
    vendor = VENDORS[tool.kind]
    tool.override(vendor.schedule, vendor.people[0], starts=timedelta(hours=-2), hours=10)
    tool.fake.after = lambda number: tool.fake.late.append(status) if tool.fake.log[-1].startswith("POST") else None
    assert tool.states(tool.failback("--execute")) == ["brought"]
    assert len(overrides(tool)) == 1
    assert tool.failback("--execute")["items"] == []


def test_an_override_over_one_of_our_own_is_no_conflict(tool: Desk) -> None:
    """Both were set here, one after the other: so they go, in that order, also in two runs."""
    vendor = VENDORS[tool.kind]
    tool.override(vendor.schedule, vendor.people[0])
    assert tool.states(tool.failback("--execute")) == ["brought"]
    tool.override(vendor.schedule, vendor.people[1], hours=2)
    assert tool.states(tool.failback("--execute")) == ["brought"]
    assert [one["user"]["id"] for one in overrides(tool)] == list(vendor.people)


def test_an_override_of_somebody_else_in_the_same_hours_is_a_conflict(tool: Desk) -> None:
    """It is named, with whose it is; who has looked sets ours as well."""
    vendor = VENDORS[tool.kind]
    now = datetime.now(UTC)
    start, end = (f"{now + timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}" for hours in (1, 2))
    tool.fake.table(vendor.overrides)["theirs"] = vendor.override(vendor.people[1], start, end)
    tool.override(vendor.schedule, vendor.people[0])
    answer = tool.failback("--execute", code=3)
    assert tool.states(answer) == ["conflict"]
    assert "has another override" in answer["items"][0]["told"]
    assert vendor.people[1] in answer["items"][0]["told"]
    assert not tool.made()
    assert tool.states(tool.failback("--execute", "--accept-changed")) == ["brought"]
    assert len(overrides(tool)) == 2


def test_what_is_over_or_was_ended_does_not_go(tool: Desk) -> None:
    """An override that was ended before it went needs nothing; one that was ended after is told, and not taken back."""
    from outlast.oncall.overrides import end

    vendor = VENDORS[tool.kind]
    ended = tool.override(vendor.schedule, vendor.people[0])
    with tool.database as database:
        end(database, ended, by="ann", at=datetime.now(UTC))
    assert tool.failback("--execute")["items"] == []
    went = tool.override(vendor.schedule, vendor.people[1])
    tool.failback("--execute")
    with tool.database as database:
        end(database, went, by="ann", at=datetime.now(UTC))
    (note,) = tool.failback()["notes"]
    assert "ended here by ann" in note
    assert "End it there" in note


def test_an_alert_that_changed_or_is_gone_is_a_conflict(tool: Desk) -> None:
    """With the state that it has now."""
    vendor = VENDORS[tool.kind]
    table, _, key = vendor.about.partition(":")
    name = table.partition(".")[2]
    tool.fake.table(name)[key] |= {
        "status": "closed", "updatedAt": "2026-03-01T00:00:00Z", "updated_at": "2026-03-01T00:00:00Z",
    }  # fmt: skip
    tool.comment(vendor.about)
    tool.comment(f"{table}:nowhere")
    answer = tool.failback(code=3)
    assert tool.states(answer) == ["conflict", "conflict"]
    assert "now closed" in answer["items"][0]["told"]
    assert "is gone" in answer["items"][1]["told"]


def test_a_key_that_only_reads_is_told_once(tool: Desk) -> None:
    """It shows when the first thing is sent; the rest of that tool is not tried, and nothing is marked as sent."""
    vendor = VENDORS[tool.kind]
    tool.token = TOKEN
    note = tool.comment(vendor.about, seen=NOW)
    tool.override(vendor.schedule, vendor.people[0])
    answer = tool.failback("--execute", code=1)
    assert tool.states(answer) == ["failed", "blocked"]
    assert "the write token may only read" in answer["error"]["message"]
    assert f"OUTLAST_{tool.kind.upper()}_WRITE_TOKEN" in answer["error"]["hint"]
    assert len(tool.made()) == 1
    assert tool.journal()[note].attempted_at is None


def test_somebody_who_is_gone_there_is_told_in_the_vendor_s_words(tool: Desk) -> None:
    """The override is refused, for a reason that a person can read, and the rest goes."""
    vendor = VENDORS[tool.kind]
    tool.override(vendor.schedule, "nobody")
    tool.override(vendor.schedule, vendor.people[0], starts=timedelta(hours=20))
    answer = tool.failback("--execute", code=1)
    assert tool.states(answer) == ["failed", "brought"]
    assert "not found" in answer["error"]["message"].lower()


def test_a_ticket_for_it_can_only_be_settled_here(tool: Desk) -> None:
    """Neither takes tickets: it says so, and how it is settled."""
    ticket = tool.ticket(source=tool.kind)
    answer = tool.failback(code=3)
    assert "takes no tickets" in answer["items"][0]["told"]
    assert f"--leave {ticket[:8]}" in answer["items"][0]["hint"]


def test_opsgenie_s_202_is_no_success_until_it_says_so(tmp_path: Path) -> None:
    """What it accepts and then does not do is told with its reason, and stays here."""
    with desk("opsgenie", tmp_path) as tool:
        note = tool.comment(VENDORS["opsgenie"].about, seen=NOW)
        tool.fake.loses = "Alert does not exist"
        answer = tool.failback("--execute", code=1)
        assert tool.states(answer) == ["failed"]
        assert "accepted it, and then: Alert does not exist" in answer["error"]["message"]
        tool.fake.loses, tool.fake.asked_in_vain = "", 2
        assert tool.states(tool.failback("--execute")) == ["brought"]
        assert len(notes(tool)) == 1
        assert tool.journal()[note].taken_as == f"outlast-{note}"


def test_pagerduty_wants_to_know_whose_note_it_is(tmp_path: Path) -> None:
    """Without a sender it is said before anything is sent; a sender that is nobody's is told in its own words."""
    with desk("pagerduty", tmp_path, write_user="nobody@example.com") as tool:
        tool.comment(VENDORS["pagerduty"].about, seen=NOW)
        answer = tool.failback("--execute", code=1)
        assert "Requester User Not Found" in answer["error"]["message"]
        text = (tmp_path / "outlast.toml").read_text()
        (tmp_path / "outlast.toml").write_text(text.replace('write_user = "nobody@example.com"\n', ""))
        answer = tool.failback("--execute", code=3)
        assert 'write_user = "…" in [sources.pagerduty]' in answer["error"]["message"]
        assert len(tool.made()) == 1


def test_a_shift_based_schedule_s_override_is_left_to_a_person(tmp_path: Path) -> None:
    """PagerDuty's second kind of schedule wants to know more than was said here."""
    with desk("pagerduty", tmp_path) as tool:
        tool.override("PV30", "PUSR001")
        answer = tool.failback(code=3)
        assert "set by hand" in answer["items"][0]["told"]


def test_a_comment_goes_to_a_page(tmp_path: Path) -> None:
    """Confluence's, escaped, with its mark; found again by it."""
    with desk("confluence", tmp_path) as tool:
        one = tool.comment("confluence.pages:1001", "use <b>this</b>", seen=NOW)
        tool.killed("POST", done=True)
        assert tool.states(tool.failback("--execute")) == ["already there"]
        found = [one for one in tool.documents("footer-comments") if one["id"].startswith("fw")]
        assert len(found) == 1
        text = found[0]["body"]["storage"]["value"]
        assert "use &lt;b&gt;this&lt;/b&gt;" in text
        assert f"outlast-{one}" in text
