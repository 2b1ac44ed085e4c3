"""One replay from an empty temporary folder to the verdict. Whatever happens, nothing of it is left behind."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from outlast.core.errors import UsageError
from outlast.replay import world
from outlast.replay.commands import run
from outlast.replay.world import Doomed, Fingerprint, Mark
from outlast.sources.postgres.server import embedded

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows of one tenant in one table that are not as they were. None where there were or are none."""

    tenant: str
    table: str
    before: Mark | None
    after: Mark | None


@dataclass(frozen=True, slots=True)
class Report:
    """What was there, what was destroyed, what came back, and how long each step took."""

    seed: int
    tenants: int
    tables: int
    rows: int
    database_bytes: int
    vault_bytes: int
    vault_objects: int
    destroyed: tuple[Doomed, ...]
    destroyed_rows: int
    bystanders_hit: int
    restored: int
    seconds: Mapping[str, float]
    differences: tuple[Difference, ...]

    @property
    def same(self) -> bool:
        return not self.differences and self.restored == len(self.destroyed) and not self.bystanders_hit


def replay(*, tenants: int, destroyed: int, seed: int, say: Say) -> Report:
    """Build, back up, destroy, restore, compare. Raises what a step raised; a difference is in the report instead."""
    if not 1 <= destroyed <= tenants:
        raise UsageError(
            f"cannot destroy {destroyed} of {tenants} tenants", hint="--destroyed is between 1 and --tenants."
        )
    with tempfile.TemporaryDirectory(prefix="outlast-replay-") as name, embedded() as server:
        return _replay(Path(name), server.url(), tenants, destroyed, seed, say)


def _replay(folder: Path, url: str, tenants: int, destroyed: int, seed: int, say: Say) -> Report:
    clock = _Clock()
    say(f"Building a shared database of {tenants:,} tenants (seed {seed}) …")
    world.build(url, tenants=tenants, seed=seed)
    before = world.fingerprint(url)
    clock.lap("build")

    say("outlast init")
    run(folder, "init", url, "--tenant-table", "accounts", "--tenant-label", "slug")
    say("outlast backup")
    clock.seconds["backup"] = run(folder, "backup").seconds
    vault_bytes, vault_objects = _measured(folder / "vault")

    doomed = world.choose(url, destroyed=destroyed, seed=seed)
    say(f"One script deletes {destroyed:,} of them for good …")
    clock.lap()
    world.destroy(url, doomed)
    clock.lap("destroy")
    gone = world.fingerprint(url)

    listed = folder / "destroyed.txt"
    listed.write_text("".join(f"{tenant.slug}\n" for tenant in doomed), encoding="utf-8")
    say("outlast restore --tenants-file destroyed.txt --execute")
    restore = run(folder, "restore", "--tenants-file", str(listed), "--execute", allowed=(0, 1, 3))
    clock.seconds["restore"] = restore.seconds

    say("Comparing everybody with before …")
    clock.lap()
    after = world.fingerprint(url)
    clock.lap("compare")
    keys = {tenant.key for tenant in doomed}
    return Report(
        seed=seed,
        tenants=tenants,
        tables=len({table for _, table in before}),
        rows=sum(mark.rows for mark in before.values()),
        database_bytes=world.size_bytes(url),
        vault_bytes=vault_bytes,
        vault_objects=vault_objects,
        destroyed=tuple(doomed),
        destroyed_rows=sum(mark.rows for (tenant, _), mark in before.items() if tenant in keys),
        bystanders_hit=len({d.tenant for d in differences(before, gone)} - keys),
        restored=sum(1 for tenant in restore.fields.get("tenants", []) if tenant["state"] == "done"),
        seconds=clock.seconds,
        differences=differences(before, after),
    )


def differences(before: Fingerprint, after: Fingerprint) -> tuple[Difference, ...]:
    """Every tenant and table that is not as it was."""
    return tuple(
        Difference(*key, before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    )


def _measured(folder: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


class _Clock:
    """Seconds by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, step: str | None = None) -> None:
        now = time.monotonic()
        if step is not None:
            self.seconds[step] = now - self._last
        self._last = now
