"""A real application's schema, made by its own migrations out of its own package: pretix, a ticket shop for many shops.

The package goes into an environment of its own under .venv-apps (never into the project's, never into the repository),
and the empty, migrated database is kept there as a dump: migrating takes a minute or two, and then only the first time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fcntl import LOCK_EX, flock
from pathlib import Path

from tests.servers import PASSWORD, Server

VERSION = "2026.8.0"

_CONFIGURATION = """\
[pretix]
instance_name=test
url=http://localhost
datadir={folder}/data
[database]
backend=postgresql
name={database}
user=postgres
password={password}
host=127.0.0.1
port={port}
"""


@dataclass(frozen=True)
class Pretix:
    """pretix, installed under `folder`. Its tenants are organizers, known by their slug."""

    folder: Path

    tenant_table = "pretixbase_organizer"
    tenant_label = "slug"

    @property
    def python(self) -> Path:
        return self.folder / "venv" / "bin" / "python"

    @property
    def dump(self) -> Path:
        return self.folder / "migrated.dump"


def install(root: Path) -> Pretix:
    """The installed application, from the cache where it is there."""
    apps = root / ".venv-apps"
    pretix = Pretix(apps / f"pretix-{VERSION}")
    pretix.folder.mkdir(parents=True, exist_ok=True)
    (apps / ".gitignore").write_text("*\n")
    if not (pretix.folder / "installed").exists():
        uv = shutil.which("uv") or str(root / "build" / "uv" / "bin" / "uv")  # where `make setup` puts it
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(pretix.folder / "venv"))
        _run(uv, "pip", "install", "--quiet", "--python", str(pretix.python), f"pretix=={VERSION}")
        (pretix.folder / "installed").touch()
    return pretix


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """No other process of these tests is in such a block meanwhile."""
    with (root / ".venv" / "applications.lock").open("w") as file:
        flock(file, LOCK_EX)
        yield


def migrate(pretix: Pretix, server: Server) -> Path:
    """The dump of an empty database that the application's own migrations made on `server`."""
    if pretix.dump.exists():
        return pretix.dump
    configuration = pretix.folder / "pretix.cfg"
    (pretix.folder / "data").mkdir(exist_ok=True)
    name = "pretix_migrated"
    with server.new_database(name) as url:
        configuration.write_text(
            _CONFIGURATION.format(folder=pretix.folder, database=name, password=PASSWORD, port=server.port)
        )
        _run(str(pretix.python), "-m", "pretix", "migrate", environment={"PRETIX_CONFIG_FILE": str(configuration)})
        partial = pretix.dump.with_suffix(".partial")
        server.run("pg_dump", "--format=custom", f"--file={partial}", url)
        partial.rename(pretix.dump)
    return pretix.dump


def _run(*command: str, environment: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        command, env=os.environ | (environment or {}), capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
