"""Variables of a script, as psql has them: `:name`, `:'name'` as a literal, `:"name"` as an identifier. Pure.

Nothing is replaced inside quotes, dollar quotes and comments, nor in a cast (`::type`). So a script that is run by psql
with `-v name=value` is the same script here with `--set name=value`, in rehearsal and on production alike.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping

from outlast.core.errors import UsageError

_TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n]*)
  | (?P<open>/\*)
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][\w\x80-\U0010ffff]*)?\$)
  | (?P<escaped>\b[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<string>'(?:[^']|'')*')
  | (?P<identifier>"(?:[^"]|"")*")
  | (?P<cast>::|:=)
  | :(?:'(?P<literal>\w+)'|"(?P<name>\w+)"|(?P<plain>[A-Za-z_]\w*))
    """,
    re.VERBOSE | re.DOTALL,
)


def substitute(text: str, values: Mapping[str, str], where: str) -> str:
    """The script's text with its variables replaced. Raises UsageError for one that is quoted and not set.

    A plain `:name` that is not set is left as it stands, as psql leaves it: it may be the bound of an array's slice.
    """
    parts: list[str] = []
    at = 0
    while True:
        match = _TOKEN.search(text, at)
        if match is None:
            parts.append(text[at:])
            return "".join(parts)
        parts.append(text[at : match.start()])
        at = match.end()
        quoted = match["literal"] or match["name"]
        if quoted is not None and quoted not in values:
            raise _unset(quoted, values, f"{where}:{text.count(chr(10), 0, match.start()) + 1}")
        if match["literal"]:
            parts.append(_literal(values[quoted]))
        elif match["name"]:
            parts.append('"' + values[quoted].replace('"', '""') + '"')
        elif match["plain"] and match["plain"] in values:
            parts.append(values[match["plain"]])
        else:
            if match["open"]:
                at = _end_of_comment(text, at)
            elif match["dollar"]:
                end = text.find(match["dollar"], at)
                at = len(text) if end < 0 else end + len(match["dollar"])
            parts.append(text[match.start() : at])


def mentioned(text: str) -> frozenset[str]:
    """The names of the variables that a script's text mentions outside quotes and comments."""
    found: set[str] = set()
    at = 0
    while (match := _TOKEN.search(text, at)) is not None:
        at = match.end()
        if match["open"]:
            at = _end_of_comment(text, at)
        elif match["dollar"]:
            end = text.find(match["dollar"], at)
            at = len(text) if end < 0 else end + len(match["dollar"])
        elif name := match["literal"] or match["name"] or match["plain"]:
            found.add(name)
    return frozenset(found)


def _literal(value: str) -> str:
    quoted = value.replace("'", "''")
    # As psql and libpq write it: right whatever standard_conforming_strings says
    return " E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in value else f"'{quoted}'"


def _end_of_comment(text: str, at: int) -> int:
    depth = 1
    while depth:
        match = re.compile(r"/\*|\*/").search(text, at)
        if match is None:
            return len(text)
        depth += 1 if match[0] == "/*" else -1
        at = match.end()
    return at


def _unset(name: str, values: Mapping[str, str], place: str) -> UsageError:
    close = difflib.get_close_matches(name, values, 1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Give it: --set {name}=VALUE"
    return UsageError(f"{place}: the variable {name!r} is not set", hint=hint, code="variable")
