"""Verdicts: unlisted is zero, too little blocks as too much does, and the table that gives it away comes first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from outlast.core.effect import Count, Effect, Operation
from outlast.core.errors import UsageError
from outlast.core.intent import Intent, UndoWaiver
from outlast.core.intent_text import parse_intent
from outlast.core.tenant import SHARED, Tenant, TenantKey
from outlast.rehearsal.draft import draft_intent
from outlast.rehearsal.finding import FindingKind
from outlast.rehearsal.observed import (
    Alteration,
    Circumstances,
    Doubt,
    Inconclusive,
    Observed,
    SchemaChange,
    SequenceMove,
    Truncated,
)
from outlast.rehearsal.verdict import Outcome, Verdict, judge

CIRCUMSTANCES = Circumstances("main", "run:1", datetime(2026, 1, 1, tzinfo=UTC), 60.0, "vault", "18.0", "app")
ACME, GLOBEX = TenantKey("1"), TenantKey("2")
TENANTS = {ACME: Tenant(ACME, "acme"), GLOBEX: Tenant(GLOBEX, "globex")}
SITES, APPS = "public.sites", "public.apps"


def seen(*counts: tuple[TenantKey, str, Operation, Count]) -> Observed:
    effect = Effect({(tenant, table, operation): count for tenant, table, operation, count in counts})
    return Observed(CIRCUMSTANCES, effect, TENANTS)


def intent(*lines: str) -> Intent:
    found = parse_intent("".join(f"-- outlast: {line}\n" for line in lines), "a.sql", lambda _: "")
    assert found is not None
    return found


def marked(rows: int) -> Count:
    return Count(rows, frozenset({"deleted_at"}))


def kinds(verdict: Verdict) -> list[FindingKind]:
    return [finding.kind for finding in verdict.findings]


def test_what_was_declared_and_seen_is_within() -> None:
    """The rows, the table, the operation and the tenants declared, and nothing else."""
    verdict = judge(
        seen((ACME, APPS, Operation.SOFT_DELETE, marked(3)), (GLOBEX, APPS, Operation.SOFT_DELETE, marked(2))),
        intent("tenants acme, 2", "effect public.apps soft-delete rows=5"),
    )
    assert verdict.outcome is Outcome.WITHIN
    assert verdict.findings == ()


def test_the_2022_script_names_the_table_that_gives_it_away() -> None:
    """Meant to soft-delete applications, it deleted sites for good: the sites come first, cascades after them."""
    keys = [TenantKey(str(number)) for number in range(883)]
    counts = {(key, SITES, Operation.HARD_DELETE): Count(1) for key in keys}
    counts |= {(key, "public.pages", Operation.HARD_DELETE): Count(40, cascaded=40) for key in keys}
    verdict = judge(
        Observed(CIRCUMSTANCES, Effect(counts)),
        intent("tenants acme", "effect public.apps soft-delete rows=883"),
    )
    assert verdict.outcome is Outcome.BLOCKED
    assert verdict.gives_away == SITES
    assert verdict.findings[0].message == ("public.sites: 883 rows of 883 tenants deleted for good, and none declared")
    assert len(verdict.outside) == 883
    assert FindingKind.TOO_FEW in kinds(verdict)
    assert kinds(verdict).index(FindingKind.TENANTS) > 1


@pytest.mark.parametrize("rows", [4, 6])
def test_too_little_blocks_as_too_much_does(rows: int) -> None:
    """In 2022 staging held none of the ids: a script that does less than declared was given the wrong ones."""
    verdict = judge(
        seen((ACME, APPS, Operation.SOFT_DELETE, marked(rows))),
        intent("tenants acme", "effect public.apps soft-delete rows=5"),
    )
    assert verdict.outcome is Outcome.BLOCKED
    assert kinds(verdict) == [FindingKind.TOO_FEW if rows < 5 else FindingKind.TOO_MANY]


def test_nothing_at_all_is_too_little() -> None:
    """No row and no tenant reached."""
    verdict = judge(seen(), intent("tenants acme", "effect public.apps soft-delete rows=1..5"))
    assert kinds(verdict) == [FindingKind.UNTOUCHED, FindingKind.TOO_FEW] or kinds(verdict) == [
        FindingKind.TOO_FEW,
        FindingKind.UNTOUCHED,
    ]


def test_a_hard_delete_is_no_soft_delete() -> None:
    """The same table and number of rows, and gone for good."""
    verdict = judge(
        seen((ACME, APPS, Operation.HARD_DELETE, Count(5))),
        intent("tenants acme", "effect public.apps soft-delete rows=5"),
    )
    assert kinds(verdict) == [FindingKind.UNDECLARED, FindingKind.TOO_FEW]
    assert "what is declared there is soft-delete" in verdict.findings[0].message


def test_a_column_more_and_a_column_fewer() -> None:
    """An update touches exactly the columns declared; a soft deletion its marker alone, unless more are named."""
    two = Count(1, frozenset({"a", "b"}))
    declared = ["tenants acme", "effect public.apps update(a) rows=1"]
    assert kinds(judge(seen((ACME, APPS, Operation.UPDATE, two)), intent(*declared))) == [FindingKind.COLUMNS]
    declared = ["tenants acme", "effect public.apps update(a, b, c) rows=1"]
    assert kinds(judge(seen((ACME, APPS, Operation.UPDATE, two)), intent(*declared))) == [FindingKind.COLUMNS]
    soft = Count(1, frozenset({"deleted_at", "note"}))
    declared = ["tenants acme", "effect public.apps soft-delete rows=1"]
    assert kinds(judge(seen((ACME, APPS, Operation.SOFT_DELETE, soft)), intent(*declared))) == [FindingKind.COLUMNS]


def test_a_cascade_is_declared_as_such_or_in_all() -> None:
    """`via=statement` leaves what a cascade carries undeclared; without via any way is covered."""
    both = seen((ACME, APPS, Operation.HARD_DELETE, Count(5, cascaded=2)))
    assert judge(both, intent("tenants acme", "effect public.apps hard-delete rows=5")).outcome is Outcome.WITHIN
    verdict = judge(both, intent("tenants acme", "effect public.apps hard-delete rows=3 via=statement"))
    assert kinds(verdict) == [FindingKind.UNDECLARED]
    assert "via cascade" in verdict.findings[0].message
    exact = ["effect public.apps hard-delete rows=3 via=statement", "effect public.apps hard-delete rows=2 via=cascade"]
    assert judge(both, intent("tenants acme", *exact)).outcome is Outcome.WITHIN


def test_tenants_outside_the_list_are_named() -> None:
    """By label and key; rows that are shared belong to nobody's list."""
    verdict = judge(
        seen(
            (ACME, APPS, Operation.UPDATE, Count(1, frozenset({"a"}))),
            (GLOBEX, APPS, Operation.UPDATE, Count(1, frozenset({"a"}))),
            (SHARED, "public.plans", Operation.INSERT, Count(1)),
        ),
        intent("tenants acme", "effect public.apps update(a) rows=2", "effect public.plans insert rows=1"),
    )
    assert kinds(verdict) == [FindingKind.TENANTS]
    assert verdict.outside == (TENANTS[GLOBEX],)
    assert "globex (2)" in verdict.findings[0].message


