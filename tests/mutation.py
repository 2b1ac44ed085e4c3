"""Mutation runs: correct scripts with their intents, each of their mutants rehearsed and judged, and what came of it.

`python -m tests.mutation` holds all of them, and writes docs/MUTANTS.md with the numbers of that run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from outlast.core.effect import Effect
from outlast.core.intent_text import parse_intent
from outlast.rehearsal.observed import Observed
from outlast.rehearsal.verdict import Outcome
from tests.integration.rehearsal.scripts import EXAMPLES, SCHEMA, WORLD, Example
from tests.mutants import Mutant, mutants
from tests.rehearsals import Playground, playground
from tests.servers import embedded_binaries, running

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "MUTANTS.md"


@dataclass(frozen=True)
class Held:
    """One mutant that was judged by its original's intent. `differs`: its effect is another one."""

    script: str
    what: str
    differs: bool
    outcome: Outcome

    @property
    def right(self) -> bool:
        """What differs is blocked, and what does not is not."""
        return self.outcome is (Outcome.BLOCKED if self.differs else Outcome.WITHIN)


def hold(place: Playground, example: Example, chosen: Iterable[Mutant] | None = None) -> list[Held]:
    """Rehearse the original, which has to pass, and its mutants: all of them, unless some are chosen."""
    intent = parse_intent(example.header, "script.sql", lambda _: "")
    verdict, original = place.rehearse(example.sql, intent)
    assert verdict.outcome is Outcome.WITHIN, (example.name, verdict.findings, verdict.doubts)
    found = []
    for mutant in mutants(example.sql, WORLD) if chosen is None else chosen:
        verdict, seen = place.rehearse(mutant.text, intent)
        found.append(Held(example.name, mutant.what, differs(original, seen), verdict.outcome))
    return found


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


def kind_of(what: str) -> str:
    """The mistake, without where in the script it was made."""
    return re.sub(r"^statement \d+: | \(number \d+\)$", "", what)


def summary(held: Sequence[Held]) -> str:
    differing = [one for one in held if one.differs]
    blocked = sum(one.outcome is Outcome.BLOCKED for one in differing)
    alike = [one for one in held if not one.differs]
    passed = sum(one.outcome is Outcome.WITHIN for one in alike)
    return (
        f"{len({one.script for one in held})} correct scripts, all within their intents; {len(held)} mutants: "
        f"{len(differing)} with another effect, of these {blocked} blocked; "
        f"{len(alike)} with the same effect, of these {passed} within the intent"
    )


def document(held: Sequence[Held]) -> str:
    kinds = sorted({kind_of(one.what) for one in held})
    rows = []
    for kind in kinds:
        of = [one for one in held if kind_of(one.what) == kind]
        differing = [one for one in of if one.differs]
        blocked = sum(one.outcome is Outcome.BLOCKED for one in differing)
        rows.append(f"| {kind} | {len(of)} | {len(differing)} | {blocked} | {len(of) - len(differing)} |")
    return "\n".join(
        [
            "# Mutants",
            "",
            "Written by `make mutants`; no number here is typed. Correct scripts with their intents",
            "(`tests/integration/rehearsal/scripts.py`) are rehearsed on PostgreSQL; then, one at a time, with the",
            "mistakes that people make, made over the parse tree (`tests/mutants.py`), and judged by the intent of the",
            "original.",
            "",
            f"**{summary(held)}.**",
            "",
            "| mistake | mutants | another effect | of these blocked | the same effect |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            "## With the same effect",
            "",
            "An effect is rows by tenant, table and operation, how they came about, and which columns: an intent",
            "declares no more. Which rows of a tenant they are, and what is written into them, is for whoever reads",
            "the report, and a receipt binds it. So these are not held back:",
            "",
            *(f"- {one.script}: {one.what}" for one in held if not one.differs),
            "",
        ]
    )


def main() -> None:
    held: list[Held] = []
    with running(embedded_binaries()) as server, playground(server, SCHEMA, "public.sites", "name") as place:
        for example in EXAMPLES:
            held += hold(place, example)
            print(f"{example.name}: {len(held)} so far", flush=True)
    wrong = [one for one in held if not one.right]
    assert not wrong, wrong
    DOCUMENT.write_text(document(held), encoding="utf-8")
    print(summary(held))


if __name__ == "__main__":
    main()
