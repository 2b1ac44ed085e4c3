"""What people get wrong, and what goes wrong around them: one clear error and a hint each, never a traceback."""

from __future__ import annotations

import os
import re
import shlex
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest

from outlast.replay import world
from tests.commands import EXECUTABLE, Outlast, Result
from tests.mounts import namespaced
from tests.servers import PASSWORD, Server

TENANTS = 6


@pytest.fixture
def filled(database: str) -> str:
    world.build(database, tenants=TENANTS, seed=3)
    return database


@pytest.fixture
def project(outlast: Outlast, filled: str) -> Outlast:
    """A project with one run in its vault."""
    outlast.done("init", filled, "--tenant-table", "accounts", "--tenant-label", "slug")
    outlast.done("backup")
    return outlast


def told(result: Result, exit_code: int, *words: str) -> None:
    """The command failed as it should: this exit code, one error with these words, a hint, no traceback, no secret."""
    assert result.exit_code == exit_code, str(result)
    said = result.stderr
    assert said.count("Error: ") == 1, said
    assert "\nHint: " in said, said
    assert "Traceback" not in said + result.stdout
    assert "a bug in Outlast" not in said, said
    assert PASSWORD not in said + result.stdout
    for word in words:
        assert word in said, f"{word!r} is not in:\n{said}"


