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

REFUSED, FOUND = 3, 4

SESSIONS: Mapping[str, Sequence[str | tuple[str, int]]] = {
    "replay": ("outlast replay",),
    "init": (f"outlast init {SHOWN_URL} --tenant-table accounts --tenant-label slug",),
    "backup": ("outlast check", "outlast backup"),
    "restore": (f"outlast restore {TENANT}", "outlast apply PLAN"),
    "rehearse": ("cat purge.sql", ("outlast rehearse purge.sql", REFUSED)),
    "run": ("cat close.sql", "outlast rehearse close.sql", "outlast run close.sql --receipt RECEIPT --execute"),
    "damage": (("outlast damage --since before:XID", FOUND), "outlast restore --damage-since before:XID --execute"),
    "tell": (
        "outlast incident open 'Projects are missing' --severity critical --tenant tenant-8 --publish",
        ("outlast incident update INCIDENT -m 'The cause was stopped.'", REFUSED),
        "outlast incident update INCIDENT -m 'The cause was stopped.' --next 15m",
    ),
}
"""What the README runs, in this order, with the exit code where that is not 0. PLAN, RECEIPT and INCIDENT are ids that
a command before printed, XID is a transaction."""

SCRIPTS: Mapping[str, str] = {
    "purge.sql": """\
-- outlast: why remove the trial project of tenant-7
-- outlast: tenants tenant-7
-- outlast: effect public.projects hard-delete rows=1
DELETE FROM projects WHERE account_id IN (7, 8);
""",
    "close.sql": """\
-- outlast: why close the oldest issues of tenant-7
-- outlast: tenants tenant-7
-- outlast: effect public.issues update(title) rows=1..100
UPDATE issues SET title = '[closed] ' || title
WHERE id < 1200 AND project_id IN (SELECT id FROM projects WHERE account_id = 7);
""",
}

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
    for script, content in SCRIPTS.items():
        (folder / script).write_text(content)
    if name == "restore":
        with psycopg.connect(url) as connection:
            connection.execute("DELETE FROM accounts WHERE slug = %s", [TENANT])
    xid = _followed(folder, url) if name == "damage" else ""
    parts: list[str] = []
    for step in SESSIONS[name]:
        command, expected = step if isinstance(step, tuple) else (step, 0)
        shown = _filled(command.replace("XID", xid), "\n".join(parts))
        output = _run(folder, shown.replace(SHOWN_URL, url), expected)
        printed = "\n".join(line.rstrip() for line in output.strip("\n").splitlines())
        printed = printed.replace(url, SHOWN_URL).replace(str(server.folder), "db.example")
        parts.append(f"$ {shown}\n{printed}\n")
    return "\n".join(parts).rstrip()


_IDS: Mapping[str, str] = {
    "PLAN": r"outlast apply (\S+)",
    "RECEIPT": r"--receipt (\S+)",
    "INCIDENT": r"Incident (\S+) is open",
}


def _filled(command: str, before: str) -> str:
    """The command with the ids that were printed before it."""
    for word, pattern in _IDS.items():
        if word in command and (found := re.search(pattern, before)):
            command = command.replace(word, found[1])
    return command


def _run(folder: Path, command: str, expected: int) -> str:
    program, *arguments = shlex.split(command)
    done = subprocess.run(
        [EXECUTABLE if program == "outlast" else program, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "NO_COLOR": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == expected, f"{command}: {done.stdout}"
    return done.stdout


def _followed(folder: Path, url: str) -> str:
    """Follow the database, and delete two tenants in one transaction. Returns its number."""
    _run(folder, "outlast follow --setup --execute", 0)
    _run(folder, "outlast follow --until-current", 0)
    with psycopg.connect(url) as connection:
        connection.execute("DELETE FROM accounts WHERE slug IN ('tenant-8', 'tenant-9')")
        row = connection.execute("SELECT pg_current_xact_id()::text").fetchone()
    _run(folder, "outlast follow --until-current", 0)
    assert row is not None
    return str(row[0])


def shape(text: str) -> str:
    """A transcript without what differs each time: numbers, ids, moments, and how wide a column is for them."""
    text = re.sub(r"outlast (?:apply|undo) \S+|[Pp]lan [0-9a-z]{6,}|--receipt \S+|Run [0-9a-z]{6,}", "PLAN", text)
    text = re.sub(r"[0-9A-F]+/[0-9A-F]+", "LSN", text)
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]*", "UUID", text)
    text = re.sub(r"(?:UUID|\b[0-9a-f]{1,7})…", "…", text)  # an id that a narrow column has cut
    text = re.sub(r"[0-9a-f]{12,}", "HASH", text)
    text = re.sub(r"\d[\d.,:]*( (s|ms|min|B|kB|MB|GB)\b)?", "N", text)
    text = re.sub(r"[─━-]{2,}", "---", text)
    return re.sub(r"[ \t]+", " ", text).strip()
