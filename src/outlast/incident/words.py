"""The words that customers read, by language: texts in `languages/*.toml`, filled in and never composed at 3 a.m.

What is filled in is plain text; who renders it into HTML escapes it. A language that lacks a text falls back to
English.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from outlast.core.errors import UsageError

DEFAULT = "en"


@dataclass(frozen=True, slots=True)
class Words:
    """One language's texts, by `section.name`."""

    language: str
    texts: Mapping[str, str]

    def __call__(self, name: str, count: int | None = None, **values: object) -> str:
        """The text, filled in. `count` chooses between `.one` and `.other`, and is filled in as well."""
        if count is not None and f"{name}.other" in self.texts:
            name = f"{name}.{'one' if count == 1 else 'other'}"
        if count is not None:
            values["count"] = f"{count:,}" if self.language == DEFAULT else str(count)
        return _FORMATTER.vformat(self.texts[name], (), values)


class _Plain(string.Formatter):
    """Names only: a text never reaches into an object, and what is filled in is never a template itself."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        return kwargs[field_name], field_name


_FORMATTER = _Plain()


def languages() -> tuple[str, ...]:
    """The languages that there are, as two-letter words."""
    return tuple(sorted(one.name.removesuffix(".toml") for one in _folder().iterdir() if one.name.endswith(".toml")))


@cache
def words(language: str) -> Words:
    """A language's texts. Raises UsageError, with those that there are, where it is none of them."""
    known = languages()
    if language not in known:
        raise UsageError(
            f"there are no texts in the language {language!r}", hint=f"[page] languages may have: {', '.join(known)}."
        )
    texts = _flat(_read(DEFAULT))
    return Words(language, {**texts, **_flat(_read(language))})


def _folder() -> Any:
    return files("outlast.incident") / "languages"


def _read(language: str) -> dict[str, Any]:
    return tomllib.loads((_folder() / f"{language}.toml").read_text(encoding="utf-8"))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in tree.items():
        found.update(_flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value})
    return found
