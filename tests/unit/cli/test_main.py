"""The command line itself: global options, errors as one object or two lines, never a traceback."""

from __future__ import annotations

import errno
import importlib
import inspect
import json

import psycopg
import pytest

from outlast.cli import main as command_line
from outlast.cli.main import COMMANDS, Entry, run
from outlast.core.errors import ExitCode, OutlastError, Refused

ENTRIES = [entry for entries in COMMANDS.values() for entry in entries]


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `outlast status` end in this error."""

    def status() -> None:
        raise error

    monkeypatch.setattr("outlast.cli.status.status", status)


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`outlast --help` names each command and ends with 0."""
    assert run(["--help"]) == 0
    printed = capsys.readouterr().out
    assert all(f"\n  {entry.name} " in printed for entry in ENTRIES)


def test_no_arguments_shows_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    """`outlast` alone shows the help; a script that forgot its command still fails."""
    assert run([]) == ExitCode.USAGE
    assert "Usage: outlast" in capsys.readouterr().out


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_summary_is_the_first_line_of_the_docstring(entry: Entry) -> None:
    """The list of commands says what the command's own help says first."""
    function = getattr(importlib.import_module(f"outlast.cli.{entry.module}"), entry.function)
    documented = inspect.getdoc(function)
    assert documented is not None
    assert " ".join(documented.split("\n\n")[0].split()) == entry.summary


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["status", "--nonsense"], ["apply"]])
@pytest.mark.parametrize("as_json", [False, True])
def test_wrong_usage(arguments: list[str], as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage ends with 2, an error and a hint."""
    assert run([*arguments, "--json"] if as_json else arguments) == ExitCode.USAGE
    captured = capsys.readouterr()
    if as_json:
        answer = json.loads(captured.out)
        assert answer["ok"] is False
        assert answer["error"]["code"] == "usage"
        assert answer["error"]["hint"].startswith("See: outlast")
    else:
        assert captured.out == ""
        assert captured.err.startswith("Error: ")
        assert "Hint: See: outlast" in captured.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["restor"], "Error: no such command 'restor'\nHint: Did you mean outlast restore? See: outlast --help\n"),
        (["incident", "opn"], "no such command 'opn'. Did you mean 'open'?"),
        (["page"], "Error: missing argument 'action'. It can be: test, show\nHint: See: outlast page --help\n"),
    ],
)
def test_a_slip_of_the_fingers_is_told_in_two_lines(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what was meant, or what it can be."""
    assert run(arguments) == ExitCode.USAGE
    assert told in capsys.readouterr().err


def test_a_group_without_a_command_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """It is wrong usage, but no error to be read."""
    assert run(["incident"]) == ExitCode.USAGE
    captured = capsys.readouterr()
    assert captured.out.startswith("Usage: outlast incident")
    assert captured.err == ""


def test_a_pipe_that_breaks_before_there_is_a_result_is_no_success(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only the reader of the result may go away; the server's end of a connection is another matter."""
    raising(BrokenPipeError(errno.EPIPE, "Broken pipe"), monkeypatch)
    assert run(["status"]) == ExitCode.FAILED
    assert "Broken pipe" in capsys.readouterr().err


def test_global_options_stand_anywhere() -> None:
    """--json and --config may follow the command; what stands after -- is left alone."""
    moved = command_line._globals_first(["show", "acme", "--json", "t", "--config=f", "--config", "g", "--", "--json"])
    assert moved == ["--json", "--config=f", "--config", "g", "show", "acme", "t", "--", "--json"]


def test_an_error_is_two_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An error of ours: its message, its hint, its exit code."""
    raising(Refused("cannot do it", hint="Do that first."), monkeypatch)
    assert run(["status"]) == ExitCode.REFUSED
    assert capsys.readouterr().err == "Error: cannot do it\nHint: Do that first.\n"


def test_an_error_is_one_object(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With --json an error is the one object on stdout."""
    raising(OutlastError("cannot do it"), monkeypatch)
    assert run(["status", "--json"]) == ExitCode.FAILED
    error = {"code": "failed", "message": "cannot do it", "hint": None}
    assert json.loads(capsys.readouterr().out) == {"ok": False, "error": error}


def test_an_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is told in a line and ends with 130."""
    raising(KeyboardInterrupt(), monkeypatch)
    assert run(["status"]) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err.startswith("Error: interrupted\nHint: ")


def test_a_bug_is_told_and_its_report_has_no_values(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """An exception of no kind of ours is one line and a report; a row that its message carries is in neither."""
    folder = tmp_path_factory.mktemp("reports")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    raising(ValueError("a row of a customer"), monkeypatch)
    assert run(["status"]) == ExitCode.FAILED
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    assert captured.err.startswith("Error: a bug in Outlast (ValueError) ended `outlast status`\nHint: ")
    (report,) = folder.iterdir()
    assert str(report) in captured.err
    text = report.read_text()
    assert "test_main.py" in text
    assert "a row of a customer" not in text + captured.err + captured.out


def test_a_fault_of_the_machine_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk that no command foresaw is told as what it is."""
    raising(OSError(errno.ENOSPC, "No space left on device", "/var/spool/x"), monkeypatch)
    assert run(["--config", "f", "status"]) == ExitCode.FAILED
    said = capsys.readouterr().err
    assert said.startswith("Error: cannot finish `outlast status`: No space left on device (/var/spool/x)\nHint: ")


def test_a_lost_connection_is_no_bug(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A connection that breaks where no command foresaw it is a passing fault."""
    raising(psycopg.OperationalError("consuming input failed"), monkeypatch)
    assert run(["status", "--json"]) == ExitCode.FAILED
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "transient"
