"""What a command raised that no command of ours told: as an error for a person, and never as a traceback."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from outlast import __version__
from outlast.core.errors import BugError, OutlastError, UsageError


def of_usage(error: Any) -> UsageError:
    """What Typer says of the words that were typed, in our form."""
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "outlast"
    told = " ".join(str(error.format_message()).split()).rstrip(".")
    told = told.replace("Choose from: ", "It can be: ").replace("Value error, ", "")
    hint = f"See: {command} --help"
    if told.startswith("No such command") and "Did you mean" not in told:
        from difflib import get_close_matches

        meant = get_close_matches(told.rpartition("'")[0].rpartition("'")[2], _commands(context), n=1)
        hint = f"Did you mean {command} {meant[0]}? {hint}" if meant else hint
    return UsageError(told[:1].lower() + told[1:], hint=hint)


def _commands(context: Any) -> list[str]:
    listed = getattr(getattr(context, "command", None), "list_commands", None)
    return [] if listed is None else list(listed(context))


def of_the_system(error: Exception, command: str) -> OutlastError | None:
    """A fault of this machine or of the connection that no command told better. None: it is a bug."""
    doing = f"finish `outlast {command}`"
    if isinstance(error, OSError) and error.strerror:
        place = f" ({error.filename})" if error.filename else ""
        return OutlastError(
            f"cannot {doing}: {error.strerror}{place}",
            hint="Nothing is left half done; set that right, and run the same command again.",
            code="system",
        )
    psycopg = sys.modules.get("psycopg")  # not imported: no error of its
    if psycopg is not None and isinstance(error, psycopg.OperationalError):
        from outlast.sources.postgres.explaining import explain

        return explain(error, doing)
    return None


def of_a_bug(error: Exception, command: str) -> OutlastError:
    """A one-line error, and a report in a file: the traceback, without the values that went through it."""
    lines = [f"outlast {__version__}, python {sys.version.split()[0]}, command: {command}\n"]
    # An error's own text may carry a row (a driver's message does), so it is kept only where it can name nothing but
    # code; of the others the type and where it was raised.
    for link in _chain(error):
        told = f": {link}" if isinstance(link, ImportError | AttributeError | NameError) else ""
        kind = f"{type(link).__module__}.{type(link).__qualname__}"
        lines += [f"\n{kind}{told}\n", *traceback.format_tb(link.__traceback__)]
    where = "nowhere: the report could not be written"
    try:
        with NamedTemporaryFile("w", prefix="outlast-bug-", suffix=".txt", delete=False, encoding="utf-8") as file:
            file.writelines(lines)
        where = str(Path(file.name))
    except OSError:
        print("".join(lines), file=sys.stderr)  # the disk is full: better on the screen than lost
    return BugError(
        f"a bug in Outlast ({type(error).__name__}) ended `outlast {command}`",
        hint=f"Please report it with {where} (it has no rows and no secrets).",
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    links: list[BaseException] = []
    while error is not None and error not in links:
        links.append(error)
        error = error.__cause__ or error.__context__
    return links
