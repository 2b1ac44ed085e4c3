"""What `follow` is told, and what it tells at its end."""

from __future__ import annotations

from dataclasses import dataclass, field

from outlast.core.moment import Lsn
from outlast.sources.postgres.following import FollowingSettings
from outlast.sources.postgres.session import Target


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """`flush_interval_s` bounds how long a commit waits for the vault, `memory_bytes` what waits for one segment.
    `buffer_bytes`: so much may wait while the vault is away, then the stream is not read any further."""

    following: FollowingSettings
    stream: Target  # the source as a role that may replicate
    flush_interval_s: float = 2.0
    memory_bytes: int = 16 * 1024 * 1024
    buffer_bytes: int = 64 * 1024 * 1024
    jobs: int = 2
    until_current: bool = False


@dataclass(slots=True)
class FollowResult:
    """What one run of `follow` did."""

    epoch: int
    position: Lsn
    segments: int = 0
    transactions: int = 0
    changes: int = 0
    base_run: int | None = None
    alarms: list[str] = field(default_factory=list)