def test_all_tenants_means_all() -> None:
    """A migration may touch everybody, if it says so."""
    verdict = judge(
        seen((GLOBEX, APPS, Operation.INSERT, Count(1))), intent("tenants all", "effect public.apps insert rows=1")
    )
    assert verdict.outcome is Outcome.WITHIN


def test_truncate_is_never_implied_and_not_undoable() -> None:
    """Not even of an empty table; declared, it still needs somebody to waive undo by name."""
    emptied = replace(seen(), truncated=(Truncated(APPS, {}),))
    assert FindingKind.UNDECLARED in kinds(judge(emptied, intent("undo waived by=ann reason=none")))
    declared = "effect public.apps truncate rows=0"
    assert kinds(judge(emptied, intent(declared))) == [FindingKind.UNDO]
    assert judge(emptied, intent(declared, "undo waived by=ann reason=none")).outcome is Outcome.WITHIN


def test_schema_loss_is_declared_and_waived() -> None:
    """A dropped column takes data along: it is named as an object, and undo waived."""
    lost = SchemaChange(Alteration.DROPPED, "column", "public.apps.note", irreversible=True, rows={ACME: 3})
    dropped = replace(seen(), schema=(lost,))
    verdict = judge(dropped, intent("undo required"))
    assert kinds(verdict) == [FindingKind.SCHEMA, FindingKind.UNDO]
    assert "3 rows of 1 tenant" in verdict.findings[0].message
    waived = ["schema dropped column public.apps.note", "undo waived by=ann reason=empty"]
    assert judge(dropped, intent(*waived)).outcome is Outcome.WITHIN
    assert kinds(judge(seen(), intent(*waived))) == [FindingKind.TOO_FEW]


