"""`outlast plans`: the plans made on this host, the newest first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import typer

from outlast.cli import retaining
from outlast.cli.opening import Invocation
from outlast.cli.render import count, summary, table_of
from outlast.cli.render import time as shown_time
from outlast.core.errors import ExitCode
from outlast.core.plan import Plan, TenantState

if TYPE_CHECKING:
    from rich.console import Console

    from outlast.vault.retention import RetentionPlan


@dataclass(frozen=True, slots=True)
class _Listed:
    """One plan of whatever kind, as it is listed."""

    created: datetime
    row: tuple[str, ...]
    fields: dict[str, object]


def plans(
    context: typer.Context,
    limit: Annotated[int, typer.Option(min=1, metavar="N", help="How many, the newest first.")] = 20,
) -> ExitCode:
    """List the plans made on this host.

    The newest first, with what each would do or did. They are kept encrypted in this host's state.
    """
    from outlast.state.plans import list_plans

    invocation = Invocation.of(context)
    kept = [_of_rows(Plan.from_bytes(data)) for _, data in list_plans(invocation.state)]
    kept += [_of_retention(plan, executed) for plan, executed in retaining.listed(invocation)]
    kept.sort(key=lambda one: one.created, reverse=True)

    def text(console: Console) -> None:
        if not kept:
            console.print("No plan was made on this host yet. Next: outlast restore TENANT")
            return
        console.print(
            table_of(("plan", "created", "kind", "tenants", "effect", "state"), [one.row for one in kept[:limit]])
        )
        if len(kept) > limit:
            console.print(f"… and {count(len(kept) - limit, 'older plan')} (--limit shows more).")

    return invocation.output.finish({"plans": [one.fields for one in kept[:limit]]}, text)


def _of_rows(plan: Plan) -> _Listed:
    names = ", ".join(str(tenant.tenant) for tenant in plan.tenants[:3]) + (", …" if len(plan.tenants) > 3 else "")
    done = summary(plan.effect, done=plan.executed).partition(": ")[2]
    fields = {
        "plan": plan.id,
        "kind": plan.kind,
        "source": plan.source,
        "created": plan.created.isoformat(),
        "run": plan.run,
        "moment": plan.moment,
        "tenants": [tenant.tenant.key for tenant in plan.tenants],
        "effect": plan.effect.to_json(),
        "conflicts": len(plan.conflicts),
        "state": _state(plan),
        "executed": plan.executed,
    }
    return _Listed(plan.created, (plan.id, shown_time(plan.created), plan.kind, names, done, _state(plan)), fields)


def _of_retention(plan: RetentionPlan, executed: bool) -> _Listed:
    kind, state = plan.kind.value, "applied" if executed else "planned"
    fields = {
        "plan": plan.id,
        "kind": kind,
        "source": plan.source,
        "created": plan.made.isoformat(),
        "lines": list(plan.lines),
        "marks": len(plan.marks),
        "deletes": len(plan.deletes),
        "state": state,
        "executed": executed,
    }
    effect = f"{count(len(plan.marks), 'mark')}, {count(len(plan.deletes), 'object')} to delete"
    return _Listed(plan.made, (plan.id, shown_time(plan.made), kind, "", effect, state), fields)


def _state(plan: Plan) -> str:
    if not plan.executed and not plan.tenants:
        return "interrupted"  # planned and carried out in one go, and cut short: what it reached can be undone
    if not plan.executed:
        return "conflicts" if plan.conflicts else "planned"
    failed = plan.count(TenantState.REFUSED) + plan.count(TenantState.FAILED)
    if not failed:
        return "applied"
    return "partly applied" if plan.count(TenantState.DONE) else "refused"
