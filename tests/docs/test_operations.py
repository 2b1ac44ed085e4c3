"""docs/OPERATIONS.md names what a person has to write by hand, and no command is there to list."""

from __future__ import annotations

import re
from pathlib import Path

from outlast.core.effect import Operation
from outlast.core.intent import KEYS
from outlast.core.intent_text import parse_intent
from outlast.rehearsal.observed import Doubt

OPERATIONS = Path(__file__).parents[2] / "docs" / "OPERATIONS.md"
TEXT = OPERATIONS.read_text(encoding="utf-8")


def test_every_word_of_an_intent_is_there() -> None:
    """Keys, operations, and the points that an intent may accept."""
    words = {*KEYS, *(one.value for one in Operation), *(one.value for one in Doubt)}
    assert [word for word in sorted(words) if not re.search(rf"`{word}[`(]", TEXT)] == []


def test_its_example_is_an_intent() -> None:
    """It can be copied."""
    found = re.search(r"```sql\n(.+?)```", TEXT, re.DOTALL)
    assert found
    intent = parse_intent(found[1], "close.sql", lambda name: name)
    assert intent is not None
    assert intent.tenants == ("acme", "Smith, Sons", "4711")
    assert len(intent.effects) == 3
    toml = re.search(r"```toml\n(why = .+?)```", TEXT, re.DOTALL)
    assert toml
    assert parse_intent(toml[1], "close.intent.toml", lambda name: name) is not None
