"""Mutation tests: every correct script passes, and every mutant whose effect is another one is blocked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from outlast.core.effect import Effect
from outlast.core.intent_text import parse_intent
from outlast.rehearsal.observed import Observed
from outlast.rehearsal.verdict import Outcome
from tests.integration.rehearsal.scripts import EXAMPLES, SCHEMA, WORLD, Example
from tests.mutants import Mutant, mutants
from tests.rehearsals import Playground, playground
from tests.servers import Server

_FEW = ("hide a legacy install", "delete a page", "delete an install")


@pytest.fixture(scope="module")
def place(server: Server) -> Iterator[Playground]:
    with playground(server, SCHEMA, "public.sites", "name") as made:
        yield made


def differs(one: Observed, other: Observed) -> bool:
    """Whether the effect is another one. Which rows of a tenant they were, and what was written, is none of it."""
    return (
        _counted(one.effect) != _counted(other.effect)
        or one.schema != other.schema
        or one.truncated != other.truncated
        or (one.error is None) != (other.error is None)
    )


def _counted(effect: Effect) -> dict[object, object]:
    return {key: (one.rows, one.columns, one.cascaded, one.triggered) for key, one in effect.counts.items()}


def held(place: Playground, example: Example, chosen: Sequence[Mutant]) -> tuple[int, list[str]]:
    """The original passes; of the mutants: how many were blocked, and which do the same as the original."""
    intent = parse_intent(example.header, "script.sql", lambda _: "")
    verdict, original = place.rehearse(example.sql, intent)
    assert verdict.outcome is Outcome.WITHIN, (example.name, verdict.findings, verdict.doubts)
    blocked, alike = 0, []
    for mutant in chosen:
        verdict, seen = place.rehearse(mutant.text, intent)
        if differs(original, seen):
            assert verdict.outcome is Outcome.BLOCKED, (example.name, mutant, verdict)
            blocked += 1
        else:
            assert verdict.outcome is Outcome.WITHIN, (example.name, mutant, verdict.findings)
            alike.append(f"{example.name}: {mutant.what}")
    return blocked, alike


def test_there_are_forty_scripts_and_mutants_of_every_kind() -> None:
    """As many as the promise says; each kind of mistake is made somewhere."""
    assert len(EXAMPLES) >= 40
    made = [mutant.what for example in EXAMPLES for mutant in mutants(example.sql, WORLD)]
    for kind in (
        "WHERE dropped",
        "the tenant's filter dropped",
        "WHERE widened",
        "soft deletion turned into a hard one",
        "a cascade added",
        "an id shifted",
        "an id of another kind",
        "a column more",
        "turned into TRUNCATE",
        "runs twice",
    ):
        assert any(kind in what for what in made), kind


@pytest.mark.parametrize("name", _FEW)
def test_mutants_of_a_few_scripts_are_blocked(place: Playground, name: str) -> None:
    """One of each: what the slow test does for all."""
    example = next(one for one in EXAMPLES if one.name == name)
    blocked, _ = held(place, example, [*mutants(example.sql, WORLD)][:5])
    assert blocked >= 3


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=[one.name for one in EXAMPLES])
def test_every_mutant_with_another_effect_is_blocked(place: Playground, example: Example) -> None:
    """All mutants of a script. Those that do the same as the original are listed apart (-rA shows them)."""
    blocked, alike = held(place, example, [*mutants(example.sql, WORLD)])
    print(f"{blocked} blocked; alike: {'; '.join(alike) or 'none'}")
