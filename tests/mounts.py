"""Commands among mounts of their own: full and read-only disks, seen by nobody else."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess

from tests.commands import EXECUTABLE, Outlast, Result


def namespaced(outlast: Outlast, mounts: str, command: str) -> Result | None:
    """Run a command among mounts that only it sees, or None where this system does not let us."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0:
        return None
    script = f"{mounts} && exec {shlex.quote(str(EXECUTABLE))} {command}"
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=outlast.folder,
        env={"PATH": os.environ["PATH"], "HOME": str(outlast.folder), **outlast.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Result((command,), done.returncode, done.stdout, done.stderr)