def test_a_rewrite_is_declared() -> None:
    """A table that was written anew with nothing in the catalog to show for it (CLUSTER, VACUUM FULL)."""
    rewritten = replace(seen(), rewritten=(APPS,))
    assert kinds(judge(rewritten, intent("undo required"))) == [FindingKind.SCHEMA]
    assert judge(rewritten, intent("schema changed table public.apps")).outcome is Outcome.WITHIN


def test_a_sequence_may_go_on_and_not_back() -> None:
    """Inserts draw numbers; setval to less gives them out twice."""
    on = replace(seen(), sequences=(SequenceMove("public.s", 5, 9),))
    back = replace(seen(), sequences=(SequenceMove("public.s", 9, 5),))
    assert judge(on, intent("undo required")).outcome is Outcome.WITHIN
    assert kinds(judge(back, intent("undo required"))) == [FindingKind.SEQUENCE]


def test_what_the_copy_could_not_tell_is_never_a_pass() -> None:
    """Unless the intent accepts it, by the point's name, or with its object; an unknown name is an error."""
    doubtful = replace(seen(), inconclusive=(Inconclusive(Doubt.EXTENSION, "postgis"),))
    assert judge(doubtful, intent("undo required")).outcome is Outcome.INCONCLUSIVE
    assert judge(doubtful, intent("accept missing-extension")).outcome is Outcome.WITHIN
    assert judge(doubtful, intent("accept missing-extension: postgis")).outcome is Outcome.WITHIN
    assert judge(doubtful, intent("accept missing-extension: hstore")).outcome is Outcome.INCONCLUSIVE
    with pytest.raises(UsageError, match="no point 'missing-extensions'"):
        judge(doubtful, intent("accept missing-extensions"))


def test_an_old_copy_is_inconclusive() -> None:
    """`clone max-age=` bounds it."""
    old = replace(seen(), circumstances=replace(CIRCUMSTANCES, age_s=timedelta(days=2).total_seconds()))
    verdict = judge(old, intent("clone max-age=24h"))
    assert verdict.outcome is Outcome.INCONCLUSIVE
    assert verdict.doubts[0].what == "2.0 d old, and 1.0 d at most declared"


def test_no_intent_a_failure_and_refusals_block() -> None:
    """The whole effect stands behind them all the same."""
    hit = seen((ACME, APPS, Operation.INSERT, Count(1)))
    assert kinds(judge(hit, None)) == [FindingKind.NO_INTENT, FindingKind.UNDECLARED]
    failed = replace(seen(), error="division by zero")
    assert kinds(judge(failed, intent("undo required"))) == [FindingKind.FAILED]
    assert kinds(judge(seen(), intent("undo required"), refusals=["line 3: COMMIT"])) == [FindingKind.REFUSED]


def test_a_draft_passes_once_another_has_adopted_it() -> None:
    """What was seen is what was drafted; only the reason and the adoption are missing."""
    observed = replace(
        seen(
            (ACME, APPS, Operation.HARD_DELETE, Count(5, cascaded=2)),
            (ACME, SITES, Operation.UPDATE, Count(1, frozenset({"a", "b"}))),
            (SHARED, "public.plans", Operation.INSERT, Count(1)),
        ),
        schema=(SchemaChange(Alteration.ADDED, "index", "public.i"),),
        rewritten=("public.big",),
    )
    drafted = draft_intent(observed, "ann", "a.sql")
    assert kinds(judge(observed, drafted)) == [FindingKind.DRAFTED] * 2
    assert kinds(judge(observed, replace(drafted, adopted_by="bob"))) == [FindingKind.DRAFTED]
    again = replace(intent(*drafted.lines()), why="a new index")
    assert kinds(judge(observed, replace(again, adopted_by="ann"))) == [FindingKind.DRAFTED]
    assert judge(observed, replace(again, adopted_by="bob")).outcome is Outcome.WITHIN


def test_outcomes_have_their_exit_codes() -> None:
    """0, 3 and 1, as every command has it."""
    assert [outcome.exit_code for outcome in Outcome] == [0, 3, 1]
    assert UndoWaiver("ann", "x").by == "ann"


def test_an_update_that_changes_nothing_is_too_little() -> None:
    """Rows written as they were: the declared column did not change. Where the copy cannot tell columns, it says so."""
    idle = seen((ACME, APPS, Operation.UPDATE, Count(2)))
    declared = intent("tenants acme", "effect public.apps update(site_id) rows=2")
    assert kinds(judge(idle, declared)) == [FindingKind.COLUMNS]
    blind = replace(idle, inconclusive=(Inconclusive(Doubt.BLIND, f"columns of updates of {APPS}"),))
    assert judge(blind, declared).outcome is Outcome.INCONCLUSIVE
