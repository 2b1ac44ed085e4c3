"""Runs the real `outlast` command in a folder, as a person would, and reads its one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from outlast.core.errors import BugError, OutlastError


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said, and how long it took, start-up included."""

    fields: dict[str, Any]
    exit_code: int
    seconds: float


def run(folder: Path, *arguments: str, allowed: tuple[int, ...] = (0,)) -> Answer:
    """Run `outlast ARGUMENTS --json` in the folder. Raises the error that the command told."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "outlast", "--json", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    seconds = time.monotonic() - started
    try:
        fields = json.loads(done.stdout)
    except ValueError:
        raise BugError(
            f"`outlast {arguments[0]}` ended with {done.returncode} and printed no JSON object",
            hint=done.stderr.strip()[-500:] or None,
        ) from None
    if done.returncode not in allowed:
        error = fields.get("error") or {}
        raise OutlastError(
            f"`outlast {arguments[0]}` ended with {done.returncode}: {error.get('message', 'no reason given')}",
            hint=error.get("hint"),
            code=error.get("code"),
        )
    return Answer(fields, done.returncode, seconds)
