"""What a scrub can find, as values."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from outlast.core.errors import OutlastError


class Level(StrEnum):
    DAMAGE = "damage"  # exit code 4
    LEFTOVER = "leftover"  # of a backup that was interrupted, or not swept yet: `prune` takes it away
    NOTE = "note"  # what could not be told, or does no harm


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. `path` is the object's, `tenant` how people know whose it is, where that is known."""

    level: Level
    code: str
    path: str
    message: str
    tenant: str | None = None

    @classmethod
    def of(cls, error: OutlastError, path: str, tenant: str | None = None) -> Self:
        """An object that could not be read or trusted."""
        return cls(Level.DAMAGE, error.code, path, error.message, tenant)

    def to_json(self) -> dict[str, str | None]:
        return {
            "level": self.level.value,
            "code": self.code,
            "object": self.path,
            "message": self.message,
            "tenant": self.tenant,
        }
