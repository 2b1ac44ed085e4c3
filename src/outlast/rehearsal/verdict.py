"""A verdict: what a rehearsal saw, held against what was declared. Pure.

Unlisted is zero, too little counts as too much does, and what destroys is never implied. Findings come in the order in
which a person should read them: first the table that gives it away.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from outlast.core.effect import Count, Operation, Via
from outlast.core.errors import ExitCode, UsageError
from outlast.core.intent import Expected, ExpectedSchema, Intent
from outlast.core.soft_delete import SOFT_DELETE_COLUMNS
from outlast.core.tenant import ORPHAN, SHARED, Tenant, TenantKey
from outlast.rehearsal.finding import (
    Finding,
    FindingKind,
    Weight,
    destroys,
    done,
    number_text,
    range_text,
    rows_text,
    some_text,
    span_text,
)
from outlast.rehearsal.naming import Meant, ambiguities, meant
from outlast.rehearsal.observed import Alteration, Doubt, Inconclusive, Observed, SchemaChange


class Outcome(StrEnum):
    WITHIN = "WITHIN INTENT"
    BLOCKED = "BLOCKED"
    INCONCLUSIVE = "INCONCLUSIVE"

    @property
    def exit_code(self) -> ExitCode:
        return {"W": ExitCode.DONE, "B": ExitCode.REFUSED, "I": ExitCode.FAILED}[self.value[0]]


@dataclass(frozen=True, slots=True)
class Verdict:
    """`findings` block; `doubts` are points that the copy could not tell and that the intent does not accept."""

    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    doubts: tuple[Inconclusive, ...] = ()
    accepted: tuple[Inconclusive, ...] = ()
    outside: tuple[Tenant, ...] = ()  # tenants touched that nobody listed

    @property
    def gives_away(self) -> str | None:
        """The first table that shows that this is not what was meant."""
        return next((finding.table for finding in self.findings if finding.table), None)

    def to_json(self) -> dict[str, object]:
        return {
            "verdict": self.outcome.value,
            "findings": [finding.to_json() for finding in self.findings],
            "inconclusive": [str(doubt) for doubt in self.doubts],
            "accepted": [str(doubt) for doubt in self.accepted],
            "outside": [{"tenant": one.key, "label": one.label} for one in self.outside],
            "gives_away": self.gives_away,
        }


def judge(
    observed: Observed,
    intent: Intent | None,
    *,
    refusals: Sequence[str] = (),
    markers: frozenset[str] = SOFT_DELETE_COLUMNS,
) -> Verdict:
    """Hold what was seen against what was declared. `refusals` are what the script holds that is not run at all.

    `markers` are the columns that a soft deletion sets. Raises UsageError where the intent accepts an unknown point.
    """
    findings = [Finding(FindingKind.REFUSED, text, weight=Weight.SCRIPT) for text in refusals]
    if observed.error is not None:
        told = f"the script failed on the copy: {observed.error}"
        findings.append(Finding(FindingKind.FAILED, told, weight=Weight.SCRIPT))
    outside: tuple[Tenant, ...] = ()
    if intent is None:
        findings.append(
            Finding(FindingKind.NO_INTENT, "nothing is declared: the script has no intent", weight=Weight.SCRIPT)
        )
        intent = Intent(tenants=None)
    else:
        findings += _adoption(intent)
        found = meant(observed, intent.tenants or ())
        findings += ambiguities(observed, meant(observed, (*(intent.tenants or ()), *intent.canary)))
        outside = _outside(observed, intent, found)
        findings += _tenants(observed, intent, outside, found)
    seen = _totals(observed)
    findings += _effects(seen, intent, observed, markers)
    findings += _schema(observed, intent)
    findings += _sequences(observed, intent)
    findings += _large_objects(observed, intent)
    findings += _undo(observed, intent)
    doubts, accepted = _doubts(observed, intent)
    ordered = tuple(sorted(findings, key=lambda one: (one.weight, -one.rows, one.table, one.message)))
    outcome = Outcome.BLOCKED if ordered else Outcome.INCONCLUSIVE if doubts else Outcome.WITHIN
    return Verdict(outcome, ordered, doubts, accepted, outside)


@dataclass(frozen=True, slots=True)
class _Seen:
    """One table and operation over all tenants."""

    count: Count
    tenants: tuple[TenantKey, ...]


def _totals(observed: Observed) -> dict[tuple[str, Operation], _Seen]:
    totals: dict[tuple[str, Operation], _Seen] = {}
    for (tenant, table, operation), count in sorted(observed.effect.counts.items()):
        before = totals.get((table, operation))
        totals[table, operation] = (
            _Seen(count, (tenant,)) if before is None else _Seen(before.count + count, (*before.tenants, tenant))
        )
    for truncated in observed.truncated:  # also one that was empty: TRUNCATE is never implied
        totals.setdefault((truncated.table, Operation.TRUNCATE), _Seen(Count(0), ()))
    return totals


def _adoption(intent: Intent) -> Iterator[Finding]:
    if intent.awaits_adoption:
        told = f"the intent was drafted by {intent.drafted_by} from what was seen, and nobody else has adopted it"
        line = (
            'adopted = "by=NAME"' if intent.where.partition(":")[0].endswith(".toml") else "-- outlast: adopted by=NAME"
        )
        yield Finding(FindingKind.DRAFTED, f"{told}: another person adds the line `{line}`", weight=Weight.SCRIPT)
    if intent.awaits_reason:
        told = f'the intent does not say why: its line `why` is still the draft\'s ("{intent.why}")'
        yield Finding(FindingKind.DRAFTED, told, weight=Weight.SCRIPT)


def _outside(observed: Observed, intent: Intent, found: Meant) -> tuple[Tenant, ...]:
    """Tenants that were touched and are not listed. Rows that are shared are declared by their table alone."""
    if intent.tenants is None:
        return ()
    touched = [tenant for tenant in observed.effect.tenants if tenant != SHARED]
    return tuple(observed.tenants.get(key, Tenant(key)) for key in touched if key not in found.tenants)


def _tenants(observed: Observed, intent: Intent, outside: Sequence[Tenant], found: Meant) -> Iterator[Finding]:
    if outside:
        keys = tuple(tenant.key for tenant in outside)
        rows = sum(count.rows for (tenant, _, _), count in observed.effect.counts.items() if tenant in keys)
        listed = f"{number_text(len(intent.tenants or ()), 'tenant')} listed" if intent.tenants else "none is listed"
        told = f"{number_text(len(keys), 'tenant')} outside the list touched ({listed}): {some_text(map(str, outside))}"
        yield Finding(FindingKind.TENANTS, told, rows=rows, tenants=keys, weight=Weight.TENANTS)
    touched = set(observed.effect.tenants)
    missed = [
        name for name in intent.tenants or () if name not in found.ambiguous and found.keys.get(name) not in touched
    ]
    if missed:
        told = f"{number_text(len(missed), 'listed tenant')} not touched at all: {some_text(missed)}"
        yield Finding(FindingKind.UNTOUCHED, told, weight=Weight.FEW)


def _effects(
    seen: Mapping[tuple[str, Operation], _Seen], intent: Intent, observed: Observed, markers: frozenset[str]
) -> Iterator[Finding]:
    lines: dict[tuple[str, Operation], list[Expected]] = {}
    for expected in intent.effects:
        lines.setdefault((expected.table, expected.operation), []).append(expected)
    truncated = {one.table for one in observed.truncated}
    # Of these the copy cannot tell which columns changed: that is a doubt of its own
    blind = {one.what.rpartition(" ")[2] for one in observed.inconclusive if one.doubt is Doubt.BLIND}
    for place in sorted(seen.keys() | lines.keys()):
        found = seen.get(place, _Seen(Count(0), ()))
        yield from _held(place, found, lines.get(place, []), intent, truncated)
        for expected in lines.get(place, ()):
            if found.count.columns or place[0] not in blind:
                yield from _columns(expected, found, markers)


def _held(
    place: tuple[str, Operation], found: _Seen, lines: Sequence[Expected], intent: Intent, truncated: set[str]
) -> Iterator[Finding]:
    """The rows of one table and operation against the lines that declare them."""
    table, operation = place
    by_via = {line.via: line for line in lines}
    rows: dict[Via | None, int] = dict.fromkeys(by_via, 0)
    for how in Via:
        number = found.count.via(how)
        line = by_via.get(how) or by_via.get(None)
        if line is not None:
            rows[line.via] += number
        elif number:
            yield _undeclared(place, found, number, how, intent, declared=bool(lines))
    if not lines and operation is Operation.TRUNCATE and table in truncated and not found.count.rows:
        yield _undeclared(place, found, 0, Via.STATEMENT, intent, declared=False)
    for via, line in by_via.items():
        if rows[via] > line.high:
            told = f"{table}: {rows_text(rows[via])} {done(operation)}, and {range_text(line)} declared"
            yield Finding(
                *(FindingKind.TOO_MANY, told, table, operation, rows[via], found.tenants, line.line),
                Weight.DESTROYED if destroys(operation) else Weight.OTHER,
            )
        elif rows[via] < line.low:
            number = rows[via]
            few = f"only {rows_text(number)}" if number else "no row"
            by = f" via {via.value}" if via else ""
            told = f"{table}: {few} {done(operation)}{by}, and {range_text(line)} declared"
            yield Finding(FindingKind.TOO_FEW, told, table, operation, 0, found.tenants, line.line, weight=Weight.FEW)


def _undeclared(
    place: tuple[str, Operation], found: _Seen, rows: int, via: Via, intent: Intent, *, declared: bool
) -> Finding:
    table, operation = place
    how = "" if via is Via.STATEMENT else f" via {via.value}"
    whose = [tenant for tenant in found.tenants if tenant not in (SHARED, ORPHAN)]
    of = f" of {number_text(len(whose), 'tenant')}" if whose else ""
    others = [one.operation.value for one in intent.effects if one.table == table and one.operation is not operation]
    instead = f"; what is declared there is {' and '.join(dict.fromkeys(others))}" if others else ""
    if declared:
        instead = f"; rows that come about {how.strip() or 'by the statement itself'} are not declared"
    weight = Weight.DESTROYED if destroys(operation) else Weight.UNDECLARED
    return Finding(
        FindingKind.UNDECLARED,
        f"{table}: {rows_text(rows)}{of} {done(operation)}{how}, and none declared{instead}",
        *(table, operation, rows, found.tenants),
        weight=weight if via is Via.STATEMENT else Weight.CARRIED,
    )


def _columns(expected: Expected, found: _Seen, markers: frozenset[str]) -> Iterator[Finding]:
    """What an update touched is what it was declared to touch: no column more, and none less."""
    if expected.operation not in (Operation.UPDATE, Operation.SOFT_DELETE, Operation.MOVE) or not found.count.rows:
        return
    touched = found.count.columns
    if expected.columns is None:
        more, fewer = touched - markers, frozenset[str]()
        if expected.operation is Operation.MOVE:
            return
    else:
        more, fewer = touched - expected.columns, expected.columns - touched
    if more:
        told = (
            f"{expected.table}: {some_text(sorted(more))} changed by the {expected.operation.value}, and not declared"
        )
        yield _on_columns(expected, found, told, Weight.OTHER)
    if fewer:
        told = (
            f"{expected.table}: {some_text(sorted(fewer))} declared for the {expected.operation.value}, and not changed"
        )
        yield _on_columns(expected, found, told, Weight.FEW)


def _on_columns(expected: Expected, found: _Seen, told: str, weight: Weight) -> Finding:
    return Finding(
        *(FindingKind.COLUMNS, told, expected.table, expected.operation, found.count.rows, found.tenants),
        *(expected.line, weight),
    )


def _schema(observed: Observed, intent: Intent) -> Iterator[Finding]:
    declared = {_place(one): one for one in intent.schema}
    found = {(change.alteration.value, change.kind, change.name): change for change in observed.schema}
    for place, change in found.items():
        if place not in declared:
            lost = sum(change.rows.values())
            rows = f", with {rows_text(lost)} of {number_text(len(change.rows), 'tenant')}" if lost else ""
            told = f"{change}{rows}, and not declared"
            yield Finding(
                *(FindingKind.SCHEMA, told, _table_of(change), None, lost, tuple(sorted(change.rows))),
                weight=Weight.DESTROYED if change.irreversible else Weight.UNDECLARED,
            )
    explained = {_table_of(change) for change in observed.schema} | {one.table for one in observed.truncated}
    for table in observed.rewritten:
        if table not in explained and ("changed", "table", table) not in declared:
            told = f"{table} rewritten, and not declared (schema changed table {table})"
            yield Finding(FindingKind.SCHEMA, told, table, weight=Weight.UNDECLARED)
    for place, one in declared.items():
        if place not in found and not (place[:2] == ("changed", "table") and place[2] in observed.rewritten):
            told = f"schema {one}: declared, and did not happen"
            yield Finding(FindingKind.TOO_FEW, told, line=one.line, weight=Weight.FEW)


def _place(one: ExpectedSchema) -> tuple[str, str, str]:
    return one.alteration, one.kind, one.name


def _table_of(change: SchemaChange) -> str:
    return change.name.rpartition(".")[0] if change.kind == "column" else change.name


def _sequences(observed: Observed, intent: Intent) -> Iterator[Finding]:
    """Inserts draw from sequences; one that goes back gives numbers out a second time."""
    dropped = {change.name for change in observed.schema if change.alteration is Alteration.DROPPED}
    for move in observed.sequences:
        if move.back and move.name not in dropped and not any(one.name == move.name for one in intent.schema):
            told = f"sequence {move.name} goes back from {move.before} to {move.after}: numbers come a second time"
            yield Finding(FindingKind.SEQUENCE, told, weight=Weight.OTHER)


def _large_objects(observed: Observed, intent: Intent) -> Iterator[Finding]:
    if observed.large_objects and Doubt.OBJECTS.value not in intent.accepts:
        told = f"{number_text(observed.large_objects, 'large object')} made, changed or removed, and not declared"
        yield Finding(FindingKind.UNDECLARED, f"{told} (accept {Doubt.OBJECTS.value})", weight=Weight.UNDECLARED)


def _undo(observed: Observed, intent: Intent) -> Iterator[Finding]:
    """What no before-image brings back is named, unless somebody waived that by name."""
    if intent.undo_waived is not None:
        return
    lost = [str(change) for change in observed.irreversible]
    lost += [f"TRUNCATE of {one.table}" for one in observed.truncated]
    moved = sorted({table for _, table, operation in observed.effect.counts if operation is Operation.MOVE})
    lost += [f"rows of {table} moved between tenants" for table in moved]
    lost += [f"{number_text(observed.large_objects, 'large object')} changed"] if observed.large_objects else []
    lost += [f"{statement} (it cannot run in a transaction)" for statement in observed.unguarded]
    if lost:
        told = f"undo is required, and cannot take back: {some_text(lost)}"
        yield Finding(FindingKind.UNDO, f"{told}. To go without: undo waived by=NAME reason=TEXT", weight=Weight.LAST)


def _doubts(observed: Observed, intent: Intent) -> tuple[tuple[Inconclusive, ...], tuple[Inconclusive, ...]]:
    """The points that the intent does not accept, and those that it does, by the point's name or with its object."""
    known = [doubt.value for doubt in Doubt]
    for point in intent.accepts:
        name = point.partition(":")[0].strip()
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Points: {', '.join(known)}."
            raise UsageError(f"{intent.where}: there is no point {name!r} to accept", hint=hint, code="intent")
    points = list(observed.inconclusive)
    limit = intent.clone_age_max
    age_s = observed.circumstances.age_s
    if limit is not None and age_s > limit.total_seconds() and all(one.doubt is not Doubt.AGE for one in points):
        told = f"{span_text(age_s)} old, and {span_text(limit.total_seconds())} at most declared"
        points.append(Inconclusive(Doubt.AGE, told))
    accepts = {"".join(point.split()) for point in intent.accepts}

    def taken(one: Inconclusive) -> bool:
        return one.doubt.value in accepts or "".join(str(one).split()) in accepts

    return tuple(one for one in points if not taken(one)), tuple(one for one in points if taken(one))
