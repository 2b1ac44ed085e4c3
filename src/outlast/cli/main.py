"""The `outlast` command: global options, commands loaded when they are called, and every error told as one.

Start-up counts (`outlast --help` within 0.3 s), so a command's module is imported when the command is, and heavy
libraries inside the functions that need them.
"""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from outlast import __version__
from outlast.cli import faults
from outlast.cli.opening import DefaultSource, Invocation
from outlast.cli.output import Output
from outlast.core.errors import ExitCode, OutlastError


@dataclass(frozen=True, slots=True)
class Entry:
    """One command: `function` of `module` in outlast.cli. `summary` is its docstring's first line (a test checks)."""

    name: str
    module: str
    summary: str

    @property
    def function(self) -> str:
        return self.name.replace("-", "_")


COMMANDS: dict[str, tuple[Entry, ...]] = {
    "Begin": (
        Entry("init", "init", "Write outlast.toml, make the vault and its keys, and propose whose each table is."),
        Entry("check", "check", "Say what is protected, what is not, and what this server and role cannot do."),
        Entry("replay", "replay", "Rehearse the worst day here and now, on a database of its own."),
    ),
    "Protect": (
        Entry("backup", "backup", "Take every tenant's rows into the vault."),
        Entry("follow", "follow", "Capture every change as it is committed."),
        Entry("fold", "fold", "Make a run out of the log that `follow` wrote, without a look at the database."),
        Entry(
            "tripwire",
            "tripwire",
            "Show what the tripwire watches for, prove that it works, and let halted roles in again.",
        ),
        Entry("status", "status", "Show every tenant's newest restorable moment, the oldest first."),
        Entry("verify", "verify", "Check every byte of the vault, and with --live compare it with the database."),
    ),
    "Rehearse": (
        Entry("rehearse", "rehearse", "Run a script on a copy rebuilt from the vault, and show its exact effect."),
        Entry("approve", "approve", "Approve a receipt by your signed name, after a look at what it will do."),
        Entry("run", "run", "Run a rehearsed script on production, guarded."),
    ),
    "Look": (
        Entry("tenants", "tenants", "List the tenants that the vault holds."),
        Entry("history", "history", "List the moments to which a tenant can be restored."),
        Entry("show", "show", "Print a tenant's rows of a table out of the vault."),
        Entry("export", "export", "Write tools' documents as plain files: Markdown, attachments, calendars."),
        Entry("search", "search", "Find words in tickets, pages, alerts and incidents, with no tool at hand."),
        Entry("diff", "diff", "Compare a tenant at two moments, or with the source itself."),
    ),
    "Restore": (
        Entry(
            "damage",
            "damage",
            "Show who lost what since a moment, the largest first, and in which transactions, from the log alone.",
        ),
        Entry("restore", "restore", "Plan to put tenants back into the live tables, and with --execute do it."),
        Entry("apply", "apply", "Carry out a plan exactly as it was shown."),
        Entry("undo", "undo", "Plan to take back what a plan did, and with --execute do it."),
        Entry("plans", "plans", "List the plans made on this host."),
        Entry("jobs", "jobs", "List the jobs in the queue; show, pause, resume or cancel one."),
        Entry("worker", "worker", "Work the jobs in the queue, and take over what other workers left when they died."),
    ),
    "Tell": (
        Entry(
            "incident",
            "incident",
            "Open incidents, tell customers early and often, and have the promises about it kept.",
        ),
        Entry("publish", "publish", "Write the status page to where customers read it."),
        Entry("subscribers", "subscribers", "List, add, import and remove those who get the updates."),
    ),
    "Stand in": (
        Entry(
            "serve",
            "serve",
            "Take alerts, pass them on, page where the vendor does not, and serve the desk, until told to stop.",
        ),
        Entry(
            "integration", "integration", "Say who may send alerts: each with a key of its own, which is printed once."
        ),
        Entry("user", "user", "Say who may log in at the pages, and which programs may use the API."),
        Entry(
            "failback",
            "failback",
            "Bring what was entered here while a tool was away (tickets, comments, overrides) into the tool.",
        ),
        Entry("oncall", "oncall", "Say who is on call and who is next, from the local copy of the tools' documents."),
        Entry("page", "page", "Show who would be paged and when, or send them a test by every contact that they have."),
    ),
    "Retain": (
        Entry("forget", "forget", "Plan to give up single runs of the vault."),
        Entry("prune", "prune", "Plan to remove what retention no longer keeps, in two steps."),
        Entry("hold", "hold", "Keep a tenant or a run whatever retention says."),
        Entry("keys", "keys", "Say which of the vault's keys this host has, and give it new ones to write with."),
        Entry("erase", "erase", "Plan to destroy a tenant's key, so that nothing of theirs can be read again."),
    ),
}

_TAKES_VALUE = ("--config",)
_OF_ALL_SOURCES = frozenset({"search", "export"})
"""Commands that mean every source where none is named."""

_FLAGS = ("--json",)


