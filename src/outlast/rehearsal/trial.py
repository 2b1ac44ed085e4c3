"""A trial: one run of a script, or of any command, on a copy. What it did is read elsewhere; here it is only run.

A script runs as `run` would run it on production (performing.py): as the role, with the role's own settings, in one
transaction. A command gets its connection from DATABASE_URL and the PG* variables, and nothing else of ours.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psycopg
from psycopg import conninfo

from outlast.core.errors import OutlastError, SourceError, UsageError
from outlast.rehearsal.observed import Lock, RowCounters
from outlast.rehearsal.performing import failed, perform
from outlast.rehearsal.script import Script
from outlast.sources.postgres.isolation import isolation
from outlast.sources.postgres.session import Session, Target, connect
from outlast.sources.postgres.statements import statement
from outlast.sources.postgres.write_counters import Counters, read_counters

_SAMPLE_S = 0.02


@dataclass(frozen=True, slots=True)
class Trial:
    """How a run went. `error` None: it ended well, and was committed. `counters` None: they could not be had."""

    seconds: float
    error: str | None = None
    locks: frozenset[Lock] = frozenset()
    counters: Mapping[str, RowCounters] | None = None
    began: datetime | None = None  # the server's time when its transaction did
    statements: tuple[str, ...] = ()  # of a script; a command's stand in the server's log


class Performance(Protocol):
    """What is tried: a script or a command. `url` is the copy's as the role; `watch` a session of the superuser's."""

    def __call__(self, url: str, watch: psycopg.Connection[Any]) -> Trial: ...


@dataclass(frozen=True, slots=True)
class ScriptPerformance:
    """A .sql file, as `run` runs it; what cannot be in a transaction, statement by statement."""

    script: Script

    def __call__(self, url: str, watch: psycopg.Connection[Any]) -> Trial:
        if self.script.outward:
            told = f"{self.script.outward[0]} acts on the host itself, so nothing of it was run"
            return Trial(0.0, told)
        done = self._unguarded(url, watch) if self.script.unguarded else self._guarded(url, watch)
        return replace(done, statements=tuple(one.text for one in self.script.statements))

    def _guarded(self, url: str, watch: psycopg.Connection[Any]) -> Trial:
        with closing(connect(Target(url), role="run", read_only=False)) as session:
            row = session.execute("SELECT pg_catalog.now()").fetchone()  # also opens the transaction
            assert row is not None
            begun = read_counters(session)
            started = time.monotonic()
            try:
                perform(session, self.script)
                seconds = time.monotonic() - started
                locks = locks_of(watch, session.info.backend_pid)
                counters = counted(begun, read_counters(session))
                session.commit()
            except OutlastError as error:
                return Trial(time.monotonic() - started, error.message)
            except psycopg.Error as error:
                return Trial(time.monotonic() - started, _first_line(error))
            return Trial(seconds, None, locks, counters, row[0])

    def _unguarded(self, url: str, watch: psycopg.Connection[Any]) -> Trial:
        started = time.monotonic()
        with psycopg.connect(url, autocommit=True, prepare_threshold=None) as session, sampling(watch) as seen:
            for one in self.script.statements:
                try:
                    session.execute(one.text.encode("utf-8", "surrogateescape"))
                except psycopg.Error as error:
                    return Trial(time.monotonic() - started, failed(error, one).message, frozenset(seen))
        return Trial(time.monotonic() - started, None, frozenset(seen))


@dataclass(frozen=True, slots=True)
class CommandPerformance:
    """Any command. What it prints goes to stderr."""

    command: tuple[str, ...]
    isolated: bool

    def __call__(self, url: str, watch: psycopg.Connection[Any]) -> Trial:
        own = Path(str(conninfo.conninfo_to_dict(url).get("host") or ""))
        words = [*(isolation(own) if self.isolated else ()), *self.command]
        started = time.monotonic()
        with sampling(watch) as seen:
            try:
                done = subprocess.run(
                    words,
                    env=environment(url, os.environ),
                    stdin=subprocess.DEVNULL,
                    stdout=sys.stderr.fileno(),
                    check=False,
                )
            except OSError as error:
                raise UsageError(
                    f"cannot run {self.command[0]}: {error.strerror}", hint="What stands after -- is run as it is."
                ) from error
        seconds = time.monotonic() - started
        if done.returncode == 0:
            return Trial(seconds, None, frozenset(seen))
        how = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        return Trial(seconds, f"{self.command[0]} ended with {how}", frozenset(seen))


def environment(url: str, inherited: Mapping[str, str]) -> dict[str, str]:
    """The environment of a command: DATABASE_URL and PG* lead to the copy, and no key of the vault is in it."""
    kept = {name: value for name, value in inherited.items() if not name.startswith(("PG", "OUTLAST_"))}
    parameters = conninfo.conninfo_to_dict(url)
    names = {"host": "PGHOST", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER", "password": "PGPASSWORD"}
    given = {names[key]: str(value) for key, value in parameters.items() if key in names and value is not None}
    return {**kept, **given, "DATABASE_URL": url if urlsplit(url).scheme else conninfo.make_conninfo(url)}


def locks_of(watch: psycopg.Connection[Any], pid: int) -> frozenset[Lock]:
    """The table locks that a session holds now; of all but ours where `pid` is 0."""
    return frozenset(Lock(table, mode) for table, mode in watch.execute(statement("rehearsal_locks"), {"pid": pid}))


@contextmanager
def sampling(watch: psycopg.Connection[Any]) -> Iterator[set[Lock]]:
    """Look at all locks again and again while the block runs: a command's sessions are its own."""
    seen: set[Lock] = set()
    over = threading.Event()

    def look() -> None:
        try:
            while not over.wait(_SAMPLE_S):
                seen.update(locks_of(watch, 0))
        except psycopg.Error:
            return  # the copy went away: the command's own error says more

    thread = threading.Thread(target=look, name="outlast locks", daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def counted(before: Counters | None, after: Counters | None) -> Mapping[str, RowCounters] | None:
    """What the transaction itself did, by the server's count: the difference of two readings."""
    if before is None or after is None:
        return None
    found = {}
    for table, now in after.items():
        then = before.get(table, Counter[str]())
        done = RowCounters(*(now[one] - then.get(one, 0) for one in "iud"))
        if done != RowCounters():
            found[str(table)] = done
    return found


def check_role(watch: psycopg.Connection[Any], role: str) -> bool:
    """Raise UsageError where the copy has no such role. Returns whether it is a superuser."""
    row = watch.execute("SELECT rolcanlogin, rolsuper FROM pg_catalog.pg_roles WHERE rolname = %s", [role]).fetchone()
    if row is None:
        raise UsageError(
            f"the copy has no role {role!r}: the schema in the vault does not name it",
            hint="A role is in the vault if it owns something or was granted something. Another one: --role ROLE",
            code="no-role",
        )
    if not row[0]:
        raise UsageError(f"the role {role!r} may not log in (NOLOGIN)", hint="Name the role that does: --role ROLE")
    return bool(row[1])


def settings_of(session: Session) -> Mapping[str, str]:
    """The settings that the role and the database give every session of the role."""
    rows: Sequence[tuple[Any, ...]] = session.execute(
        "SELECT name, setting FROM pg_catalog.pg_settings WHERE source IN ('user', 'database', 'database user')"
    ).fetchall()
    return dict(rows)


def role_settings(url: str) -> Mapping[str, str]:
    try:
        with psycopg.connect(url, autocommit=True) as session:
            return settings_of(session)
    except psycopg.Error as error:
        raise SourceError(f"the role cannot log in to the copy: {_first_line(error)}") from error


def _first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error)).strip().partition("\n")[0]
