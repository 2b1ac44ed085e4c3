"""What is wrong with the disk under a file, where a library that failed on it says only "I/O error"."""

from __future__ import annotations

import os
from pathlib import Path

_LEFT_BYTES_MIN = 64 * 1024
"""SQLite wants half of this for the index of its log before it even reads."""


def trouble(path: Path) -> str | None:
    """`its disk is full`, `its disk is read-only`, or None where nothing of that kind is seen."""
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return None
    if found.f_flag & os.ST_RDONLY:
        return "its disk is read-only"
    if found.f_bavail * found.f_frsize < _LEFT_BYTES_MIN:
        return "its disk is full"
    return None


def told(path: Path, error: Exception, otherwise: str) -> tuple[str, str]:
    """What ended the use of a file, and a hint: not `otherwise` (to remove it, say) where only the disk is at fault."""
    found = trouble(path)
    if found is None:
        return str(error), otherwise
    return found, f"Make room in {path.parent} (or have it mounted writable), and run the same command again."
