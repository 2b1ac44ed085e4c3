"""Paging's rows as values: what a column of JSON, or a time in seconds, stands for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from outlast.core.page import Page
from outlast.core.page import Responder as Wanted
from outlast.oncall.escalation import Notice, NoticeState, PlannedStep, StepState
from outlast.oncall.policy import Step
from outlast.oncall.schedule import Responder


def moment(seconds: float | None) -> datetime:
    return datetime.fromtimestamp(seconds or 0.0, UTC)


def planned_of(row: Mapping[Any, Any]) -> PlannedStep:
    return PlannedStep(
        row["round"],
        row["number"],
        moment(row["due_at"]),
        step_of(row["step"]),
        moment(row["fresh_since"]) if row["fresh_since"] else None,
        StepState(row["state"]),
        row["people"],
    )


def notice_of(row: Mapping[Any, Any]) -> Notice:
    return Notice(
        row["id"],
        row["round"],
        row["number"],
        row["person"],
        row["method"],
        row["address"],
        moment(row["due_at"]),
        NoticeState(row["state"]),
        row["tries"],
        moment(row["lease_until"]) if row["lease_until"] is not None else None,
    )


def page_json(page: Page) -> str:
    return json.dumps(asdict(page) | {"at": page.at.timestamp()}, ensure_ascii=False)


def page_of(text: str) -> Page:
    given = json.loads(text)
    wanted = tuple(Wanted(**one) for one in given.pop("responders"))
    return Page(**given | {"at": moment(given["at"]), "responders": wanted, "tags": tuple(given["tags"])})


def step_json(step: Step) -> str:
    one = step.recipient
    recipient = {"kind": one.kind, "id": one.id, "name": one.name}
    return json.dumps(
        {
            "after": step.after.total_seconds(),
            "source": step.source,
            "recipient": recipient,
            "notify": step.notify,
            "unacknowledged": step.unacknowledged,
        },
        ensure_ascii=False,
    )


def step_of(text: str) -> Step:
    given = json.loads(text)
    return Step(
        timedelta(seconds=given["after"]),
        given["source"],
        Responder(**given["recipient"]),
        given["notify"],
        given["unacknowledged"],
    )
