"""Tests' commands (tests/warm.py) are processes as users start them, whichever way they are run."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

from tests.commands import Outlast

_EACH_FIRST = """
import gc, importlib, os, pkgutil, sys
import outlast.cli
names = [one.name for one in pkgutil.iter_modules(outlast.cli.__path__, "outlast.cli.")]
for name in names:
    importlib.import_module(name)
for name in [name for name in sys.modules if name.partition(".")[0] == "outlast"]:
    del sys.modules[name]  # what others wrote stays
gc.disable()
for name in names:
    if (pid := os.fork()) == 0:
        importlib.import_module(name)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0, name
"""


@pytest.mark.parametrize(
    "arguments", [("--version",), ("--json", "status"), ("status",), ("no-such-command",), ("restore", "--help")]
)
def test_it_is_the_installed_command(outlast: Outlast, arguments: tuple[str, ...]) -> None:
    """Exit code and both streams are those of the installed script that is started anew."""
    forked = outlast(*arguments)
    process = outlast.start(*arguments)
    assert (forked.stdout, forked.stderr) == process.communicate(timeout=60)
    assert forked.exit_code == process.returncode


def test_folder_environment_and_input_are_its_own(outlast: Outlast) -> None:
    """The configuration is looked for in the folder, and nothing of another command's environment is left."""
    elsewhere = {"OUTLAST_CONFIG": "/nowhere/outlast.toml"}
    assert "/nowhere/outlast.toml" in outlast("status", environment=elsewhere).stderr
    assert "/nowhere" not in outlast("status").stderr


def test_many_at_once(outlast: Outlast) -> None:
    """Commands of several threads run side by side, each with an answer of its own."""
    told: dict[int, str] = {}

    def run(number: int) -> None:
        told[number] = outlast(f"no-such-{number}").stderr

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(f"no-such-{number}" in told[number] for number in range(6))


def test_one_that_takes_too_long_is_killed(outlast: Outlast) -> None:
    """As subprocess.run does it; the next command runs as ever."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"postgresql://postgres@127.0.0.1:{mute.getsockname()[1]}/app"
        with pytest.raises(subprocess.TimeoutExpired):
            outlast("init", url, "--tenant-table", "t", "--tenant-label", "l", "--vault", "vault", timeout_s=1)
    assert outlast("--version").exit_code == 0


def test_every_command_can_be_the_first_to_be_imported() -> None:
    """A circle of imports would end a user's command, and none of those that are forked with everything imported."""
    done = subprocess.run([sys.executable, "-c", _EACH_FIRST], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
