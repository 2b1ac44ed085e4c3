"""An intent as people write it: header lines `-- outlast: KEY …` of a .sql file, or an intent.toml with the same keys.

Both say the same in the same words. What is not understood is an error with its line, never passed over.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from outlast.core.effect import Operation, Via
from outlast.core.errors import OutlastError, UsageError
from outlast.core.intent import (
    ALTERATIONS,
    EVERYBODY,
    KEYS,
    SEVERAL,
    UNITS,
    Expected,
    ExpectedSchema,
    Intent,
    UndoWaiver,
)
from outlast.core.table import TableName

ReadFile = Callable[[str], str]
"""Gives the text of a file that an intent names (`tenants @FILE`), relative to the intent's own place."""


def parse_intent(text: str, where: str, read_file: ReadFile) -> Intent | None:
    """The intent in a script's text, or in an intent.toml (`where` ends in .toml). None where it declares nothing.

    Raises UsageError with the place of what is wrong.
    """
    found = list(_toml_lines(text, where) if where.endswith(".toml") else _header_lines(text, where))
    if not found:
        return None
    intent = Intent(where)
    seen: dict[str, int] = {}
    for number, key, rest in found:
        place = f"{where}:{number}"
        if key not in KEYS:
            close = difflib.get_close_matches(key, KEYS, 1)
            hint = f"Did you mean {close[0]!r}? Its form: {KEYS[close[0]]}" if close else f"Keys: {', '.join(KEYS)}."
            raise UsageError(f"{place}: an intent has no key {key!r}", hint=hint, code="intent")
        if key in seen and key not in SEVERAL:
            raise UsageError(
                f"{place}: {key!r} stands here a second time, after line {seen[key]}", hint="Keep one.", code="intent"
            )
        seen[key] = number
        intent = _READ[key](intent, rest.strip(), _Place(place, key, number, read_file))
    return intent


def declares(text: str) -> bool:
    """Whether a script's text has any line of an intent in its header."""
    return any(_OURS.match(line) for line in text.splitlines())


@dataclass(frozen=True, slots=True)
class _Place:
    where: str
    key: str
    line: int
    read_file: ReadFile

    def wrong(self, what: str, hint: str | None = None) -> OutlastError:
        return UsageError(f"{self.where}: {what}", hint=hint or f"Its form: {KEYS[self.key]}", code="intent")


_OURS = re.compile(r"\s*--\s*outlast\s*:\s*(?P<rest>.*)$", re.IGNORECASE)


def _header_lines(text: str, where: str) -> Iterator[tuple[int, str, str]]:
    """(line, key, rest) of the lines above the first statement. One further down is an error: nobody would see it."""
    header = True
    comment = 0
    for number, line in enumerate(text.splitlines(), start=1):
        ours = _OURS.match(line)
        if ours and not comment:
            if not header:
                raise UsageError(
                    f"{where}:{number}: this line of the intent stands below the first statement",
                    hint="Move it to the top of the file, above every statement.",
                    code="intent",
                )
            key, _, rest = ours["rest"].strip().partition(" ")
            yield number, key.rstrip(":").lower(), rest
            continue
        stripped = line.strip()
        if header and (comment or stripped.startswith("/*")):
            comment += stripped.count("/*") - stripped.count("*/")
            after = "" if comment else stripped.rpartition("*/")[2].strip()
            header = not after or after.startswith("--")
        elif stripped and not stripped.startswith(("--", "\\")):
            header = False


def _toml_lines(text: str, where: str) -> Iterator[tuple[int, str, str]]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{where} is not valid TOML: {error}", hint="Mend that line.", code="intent") from None
    lines = text.splitlines()
    for key, value in content.items():
        number = next((at for at, line in enumerate(lines, 1) if re.match(rf"\s*\[*\"?{re.escape(key)}\b", line)), 0)
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(one, str) for one in values):
            raise UsageError(
                f"{where}:{number}: {key!r} is a string, or a list of strings",
                hint=f"What stands in it: {KEYS[key].partition(' ')[2]}"
                if key in KEYS
                else f"Keys: {', '.join(KEYS)}.",
                code="intent",
            )
        if key == "tenants":
            yield number, key, ", ".join(values)
            continue
        for one in values:
            at = next((at for at, line in enumerate(lines, 1) if at >= number and one in line), number)
            yield at, key, one


