"""Intents: what the lines mean, that what is written reads back, and that nothing is passed over."""

from __future__ import annotations

from datetime import timedelta

import pytest

from outlast.core.effect import Operation, Via
from outlast.core.errors import UsageError
from outlast.core.intent import Expected, ExpectedSchema, Intent, UndoWaiver
from outlast.core.intent_text import parse_intent

HEADER = """\
-- Closes the old application.
/* A block comment
-- outlast: is no place for an intent */

-- outlast: why close the old application
-- outlast: tenants acme, "b, c", globex canary=acme
-- outlast: effect public.installs soft-delete(deleted_at, updated_at) rows=1_883
-- outlast: effect public.logs hard-delete rows=1..9 via=cascade
-- outlast: schema added materialized view public.totals
-- outlast: schema changed function public.f(integer, text)
-- outlast: undo waived by=ann reason=it is made again every night
-- outlast: clone max-age=24h
-- outlast: accept other-version
-- outlast: drafted by=ann
-- outlast: adopted by=bob

UPDATE installs SET deleted_at = now();
"""

INTENT = Intent(
    "a.sql",
    "close the old application",
    ("acme", "b, c", "globex"),
    canary=("acme",),
    effects=(
        Expected("public.installs", Operation.SOFT_DELETE, 1883, 1883, frozenset({"deleted_at", "updated_at"}), line=7),
        Expected("public.logs", Operation.HARD_DELETE, 1, 9, via=Via.CASCADE, line=8),
    ),
    schema=(
        ExpectedSchema("added", "materialized view", "public.totals", 9),
        ExpectedSchema("changed", "function", "public.f(integer, text)", 10),
    ),
    undo_waived=UndoWaiver("ann", "it is made again every night"),
    clone_age_max=timedelta(hours=24),
    accepts=("other-version",),
    drafted_by="ann",
    adopted_by="bob",
)


def no_file(name: str) -> str:
    raise AssertionError(name)


def test_a_header_says_what_it_says() -> None:
    """Every key of the header becomes its part of the intent; comments of other kinds are left alone."""
    assert parse_intent(HEADER, "a.sql", no_file) == INTENT


@pytest.mark.parametrize("name", ["b.sql", "b.toml"])
def test_what_is_written_reads_back(name: str) -> None:
    """An intent written as a header or as TOML reads back as the same lines."""
    text = INTENT.to_toml() if name.endswith("toml") else INTENT.to_header()
    again = parse_intent(text, name, no_file)
    assert again is not None
    assert again.lines() == INTENT.lines()


def test_a_script_without_lines_declares_nothing() -> None:
    """No line, no intent: that is different from one that declares zero."""
    assert parse_intent("-- a comment\nSELECT 1;\n", "a.sql", no_file) is None


def test_tenants_from_a_file() -> None:
    """`@FILE` has a tenant a line; empty lines and comments are none."""
    intent = parse_intent("-- outlast: tenants @who.txt\n", "a.sql", lambda _: "acme\n\n# no\nglobex\n")
    assert intent is not None
    assert intent.tenants == ("acme", "globex")
    assert intent.lines()[0] == "tenants @who.txt"


def test_all_tenants_and_one_of_that_name() -> None:
    """`all` means everybody; a tenant with that label is written in quotes."""
    everybody = parse_intent("-- outlast: tenants all\n", "a.sql", no_file)
    one = parse_intent('-- outlast: tenants "all"\n', "a.sql", no_file)
    assert everybody is not None
    assert one is not None
    assert everybody.tenants is None
    assert one.tenants == ("all",)
    assert parse_intent(one.to_header(), "a.sql", no_file) == one


def test_whoever_drafts_cannot_adopt() -> None:
    """A draft is adopted by another name than the one that drafted it, whatever its case."""
    assert Intent(drafted_by="Ann").awaits_adoption
    assert Intent(drafted_by="Ann", adopted_by="ann").awaits_adoption
    assert not Intent(drafted_by="Ann", adopted_by="bob").awaits_adoption
    assert not Intent().awaits_adoption


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("tenant a", "Did you mean 'tenants'"),
        ("effect public.x delete rows=1", "hard-delete removes rows for good"),
        ("effect public.x update rows=1", "update(COLUMN"),
        ("effect x update(a) rows=1", "Write public.x"),
        ("effect public.x insert rows=some", "rows=800..900"),
        ("effect public.x insert rows=9..1", "rows=1..9"),
        ("effect public.x insert row=1", "Did you mean rows=…?"),
        ("effect public.x insert", "Its form: effect"),
        ("effect public.x insert rows=1 via=magic", "statement, cascade, trigger"),
        ("undo maybe", "Its form: undo"),
        ("undo waived by=ann", "reason=TEXT"),
        ("clone max-age=never", "24h"),
        ("why", "Its form: why"),
        ("tenants a, b canary=c", "Canaries are tenants of the list"),
        ("schema removed table public.x", "added, dropped, changed"),
        ("schema dropped table", "schema added column"),
        ("drafted", "drafted by=NAME"),
    ],
)
def test_what_is_not_understood_is_an_error_with_its_place(line: str, told: str) -> None:
    """Unknown keys, options and forms end with the line's number and what would be right."""
    with pytest.raises(UsageError) as error:
        parse_intent(f"\n-- outlast: {line}\n", "a.sql", no_file)
    assert error.value.message.startswith("a.sql:2:")
    assert told in (error.value.hint or "")


def test_a_line_below_the_first_statement_is_an_error() -> None:
    """Nobody would see a declaration in the middle of a script, and it must not be passed over."""
    with pytest.raises(UsageError, match=r"a\.sql:2: .* below the first statement"):
        parse_intent("SELECT 1;\n-- outlast: undo required\n", "a.sql", no_file)


def test_a_key_that_stands_once_only_is_not_taken_twice() -> None:
    """The second `tenants` would silently win over the first."""
    with pytest.raises(UsageError, match="second time"):
        parse_intent("-- outlast: tenants a\n-- outlast: tenants b\n", "a.sql", no_file)
    with pytest.raises(UsageError, match="already"):
        parse_intent("-- outlast: effect a.b insert rows=1\n-- outlast: effect a.b insert rows=2\n", "a.sql", no_file)