def name_of(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


# The database


@pytest.mark.parametrize(
    ("url", "exit_code", "words"),
    [
        ("postgresql://nobody@127.0.0.1:1/none", 1, ("nothing answers there",)),
        ("postgresql://app@no-such-host.invalid/app", 1, ("does not resolve",)),
        ("postgresql://[broken", 2, ("URL cannot be read",)),
    ],
)
def test_wrong_url(outlast: Outlast, url: str, exit_code: int, words: tuple[str, ...]) -> None:
    """A host that is not there, a name that is none, a URL that is none."""
    told(outlast("init", url, "--tenant-table", "accounts"), exit_code, *words)
    assert not list(outlast.folder.iterdir())


def test_no_such_database(outlast: Outlast, server: Server) -> None:
    """A database that is not on this server."""
    told(outlast("init", server.url("no_such"), "--tenant-table", "accounts"), 2, "no such database")


def test_no_such_tenant_table(outlast: Outlast, filled: str) -> None:
    """The hint names the tables there are, and nothing is made."""
    told(outlast("init", filled, "--tenant-table", "customers"), 2, "customers", "public.accounts")
    told(outlast("init", filled, "--tenant-table", "accounts", "--tenant-label", "nick"), 2, "nick")
    assert not list(outlast.folder.iterdir())


@pytest.mark.parametrize("password", ["a-wrong-one", None])
def test_wrong_password(project: Outlast, filled: str, server: Server, password: str | None) -> None:
    """A password that is wrong, or was not given, is told as such and shown nowhere."""
    config = project.folder / "outlast.toml"
    config.write_text(config.read_text().replace(filled, server.tcp_url(name_of(filled), password=None)))
    environment = {} if password is None else {"PGPASSWORD": password}
    result = project("backup", environment=environment)
    told(result, 1, "did not accept the password, or none was given", "PGPASSWORD")
    assert password is None or password not in result.stderr


def test_a_password_command_that_fails(project: Outlast, filled: str) -> None:
    """A broken password command is named as such, and what it printed is not shown."""
    config = project.folder / "outlast.toml"
    config.write_text(config.read_text().replace("# password_command =", "password_command = 'false' #"))
    told(project("backup"), 1, "password command failed with exit code 1")


def test_a_password_in_the_file(project: Outlast, filled: str, server: Server) -> None:
    """A password that somebody wrote into outlast.toml is refused, and not shown."""
    config = project.folder / "outlast.toml"
    config.write_text(config.read_text().replace(filled, server.tcp_url(name_of(filled))))
    told(project("backup"), 2, "carries a password", "outlast.toml")


def test_no_privilege_on_a_table(project: Outlast, filled: str, server: Server) -> None:
    """A table that the role may not read stops check and backup by its name, and the hint says where the SQL is."""
    role = f"reader_{os.getpid()}"
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")
        connection.execute(f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA public TO {role}")
        connection.execute(f"REVOKE SELECT ON invoices FROM {role}")
        try:
            config = project.folder / "outlast.toml"
            config.write_text(config.read_text().replace(filled, server.url(name_of(filled), role)))
            backup, check = project("backup"), project("check")
        finally:
            connection.execute(f"DROP OWNED BY {role}")
            connection.execute(f"DROP ROLE {role}")
    told(backup, 3 if backup.exit_code == 3 else 1, "invoices", "--print-grants")
    assert check.exit_code == 4
    assert "may not read public.invoices" in check.stdout
    assert project.done("--json", "status").json["run"] == 1


def test_a_table_that_is_not_classified(project: Outlast, filled: str) -> None:
    """A table that came later stops the backup until somebody says whose it is."""
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute("CREATE TABLE later (id bigint PRIMARY KEY)")
    told(project("backup"), 3, "public.later", "outlast.toml")
    assert project("check").exit_code == 4
    text = (project.folder / "outlast.toml").read_text()
    decided = text.replace("[retention]", '"public.later" = "ignored"\n\n[retention]')
    (project.folder / "outlast.toml").write_text(decided)
    project.done("backup")


@contextmanager
def old_server(version: str) -> Iterator[int]:
    """Something that greets as a PostgreSQL of this version would. Gives its port."""

    def greet(connection: socket.socket) -> None:
        while True:
            (length,) = struct.unpack("!i", connection.recv(4, socket.MSG_WAITALL))
            body = connection.recv(length - 4, socket.MSG_WAITALL)
            if struct.unpack("!i", body[:4])[0] == 196608:  # the startup packet; before it, requests for encryption
                break
            connection.sendall(b"N")

        def message(kind: bytes, content: bytes) -> bytes:
            return kind + struct.pack("!i", len(content) + 4) + content

        settings = {"server_version": version, "client_encoding": "UTF8", "standard_conforming_strings": "on"}
        parameters = [message(b"S", f"{name}\0{value}\0".encode()) for name, value in settings.items()]
        ready = [message(b"K", struct.pack("!ii", 1, 2)), message(b"Z", b"I")]
        connection.sendall(b"".join([message(b"R", struct.pack("!i", 0)), *parameters, *ready]))
        connection.recv(1024)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, suppress(OSError, struct.error):
                        greet(connection)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("version", "word"), [("14.11", "PostgreSQL 14"), ("9.6.24", "PostgreSQL 9")])
def test_an_older_server(outlast: Outlast, version: str, word: str) -> None:
    """A server older than 15 is refused with a clear word, and nothing is made."""
    with old_server(version) as port:
        url = f"postgresql://app@127.0.0.1:{port}/app"
        told(outlast("init", url, "--tenant-table", "accounts"), 3, word, "supports 15 to 18")
    assert not list(outlast.folder.iterdir())


# Keys


def test_a_missing_key(project: Outlast) -> None:
    """Without the operator's key nothing can be read, and the error says how to give another."""
    (project.folder / ".outlast" / "operator.key").unlink()
    told(project("tenants"), 1, "operator.key", "OUTLAST_IDENTITY")
    told(project("restore", "tenant-1"), 1, "operator.key", "OUTLAST_IDENTITY")


def test_a_missing_writer_s_key(project: Outlast) -> None:
    """Without the signing key there is no backup; the file is named."""
    (project.folder / ".outlast" / "signing.key").unlink()
    told(project("backup"), 1, "signing.key")


def test_a_wrong_key(project: Outlast) -> None:
    """Another vault's key opens nothing; an age key that is none is told as such."""
    other = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
    told(project("tenants", environment={"OUTLAST_IDENTITY": other}), 1, "not one that it was sealed to")
    nonsense = project.folder / "nonsense.key"
    nonsense.write_text("nonsense\n")
    told(project("tenants", environment={"OUTLAST_IDENTITY": str(nonsense)}), 1, "not an age identity")


# The vault


def limited(outlast: Outlast, command: str, file_bytes_max: int) -> Result:
    """Run a command that can write no file larger than this: how a full disk looks where nothing can be mounted."""
    done = subprocess.run(
        ["sh", "-c", f"ulimit -f {file_bytes_max // 512}; exec {shlex.quote(str(EXECUTABLE))} {command}"],
        cwd=outlast.folder,
        env={"PATH": os.environ["PATH"], "HOME": str(outlast.folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return Result((command,), done.returncode, done.stdout, done.stderr)


def test_a_full_disk(project: Outlast, filled: str) -> None:
    """A vault whose disk is full fails the backup in a line; earlier runs are whole, and the next one succeeds."""
    with psycopg.connect(filled, autocommit=True) as connection:
        noise = "SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 60000)"
        connection.execute(f"UPDATE accounts SET name = ({noise}) WHERE slug = 'tenant-1'")
    small = "mkdir kept && cp -a vault/. kept/ && mount -t tmpfs -o size=1m none vault && cp -a kept/. vault/"
    result = namespaced(project, small, "backup")
    if result is None:
        told(limited(project, "backup", 256 * 1024), 1)
    else:
        told(result, 1, "full")
    assert project.done("--json", "verify").json["findings"] == []
    assert project.done("--json", "backup").json["run"] == 2


def test_a_read_only_vault(project: Outlast, filled: str) -> None:
    """A vault that cannot be written fails the backup in a line; looking and restoring work all the same."""
    with psycopg.connect(filled, autocommit=True) as connection:
        connection.execute("UPDATE accounts SET name = 'changed'")
    sealed = "mount --bind vault vault && mount -o remount,bind,ro vault"
    result = namespaced(project, sealed, "backup")
    if result is None:
        if os.geteuid() == 0:
            pytest.skip("root writes everywhere, and nothing can be mounted here")
        for folder in [project.folder / "vault", *(project.folder / "vault").rglob("*")]:
            folder.chmod(0o555 if folder.is_dir() else 0o444)
        result = project("backup")
    told(result, 1, "vault")
    looked = namespaced(project, sealed, "tenants") or project("tenants")
    assert looked.exit_code == 0, str(looked)


def test_no_vault_there(project: Outlast) -> None:
    """A vault that is not mounted is told as such, and no empty one is begun in its place."""
    (project.folder / "vault").rename(project.folder / "elsewhere")
    told(project("backup"), 1, "vault")
    told(project("tenants"), 1, "vault")
    assert not (project.folder / "vault").exists()


def test_another_vault(project: Outlast) -> None:
    """A vault with another id at that place is refused."""
    config = project.folder / "outlast.toml"
    text = re.sub(r'^id = ".*"$', 'id = "00000000-0000-4000-8000-000000000000"', config.read_text(), flags=re.MULTILINE)
    config.write_text(text)
    told(project("tenants"), 1, "not the one that outlast.toml names")


def test_a_vault_of_a_newer_format(project: Outlast) -> None:
    """What a later Outlast wrote is not guessed at."""
    path = project.folder / "vault" / "outlast.json"
    path.chmod(0o644)
    newer = re.sub(r'"format": ?1\b', '"format":2', path.read_text())
    assert newer != path.read_text()
    path.write_text(newer)
    told(project("tenants"), 1, "format 2", "Upgrade")
    told(project("backup"), 1, "format 2", "Upgrade")


# Names


def test_an_unknown_tenant(project: Outlast) -> None:
    """A tenant that the vault does not hold is not found, and close names are offered."""
    for command in ("history", "restore"):
        told(project(command, "tenant-44"), 2, "no tenant 'tenant-44'", "tenant-4")
    told(project("show", "nobody", "accounts"), 2, "no tenant 'nobody'", "outlast tenants")
    told(project("backup", "--tenant", "nobody"), 2, "nobody")


def test_an_unknown_table(project: Outlast) -> None:
    """A table that the tenant has no rows in is not found, and close names are offered."""
    told(project("show", "tenant-1", "invoice"), 2, "public.invoice", "public.invoices")


def test_a_moment_before_the_first_backup(project: Outlast) -> None:
    """Nothing was backed up then, and the hint names the first moment there is."""
    for command in (("tenants",), ("show", "tenant-1", "accounts"), ("restore", "tenant-1")):
        told(project(*command, "--at", "2001-01-01"), 2, "nothing was backed up at 2001-01-01", "run:1")
    told(project("tenants", "--at", "run:9"), 2, "no run 9")
    told(project("tenants", "--at", "soonish"), 2, "'soonish' is not a moment")


def test_an_unknown_source(project: Outlast) -> None:
    """A source that outlast.toml does not have."""
    told(project("backup", "other"), 2, "no source 'other'", "main")


def test_no_configuration(outlast: Outlast) -> None:
    """In a folder without outlast.toml the first command is named."""
    told(outlast("status"), 2, "no outlast.toml", "outlast init")


def test_errors_are_one_object(project: Outlast) -> None:
    """With --json each of these is one object on stdout, and nothing else is there."""
    result = project("--json", "history", "nobody")
    assert result.exit_code == 2
    assert result.json["ok"] is False
    assert set(result.json["error"]) == {"code", "message", "hint"}
    assert result.stderr == ""


def test_the_project_can_lie_anywhere(project: Outlast, tmp_path: Path) -> None:
    """A command works from below the folder, and from elsewhere with --config."""
    below = project.folder / "a" / "b"
    below.mkdir(parents=True)
    assert Outlast(below)("tenants").exit_code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert Outlast(elsewhere)("tenants", "--config", str(project.folder / "outlast.toml")).exit_code == 0
