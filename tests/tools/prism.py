"""Prism between a connector and a fake: it holds every request and response against the vendor's specification."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

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


def cut(path: Path, prefix: str, wanted: Collection[str], folder: Path) -> Path:
    """The specification of these paths alone, which starts in a second and not in seven.

    `prefix` comes before every path, as its server's address has it, which Prism does not see. `wanted` are paths with
    their parameters' names in braces, whatever the names.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    shapes = {shape(one) for one in wanted}
    paths = {prefix + name: found for name, found in document["paths"].items() if shape(prefix + name) in shapes}
    for one in paths.values():
        _parse_samples(one)
    kept = {**document, "paths": paths}
    if "swagger" in document:
        kept.setdefault("consumes", ["application/json"])  # Opsgenie's says nowhere in which form it takes bodies
    if "components" in document:
        kept["components"] = _used(document["components"], paths)
    copy = folder / path.name
    copy.write_text(json.dumps(kept), encoding="utf-8")
    return copy


def _parse_samples(part: object) -> None:
    """Jira's samples are JSON inside of a text, which Prism would send as a text."""
    if isinstance(part, list):
        for one in part:
            _parse_samples(one)
    elif isinstance(part, dict):
        if isinstance(part.get("example"), str) and "schema" in part:
            with suppress(ValueError):
                part["example"] = json.loads(part["example"])
        for one in part.values():
            _parse_samples(one)


def _used(components: dict[str, Any], paths: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What these paths refer to, directly or not."""
    parts: dict[str, dict[str, Any]] = {"securitySchemes": components.get("securitySchemes", {})}
    ahead: list[object] = [paths]
    while ahead:
        one = ahead.pop()
        if isinstance(one, list):
            ahead += one
        elif isinstance(one, dict):
            ahead += one.values()
            place = one.get("$ref")
            if isinstance(place, str) and place.startswith("#/components/"):
                kind, name = place.split("/")[2:4]
                found = components[kind][name]
                if name not in parts.setdefault(kind, {}):
                    parts[kind][name] = found
                    ahead.append(found)
    return parts


def shape(path: str) -> str:
    """A path whose parameters have no names."""
    return re.sub(r"\{[^}]*\}", "{}", path.partition("?")[0])


@contextmanager
def mocking(path: Path, log: Path) -> Iterator[str]:
    """The URL of a server that Prism makes of the specification: it answers with the vendor's own samples."""
    with _running(["mock", str(path)], log) as url:
        yield url


@contextmanager
def proxying(path: Path, upstream: str, log: Path) -> Iterator[str]:
    """Prism's URL. It passes everything on to `upstream`, and says in its log what is wrong with it."""
    with _running(["proxy", str(path), upstream], log) as url:
        yield url


@contextmanager
def _running(arguments: list[str], log: Path) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(program()), *arguments, "-p", str(port), "--host", "127.0.0.1"], stdout=out, stderr=subprocess.STDOUT
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


def violations(log: Path) -> list[str]:
    """What Prism found wrong with requests and answers, by its log: `get /users: response.body … must be string`."""
    found, asked = [], ""
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        plain = re.sub(r"\x1b\[[0-9;]*m", "", line)
        if received := re.search(r"\[HTTP SERVER\] (\w+ \S+) .*Request received", plain):
            asked = received[1]
        if told := re.search("Violation: (.*)", plain):
            found.append(f"{asked}: {told[1]}")
    return found
