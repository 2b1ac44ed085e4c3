"""A script's text as psql reads it: where its strings, comments, variables and own commands begin and end. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKEN = re.compile(
    r"""
    (?P<command>^[^\S\n]*\\[a-zA-Z!?][^\n]*)
  | (?P<comment>--[^\n]*)
  | (?P<open>/\*)
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)
  | (?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<string>'(?:[^']|'')*')
  | (?P<identifier>"(?:[^"]|"")*")
  | (?P<cast>::|:=)
  | :(?:'(?P<literal>\w+)'|"(?P<name>\w+)"|(?P<plain>[A-Za-z_]\w*))
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)


def tokens(text: str) -> Iterator[tuple[re.Match[str], int]]:
    """Each with where it ends. A `command` is a line that begins with a backslash and stands in no string or comment;
    a `literal`, a `name` and a `plain` are variables; all else is text that means what it says."""
    at = 0
    while (match := _TOKEN.search(text, at)) is not None:
        at = match.end()
        if match["open"]:
            at = _end_of_comment(text, at)
        elif match["dollar"]:
            end = text.find(match["dollar"], at)
            at = len(text) if end < 0 else end + len(match["dollar"])
        yield match, at


def _end_of_comment(text: str, at: int) -> int:
    depth = 1
    while depth:
        match = re.compile(r"/\*|\*/").search(text, at)
        if match is None:
            return len(text)
        depth += 1 if match[0] == "/*" else -1
        at = match.end()
    return at
