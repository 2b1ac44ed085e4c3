"""docs/BENCHMARKS.md: written whole by a whole run, or its rows replaced by a run of some of the measurements."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.figures import Figure

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "BENCHMARKS.md"


def document(figures: Sequence[Figure]) -> str:
    cores = len(os.sched_getaffinity(0))
    return "\n".join(
        [
            "# Benchmarks",
            "",
            "Written by `make bench`; no number here is typed. Each is a ratio of medians of whole commands, taken in",
            "turn on the same server in the same run, unless it says otherwise. Absolute times mean little: the",
            f"machine is small and shared ({cores} cores, {platform.machine()}, Python {platform.python_version()},",
            "embedded PostgreSQL 18).",
            "",
            "| what | measured | at most | kept |",
            "| --- | --- | --- | --- |",
            *(_row(one) for one in figures),
            "",
            "## How",
            "",
            *(_note(one) for one in figures),
            "",
        ]
    )


def merged(text: str, figures: Sequence[Figure]) -> str:
    """The document with these figures in place of those of the same name, or at the end of its lists."""
    lines = text.splitlines()
    for one in figures:
        for mark, what, line in (("| ", f"{one.what} |", _row(one)), ("- ", f"*{one.what}*:", _note(one))):
            old = [number for number, there in enumerate(lines) if there.startswith(mark + what)]
            if old:
                lines[old[0]] = line
            else:
                last = max(number for number, there in enumerate(lines) if there.startswith(mark))
                lines.insert(last + 1, line)
    return "\n".join([*lines, ""])


def _row(one: Figure) -> str:
    return f"| {one.what} | **{one.value}** | {one.limit} | {'yes' if one.kept else 'NO'} |"


def _note(one: Figure) -> str:
    return f"- *{one.what}*: {one.how} Measured on {datetime.now(UTC):%Y-%m-%d}."
