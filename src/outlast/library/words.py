"""What a document says to a person: a title, and the text that is searched. Knows no vendor, only their common habits.

HTML and storage format lose their tags, Atlassian's document format gives its text nodes; keys, links and times are no
words. The same document always gives the same text: what was indexed is taken out of the index by it.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

_TITLES = ("summary", "title", "name", "message", "subject", "fullName", "displayName", "username", "email")
_TAG = re.compile(r"<[^>]{1,2000}>")
_SPACE = re.compile(r"\s+")
_NO_WORDS = re.compile(r"^(?:https?://\S+|[0-9a-fA-F-]{16,}|\d{4}-\d\d-\d\dT\S+|[\d.:+-]+)$")
_SKIPPED = frozenset(
    {
        "self", "id", "_links", "links", "avatarUrls", "iconUrl", "href", "html_url", "self_url", "data",
        "accountType", "accountId", "type", "timeZone", "colorName", "_expandable", "localId",
    }
)  # fmt: skip
_BODY_CHARACTERS_MAX = 200_000
"""Of a very long page this much is searched."""


def title_of(document: Mapping[str, Any]) -> str:
    """What a person would call it; empty where nothing in it is a name."""
    fields = document.get("fields")
    inner = [one for one in (fields, document) if isinstance(one, Mapping)]
    for place in inner:
        for name in _TITLES:
            value = place.get(name)
            if isinstance(value, str) and value.strip():
                return _SPACE.sub(" ", value).strip()
    return ""


def text_of(document: Mapping[str, Any]) -> str:
    """Every word in it that somebody may look for."""
    found: list[str] = []
    size = 0
    for text in _strings(document):
        found.append(text)
        size += len(text) + 1
        if size > _BODY_CHARACTERS_MAX:
            break
    return "\n".join(found)[:_BODY_CHARACTERS_MAX]


def plain(text: str) -> str:
    """Markup without its tags, on one line."""
    if "<" in text:
        text = html.unescape(_TAG.sub(" ", text))
    return _SPACE.sub(" ", text).strip()


def folded(text: str) -> str:
    """As words are compared: without case and accents, as SQLite's unicode61 does it."""
    return "".join(one for one in unicodedata.normalize("NFD", text.casefold()) if not unicodedata.combining(one))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        text = plain(value)
        if text and not _NO_WORDS.match(text):
            yield text
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            if name == "key" and isinstance(inner, str):
                yield inner  # an issue's or a space's key is what people type
            elif name not in _SKIPPED:
                yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
