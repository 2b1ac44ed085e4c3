"""The peak memory of each command, with one tenant of about 1 GB."""

from __future__ import annotations

from pathlib import Path

from bench.commands import Done, outlast
from bench.database import BIG_TENANT
from bench.figures import Figure
from bench.restore import destroy

PEAK_BYTES_MAX = 300_000_000


def measure(url: str, folder: Path) -> list[Figure]:
    """Run every command that touches rows, on a database that is nearly one tenant."""
    tenant = str(BIG_TENANT)
    outlast(folder, "init", url, "--tenant-table", "accounts", "--tenant-label", "name")
    done: dict[str, Done] = {"backup": outlast(folder, "backup")}
    done["backup --full"] = outlast(folder, "backup", "--full")
    done["verify"] = outlast(folder, "verify")
    done["verify --live"] = outlast(folder, "verify", tenant, "--live")
    done["show"] = outlast(folder, "show", tenant, "items", "--limit", "5")
    done["diff"] = outlast(folder, "diff", tenant)
    destroy(url, BIG_TENANT)
    done["restore --execute"] = outlast(folder, "restore", tenant, "--execute")
    largest = max(done, key=lambda name: done[name].peak_bytes)
    peaks = ", ".join(f"{name} {one.peak_bytes / 1e6:.0f}" for name, one in done.items())
    return [
        Figure(
            "peak memory of any command, a tenant of 1 GB, in MB",
            f"{done[largest].peak_bytes / 1e6:.0f}",
            f"{PEAK_BYTES_MAX / 1e6:.0f}",
            done[largest].peak_bytes < PEAK_BYTES_MAX,
            f"the largest process of each command, as the kernel counts it: {peaks}.",
        )
    ]
