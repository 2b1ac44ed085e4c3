"""A drafted intent: what a rehearsal saw, written as a declaration for another person to read and to adopt by name."""

from __future__ import annotations

from outlast.core.effect import Count, Operation, Via
from outlast.core.intent import UNWRITTEN, Expected, ExpectedSchema, Intent
from outlast.core.tenant import SHARED
from outlast.rehearsal.naming import names_of
from outlast.rehearsal.observed import Observed


def draft_intent(observed: Observed, by: str, where: str = "", before: Intent | None = None) -> Intent:
    """An intent that would pass, were it not drafted. Of one that was there, `why` and what was accepted are kept.

    Nobody's waiver is drafted: where undo cannot take everything back, a person has to say so.
    """
    totals: dict[tuple[str, Operation], Count] = {}
    for (_, table, operation), count in sorted(observed.effect.counts.items()):
        place = table, operation
        totals[place] = totals[place] + count if place in totals else count
    for truncated in observed.truncated:
        totals.setdefault((truncated.table, Operation.TRUNCATE), Count(0))
    effects = [line for (table, operation), count in totals.items() for line in _lines(table, operation, count)]
    touched = [key for key in observed.effect.tenants if key != SHARED]
    labels = names_of(observed, touched)
    altered = {change.name for change in observed.schema} | {one.table for one in observed.truncated}
    schema = [ExpectedSchema(change.alteration.value, change.kind, change.name) for change in observed.schema]
    schema += [
        ExpectedSchema("changed", "table", table)
        for table in observed.rewritten
        if not any(name == table or name.startswith(f"{table}.") for name in altered)
    ]
    return Intent(
        where,
        before.why if before and before.why else f"{UNWRITTEN}: what this is for",
        labels,
        effects=tuple(effects),
        schema=tuple(schema),
        undo_waived=before.undo_waived if before else None,
        clone_age_max=before.clone_age_max if before else None,
        accepts=before.accepts if before else (),
        drafted_by=by,
    )


def _lines(table: str, operation: Operation, count: Count) -> list[Expected]:
    named = operation in (Operation.UPDATE, Operation.SOFT_DELETE)
    columns = count.columns if named and count.columns else None
    if count.via(Via.STATEMENT) == count.rows:
        return [Expected(table, operation, count.rows, count.rows, columns)]
    numbers = {via: count.via(via) for via in Via}
    return [Expected(table, operation, rows, rows, columns, via) for via, rows in numbers.items() if rows]
