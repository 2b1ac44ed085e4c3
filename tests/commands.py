"""The installed `outlast` command, run as a person or a cron job runs it: in a folder, with an environment."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests import warm
from tests.warm import EXECUTABLE as EXECUTABLE

TIMEOUT_S = 300

UNCONNECTED = """
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
"""An outlast.toml for commands that need neither the vault nor the database: there is none."""

_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "XDG_RUNTIME_DIR", "COVERAGE_PROCESS_START")


@dataclass(frozen=True)
class Result:
    """What a command that ended left behind. A negative `exit_code` is the signal that killed it."""

    arguments: tuple[str, ...]
    exit_code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one object that `--json` prints on stdout."""
        parsed = json.loads(self.stdout)
        assert isinstance(parsed, dict), self
        return parsed

    def __str__(self) -> str:
        return f"outlast {' '.join(self.arguments)}: exit {self.exit_code}\n{self.stdout}\n{self.stderr}"


@dataclass
class Outlast:
    """Runs the command in `folder`, with `environment` and little else of ours: no PG*, AWS_* or HOME leaks in."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdin: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> Result:
        """Run to the end, whatever the exit code."""
        done = warm.run(
            arguments,
            folder=self.folder,
            environment=self._environment(environment),
            stdin=stdin or "",
            timeout_s=timeout_s,
        )
        return Result(arguments, done.returncode, done.stdout, done.stderr)

    def done(self, *arguments: str, environment: Mapping[str, str] | None = None) -> Result:
        """Run; anything but exit 0 fails the test with all that the command said."""
        result = self(*arguments, environment=environment)
        assert result.exit_code == 0, str(result)
        return result

    def start(self, *arguments: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start in a session of its own, so that a test can kill it with everything it started (os.killpg)."""
        return subprocess.Popen(
            [EXECUTABLE, *arguments],
            cwd=self.folder,
            env=self._environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _environment(self, more: Mapping[str, str] | None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        home = {"HOME": str(self.folder), "COLUMNS": "200", "NO_COLOR": "1"}
        return kept | home | self.environment | dict(more or {})
