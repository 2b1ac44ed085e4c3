"""`outlast serve` as it is installed, in a folder of its own: started, killed, started again.

Neither its vault nor its source exists: it must need neither.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests import warm
from tests.commands import EXECUTABLE

TIMEOUT_S = 60
PASSWORD = "correct horse battery"

_CONFIGURATION = """
[vault]
url = "{vault}"
id = "none"
recipients = ["age1none"]
signers = ["ssh-ed25519 none"]
[keys]
dir = "state"
[sources.main]
url = "postgresql://nobody@127.0.0.1:1/none"
tenant_table = "none"
[serve]
bind = "127.0.0.1:0"
{settings}
"""


@dataclass
class Serving:
    """One installation. `upstreams`: name → (kind, URL)."""

    folder: Path
    upstreams: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    notify: str = ""
    paging: str = ""  # OUTLAST_PAGING: which service reaches which kind of contact
    settings: str = ""
    upstream_settings: str = ""
    vault: str = "/nonexistent/vault"
    process: subprocess.Popen[str] | None = None
    url: str = ""

    def __post_init__(self) -> None:
        text = _CONFIGURATION.format(settings=self.settings, vault=self.vault)
        for name, (kind, url) in self.upstreams.items():
            text += (
                f'[upstreams.{name}]\nkind = "{kind}"\nurl = "{url}"\nkey_command = "echo key-{name}"\n'
                f"{self.upstream_settings}\n"
            )
        (self.folder / "outlast.toml").write_text(text)

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "OUTLAST_NOTIFY": self.notify, "OUTLAST_PAGING": self.paging}

    def run(self, *arguments: str, stdin: str = "") -> dict[str, Any]:
        done = warm.run(
            (*arguments, "--json"),
            folder=self.folder,
            environment=self._environment(),
            stdin=stdin,
            timeout_s=TIMEOUT_S,
        )
        answer: dict[str, Any] = json.loads(done.stdout)
        assert answer["ok"], answer
        return answer

    def integration(self, name: str, kind: str, *arguments: str) -> str:
        """Make one, and give its key."""
        return str(self.run("integration", "add", name, "--kind", kind, *arguments)["key"])

    def user(self, name: str, role: str) -> None:
        self.run("user", "add", name, "--role", role, stdin=PASSWORD + "\n")

    def start(self) -> None:
        """Returns when it serves, at the port that it had before, if it had one."""
        bind = ("--bind", self.url.removeprefix("http://")) if self.url else ()
        self.process = subprocess.Popen(
            [EXECUTABLE, "serve", *bind], cwd=self.folder, env=self._environment(), stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        ready = "Outlast serves "
        told: list[str] = []
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            if not select.select([self.process.stderr], [], [], 1)[0]:
                continue
            line = self.process.stderr.readline()
            told.append(line)
            if line.startswith(ready):
                self.url = line.removeprefix(ready).strip()
                os.set_blocking(self.process.stderr.fileno(), False)
                return
            if not line and self.process.poll() is not None:
                break
        raise AssertionError(f"it did not start: {''.join(told)}")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        if self.process.stderr:
            self.process.stderr.close()

    def stop(self) -> int:
        """By SIGTERM, as a supervisor does; gives the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(TIMEOUT_S)
        if self.process.stderr:
            self.process.stderr.close()
        return code

    def opsgenie(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"Authorization": f"GenieKey {key}"}, timeout=TIMEOUT_S)

    @contextmanager
    def browser(self, name: str) -> Iterator[httpx.Client]:
        """A client that is logged in."""
        with httpx.Client(base_url=self.url, timeout=TIMEOUT_S, headers={"Accept": "text/html"}) as client:
            answer = client.post("/login", data={"name": name, "password": PASSWORD})
            assert answer.status_code == 303, answer.text
            yield client


@contextmanager
def serving(folder: Path, **given: Any) -> Iterator[Serving]:
    """An installation, whose process is ended with the block. The block starts it."""
    one = Serving(folder, **given)
    try:
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.kill()


def until(condition: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S) -> None:
    """Wait for a condition; fails with what was waited for."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for: {what}"
        time.sleep(0.05)
