"""Where a copy lies while a rehearsal runs, and that it never lies there longer: each folder is registered and locked.

A copy is all customers' rows in the clear. Its server's guard removes it however this process ends (server.py); where
the guard was killed as well, the next start sweeps: a registered folder whose lock nobody holds has no owner any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from outlast.core.errors import OutlastError

_PREFIX = "outlast-copy-"
_LOCK = ".lock"


@contextmanager
def workspace(registry: Path, base: Path | None = None) -> Iterator[Path]:
    """A folder for one copy, under `base` or the system's temporary folder, removed at the end whatever happens.

    `registry` is a folder of this host's state that remembers it, so that it is found again after kill -9.
    """
    sweep(registry)
    registry.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    entry = registry / f"{folder.name}{_LOCK}"
    descriptor = os.open(entry, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(descriptor, os.fsencode(folder))
        yield folder
    finally:
        remove(folder)
        entry.unlink(missing_ok=True)
        os.close(descriptor)


def sweep(registry: Path) -> list[Path]:
    """Remove what dead rehearsals left, and end their servers. Returns the folders that were found."""
    swept = []
    for entry in sorted(registry.glob(f"*{_LOCK}")):
        with suppress(FileNotFoundError), entry.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue  # its owner lives
            folder = Path(os.fsdecode(file.read()))
            if folder.name.startswith(_PREFIX):  # what stands there is removed: nothing else may be named
                _end_server(folder)
                remove(folder)
                swept.append(folder)
            entry.unlink(missing_ok=True)
    return swept


def remove(folder: Path) -> None:
    """Remove a copy's folder. Raises where something of it could not be: it holds customers' rows."""
    for _ in range(3):  # a server that is ending still writes there
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
    raise OutlastError(
        f"the copy in {folder} could not be removed, and holds customers' rows",
        hint=f"Remove it as the user who made it: rm -rf {folder}",
        code="copy-left",
    )


def _end_server(folder: Path) -> None:
    """End a server that outlived both its owner and its guard, if its process is still that server."""
    with suppress(OSError, ValueError, IndexError):
        lines = (folder / "data" / "postmaster.pid").read_text().splitlines()
        process = int(lines[0])
        if str(folder) in Path(f"/proc/{process}/cmdline").read_text():
            os.kill(process, signal.SIGQUIT)
            with suppress(ProcessLookupError):
                for _ in range(500):
                    os.kill(process, 0)
                    signal.sigtimedwait([], 0.01)
