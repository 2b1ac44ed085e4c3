"""Whole commands, timed: wall time, peak memory, what they printed."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUTLAST = str(Path(sys.executable).parent / "outlast")


@dataclass(frozen=True)
class Done:
    seconds: float
    peak_bytes: int  # of the largest process of the command: what one container or cgroup limit must allow at least
    output: dict[str, Any]


def run(command: Sequence[str], folder: Path, *, environment: dict[str, str] | None = None) -> Done:
    """Run a command to its end. Its exit code must be 0."""
    with (folder / "stdout").open("w+") as out, (folder / "stderr").open("w+") as err:
        started = time.monotonic()
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=err, env={**_environment(), **(environment or {})}
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        text = out.read()
        if process.returncode != 0:
            raise SystemExit(f"{' '.join(command)}: exit code {process.returncode}\n{text}\n{err.read()}")
    print(f"{seconds:8.2f} s  {' '.join(command)[:100]}", file=sys.stderr)
    return Done(seconds, usage.ru_maxrss * 1024, json.loads(text) if text.startswith("{") else {})


def _environment() -> dict[str, str]:
    """Ours, without what makes Python compile every module again in every process: nobody runs a program like that."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def outlast(folder: Path, *arguments: str) -> Done:
    return run([OUTLAST, "--json", *arguments], folder)


def side_by_side(times: int, *actions: Callable[[], float]) -> list[float]:
    """The median seconds of each action, all of them done in turn `times` times over."""
    taken = [[action() for action in actions] for _ in range(times)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]
