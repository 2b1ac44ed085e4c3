"""One pass over a site, and the addresses that it asks: paths with their places filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote

from outlast.core.errors import SourceError
from outlast.sources.tools.connector import Document, at

_PLACE = re.compile(r"\{(=?)([^}]+)\}")


@dataclass
class Round:
    """What is seen in a round is marked with its number."""

    number: int
    started: datetime
    full: bool  # nothing is taken for unchanged
    site: Mapping[str, str]  # what paths may name beside a parent's fields
    title: str  # the vendor's, for errors
    content_bytes_max: int = 0
    begins: datetime | None = None  # how far back history goes, if not all the way
    left_out: list[str] = field(default_factory=list)  # what could not be had, for the report

    def path(self, path: str, *documents: Document | None) -> str:
        """A path with its places filled in: from a document, else from the site."""

        def value(match: re.Match[str]) -> str:
            text = self._value(match[2], documents)
            return text if match[1] else quote(text, safe="")  # {=link} is an address itself

        return _PLACE.sub(value, path)

    def params(self, given: Mapping[str, Any], parent: Document | None) -> dict[str, Any]:
        """Parameters with their places filled in, and made where they are made from the time."""
        made = {name: value(self.started) if callable(value) else value for name, value in given.items()}
        return {name: self._text(value, parent) for name, value in made.items()}

    def _text(self, value: Any, *documents: Document | None) -> Any:
        if not isinstance(value, str):
            return value
        return _PLACE.sub(lambda match: self._value(match[2], documents), value)

    def _value(self, place: str, documents: Sequence[Document | None]) -> str:
        if place.startswith("parent."):
            place, documents = place.removeprefix("parent."), documents[-1:]
        for document in documents:
            found = None if document is None else at(document, place)
            if found is not None:
                return str(found)
        if place in self.site:
            return self.site[place]
        raise SourceError(
            f"a document of {self.title} has no {place!r}, which its address needs",
            hint="This may be a change in the vendor's API; please report it.",
            code="vendor-changed",
        )