def _read_why(intent: Intent, rest: str, place: _Place) -> Intent:
    if not rest:
        raise place.wrong("'why' says nothing")
    return replace(intent, why=rest)


def _read_tenants(intent: Intent, rest: str, place: _Place) -> Intent:
    listed, canary, named = rest.partition("canary=")
    if canary:
        intent = replace(intent, canary=_names(named))
    listed = listed.strip().rstrip(",")
    if not listed:
        raise place.wrong("'tenants' names nobody")
    if listed == EVERYBODY:
        return replace(intent, tenants=None)
    if listed.startswith("@") and listed not in ("@shared", "@orphan") and "," not in listed:
        file = listed[1:].strip()
        names = tuple(line.strip() for line in place.read_file(file).splitlines() if line.strip())
        tenants = tuple(dict.fromkeys(name for name in names if not name.startswith("#")))
        if not tenants:
            raise place.wrong(f"{file} names no tenant", "It has one tenant a line, by label or key.")
        intent = replace(intent, tenants=tenants, tenants_file=file)
    else:
        intent = replace(intent, tenants=_names(listed))
    unknown = [name for name in intent.canary if name not in (intent.tenants or ())]
    if unknown:
        raise place.wrong(f"canary {unknown[0]!r} is not among the tenants", "Canaries are tenants of the list.")
    return intent


_EFFECT = re.compile(
    r"(?P<table>(?:\"(?:[^\"]|\"\")+\"|[^\s\"(])+)\s+(?P<operation>[A-Za-z-]+)\s*"
    r"(?:\((?P<columns>[^)]*)\))?(?P<options>(?:\s+\S+=\S+)*)\s*"
)


def _read_effect(intent: Intent, rest: str, place: _Place) -> Intent:
    match = _EFFECT.fullmatch(rest)
    if match is None:
        raise place.wrong(f"cannot read the effect {rest!r}")
    operation = _operation(match["operation"].lower(), place)
    try:
        table = str(TableName.parse(match["table"]))
    except ValueError:
        raise place.wrong(f"{match['table']!r} is no table name", "Write schema.table.") from None
    if "." not in match["table"]:
        raise place.wrong(f"table {match['table']!r} is named without its schema", f"Write {table}.")
    options = _options(match["options"], ("rows", "via"), place)
    if "rows" not in options:
        raise place.wrong("the effect does not say how many rows")
    low, high = _rows(options["rows"], place)
    columns = None
    if match["columns"] is not None:
        columns = frozenset(part.strip().strip('"') for part in match["columns"].split(",") if part.strip())
    if operation is Operation.UPDATE and not columns:
        raise place.wrong("an update names its columns", f"effect {table} update(COLUMN, …) rows={options['rows']}")
    try:
        via = Via(options["via"]) if "via" in options else None
    except ValueError:
        raise place.wrong(f"via={options['via']} is not known", f"One of: {', '.join(Via)}.") from None
    one = Expected(table, operation, low, high, columns, via, place.line)
    for other in intent.effects:
        if (other.table, other.operation, other.via) == (one.table, one.operation, one.via):
            raise place.wrong(f"{table} {operation.value} is in line {other.line} already", "Make one line of both.")
    return replace(intent, effects=(*intent.effects, one))


def _operation(text: str, place: _Place) -> Operation:
    try:
        return Operation(text)
    except ValueError:
        names = [one.value for one in Operation]
        if text == "delete":
            hint = "Say which: soft-delete sets a marker column, hard-delete removes rows for good."
        else:
            close = difflib.get_close_matches(text, names, 1)
            hint = f"Did you mean {close[0]!r}?" if close else f"Operations: {', '.join(names)}."
        raise place.wrong(f"{text!r} is no operation", hint) from None


def _rows(text: str, place: _Place) -> tuple[int, int]:
    match = re.fullmatch(r"(?P<low>[\d_]+)(?:\.\.(?P<high>[\d_]+))?", text)
    try:
        assert match is not None
        low = int(match["low"])
        high = low if match["high"] is None else int(match["high"])
    except (AssertionError, ValueError):
        raise place.wrong(f"rows={text} is no number of rows", "rows=883, or rows=800..900.") from None
    if high < low:
        raise place.wrong(f"rows={text} ends before it begins", f"rows={high}..{low}")
    return low, high


