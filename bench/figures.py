"""One measured promise."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """`limit` is what the issue allows at the most; `how` says what stands behind the number."""

    what: str
    value: str
    limit: str
    kept: bool
    how: str
