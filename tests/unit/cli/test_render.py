"""What people read: figures, effects and errors as text."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pytest

from outlast.cli import render
from outlast.cli.output import Output, error_text
from outlast.cli.status import newest_moments
from outlast.core.effect import Count, Effect, Operation
from outlast.core.errors import ExitCode, OutlastError, Refused
from outlast.core.moment import Lsn, Moment
from outlast.core.tenant import Tenant, TenantKey
from outlast.vault.manifest import Head
from outlast.vault.reader import TenantEntry
from outlast.vault.run import RunRecord

ACME = Tenant(TenantKey("48213"), "acme")


def printed(effect: Effect, *, done: bool = False) -> str:
    stdout = io.StringIO()
    Output(stdout=stdout).finish({}, render.effect_table(effect, {ACME.key: ACME}, done=done))
    return stdout.getvalue()


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_499, "999.5 kB"), (1_300_000_000, "1.3 GB"), (5e13, "50.0 TB")],
)
def test_sizes(size_bytes: float, text: str) -> None:
    """Sizes are in powers of a thousand."""
    assert render.size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (3660, "1 h 1 min"), (90_000, "1 d 1 h")],
)
def test_ages(seconds: int, text: str) -> None:
    """An age is as short as it can be said; a clock that is ahead is no age."""
    assert render.age(timedelta(seconds=seconds)) == text


def test_an_effect_names_tenant_table_operation_and_rows() -> None:
    """The whole of an effect stands in its table, and its sum below it."""
    effect = Effect(
        {
            (ACME.key, "public.items", Operation.INSERT): Count(1200, samples=("1", "2")),
            (ACME.key, "public.items", Operation.UPDATE): Count(3, frozenset({"b", "a"})),
        }
    )
    text = printed(effect)
    assert "acme (48213)" in text
    assert "insert" in text
    assert "1,200" in text
    assert "1, 2, …" in text
    assert "a, b" in text
    assert text.endswith("Plan: 1,200 to insert, 3 to update.\n")
    assert printed(effect, done=True).endswith("Done: 1,200 inserted, 3 updated.\n")


def test_an_empty_effect_says_so() -> None:
    """Nothing to do is said, not shown as an empty table."""
    assert printed(Effect()) == "Plan: nothing to change.\n"


def test_a_long_effect_is_cut_and_says_how_much() -> None:
    """What is left out of a person's table is counted."""
    lines = render.EFFECT_LINES_MAX + 7
    counts = {(ACME.key, f"public.t{n:03}", Operation.INSERT): Count(1) for n in range(lines)}
    text = printed(Effect(counts))
    assert "… and 7 more lines" in text
    assert f"Plan: {lines} to insert." in text


def test_a_result_with_a_problem_prints_both() -> None:
    """Findings go to stdout, the problem to stderr, and the exit code is the problem's."""
    stdout, stderr = io.StringIO(), io.StringIO()
    code = Output(stdout=stdout, stderr=stderr).finish({}, "findings", problem=Refused("no", hint="a\nb"))
    assert (code, stdout.getvalue()) == (ExitCode.REFUSED, "findings\n")
    assert stderr.getvalue() == "Error: no\nHint: a\n      b\n"


def test_notes_are_silent_with_json() -> None:
    """A script that reads both streams gets one object and nothing else."""
    stderr = io.StringIO()
    Output(json=True, stdout=io.StringIO(), stderr=stderr).note("working")
    assert stderr.getvalue() == ""


def test_an_error_without_a_hint_is_one_line() -> None:
    """No empty hint is printed."""
    assert error_text(OutlastError("it broke")) == "Error: it broke"


def run_record(run: int, hours: int, scope: tuple[str, ...] | None = None) -> RunRecord:
    at = datetime(2022, 4, 5, hours, tzinfo=UTC)
    moment = Moment(at, Lsn(1), Lsn(2), "1:1:")
    return RunRecord("main", run, None, at, at, moment, True, run, {}, {}, b"", scope)


def entry(prefix: str) -> TenantEntry:
    return TenantEntry(Tenant(TenantKey(prefix)), prefix, "age1", Head(1, "", 0, 0))


def test_a_run_over_some_tenants_vouches_for_these_only() -> None:
    """A tenant that the newest run did not look at is as old as the newest run that did; the oldest comes first."""
    runs = [run_record(1, 1), run_record(2, 2), run_record(3, 3, ("b",))]
    found = newest_moments([entry("b"), entry("a")], runs, datetime(2022, 4, 5, 4, tzinfo=UTC))
    assert [(one.tenant.key, one.run, one.age) for one in found] == [
        ("a", 2, timedelta(hours=2)),
        ("b", 3, timedelta(hours=1)),
    ]
