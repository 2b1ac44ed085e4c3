"""Who looks after incidents: one process at a time for a shared state. The lock ends with the process that holds it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from sqlalchemy import text

from outlast.state.database import Database

RETRY_S = 2.0
_LOCK = 0x6F757474  # "outt": an advisory lock of the shared database
FILE = "teller.lock"


@contextmanager
def lead(database: Database, directory: Path) -> Iterator[bool]:
    """Whether this process leads, until the block ends. Never waits."""
    if database.is_sqlite:
        with _file_lock(directory / FILE) as held:
            yield held
        return
    with database.engine.connect() as connection:  # a session lock: it goes with the session, however that ends
        held = bool(connection.scalar(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": _LOCK}))
        try:
            yield held
        finally:
            if held:
                connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})


@contextmanager
def _file_lock(path: Path) -> Iterator[bool]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)
