"""The parts of the documents that are made and not typed: each stands between two markers and is checked by a test.

`<!-- begin NAME -->` and `<!-- end NAME -->` part a document; what stands between them is written anew by `make docs`.
"""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Mapping
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from outlast.cli.main import COMMANDS, app_command
from outlast.config.document import SECTIONS
from outlast.config.settings import Section
from outlast.core.errors import ExitCode

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "REFERENCE.md"
README = ROOT / "README.md"
WIDTH = 100

EXIT_MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "failed, or could not tell",
    ExitCode.USAGE: "wrong usage: the command line, outlast.toml, or something named that does not exist",
    ExitCode.REFUSED: "refused, nothing was changed: a conflict, a stale plan, an unclassified table, another writer",
    ExitCode.FOUND: "a check found a difference or damage",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
}


def replaced(document: str, name: str, content: str) -> str:
    """The document with what stands between the markers of `name` replaced. The markers must be there."""
    pattern = re.compile(rf"(<!-- begin {re.escape(name)} -->\n).*?(<!-- end {re.escape(name)} -->)", re.DOTALL)
    assert pattern.search(document), f"no markers for {name}"
    return pattern.sub(lambda match: f"{match[1]}{content.rstrip()}\n{match[2]}", document)


def part(document: str, name: str) -> str:
    """What stands between the markers of `name`."""
    match = re.search(rf"<!-- begin {re.escape(name)} -->\n(.*?)<!-- end {re.escape(name)} -->", document, re.DOTALL)
    assert match, f"no markers for {name}"
    return match[1]


def commands() -> str:
    """Every command's own --help."""
    root = app_command()
    lines = [_help("outlast", root)]
    for group, entries in COMMANDS.items():
        lines.append(f"### {group}\n")
        for entry in entries:
            command = command_of(entry.name)
            lines.append(f"#### outlast {entry.name}\n\n{_help(entry.name, command)}")
            lines += [
                f"##### outlast {entry.name} {name}\n\n{_help(name, inner, entry.name)}"
                for name, inner in getattr(command, "commands", {}).items()
            ]
    return "\n".join(lines)


def command_of(name: str) -> Any:
    """One command as an object with `params`."""
    root = app_command()
    return root.get_command(typer.Context(root), name)


def _help(name: str, command: Any, group: str | None = None) -> str:
    settings: dict[str, Any] = {
        "info_name": name,
        "terminal_width": WIDTH,
        "max_content_width": WIDTH,
        "resilient_parsing": True,
    }
    parent = None if name == "outlast" else typer.Context(app_command(), info_name="outlast")
    if group is not None:
        parent = typer.Context(command_of(group), parent=parent, info_name=group)
    context = typer.Context(command, parent=parent, **settings)
    return f"```text\n{command.get_help(context)}\n```\n"


def exit_codes() -> str:
    """The table of exit codes."""
    rows = [f"| {code.value} | {EXIT_MEANINGS[code]} |" for code in ExitCode]
    return "\n".join(["| code | meaning |", "| ---: | --- |", *rows])


def settings() -> str:
    """A table for each section of outlast.toml."""
    tables = []
    for heading, section in SECTIONS.items():
        rows = [
            f"| `{name}` | {_type(field)} | {_default(field)} | {field.description} |"
            for name, field in section.model_fields.items()
        ]
        tables.append(
            "\n".join(
                [f"### [{heading}]\n", "| setting | type | default | what it is |", "| --- | --- | --- | --- |", *rows]
            )
        )
    return "\n\n".join(tables)


def _type(field: FieldInfo) -> str:
    return _named(field.annotation)


def _named(kind: Any) -> str:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Literal:
        return " or ".join(f'`"{value}"`' for value in arguments)
    if origin is typing.Annotated:
        return _named(arguments[0])
    if origin in (typing.Union, types.UnionType):
        return _named(next(one for one in arguments if one is not types.NoneType))
    if isinstance(kind, type) and issubclass(kind, Section):
        return "table"
    if origin is tuple:
        return f"list of {_named(arguments[0])}s"
    if origin is dict:
        return "table of strings"
    return {str: "string", int: "integer", bool: "boolean", float: "number", timedelta: "duration", date: "date"}[kind]


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined and field.default_factory is None:
        return "required"
    if field.default is None or field.default_factory is not None:
        return "none"
    if isinstance(field.default, timedelta):
        seconds = field.default.total_seconds()
        unit, size = next((unit, size) for unit, size in (("h", 3600), ("m", 60), ("s", 1)) if seconds >= size)
        return f'`"{seconds / size:g}{unit}"`'
    if isinstance(field.default, tuple):
        return "none"
    return f'`"{field.default}"`' if isinstance(field.default, str) else f"`{field.default}`"


REFERENCE_PARTS: Mapping[str, Callable[[], str]] = {
    "commands": commands,
    "exit codes": exit_codes,
    "settings": settings,
}