class Commands(TyperGroup):
    """The commands, imported one by one as they are asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [entry.name for entries in COMMANDS.values() for entry in entries]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        for entries in COMMANDS.values():
            for entry in entries:
                if entry.name == cmd_name:
                    return _loaded(entry)
        return None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        # Written from COMMANDS: the default would import every command's module to ask for its first line.
        for group, entries in COMMANDS.items():
            with formatter.section(group):
                formatter.write_dl([(f"{entry.name:<8}", entry.summary) for entry in entries])


def _loaded(entry: Entry) -> Any:
    module = importlib.import_module(f"outlast.cli.{entry.module}")
    if (several := getattr(module, "commands", None)) is not None:
        return typer.main.get_command(several)
    single = typer.Typer(add_completion=False, rich_markup_mode=None)
    single.command(entry.name)(getattr(module, entry.function))
    return typer.main.get_command(single)


app = typer.Typer(cls=Commands, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"outlast {__version__}")
        raise typer.Exit


@app.callback()
def outlast(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="The outlast.toml to use; else OUTLAST_CONFIG, else the nearest upwards."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, whatever happens.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Put one customer back into a shared PostgreSQL database: backup, restore and proof by tenant.

    Results go to stdout, progress and errors to stderr. Whatever writes to the database, or takes something out of the
    vault, shows its plan first and does nothing until `outlast apply PLAN` or --execute.

    Exit codes: 0 done; 1 failed, or could not tell; 2 wrong usage; 3 refused, nothing was changed; 4 a check found a
    difference or damage; 130 interrupted.
    """
    invocation = Invocation.of(context)
    invocation.config_file = config
    source = DefaultSource(invocation)
    one = (entry.name for entries in COMMANDS.values() for entry in entries if entry.name not in _OF_ALL_SOURCES)
    context.default_map = {name: {"source": source} for name in one}
    assert json == invocation.output.json
    assert not version


def main(arguments: Sequence[str] | None = None) -> None:
    """The console script. Ends the process with the command's exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A label in an encoding that the terminal has not is shown somehow, and ends no command.
            stream.reconfigure(errors="backslashreplace")
    _interrupt_on(signal.SIGTERM, signal.SIGHUP)
    code = run(list(sys.argv[1:] if arguments is None else arguments))
    try:
        sys.stdout.flush()
    except OSError as error:
        # Where the reader (head, less) went away it has all it wanted. What is left goes nowhere, also at the
        # interpreter's own flush.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):
            code = Output().fail(OutlastError(f"cannot write the result: {error.strerror}", code="system"))
    sys.exit(code)


def _interrupt_on(*signals: signal.Signals) -> None:
    """End as Ctrl-C does, so that what was begun is cleaned up. What nohup lets us ignore stays ignored."""
    for number in signals:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code. Nothing that happens in it comes out as an exception."""
    arguments = _globals_first(arguments)
    output = Output(json="--json" in arguments[: _count_globals(arguments)])
    invocation = Invocation(output)
    try:
        with invocation.closing:
            result = app_command().main(
                args=arguments or ["--help"], prog_name="outlast", standalone_mode=False, obj=invocation
            )
        if not arguments:
            return ExitCode.USAGE
        # Typer makes 130 of an interrupt before we see it.
        return _interrupted(output) if result == ExitCode.INTERRUPTED else int(result or 0)
    except OutlastError as error:
        return output.fail(error)
    except KeyboardInterrupt:
        return _interrupted(output)
    except (BrokenPipeError, SystemExit) as error:  # Typer makes an exit of a broken pipe
        if output.code is not None:
            return output.code  # whoever reads the result has enough of it
        broken = error if isinstance(error, BrokenPipeError) else BrokenPipeError(errno.EPIPE, "Broken pipe")
        return output.fail(_fault(broken, arguments))
    except Exception as error:  # noqa: BLE001 - the outermost frame: whatever it is, it is told and never shown raw
        if isinstance(error, typer.Abort):
            return _interrupted(output)
        if type(error).__name__ == "NoArgsIsHelpError" and not output.json:
            return output.usage(str(error))  # a group of commands without one of them
        if hasattr(error, "format_message"):
            return output.fail(faults.of_usage(error))
        return output.fail(_fault(error, arguments))


def app_command() -> Any:
    """The whole command line as one object; documentation is made from it."""
    return typer.main.get_command(app)


def _globals_first(arguments: list[str]) -> list[str]:
    """Global options may stand anywhere before `--`: `outlast restore acme --json` is what fingers type."""
    first: list[str] = []
    rest: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            rest += [argument, *left]
        elif argument in _FLAGS:
            first += [] if argument in first else [argument]
        elif argument in _TAKES_VALUE:
            first += [argument, *([value] if (value := next(left, None)) is not None else [])]
        elif argument.partition("=")[0] in _TAKES_VALUE:
            first.append(argument)
        else:
            rest.append(argument)
    return first + rest


def _count_globals(arguments: list[str]) -> int:
    """How many of the arguments, global options first, stand before the command."""
    position = 0
    while position < len(arguments) and arguments[position].startswith("-"):
        position += 2 if arguments[position] in _TAKES_VALUE else 1
    return position


def _interrupted(output: Output) -> ExitCode:
    error = OutlastError(
        "interrupted",
        hint="Nothing is left half done; run the same command again to go on.",
        code="interrupted",
    )
    output.fail(error)
    return ExitCode.INTERRUPTED


def _fault(error: Exception, arguments: list[str]) -> OutlastError:
    command = next(iter(arguments[_count_globals(arguments) :]), "")
    return faults.of_the_system(error, command) or faults.of_a_bug(error, command)


if __name__ == "__main__":
    main()
