"""Mutation tests: every correct script passes, and every mutant whose effect is another one is blocked.

The numbers are in the last lines of a test run (tests/conftest.py), and those of all mutants in docs/MUTANTS.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict

import pytest

from tests.integration.rehearsal.scripts import EXAMPLES, SCHEMA, WORLD, Example
from tests.mutants import mutants
from tests.mutation import DOCUMENT, Held, hold, kind_of
from tests.rehearsals import Playground, playground
from tests.servers import Server

_FEW = ("hide a legacy install", "delete a page", "delete an install")


@pytest.fixture(scope="module")
def place(server: Server) -> Iterator[Playground]:
    with playground(server, SCHEMA, "public.sites", "name") as made:
        yield made


def check(request: pytest.FixtureRequest, held: list[Held]) -> None:
    """What differs is blocked, what does not is not; and the run's last lines count it."""
    request.node.user_properties += [("mutant", {**asdict(one), "outcome": one.outcome.value}) for one in held]
    wrong = [one for one in held if not one.right]
    assert not wrong


def test_there_are_forty_scripts_and_mutants_of_every_kind() -> None:
    """As many as the promise says; each kind of mistake is made somewhere; and the document counts just these."""
    changed = [example for example in EXAMPLES if any(mutants(example.sql, WORLD))]
    assert len(changed) >= 40
    made = [kind_of(mutant.what) for example in EXAMPLES for mutant in mutants(example.sql, WORLD)]
    kinds = Counter(made)
    for kind in (
        "WHERE dropped",
        "the tenant's filter dropped",
        "WHERE widened by OR true for one more",
        "soft deletion turned into a hard one",
        "a cascade added: the parents deleted instead",
        "an id shifted",
        "an id of another kind",
        "a column more",
        "DELETE turned into TRUNCATE",
        "runs twice",
    ):
        assert kinds[kind], kind
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"**{len(changed)} correct scripts, all within their intents; {len(made)} mutants:" in text, "make mutants"
    for kind, number in kinds.items():
        assert f"\n| {kind} | {number} |" in text, "make mutants"


@pytest.mark.parametrize("name", _FEW)
def test_mutants_of_a_few_scripts_are_blocked(place: Playground, name: str, request: pytest.FixtureRequest) -> None:
    """One of each: what the slow test does for all."""
    example = next(one for one in EXAMPLES if one.name == name)
    held = hold(place, example, [*mutants(example.sql, WORLD)][:5])
    check(request, held)
    assert sum(one.differs for one in held) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES, ids=[one.name for one in EXAMPLES])
def test_every_mutant_with_another_effect_is_blocked(
    place: Playground, example: Example, request: pytest.FixtureRequest
) -> None:
    """All mutants of a script."""
    check(request, hold(place, example))
