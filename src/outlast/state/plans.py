"""Plans kept on this host, so that `apply` does what was shown and `plans` can list them."""

from __future__ import annotations

from outlast.state.local import LocalState

_SPACE = "plan"


def put_plan(state: LocalState, plan_id: str, plan: bytes) -> None:
    state.put(_SPACE, plan_id, plan)


def get_plan(state: LocalState, plan_id: str) -> bytes | None:
    return state.get(_SPACE, plan_id)


def list_plans(state: LocalState) -> list[tuple[str, bytes]]:
    """Every plan, by id."""
    return sorted(state.items(_SPACE))