def _read_schema(intent: Intent, rest: str, place: _Place) -> Intent:
    words = rest.split(None, 1)
    if not words or words[0] not in ALTERATIONS:
        raise place.wrong(f"cannot read schema change {rest!r}", f"It begins with one of: {', '.join(ALTERATIONS)}.")
    rest_words = words[1].split() if len(words) == 2 else []
    # A kind may have two words (materialized view); a name is what has a dot, a quote or brackets, or the last word
    at = next((at for at, word in enumerate(rest_words) if at and re.search(r'[."(]', word)), len(rest_words) - 1)
    kind, name = " ".join(rest_words[:at]), " ".join(rest_words[at:])
    if not kind or not name:
        raise place.wrong(f"the schema change {rest!r} names no object", "schema added column public.sites.note")
    one = ExpectedSchema(words[0], kind, name, place.line)
    return replace(intent, schema=(*intent.schema, one))


def _read_undo(intent: Intent, rest: str, place: _Place) -> Intent:
    word, _, options_text = rest.partition(" ")
    if word == "required" and not options_text.strip():
        return replace(intent, undo_waived=None)
    if word != "waived":
        raise place.wrong(f"'undo {rest}' is neither required nor waived")
    options = _options(options_text, ("by", "reason"), place)
    if not options.get("by") or not options.get("reason"):
        raise place.wrong("who waives undo says so by name, and why", "undo waived by=NAME reason=TEXT")
    return replace(intent, undo_waived=UndoWaiver(options["by"], options["reason"]))


def _read_clone(intent: Intent, rest: str, place: _Place) -> Intent:
    given = _options(rest, ("max-age",), place).get("max-age", "")
    match = re.fullmatch(r"(?P<number>\d+)(?P<unit>[smhd])", given)
    if match is None:
        raise place.wrong(f"max-age={given} is no span of time", "clone max-age=90m, 24h or 7d.")
    return replace(intent, clone_age_max=timedelta(seconds=int(match["number"]) * UNITS[match["unit"]]))


def _read_accept(intent: Intent, rest: str, place: _Place) -> Intent:
    point = " ".join(rest.split())
    if not point:
        raise place.wrong("'accept' names no point", "accept part-of-the-tenants, as the verdict names it.")
    return replace(intent, accepts=(*intent.accepts, point))


def _read_drafted(intent: Intent, rest: str, place: _Place) -> Intent:
    return replace(intent, drafted_by=_by(rest, place))


def _read_adopted(intent: Intent, rest: str, place: _Place) -> Intent:
    return replace(intent, adopted_by=_by(rest, place))


def _by(rest: str, place: _Place) -> str:
    options = _options(rest, ("by",), place)
    if not options.get("by"):
        raise place.wrong(f"{place.key!r} says nobody's name", f"{place.key} by=NAME")
    return options["by"]


def _options(text: str, known: Sequence[str], place: _Place) -> dict[str, str]:
    """`name=value …`; `reason=` takes the rest of the line."""
    options: dict[str, str] = {}
    rest = text.strip()
    while rest:
        match = re.match(r"(?P<name>[A-Za-z-]+)=(?P<value>\"[^\"]*\"|\S*)\s*", rest)
        if match is None or match["name"] not in known:
            name = match["name"] if match else rest.split()[0]
            close = difflib.get_close_matches(name, known, 1)
            hint = f"Did you mean {close[0]}=…?" if close else f"It may have: {', '.join(f'{one}=…' for one in known)}."
            raise place.wrong(f"{place.key!r} has no option {name!r}", hint)
        if match["name"] in options:
            raise place.wrong(f"{match['name']}= stands here twice")
        if match["name"] == "reason":
            options["reason"] = rest.partition("=")[2].strip().strip('"')
            break
        options[match["name"]] = match["value"].strip('"')
        rest = rest[match.end() :]
    return options


_NAME = re.compile(r'"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^,"]+)')


def _names(text: str) -> tuple[str, ...]:
    found: Iterable[re.Match[str]] = _NAME.finditer(text)
    names = (one["quoted"].replace('""', '"') if one["quoted"] is not None else one["plain"].strip() for one in found)
    return tuple(dict.fromkeys(name for name in names if name))


_READ: Mapping[str, Callable[[Intent, str, _Place], Intent]] = {
    "why": _read_why,
    "tenants": _read_tenants,
    "effect": _read_effect,
    "schema": _read_schema,
    "undo": _read_undo,
    "clone": _read_clone,
    "accept": _read_accept,
    "drafted": _read_drafted,
    "adopted": _read_adopted,
}
