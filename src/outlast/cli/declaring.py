"""What is to be rehearsed and what was declared of it: the script's text, its variables, its intent, its tenants."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from outlast.core.errors import UsageError

if TYPE_CHECKING:
    from outlast.core.intent import Intent
    from outlast.rehearsal.script import Script

Keys = Callable[[Sequence[str]], Sequence[str]]
"""The tenants' keys, by labels or keys, in their order."""


@dataclass(frozen=True)
class Declared:
    """Either a script or a command, and the intent, where there is one."""

    script: Script | None
    command: tuple[str, ...]
    intent: Intent | None


def declared(words: Sequence[str], given: Sequence[str], intent_file: str | None, keys: Keys) -> Declared:
    """Read what stands on the command line. A script that takes `:'tenants'` gets the intent's, by their keys."""
    if not _is_script(words):
        if words[0].endswith(".sql"):
            raise UsageError(
                f"{words[0]} is a script, and {words[1]} is one word too many",
                hint="Rehearse one script at a time; its variables are given by --set NAME=VALUE.",
            )
        if given:
            raise UsageError("--set is for variables of a .sql file", hint="Give a command its own arguments.")
        if shutil.which(words[0]) is None:
            what = (
                "neither a .sql file nor a program" if Path(words[0]).exists() else "no .sql file, and no command here"
            )
            raise UsageError(
                f"{words[0]} is {what}",
                hint="A script's name ends in .sql; a command stands after --: outlast rehearse -- COMMAND…",
            )
        return Declared(None, tuple(words), _intent(words, None, intent_file))
    path = Path(words[0])
    text = read_text(path, "Name a .sql file.")
    intent = _intent(words, text, intent_file)
    return Declared(_script(text, path.name, _variables(given), intent, keys), (), intent)


def tenants_text(keys: Sequence[str]) -> str:
    """Keys as a script's `:'tenants'` has them: the text of an array."""
    return "{" + ",".join('"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"' for key in keys) + "}"


def _script(text: str, name: str, variables: dict[str, str], intent: Intent | None, keys: Keys) -> Script:
    from outlast.rehearsal.script import TENANTS_VARIABLE, read_script
    from outlast.rehearsal.variables import mentioned

    if TENANTS_VARIABLE in mentioned(text) and TENANTS_VARIABLE not in variables:
        if intent is None or not intent.tenants:
            raise UsageError(
                f"{name} takes its tenants as :'{TENANTS_VARIABLE}', and nothing says which they are",
                hint="Name them in its intent: -- outlast: tenants a, b, c",
                code="variable",
            )
        variables[TENANTS_VARIABLE] = tenants_text(keys(intent.tenants))
    return read_script(text, name, variables)


def _variables(given: Sequence[str]) -> dict[str, str]:
    variables = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise UsageError(f"--set {one}: there is no =", hint="Write --set NAME=VALUE.")
        variables[name] = value
    return variables


def draft_path(words: Sequence[str]) -> Path:
    """The file beside a script, or in this folder for a command, that may hold its intent: drafts go there."""
    return Path(words[0]).with_suffix(".intent.toml") if _is_script(words) else Path("intent.toml")


def _is_script(words: Sequence[str]) -> bool:
    return len(words) == 1 and words[0].endswith(".sql")


def _intent(words: Sequence[str], text: str | None, file: str | None) -> Intent | None:
    """What is declared: in the file that was named, in the script's header, or in a file beside it."""
    from outlast.core.intent_text import declares, parse_intent

    if file is not None:
        path = Path(file).resolve()
        return parse_intent(read_text(path, "Name an intent.toml."), _toml(file), _beside(path.parent))
    folder = Path(words[0]).resolve().parent if text is not None else Path.cwd()
    beside = draft_path(words)
    if text is not None and declares(text):
        if beside.is_file():
            raise UsageError(
                f"two intents: {words[0]} declares one in its header, and {beside} is another",
                hint=f"Take one of them away, or say which counts: --intent {beside}",
                code="two-intents",
            )
        return parse_intent(text, Path(words[0]).name, _beside(folder))
    return parse_intent(read_text(beside, ""), str(beside), _beside(folder)) if beside.is_file() else None


def _toml(file: str) -> str:
    if not file.endswith(".toml"):
        raise UsageError(f"--intent {file}: an intent beside a script is a .toml file")
    return file


def _beside(folder: Path) -> Callable[[str], str]:
    return lambda name: read_text(folder / name, "The intent names it.")


def read_text(path: Path, hint: str) -> str:
    """A file of text that somebody wrote, wherever: a byte order mark and the ends of lines make no difference."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=hint or None) from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        told = f"cannot read {path}: line {line} is not UTF-8 text"
        raise UsageError(told, hint=f"Write it anew in UTF-8: iconv -f latin1 -t utf-8 {path}") from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UsageError(f"cannot read {path}: line {line} has a NUL character, which no SQL may have") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
