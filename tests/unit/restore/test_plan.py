"""A plan is kept as bytes and comes back whole."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from outlast.core.effect import Count, Effect, Operation
from outlast.core.errors import OutlastError
from outlast.core.plan import Conflict, ConflictKind, Plan, Recipe, TenantPlan, TenantState, new_plan_id
from outlast.core.tenant import Tenant, TenantKey

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ACME = TenantKey("48213")
EFFECT = Effect({(ACME, "public.items", Operation.INSERT): Count(147, samples=("1", "2"))})
CONFLICT = Conflict(
    ACME, "public.items", ConflictKind.KEY_TAKEN, "told", "items_pkey", 2, ("1",), ("9",), "do this", ("v",)
)
PLAN = Plan(
    "0abc",
    "restore",
    "main",
    Recipe(tables=("public.items",)),
    7,
    "2026-11-22",
    NOW,
    (
        TenantPlan(
            Tenant(ACME, "acme"),
            TenantState.REFUSED,
            EFFECT,
            {"public.items": "aa"},
            {"public.items": "bb"},
            "cc",
            True,
            (CONFLICT,),
            ("a note",),
            1.5,
        ),
        TenantPlan(Tenant(TenantKey("odd\udcff\t")), TenantState.FAILED, Effect(), error="told"),
    ),
    "postgresql://u:secret@h/d",
    "shape",
    NOW + timedelta(seconds=1),
)


def test_bytes_and_back() -> None:
    """Everything survives, also a tenant's key that is not UTF-8."""
    assert Plan.from_bytes(PLAN.to_bytes()) == PLAN


def test_a_plan_of_another_version_is_refused() -> None:
    """A format that is not known is told, not guessed."""
    document = json.loads(PLAN.to_bytes()) | {"format": 99}
    with pytest.raises(OutlastError, match="another version"):
        Plan.from_bytes(json.dumps(document).encode())


def test_the_json_that_is_promised() -> None:
    """The fields that scripts read, and no URL with its password among them."""
    document = PLAN.to_json()
    assert document["plan"] == "0abc"
    assert document["executed"] is True
    assert document["effect"] == {"public.items": {"insert": 147}}
    tenants = document["tenants"]
    assert isinstance(tenants, list)
    assert {"tenant", "label", "state", "effect", "root", "seconds"} <= tenants[0].keys()
    assert "secret" not in json.dumps(document)


def test_ids_sort_by_time_and_are_short() -> None:
    """Nine characters, in the order the plans were made in."""
    ids = [new_plan_id(NOW + timedelta(seconds=n)) for n in range(0, 10**8, 10**7 // 3)]
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {9}
    assert len(set(ids)) == len(ids)
