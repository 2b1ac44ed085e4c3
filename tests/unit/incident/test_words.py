"""The texts that customers read."""

from __future__ import annotations

import string

import pytest

from outlast.core.errors import UsageError
from outlast.incident.words import DEFAULT, languages, words


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


@pytest.mark.parametrize("language", languages())
def test_every_language_has_every_text_with_the_same_blanks(language: str) -> None:
    """A text that only English has would stand in English on a page of another language."""
    own, english = words(language).texts, words(DEFAULT).texts
    assert own.keys() == english.keys()
    for name, text in english.items():
        allowed = fields(text) | ({"count"} if name.endswith(".one") else set())
        assert fields(own[name]) <= allowed, name
        if language != DEFAULT and name.split(".")[0] != "mail":
            assert own[name] or not text


def test_what_is_filled_in_is_never_a_template() -> None:
    """A title with braces stays as it is, and nothing reaches into an object."""
    assert "{title.__class__}" in words("en")("updates.opened.minor", title="{title.__class__}")


def test_a_language_without_texts_is_refused_with_those_that_there_are() -> None:
    """The setting is named."""
    with pytest.raises(UsageError, match="'xx'") as refused:
        words("xx")
    assert "de, en" in str(refused.value.hint)
