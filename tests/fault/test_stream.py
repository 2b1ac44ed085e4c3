"""The change stream when the wire is cut at any byte, the other side falls silent, or the disk is full."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from outlast.core.errors import BugError, OutlastError, TransientError
from outlast.sources.postgres import copy_stream
from outlast.sources.postgres.transaction_spool import TransactionSpool
from outlast.sources.postgres.transactions import Transaction
from tests.integration.postgres.conftest import run
from tests.streams import Follower, followed, table


class Line:
    """A proxy before a Unix socket that lets so many bytes of the server's through, then hangs up. None: all."""

    def __init__(self, server: str, path: str) -> None:
        self.budget: int | None = None
        self._server = server
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(client, self.budget), daemon=True).start()

    def _connect(self, client: socket.socket, budget: int | None) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._server)
            asking = threading.Thread(target=self._pass, args=(client, server, None), daemon=True)
            asking.start()
            self._pass(server, client, budget)
            asking.join()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, budget: int | None) -> None:
        with contextlib.suppress(OSError):
            while budget is None or budget > 0:
                data = source.recv(65536 if budget is None else min(budget, 65536))
                if not data:
                    break
                if budget is not None:
                    budget -= len(data)
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@contextmanager
def line_to(url: str, folder: Path) -> Iterator[tuple[Line, str]]:
    parameters = conninfo_to_dict(url)
    name = f".s.PGSQL.{parameters['port']}"
    line = Line(f"{parameters['host']}/{name}", str(folder / name))
    try:
        yield line, make_conninfo(url, host=str(folder))
    finally:
        line.close()


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "libpq"])
def test_a_wire_cut_at_any_byte_loses_nothing_and_doubles_nothing(
    database: str, tmp_path: Path, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of a message, of a block of a stream, of the beginning: each time it goes on at our position."""
    monkeypatch.setattr(copy_stream, "is_plain", lambda _: plain)
    run(database, "CREATE TABLE t (id int PRIMARY KEY, x text)")
    dice = random.Random(7)
    with followed(database, "t") as direct, line_to(database, tmp_path) as (line, url):
        direct.stream.close()
        for number in range(60):
            rows = 800 if number % 10 == 0 else 5
            start = number * 1000
            run(
                database,
                f"BEGIN; INSERT INTO t SELECT n, repeat('x', 80) FROM generate_series({start}, {start} + {rows}) AS n;"
                f" SAVEPOINT a; DELETE FROM t; ROLLBACK TO a; UPDATE t SET x = '{number}' WHERE id = {start}; COMMIT",
            )
        commits: list[int] = []
        follower = Follower(database, direct.slot, direct.publications)
        cuts = 0
        with follower:
            for _ in range(25):
                line.budget = dice.choice([dice.randrange(2000, 20_000), dice.randrange(20_000, 200_000)])
                try:
                    follower.url = url
                    follower.reconnect(follower.position)
                    while True:
                        delivered = follower.assembler.feed(follower.stream.receive(0.2))
                        transactions = [one for one in delivered if isinstance(one, Transaction)]
                        commits += [follower.read(one).commit.value for one in transactions]
                        follower.stream.confirm(follower.position)
                except TransientError:
                    cuts += 1
            line.budget = None
            follower.reconnect(follower.position)
            commits += [one.commit.value for one in follower.catch_up()]
            assert cuts == 25
            assert len(commits) == len(set(commits)) == 60
            assert follower.rows("t") == table(database, "t")


def test_a_server_that_falls_silent_is_given_up(database: str) -> None:
    """It neither sends nor hangs up (its process is stopped): a passing fault, after a bounded time."""
    run(database, "CREATE TABLE t (id int PRIMARY KEY)")
    with followed(database, "t") as follower:
        follower.catch_up()
        with psycopg.connect(database) as connection:
            row = connection.execute(
                "SELECT active_pid FROM pg_replication_slots WHERE slot_name = %s", [follower.slot]
            ).fetchone()
        assert row is not None
        os.kill(row[0], signal.SIGSTOP)
        try:
            follower.stream._silence_s = 0.5
            follower.stream._status_interval_s = 0.1
            with pytest.raises(TransientError, match="nothing was heard"):
                follower.live()
        finally:
            os.kill(row[0], signal.SIGCONT)


def test_a_full_disk_is_told_and_nothing_is_confirmed(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The large transaction comes again, whole, when there is room."""
    run(database, "CREATE TABLE t (id int PRIMARY KEY, x text)")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with followed(database, "t") as follower:
        run(database, "INSERT INTO t SELECT n, repeat('x', 500) FROM generate_series(1, 12000) AS n")
        with monkeypatch.context() as patch:
            patch.setattr(TransactionSpool, "_write", full)
            with pytest.raises(OutlastError, match="No space left") as caught:
                follower.catch_up()
        assert caught.value.code == "disk-full"
        with pytest.raises(BugError, match="restart"):
            follower.assembler.feed([])
        follower.reconnect(follower.position)
        follower.catch_up()
        assert follower.rows("t") == table(database, "t")
