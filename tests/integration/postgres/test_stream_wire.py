"""Both ways of reading the stream's bytes, plain and through libpq, with TLS; and how much memory it all takes."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from outlast.core.errors import TransientError
from outlast.sources.postgres import copy_stream
from outlast.sources.postgres.copy_stream import LibpqCopy, PlainCopy
from tests.conftest import ROOT
from tests.integration.postgres.conftest import run
from tests.servers import DEBIAN_BINARIES, Server, running
from tests.streams import followed, make_slot, publish, remove_slot, table

WORK = (
    "INSERT INTO t SELECT n, repeat('x', 90) FROM generate_series(1, 5000) AS n",
    "UPDATE t SET x = repeat('y', 200000) WHERE id = 7",
    "BEGIN; DELETE FROM t WHERE id > 100; SAVEPOINT a; DELETE FROM t; ROLLBACK TO a; COMMIT",
    "UPDATE t SET id = -id WHERE id < 50",
)
"""Small messages by the thousand, and one that takes many reads."""


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "libpq"])
def test_either_way_tells_the_same(any_database: str, plain: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """And each tells how it ended."""
    run(any_database, "CREATE TABLE t (id int PRIMARY KEY, x text)")
    monkeypatch.setattr(copy_stream, "is_plain", lambda _: plain)
    with followed(any_database, "t") as follower:
        assert isinstance(follower.stream._copy, PlainCopy if plain else LibpqCopy)
        run(any_database, *WORK)
        follower.catch_up()
        follower.stream.confirm(follower.position)
        assert follower.rows("t") == table(any_database, "t")
        follower.reconnect(follower.position)
        run(any_database, "DELETE FROM t WHERE id < -10")
        follower.catch_up()
        assert follower.rows("t") == table(any_database, "t")
        remove_slot(any_database, follower.slot)
        with pytest.raises(TransientError) as caught:
            follower.catch_up()
        assert caught.value.code == "stream-cut"
        assert "administrator" in caught.value.message


@pytest.mark.system
def test_an_encrypted_connection_is_read_through_libpq() -> None:
    """Its bytes mean nothing to anybody else."""
    with running(DEBIAN_BINARIES, account="postgres") as server:
        _turn_tls_on(server)
        url = server.tcp_url() + "?sslmode=require"
        run(url, "CREATE TABLE t (id int PRIMARY KEY, x text)")
        with followed(url, "t") as follower:
            assert isinstance(follower.stream._copy, LibpqCopy)
            run(url, *WORK)
            follower.catch_up()
            assert follower.rows("t") == table(url, "t")


def _turn_tls_on(server: Server) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    owner = server.data.stat()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for path, data in (("server.key", private), ("server.crt", certificate.public_bytes(serialization.Encoding.PEM))):
        file = server.data / path
        file.write_bytes(data)
        file.chmod(0o600)
        os.chown(file, owner.st_uid, owner.st_gid)
    with server.connect() as connection:
        connection.execute("ALTER SYSTEM SET ssl = on")
        connection.execute("SELECT pg_reload_conf()")
    for _ in range(100):  # the server takes it up when it comes to it
        try:
            psycopg.connect(server.tcp_url() + "?sslmode=require").close()
        except psycopg.OperationalError:
            continue
        return


_FOLLOW = """
import sys
from pathlib import Path
from outlast.core.moment import Lsn
from outlast.sources.postgres.session import Target
from outlast.sources.postgres.stream import ChangeStream
from outlast.sources.postgres.transactions import Assembler
url, slot, publication, folder = sys.argv[1:]
def peak():
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
with ChangeStream(Target(url), slot, [publication], Lsn(0)) as stream, Assembler(Path(folder)) as assembler:
    before = peak()
    rows = 0
    while not rows:
        for one in assembler.feed(stream.receive(60)):
            rows = sum(len(changes) for _, changes in one.blocks())
print(rows, before, peak())
"""


def _memory(url: str, rows: int, folder: Path) -> tuple[int, int]:
    """What following a transaction of so many rows takes, in MB: in all, and beyond what the program takes anyway."""
    run(url, "CREATE TABLE t (id int PRIMARY KEY, x text)")
    publication, slot = publish(url, "t"), make_slot(url)
    run(url, f"INSERT INTO t SELECT n, repeat('x', 100) FROM generate_series(1, {rows}) AS n")
    done = subprocess.run(
        [sys.executable, "-c", _FOLLOW, url, slot, publication, str(folder)],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    seen, before, peak = map(int, done.stdout.split())
    assert seen == rows
    return peak // 1024, (peak - before) // 1024


def test_a_large_transaction_takes_little_memory(any_database: str, tmp_path: Path) -> None:
    """150,000 rows would be 60 MB as Python objects; what does not fit a few megabytes waits in the spool."""
    peak, grown = _memory(any_database, 150_000, tmp_path)
    assert peak < 60
    assert grown < 20
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_transaction_of_a_million_rows_takes_no_more(any_database: str, tmp_path: Path) -> None:
    """The same bound, whatever the size."""
    peak, grown = _memory(any_database, 1_000_000, tmp_path)
    assert peak < 60
    assert grown < 20
