"""A JSON object of very many members, looked up without being parsed: a run names 200,000 tenants, a restore ten.

Names are folders (32 hexadecimal digits) and stand sorted, as FORMAT.md has it; the record around them is signed, so
that nobody but our own writer decides on their order.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from outlast.core.errors import CorruptionError

V = TypeVar("V")

_NAME_BYTES = 32
_VALUE_BYTES_MAX = 400  # a head takes 100
_FIRST_BYTES = 10  # of a name, which tell about where it stands
_FIRST_MAX = 16**_FIRST_BYTES
_GUESSES_MAX = 8
_decode = json.JSONDecoder().raw_decode


class FoldedMap(Mapping[str, V]):
    """The members of one JSON object; `text` is what stands between its braces, in `what`, for errors.

    Looking up a name costs microseconds. Whatever needs all members (iterating, counting) parses the whole, once.
    """

    def __init__(self, text: bytes, value_of: Callable[[Any], V], what: str) -> None:
        self._text = text
        self._value_of = value_of
        self._what = what
        self._unfolded: dict[str, V] | None = None

    def __getitem__(self, name: str) -> V:
        if self._unfolded is not None or len(name) != _NAME_BYTES:
            return self.unfolded[name]
        place = self._find(name.encode("utf-8", "surrogateescape"))
        if place is None:
            raise KeyError(name)
        start = place + _NAME_BYTES + 3
        try:
            value, _ = _decode(self._text[start : start + _VALUE_BYTES_MAX].decode("ascii"))
            return self._value_of(value)
        except (ValueError, TypeError) as error:
            raise self._unreadable() from error

    def __contains__(self, name: object) -> bool:
        if self._unfolded is not None or not isinstance(name, str) or len(name) != _NAME_BYTES:
            return name in self.unfolded
        return self._find(name.encode("utf-8", "surrogateescape")) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.unfolded)

    def __len__(self) -> int:
        return len(self.unfolded)

    @property
    def unfolded(self) -> Mapping[str, V]:
        """All members, parsed."""
        if self._unfolded is None:
            try:
                with collector_paused():
                    members = json.loads(b"{" + self._text + b"}")
                    self._unfolded = {name: self._value_of(value) for name, value in members.items()}
            except (ValueError, TypeError) as error:
                raise self._unreadable() from error
        return self._unfolded

    def _unreadable(self) -> CorruptionError:
        return CorruptionError(f"{self._what} cannot be read: it is not a run record", code="run-record")

    def _find(self, name: bytes) -> int | None:
        low, high = 0, len(self._text)
        least, most, wanted = 0, _FIRST_MAX, _first(name)
        guesses = _GUESSES_MAX if wanted is not None else 0
        while low < high:
            middle = (low + high) // 2
            if guesses and wanted is not None and most > least:  # names are hashes, spread evenly
                guesses -= 1
                middle = min(high - 1, low + (high - low) * (wanted - least) // (most - least))
            start = self._member_at(middle)
            found = self._text[start + 1 : start + 1 + _NAME_BYTES]
            if found == name:
                return start
            first = _first(found)
            if found < name:
                low, least = middle + 1, least if first is None else first
            else:
                high, most = start, most if first is None else first
        return None

    def _member_at(self, place: int) -> int:
        """Where the member begins that `place` is in: in no value do 32 letters stand between a quote and `":`."""
        start = self._text.rfind(b'"', 0, place + 1)
        while start > 0 and self._text[start + _NAME_BYTES + 1 : start + _NAME_BYTES + 3] != b'":':
            start = self._text.rfind(b'"', 0, start)
        return max(start, 0)


def _first(name: bytes) -> int | None:
    """How a name begins, as a number; None where it is no folder's."""
    try:
        return int(name[:_FIRST_BYTES], 16)
    except ValueError:
        return None


@contextmanager
def collector_paused() -> Iterator[None]:
    """Hundreds of thousands of new objects, none of them garbage, would have the collector run in vain all the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
