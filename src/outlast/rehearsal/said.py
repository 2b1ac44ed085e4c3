"""What a script's statements say of themselves, whatever they did: what is in no transaction, and whom it notifies.

A script's statements are known; those of a command stand in the copy's log, since nobody else sees them. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Self

from outlast.core.errors import OutlastError
from outlast.rehearsal.script import read_script

_ENTRY = re.compile(r"^\d+ \[(?P<application>.*?)\] (?P<level>[A-Z]+):  (?P<text>.*)$")
_STATEMENT = re.compile(r"^(?:statement|execute [^:]*): (?P<text>.*)$", re.DOTALL)
_OURS = re.compile(r"^outlast ")
_SUSPICIOUS = re.compile(
    r"\b(CONCURRENTLY|VACUUM|CLUSTER|REINDEX|ALTER\s+SYSTEM|DATABASE|TABLESPACE|SUBSCRIPTION)\b", re.IGNORECASE
)
_NOTIFY = re.compile(r"^\s*NOTIFY\s+(\"(?:[^\"]|\"\")+\"|\w+)", re.IGNORECASE)
_KINDS_MAX = 50


def statements_in(log: Iterable[str]) -> Iterator[str]:
    """The statements that a server's log names, but for those of sessions of ours."""
    application, text = "", ""
    for line in log:
        match = _ENTRY.match(line)
        if match is None:
            text += "\n" + line  # a statement of several lines
            continue
        yield from _statement(application, text)
        application = match["application"]
        text = match["text"] if match["level"] == "LOG" else ""
    yield from _statement(application, text)


def _statement(application: str, text: str) -> Iterator[str]:
    match = _STATEMENT.match(text)
    if match is not None and not _OURS.match(application):
        yield match["text"]


@dataclass
class Said:
    """What was found in the statements, each once."""

    unguarded: list[str] = field(default_factory=list)
    notified: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, statements: Iterable[str]) -> Self:
        unguarded: dict[str, None] = {}
        notified: dict[str, None] = {}
        for text in statements:
            if match := _NOTIFY.match(text):
                notified[match[1].strip('"')] = None
            if _SUSPICIOUS.search(text) and len(unguarded) < _KINDS_MAX:
                for told in _unguarded(text):
                    unguarded[told] = None
        return cls(list(unguarded), list(notified))


def _unguarded(text: str) -> Iterator[str]:
    """The statements that cannot run in a transaction, in the words that tell which it is, without any value."""
    try:
        for one in read_script(text, "statement").unguarded:
            head = re.split(r"\bON\b|\(|'", one.text, maxsplit=1, flags=re.IGNORECASE)[0]
            yield " ".join(head.split())
    except OutlastError:
        return  # a piece of a command's that is no SQL by itself, such as COPY's data
