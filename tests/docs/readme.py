"""The README's terminal sessions, played anew against an embedded server: what it shows is what happens."""

from __future__ import annotations

README_PARTS: tuple[str, ...] = ()


def transcripts() -> dict[str, str]:
    """Each session by its marker's name."""
    return {}
