"""Variables of a script, as psql has them: `:name`, `:'name'` as a literal, `:"name"` as an identifier. Pure.

Nothing is replaced inside quotes, dollar quotes and comments, nor in a cast (`::type`). So a script that is run by psql
with `-v name=value` is the same script here with `--set name=value`, in rehearsal and on production alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from outlast.core.errors import UsageError
from outlast.rehearsal.lexing import tokens


def substitute(text: str, values: Mapping[str, str], where: str) -> str:
    """The script's text with its variables replaced. Raises UsageError for one that is quoted and not set.

    A plain `:name` that is not set is left as it stands, as psql leaves it: it may be the bound of an array's slice.
    """
    parts: list[str] = []
    at = 0
    for match, end in tokens(text):
        parts.append(text[at : match.start()])
        at = end
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
            parts.append(text[match.start() : end])
    parts.append(text[at:])
    return "".join(parts)


def mentioned(text: str) -> frozenset[str]:
    """The names of the variables that a script's text mentions outside quotes and comments."""
    return frozenset(name for match, _ in tokens(text) if (name := match["literal"] or match["name"] or match["plain"]))


def _literal(value: str) -> str:
    quoted = value.replace("'", "''")
    # As psql and libpq write it: right whatever standard_conforming_strings says
    return " E'" + quoted.replace("\\", "\\\\") + "'" if "\\" in value else f"'{quoted}'"


def _unset(name: str, values: Mapping[str, str], place: str) -> UsageError:
    close = difflib.get_close_matches(name, values, 1)
    hint = f"Did you mean {close[0]!r}?" if close else f"Give it: --set {name}=VALUE"
    return UsageError(f"{place}: the variable {name!r} is not set", hint=hint, code="variable")
