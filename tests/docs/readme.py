"""The README's terminal sessions, played anew against an embedded server: what it shows is what happens.

Only the server's address is written as `db.example`: the real one is a socket in a temporary folder.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import psycopg

from outlast.replay import world
from outlast.sources.postgres.server import EmbeddedServer, embedded

DATABASE = "shop"
SHOWN_URL = f"postgresql://postgres@db.example/{DATABASE}"
TENANT = "tenant-7"
TENANTS = 40

SESSIONS: Mapping[str, Sequence[str]] = {
    "replay": ("outlast replay",),
    "init": (f"outlast init {SHOWN_URL} --tenant-table accounts --tenant-label slug",),
    "backup": ("outlast check", "outlast backup"),
    "restore": (f"outlast restore {TENANT}", "outlast apply PLAN"),
}
"""What the README runs, in this order. PLAN is the id that the command before it printed."""

README_PARTS = tuple(SESSIONS)
EXECUTABLE = Path(sys.executable).parent / "outlast"


def transcripts() -> dict[str, str]:
    """Each session by its marker's name: every command after `$ `, and what it printed."""
    with tempfile.TemporaryDirectory(prefix="outlast-readme-") as folder, embedded(_SETTINGS) as server:
        with psycopg.connect(server.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        url = server.url(DATABASE)
        world.build(url, tenants=TENANTS, seed=1)
        return {name: _session(name, Path(folder), server, url) for name in SESSIONS}


# The settings that `check` would rightly complain about are for throw-away servers only.
_SETTINGS = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "max_slot_wal_keep_size": "1GB"}


def _session(name: str, folder: Path, server: EmbeddedServer, url: str) -> str:
    if name == "restore":
        with psycopg.connect(url) as connection:
            connection.execute("DELETE FROM accounts WHERE slug = %s", [TENANT])
    parts: list[str] = []
    for shown in SESSIONS[name]:
        plan = re.search(r"outlast apply (\S+)", "\n".join(parts))
        shown = shown.replace("PLAN", plan[1]) if plan and "PLAN" in shown else shown
        done = subprocess.run(
            [EXECUTABLE, *shlex.split(shown.replace(SHOWN_URL, url))[1:]],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{shown}: {done.stdout}"
        printed = "\n".join(line.rstrip() for line in done.stdout.strip("\n").splitlines())
        printed = printed.replace(url, SHOWN_URL).replace(str(server.folder), "db.example")
        parts.append(f"$ {shown}\n{printed}\n")
    return "\n".join(parts).rstrip()


def shape(text: str) -> str:
    """A transcript without what differs each time: numbers, ids, moments, and how wide a column is for them."""
    text = re.sub(r"outlast (?:apply|undo) \S+|[Pp]lan [0-9a-z]{6,}", "PLAN", text)
    text = re.sub(r"[0-9a-f]{12,}", "HASH", text)
    text = re.sub(r"\d[\d.,:]*( (s|ms|min|B|kB|MB|GB)\b)?", "N", text)
    text = re.sub(r"[─━-]{2,}", "---", text)
    return re.sub(r"[ \t]+", " ", text).strip()
