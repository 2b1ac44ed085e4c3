"""The tests' own ground: servers, buckets and the command runner do what the other tests take for granted."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from tests.buckets import Bucket
from tests.servers import Server


def test_databases_are_fresh_and_of_version_18(server: Server, database: str) -> None:
    """A test's database is empty, on PostgreSQL 18, with logical decoding possible."""
    with psycopg.connect(database) as connection:
        assert connection.info.server_version // 10000 == server.major == 18
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
        assert connection.execute(
            "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
        ).fetchone() == (0,)


def test_tcp_asks_for_the_password(server: Server) -> None:
    """A wrong password is refused over TCP, and the right one taken."""
    psycopg.connect(server.tcp_url()).close()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.tcp_url(password="wrong"))


def test_a_database_is_dropped_with_its_slots_and_sessions(server: Server) -> None:
    """What a failed test left open does not keep its database, nor fail the next test."""
    with server.new_database() as url:
        held = psycopg.connect(url)
        held.execute("SELECT pg_create_logical_replication_slot('left_over', 'pgoutput')")
        held.commit()
    with server.connect() as connection:
        assert connection.execute(
            "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'left_over'"
        ).fetchone() == (0,)
    held.close()


def test_a_bucket_keeps_what_is_put(moto_s3: Bucket) -> None:
    """The bucket is there, and put-if-absent is refused the second time, as S3 does."""
    client = moto_s3.client()
    client.put_object(Bucket=moto_s3.name, Key="a", Body=b"1", IfNoneMatch="*")
    with pytest.raises(client.exceptions.ClientError, match="PreconditionFailed"):
        client.put_object(Bucket=moto_s3.name, Key="a", Body=b"2", IfNoneMatch="*")
    assert client.get_object(Bucket=moto_s3.name, Key="a")["Body"].read() == b"1"


def test_a_killed_test_process_leaves_no_server(tmp_path: Path) -> None:
    """kill -9 of the process that started a server stops the server and removes its folder."""
    script = (
        "import sys; sys.path.insert(0, '.')\n"
        "from tests.servers import *\n"
        "with running(embedded_binaries()) as server:\n"
        "    pid = (server.data / 'postmaster.pid').read_text().split()[0]\n"
        "    print(pid, server.folder, flush=True)\n"
        "    sys.stdin.read()\n"
    )
    root = Path(__file__).resolve().parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid, folder = process.stdout.readline().split()
        watch = os.pidfd_open(int(pid))
        process.send_signal(signal.SIGKILL)
        assert select.select([watch], [], [], 30)[0], "the server outlived its test process"
        os.close(watch)
    deadline = time.monotonic() + 30
    while Path(folder).exists():
        assert time.monotonic() < deadline, "the server's folder was left behind"
        time.sleep(0.01)
