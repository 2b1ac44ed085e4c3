"""The database's schema as SQL: pg_dump's sections, and the roles, settings and extensions that they lean on.

Equal schemas give equal bytes, so that an unchanged schema costs the vault nothing: the lines in which pg_dump names
versions, or draws a random key, are taken out of its preamble, never out of what follows it. No password is in it.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import psycopg
from psycopg import sql

from outlast.core.errors import OutlastError, SourceError, TransientError
from outlast.core.table import TableName
from outlast.sources.postgres.explaining import explain
from outlast.sources.postgres.server import find_program
from outlast.sources.postgres.session import Session, Target, connect
from outlast.sources.postgres.statements import statement

LOCK_TIMEOUT_S = 30
SECTIONS = ("database", "roles-and-grants", "extensions", "pre-data", "post-data")
"""The sections in the order in which they are run to make the schema again; data goes between the last two."""


def dump_schema(
    target: Target, snapshot: str | None, excluded: Sequence[TableName] = (), *, programs: Path | None = None
) -> dict[str, bytes]:
    """Each section's SQL by name (see SECTIONS), every one of them whole lines.

    `snapshot` is an exported snapshot that is still held, so that the schema is that of the rows; `excluded` names
    tables that this role may not read (pg_dump locks what it dumps, for which it needs SELECT). `programs` is a folder
    with pg_dump. Raises SourceError with the table's name where pg_dump was refused one.
    """
    with connect(target, role="schema") as connection:
        major = connection.info.server_version // 10000
        around = _around(connection, snapshot)
    program = find_program("pg_dump", major, programs)
    with ExitStack() as stack:
        running = {}
        for section in ("pre-data", "post-data"):  # side by side: neither waits for the other
            process = stack.enter_context(_start(program, target, section, snapshot, excluded))
            stack.callback(process.kill)  # does nothing to one that has ended; then its pipes are closed
            running[section] = process
        dumped = {section: _finish(process) for section, process in running.items()}
    return around | {section: steady(text) for section, text in dumped.items()}


def _start(
    program: Path, target: Target, section: str, snapshot: str | None, excluded: Sequence[TableName]
) -> subprocess.Popen[bytes]:
    command = [str(program), "--schema-only", f"--section={section}", "--encoding=UTF8", "--no-password"]
    command += [f"--lock-wait-timeout={LOCK_TIMEOUT_S}s"]
    if snapshot is not None:
        command.append(f"--snapshot={snapshot}")
    for table in excluded:
        command.append("--exclude-table=" + sql.Identifier(table.schema, table.name).as_string(None))
    # Every user of the machine can read a command line; a process's environment is its own user's only.
    environment = dict(os.environ)
    password = target.password()
    if password is not None:
        environment["PGPASSWORD"] = password
    environment["PGAPPNAME"] = "outlast schema"
    return subprocess.Popen(
        [*command, target.safe_url],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )


def _finish(process: subprocess.Popen[bytes]) -> bytes:
    output, errors = process.communicate()
    if process.returncode != 0:
        raise _refusal(errors.decode("utf-8", "replace"))
    return output


def _refusal(said: str) -> OutlastError:
    """Why pg_dump gave up, in our words where it was a privilege."""
    denied = re.search(r"permission denied for (table|view|sequence|schema|materialized view) (.+)", said)
    if denied is not None:
        return SourceError(
            f"pg_dump may not read {denied[1]} {denied[2].strip()}, and so cannot dump the schema",
            hint="`outlast init --print-grants` prints what the backup's role needs.",
            code="privilege",
        )
    lines = [line.removeprefix("pg_dump: ").removeprefix("error: ") for line in said.splitlines() if "error" in line]
    message = f"pg_dump could not dump the schema: {lines[0] if lines else 'it did not say why'}"
    if "lock" in said and "timeout" in said:
        return TransientError(message, hint="Something holds a table's lock (DDL, VACUUM FULL); run it again later.")
    return SourceError(message, hint="Run pg_dump --schema-only by hand with the same URL to see all it says.")


_NOISE = re.compile(rb"(-- Dumped (from|by) .*|SET transaction_timeout = .*;|\\restrict .*)\n")


def steady(text: bytes) -> bytes:
    r"""pg_dump's script without what differs from run to run and from version to version.

    pg_dump fences its script with `\restrict KEY` so that nothing in it can run psql's commands; the key is random. It
    is replaced by the hash of the script, which nothing inside the script can know.
    """
    start = text.find(b"\n-- Name: ")
    preamble, body = (text[:start], text[start:]) if start >= 0 else (text, b"")
    fenced = b"\n\\restrict " in preamble
    preamble = _NOISE.sub(b"", preamble)
    if not fenced:
        return preamble + body
    script, unrestrict, _ = (preamble + body).rpartition(b"\n\\unrestrict ")
    if not unrestrict:
        script = preamble + body
    key = hashlib.sha256(script).hexdigest().encode()
    return b"\\restrict " + key + b"\n" + script + b"\n\\unrestrict " + key + b"\n"


def _around(connection: Session, snapshot: str | None) -> dict[str, bytes]:
    """What pg_dump leaves out: the database itself, its roles and its extensions' versions."""
    try:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        if snapshot is not None:
            connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        return {
            "database": _lines(connection, "schema_database"),
            "roles-and-grants": _lines(connection, "schema_roles"),
            "extensions": _lines(connection, "schema_extensions"),
        }
    except psycopg.Error as error:
        raise explain(error, "read the roles and extensions") from error


def _lines(connection: Session, name: str) -> bytes:
    rows = connection.execute(statement(name)).fetchall()
    return "".join(f"{row[0]}\n" for row in rows).encode()
