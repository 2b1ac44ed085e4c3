"""Prism between a connector and a fake: it holds every request and response against the vendor's specification."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parents[2]
SPECIFICATIONS = Path(os.environ.get("OUTLAST_SPECS", ROOT.parent / "shared" / "specs"))
VERSION = "@stoplight/prism-cli@5"
_START_S = 120


def specification(name: str) -> Path | None:
    """The vendor's file; None where the specifications are not at hand. They are no part of this project."""
    found = SPECIFICATIONS / f"{name}.json"
    return found if found.is_file() else None


def program() -> Path:
    """Prism, installed from npm into build/ where it is not on the PATH."""
    known = shutil.which("prism")
    if known:
        return Path(known)
    folder = ROOT / "build" / "prism"
    found = folder / "node_modules" / ".bin" / "prism"
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--prefix", str(folder), "--no-audit", "--no-fund", "--silent", VERSION]
        subprocess.run(command, check=True, timeout=300, capture_output=True)
    return found


def prefixed(path: Path, prefix: str, folder: Path) -> Path:
    """The specification with a prefix before every path, as its server's address has it, which Prism does not see."""
    document = json.loads(path.read_text(encoding="utf-8"))
    document["paths"] = {prefix + name: found for name, found in document["paths"].items()}
    copy = folder / path.name
    copy.write_text(json.dumps(document), encoding="utf-8")
    return copy


@contextmanager
def proxying(path: Path, upstream: str, log: Path) -> Iterator[str]:
    """Prism's URL. It passes everything on to `upstream`, and says in its log what is wrong with it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(program()), "proxy", str(path), upstream, "-p", str(port), "--host", "127.0.0.1"],
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        try:
            _await(process, port, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(30)


def _await(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    ends = time.monotonic() + _START_S
    while time.monotonic() < ends and process.poll() is None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
            return  # no request: it would be one that the specification does not know
        time.sleep(0.2)  # there is nothing else to wait on
    raise AssertionError(f"Prism does not start: {log.read_text()[-2000:]}")


def wrong_requests(log: Path) -> list[str]:
    """What Prism found wrong with requests, by its log. The fakes' answers are short: those are not asked about."""
    return re.findall(r"Violation: (request[^\n]*)", log.read_text(encoding="utf-8", errors="replace"))
