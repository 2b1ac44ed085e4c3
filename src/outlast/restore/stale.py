"""A plan that does not hold any more: which rows were written since it was made."""

from __future__ import annotations

from outlast.core.errors import Refused
from outlast.core.plan import TenantPlan
from outlast.restore.scope import Scope
from outlast.restore.sessions import roll_back
from outlast.sources.postgres.session import Session
from outlast.sources.postgres.write_staleness import rows_since


def stale(reader: Session, scope: Scope, plan: TenantPlan, shown: TenantPlan) -> Refused:
    """The refusal, which names the rows. `reader` may be in a transaction: it is ended."""
    roll_back(reader)
    told = []
    names = sorted(
        name for name in plan.changes.keys() | shown.changes.keys() if plan.changes.get(name) != shown.changes.get(name)
    )
    for table in scope.tables_of([plan.tenant.key]):
        if str(table.name) not in names:
            continue
        rows, keys = rows_since(reader, scope.catalog, table, plan.tenant.key, shown.snapshot)
        which = f" ({', '.join(keys)}{', …' if rows > len(keys) else ''})" if keys else ""
        told.append(
            f"{rows:,} rows of {table.name} were written since{which}" if rows else f"rows of {table.name} are gone"
        )
    what = "; ".join(told) or "its conflicts are other ones"
    return Refused(
        f"the plan for tenant {plan.tenant} is stale, and was not applied: {what}",
        hint="Plan again with `outlast restore`, and look at the new plan.",
        code="stale",
    )
