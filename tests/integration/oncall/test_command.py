"""`outlast oncall` on a host that has its local copy and nothing else: no vendor, no vault, no database."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from icalendar import Calendar

from outlast.cli.main import run
from outlast.oncall import overrides
from outlast.oncall.schedule import Interval, Responder
from outlast.state.database import Database
from tests import rosters
from tests.copies import make_project

TUESDAY = datetime(2026, 3, 3, 15, tzinfo=UTC)  # ten in New York: Bob's
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path, rosters.both())
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ask(folder: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    def asked(*arguments: str, code: int = 0) -> dict[str, Any]:
        assert run(["oncall", *arguments, "--json"]) == code
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return asked


def test_every_schedule_says_who_is_on_call_until_when_and_who_is_next(ask: Ask) -> None:
    """Of both vendors, by their people's names, with how old the copy is."""
    answer = ask("--at", TUESDAY.isoformat())
    told = {one["name"]: one for one in answer["schedules"]}
    assert {name: [person["name"] for person in one["people"]] for name, one in told.items()} == {
        "Database": ["Eve Example"],
        "web": ["Bob Example"],
    }
    assert told["web"]["until"] == "2026-03-04T14:00:00+00:00"
    assert [one["name"] for one in told["web"]["next"]] == ["Ann Example"]
    assert told["web"]["basis"] == "computed"
    assert answer["copied"]


def test_a_person_reads_a_table(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With names, and NOBODY where there is nobody."""
    assert run(["oncall", "--at", "2026-03-03T15:00"]) == 0
    printed = capsys.readouterr().out
    assert "On call at 2026-03-03 15:00:00Z" in printed
    assert "Bob Example" in printed
    assert run(["oncall", "web", "--at", "2026-03-01T15:00"]) == 0
    assert "NOBODY" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [("nothing",), ("--at", "tomorrow"), ("--ical",)])
def test_what_is_not_there_is_wrong_usage(ask: Ask, arguments: tuple[str, ...]) -> None:
    """An unknown schedule, a time that is none, a feed of no schedule."""
    assert ask(*arguments, code=2)["error"]["hint"]


def test_an_override_set_here_wins(ask: Ask, folder: Path) -> None:
    """And is said to be one."""
    with Database.file(folder / ".outlast" / "serve.sqlite") as database:
        database.install(overrides.SCHEMA)
        overrides.put(
            database,
            "main/s1",
            Responder("user", "cid", "Cid Example"),
            Interval(TUESDAY, TUESDAY + timedelta(hours=4)),
            by="ann",
            at=TUESDAY,
        )
    told = ask("web", "--at", TUESDAY.isoformat())["schedules"][0]
    assert ([one["name"] for one in told["people"]], told["basis"]) == (["Cid Example"], "override")
    later = ask("web", "--at", (TUESDAY + timedelta(hours=5)).isoformat())["schedules"][0]
    assert ([one["name"] for one in later["people"]], later["basis"]) == (["Bob Example"], "computed")


def test_the_vendors_timeline_is_believed_and_differences_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that Cid has Tuesday; its rules say Bob. The answer is Cid, and --compare ends with 4."""
    tables = rosters.opsgenie()

    def period(who: str, start: str, end: str) -> dict[str, Any]:
        return {"recipient": {"type": "user", "id": who}, "startDate": start, "endDate": end, "type": "default"}

    periods = [
        period("ann", "2026-03-02T14:00:00Z", "2026-03-03T14:00:00Z"),
        period("cid", "2026-03-03T14:00:00Z", "2026-03-04T14:00:00Z"),
    ]
    tables["opsgenie.timelines"] = {
        "s1/0": {
            "startDate": "2026-03-02T14:00:00Z",
            "endDate": "2026-03-04T14:00:00Z",
            "finalTimeline": {"rotations": [{"id": "r1", "name": "daily", "periods": periods}]},
        }
    }
    make_project(tmp_path, tables)
    monkeypatch.chdir(tmp_path)
    assert run(["oncall", "--at", TUESDAY.isoformat(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["schedules"][0]
    assert ([one["id"] for one in told["people"]], told["basis"]) == (["cid"], "vendor")
    assert [one["id"] for one in told["next"]] == ["ann"]  # beyond the timeline: by the rules
    assert run(["oncall", "--compare", "--json"]) == 4
    found = json.loads(capsys.readouterr().out)["differences"]
    assert [(one["from"], one["vendor"][0]["name"], one["computed"][0]["name"]) for one in found] == [
        ("2026-03-03T14:00:00+00:00", "Cid Example", "Bob Example")
    ]


def test_pagerdutys_rendered_schedule_is_believed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It stands in a table of its own, beside the schedule."""
    tables = rosters.pagerduty()
    entry = {"start": "2026-03-03T00:00:00Z", "end": "2026-03-04T00:00:00Z", "user": rosters.reference("user", "fay")}
    tables["pagerduty.rendered_schedules"] = {
        "P1/P1": tables["pagerduty.schedules"]["P1"] | {"final_schedule": {"rendered_schedule_entries": [entry]}}
    }
    make_project(tmp_path, tables)
    monkeypatch.chdir(tmp_path)
    assert run(["oncall", "--at", TUESDAY.isoformat(), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["schedules"][0]
    assert ([one["name"] for one in told["people"]], told["basis"]) == (["Fay Example"], "vendor")
    assert (told["until"], [one["name"] for one in told["next"]]) == ("2026-03-04T00:00:00+00:00", ["Eve Example"])


def test_one_schedule_that_cannot_be_read_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, the command ends with 4, and the others are answered."""
    tables = rosters.both()
    tables["opsgenie.schedules"]["s1"]["timezone"] = "Middle-earth/Shire"
    tables["opsgenie.schedules"]["s2"] = {"id": "s2", "name": "odd", "rotations": [{"participants": [{"id": "x"}]}]}
    make_project(tmp_path, tables)
    monkeypatch.chdir(tmp_path)
    assert run(["oncall", "--at", TUESDAY.isoformat(), "--json"]) == 4
    told = {one["name"]: one for one in json.loads(capsys.readouterr().out)["schedules"]}
    assert "Middle-earth" in told["web"]["problem"]
    assert told["odd"]["problem"]
    assert [one["name"] for one in told["Database"]["people"]] == ["Eve Example"]


def test_a_feed_is_what_calendars_read(ask: Ask) -> None:
    """One event a shift, with the same identity each time it is fetched."""
    feeds = [ask("web", "--ical", "--at", at)["ical"] for at in ("2026-03-10T12:00", "2026-03-11T15:00")]
    first, second = (Calendar.from_ical(feed).walk("VEVENT") for feed in feeds)
    assert str(first[0]["summary"]) == "Ann Example on call: web"
    assert first[0].decoded("dtstart") == datetime(2026, 3, 2, 14, tzinfo=UTC)
    assert len(first) == 63  # days until 4 May
    assert {str(one["uid"]) for one in first} == {str(one["uid"]) for one in second}
