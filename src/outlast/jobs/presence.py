"""Which workers are alive: each holds a lock that dies with it, so that its work can be taken over at once.

On one machine it is a lock on a file, among several an advisory lock of the queue's PostgreSQL database. A worker that
is taken for dead while it lives (its network was cut) does no harm: two that restore the same tenant cannot both write.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from secrets import token_hex
from typing import Protocol

import psycopg

from outlast.sources.postgres.session import Target

_CONNECT_TIMEOUT_S = 10
# A machine that vanishes without a word is noticed within half a minute, and not after two hours.
_KEEPALIVE = {"keepalives_idle": "10", "keepalives_interval": "5", "keepalives_count": "3", "tcp_user_timeout": "25000"}


def new_name() -> str:
    """A worker's name: where it runs, and that it is this run of it."""
    return f"{socket.gethostname()}-{os.getpid()}-{token_hex(4)}"


class Presence(Protocol):
    def keep(self) -> None:
        """Make sure that our own lock is held; called every second or so."""

    def dead(self, names: Iterable[str]) -> list[str]:
        """Those of these workers that are no more."""

    def close(self) -> None: ...


class FilePresence:
    """Workers of this machine: a locked file each, in a folder of theirs."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._name = name
        self._descriptor = os.open(folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        flock(self._descriptor, LOCK_EX | LOCK_NB)

    def keep(self) -> None:
        pass

    def dead(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if name != self._name and self._is_dead(name)]

    def _is_dead(self, name: str) -> bool:
        path = self._folder / Path(name).name
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return True
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except OSError:
            return False
        else:
            path.unlink(missing_ok=True)
            return True
        finally:
            os.close(descriptor)

    def close(self) -> None:
        (self._folder / self._name).unlink(missing_ok=True)
        os.close(self._descriptor)


class DatabasePresence:
    """Workers of all machines: an advisory lock each, held by a session of the queue's database."""

    def __init__(self, target: Target, name: str) -> None:
        self._target = target
        self._name = name
        self._connection: psycopg.Connection | None = None
        self.keep()

    def keep(self) -> None:
        if self._connection is not None and not self._connection.closed:
            try:
                self._connection.execute("SELECT 1")
            except psycopg.Error:
                self._connection.close()
            else:
                return
        parameters = {**self._target.parameters, **_KEEPALIVE, "application_name": "outlast worker"}
        parameters.setdefault("connect_timeout", str(_CONNECT_TIMEOUT_S))
        password = self._target.password()
        if password is not None:
            parameters["password"] = password
        connection = psycopg.connect(autocommit=True, **parameters)  # type: ignore[arg-type]
        for setting, seconds in (("idle", 10), ("interval", 5), ("count", 3)):
            with suppress(psycopg.Error):  # over a socket of this machine there is nothing to keep alive
                connection.execute(f"SET tcp_keepalives_{setting} = {seconds}".encode())
        connection.execute("SELECT pg_advisory_lock(hashtextextended(%s, 0))", [self._name])
        self._connection = connection

    def dead(self, names: Iterable[str]) -> list[str]:
        assert self._connection is not None
        gone = []
        for name in names:
            if name == self._name:
                continue
            row = self._connection.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name]).fetchone()
            if row is not None and row[0]:
                self._connection.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])
                gone.append(name)
        return gone

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
