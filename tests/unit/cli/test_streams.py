"""Where results and errors go may be full, closed or gone: no traceback, the work is done, the exit code is true."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.warm import EXECUTABLE

CONFIG = """
[vault]
url = "vault"
id = "8801b84f-b412-46f1-8087-9889ba861f3a"
recipients = [
  "age1qmnlfczc99zds5hzv5aejp0k7zq2ts9zpv06j4jwhxu0aayuqu2qd07kyp",
  "age1tyjdae57ad02yxymdeh45pvwmjc4n0wp0fudlhqazq8kp2h2zdss9ugg3p",
]
signers = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBx2VHgGx4w271j01E12Ldc7x7vnmyZ/oyUFs59ucmAX"]

[sources.main]
url = "postgresql://nobody@nowhere.invalid/shop"
tenant_table = "public.accounts"
"""
# An incident needs neither vault nor database: what is opened is in this host's state.
OPEN = "incident open 'A drill'"
LIST = "incident list"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outlast.toml").write_text(CONFIG)
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
    done = shell(folder, f"outlast {OPEN} | true")
    assert (done.returncode, done.stderr) == (0, "")
