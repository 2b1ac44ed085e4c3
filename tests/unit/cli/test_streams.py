"""Where results and errors go may be full, closed or gone: no traceback, the work is done, the exit code is true."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.commands import UNCONNECTED
from tests.warm import EXECUTABLE

# An incident needs neither vault nor database: what is opened is in this host's state.
OPEN = "incident open 'A drill'"
LIST = "incident list"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outlast.toml").write_text(UNCONNECTED)
    return tmp_path


def shell(folder: Path, command: str) -> subprocess.CompletedProcess[str]:
    """The command by a shell, which closes streams and joins pipes as people do."""
    environment = {"PATH": f"{Path(EXECUTABLE).parent}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("as_json", ["", "--json "])
def test_a_full_disk_under_the_result_is_told(folder: Path, as_json: str) -> None:
    """In two lines, with 1: whoever reads that file would miss it."""
    done = shell(folder, f"outlast {as_json}{LIST} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-", "2> /dev/full"])
def test_a_closed_stream_ends_no_command(folder: Path, closed: str) -> None:
    """What it did is done, and nothing of what is printed lands in a file that has the stream's number."""
    assert shell(folder, f"outlast {OPEN} {closed}").returncode == 0
    assert "A drill" in shell(folder, f"outlast {LIST}").stdout
    assert list(folder.glob("outlast-bug-*")) == []


def test_a_reader_that_has_enough_changes_no_exit_code(folder: Path) -> None:
    """As with `| head -1`: nothing is said of it, and the command's own code holds."""
    done = shell(folder, f"outlast {LIST} | true")
    assert (done.returncode, done.stderr) == (0, "")
