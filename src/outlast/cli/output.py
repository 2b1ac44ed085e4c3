"""What a command says and where: results to stdout, progress and errors to stderr, one JSON object with --json.

A command ends in exactly one `finish`, and returns the exit code that it gives back. Nothing else writes to stdout.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Protocol, TextIO

from outlast.core.errors import ExitCode, OutlastError

if TYPE_CHECKING:
    from rich.console import Console


_PIPE_WIDTH = 100_000


class Progress(Protocol):
    """A bar, or nothing at all where stderr is not a terminal."""

    def advance(self, amount: float = 1) -> None: ...
    def total(self, amount: float) -> None: ...
    def say(self, description: str) -> None: ...


@dataclass
class Output:
    """One command's two streams. `json` is --json."""

    json: bool = False
    stdout: TextIO = field(default_factory=lambda: sys.stdout)
    stderr: TextIO = field(default_factory=lambda: sys.stderr)
    code: ExitCode | None = None  # once there is a result: the reader of it may go away from then on

    def note(self, text: str) -> None:
        """Say something to the person who waits (stderr). Silent with --json: a script reads one object, no chatter."""
        if not self.json:
            self._say(text)

    def _say(self, text: str) -> None:
        try:
            print(text, file=self.stderr, flush=True)
        except OSError:
            # Nobody reads stderr any more (a closed pipe, a full disk): the work is not given up for that. What is
            # left in its buffer goes nowhere, also at the interpreter's own flush.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stderr.fileno())

    @property
    def note_width(self) -> int:
        """How wide a note may be: the terminal's width, and no limit in a file."""
        return get_terminal_size().columns if self.stderr.isatty() else _PIPE_WIDTH

    def warn(self, text: str) -> None:
        """Something the person should know although the command goes on (stderr, also with --json)."""
        self._say(f"Warning: {text}")

    def finish(
        self,
        fields: Mapping[str, object],
        text: str | Callable[[Console], None],
        *,
        problem: OutlastError | None = None,
        exit_code: ExitCode | None = None,
    ) -> ExitCode:
        """Print the command's one result and return its exit code.

        `fields` is the JSON object's content, `text` what a person reads instead (a string, or a function that
        prints to a console). `problem` is set where the command did its work and found something (exit 4) or refuses
        (exit 3): the result is printed all the same, and the problem after it, to stderr.
        """
        code = exit_code if exit_code is not None else problem.exit_code if problem else ExitCode.DONE
        self.code = code
        if self.json:
            document: dict[str, object] = {"ok": code is ExitCode.DONE, **fields}
            if problem is not None:
                document["error"] = error_fields(problem)
            print(json.dumps(document, default=str), file=self.stdout, flush=True)
            return code
        if isinstance(text, str):
            if text:
                print(text, file=self.stdout, flush=True)
        else:
            text(self.console())
        if problem is not None:
            self.stdout.flush()
            self._say(error_text(problem))
        return code

    def usage(self, text: str) -> ExitCode:
        """Show how a command is used that was called without what it needs."""
        print(text, file=self.stdout)
        return ExitCode.USAGE

    def fail(self, error: OutlastError) -> ExitCode:
        """Report an error that ended the command."""
        if self.json:
            document = {"ok": False, "error": error_fields(error)}
            try:
                print(json.dumps(document), file=self.stdout, flush=True)
            except OSError:  # no JSON reaches anybody: say it where a person may see it
                self._say(error_text(error))
        else:
            self._say(error_text(error))
        return error.exit_code

    def console(self) -> Console:
        """A Rich console on stdout: colours and folding on a terminal, plain text that is never folded in a pipe."""
        from rich.console import Console

        width = None if self.stdout.isatty() else _PIPE_WIDTH
        return Console(file=self.stdout, width=width, highlight=False, soft_wrap=False, emoji=False, markup=False)

    @contextmanager
    def progress(self, description: str, total: float | None = None) -> Iterator[Progress]:
        """A progress bar on stderr while the block runs; only on a terminal, and never with --json."""
        if self.json or not self.stderr.isatty():
            yield _Silent()
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bars

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bars(*columns, console=Console(file=self.stderr, markup=False), transient=True) as bars:
            yield _Bar(bars, bars.add_task(description, total=total))


class _Silent:
    def advance(self, amount: float = 1) -> None:
        pass

    def total(self, amount: float) -> None:
        pass

    def say(self, description: str) -> None:
        pass


class _Bar:
    def __init__(self, bars: object, task: object) -> None:
        from rich.progress import Progress as Bars
        from rich.progress import TaskID

        assert isinstance(bars, Bars)
        assert isinstance(task, int)
        self._bars, self._task = bars, TaskID(task)

    def advance(self, amount: float = 1) -> None:
        self._bars.advance(self._task, amount)

    def total(self, amount: float) -> None:
        self._bars.update(self._task, total=amount)

    def say(self, description: str) -> None:
        self._bars.update(self._task, description=description)


def error_fields(error: OutlastError) -> dict[str, str | None]:
    """The `error` member of every --json answer that is not ok."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def error_text(error: OutlastError) -> str:
    """An error for a person: what could not be done and why, then the next command."""
    lines = [f"Error: {error.message}"]
    if error.hint:
        first, *more = error.hint.splitlines()
        lines += [f"Hint: {first}", *(f"      {line}" for line in more)]
    return "\n".join(lines)
